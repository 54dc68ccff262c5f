use super::*;
use crate::testing::temp;

async fn change(url: &str, sql: &'static str) {
    let mut conn = AnyConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_new_file_opens_again() {
    let temp = temp().await;
    temp.close().await;
    Db::open(&temp.url).await.unwrap().close().await;
}

#[tokio::test]
async fn two_that_open_a_new_file_together_both_can() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    let (one, two) = tokio::join!(Db::open(&url), Db::open(&url));
    assert_eq!(one.unwrap().parked_count().await.unwrap(), 0);
    assert_eq!(two.unwrap().parked_count().await.unwrap(), 0);
}

#[tokio::test]
async fn commits_survive_a_power_cut() {
    let temp = temp().await;
    let mut tx = temp.begin().await.unwrap();
    assert_eq!(number(&mut tx, "PRAGMA synchronous").await.unwrap(), 2, "FULL");
    let mode: String =
        sqlx::query("PRAGMA journal_mode").fetch_one(&mut *tx).await.unwrap().try_get(0).unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn readers_cannot_write() {
    let temp = temp().await;
    let mut conn = temp.reader().await.unwrap();
    assert!(sqlx::query("DELETE FROM head").execute(&mut *conn).await.is_err());
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("other.db").display());
    sqlx::any::install_default_drivers();
    change(&url, "PRAGMA application_id = 7; CREATE TABLE t (a BIGINT)").await;
    let before = std::fs::read(dir.path().join("other.db")).unwrap();
    let error = Db::open(&url).await.unwrap_err();
    assert!(matches!(error, OpenError::Foreign { found: 7, .. }), "{error}");
    assert_eq!(std::fs::read(dir.path().join("other.db")).unwrap(), before);
    // A database without a mark that holds something is not ours either.
    change(&url, "PRAGMA application_id = 0").await;
    assert!(matches!(Db::open(&url).await.unwrap_err(), OpenError::Foreign { found: 0, .. }));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "not a database, but long enough to look like one ".repeat(100)).unwrap();
    let error = Db::open(&format!("sqlite:{}", path.display())).await.unwrap_err();
    assert!(matches!(error, OpenError::Connect { .. }), "{error}");
}

#[tokio::test]
async fn tables_of_another_version_are_refused_with_what_to_do() {
    let temp = temp().await;
    temp.close().await;
    change(&temp.url, "UPDATE projection SET version = 9 WHERE name = 'lots'").await;
    let error = Db::open(&temp.url).await.unwrap_err();
    assert!(matches!(error, OpenError::Version { part: "lots", found: 9, wanted: 1, .. }), "{error}");
    assert!(error.to_string().contains("move the file away"), "{error}");
    change(&temp.url, "PRAGMA user_version = 2").await;
    let error = Db::open(&temp.url).await.unwrap_err();
    assert!(matches!(error, OpenError::Version { part: "core", found: 2, .. }), "{error}");
}

#[tokio::test]
async fn other_databases_are_refused_for_now() {
    let error = Db::open("postgres://localhost/malote").await.unwrap_err();
    assert_eq!(error.to_string(), "'postgres:' databases are not supported yet; use sqlite:<file>");
    assert!(matches!(Db::open("sqlite::memory:").await.unwrap_err(), OpenError::Memory));
}

#[test]
fn versions_of_sqlite_compare_by_number() {
    for (version, safe) in
        [("3.51.3", true), ("3.51.10", true), ("4.0.0", true), ("3.51.2", false), ("3.9.9", false)]
    {
        assert_eq!(is_safe(version), safe, "{version}");
    }
}
