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

    /// Sets what the hub has: our report of this id at this sequence, or nothing at all. What comes after is
    /// sent again. Answers whether the report is ours.
    pub(crate) async fn hub_has(&self, last: Option<(&str, u64)>) -> Result<bool, StoreError> {
        let doing = "comparing reports with the hub";
        let mut tx = self.begin().await?;
        let (row, sequence) = match last {
            None => (0, 0),
            Some((event, sequence)) => {
                let row: Option<i64> = sqlx::query_scalar("SELECT id FROM outbox WHERE event = ?")
                    .bind(event)
                    .fetch_optional(&mut *tx)
                    .await
                    .map_err(failed(doing))?;
                let Some(row) = row else { return Ok(false) };
                (row, signed(sequence))
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
        sqlx::query("UPDATE identity SET reported = ?")
            .bind(sequence)
            .execute(&mut *tx)
            .await
            .map_err(failed(doing))?;
        tx.commit().await.map_err(failed(doing))?;
        Ok(true)
    }
}
