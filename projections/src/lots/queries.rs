//! Lots in lists and one by one, with the sum of what became of them; releases, for the distributor.

use std::collections::{BTreeMap, HashMap};

use malote_domain::{LotId, Scope, StoreId};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

use super::states::{ArrivalState, LotState};
use super::{LOTS, NAME};
use crate::PAGE_MAX;
use crate::db::{Db, DbError};
use crate::sql::{self, Binds, Columns, Rows, position, tuple};

/// Which lots to list.
#[derive(Clone, Debug, Default)]
pub struct LotFilter {
    /// Only those in this state.
    pub state: Option<LotState>,
    /// Only those for this scope.
    pub scope: Option<Scope>,
}

/// A lot and the sum of what became of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LotView {
    /// Its id.
    pub lot: String,
    /// Whom it is for.
    pub scope: String,
    /// `delta` or `full`.
    pub mode: String,
    /// One bad record aborts all of it.
    pub strict: bool,
    /// Where it is in its life.
    pub state: LotState,
    /// When it was opened, RFC 3339.
    pub opened_at: String,
    /// Who opened it.
    pub opened_by: String,
    /// When it was closed.
    pub closed_at: Option<String>,
    /// When its first wave went out.
    pub released_at: Option<String>,
    /// When it becomes active: an instant, or an hour of each store's own clock.
    pub activate_at: Option<String>,
    /// Seconds without a sign of its sender after which it is aborted.
    pub lease_seconds: u64,
    /// Chunks, once closed.
    pub chunks: u64,
    /// Records of all kinds, once closed.
    pub records: u64,
    /// Bytes of all chunks, once closed.
    pub bytes: u64,
    /// Digest over the list of chunk digests, once closed.
    pub digest: Option<String>,
    /// Why it was aborted or recalled.
    pub reason: Option<String>,
    /// For a snapshot: the release whose state it repeats.
    pub as_of: Option<u64>,
    /// The sequence of its first release: the later release wins.
    pub version: Option<u64>,
    /// Ties together everything that came of the request that opened it.
    pub correlation: String,
    /// The sequence of its opening: what `before` takes for the next page.
    pub opened_seq: u64,
    /// The kinds that it declared, with their records once closed.
    pub kinds: BTreeMap<String, u64>,
    /// What became of it.
    pub totals: Totals,
}

/// How many stores and tills a lot is for, and what became of it there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Totals {
    /// Stores that it has been released to.
    pub stores: u64,
    /// Tills that it is for, those of stores that it has yet to be released to included.
    pub pdvs: u64,
    /// Tills that have all of it.
    pub applied: u64,
    /// Tills that have it but for some records.
    pub applied_with_errors: u64,
    /// Tills that could not apply it yet.
    pub failed: u64,
    /// Tills that did not need it.
    pub superseded: u64,
    /// Tills that have not reported, whether it has been released to them or not.
    pub pending: u64,
}

/// A lot that takes records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OpenLot {
    /// Its id.
    pub lot: String,
    /// Whom it is for.
    pub scope: String,
    /// When it was opened, RFC 3339.
    pub opened_at: String,
    /// Who opened it.
    pub opened_by: String,
    /// Seconds without a sign of its sender after which it is aborted.
    pub lease_seconds: u64,
}

/// The lots that take records.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct OpenLots {
    /// How many there are.
    pub count: u64,
    /// The oldest of them, oldest first.
    pub lots: Vec<OpenLot>,
}

/// A lot that has been released to all its stores, as a new store needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReleasedLot {
    /// Its id.
    pub lot: String,
    /// The sequence of its first release.
    pub version: u64,
    /// Whom it is for.
    pub scope: String,
    /// `delta` or `full`.
    pub mode: String,
    /// Its kinds, with their records.
    pub kinds: BTreeMap<String, u64>,
    /// When it becomes active.
    pub activate_at: Option<String>,
    /// For a snapshot: the release whose state it repeats.
    pub as_of: Option<u64>,
    /// Chunks.
    pub chunks: u64,
    /// Records of all kinds.
    pub records: u64,
    /// Bytes of all chunks.
    pub bytes: u64,
    /// Digest over the list of chunk digests.
    pub digest: Option<String>,
    /// Ties together everything that came of the request that opened it.
    pub correlation: String,
}

/// A store that a lot has been released to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReleasedStore {
    /// The store.
    pub store: String,
    /// The sequence of the release that named it.
    pub version: u64,
    /// When that was, RFC 3339.
    pub released_at: String,
}

impl Db {
    /// Lots, newest first; the next page is before the last one's `opened_seq`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lots(
        &self,
        filter: &LotFilter,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<LotView>, DbError> {
        let mut binds = Binds::new();
        binds.int(before.map_or(i64::MAX, position)).int(i64::from(limit.min(PAGE_MAX)));
        let mut filters = String::new();
        if let Some(state) = filter.state {
            binds.text(state.as_str());
            filters.push_str(" AND state = $3");
        }
        if let Some(scope) = &filter.scope {
            binds.text(&scope.to_string());
            filters.push_str(if filter.state.is_some() { " AND scope = $4" } else { " AND scope = $3" });
        }
        let sql =
            format!("SELECT * FROM lot WHERE opened_seq < $1{filters} ORDER BY opened_seq DESC LIMIT $2");
        let mut conn = self.reader().await?;
        let rows = sql::fetch(&mut conn, AssertSqlSafe(sql), binds, "listing lots").await?;
        views(&mut conn, &rows).await
    }

    /// One lot.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lot(&self, lot: LotId) -> Result<Option<LotView>, DbError> {
        let mut conn = self.reader().await?;
        let mut binds = Binds::new();
        binds.text(&lot.to_string());
        let rows = sql::fetch(&mut conn, "SELECT * FROM lot WHERE lot = $1", binds, "reading a lot").await?;
        Ok(views(&mut conn, &rows).await?.pop())
    }

    /// The lots that take records: how many, and the oldest of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_lots(&self, limit: u32) -> Result<OpenLots, DbError> {
        let mut conn = self.reader().await?;
        let sql = "SELECT COUNT(*) AS n FROM lot WHERE state = 'open'";
        let rows = sql::fetch(&mut conn, sql, Binds::new(), "counting open lots").await?;
        let count = rows.first().map_or(Ok(0), |row| Columns(row).count("n"))?;
        let mut binds = Binds::new();
        binds.int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut conn,
            "SELECT lot, scope, opened_at, opened_by, lease_seconds FROM lot WHERE state = 'open' \
             ORDER BY opened_seq LIMIT $1",
            binds,
            "listing open lots",
        )
        .await?;
        let mut lots = Vec::with_capacity(rows.len());
        for row in &rows {
            let row = Columns(row);
            lots.push(OpenLot {
                lot: row.text("lot")?,
                scope: row.text("scope")?,
                opened_at: row.time("opened_at")?,
                opened_by: row.text("opened_by")?,
                lease_seconds: row.count("lease_seconds")?,
            });
        }
        Ok(OpenLots { count, lots })
    }

    /// The lots released to any of these scopes, by version: what a new store's stream begins with. A lot whose
    /// waves still go out is not among them, for its next wave resolves membership anew. The next page is after
    /// the last one's version.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn released_for(
        &self,
        scopes: &[Scope],
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<ReleasedLot>, DbError> {
        if scopes.is_empty() {
            return Ok(vec![]);
        }
        let mut binds = Binds::new();
        binds.int(after.map_or(0, position)).int(i64::from(limit.min(PAGE_MAX)));
        for scope in scopes {
            binds.text(&scope.to_string());
        }
        let sql = format!(
            "SELECT * FROM lot WHERE version > $1 AND state = 'released' AND scope IN {} \
             ORDER BY version LIMIT $2",
            tuple(3, scopes.len())
        );
        let mut conn = self.reader().await?;
        let rows = sql::fetch(&mut conn, AssertSqlSafe(sql), binds, "listing released lots").await?;
        let mut kinds = kinds(&mut conn, &ids(&rows)?).await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                let lot = row.text("lot")?;
                Ok(ReleasedLot {
                    version: row.count("version")?,
                    scope: row.text("scope")?,
                    mode: row.text("mode")?,
                    kinds: kinds.remove(&lot).unwrap_or_default(),
                    activate_at: row.opt_text("activate_at")?,
                    as_of: row.opt_count("as_of")?,
                    chunks: row.count("chunks")?,
                    records: row.count("records")?,
                    bytes: row.count("bytes")?,
                    digest: row.opt_text("digest")?,
                    correlation: row.text("correlation")?,
                    lot,
                })
            })
            .collect()
    }

    /// The stores that a lot has been released to, by id, each with the release that named it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn current_releases(
        &self,
        lot: LotId,
        after: Option<&StoreId>,
        limit: u32,
    ) -> Result<Vec<ReleasedStore>, DbError> {
        let mut binds = Binds::new();
        binds.text(&lot.to_string()).text(after.map_or("", StoreId::as_str));
        binds.int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT store, version, released_at FROM lot_store WHERE lot = $1 AND store > $2 \
             ORDER BY store LIMIT $3",
            binds,
            "listing a lot's stores",
        )
        .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(ReleasedStore {
                    store: row.text("store")?,
                    version: row.count("version")?,
                    released_at: row.time("released_at")?,
                })
            })
            .collect()
    }

    /// The last message of `LOTS` that the lots projection has taken in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_lots_sequence(&self) -> Result<Option<u64>, DbError> {
        let mut binds = Binds::new();
        binds.text(NAME).text(LOTS);
        let sql = "SELECT sequence FROM checkpoint WHERE projection = $1 AND stream = $2";
        let rows = sql::fetch(&mut *self.reader().await?, sql, binds, "reading a checkpoint").await?;
        rows.first().map(|row| Columns(row).count("sequence")).transpose()
    }
}

fn ids(rows: &[AnyRow]) -> Result<Vec<String>, DbError> {
    rows.iter().map(|row| Columns(row).text("lot")).collect()
}

/// The kinds of many lots.
async fn kinds(
    conn: &mut AnyConnection,
    lots: &[String],
) -> Result<HashMap<String, BTreeMap<String, u64>>, DbError> {
    const KINDS: Rows = Rows {
        before: "SELECT lot, kind, records FROM lot_kind WHERE (lot) IN (VALUES",
        columns: 1,
        after: ")",
        doing: "reading the kinds of lots",
    };
    let mut kinds: HashMap<String, BTreeMap<String, u64>> = HashMap::new();
    for row in KINDS.read(conn, lots, |binds, lot| binds.text(lot)).await? {
        let row = Columns(&row);
        kinds.entry(row.text("lot")?).or_default().insert(row.text("kind")?, row.count("records")?);
    }
    Ok(kinds)
}

/// Lots with their kinds and totals: four more questions whatever the number of lots.
async fn views(conn: &mut AnyConnection, rows: &[AnyRow]) -> Result<Vec<LotView>, DbError> {
    let lots = ids(rows)?;
    let mut kinds = kinds(conn, &lots).await?;
    let mut totals = totals(conn, &lots).await?;
    rows.iter()
        .map(|row| {
            let row = Columns(row);
            let lot = row.text("lot")?;
            let mut totals = totals.remove(&lot).unwrap_or_default();
            totals.stores += row.count("stores")?;
            Ok(LotView {
                scope: row.text("scope")?,
                mode: row.text("mode")?,
                strict: row.flag("strict")?,
                state: row.parse("state", LotState::parse)?,
                opened_at: row.time("opened_at")?,
                opened_by: row.text("opened_by")?,
                closed_at: row.opt_time("closed_at")?,
                released_at: row.opt_time("released_at")?,
                activate_at: row.opt_text("activate_at")?,
                lease_seconds: row.count("lease_seconds")?,
                chunks: row.count("chunks")?,
                records: row.count("records")?,
                bytes: row.count("bytes")?,
                digest: row.opt_text("digest")?,
                reason: row.opt_text("reason")?,
                as_of: row.opt_count("as_of")?,
                version: row.opt_count("version")?,
                correlation: row.text("correlation")?,
                opened_seq: row.count("opened_seq")?,
                kinds: kinds.remove(&lot).unwrap_or_default(),
                totals,
                lot,
            })
        })
        .collect()
}

/// What became of many lots.
async fn totals(conn: &mut AnyConnection, lots: &[String]) -> Result<HashMap<String, Totals>, DbError> {
    const REPORTED: Rows = Rows {
        before: "SELECT lot, state, pdvs FROM lot_total WHERE (lot) IN (VALUES",
        columns: 1,
        after: ")",
        doing: "summing outcomes",
    };
    const RELEASED: Rows = Rows {
        before: "SELECT s.lot AS lot, CAST(SUM(c.n) AS BIGINT) AS pdvs FROM lot_store s \
                 JOIN (SELECT store, COUNT(*) AS n FROM pdv GROUP BY store) c ON c.store = s.store \
                 WHERE (s.lot) IN (VALUES",
        columns: 1,
        after: ") GROUP BY s.lot",
        doing: "counting the tills of lots",
    };
    // Stores that are in the scope now and have not been sent the lot; only lots that may still be sent count.
    const AHEAD: Rows = Rows {
        before: "SELECT l.lot AS lot, CAST(SUM(c.n) AS BIGINT) AS pdvs FROM lot l \
                 JOIN (SELECT store, COUNT(*) AS n FROM pdv GROUP BY store) c \
                 ON l.scope = 'all' OR l.scope = 'store-' || c.store OR EXISTS (SELECT 1 FROM store_group g \
                 WHERE g.store = c.store AND l.scope = 'group-' || g.grp) \
                 WHERE l.state IN ('closed', 'releasing') AND NOT EXISTS (SELECT 1 FROM lot_store s \
                 WHERE s.lot = l.lot AND s.store = c.store) AND (l.lot) IN (VALUES",
        columns: 1,
        after: ") GROUP BY l.lot",
        doing: "counting the tills that lots are for",
    };
    // Tills of stores that came later and were given the lot then: they count from their first report on.
    const LATE: Rows = Rows {
        before: "SELECT a.lot AS lot, COUNT(*) AS pdvs, COUNT(DISTINCT a.store) AS stores FROM lot_pdv a \
                 WHERE NOT EXISTS (SELECT 1 FROM lot_store s WHERE s.lot = a.lot AND s.store = a.store) \
                 AND (a.lot) IN (VALUES",
        columns: 1,
        after: ") GROUP BY a.lot",
        doing: "counting the tills that came later",
    };
    let mut totals: HashMap<String, Totals> = HashMap::new();
    for row in REPORTED.read(conn, lots, |binds, lot| binds.text(lot)).await? {
        let row = Columns(&row);
        let total = totals.entry(row.text("lot")?).or_default();
        let pdvs = row.count("pdvs")?;
        match row.parse("state", ArrivalState::parse)? {
            ArrivalState::Applied => total.applied = pdvs,
            ArrivalState::AppliedWithErrors => total.applied_with_errors = pdvs,
            ArrivalState::Failed => total.failed = pdvs,
            ArrivalState::Superseded => total.superseded = pdvs,
            ArrivalState::Pending | ArrivalState::Released => {}
        }
    }
    for question in [RELEASED, AHEAD] {
        for row in question.read(conn, lots, |binds, lot| binds.text(lot)).await? {
            let row = Columns(&row);
            totals.entry(row.text("lot")?).or_default().pdvs += row.count("pdvs")?;
        }
    }
    for row in LATE.read(conn, lots, |binds, lot| binds.text(lot)).await? {
        let row = Columns(&row);
        let total = totals.entry(row.text("lot")?).or_default();
        total.pdvs += row.count("pdvs")?;
        total.stores += row.count("stores")?;
    }
    for total in totals.values_mut() {
        let reported = total.applied + total.applied_with_errors + total.failed + total.superseded;
        total.pending = total.pdvs.saturating_sub(reported);
    }
    Ok(totals)
}
