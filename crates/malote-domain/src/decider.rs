//! The shape of every rule book: state in, events out.

use crate::ctx::{Ctx, Meta};

/// Decides and replays. Static and synchronous on purpose: the same inputs give the same events on every machine.
pub trait Decider {
    /// Names one entity.
    type Id: Clone + Send + Sync;
    /// What may be asked.
    type Command: Clone + Send + Sync;
    /// What may have happened.
    type Event: Clone + Send + Sync;
    /// Why not.
    type Rejection: Rejection;
    /// What decisions need to remember.
    type State: Default + Send + Sync;

    /// Decides what a command makes happen; an empty list says that it already has.
    ///
    /// # Errors
    /// The business's "no".
    fn decide(
        state: &Self::State,
        command: Self::Command,
        ctx: &Ctx,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Takes a recorded fact in. Never fails: a fact is a fact.
    fn evolve(state: &mut Self::State, event: &Self::Event, meta: &Meta);
}

/// A refusal with a code for machines; its `Display` is for people and says what to do.
pub trait Rejection: std::error::Error + Send + Sync + 'static {
    /// A stable code such as `lots.closed`.
    fn code(&self) -> &'static str;

    /// Whether the refusal says that the thing does not exist.
    fn is_unknown(&self) -> bool {
        false
    }
}
