//! Stores, groups and tills: what the stream `REGISTRY` says of them now.

mod queries;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use malote_domain::registry::{GroupEvent, PdvAddress, PdvEvent, StoreDetails, StoreEvent};
use malote_domain::{Fact, GroupId, Recorded, StoreId};
use sqlx::AnyConnection;

pub use queries::{GroupView, PdvView, StoreView};

use crate::db::DbError;
use crate::runner::misplaced;
use crate::sql::{self, Binds, Columns, Rows, position};

pub(crate) const NAME: &str = "registry";
pub(crate) const VERSION: u32 = 1;
pub(crate) const SCHEMA: &str = include_str!("schema.sql");

struct StoreRow {
    details: StoreDetails,
    registered_at: i64,
    changed_at: i64,
    seq: u64,
}

/// The last of each entity in a batch.
pub(crate) struct Fold {
    /// The message that each known store was last changed by: what is delivered again must not set it back.
    known: HashMap<StoreId, u64>,
    stores: BTreeMap<StoreId, StoreRow>,
    groups: BTreeMap<GroupId, (String, u64)>,
    pdvs: BTreeMap<PdvAddress, i64>,
}

impl Fold {
    pub(crate) async fn load(conn: &mut AnyConnection, facts: &[&Recorded<Fact>]) -> Result<Self, DbError> {
        const KNOWN: Rows = Rows {
            before: "SELECT store, seq FROM store WHERE (store) IN (VALUES",
            columns: 1,
            after: ")",
            doing: "reading stores",
        };
        let mut stores: Vec<&StoreId> = facts
            .iter()
            .filter_map(|fact| match &fact.event {
                Fact::Store(store, _) => Some(store),
                Fact::Lot(..) | Fact::Group(..) | Fact::Pdv(..) | Fact::Till(..) => None,
            })
            .collect();
        stores.sort_unstable();
        stores.dedup();
        let rows = KNOWN.read(conn, &stores, |binds, store| binds.text(store.as_str())).await?;
        let mut known = HashMap::new();
        for row in &rows {
            let row = Columns(row);
            known.insert(row.parse("store", |text| StoreId::parse(text).ok())?, row.count("seq")?);
        }
        Ok(Self { known, stores: BTreeMap::new(), groups: BTreeMap::new(), pdvs: BTreeMap::new() })
    }

    pub(crate) fn take(&mut self, fact: &Recorded<Fact>) -> Result<(), String> {
        let at = fact.meta.occurred_at.micros();
        match &fact.event {
            Fact::Store(store, StoreEvent::Registered(details) | StoreEvent::Changed(details)) => {
                if self.known.get(store).is_some_and(|seq| *seq > fact.sequence) {
                    return Ok(());
                }
                let row = self.stores.entry(store.clone()).or_insert_with(|| StoreRow {
                    details: details.clone(),
                    registered_at: at,
                    changed_at: at,
                    seq: fact.sequence,
                });
                row.details = details.clone();
                row.changed_at = at;
                row.seq = fact.sequence;
            }
            Fact::Group(group, GroupEvent::Registered { name }) => {
                self.groups.insert(group.clone(), (name.as_str().to_owned(), fact.sequence));
            }
            Fact::Pdv(address, PdvEvent::Registered) => {
                self.pdvs.entry(address.clone()).or_insert(at);
            }
            Fact::Lot(..) | Fact::Till(..) => return Err(misplaced(&fact.event)),
        }
        Ok(())
    }

    pub(crate) async fn write(self, conn: &mut AnyConnection) -> Result<(), DbError> {
        const STORE: Rows = Rows {
            before: "INSERT INTO store (store, name, cnpj, zone, registered_at, changed_at, seq) VALUES",
            columns: 7,
            after: "ON CONFLICT (store) DO UPDATE SET name = excluded.name, cnpj = excluded.cnpj, \
                    zone = excluded.zone, changed_at = excluded.changed_at, seq = excluded.seq",
            doing: "writing stores",
        };
        const LEAVE: Rows = Rows {
            before: "DELETE FROM store_group WHERE (store) IN (VALUES",
            columns: 1,
            after: ")",
            doing: "writing groups of stores",
        };
        const JOIN: Rows = Rows {
            before: "INSERT INTO store_group (store, grp) VALUES",
            columns: 2,
            after: "",
            doing: "writing groups of stores",
        };
        const GROUP: Rows = Rows {
            before: "INSERT INTO grp (grp, name, seq) VALUES",
            columns: 3,
            after: "ON CONFLICT (grp) DO UPDATE SET name = excluded.name, seq = excluded.seq \
                    WHERE excluded.seq >= grp.seq",
            doing: "writing groups",
        };
        const PDV: Rows = Rows {
            before: "INSERT INTO pdv (store, pdv, registered_at) VALUES",
            columns: 3,
            after: "ON CONFLICT (store, pdv) DO NOTHING",
            doing: "writing tills",
        };
        let stores: Vec<_> = self.stores.into_iter().collect();
        STORE
            .write(conn, &stores, |binds, (store, row)| {
                binds.text(store.as_str()).text(row.details.name.as_str());
                binds.opt_text(row.details.cnpj.as_ref().map(|cnpj| cnpj.as_str())).text(&row.details.zone);
                binds.int(row.registered_at).int(row.changed_at).int(position(row.seq))
            })
            .await?;
        LEAVE.write(conn, &stores, |binds, (store, _)| binds.text(store.as_str())).await?;
        let joins: Vec<_> = stores
            .iter()
            .flat_map(|(store, row)| row.details.groups.iter().map(move |group| (store, group)))
            .collect();
        JOIN.write(conn, &joins, |binds, (store, group)| binds.text(store.as_str()).text(group.as_str()))
            .await?;
        let groups: Vec<_> = self.groups.into_iter().collect();
        GROUP
            .write(conn, &groups, |binds, (group, (name, seq))| {
                binds.text(group.as_str()).text(name).int(position(*seq))
            })
            .await?;
        let pdvs: Vec<_> = self.pdvs.into_iter().collect();
        PDV.write(conn, &pdvs, |binds, (address, at)| {
            binds.text(address.store.as_str()).text(address.pdv.as_str()).int(*at)
        })
        .await?;
        Ok(())
    }
}

/// Empties the tables.
pub(crate) async fn clear(conn: &mut AnyConnection) -> Result<(), DbError> {
    for sql in ["DELETE FROM store", "DELETE FROM store_group", "DELETE FROM grp", "DELETE FROM pdv"] {
        sql::execute(conn, sql, Binds::new(), "emptying the registry").await?;
    }
    Ok(())
}
