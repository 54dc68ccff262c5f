//! Leases and activations: scheduled messages out, what they mean when they arrive.
//!
//! A timer only says "look now". Whether a lot is aborted or released is decided from the lot itself, so a timer
//! that is lost, late or doubled does no harm: open and half-released lots are looked at when the hub starts too.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use malote_domain::lots::{AbortReason, Command, Lot};
use malote_domain::{CommandId, LotId, Timestamp};
use malote_journal::journal::AppendError;
use malote_journal::{ExecuteError, JetStream, Page, Reader, Wake, execute, subjects};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock;

/// Name of the cursor.
const POLICY: &str = "timers";
/// How often to look without being woken.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Makes the broker send `fired` at an instant; a schedule made again replaces the one before.
async fn schedule(journal: &JetStream, subject: &str, fired: &str, at: Timestamp) -> Result<(), AppendError> {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Schedule", format!("@at {at}"));
    headers.insert("Nats-Schedule-Target", fired);
    journal.publish(subject, headers, Bytes::new()).await.map(|_| ())
}

/// Starts a lot's lease anew.
pub(crate) async fn schedule_lease(journal: &JetStream, lot: LotId, seconds: u32) -> Result<(), AppendError> {
    let at = clock::now().plus_seconds(i64::from(seconds));
    schedule(journal, &subjects::lease_timer(lot), &subjects::lease_fired(lot), at).await
}

/// Schedules the next look at a lot that waits for its hour.
pub(crate) async fn schedule_activation(
    journal: &JetStream,
    lot: LotId,
    at: Timestamp,
) -> Result<(), AppendError> {
    schedule(journal, &subjects::activation_timer(lot), &subjects::activation_fired(lot), at).await
}

#[derive(Deserialize)]
struct Purged {}

/// Takes a lease's schedule away. One that stays behind finds its lot closed and does nothing.
pub(crate) async fn cancel_lease(journal: &JetStream, lot: LotId) {
    let api = format!("$JS.API.STREAM.PURGE.{}", subjects::TIMERS);
    let body = serde_json::json!({ "filter": subjects::lease_timer(lot) }).to_string();
    if let Err(error) = journal.connection().ask::<Purged>(&api, body.into()).await {
        tracing::debug!(%lot, %error, "a lease's schedule stays behind");
    }
}

/// Acts on timers that have fired, until told to stop.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let reader = Reader::new(app.journal.clone(), subjects::TIMERS).filtered(subjects::TIMERS_FIRED);
    let Ok(mut wake) = Wake::on(app.journal.connection(), subjects::TIMERS_FIRED.to_owned()).await else {
        tracing::error!("timers cannot be listened to");
        return;
    };
    while !stop.is_cancelled() {
        if let Err(error) = step(&app, &reader).await {
            tracing::warn!(%error, "timers are not being read");
        }
        if let Ok(Some(cursor)) = app.db.policy_cursor(POLICY, subjects::TIMERS).await {
            wake.reached(cursor.sequence);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.wait(LOOK_EVERY) => {}
        }
    }
}

/// Reads and acts until there is nothing new.
async fn step(app: &App, reader: &Reader) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    loop {
        let cursor = app.db.policy_cursor(POLICY, subjects::TIMERS).await?;
        let messages = match reader.after(cursor, 500).await? {
            Page::Messages(messages) => messages,
            Page::Truncated { .. } => {
                // What a timer leads to is looked up in the lots: reading all of them again is harmless.
                tracing::warn!("the timers' stream lost its tail; all timers are read again");
                app.db.set_policy_cursor(POLICY, subjects::TIMERS, None).await?;
                reader.from_start(500).await?
            }
        };
        let Some(last) = messages.last().map(malote_journal::Stored::cursor) else {
            return Ok(());
        };
        for message in &messages {
            let tokens: Vec<&str> = message.subject.split('.').collect();
            let (what, lot) = match tokens.as_slice() {
                ["timers", "fired", what, lot] => (*what, LotId::parse(lot)),
                _ => continue,
            };
            match (what, lot) {
                ("lease", Ok(lot)) => lease_ran_out(app, lot, message.sequence).await?,
                ("activate", Ok(lot)) => super::distributor::advance(app, lot).await?,
                _ => tracing::warn!(subject = message.subject, "a timer of no known kind"),
            }
        }
        app.db.set_policy_cursor(POLICY, subjects::TIMERS, Some(last)).await?;
    }
}

/// A lot whose sender gave no sign for its whole lease is given up.
async fn lease_ran_out(
    app: &App,
    lot: LotId,
    sequence: u64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let command = CommandId::new(lot.uuid()).follow_up(&format!("lease {sequence}"));
    match execute::<Lot, _>(&app.journal, &lot, Command::Abort(AbortReason::LeaseExpired), &app.ctx(command))
        .await
    {
        Ok(done) => {
            if !done.events.is_empty() {
                tracing::info!(%lot, "lot aborted: its lease expired");
                app.metrics.leases_expired.inc();
            }
            app.sessions.leave(lot);
            Ok(())
        }
        // Closed, recalled or unknown: nothing to give up.
        Err(ExecuteError::Rejected(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
