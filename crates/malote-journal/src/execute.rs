//! Load, fold, decide, append; again when somebody else was quicker.

use malote_domain::{Ctx, Decider, Meta, Rejection};

use crate::journal::{AppendError, Appended, Expected, Journal, LoadError};
use crate::wire::{DecodeError, Wire};

/// How often a command is decided anew after a conflict.
pub const ATTEMPTS_MAX: usize = 16;

/// What a command came to.
#[derive(Debug)]
pub struct Executed<D: Decider> {
    /// The events it made, now or in an earlier attempt; empty when there was nothing to add.
    pub events: Vec<D::Event>,
    /// The entity as it is now.
    pub state: D::State,
    /// Sequence of the entity's last event.
    pub last: u64,
}

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError<R: Rejection> {
    /// The business says no.
    #[error(transparent)]
    Rejected(R),
    /// Others were quicker, again and again.
    #[error("too many others are changing the same thing; try again")]
    Contended,
    /// The history cannot be read now.
    #[error("the history could not be read")]
    Load(#[from] LoadError),
    /// The events may or may not be in the journal; asking again with the same command id is safe.
    #[error("the events could not be written")]
    Append(#[source] AppendError),
    /// The history holds an event that this version does not know.
    #[error("the history of '{subject}' holds an event that this version cannot read; upgrade the hub")]
    Unreadable {
        /// Where.
        subject: String,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// Runs a command against an entity. The same command id may be run again at any time: it comes to the same.
///
/// # Errors
/// The decider's refusal, or a failure of the journal.
pub async fn execute<D: Wire, J: Journal>(
    journal: &J,
    id: &D::Id,
    command: D::Command,
    ctx: &Ctx,
) -> Result<Executed<D>, ExecuteError<D::Rejection>> {
    let filter = D::filter(id);
    for _ in 0..ATTEMPTS_MAX {
        let (history, last) = history::<D, J>(journal, id).await?;
        let mut state = fold::<D>(&history);
        let events = D::decide(&state, command.clone(), ctx).map_err(ExecuteError::Rejected)?;
        let earlier = history.iter().position(|(_, meta)| meta.command == ctx.command);
        if events.is_empty() {
            return Ok(Executed { events: made_by::<D>(&history, ctx), state, last: last.sequence() });
        }
        if let Some(first) = earlier {
            // Others have built on what this command did, so that it looks undone: its events must not come twice.
            if !decided_the_same::<D>(&history, first, command, ctx) {
                let reason = "its command id was used for another command; use a new one".to_owned();
                return Err(ExecuteError::Append(AppendError::Refused { subject: filter, reason }));
            }
            return Ok(Executed { events: made_by::<D>(&history, ctx), state, last: last.sequence() });
        }
        let metas: Vec<Meta> = (0..events.len()).map(|index| ctx.meta(index)).collect();
        for (event, meta) in events.iter().zip(&metas) {
            D::evolve(&mut state, event, meta);
        }
        let entries: Vec<_> = events.iter().zip(&metas).map(|(event, meta)| D::encode(event, meta)).collect();
        let place = crate::journal::Place {
            stream: D::STREAM,
            subject: D::subject(id, &state, &events),
            filter: filter.clone(),
        };
        match journal.append(&place, last, &entries).await {
            Ok(Appended::Created { last }) => return Ok(Executed { events, state, last }),
            // What exists may have been decided by another run of this command on a later history than ours: it is
            // read again, as after a conflict.
            Ok(Appended::Existed { .. }) | Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(ExecuteError::Append(error)),
        }
    }
    Err(ExecuteError::Contended)
}

/// An entity as its history tells it, and where that history ends.
///
/// # Errors
/// When the history cannot be read.
pub async fn load<D: Wire, J: Journal>(
    journal: &J,
    id: &D::Id,
) -> Result<(D::State, Expected), ExecuteError<D::Rejection>> {
    let (history, last) = history::<D, J>(journal, id).await?;
    Ok((fold::<D>(&history), last))
}

type History<D> = Vec<(<D as Decider>::Event, Meta)>;

async fn history<D: Wire, J: Journal>(
    journal: &J,
    id: &D::Id,
) -> Result<(History<D>, Expected), ExecuteError<D::Rejection>> {
    let mut history = Vec::new();
    let mut last = Expected::Empty;
    for stored in journal.load(D::STREAM, &D::filter(id)).await? {
        let read = D::decode(&stored)
            .map_err(|source| ExecuteError::Unreadable { subject: stored.subject.clone(), source })?;
        history.push(read);
        last = Expected::At(stored.sequence);
    }
    Ok((history, last))
}

fn fold<D: Decider>(history: &[(D::Event, Meta)]) -> D::State {
    let mut state = D::State::default();
    for (event, meta) in history {
        D::evolve(&mut state, event, meta);
    }
    state
}

fn made_by<D: Decider>(history: &[(D::Event, Meta)], ctx: &Ctx) -> Vec<D::Event> {
    history.iter().filter(|(_, meta)| meta.command == ctx.command).map(|(event, _)| event.clone()).collect()
}

/// Whether the command, asked where its id first occurs in the history, makes the events that are there.
fn decided_the_same<D: Wire>(
    history: &[(D::Event, Meta)],
    first: usize,
    command: D::Command,
    ctx: &Ctx,
) -> bool {
    let there: Vec<_> = history.iter().filter(|(_, meta)| meta.command == ctx.command).collect();
    D::decide(&fold::<D>(&history[..first]), command, ctx).is_ok_and(|again| {
        again.len() == there.len()
            && again.iter().zip(there).all(|(again, (event, meta))| {
                D::encode(again, meta).payload == D::encode(event, meta).payload
            })
    })
}
