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
        let (mut state, last) = load::<D, J>(journal, id).await?;
        let events = D::decide(&state, command.clone(), ctx).map_err(ExecuteError::Rejected)?;
        if events.is_empty() {
            return Ok(Executed { events, state, last: last.sequence() });
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
            Ok(Appended::Created { last } | Appended::Existed { last }) => {
                return Ok(Executed { events, state, last });
            }
            Err(AppendError::Conflict { .. }) => {}
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
    let mut state = D::State::default();
    let mut last = Expected::Empty;
    for stored in journal.load(D::STREAM, &D::filter(id)).await? {
        let (event, meta) = D::decode(&stored)
            .map_err(|source| ExecuteError::Unreadable { subject: stored.subject.clone(), source })?;
        D::evolve(&mut state, &event, &meta);
        last = Expected::At(stored.sequence);
    }
    Ok((state, last))
}
