//! Records as they were last sent.

use std::collections::{BTreeMap, HashMap, HashSet};

use malote_domain::{Kind, Scope};
use sqlx::AssertSqlSafe;

use super::hex;
use crate::PAGE_MAX;
use crate::db::{Db, DbError};
use crate::sql::{self, Binds, Columns, tuple};

/// Keys looked up by one statement.
const KEYS: usize = 500;

/// A record as it was last sent to a scope.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CatalogueRecord {
    /// The scope.
    pub scope: String,
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// The version of the lot that holds it.
    pub version: u64,
    /// That lot.
    pub lot: String,
    /// Whether the lot deletes it.
    pub deleted: bool,
    /// Its JSON body; none for a delete.
    pub body: Option<String>,
}

impl CatalogueRecord {
    pub(super) fn read(row: &Columns<'_>) -> Result<Self, DbError> {
        Ok(Self {
            scope: row.text("scope")?,
            kind: row.text("kind")?,
            key: row.text("rec_key")?,
            version: row.count("version")?,
            lot: row.text("lot")?,
            deleted: row.flag("deleted")?,
            body: row.opt_text("body")?,
        })
    }
}

impl Db {
    /// Which of these records (kind, key, hash) the scope holds exactly so: their indexes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unchanged(
        &self,
        scope: &Scope,
        records: &[(&str, &str, [u8; 16])],
    ) -> Result<HashSet<usize>, DbError> {
        let mut of_kind: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, (kind, ..)) in records.iter().enumerate() {
            of_kind.entry(kind).or_default().push(at);
        }
        let scope = scope.to_string();
        let mut conn = self.reader().await?;
        let mut same = HashSet::new();
        for (kind, places) in of_kind {
            for places in places.chunks(KEYS) {
                let mut binds = Binds::new();
                binds.text(&scope).text(kind);
                for at in places {
                    binds.text(records[*at].1);
                }
                let sql = format!(
                    "SELECT rec_key, hash FROM catalogue WHERE scope = $1 AND kind = $2 AND rec_key IN {}",
                    tuple(3, places.len())
                );
                let rows = sql::fetch(&mut conn, AssertSqlSafe(sql), binds, "comparing records").await?;
                let mut known = HashMap::with_capacity(rows.len());
                for row in &rows {
                    let row = Columns(row);
                    known.insert(row.text("rec_key")?, row.text("hash")?);
                }
                same.extend(places.iter().copied().filter(|at| {
                    let (_, key, hash) = records[*at];
                    known.get(key).is_some_and(|known| *known == hex(hash))
                }));
            }
        }
        Ok(same)
    }

    /// One record as it was last sent to each scope, by scope; the next page is after the last one's scope.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record(
        &self,
        kind: &Kind,
        key: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CatalogueRecord>, DbError> {
        let mut binds = Binds::new();
        binds.text(kind.as_str()).text(key).text(after.unwrap_or("")).int(i64::from(limit.min(PAGE_MAX)));
        // CROSS JOIN keeps SQLite to this order: a look-up of the record in each scope, and no scan of records.
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT c.scope AS scope, kind, rec_key, version, lot, deleted, body \
             FROM catalogue_scope s CROSS JOIN catalogue c \
             WHERE s.scope > $3 AND c.scope = s.scope AND c.kind = $1 AND c.rec_key = $2 \
             ORDER BY s.scope LIMIT $4",
            binds,
            "reading a record",
        )
        .await?;
        rows.iter().map(|row| CatalogueRecord::read(&Columns(row))).collect()
    }

    /// The records of a kind that a scope holds now, by key, without tombstones; the next page is after the last
    /// one's key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn snapshot_page(
        &self,
        scope: &Scope,
        kind: &Kind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<CatalogueRecord>, DbError> {
        let mut binds = Binds::new();
        binds.text(&scope.to_string()).text(kind.as_str()).text(after.unwrap_or(""));
        binds.int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT scope, kind, rec_key, version, lot, deleted, body FROM catalogue \
             WHERE scope = $1 AND kind = $2 AND rec_key > $3 AND deleted = 0 ORDER BY rec_key LIMIT $4",
            binds,
            "reading a scope's records",
        )
        .await?;
        rows.iter().map(|row| CatalogueRecord::read(&Columns(row))).collect()
    }
}
