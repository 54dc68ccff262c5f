//! Signs of life, and since when the broker is there or gone.

use std::time::Duration;

use malote_journal::subjects;
use malote_journal::wire::{Beat, encode_beat};
use tokio::time::Instant;

use crate::shared::{AGENT, Shared, chain};
use crate::store::{StoreError, now};

/// A beat at least this often while online.
const BEAT: Duration = Duration::from_secs(5);
/// And at most this often, while a lot is on its way.
const BEAT_GAP: Duration = Duration::from_millis(500);
/// How often the connection is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Beats until dropped.
pub(crate) async fn run(shared: &Shared) {
    let mut activity = shared.activity.subscribe();
    let mut connects = shared.connection().connects();
    let mut last: Option<Instant> = None;
    loop {
        let online = shared.connection().is_online();
        shared.activity.send_if_modified(|activity| {
            let changed = activity.online != online;
            if changed {
                (activity.online, activity.since) = (online, now());
                activity.at_head &= online;
                tracing::info!(online, "the broker is {}", if online { "there" } else { "gone" });
            }
            changed
        });
        let news = activity.has_changed().unwrap_or(false);
        if online && (news || last.is_none_or(|last| last.elapsed() >= BEAT)) {
            activity.mark_unchanged();
            last = Some(Instant::now());
            if let Err(error) = beat(shared).await {
                tracing::warn!(error = chain(&error), "no sign of life");
            }
            tokio::time::sleep(BEAT_GAP).await;
        }
        tokio::select! {
            Ok(()) = activity.changed(), if online => activity.mark_changed(),
            Ok(()) = connects.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn beat(shared: &Shared) -> Result<(), StoreError> {
    let notice = shared.store.position(&shared.stream()).await?;
    let download = shared.activity.borrow().download;
    let beat = Beat { notice, at: now(), download, version: AGENT.to_owned() };
    let subject = subjects::beat(shared.address());
    if let Err(error) = shared.connection().client().publish(subject, encode_beat(&beat)).await {
        tracing::debug!(%error, "a sign of life was not sent");
    }
    Ok(())
}
