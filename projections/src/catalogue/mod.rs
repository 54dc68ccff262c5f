//! What the back office has sent, per scope and record: the later release wins.
//!
//! Lots may come in any order. A row holds the greatest version that was sent of its record; a delete stays as a
//! tombstone, so that an older lot does not bring the record back; a full lot takes out what is older and leaves
//! its version as a floor, for the same reason.

mod queries;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::{BTreeSet, HashMap};

use malote_domain::{Cursor, Kind, LotId, Scope};
use sqlx::AnyConnection;

pub use queries::CatalogueRecord;
pub use trace::{Place, PlaceState, Sent, Trace};

use crate::Projection;
use crate::db::{Db, DbError, failed};
use crate::lots::LOTS;
use crate::runner::{ApplyError, advance};
use crate::sql::{self, Binds, Columns, Rows, position, tuple};

pub(crate) const NAME: &str = "catalogue";
pub(crate) const VERSION: u32 = 1;
pub(crate) const SCHEMA: &str = include_str!("schema.sql");

/// A released lot whose records go into the catalogue.
#[derive(Clone, Debug)]
pub struct CatalogueLot {
    /// The lot.
    pub lot: LotId,
    /// Whom it is for.
    pub scope: Scope,
    /// The sequence of its first release, or for a snapshot the release whose state it repeats.
    pub version: u64,
    /// Whether the scope holds exactly its records of these kinds afterwards.
    pub full: bool,
    /// The kinds that it declared.
    pub kinds: BTreeSet<Kind>,
}

/// A record of a lot.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueRow<'a> {
    /// Its kind.
    pub kind: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Its body; none for a delete.
    pub body: Option<&'a str>,
    /// The first 16 bytes of the BLAKE3 of its body.
    pub hash: [u8; 16],
}

/// A lot on its way into the catalogue, in many short transactions. Dropped without [`CatalogueLoad::commit`] it is
/// taken in again from its first record, which changes nothing.
#[derive(Debug)]
pub struct CatalogueLoad<'a> {
    db: &'a Db,
    lot: CatalogueLot,
    scope: String,
    expected: Option<Cursor>,
    /// The greatest full lot of each kind in this scope.
    floors: HashMap<String, u64>,
}

impl Db {
    /// Begins to take in the records of a released lot. `expected` is the catalogue's place in `LOTS`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_catalogue(
        &self,
        lot: CatalogueLot,
        expected: Option<Cursor>,
    ) -> Result<CatalogueLoad<'_>, ApplyError> {
        let mut tx = self.begin().await?;
        let scope = lot.scope.to_string();
        let mut binds = Binds::new();
        binds.text(&scope);
        let enter = "INSERT INTO catalogue_scope (scope) VALUES ($1) ON CONFLICT (scope) DO NOTHING";
        sql::execute(&mut tx, enter, binds, "entering a scope").await?;
        let mut binds = Binds::new();
        binds.text(&scope);
        let floors = "SELECT kind, version FROM catalogue_floor WHERE scope = $1";
        let rows = sql::fetch(&mut tx, floors, binds, "reading a scope's full lots").await?;
        let mut floors = HashMap::new();
        for row in &rows {
            let row = Columns(row);
            floors.insert(row.text("kind")?, row.count("version")?);
        }
        tx.commit().await.map_err(failed("entering a scope"))?;
        Ok(CatalogueLoad { db: self, lot, scope, expected, floors })
    }
}

impl CatalogueLoad<'_> {
    /// Adds records of the lot, in the lot's order: of a key that repeats, the last one counts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add(&mut self, rows: &[CatalogueRow<'_>]) -> Result<(), DbError> {
        const UPSERT: Rows = Rows {
            before: "INSERT INTO catalogue (scope, kind, rec_key, version, lot, deleted, hash, body) VALUES",
            columns: 8,
            after: "ON CONFLICT (scope, kind, rec_key) DO UPDATE SET version = excluded.version, \
                    lot = excluded.lot, deleted = excluded.deleted, hash = excluded.hash, body = excluded.body \
                    WHERE excluded.version >= catalogue.version",
            doing: "writing records",
        };
        // PostgreSQL refuses a statement that meets one row twice.
        let mut last: HashMap<(&str, &str), usize> = HashMap::with_capacity(rows.len());
        for (at, row) in rows.iter().enumerate() {
            last.insert((row.kind, row.key), at);
        }
        let rows: Vec<&CatalogueRow<'_>> = rows
            .iter()
            .enumerate()
            .filter(|(at, row)| last.get(&(row.kind, row.key)) == Some(at))
            .map(|(_, row)| row)
            .filter(|row| self.floors.get(row.kind).is_none_or(|floor| *floor <= self.lot.version))
            .collect();
        let version = position(self.lot.version);
        let lot = self.lot.lot.to_string();
        // A short transaction of its own: a large lot must not keep everybody else from writing, and rows of a greater
        // version stay whoever comes first, so that a lot taken in half is simply taken in again.
        let mut tx = self.db.begin().await?;
        UPSERT
            .write(&mut tx, &rows, |binds, row| {
                binds.text(&self.scope).text(row.kind).text(row.key).int(version).text(&lot);
                binds.int(i64::from(row.body.is_none())).text(&hex(row.hash)).opt_text(row.body)
            })
            .await?;
        tx.commit().await.map_err(failed("writing records"))
    }

    /// Ends the lot: a full one takes out what is older than it. `cursor` is the message that released it.
    ///
    /// # Errors
    /// When another runner has moved the catalogue on, or the database fails; the lot is then taken in again.
    pub async fn commit(self, cursor: Cursor) -> Result<(), ApplyError> {
        const FLOOR: Rows = Rows {
            before: "INSERT INTO catalogue_floor (scope, kind, version) VALUES",
            columns: 3,
            after: "ON CONFLICT (scope, kind) DO UPDATE SET version = excluded.version \
                    WHERE excluded.version > catalogue_floor.version",
            doing: "recording a full lot",
        };
        let kinds: Vec<&Kind> = self.lot.kinds.iter().collect();
        let mut tx = self.db.begin().await?;
        if self.lot.full && !kinds.is_empty() {
            let version = position(self.lot.version);
            let mut binds = Binds::new();
            binds.text(&self.scope).int(version);
            for kind in &kinds {
                binds.text(kind.as_str());
            }
            let sql = format!(
                "DELETE FROM catalogue WHERE scope = $1 AND version < $2 AND kind IN {}",
                tuple(3, kinds.len())
            );
            sql::execute(&mut tx, sqlx::AssertSqlSafe(sql), binds, "taking out what a full lot replaces")
                .await?;
            FLOOR
                .write(&mut tx, &kinds, |binds, kind| {
                    binds.text(&self.scope).text(kind.as_str()).int(version)
                })
                .await?;
        }
        advance(&mut tx, Projection::Catalogue, LOTS, self.expected, cursor).await?;
        Ok(tx.commit().await.map_err(failed("committing a lot's records"))?)
    }
}

/// Empties the tables.
pub(crate) async fn clear(conn: &mut AnyConnection) -> Result<(), DbError> {
    for sql in ["DELETE FROM catalogue", "DELETE FROM catalogue_floor", "DELETE FROM catalogue_scope"] {
        sql::execute(conn, sql, Binds::new(), "emptying the catalogue").await?;
    }
    Ok(())
}

fn hex(hash: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(hash))
}
