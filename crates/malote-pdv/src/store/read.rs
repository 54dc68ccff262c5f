//! What there is to do, and what the till and its people ask.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::TryStreamExt;
use malote_domain::pdvs::Event;
use malote_domain::{CommandId, Digest, EventId, Kind, LotId, Scope, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{Sqlite, SqliteRow, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, FromRow, Row as _, Type};

use super::intake::{cause_ids, lot_id};
use super::outbox::report;
use super::{Store, StoreError, digest, failed, now, signed, unsigned};

/// A page of records ends after the record that brings it over this size.
const PAGE_BYTES: usize = 1024 * 1024;

/// A lot to be done.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Its row.
    pub(crate) id: i64,
    /// The lot.
    pub(crate) lot: LotId,
    /// Sequence of its notice.
    pub(crate) notice: u64,
    /// Its scope.
    pub(crate) scope: Scope,
    pub(super) scope_id: i64,
    pub(super) full: bool,
    pub(super) kinds: BTreeSet<Kind>,
    pub(super) version: i64,
    /// Its number of chunks.
    pub(crate) chunks: u32,
    /// Bytes of all chunks.
    pub(crate) bytes: u64,
    pub(super) digest: Digest,
    pub(super) seen_at: Timestamp,
    /// How often it was tried in vain.
    pub(crate) attempts: u32,
    pub(super) cause: (EventId, CommandId),
}

struct WorkRow {
    id: i64,
    lot: String,
    notice: i64,
    scope: String,
    scope_id: i64,
    full: bool,
    kinds: String,
    version: i64,
    chunks: i64,
    bytes: i64,
    digest: Vec<u8>,
    seen_at: i64,
    attempts: i64,
    cause: String,
    correlation: String,
}

/// A record as the till sees it.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// Its kind.
    pub(crate) kind: String,
    /// Its key.
    pub(crate) key: String,
    /// The scope that it came for.
    pub(crate) scope: String,
    /// The version of the lot that brought it.
    pub(crate) version: i64,
    /// That lot.
    pub(crate) lot: String,
    /// Its body as it was sent.
    pub(crate) body: Json,
}

/// JSON text that is passed on as it is.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Json(Box<RawValue>);

impl Json {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl Type<Sqlite> for Json {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }
}

impl<'r> Decode<'r, Sqlite> for Json {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(RawValue::from_string(<String as Decode<'r, Sqlite>>::decode(value)?)?))
    }
}

/// Reads a row's columns into the fields of the same names.
macro_rules! columns {
    ($row:ident { $($field:ident),+ $(,)? }) => {
        impl FromRow<'_, SqliteRow> for $row {
            fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
                Ok(Self { $($field: row.try_get(stringify!($field))?),+ })
            }
        }
    };
}

columns!(WorkRow {
    id,
    lot,
    notice,
    scope,
    scope_id,
    full,
    kinds,
    version,
    chunks,
    bytes,
    digest,
    seen_at,
    attempts,
    cause,
    correlation,
});
columns!(Record { kind, key, scope, version, lot, body });
columns!(LotRow {
    lot,
    notice,
    scope,
    full,
    version,
    state,
    chunks,
    chunks_here,
    records,
    upserted,
    deleted,
    quarantined,
    attempts,
    seen_at,
    done_at,
    next_try_at,
    reason,
    superseded_by,
});
columns!(Counts {
    waiting,
    failed,
    unsent,
    quarantined,
    unread,
    truncations,
    truncated_at,
    last_applied,
    last_applied_at,
});

/// A lot as the till knows it.
#[derive(Debug, Serialize)]
pub(crate) struct LotRow {
    /// The lot.
    pub(crate) lot: String,
    /// Sequence of its notice in the store's stream.
    pub(crate) notice: i64,
    /// Its scope.
    pub(crate) scope: String,
    /// Whether it replaces all of its kinds.
    pub(crate) full: bool,
    /// Its version.
    pub(crate) version: i64,
    /// `waiting`, `failed`, `applied` or `superseded`.
    pub(crate) state: String,
    /// Its number of chunks.
    pub(crate) chunks: i64,
    /// How many of them are here, while it is on its way.
    pub(crate) chunks_here: i64,
    /// Its number of records.
    pub(crate) records: i64,
    /// Records upserted.
    pub(crate) upserted: i64,
    /// Records deleted.
    pub(crate) deleted: i64,
    /// Records set aside.
    pub(crate) quarantined: i64,
    /// How often it was tried.
    pub(crate) attempts: i64,
    /// When its notice was seen.
    #[serde(serialize_with = "instant")]
    pub(crate) seen_at: i64,
    /// When it was done.
    #[serde(serialize_with = "maybe_instant")]
    pub(crate) done_at: Option<i64>,
    /// When it is tried next, once it has failed.
    #[serde(serialize_with = "maybe_instant")]
    pub(crate) next_try_at: Option<i64>,
    /// Why it failed.
    pub(crate) reason: Option<String>,
    /// The lot that replaces it.
    pub(crate) superseded_by: Option<String>,
}

/// An instant as people read it.
fn instant<S: serde::Serializer>(micros: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Timestamp::from_micros(*micros))
}

fn maybe_instant<S: serde::Serializer>(micros: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match micros {
        Some(micros) => instant(micros, serializer),
        None => serializer.serialize_none(),
    }
}

/// What the database holds, in numbers.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) waiting: i64,
    pub(crate) failed: i64,
    pub(crate) unsent: i64,
    pub(crate) quarantined: i64,
    pub(crate) unread: i64,
    pub(crate) truncations: i64,
    pub(crate) truncated_at: Option<i64>,
    pub(crate) last_applied: Option<String>,
    pub(crate) last_applied_at: Option<i64>,
}

impl Store {
    /// The oldest lot that can be done now; or when the next one can be tried.
    pub(crate) async fn next_work(&self) -> Result<Result<Work, Option<Timestamp>>, StoreError> {
        let doing = "looking for the next lot";
        let row: Option<WorkRow> = sqlx::query_as(
            "SELECT l.id, l.lot, l.notice, s.name AS scope, l.scope AS scope_id, l.full, l.kinds, l.version, \
                    l.chunks, l.bytes, l.digest, l.seen_at, l.attempts, l.cause, l.correlation \
               FROM lot l JOIN scope s ON s.id = l.scope \
              WHERE l.state IN ('waiting', 'failed') AND l.next_try_at <= ? ORDER BY l.notice LIMIT 1",
        )
        .bind(now().micros())
        .fetch_optional(&self.read)
        .await
        .map_err(failed(doing))?;
        if let Some(row) = row {
            return row.work().map(Ok);
        }
        let next: Option<i64> =
            sqlx::query_scalar("SELECT min(next_try_at) FROM lot WHERE state IN ('waiting', 'failed')")
                .fetch_one(&self.read)
                .await
                .map_err(failed(doing))?;
        Ok(Err(next.map(Timestamp::from_micros)))
    }

    /// Numbers of the chunks that are staged.
    pub(crate) async fn staged(&self, work: &Work) -> Result<BTreeSet<u32>, StoreError> {
        let rows: Vec<i64> = sqlx::query_scalar("SELECT number FROM chunk WHERE lot = ?")
            .bind(work.id)
            .fetch_all(&self.read)
            .await
            .map_err(failed("reading the staged chunks"))?;
        rows.into_iter().map(|number| unsigned(number, "chunk")).collect()
    }

    /// Stages chunks, as they came.
    pub(crate) async fn stage(&self, work: &Work, chunks: &[(u32, Bytes)]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (number, payload) in chunks {
            sqlx::query("INSERT INTO chunk (lot, number, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(work.id)
                .bind(number)
                .bind(payload.as_ref())
                .execute(&mut *tx)
                .await
                .map_err(failed("staging chunks"))?;
        }
        tx.commit().await.map_err(failed("staging chunks"))
    }

    /// Writes down, and reports, that a lot could not be applied. Its staged chunks go when they are at fault.
    pub(crate) async fn postpone(
        &self,
        work: &Work,
        reason: &str,
        next_try_at: Timestamp,
        drop_staged: bool,
    ) -> Result<(), StoreError> {
        let doing = "postponing a lot";
        let mut tx = self.begin().await?;
        let attempts: Option<i64> = sqlx::query_scalar(
            "UPDATE lot SET state = 'failed', attempts = attempts + 1, next_try_at = ?, reason = ? \
              WHERE id = ? AND state IN ('waiting', 'failed') RETURNING attempts",
        )
        .bind(next_try_at.micros())
        .bind(reason)
        .bind(work.id)
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed(doing))?;
        let Some(attempts) = attempts else { return Ok(()) };
        if drop_staged {
            sqlx::query("DELETE FROM chunk WHERE lot = ?")
                .bind(work.id)
                .execute(&mut *tx)
                .await
                .map_err(failed(doing))?;
        }
        let event = Event::LotFailed {
            lot: work.lot,
            notice: work.notice,
            reason: reason.to_owned(),
            attempt: unsigned(attempts, "count of attempts")?,
            next_try_at,
        };
        report(&mut tx, self, &event, work.cause).await?;
        tx.commit().await.map_err(failed(doing))
    }

    /// Up to where the store's notices are done: the cursor, or before the first lot that still waits. A lot that
    /// failed holds nothing up.
    pub(crate) async fn position(&self, stream: &str) -> Result<u64, StoreError> {
        let position: Option<i64> = sqlx::query_scalar(
            "SELECT coalesce((SELECT min(notice) - 1 FROM lot WHERE state = 'waiting'), \
                             (SELECT sequence FROM cursor WHERE stream = ?))",
        )
        .bind(stream)
        .fetch_one(&self.read)
        .await
        .map_err(failed("reading the position"))?;
        unsigned(position.unwrap_or(0), "cursor")
    }

    /// One record as the till sees it.
    pub(crate) async fn record(&self, kind: &str, key: &str) -> Result<Option<Record>, StoreError> {
        sqlx::query_as("SELECT * FROM catalogue WHERE kind = ? AND key = ?")
            .bind(kind)
            .bind(key)
            .fetch_optional(&self.read)
            .await
            .map_err(failed("reading a record"))
    }

    /// Records of a kind whose key begins with `prefix`, after the key `after`, in the order of their keys: at
    /// most `limit`, fewer when they are large. Answers whether there may be more.
    pub(crate) async fn records(
        &self,
        kind: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<Record>, bool), StoreError> {
        let mut rows = sqlx::query_as::<_, Record>(
            "SELECT * FROM catalogue WHERE kind = ?1 AND key > ?3 AND key >= ?2 AND key < ?2 || char(1114111) \
              ORDER BY key",
        )
        .bind(kind)
        .bind(prefix)
        .bind(after)
        .fetch(&self.read);
        let mut page: Vec<Record> = Vec::new();
        let mut bytes = 0;
        while let Some(record) = rows.try_next().await.map_err(failed("reading records"))? {
            if page.len() == limit || bytes > PAGE_BYTES {
                return Ok((page, true));
            }
            bytes += record.body.as_str().len();
            page.push(record);
        }
        Ok((page, false))
    }

    /// The newest lots.
    pub(crate) async fn lots(&self, limit: usize) -> Result<Vec<LotRow>, StoreError> {
        sqlx::query_as(
            "SELECT l.lot, l.notice, s.name AS scope, l.full, l.version, l.state, l.chunks, \
                    (SELECT count(*) FROM chunk c WHERE c.lot = l.id) AS chunks_here, l.records, l.upserted, \
                    l.deleted, l.quarantined, l.attempts, l.seen_at, l.done_at, \
                    iif(l.state = 'failed', l.next_try_at, NULL) AS next_try_at, l.reason, l.superseded_by \
               FROM lot l JOIN scope s ON s.id = l.scope ORDER BY l.notice DESC LIMIT ?",
        )
        .bind(signed(limit))
        .fetch_all(&self.read)
        .await
        .map_err(failed("reading the lots"))
    }

    /// What there is, in numbers.
    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        sqlx::query_as(
            "SELECT (SELECT count(*) FROM lot WHERE state = 'waiting') AS waiting, \
                    (SELECT count(*) FROM lot WHERE state = 'failed') AS failed, \
                    (SELECT count(*) FROM outbox WHERE sent IS NULL) AS unsent, \
                    (SELECT coalesce(sum(quarantined), 0) FROM lot) AS quarantined, \
                    (SELECT count(*) FROM unread) AS unread, \
                    identity.truncations, identity.truncated_at, \
                    last.lot AS last_applied, last.done_at AS last_applied_at \
               FROM identity LEFT JOIN lot last ON last.id = \
                    (SELECT id FROM lot WHERE state = 'applied' ORDER BY done_at DESC LIMIT 1)",
        )
        .fetch_one(&self.read)
        .await
        .map_err(failed("counting"))
    }
}

impl WorkRow {
    fn work(self) -> Result<Work, StoreError> {
        let value = |what| move |_| StoreError::Value { what };
        Ok(Work {
            id: self.id,
            lot: lot_id(&self.lot)?,
            notice: unsigned(self.notice, "notice")?,
            scope: Scope::parse(&self.scope).map_err(value("scope"))?,
            scope_id: self.scope_id,
            full: self.full,
            kinds: self
                .kinds
                .split_ascii_whitespace()
                .map(|kind| Kind::parse(kind).map_err(value("kind")))
                .collect::<Result<_, _>>()?,
            version: self.version,
            chunks: unsigned(self.chunks, "count of chunks")?,
            bytes: unsigned(self.bytes, "count of bytes")?,
            digest: digest(&self.digest, "digest")?,
            seen_at: Timestamp::from_micros(self.seen_at),
            attempts: unsigned(self.attempts, "count of attempts")?,
            cause: cause_ids(&self.cause, &self.correlation)?,
        })
    }
}
