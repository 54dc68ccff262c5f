//! Where one record is: what was sent of it, and till by till which of it counts there and whether it has arrived.

use std::collections::{BTreeSet, HashMap};

use malote_domain::registry::PdvAddress;
use malote_domain::{Kind, Scope, StoreId};
use sqlx::{AnyConnection, AssertSqlSafe};

use super::queries::CatalogueRecord;
use crate::PAGE_MAX;
use crate::db::{Db, DbError};
use crate::lots::ArrivalState;
use crate::sql::{self, Binds, Columns, Rows, tuple};

/// One record, everywhere.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Trace {
    /// What was last sent of it to each scope that these tills are in.
    pub sent: Vec<Sent>,
    /// Where it is at each till.
    pub places: Vec<Place>,
}

/// What was last sent of a record to a scope.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// The record.
    #[serde(flatten)]
    pub record: CatalogueRecord,
    /// When its lot was released, RFC 3339.
    pub released_at: Option<String>,
}

/// A record at one till.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Place {
    /// The till's store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// The scope whose record counts there.
    pub scope: Option<String>,
    /// The lot that holds it.
    pub lot: Option<String>,
    /// That lot's version.
    pub version: Option<u64>,
    /// Whether it has arrived.
    pub state: PlaceState,
    /// Why not, or why in this way.
    pub reason: Option<String>,
    /// Scopes that also hold the record and do not count there, a narrower or newer one covering them.
    pub covered: Vec<String>,
}

/// Whether a record has arrived at a till.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    /// No scope that the store is in was ever sent it.
    NotInScope,
    /// It was deleted from every scope that the store is in, and the till has done so or has yet to.
    Deleted,
    /// Its lot has not been released to the store.
    NotReleased,
    /// Its lot has been released to the store, and the till has not reported.
    Pending,
    /// It is there.
    Applied,
    /// The till set this record aside.
    Quarantined,
    /// The till could not apply its lot yet.
    Failed,
    /// The till did not need its lot: a later one replaces it.
    Superseded,
}

struct Till {
    store: String,
    pdv: String,
}

/// What is known of a lot at a till.
struct Arrived {
    state: ArrivalState,
    reason: Option<String>,
    quarantined: u64,
    named: u64,
}

/// All that a page of tills needs to know, each read by one question.
struct Known {
    groups: HashMap<String, Vec<String>>,
    sent: HashMap<String, Sent>,
    released: HashMap<(String, String), u64>,
    arrived: HashMap<(String, String, String), Arrived>,
    problems: HashMap<(String, String, String), String>,
}

impl Db {
    /// Where a record is, till by till in the order of their names, of one store or of all; the next page is after
    /// the last one's address.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn trace(
        &self,
        kind: &Kind,
        key: &str,
        store: Option<&StoreId>,
        after: Option<&PdvAddress>,
        limit: u32,
    ) -> Result<Trace, DbError> {
        let mut conn = self.reader().await?;
        let tills = tills(&mut conn, store, after, limit).await?;
        let stores: BTreeSet<&str> = tills.iter().map(|till| till.store.as_str()).collect();
        let stores: Vec<&str> = stores.into_iter().collect();
        let groups = groups(&mut conn, &stores).await?;
        let sent = sent(&mut conn, kind, key, &stores, &groups).await?;
        let mut known = Known {
            groups,
            sent,
            released: HashMap::new(),
            arrived: HashMap::new(),
            problems: HashMap::new(),
        };
        known.load(&mut conn, kind, key, &stores, &tills).await?;
        let places = tills.iter().map(|till| known.place(till)).collect();
        let mut sent: Vec<Sent> = known.sent.into_values().collect();
        sent.sort_by(|a, b| a.record.scope.cmp(&b.record.scope));
        Ok(Trace { sent, places })
    }
}

async fn tills(
    conn: &mut AnyConnection,
    store: Option<&StoreId>,
    after: Option<&PdvAddress>,
    limit: u32,
) -> Result<Vec<Till>, DbError> {
    let mut binds = Binds::new();
    binds.text(after.map_or("", |at| at.store.as_str())).text(after.map_or("", |at| at.pdv.as_str()));
    binds.int(i64::from(limit.min(PAGE_MAX)));
    let sql = if let Some(store) = store {
        binds.text(store.as_str());
        "SELECT store, pdv FROM pdv WHERE (store, pdv) > ($1, $2) AND store = $4 ORDER BY store, pdv LIMIT $3"
    } else {
        "SELECT store, pdv FROM pdv WHERE (store, pdv) > ($1, $2) ORDER BY store, pdv LIMIT $3"
    };
    let rows = sql::fetch(conn, sql, binds, "listing tills").await?;
    rows.iter()
        .map(|row| Ok(Till { store: Columns(row).text("store")?, pdv: Columns(row).text("pdv")? }))
        .collect()
}

async fn groups(conn: &mut AnyConnection, stores: &[&str]) -> Result<HashMap<String, Vec<String>>, DbError> {
    const GROUPS: Rows = Rows {
        before: "SELECT store, grp FROM store_group WHERE (store) IN (VALUES",
        columns: 1,
        after: ") ORDER BY store, grp",
        doing: "reading groups of stores",
    };
    let mut groups: HashMap<String, Vec<String>> = HashMap::new();
    for row in GROUPS.read(conn, stores, |binds, store| binds.text(store)).await? {
        let row = Columns(&row);
        groups.entry(row.text("store")?).or_default().push(row.text("grp")?);
    }
    Ok(groups)
}

/// The record in each scope that these stores are in.
async fn sent(
    conn: &mut AnyConnection,
    kind: &Kind,
    key: &str,
    stores: &[&str],
    groups: &HashMap<String, Vec<String>>,
) -> Result<HashMap<String, Sent>, DbError> {
    const SCOPES: usize = 500;
    let mut scopes = BTreeSet::from([Scope::All.to_string()]);
    scopes.extend(stores.iter().map(|store| format!("store-{store}")));
    scopes.extend(groups.values().flatten().map(|group| format!("group-{group}")));
    let scopes: Vec<String> = scopes.into_iter().collect();
    let mut sent = HashMap::new();
    for scopes in scopes.chunks(SCOPES) {
        let mut binds = Binds::new();
        binds.text(kind.as_str()).text(key);
        for scope in scopes {
            binds.text(scope);
        }
        let sql = format!(
            "SELECT c.scope AS scope, c.kind AS kind, c.rec_key AS rec_key, c.version AS version, c.lot AS lot, \
             c.deleted AS deleted, c.body AS body, l.released_at AS released_at \
             FROM catalogue c LEFT JOIN lot l ON l.lot = c.lot \
             WHERE c.kind = $1 AND c.rec_key = $2 AND c.scope IN {}",
            tuple(3, scopes.len())
        );
        for row in sql::fetch(conn, AssertSqlSafe(sql), binds, "tracing a record").await? {
            let row = Columns(&row);
            let record = CatalogueRecord::read(&row)?;
            sent.insert(record.scope.clone(), Sent { record, released_at: row.opt_time("released_at")? });
        }
    }
    Ok(sent)
}

impl Known {
    /// Reads how far the lots of all these records have come at these tills.
    async fn load(
        &mut self,
        conn: &mut AnyConnection,
        kind: &Kind,
        key: &str,
        stores: &[&str],
        tills: &[Till],
    ) -> Result<(), DbError> {
        const RELEASED: Rows = Rows {
            before: "SELECT lot, store, version FROM lot_store WHERE (lot, store) IN (VALUES",
            columns: 2,
            after: ")",
            doing: "tracing releases",
        };
        const ARRIVED: Rows = Rows {
            before: "SELECT lot, store, pdv, state, reason, quarantined, (SELECT COUNT(*) FROM lot_problem q \
                     WHERE q.lot = lot_pdv.lot AND q.store = lot_pdv.store AND q.pdv = lot_pdv.pdv) AS named \
                     FROM lot_pdv WHERE (lot, store, pdv) IN (VALUES",
            columns: 3,
            after: ")",
            doing: "tracing outcomes",
        };
        const PROBLEM: Rows = Rows {
            before: "SELECT lot, store, pdv, kind, rec_key, reason FROM lot_problem \
                     WHERE (lot, store, pdv, kind, rec_key) IN (VALUES",
            columns: 5,
            after: ")",
            doing: "tracing quarantined records",
        };
        // Only the lot that counts in a store is asked for, so a page of tills asks for as many rows as it has.
        let counts: HashMap<&str, String> = stores
            .iter()
            .filter_map(|store| {
                let (effective, _) = self.effective(store);
                effective.map(|sent| (*store, sent.record.lot.clone()))
            })
            .collect();
        let pairs: Vec<(&str, &str)> = counts.iter().map(|(store, lot)| (lot.as_str(), *store)).collect();
        for row in RELEASED.read(conn, &pairs, |binds, (lot, store)| binds.text(lot).text(store)).await? {
            let row = Columns(&row);
            self.released.insert((row.text("lot")?, row.text("store")?), row.count("version")?);
        }
        let triples: Vec<(&str, &str, &str)> = tills
            .iter()
            .filter_map(|till| {
                let lot = counts.get(till.store.as_str())?;
                Some((lot.as_str(), till.store.as_str(), till.pdv.as_str()))
            })
            .collect();
        let rows = ARRIVED
            .read(conn, &triples, |binds, (lot, store, pdv)| binds.text(lot).text(store).text(pdv))
            .await?;
        for row in &rows {
            let row = Columns(row);
            let arrived = Arrived {
                state: row.parse("state", ArrivalState::parse)?,
                reason: row.opt_text("reason")?,
                quarantined: row.count("quarantined")?,
                named: row.count("named")?,
            };
            self.arrived.insert((row.text("lot")?, row.text("store")?, row.text("pdv")?), arrived);
        }
        let rows = PROBLEM
            .read(conn, &triples, |binds, (lot, store, pdv)| {
                binds.text(lot).text(store).text(pdv).text(kind.as_str()).text(key)
            })
            .await?;
        for row in &rows {
            let row = Columns(row);
            let at = (row.text("lot")?, row.text("store")?, row.text("pdv")?);
            self.problems.insert(at, row.text("reason")?);
        }
        Ok(())
    }

    /// What counts in a store, and the scopes that it covers. A store's own record covers those of its groups, and
    /// theirs everybody's; between groups the later one counts. A deleted record covers nothing; where all are
    /// deleted, the one that would count is told.
    fn effective(&self, store: &str) -> (Option<&Sent>, Vec<String>) {
        let all = self.sent.get("all").map(|sent| (0, sent));
        let groups = self.groups.get(store).map_or(&[][..], Vec::as_slice);
        let grouped = groups.iter().filter_map(|group| self.sent.get(&format!("group-{group}")));
        let own = self.sent.get(&format!("store-{store}")).map(|sent| (2, sent));
        let mut ranked: Vec<(bool, u8, u64, &Sent)> = all
            .into_iter()
            .chain(grouped.map(|sent| (1, sent)))
            .chain(own)
            .map(|(rank, sent)| (!sent.record.deleted, rank, sent.record.version, sent))
            .collect();
        ranked.sort_by_key(|(live, rank, version, _)| (*live, *rank, *version));
        let effective = ranked.pop().map(|(.., sent)| sent);
        let covered = ranked
            .iter()
            .rev()
            .filter(|(live, ..)| *live)
            .map(|(.., sent)| sent.record.scope.clone())
            .collect();
        (effective, covered)
    }

    fn place(&self, till: &Till) -> Place {
        let (effective, covered) = self.effective(&till.store);
        let (state, reason) = match effective {
            None => {
                (PlaceState::NotInScope, Some("nothing was sent to a scope that the store is in".to_owned()))
            }
            Some(sent) => self.arrival(till, sent),
        };
        let record = effective.map(|sent| &sent.record);
        Place {
            store: till.store.clone(),
            pdv: till.pdv.clone(),
            scope: record.map(|record| record.scope.clone()),
            lot: record.map(|record| record.lot.clone()),
            version: record.map(|record| record.version),
            state,
            reason,
            covered,
        }
    }

    fn arrival(&self, till: &Till, sent: &Sent) -> (PlaceState, Option<String>) {
        let lot = &sent.record.lot;
        let at = (lot.clone(), till.store.clone(), till.pdv.clone());
        let reason = |text: &str| Some(text.to_owned());
        let Some(arrived) = self.arrived.get(&at) else {
            return if self.released.contains_key(&(lot.clone(), till.store.clone())) {
                (PlaceState::Pending, reason("the till has not reported on the lot"))
            } else {
                (PlaceState::NotReleased, reason("the lot has not been released to this store"))
            };
        };
        let there = if sent.record.deleted { PlaceState::Deleted } else { PlaceState::Applied };
        match arrived.state {
            ArrivalState::Applied => (there, None),
            ArrivalState::AppliedWithErrors => match self.problems.get(&at) {
                Some(why) => (PlaceState::Quarantined, Some(why.clone())),
                None if arrived.quarantined > arrived.named => (
                    there,
                    Some(format!(
                        "the till set {} records aside and named {} of them; this may be one of the others",
                        arrived.quarantined, arrived.named
                    )),
                ),
                None => (there, None),
            },
            ArrivalState::Failed => (PlaceState::Failed, arrived.reason.clone()),
            ArrivalState::Superseded => (PlaceState::Superseded, arrived.reason.clone()),
            ArrivalState::Pending | ArrivalState::Released => (PlaceState::Pending, None),
        }
    }
}
