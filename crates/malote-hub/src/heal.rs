//! Going on behind a broker that has lost the tail of LOTS.
//!
//! A record's version is the position of its release, and tills keep what has the greater version. If positions were
//! handed out again, tills that still have the lost releases would take the new ones for older and keep the wrong
//! price, silently. So the lost positions are passed over: filled with lots that are aborted as soon as they are open,
//! which say in `malote lot ls` what happened.

use std::collections::BTreeSet;

use malote_domain::lots::{AbortReason, Event, Lot, Mode, Terms};
use malote_domain::{Actor, Ctx, Kind, Scope};
use malote_journal::journal::{AppendError, ENTRIES_MAX};
use malote_journal::wire::Wire;
use malote_journal::{Entry, Expected, JetStream, Journal, Place, subjects};

use crate::clock;

/// Most positions that are passed over: a minute's work. Beyond, it is not the broker of this hub.
const LOST_MAX: u64 = 5_000_000;

/// Why the lost positions cannot be passed over.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// So many that it must be another broker.
    #[error(
        "{lost} positions of LOTS are missing, and at most {LOST_MAX} are passed over: if this really is the broker to go on with, create its stream LOTS with first_seq behind the last one seen"
    )]
    TooMany {
        /// How many are missing.
        lost: u64,
    },
    /// The journal does not take them.
    #[error("the lost positions of LOTS could not be passed over")]
    Append(#[from] AppendError),
}

/// Fills so many positions of LOTS.
pub(crate) async fn pass_over(journal: &JetStream, lost: u64) -> Result<(), HealError> {
    if lost > LOST_MAX {
        return Err(HealError::TooMany { lost });
    }
    let batch = ENTRIES_MAX as u64;
    let mut left = lost;
    while left > 0 {
        let entries = fillers(left.clamp(2, batch), lost);
        let lot = entries.lot;
        let place = Place {
            stream: subjects::LOTS,
            subject: subjects::lot(&Scope::All, lot),
            filter: subjects::lot_any_scope(lot),
        };
        journal.append(&place, Expected::Empty, &entries.events).await?;
        left = left.saturating_sub(batch);
    }
    Ok(())
}

struct Fillers {
    lot: malote_domain::LotId,
    events: Vec<Entry>,
}

/// A lot that is opened and aborted, again and again, in so many events.
fn fillers(count: u64, lost: u64) -> Fillers {
    let command = clock::command();
    let ctx = Ctx::new(clock::now(), Actor::new("hub --heal"), command);
    let opened = Event::Opened(Terms {
        scope: Scope::All,
        kinds: Kind::parse("lost").into_iter().collect::<BTreeSet<_>>(),
        mode: Mode::Delta,
        strict: false,
        lease_seconds: 5,
        activate_at: None,
        as_of: None,
    });
    let reason = format!(
        "the broker lost {lost} positions of LOTS; they are passed over, their lots must be sent again"
    );
    let aborted = Event::Aborted(AbortReason::Owner(reason));
    let events = std::iter::once(&opened)
        .chain(std::iter::repeat(&aborted))
        .zip(0..usize::try_from(count).unwrap_or(ENTRIES_MAX))
        .map(|(event, index)| Lot::encode(event, &ctx.meta(index)))
        .collect();
    Fillers { lot: command.lot(), events }
}
