//! Who is there: stores, groups, tills, and the members of a scope.

use std::collections::HashMap;

use malote_domain::{Scope, StoreId};
use sqlx::AnyConnection;

use crate::PAGE_MAX;
use crate::db::{Db, DbError};
use crate::sql::{self, Binds, Columns, Rows};

/// A store as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoreView {
    /// Its id.
    pub store: String,
    /// Its name.
    pub name: String,
    /// Its company number, if given.
    pub cnpj: Option<String>,
    /// Its time zone, an IANA name.
    pub zone: String,
    /// When it was registered, RFC 3339.
    pub registered_at: String,
    /// When something of it last changed, RFC 3339.
    pub changed_at: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// Its tills.
    pub pdvs: Vec<PdvView>,
}

/// A till as the registry knows it, with the last that was heard of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PdvView {
    /// Its store.
    pub store: String,
    /// Its own id there.
    pub pdv: String,
    /// When it was registered, RFC 3339.
    pub registered_at: String,
    /// The last notice of its store's stream that it has reported on.
    pub notice: Option<u64>,
    /// When it last reported, RFC 3339.
    pub seen_at: Option<String>,
}

/// A group of stores.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupView {
    /// Its id.
    pub group: String,
    /// Its name.
    pub name: String,
    /// How many stores are in it.
    pub stores: u64,
}

impl Db {
    /// Stores by id, with their groups and tills; the next page follows the last id of this one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stores(&self, after: Option<&StoreId>, limit: u32) -> Result<Vec<StoreView>, DbError> {
        let mut conn = self.reader().await?;
        let mut binds = Binds::new();
        binds.text(after.map_or("", StoreId::as_str)).int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut conn,
            "SELECT store, name, cnpj, zone, registered_at, changed_at FROM store \
             WHERE store > $1 ORDER BY store LIMIT $2",
            binds,
            "listing stores",
        )
        .await?;
        views(&mut conn, &rows).await
    }

    /// One store, with its groups and tills.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn store(&self, store: &StoreId) -> Result<Option<StoreView>, DbError> {
        let mut conn = self.reader().await?;
        let mut binds = Binds::new();
        binds.text(store.as_str());
        let rows = sql::fetch(
            &mut conn,
            "SELECT store, name, cnpj, zone, registered_at, changed_at FROM store WHERE store = $1",
            binds,
            "reading a store",
        )
        .await?;
        Ok(views(&mut conn, &rows).await?.pop())
    }

    /// The ids of all stores, in their order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn all_stores(&self) -> Result<Vec<StoreId>, DbError> {
        Ok(self.members(&Scope::All).await?.into_iter().map(|(store, _)| store).collect())
    }

    /// The stores of a scope as membership is now, each with its time zone, in the order of their ids.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn members(&self, scope: &Scope) -> Result<Vec<(StoreId, String)>, DbError> {
        let mut binds = Binds::new();
        let sql = match scope {
            Scope::All => "SELECT store, zone FROM store ORDER BY store",
            Scope::Group(group) => {
                binds.text(group.as_str());
                "SELECT s.store AS store, s.zone AS zone FROM store_group g JOIN store s ON s.store = g.store \
                 WHERE g.grp = $1 ORDER BY s.store"
            }
            Scope::Store(store) => {
                binds.text(store.as_str());
                "SELECT store, zone FROM store WHERE store = $1"
            }
        };
        let rows = sql::fetch(&mut *self.reader().await?, sql, binds, "reading a scope's stores").await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok((row.parse("store", |text| StoreId::parse(text).ok())?, row.text("zone")?))
            })
            .collect()
    }

    /// Whether a scope names something: a registered store, a named group or one that some store is in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn scope_exists(&self, scope: &Scope) -> Result<bool, DbError> {
        let mut binds = Binds::new();
        let sql = match scope {
            Scope::All => return Ok(true),
            Scope::Group(group) => {
                binds.text(group.as_str());
                "SELECT grp FROM grp WHERE grp = $1 UNION ALL SELECT grp FROM store_group WHERE grp = $1 LIMIT 1"
            }
            Scope::Store(store) => {
                binds.text(store.as_str());
                "SELECT store FROM store WHERE store = $1"
            }
        };
        let rows = sql::fetch(&mut *self.reader().await?, sql, binds, "looking a scope up").await?;
        Ok(!rows.is_empty())
    }

    /// A store's tills, by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pdvs(&self, store: &StoreId) -> Result<Vec<PdvView>, DbError> {
        let rows = PDVS
            .read(&mut *self.reader().await?, &[store], |binds, store| binds.text(store.as_str()))
            .await?;
        rows.iter().map(|row| pdv_view(&Columns(row))).collect()
    }

    /// The groups that have a name, by id; the next page follows the last id of this one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn groups(&self, after: Option<&str>, limit: u32) -> Result<Vec<GroupView>, DbError> {
        let mut binds = Binds::new();
        binds.text(after.unwrap_or("")).int(i64::from(limit.min(PAGE_MAX)));
        let rows = sql::fetch(
            &mut *self.reader().await?,
            "SELECT g.grp AS grp, g.name AS name, \
             (SELECT COUNT(*) FROM store_group s WHERE s.grp = g.grp) AS stores \
             FROM grp g WHERE g.grp > $1 ORDER BY g.grp LIMIT $2",
            binds,
            "listing groups",
        )
        .await?;
        rows.iter()
            .map(|row| {
                let row = Columns(row);
                Ok(GroupView {
                    group: row.text("grp")?,
                    name: row.text("name")?,
                    stores: row.count("stores")?,
                })
            })
            .collect()
    }
}

const PDVS: Rows = Rows {
    before: "SELECT p.store AS store, p.pdv AS pdv, p.registered_at AS registered_at, n.notice AS notice, \
             n.at AS seen_at FROM pdv p LEFT JOIN pdv_seen n ON n.store = p.store AND n.pdv = p.pdv \
             WHERE (p.store) IN (VALUES",
    columns: 1,
    after: ") ORDER BY p.store, p.pdv",
    doing: "reading tills",
};

const GROUPS: Rows = Rows {
    before: "SELECT store, grp FROM store_group WHERE (store) IN (VALUES",
    columns: 1,
    after: ") ORDER BY store, grp",
    doing: "reading groups of stores",
};

fn pdv_view(row: &Columns<'_>) -> Result<PdvView, DbError> {
    Ok(PdvView {
        store: row.text("store")?,
        pdv: row.text("pdv")?,
        registered_at: row.time("registered_at")?,
        notice: row.opt_count("notice")?,
        seen_at: row.opt_time("seen_at")?,
    })
}

/// Stores with their groups and tills: two more questions whatever the number of stores.
async fn views(conn: &mut AnyConnection, rows: &[sqlx::any::AnyRow]) -> Result<Vec<StoreView>, DbError> {
    let mut stores = Vec::with_capacity(rows.len());
    for row in rows {
        let row = Columns(row);
        stores.push(StoreView {
            store: row.text("store")?,
            name: row.text("name")?,
            cnpj: row.opt_text("cnpj")?,
            zone: row.text("zone")?,
            registered_at: row.time("registered_at")?,
            changed_at: row.time("changed_at")?,
            groups: vec![],
            pdvs: vec![],
        });
    }
    let ids: Vec<String> = stores.iter().map(|view| view.store.clone()).collect();
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(at, id)| (id.as_str(), at)).collect();
    for row in GROUPS.read(conn, &ids, |binds, id| binds.text(id)).await? {
        let row = Columns(&row);
        if let Some(at) = places.get(row.text("store")?.as_str()) {
            stores[*at].groups.push(row.text("grp")?);
        }
    }
    for row in PDVS.read(conn, &ids, |binds, id| binds.text(id)).await? {
        let pdv = pdv_view(&Columns(&row))?;
        if let Some(at) = places.get(pdv.store.as_str()) {
            stores[*at].pdvs.push(pdv);
        }
    }
    Ok(stores)
}
