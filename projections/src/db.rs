//! The database: opening it, refusing what is not ours, its connections and its errors.

use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection, Row, Transaction};

use crate::Projection;

/// What SQLite files of the projections are marked with: the letters `mlpr`.
const APPLICATION_ID: i64 = 0x6d6c_7072;
/// The version of the tables that belong to no projection.
const CORE_VERSION: i64 = 1;
/// Marks a new file; the numbers are those of the two constants above.
const MARK: &str = "PRAGMA application_id = 1835823218; PRAGMA user_version = 1";
/// Oldest SQLite that does not corrupt a WAL.
const SQLITE_MIN: [u32; 3] = [3, 51, 3];
/// Connections that answer questions while the writer writes.
const READERS: u32 = 4;
/// Longest wait for a connection: a catalogue of a hundred thousand records loads in less.
const ACQUIRE: Duration = Duration::from_secs(30);
/// What every connection is told. FULL: a checkpoint that was acknowledged survives a power cut.
const WRITER: &str = "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                      PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000";
const READER: &str = "PRAGMA busy_timeout = 10000; PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; \
                      PRAGMA cache_size = -16000";

/// The projections' database: one writer, a few readers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    writer: AnyPool,
    readers: AnyPool,
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A URL for another kind of database.
    #[error("'{scheme}:' databases are not supported yet; use sqlite:<file>")]
    Scheme {
        /// The URL's scheme.
        scheme: String,
    },
    /// A database that would be another one for each connection.
    #[error("a database in memory cannot be shared by several connections; use sqlite:<file>")]
    Memory,
    /// Not reachable, not readable or not a database.
    #[error(
        "cannot open {url}; check that the directory exists and can be written, and that the file is malote's"
    )]
    Connect {
        /// What was to be opened.
        url: String,
        /// Why not.
        source: sqlx::Error,
    },
    /// A database of another program.
    #[error("{url} belongs to another program (application id {found:#x}); name another file")]
    Foreign {
        /// What was to be opened.
        url: String,
        /// The mark found in it.
        found: i64,
    },
    /// Tables of another version of malote.
    #[error(
        "{url} holds version {found} of the {part} tables and this malote needs {wanted}; \
         move the file away and start again: it is built anew from the streams"
    )]
    Version {
        /// What was to be opened.
        url: String,
        /// Which tables.
        part: &'static str,
        /// The version found.
        found: i64,
        /// The version that this program knows.
        wanted: i64,
    },
    /// A SQLite that can corrupt its log.
    #[error("SQLite {found} can corrupt its log; build malote with 3.51.3 or newer")]
    Library {
        /// The version linked in.
        found: String,
    },
}

/// A question or a write that the database could not do.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database said no.
    #[error("the database failed while {doing}; check its disk, then try again")]
    Sql {
        /// What went on.
        doing: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
    /// A value that malote does not write.
    #[error(
        "the database holds '{value}' in column {column}, which malote did not write; \
         move the database away and start again: it is built anew from the streams"
    )]
    Value {
        /// Where.
        column: &'static str,
        /// What.
        value: String,
    },
}

/// Says what went on when the database failed.
pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> DbError {
    move |source| DbError::Sql { doing, source }
}

impl Db {
    /// Opens a database, and makes its tables if it is new: `sqlite:<file>`.
    ///
    /// # Errors
    /// When it cannot be opened, or is not of this program and version.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
        if scheme != "sqlite" {
            return Err(OpenError::Scheme { scheme: scheme.to_owned() });
        }
        if url.contains(":memory:") || url.contains("mode=memory") {
            return Err(OpenError::Memory);
        }
        sqlx::any::install_default_drivers();
        let url = if url.contains('?') { url.to_owned() } else { format!("{url}?mode=rwc") };
        let connect = |source| OpenError::Connect { url: url.clone(), source };
        // Nothing is written, not even the journal mode, before the file is known to be ours.
        let mut first = AnyConnection::connect(&url).await.map_err(connect)?;
        library(&mut first)
            .await
            .map_err(connect)?
            .map_or(Ok(()), |found| Err(OpenError::Library { found }))?;
        let new = look(&mut first, &url).await?;
        sqlx::raw_sql(WRITER).execute(&mut first).await.map_err(connect)?;
        if new {
            create(&mut first).await.map_err(connect)?;
        }
        versions(&mut first, &url).await?;
        first.close().await.map_err(connect)?;
        let pool = |connections: u32, pragmas: &'static str| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE)
                .after_connect(move |conn, _| {
                    Box::pin(async move { sqlx::raw_sql(pragmas).execute(conn).await.map(drop) })
                })
                .connect_lazy(&url)
        };
        Ok(Self {
            writer: pool(1, WRITER).map_err(connect)?,
            readers: pool(READERS, READER).map_err(connect)?,
        })
    }

    /// Closes all connections; questions under way are finished.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// A transaction of the one writer.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>, DbError> {
        self.writer.begin().await.map_err(failed("beginning a transaction"))
    }

    /// A connection for questions.
    pub(crate) async fn reader(&self) -> Result<PoolConnection<Any>, DbError> {
        self.readers.acquire().await.map_err(failed("waiting for a connection"))
    }
}

/// The linked SQLite's version, if it is too old.
async fn library(conn: &mut AnyConnection) -> Result<Option<String>, sqlx::Error> {
    let found: String = sqlx::query("SELECT sqlite_version()").fetch_one(conn).await?.try_get(0)?;
    Ok((!is_safe(&found)).then_some(found))
}

fn is_safe(version: &str) -> bool {
    let parts: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
    parts.as_slice() >= SQLITE_MIN.as_slice()
}

async fn number(conn: &mut AnyConnection, question: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(question).fetch_one(conn).await?.try_get(0)
}

/// Whether the file is new; an error if it is somebody else's or of another version.
async fn look(conn: &mut AnyConnection, url: &str) -> Result<bool, OpenError> {
    let connect = |source| OpenError::Connect { url: url.to_owned(), source };
    let id = number(conn, "PRAGMA application_id").await.map_err(connect)?;
    let version = number(conn, "PRAGMA user_version").await.map_err(connect)?;
    let tables = number(conn, "SELECT COUNT(*) FROM sqlite_master").await.map_err(connect)?;
    if id == 0 && version == 0 && tables == 0 {
        return Ok(true);
    }
    if id != APPLICATION_ID {
        return Err(OpenError::Foreign { url: url.to_owned(), found: id });
    }
    if version != CORE_VERSION {
        return Err(OpenError::Version {
            url: url.to_owned(),
            part: "core",
            found: version,
            wanted: CORE_VERSION,
        });
    }
    Ok(false)
}

/// Makes all tables, or none; two processes that open a new file together both succeed.
async fn create(conn: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    if number(&mut tx, "PRAGMA application_id").await? == APPLICATION_ID {
        return tx.rollback().await;
    }
    sqlx::raw_sql(include_str!("db/schema.sql")).execute(&mut *tx).await?;
    for projection in Projection::ALL {
        sqlx::raw_sql(projection.schema()).execute(&mut *tx).await?;
        sqlx::query("INSERT INTO projection (name, version) VALUES ($1, $2)")
            .bind(projection.name())
            .bind(i64::from(projection.version()))
            .execute(&mut *tx)
            .await?;
    }
    sqlx::raw_sql(MARK).execute(&mut *tx).await?;
    tx.commit().await
}

/// Refuses tables of another version.
async fn versions(conn: &mut AnyConnection, url: &str) -> Result<(), OpenError> {
    let connect = |source| OpenError::Connect { url: url.to_owned(), source };
    let rows = sqlx::query("SELECT name, version FROM projection").fetch_all(conn).await.map_err(connect)?;
    let mut found = std::collections::HashMap::new();
    for row in rows {
        let name: String = row.try_get(0).map_err(connect)?;
        found.insert(name, row.try_get::<i64, _>(1).map_err(connect)?);
    }
    for projection in Projection::ALL {
        let found = found.get(projection.name()).copied().unwrap_or(0);
        let wanted = i64::from(projection.version());
        if found != wanted {
            return Err(OpenError::Version { url: url.to_owned(), part: projection.name(), found, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
