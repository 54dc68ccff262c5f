//! The places of policies, kept beside those of projections, and what a policy looks at when it starts.
//!
//! A policy's place is saved after what it does, never with it: what it does is outside the database and harmless
//! the second time. So there is no compare-and-set here: two hubs that share the tables only repeat one another.

use std::collections::BTreeSet;

use malote_domain::{Cursor, Digest, Kind, LotId, Scope, StoreId};

use crate::db::{Db, DbError, failed};
use crate::sql::{self, Binds, Columns, position};

fn name(policy: &str) -> String {
    format!("policy:{policy}")
}

impl Db {
    /// A policy's place in a stream; none before its first message.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn policy_cursor(&self, policy: &str, stream: &str) -> Result<Option<Cursor>, DbError> {
        let mut binds = Binds::new();
        binds.text(&name(policy)).text(stream);
        let sql = "SELECT sequence, hash FROM checkpoint WHERE projection = $1 AND stream = $2";
        let rows = sql::fetch(&mut *self.reader().await?, sql, binds, "reading a policy's place").await?;
        rows.first()
            .map(|row| {
                let row = Columns(row);
                Ok(Cursor { sequence: row.count("sequence")?, hash: row.parse("hash", Digest::parse)? })
            })
            .transpose()
    }

    /// Saves a policy's place in a stream; none to begin anew.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_policy_cursor(
        &self,
        policy: &str,
        stream: &str,
        to: Option<Cursor>,
    ) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let mut binds = Binds::new();
        binds.text(&name(policy)).text(stream);
        let Some(to) = to else {
            let sql = "DELETE FROM checkpoint WHERE projection = $1 AND stream = $2";
            sql::execute(&mut tx, sql, binds, "forgetting a policy's place").await?;
            return tx.commit().await.map_err(failed("forgetting a policy's place"));
        };
        binds.int(position(to.sequence)).text(&to.hash.to_string());
        let sql = "INSERT INTO checkpoint (projection, stream, sequence, hash) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (projection, stream) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash";
        sql::execute(&mut tx, sql, binds, "saving a policy's place").await?;
        tx.commit().await.map_err(failed("saving a policy's place"))
    }

    /// Forgets the places of all policies in a stream that lost its tail: they do again what they did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_policy_cursors(&self, stream: &str) -> Result<(), DbError> {
        let mut tx = self.begin().await?;
        let mut binds = Binds::new();
        binds.text(stream);
        let sql = "DELETE FROM checkpoint WHERE projection LIKE 'policy:%' AND stream = $1";
        sql::execute(&mut tx, sql, binds, "forgetting the places of policies").await?;
        tx.commit().await.map_err(failed("forgetting the places of policies"))
    }

    /// Stores that have a till, and so a stream of their own.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stores_with_pdvs(&self) -> Result<Vec<StoreId>, DbError> {
        let sql = "SELECT DISTINCT store FROM pdv ORDER BY store";
        let rows =
            sql::fetch(&mut *self.reader().await?, sql, Binds::new(), "listing stores with tills").await?;
        rows.iter().map(|row| Columns(row).parse("store", |text| StoreId::parse(text).ok())).collect()
    }

    /// Lots that are open or not released to everybody yet: the number is bounded by how many may be open.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unfinished_lots(&self) -> Result<Vec<LotId>, DbError> {
        let sql = "SELECT lot FROM lot WHERE state IN ('open', 'closed', 'releasing') ORDER BY opened_seq";
        let rows =
            sql::fetch(&mut *self.reader().await?, sql, Binds::new(), "listing unfinished lots").await?;
        rows.iter().map(|row| Columns(row).parse("lot", |text| LotId::parse(text).ok())).collect()
    }

    /// The kinds of which a scope holds records.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn catalogue_kinds(&self, scope: &Scope) -> Result<BTreeSet<Kind>, DbError> {
        // One look-up per kind instead of a walk over all records: each step asks for the next kind only.
        let sql =
            "SELECT kind FROM catalogue WHERE scope = $1 AND kind > $2 AND deleted = 0 ORDER BY kind LIMIT 1";
        let mut conn = self.reader().await?;
        let mut kinds = BTreeSet::new();
        let mut after = String::new();
        loop {
            let mut binds = Binds::new();
            binds.text(&scope.to_string()).text(&after);
            let rows = sql::fetch(&mut conn, sql, binds, "listing the kinds of a scope").await?;
            let Some(row) = rows.first() else { return Ok(kinds) };
            let kind: Kind = Columns(row).parse("kind", |text| Kind::parse(text).ok())?;
            kind.as_str().clone_into(&mut after);
            kinds.insert(kind);
        }
    }
}
