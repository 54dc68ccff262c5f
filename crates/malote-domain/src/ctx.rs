//! What a decision is told from outside, and what is recorded with each event.

use crate::ids::{Actor, CommandId, EventId};
use crate::time::Timestamp;

/// The circumstances of a command: the only way the clock and ids reach a decision.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// The moment of the decision.
    pub now: Timestamp,
    /// Who asks.
    pub actor: Actor,
    /// The command's id, which makes a repeated command recognisable.
    pub command: CommandId,
    /// The event that caused this command, if one did.
    pub causation: Option<EventId>,
    /// What ties together everything that came of one request; a command of its own if nothing came before.
    pub correlation: CommandId,
}

impl Ctx {
    /// A command that nothing before it caused.
    pub const fn new(now: Timestamp, actor: Actor, command: CommandId) -> Self {
        Self { now, actor, command, causation: None, correlation: command }
    }

    /// A command that follows from a recorded event.
    pub const fn caused_by(now: Timestamp, actor: Actor, command: CommandId, cause: &Meta) -> Self {
        Self { now, actor, command, causation: Some(cause.id), correlation: cause.correlation }
    }

    /// What is recorded with this command's event number `index`.
    pub fn meta(&self, index: usize) -> Meta {
        Meta {
            id: self.command.event(index),
            occurred_at: self.now,
            actor: self.actor.clone(),
            command: self.command,
            causation: self.causation,
            correlation: self.correlation,
        }
    }
}

/// What is recorded with every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The event's id.
    pub id: EventId,
    /// When it was decided.
    pub occurred_at: Timestamp,
    /// Who asked.
    pub actor: Actor,
    /// The command that decided it.
    pub command: CommandId,
    /// The event that caused that command, if one did.
    pub causation: Option<EventId>,
    /// What ties together everything that came of one request.
    pub correlation: CommandId,
}
