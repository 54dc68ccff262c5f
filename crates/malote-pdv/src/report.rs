//! Sending reports to the hub, in order and once, however often the connection breaks.
//!
//! The till is the only writer of its subject, so the hub's last event of it says what the hub has: after each
//! connect, and on any doubt, it is looked up among our own. A hub that lost some gets them again. An event that is
//! not ours means that another till uses this one's name; only a directory that has never reported takes it for its
//! predecessor's and goes on after it, so that a till can be set up anew.

use std::time::Duration;

use malote_journal::{AppendError, Expected, Journal as _, LoadError, Place, subjects};

use crate::shared::{Shared, chain};
use crate::store::{HubHas, StoreError};

/// Most reports in one batch.
const BATCH: u32 = 100;
/// How long to wait when there is nothing to send, or sending failed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(
        "another till reports as PDV {pdv} of store {store}; give each till a name of its own, and this one a new directory"
    )]
    IdentityConflict { store: String, pdv: String },
}

/// Sends reports until dropped.
pub(crate) async fn run(shared: &Shared) {
    let mut connects = shared.connection().connects();
    let mut compared = false;
    loop {
        let mut look_again = LOOK_AGAIN;
        if shared.connection().is_online() {
            connects.mark_unchanged();
            match send(shared, &mut compared).await {
                Ok(()) => conflict(shared, false),
                Err(error) => {
                    compared = false;
                    conflict(shared, matches!(error, ReportError::IdentityConflict { .. }));
                    look_again = Duration::from_secs(5);
                    tracing::warn!(error = chain(&error), "reports wait");
                }
            }
        }
        tokio::select! {
            () = shared.reports.notified() => {}
            changed = connects.changed() => {
                compared = false;
                if changed.is_err() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
            () = tokio::time::sleep(look_again) => {}
        }
    }
}

fn conflict(shared: &Shared, conflict: bool) {
    shared.activity.send_if_modified(|activity| {
        let changed = activity.identity_conflict != conflict;
        activity.identity_conflict = conflict;
        changed
    });
}

async fn send(shared: &Shared, compared: &mut bool) -> Result<(), ReportError> {
    let subject = subjects::till(shared.address());
    let place = Place { stream: subjects::PDVS, filter: subject.clone(), subject };
    loop {
        let (reported, unsent) = shared.store.unsent(BATCH).await?;
        if !*compared {
            compare(shared, &place, reported).await?;
            *compared = true;
            continue;
        }
        if unsent.entries.is_empty() {
            return Ok(());
        }
        let expected = if reported == 0 { Expected::Empty } else { Expected::At(reported) };
        match shared.journal.append(&place, expected, &unsent.entries).await {
            Ok(appended) => shared.store.sent(unsent.last_row, appended.last()).await?,
            Err(AppendError::Conflict { .. }) => *compared = false,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Finds out what the hub has of this till.
async fn compare(shared: &Shared, place: &Place, reported: u64) -> Result<(), ReportError> {
    let last = shared.journal.leader_last(place.stream, &place.subject).await?;
    let last = last.as_ref().map(|stored| (stored.id.as_deref().unwrap_or_default(), stored.sequence));
    let sequence = last.map_or(0, |(_, sequence)| sequence);
    match shared.store.hub_has(last).await? {
        HubHas::Ours if sequence < reported => {
            tracing::error!(
                had = reported,
                has = sequence,
                "the hub lost reports of this till; sending them again"
            );
        }
        HubHas::Ours => {}
        HubHas::Predecessors => {
            tracing::warn!(sequence, "this till reported before from another directory; going on after that");
        }
        HubHas::Strangers => {
            let address = shared.address();
            return Err(ReportError::IdentityConflict {
                store: address.store.to_string(),
                pdv: address.pdv.to_string(),
            });
        }
    }
    Ok(())
}
