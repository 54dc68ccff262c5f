//! Folding batches of messages into tables, exactly once in effect.
//!
//! One transaction holds the checkpoint's compare-and-set, the rows and what is parked. The checkpoint moves
//! first, so that a second runner on the same tables waits for the row, finds that it has moved and gives up
//! before it reads anything. A message that cannot be taken in is parked with all later messages of the same
//! entity behind it; everybody else goes on.

use std::collections::HashMap;

use malote_domain::{Cursor, Digest, Fact, Read, Recorded};
use sqlx::AnyConnection;
use time::OffsetDateTime;

use crate::db::{Db, DbError, failed};
use crate::sql::{self, Binds, Columns, Rows, position};
use crate::{PAGE_MAX, Projection, catalogue, lots, registry};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The place now; the one before if nothing in the batch was new.
    pub cursor: Option<Cursor>,
    /// Facts taken in.
    pub applied: usize,
    /// Messages parked.
    pub parked: usize,
    /// Messages that had been taken in before.
    pub skipped: usize,
}

/// Why a batch was not taken in; nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The checkpoint is not where the caller believes: another runner works on the same tables.
    #[error(
        "another process moved the {projection} projection on in {stream}; read its cursor and go on from there"
    )]
    Moved {
        /// Which tables.
        projection: Projection,
        /// Which stream.
        stream: String,
    },
    /// Messages that do not come in the stream's order.
    #[error(
        "the batch for the {projection} projection has message {sequence} after message {after}; read it again in order"
    )]
    OutOfOrder {
        /// Which tables.
        projection: Projection,
        /// The message out of order.
        sequence: u64,
        /// The one before it.
        after: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// A message that could not be taken in, or waits behind one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Parked {
    /// Which tables lack it.
    pub projection: String,
    /// Its stream.
    pub stream: String,
    /// Its sequence there.
    pub sequence: u64,
    /// The entity whose later messages wait behind it.
    pub subject_key: String,
    /// The sequence that it waits for; none for one that broke itself.
    pub behind: Option<u64>,
    /// Why.
    pub reason: String,
    /// When it was parked, RFC 3339.
    pub at: String,
}

impl Db {
    /// A projection's place in a stream; none before its first message.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cursor(&self, projection: Projection, stream: &str) -> Result<Option<Cursor>, DbError> {
        let mut binds = Binds::new();
        binds.text(projection.name()).text(stream);
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT sequence, hash FROM checkpoint WHERE projection = $1 AND stream = $2",
            binds,
            "reading a checkpoint",
        )
        .await?;
        rows.first().map(|row| cursor(&Columns(row))).transpose()
    }

    /// Takes a batch in, in one transaction together with the new place. `expected` is where the caller believes
    /// the projection to be; messages up to there are skipped.
    ///
    /// For [`Projection::Catalogue`] this only moves its place on and parks what cannot be read: the records of a
    /// released lot go in through [`Db::begin_catalogue`].
    ///
    /// # Errors
    /// When another runner has moved on, the batch is not in order or the database fails; nothing is changed then.
    pub async fn apply(
        &self,
        projection: Projection,
        stream: &str,
        expected: Option<Cursor>,
        batch: &[Read],
    ) -> Result<Applied, ApplyError> {
        let from = expected.map_or(0, |cursor| cursor.sequence);
        let fresh: Vec<&Read> = batch.iter().filter(|read| read.cursor().sequence > from).collect();
        let skipped = batch.len() - fresh.len();
        if let Some(pair) = fresh.windows(2).find(|p| p[0].cursor().sequence >= p[1].cursor().sequence) {
            let (after, sequence) = (pair[0].cursor().sequence, pair[1].cursor().sequence);
            return Err(ApplyError::OutOfOrder { projection, sequence, after });
        }
        let Some(to) = fresh.last().map(|read| read.cursor()) else {
            return Ok(Applied { cursor: expected, applied: 0, parked: 0, skipped });
        };
        let mut tx = self.begin().await?;
        advance(&mut tx, projection, stream, expected, to).await?;
        let mut parking = Parking::load(&mut tx, projection, stream).await?;
        let mut fold = Fold::load(&mut tx, projection, &fresh).await?;
        let mut applied = 0;
        for read in fresh {
            match read {
                Read::Unreadable { cursor, subject, reason } => {
                    parking.park(key_of_subject(subject), cursor.sequence, reason.clone());
                }
                Read::Fact(fact) => {
                    let key = key_of_fact(&fact.event);
                    if parking.waits(&key, fact.sequence) {
                        continue;
                    }
                    match fold.take(fact) {
                        Ok(()) => applied += 1,
                        Err(reason) => parking.park(key, fact.sequence, reason),
                    }
                }
            }
        }
        fold.write(&mut tx).await?;
        let parked = parking.write(&mut tx).await?;
        tx.commit().await.map_err(failed("committing a batch"))?;
        Ok(Applied { cursor: Some(to), applied, parked, skipped })
    }

    /// Sets a projection back after a broker has lost the tail of a stream, and tells where to read on from.
    ///
    /// `None` empties what came of the stream and starts from its beginning. With a place, rows that only lost
    /// messages made are taken out and reading goes on from there; a projection whose rows do not remember what
    /// they were before starts from the beginning all the same.
    ///
    /// # Errors
    /// When the database fails; nothing is changed then.
    pub async fn rewind(
        &self,
        projection: Projection,
        stream: &str,
        to: Option<Cursor>,
    ) -> Result<Option<Cursor>, DbError> {
        let mut tx = self.begin().await?;
        let to = match projection {
            Projection::Registry => registry::clear(&mut tx).await.map(|()| None),
            Projection::Lots => lots::rewind(&mut tx, stream, to).await.map(|()| to),
            Projection::Catalogue => catalogue::clear(&mut tx).await.map(|()| None),
        }?;
        let mut binds = Binds::new();
        binds.text(projection.name()).text(stream).int(to.map_or(0, |cursor| position(cursor.sequence)));
        let unpark = "DELETE FROM parked WHERE projection = $1 AND stream = $2 AND sequence > $3";
        sql::execute(&mut tx, unpark, binds, "clearing parked messages").await?;
        let mut binds = Binds::new();
        binds.text(projection.name()).text(stream);
        let forget = "DELETE FROM checkpoint WHERE projection = $1 AND stream = $2";
        sql::execute(&mut tx, forget, binds, "setting a checkpoint back").await?;
        if let Some(to) = to {
            insert_checkpoint(&mut tx, projection, stream, to).await?;
        }
        tx.commit().await.map_err(failed("setting a projection back"))?;
        Ok(to)
    }

    /// How many messages are parked, those that wait included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn parked_count(&self) -> Result<u64, DbError> {
        let sql = "SELECT COUNT(*) AS n FROM parked";
        let rows =
            sql::fetch(&mut *self.reader().await?, sql, Binds::new(), "counting parked messages").await?;
        rows.first().map_or(Ok(0), |row| Columns(row).count("n"))
    }

    /// The parked messages, oldest of each stream first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn parked(&self, limit: u32) -> Result<Vec<Parked>, DbError> {
        let mut binds = Binds::new();
        binds.int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT projection, stream, sequence, subject_key, behind, reason, at FROM parked \
             ORDER BY projection, stream, sequence LIMIT $1",
            binds,
            "listing parked messages",
        )
        .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(Parked {
                    projection: row.text("projection")?,
                    stream: row.text("stream")?,
                    sequence: row.count("sequence")?,
                    subject_key: row.text("subject_key")?,
                    behind: row.opt_count("behind")?,
                    reason: row.text("reason")?,
                    at: row.time("at")?,
                })
            })
            .collect()
    }

    /// Remembers how far a stream has been seen; an earlier place changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_head(&self, stream: &str, sequence: u64, hash: Digest) -> Result<(), DbError> {
        let mut binds = Binds::new();
        binds.text(stream).int(position(sequence)).text(&hash.to_string());
        let mut tx = self.begin().await?;
        sql::execute(
            &mut tx,
            "INSERT INTO head (stream, sequence, hash) VALUES ($1, $2, $3) ON CONFLICT (stream) DO UPDATE \
             SET sequence = excluded.sequence, hash = excluded.hash WHERE excluded.sequence > head.sequence",
            binds,
            "recording a stream's head",
        )
        .await?;
        tx.commit().await.map_err(failed("recording a stream's head"))
    }

    /// The furthest message ever seen in a stream.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn head(&self, stream: &str) -> Result<Option<Cursor>, DbError> {
        let mut binds = Binds::new();
        binds.text(stream);
        let sql = "SELECT sequence, hash FROM head WHERE stream = $1";
        let rows = sql::fetch(&mut *self.reader().await?, sql, binds, "reading a stream's head").await?;
        rows.first().map(|row| cursor(&Columns(row))).transpose()
    }

    /// Forgets all heads: whoever calls this accepts what the broker has now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_heads(&self) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        sql::execute(&mut tx, "DELETE FROM head", Binds::new(), "forgetting heads").await?;
        tx.commit().await.map_err(failed("forgetting heads"))
    }
}

fn cursor(row: &Columns<'_>) -> Result<Cursor, DbError> {
    Ok(Cursor { sequence: row.count("sequence")?, hash: row.parse("hash", Digest::parse)? })
}

/// The checkpoint's compare-and-set. It is the transaction's first statement and a write: a second writer waits
/// here and not at a read whose answer would be stale by the time it writes.
pub(crate) async fn advance(
    conn: &mut AnyConnection,
    projection: Projection,
    stream: &str,
    expected: Option<Cursor>,
    to: Cursor,
) -> Result<(), ApplyError> {
    let moved = match expected {
        None => insert_checkpoint(conn, projection, stream, to).await?,
        Some(expected) => {
            let mut binds = Binds::new();
            binds.int(position(to.sequence)).text(&to.hash.to_string());
            binds.text(projection.name()).text(stream);
            binds.int(position(expected.sequence)).text(&expected.hash.to_string());
            sql::execute(
                conn,
                "UPDATE checkpoint SET sequence = $1, hash = $2 \
                 WHERE projection = $3 AND stream = $4 AND sequence = $5 AND hash = $6",
                binds,
                "moving a checkpoint",
            )
            .await?
        }
    };
    if moved == 1 { Ok(()) } else { Err(ApplyError::Moved { projection, stream: stream.to_owned() }) }
}

async fn insert_checkpoint(
    conn: &mut AnyConnection,
    projection: Projection,
    stream: &str,
    to: Cursor,
) -> Result<u64, DbError> {
    let mut binds = Binds::new();
    binds.text(projection.name()).text(stream).int(position(to.sequence)).text(&to.hash.to_string());
    sql::execute(
        conn,
        "INSERT INTO checkpoint (projection, stream, sequence, hash) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (projection, stream) DO NOTHING",
        binds,
        "setting a checkpoint",
    )
    .await
}

/// The entity that a subject is about. A lot's subject also names its scope, which its facts need not know.
fn key_of_subject(subject: &str) -> String {
    match subject.strip_prefix("lots.").and_then(|rest| rest.rsplit_once('.')) {
        Some((_, lot)) => format!("lots.{lot}"),
        None => subject.to_owned(),
    }
}

/// The entity that a fact is about, in the words of [`key_of_subject`].
fn key_of_fact(fact: &Fact) -> String {
    match fact {
        Fact::Lot(lot, _) => format!("lots.{lot}"),
        Fact::Store(store, _) => format!("registry.store.{store}"),
        Fact::Group(group, _) => format!("registry.group.{group}"),
        Fact::Pdv(at, _) => format!("registry.pdv.{}.{}", at.store, at.pdv),
        Fact::Till(at, _) => format!("pdvs.{}.{}", at.store, at.pdv),
    }
}

/// The reason for parking a fact that another projection's stream holds.
pub(crate) fn misplaced(fact: &Fact) -> String {
    format!("{} is not of this projection", key_of_fact(fact))
}

/// One projection's rows while a batch goes in.
enum Fold {
    Registry(registry::Fold),
    Lots(Box<lots::Fold>),
    Catalogue,
}

impl Fold {
    async fn load(
        conn: &mut AnyConnection,
        projection: Projection,
        batch: &[&Read],
    ) -> Result<Self, DbError> {
        let facts: Vec<&Recorded<Fact>> = batch
            .iter()
            .filter_map(|read| match read {
                Read::Fact(fact) => Some(&**fact),
                Read::Unreadable { .. } => None,
            })
            .collect();
        Ok(match projection {
            Projection::Registry => Self::Registry(registry::Fold::load(conn, &facts).await?),
            Projection::Lots => Self::Lots(Box::new(lots::Fold::load(conn, &facts).await?)),
            Projection::Catalogue => Self::Catalogue,
        })
    }

    /// Takes a fact in, or says why it breaks and leaves all as it was.
    fn take(&mut self, fact: &Recorded<Fact>) -> Result<(), String> {
        match self {
            Self::Registry(fold) => fold.take(fact),
            Self::Lots(fold) => fold.take(fact),
            Self::Catalogue => match &fact.event {
                Fact::Lot(..) => Ok(()),
                Fact::Store(..) | Fact::Group(..) | Fact::Pdv(..) | Fact::Till(..) => {
                    Err(misplaced(&fact.event))
                }
            },
        }
    }

    async fn write(self, conn: &mut AnyConnection) -> Result<(), DbError> {
        match self {
            Self::Registry(fold) => fold.write(conn).await,
            Self::Lots(fold) => fold.write(conn).await,
            Self::Catalogue => Ok(()),
        }
    }
}

/// What is parked of one stream, and what this batch adds.
struct Parking<'a> {
    projection: Projection,
    stream: &'a str,
    /// The first broken message of each key.
    roots: HashMap<String, u64>,
    added: Vec<(u64, String, Option<u64>, String)>,
}

impl<'a> Parking<'a> {
    async fn load(
        conn: &mut AnyConnection,
        projection: Projection,
        stream: &'a str,
    ) -> Result<Self, DbError> {
        let mut binds = Binds::new();
        binds.text(projection.name()).text(stream);
        let rows = sql::fetch(
            conn,
            "SELECT subject_key, sequence FROM parked \
             WHERE projection = $1 AND stream = $2 AND behind IS NULL",
            binds,
            "reading parked messages",
        )
        .await?;
        let mut roots = HashMap::new();
        for row in &rows {
            let row = Columns(row);
            roots.insert(row.text("subject_key")?, row.count("sequence")?);
        }
        Ok(Self { projection, stream, roots, added: vec![] })
    }

    /// Whether a message has to wait behind an earlier one of its key; it is parked then.
    fn waits(&mut self, key: &str, sequence: u64) -> bool {
        let Some(root) = self.roots.get(key).copied().filter(|root| *root < sequence) else { return false };
        self.added.push((sequence, key.to_owned(), Some(root), format!("waits behind message {root}")));
        true
    }

    fn park(&mut self, key: String, sequence: u64, reason: String) {
        if self.waits(&key, sequence) {
            return;
        }
        tracing::warn!(
            projection = self.projection.name(),
            stream = self.stream,
            sequence,
            key,
            reason,
            "parked a message"
        );
        self.added.push((sequence, key.clone(), None, reason));
        self.roots.insert(key, sequence);
    }

    async fn write(self, conn: &mut AnyConnection) -> Result<usize, DbError> {
        const PARK: Rows = Rows {
            before: "INSERT INTO parked (projection, stream, sequence, subject_key, behind, reason, at) VALUES",
            columns: 7,
            after: "ON CONFLICT (projection, stream, sequence) DO NOTHING",
            doing: "parking messages",
        };
        let now = malote_domain::Timestamp::from(OffsetDateTime::now_utc()).micros();
        PARK.write(conn, &self.added, |binds, (sequence, key, behind, reason)| {
            binds.text(self.projection.name()).text(self.stream).int(position(*sequence)).text(key);
            binds.opt_int(behind.map(position)).text(reason).int(now)
        })
        .await?;
        Ok(self.added.len())
    }
}

#[cfg(test)]
mod tests;
