//! Reports to the hub: made in the transaction that they tell of, sent later, in order.

use malote_domain::pdvs::Event;
use malote_domain::{Actor, CommandId, Ctx, EventId};
use malote_journal::Entry;
use malote_journal::wire::encode_report;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{Store, StoreError, failed, now, signed, unsigned};

/// Reports that the hub has are kept this far back, to be sent again to a hub that lost them.
const SENT_KEPT: i64 = 10_000;
/// The message types that a till reports with; an [`Entry`] names its own for as long as the program runs.
const MESSAGE_TYPES: [&str; 3] =
    ["malote.pdvs.v1.LotApplied", "malote.pdvs.v1.LotSuperseded", "malote.pdvs.v1.LotFailed"];

/// Reports that wait, oldest first.
#[derive(Debug)]
pub(crate) struct Unsent {
    /// Row of the last of them.
    pub(crate) last_row: i64,
    /// The reports.
    pub(crate) entries: Vec<Entry>,
}

/// Whose the last event is that the hub has of this till.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HubHas {
    /// Ours, or there is none.
    Ours,
    /// Of the directory before this one, which has never reported: the till was set up anew.
    Predecessors,
    /// Somebody's who reports under our name now.
    Strangers,
}

/// Writes a report. Its ids are made here, once: whenever it is sent, it is the same event.
pub(super) async fn report(
    conn: &mut SqliteConnection,
    store: &Store,
    event: &Event,
    cause: (EventId, CommandId),
) -> Result<(), StoreError> {
    let address = store.address();
    let ctx = Ctx {
        now: now(),
        actor: Actor::new(&format!("pdv {}/{}", address.store, address.pdv)),
        command: CommandId::new(Uuid::now_v7()),
        causation: Some(cause.0),
        correlation: cause.1,
    };
    let entry = encode_report(event, &ctx.meta(0));
    sqlx::query("INSERT INTO outbox (event, message_type, payload) VALUES (?, ?, ?)")
        .bind(entry.id.to_string())
        .bind(entry.message_type)
        .bind(entry.payload.as_ref())
        .execute(conn)
        .await
        .map_err(failed("writing a report"))?;
    Ok(())
}

impl Store {
    /// The oldest reports that wait, at most so many, and the sequence after which they belong.
    pub(crate) async fn unsent(&self, limit: u32) -> Result<(u64, Unsent), StoreError> {
        let reported: i64 = sqlx::query_scalar("SELECT reported FROM identity")
            .fetch_one(&self.read)
            .await
            .map_err(failed("reading the reports"))?;
        let rows: Vec<(i64, String, String, Vec<u8>)> = sqlx::query_as(
            "SELECT id, event, message_type, payload FROM outbox WHERE sent IS NULL ORDER BY id LIMIT ?",
        )
        .bind(limit)
        .fetch_all(&self.read)
        .await
        .map_err(failed("reading the reports"))?;
        let mut unsent = Unsent { last_row: 0, entries: Vec::with_capacity(rows.len()) };
        for (id, event, message_type, payload) in rows {
            let value = |_| StoreError::Value { what: "report" };
            let known = MESSAGE_TYPES.iter().find(|known| **known == message_type);
            unsent.last_row = id;
            unsent.entries.push(Entry {
                id: EventId::parse(&event).map_err(value)?,
                message_type: known.ok_or(StoreError::Value { what: "report" })?,
                payload: payload.into(),
            });
        }
        Ok((unsigned(reported, "report")?, unsent))
    }

    /// The hub has everything up to this row; the last one is at this sequence.
    pub(crate) async fn sent(&self, last_row: i64, sequence: u64) -> Result<(), StoreError> {
        let doing = "marking reports as sent";
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE outbox SET sent = ? WHERE sent IS NULL AND id <= ?")
            .bind(signed(sequence))
            .bind(last_row)
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        sqlx::query("UPDATE identity SET reported = ?")
            .bind(signed(sequence))
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        sqlx::query("DELETE FROM outbox WHERE sent IS NOT NULL AND id <= ?")
            .bind(last_row - SENT_KEPT)
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))
    }

    /// Takes down what the hub has last of this till: an event of this id at this sequence, or nothing at all. What
    /// of ours comes after it is sent again.
    pub(crate) async fn hub_has(&self, last: Option<(&str, u64)>) -> Result<HubHas, StoreError> {
        let doing = "comparing reports with the hub";
        let mut tx = self.begin().await?;
        let (row, sequence, has) = match last {
            None => (0, 0, HubHas::Ours),
            Some((event, sequence)) => {
                let row: Option<i64> = sqlx::query_scalar("SELECT id FROM outbox WHERE event = ?")
                    .bind(event)
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(failed(doing))?;
                let reporting: bool = sqlx::query_scalar("SELECT reporting FROM identity")
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(failed(doing))?;
                match row {
                    Some(row) => (row, signed(sequence), HubHas::Ours),
                    None if !reporting => (0, signed(sequence), HubHas::Predecessors),
                    None => return Ok(HubHas::Strangers),
                }
            }
        };
        sqlx::query("UPDATE outbox SET sent = ? WHERE id <= ? AND sent IS NULL")
            .bind(sequence)
            .bind(row)
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        sqlx::query("UPDATE outbox SET sent = NULL WHERE id > ? AND sent IS NOT NULL")
            .bind(row)
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        sqlx::query("UPDATE identity SET reported = ?, reporting = 1")
            .bind(sequence)
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
        Ok(has)
    }
}
