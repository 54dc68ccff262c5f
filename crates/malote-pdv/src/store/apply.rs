//! Applying a lot: all of its chunks in one transaction, so that the till sees all of it or nothing.
//!
//! Of two records of the same scope, kind and key the one of greater version is the scope's. A delete stays as a
//! row without a body, so that an older upsert that comes later finds it. A full lot sets a floor: rows of its
//! scope and kinds below its version go, and such rows that come later are passed over. Therefore lots may be
//! applied in any order, and again, with the same result. A record that cannot be taken changes nothing itself;
//! in a full lot what was there before goes, as it would had the lot not named the record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use malote_domain::pdvs::{Event, NAMED_PROBLEMS_MAX, Quarantined};
use malote_domain::{Digest, Kind, RecordKey};
use malote_journal::chunk::{Chunk, ChunkError, RecordRef, Unpacked};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, AssertSqlSafe, SqliteConnection};

use super::check::{Check, shortened};
use super::outbox::report;
use super::{Store, StoreError, Work, failed, now, signed};

/// Rows that go into one statement: a statement costs a hop to SQLite's thread and back.
const ROWS: usize = 256;
/// Chunks whose records are sorted together before they are written.
const WINDOW: usize = 8;
/// Quarantined records of one lot that are kept; all are counted.
const QUARANTINE_KEPT: u64 = 1_000;
/// After a lot of this many records the log is folded back into the database and cut.
const CHECKPOINT_RECORDS: u64 = 10_000;
const APPLYING: &str = "applying a lot";

/// What a lot did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Records upserted.
    pub(crate) upserted: u64,
    /// Records deleted.
    pub(crate) deleted: u64,
    /// Records set aside.
    pub(crate) quarantined: u64,
}

/// Why a lot is not applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// The database failed; the lot may be fine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A chunk that cannot be used.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A chunk of something else.
    #[error("chunk {number} belongs to another lot or place")]
    Foreign {
        /// Which.
        number: u32,
    },
    /// A chunk is not there.
    #[error("chunk {number} of {chunks} is missing")]
    Missing {
        /// Which.
        number: u32,
        /// How many there are.
        chunks: u32,
    },
    /// Whole chunks, which together are not the lot.
    #[error("the chunks do not match the digest of the lot")]
    Digest,
}

/// Reads a chunk and checks that it is the one wanted.
pub(crate) fn chunk_of(work: &Work, number: u32, payload: Bytes) -> Result<Chunk, ApplyError> {
    let chunk = Chunk::decode(payload)?;
    if chunk.end || chunk.lot != work.lot || chunk.number != number {
        return Err(ApplyError::Foreign { number });
    }
    Ok(chunk)
}

impl Store {
    /// Applies a lot whose chunks are staged or held; held ones come first. Answers nothing when the lot is no
    /// longer open.
    pub(crate) async fn apply(
        &self,
        work: &Work,
        held: &BTreeMap<u32, Bytes>,
    ) -> Result<Option<Applied>, ApplyError> {
        let mut tx = self.begin().await?;
        let open: Option<bool> =
            sqlx::query_scalar("SELECT state IN ('waiting', 'failed') AND version = ? FROM lot WHERE id = ?")
                .bind(work.version)
                .bind(work.id)
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed(APPLYING))?;
        if open != Some(true) {
            return Ok(None);
        }
        forget_quarantine(&mut tx, work).await?;
        let mut lot = Applying { work, kinds: Vec::new(), applied: Applied::default(), problems: Vec::new() };
        let mut digests = Vec::new();
        let mut window = Vec::with_capacity(WINDOW);
        for number in 0..work.chunks {
            let payload = match held.get(&number) {
                Some(payload) => payload.clone(),
                None => staged(&mut tx, work, number).await?,
            };
            let chunk = chunk_of(work, number, payload)?;
            digests.push(chunk.digest);
            window.push(chunk.unpack()?);
            if window.len() == WINDOW || number + 1 == work.chunks {
                lot.take(&mut tx, &window).await?;
                window.clear();
            }
        }
        if Digest::of_list(&digests) != work.digest {
            return Err(ApplyError::Digest);
        }
        lot.finish(&mut tx).await?;
        let applied = lot.applied;
        lot.record(&mut tx, self).await?;
        tx.commit().await.map_err(failed(APPLYING))?;
        if applied.upserted + applied.deleted >= CHECKPOINT_RECORDS {
            self.checkpoint().await;
        }
        Ok(Some(applied))
    }

    /// Folds the log into the database and cuts it, so that a large lot does not leave a large log behind. When a
    /// reader is in the way the next commit tries again, so a failure is only worth a line.
    async fn checkpoint(&self) {
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.write).await {
            tracing::debug!(%error, "the log was not cut");
        }
    }
}

/// A lot on its way in.
struct Applying<'a> {
    work: &'a Work,
    kinds: Vec<Target>,
    applied: Applied,
    problems: Vec<Quarantined>,
}

/// Where the records of one kind go.
struct Target {
    kind: Kind,
    check: Check,
    /// A later full lot is there already: nothing of this kind counts.
    below_floor: bool,
    rows: Rows,
}

impl Applying<'_> {
    /// Takes the records of some chunks, in the order of their keys: neighbours in the table then meet the same page.
    async fn take(&mut self, conn: &mut SqliteConnection, chunks: &[Unpacked]) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(chunks.iter().map(Unpacked::len).sum());
        for record in chunks.iter().flat_map(Unpacked::iter) {
            let index = match self.kinds.iter().position(|target| target.kind == *record.kind) {
                Some(index) => index,
                None => self.open(conn, record.kind).await?,
            };
            match checked(record, self.kinds[index].check) {
                Ok(body) => {
                    match body {
                        Some(_) => self.applied.upserted += 1,
                        None => self.applied.deleted += 1,
                    }
                    rows.push((index, record.key, body));
                }
                Err(reason) => self.quarantine(conn, record, reason).await?,
            }
        }
        // Stable: of two records of one key the later one still comes last.
        rows.sort_by_key(|(index, key, _)| (*index, *key));
        for (index, key, body) in rows {
            let target = &mut self.kinds[index];
            if target.below_floor {
                continue;
            }
            target.rows.push(key, body)?;
            if target.rows.count == ROWS {
                target.rows.flush(conn).await?;
            }
        }
        Ok(())
    }

    async fn open(&mut self, conn: &mut SqliteConnection, kind: &Kind) -> Result<usize, StoreError> {
        let id = kind_id(conn, kind).await?;
        let floor: Option<i64> = sqlx::query_scalar("SELECT version FROM floor WHERE scope = ? AND kind = ?")
            .bind(self.work.scope_id)
            .bind(id)
            .fetch_optional(conn)
            .await
            .map_err(failed(APPLYING))?;
        self.kinds.push(Target {
            kind: kind.clone(),
            check: Check::of(kind.as_str()),
            below_floor: floor.is_some_and(|floor| floor > self.work.version),
            rows: Rows::new(id, self.work),
        });
        Ok(self.kinds.len() - 1)
    }

    async fn quarantine(
        &mut self,
        conn: &mut SqliteConnection,
        record: RecordRef<'_>,
        reason: String,
    ) -> Result<(), StoreError> {
        self.applied.quarantined += 1;
        let key = shortened(record.key);
        if self.applied.quarantined <= QUARANTINE_KEPT {
            sqlx::query("INSERT INTO quarantine (lot, kind, key, reason, body) VALUES (?, ?, ?, ?, ?)")
                .bind(self.work.id)
                .bind(record.kind.as_str())
                .bind(&key)
                .bind(&reason)
                .bind(record.body.map(|body| String::from_utf8_lossy(body).into_owned()))
                .execute(conn)
                .await
                .map_err(failed(APPLYING))?;
        }
        if self.problems.len() < NAMED_PROBLEMS_MAX {
            self.problems.push(Quarantined { kind: record.kind.clone(), key, reason });
        }
        Ok(())
    }

    /// Writes what is left, and for a full lot the floors.
    async fn finish(&mut self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        for target in &mut self.kinds {
            target.rows.flush(conn).await?;
        }
        if !self.work.full {
            return Ok(());
        }
        for kind in &self.work.kinds {
            let id = kind_id(conn, kind).await?;
            sqlx::query(
                "INSERT INTO floor (scope, kind, version, lot) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (scope, kind) DO UPDATE SET version = excluded.version, lot = excluded.lot \
                 WHERE excluded.version > floor.version",
            )
            .bind(self.work.scope_id)
            .bind(id)
            .bind(self.work.version)
            .bind(self.work.lot.to_string())
            .execute(&mut *conn)
            .await
            .map_err(failed(APPLYING))?;
            // What the lot named again has its version by now; what is left below it goes.
            sqlx::query("DELETE FROM record WHERE kind = ? AND scope = ? AND version < ?")
                .bind(id)
                .bind(self.work.scope_id)
                .bind(self.work.version)
                .execute(&mut *conn)
                .await
                .map_err(failed(APPLYING))?;
        }
        Ok(())
    }

    /// Writes down that the lot is done, with the report of it.
    async fn record(self, conn: &mut SqliteConnection, store: &Store) -> Result<(), StoreError> {
        let Self { work, applied, problems, .. } = self;
        let done_at = now();
        sqlx::query(
            "UPDATE lot SET state = 'applied', done_at = ?, attempts = attempts + 1, reason = NULL, \
                            upserted = ?, deleted = ?, quarantined = ? WHERE id = ?",
        )
        .bind(done_at.micros())
        .bind(signed(applied.upserted))
        .bind(signed(applied.deleted))
        .bind(signed(applied.quarantined))
        .bind(work.id)
        .execute(&mut *conn)
        .await
        .map_err(failed(APPLYING))?;
        sqlx::query("DELETE FROM chunk WHERE lot = ?")
            .bind(work.id)
            .execute(&mut *conn)
            .await
            .map_err(failed(APPLYING))?;
        let took = (done_at.micros() - work.seen_at.micros()) / 1000;
        let event = Event::LotApplied {
            lot: work.lot,
            notice: work.notice,
            upserted: applied.upserted,
            deleted: applied.deleted,
            quarantined: applied.quarantined,
            problems,
            took_ms: u64::try_from(took).unwrap_or(0),
        };
        report(conn, store, &event, work.cause).await
    }
}

/// A record's body, or why the record cannot be taken.
fn checked(record: RecordRef<'_>, check: Check) -> Result<Option<&str>, String> {
    if !RecordKey::is_valid(record.key) {
        return Err("the key is not 1 to 256 bytes of text without control characters".to_owned());
    }
    record.body.map(|body| check.body(body)).transpose()
}

/// Rows of one kind on their way into the table, many to a statement.
struct Rows {
    head: String,
    row: String,
    tail: String,
    full: Arc<str>,
    arguments: SqliteArguments,
    count: usize,
}

impl Rows {
    /// What is the same in all rows is written into the statement: numbers of our own, never text from outside.
    fn new(kind: i64, work: &Work) -> Self {
        let Work { id: lot, scope_id: scope, version, .. } = work;
        let head = "INSERT OR ROLLBACK INTO record (kind, key, scope, version, lot, body) VALUES ".to_owned();
        let row = format!("({kind},?,{scope},{version},{lot},?)");
        let tail = format!(
            " ON CONFLICT (kind, key, scope) DO UPDATE SET version = excluded.version, lot = excluded.lot, \
             body = excluded.body WHERE record.version <= {version}"
        );
        Self {
            full: statement(&head, &row, &tail, ROWS).into(),
            head,
            row,
            tail,
            arguments: SqliteArguments::default(),
            count: 0,
        }
    }

    fn push(&mut self, key: &str, body: Option<&str>) -> Result<(), StoreError> {
        let bound = self.arguments.add(key).and_then(|()| self.arguments.add(body));
        bound.map_err(|source| StoreError::Sql { doing: APPLYING, source: sqlx::Error::Encode(source) })?;
        self.count += 1;
        Ok(())
    }

    async fn flush(&mut self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        let arguments = std::mem::take(&mut self.arguments);
        let count = std::mem::take(&mut self.count);
        let query = match count {
            0 => return Ok(()),
            ROWS => sqlx::query_with(AssertSqlSafe(Arc::clone(&self.full)), arguments),
            _ => {
                let sql = statement(&self.head, &self.row, &self.tail, count);
                sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false)
            }
        };
        self.arguments.reserve(2 * ROWS, 0);
        query.execute(conn).await.map_err(failed(APPLYING))?;
        Ok(())
    }
}

fn statement(head: &str, row: &str, tail: &str, rows: usize) -> String {
    let mut sql = String::with_capacity(head.len() + rows * (row.len() + 1) + tail.len());
    sql.push_str(head);
    for index in 0..rows {
        if index > 0 {
            sql.push(',');
        }
        sql.push_str(row);
    }
    sql.push_str(tail);
    sql
}

async fn staged(conn: &mut SqliteConnection, work: &Work, number: u32) -> Result<Bytes, ApplyError> {
    let payload: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT payload FROM chunk WHERE lot = ? AND number = ?")
            .bind(work.id)
            .bind(number)
            .fetch_optional(conn)
            .await
            .map_err(failed("reading a staged chunk"))?;
    payload.map(Bytes::from).ok_or(ApplyError::Missing { number, chunks: work.chunks })
}

/// A lot that is applied again names its problems again.
async fn forget_quarantine(conn: &mut SqliteConnection, work: &Work) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM quarantine WHERE lot = ?")
        .bind(work.id)
        .execute(conn)
        .await
        .map_err(failed(APPLYING))?;
    Ok(())
}

async fn kind_id(conn: &mut SqliteConnection, kind: &Kind) -> Result<i64, StoreError> {
    sqlx::query("INSERT INTO kind (name) VALUES (?) ON CONFLICT (name) DO NOTHING")
        .bind(kind.as_str())
        .execute(&mut *conn)
        .await
        .map_err(failed(APPLYING))?;
    sqlx::query_scalar("SELECT id FROM kind WHERE name = ?")
        .bind(kind.as_str())
        .fetch_one(conn)
        .await
        .map_err(failed(APPLYING))
}
