//! The floor: the same rows into a bare table, as fast as the same database through the same library takes them.
//!
//! The table is shaped as the till's `record`, the file is synced as the till's is (WAL, FULL), and there is one
//! transaction of long statements. No network, no chunks, no checks, no report: what is above this is ours.
//! Rows may come in the order of their keys, which fills the table's pages one after the other, or as they are sent;
//! sorting counts, and whichever is faster is the floor.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _};

/// Rows of one statement; fewer and more were slower.
const ROWS: usize = 256;

/// One row, read before the clock starts.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) body: Option<String>,
}

/// In which order rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AsSent,
    ByKey,
}

/// Loads rows, kind by kind, into a new file in `dir`; the time is that from the beginning of the transaction to
/// its commit.
pub(super) async fn load(dir: &Path, name: &str, kinds: &[Vec<Row>], order: Order) -> sqlx::Result<Duration> {
    let options = SqliteConnectOptions::new()
        .filename(dir.join(name))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", "-4000")
        .disable_statement_logging();
    let mut conn = options.connect().await?;
    sqlx::raw_sql(
        "CREATE TABLE record (kind INTEGER NOT NULL, key TEXT NOT NULL, scope INTEGER NOT NULL, \
         version INTEGER NOT NULL, lot INTEGER NOT NULL, body TEXT, PRIMARY KEY (kind, key, scope)) \
         STRICT, WITHOUT ROWID",
    )
    .execute(&mut conn)
    .await?;
    let begun = Instant::now();
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    for (kind, rows) in kinds.iter().enumerate() {
        let full: Arc<str> = statement(kind, ROWS).into();
        let mut rows: Vec<_> = rows.iter().collect();
        if order == Order::ByKey {
            rows.sort_by_key(|row| row.key.as_str());
        }
        for some in rows.chunks(ROWS) {
            insert(&mut tx, kind, &full, some).await?;
        }
    }
    tx.commit().await?;
    let took = begun.elapsed();
    conn.close().await?;
    Ok(took)
}

async fn insert(
    conn: &mut SqliteConnection,
    kind: usize,
    full: &Arc<str>,
    rows: &[&Row],
) -> sqlx::Result<()> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(2 * rows.len(), 0);
    for row in rows {
        let bound = arguments.add(row.key.as_str()).and_then(|()| arguments.add(row.body.as_deref()));
        bound.map_err(sqlx::Error::Encode)?;
    }
    if rows.len() == ROWS {
        sqlx::query_with(AssertSqlSafe(Arc::clone(full)), arguments).execute(conn).await?;
    } else {
        let sql = statement(kind, rows.len());
        sqlx::query_with(AssertSqlSafe(sql), arguments).persistent(false).execute(conn).await?;
    }
    Ok(())
}

fn statement(kind: usize, rows: usize) -> String {
    let row = format!("({kind},?,1,1,1,?)");
    let head = "INSERT INTO record (kind, key, scope, version, lot, body) VALUES ";
    head.to_owned() + &vec![row; rows].join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_row_of_every_kind_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let row = |n: usize| Row { key: n.to_string(), body: n.is_multiple_of(2).then(|| "{}".to_owned()) };
        let kinds = [(0..2 * ROWS + 3).map(row).collect(), (0..7).map(row).collect()];
        for (name, order) in [("sent.db", Order::AsSent), ("key.db", Order::ByKey)] {
            let took = load(dir.path(), name, &kinds, order).await.unwrap();
            assert!(took > Duration::ZERO);
            let options = SqliteConnectOptions::new().filename(dir.path().join(name));
            let mut conn = options.connect().await.unwrap();
            let counted: (i64, i64) = sqlx::query_as("SELECT count(*), count(body) FROM record")
                .fetch_one(&mut conn)
                .await
                .unwrap();
            assert_eq!(counted, (515 + 7, 258 + 4));
        }
    }
}
