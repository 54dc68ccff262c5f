//! The till's database: one SQLite file in a directory of its own, written by one process.
//!
//! Writes go through one connection and begin with the write lock, so what a transaction read is still true when
//! it commits, even when an earlier owner of the directory was dropped in the middle of a commit. Readers have
//! connections of their own and see the last commit.

mod apply;
mod check;
mod intake;
mod outbox;
mod read;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use malote_domain::registry::PdvAddress;
use malote_domain::{Cursor, Digest, Timestamp};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Connection, Sqlite, Transaction};

pub(crate) use apply::{ApplyError, chunk_of};
pub(crate) use outbox::HubHas;
pub(crate) use read::{LotRow, Record, Work};

/// What the file is marked with: the letters `mlpd`.
const APPLICATION_ID: i64 = 0x6d6c_7064;
/// The version of the tables.
const VERSION: i64 = 1;
/// Oldest SQLite that does not corrupt a WAL.
const SQLITE_MIN: [u32; 3] = [3, 51, 3];
const FILE: &str = "pdv.sqlite";
const LOCK: &str = "pdv.lock";
/// Connections that answer the till's questions while a lot is being applied.
const READERS: u32 = 2;
/// Longest wait for the writer: a lot of a million records is applied in less.
const WRITER_PATIENCE: Duration = Duration::from_secs(300);
/// Longest wait of a question for a connection.
const READER_PATIENCE: Duration = Duration::from_secs(5);

/// Why the till's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or written.
    #[error("cannot use directory {dir}; check that it can be made and written, or give another with --dir")]
    Dir {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("directory {dir} is in use by another malote-pdv; stop that one, or give another with --dir")]
    InUse {
        /// Which.
        dir: PathBuf,
    },
    /// Not a database, or it cannot be opened.
    #[error("cannot open {file}; check the disk, and that nothing but malote writes there")]
    Sql {
        /// Which file.
        file: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Somebody else's database.
    #[error(
        "{file} belongs to another program (application id {found:#x}); give another directory with --dir"
    )]
    Foreign {
        /// Which file.
        file: PathBuf,
        /// Its mark.
        found: i64,
    },
    /// Tables of another version.
    #[error(
        "{file} holds tables of version {found} and this malote-pdv knows version {VERSION}; start the malote-pdv that wrote it, \
             or move the directory away: the catalogue comes back from the hub"
    )]
    Version {
        /// Which file.
        file: PathBuf,
        /// Its version.
        found: i64,
    },
    /// A broken file.
    #[error(
        "{file} is damaged ({found}); keep a copy, move the directory away and start again: the catalogue comes back from the hub"
    )]
    Damaged {
        /// Which file.
        file: PathBuf,
        /// What SQLite found first.
        found: String,
    },
    /// Another till's directory.
    #[error(
        "directory {dir} is that of PDV {found}; start it with that --store and --pdv, or give another --dir"
    )]
    Identity {
        /// Which.
        dir: PathBuf,
        /// Whose it is.
        found: String,
    },
    /// A SQLite that can corrupt its log.
    #[error("SQLite {found} can corrupt its log; build malote with 3.51.3 or newer")]
    Library {
        /// The version linked in.
        found: String,
    },
}

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite said no.
    #[error("the till's database failed while {doing}; check that its disk is sound and not full")]
    Sql {
        /// What went on.
        doing: &'static str,
        /// What it said.
        #[source]
        source: sqlx::Error,
    },
    /// Something that malote does not write.
    #[error(
        "the till's database holds a {what} that malote did not write; move the directory away and start again"
    )]
    Value {
        /// What.
        what: &'static str,
    },
}

pub(crate) fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Sql { doing, source }
}

/// The database, open. Its directory is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Store {
    write: SqlitePool,
    read: SqlitePool,
    address: PdvAddress,
    _lock: File,
}

impl Store {
    /// Opens the till's directory, and makes it when it is not there.
    pub(crate) async fn open(dir: &Path, address: &PdvAddress) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Dir { dir: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(unusable)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))
            .map_err(unusable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse { dir: dir.to_owned() },
            TryLockError::Error(source) => unusable(source),
        })?;
        let file = dir.join(FILE);
        let sql = |source| cannot_open(file.clone(), source);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .busy_timeout(Duration::from_secs(10))
            .statement_cache_capacity(32);
        let options = sqlx::ConnectOptions::disable_statement_logging(options);
        // Nothing is written, not even the journal mode, before the file is known to be ours.
        let mut first = SqliteConnection::connect_with(&options).await.map_err(sql)?;
        library(&mut first).await.map_err(sql)?.map_or(Ok(()), |found| Err(OpenError::Library { found }))?;
        let new = look(&mut first, &file).await?;
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .pragma("temp_store", "FILE");
        let writer = options.clone().pragma("cache_size", "-4000").pragma("wal_autocheckpoint", "1000");
        let reader = options.pragma("cache_size", "-1000").pragma("query_only", "ON");
        first.close().await.map_err(sql)?;
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(WRITER_PATIENCE)
            .connect_with(writer)
            .await
            .map_err(sql)?;
        if new {
            create(&write).await.map_err(sql)?;
        }
        claim(&write, dir, address).await?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(READER_PATIENCE)
            .connect_lazy_with(reader);
        Ok(Self { write, read, address: address.clone(), _lock: lock })
    }

    /// Whose database this is.
    pub(crate) const fn address(&self) -> &PdvAddress {
        &self.address
    }

    /// Closes the connections; the last one leaves no log file behind.
    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction that holds the write lock from its first statement on.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.write.begin_with("BEGIN IMMEDIATE").await.map_err(failed("beginning to write"))
    }

    /// Where the reader of a stream is.
    pub(crate) async fn cursor(&self, stream: &str) -> Result<Option<Cursor>, StoreError> {
        let mut conn = self.read.acquire().await.map_err(failed("reading the cursor"))?;
        intake::stored_cursor(&mut conn, stream).await
    }
}

/// The SQLite linked in, when it is too old.
async fn library(conn: &mut SqliteConnection) -> sqlx::Result<Option<String>> {
    let text: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(conn).await?;
    let numbers: Vec<u32> = text.split('.').filter_map(|part| part.parse().ok()).collect();
    Ok((numbers.as_slice() < SQLITE_MIN.as_slice()).then_some(text))
}

/// Tells a damaged file from one that cannot be had.
fn cannot_open(file: PathBuf, source: sqlx::Error) -> OpenError {
    let database = source.as_database_error();
    let code = database.and_then(|error| error.code()).and_then(|code| code.parse::<u32>().ok());
    match (database, code) {
        // SQLITE_CORRUPT and SQLITE_NOTADB, the latter also for what was never a database.
        (Some(error), Some(code)) if matches!(code & 0xff, 11 | 26) => {
            OpenError::Damaged { file, found: error.message().to_owned() }
        }
        (_, _) => OpenError::Sql { file, source },
    }
}

/// Whether the file is new; refuses one that is not ours, of another version or damaged.
async fn look(conn: &mut SqliteConnection, file: &Path) -> Result<bool, OpenError> {
    let file = || file.to_owned();
    let sql = |source| cannot_open(file(), source);
    let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *conn).await.map_err(sql)?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *conn).await.map_err(sql)?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *conn).await.map_err(sql)?;
    if id == 0 && version == 0 && tables == 0 {
        return Ok(true);
    }
    if id != APPLICATION_ID {
        return Err(OpenError::Foreign { file: file(), found: id });
    }
    if version != VERSION {
        return Err(OpenError::Version { file: file(), found: version });
    }
    let found: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *conn).await.map_err(sql)?;
    if found != "ok" {
        return Err(OpenError::Damaged { file: file(), found });
    }
    Ok(false)
}

/// Makes the tables and marks the file, all or nothing.
async fn create(write: &SqlitePool) -> sqlx::Result<()> {
    let mut tx = write.begin_with("BEGIN IMMEDIATE").await?;
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *tx).await?;
    if tables == 0 {
        sqlx::raw_sql(include_str!("store/schema.sql")).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// Takes a new directory for this till, or checks whose it is.
async fn claim(write: &SqlitePool, dir: &Path, address: &PdvAddress) -> Result<(), OpenError> {
    let sql = |source| cannot_open(dir.join(FILE), source);
    let mut tx = write.begin_with("BEGIN IMMEDIATE").await.map_err(sql)?;
    sqlx::query("INSERT INTO identity (one, store, pdv) VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
        .bind(address.store.as_str())
        .bind(address.pdv.as_str())
        .execute(&mut *tx)
        .await
        .map_err(sql)?;
    let (store, pdv): (String, String) =
        sqlx::query_as("SELECT store, pdv FROM identity").fetch_one(&mut *tx).await.map_err(sql)?;
    if store != address.store.as_str() || pdv != address.pdv.as_str() {
        let found = format!("{pdv} of store {store}");
        return Err(OpenError::Identity { dir: dir.to_owned(), found });
    }
    tx.commit().await.map_err(sql)
}

/// The moment, by the till's own clock.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(time::OffsetDateTime::now_utc())
}

/// What SQLite holds of a number that is never negative.
fn unsigned<T: TryFrom<i64>>(value: i64, what: &'static str) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::Value { what })
}

fn digest(bytes: &[u8], what: &'static str) -> Result<Digest, StoreError> {
    Digest::from_bytes(bytes).ok_or(StoreError::Value { what })
}

/// A number as SQLite holds it. No sequence or count of ours comes near the limit, and a version that does was
/// refused when its notice came.
fn signed<T: TryInto<i64>>(value: T) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
