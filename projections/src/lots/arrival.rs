//! What became of one lot, till by till and record by record.

use malote_domain::registry::PdvAddress;
use malote_domain::{LotId, StoreId};
use sqlx::AssertSqlSafe;

use super::states::ArrivalState;
use crate::PAGE_MAX;
use crate::db::{Db, DbError};
use crate::sql::{self, Binds, Columns};

/// Which tills to list.
#[derive(Clone, Debug, Default)]
pub struct ArrivalFilter {
    /// Only those of this store.
    pub store: Option<StoreId>,
    /// Only those in this state. [`ArrivalState::Pending`] takes in those that the lot has been released to and
    /// that have not reported, as the totals do.
    pub state: Option<ArrivalState>,
}

/// What became of a lot at one till.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Arrival {
    /// The till's store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// Where the lot is there.
    pub state: ArrivalState,
    /// When it was released to the store, RFC 3339.
    pub released_at: Option<String>,
    /// When the till reported, RFC 3339.
    pub at: Option<String>,
    /// Records upserted.
    pub upserted: u64,
    /// Records deleted.
    pub deleted: u64,
    /// Records set aside.
    pub quarantined: u64,
    /// Why it failed, or what replaces it.
    pub reason: Option<String>,
    /// How often the till has tried.
    pub attempt: u64,
    /// When it tries next, RFC 3339.
    pub next_try_at: Option<String>,
    /// Milliseconds from the notice seen to committed.
    pub took_ms: Option<u64>,
    /// The notice's sequence in the store's stream.
    pub notice: Option<u64>,
}

/// A record of a lot that a till has set aside.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The till's store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// Its place in the till's report.
    pub n: u64,
    /// The record's kind.
    pub kind: String,
    /// The record's key.
    pub key: String,
    /// Why the till set it aside.
    pub reason: String,
}

/// Tills in the order of their names: those of the stores that the lot was released to, those of stores that came
/// later and have reported it, and while it may still be
/// sent those of the stores that are in its scope now.
const ARRIVAL: &str = "SELECT p.store AS store, p.pdv AS pdv, s.released_at AS released_at, \
     COALESCE(a.state, CASE WHEN s.store IS NULL THEN 'pending' ELSE 'released' END) AS state, \
     COALESCE(a.upserted, 0) AS upserted, COALESCE(a.deleted, 0) AS deleted, \
     COALESCE(a.quarantined, 0) AS quarantined, COALESCE(a.attempt, 0) AS attempt, a.reason AS reason, \
     a.next_try_at AS next_try_at, a.at AS at, a.took_ms AS took_ms, a.notice AS notice \
     FROM lot l CROSS JOIN pdv p \
     LEFT JOIN lot_store s ON s.lot = l.lot AND s.store = p.store \
     LEFT JOIN lot_pdv a ON a.lot = l.lot AND a.store = p.store AND a.pdv = p.pdv \
     WHERE l.lot = $1 AND (p.store, p.pdv) > ($2, $3) \
     AND (s.store IS NOT NULL OR a.lot IS NOT NULL OR (l.state IN ('closed', 'releasing') AND (l.scope = 'all' \
     OR l.scope = 'store-' || p.store OR EXISTS (SELECT 1 FROM store_group g \
     WHERE g.store = p.store AND l.scope = 'group-' || g.grp))))";

impl Db {
    /// What became of a lot at each till, by store and till; the next page is after the last one's address.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lot_arrival(
        &self,
        lot: LotId,
        filter: &ArrivalFilter,
        after: Option<&PdvAddress>,
        limit: u32,
    ) -> Result<Vec<Arrival>, DbError> {
        let mut binds = Binds::new();
        binds.text(&lot.to_string());
        binds.text(after.map_or("", |at| at.store.as_str())).text(after.map_or("", |at| at.pdv.as_str()));
        binds.int(i64::from(limit.min(PAGE_MAX)));
        let mut sql = ARRIVAL.to_owned();
        if let Some(store) = &filter.store {
            binds.text(store.as_str());
            sql.push_str(" AND p.store = $5");
        }
        match filter.state {
            None => {}
            Some(ArrivalState::Pending) => sql.push_str(" AND a.state IS NULL"),
            Some(ArrivalState::Released) => sql.push_str(" AND a.state IS NULL AND s.store IS NOT NULL"),
            Some(
                state @ (ArrivalState::Applied
                | ArrivalState::AppliedWithErrors
                | ArrivalState::Failed
                | ArrivalState::Superseded),
            ) => {
                binds.text(state.as_str());
                sql.push_str(if filter.store.is_some() { " AND a.state = $6" } else { " AND a.state = $5" });
            }
        }
        sql.push_str(" ORDER BY p.store, p.pdv LIMIT $4");
        let rows =
            sql::fetch(&mut *self.reader().await?, AssertSqlSafe(sql), binds, "listing what became of a lot")
                .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(Arrival {
                    store: row.text("store")?,
                    pdv: row.text("pdv")?,
                    state: row.parse("state", ArrivalState::parse)?,
                    released_at: row.opt_time("released_at")?,
                    at: row.opt_time("at")?,
                    upserted: row.count("upserted")?,
                    deleted: row.count("deleted")?,
                    quarantined: row.count("quarantined")?,
                    reason: row.opt_text("reason")?,
                    attempt: row.count("attempt")?,
                    next_try_at: row.opt_time("next_try_at")?,
                    took_ms: row.opt_count("took_ms")?,
                    notice: row.opt_count("notice")?,
                })
            })
            .collect()
    }

    /// The records of a lot that tills have set aside, as far as their reports name them; the next page is after
    /// the last one's address and place.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lot_problems(
        &self,
        lot: LotId,
        after: Option<(&PdvAddress, u64)>,
        limit: u32,
    ) -> Result<Vec<Problem>, DbError> {
        let mut binds = Binds::new();
        binds.text(&lot.to_string());
        match after {
            Some((at, n)) => binds.text(at.store.as_str()).text(at.pdv.as_str()).int(sql::position(n)),
            None => binds.text("").text("").int(-1),
        };
        binds.int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT store, pdv, n, kind, rec_key, reason FROM lot_problem \
             WHERE lot = $1 AND (store, pdv, n) > ($2, $3, $4) ORDER BY store, pdv, n LIMIT $5",
            binds,
            "listing quarantined records",
        )
        .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(Problem {
                    store: row.text("store")?,
                    pdv: row.text("pdv")?,
                    n: row.count("n")?,
                    kind: row.text("kind")?,
                    key: row.text("rec_key")?,
                    reason: row.text("reason")?,
                })
            })
            .collect()
    }
}
