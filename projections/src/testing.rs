//! Databases, facts made by hand, and tables as text, for tests.

use std::collections::BTreeSet;

use malote_domain::lots::{Event as LotEvent, Manifest, Mode, Terms};
use malote_domain::pdvs::{Event as TillEvent, Quarantined};
use malote_domain::registry::{GroupEvent, Name, PdvAddress, PdvEvent, StoreDetails, StoreEvent};
use malote_domain::{
    Actor, CommandId, Ctx, Cursor, Digest, Fact, GroupId, Kind, LotId, PdvId, Read, Recorded, Scope, StoreId,
    Timestamp,
};
use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Execute, Row};

use crate::Projection;
use crate::db::Db;
use crate::runner::{Applied, ApplyError};

/// A database in a directory that goes away with it.
pub(crate) struct Temp {
    pub(crate) db: Db,
    pub(crate) url: String,
    _dir: tempfile::TempDir,
}

impl std::ops::Deref for Temp {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}

pub(crate) async fn temp() -> Temp {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("malote.db").display());
    Temp { db: Db::open(&url).await.unwrap(), url, _dir: dir }
}

pub(crate) fn place(sequence: u64) -> Cursor {
    Cursor { sequence, hash: Digest::of(&sequence.to_le_bytes()) }
}

/// A fact at a place; it happened at second `sequence`.
pub(crate) fn fact(sequence: u64, event: Fact) -> Read {
    let now = Timestamp::from_micros(0).plus_seconds(i64::try_from(sequence).unwrap());
    let command = CommandId::from_key(&format!("command {sequence}")).unwrap();
    let meta = Ctx::new(now, Actor::new("back office"), command).meta(0);
    Read::Fact(Box::new(Recorded { sequence, hash: place(sequence).hash, meta, event }))
}

pub(crate) fn unreadable(sequence: u64, subject: &str) -> Read {
    Read::Unreadable { cursor: place(sequence), subject: subject.into(), reason: "not protobuf".into() }
}

/// Facts one after another from sequence 1 on.
pub(crate) fn history(facts: impl IntoIterator<Item = Fact>) -> Vec<Read> {
    (1..).zip(facts).map(|(sequence, event)| fact(sequence, event)).collect()
}

/// Applies a batch at the projection's own place.
pub(crate) async fn feed(
    db: &Db,
    projection: Projection,
    stream: &str,
    batch: &[Read],
) -> Result<Applied, ApplyError> {
    let cursor = db.cursor(projection, stream).await?;
    db.apply(projection, stream, cursor, batch).await
}

pub(crate) fn kind(text: &str) -> Kind {
    Kind::parse(text).unwrap()
}

pub(crate) fn store_id(text: &str) -> StoreId {
    StoreId::parse(text).unwrap()
}

pub(crate) fn lot_id(n: u64) -> LotId {
    CommandId::from_key(&format!("lot {n}")).unwrap().lot()
}

pub(crate) fn till(store: &str, pdv: &str) -> PdvAddress {
    PdvAddress { store: store_id(store), pdv: PdvId::parse(pdv).unwrap() }
}

pub(crate) fn details(name: &str, groups: &[&str]) -> StoreDetails {
    StoreDetails {
        name: Name::parse(name).unwrap(),
        cnpj: None,
        zone: "America/Sao_Paulo".into(),
        groups: groups.iter().map(|group| GroupId::parse(group).unwrap()).collect(),
    }
}

pub(crate) fn store(id: &str, groups: &[&str]) -> Fact {
    Fact::Store(store_id(id), StoreEvent::Registered(details(&format!("Loja {id}"), groups)))
}

pub(crate) fn group(id: &str) -> Fact {
    let name = Name::parse(&format!("Grupo {id}")).unwrap();
    Fact::Group(GroupId::parse(id).unwrap(), GroupEvent::Registered { name })
}

pub(crate) fn pdv(store: &str, pdv: &str) -> Fact {
    Fact::Pdv(till(store, pdv), PdvEvent::Registered)
}

pub(crate) fn terms(scope: &str) -> Terms {
    Terms {
        scope: Scope::parse(scope).unwrap(),
        kinds: BTreeSet::from([kind("product"), kind("price")]),
        mode: Mode::Delta,
        strict: false,
        lease_seconds: 900,
        activate_at: None,
        as_of: None,
    }
}

pub(crate) fn opened(lot: u64, scope: &str) -> Fact {
    Fact::Lot(lot_id(lot), LotEvent::Opened(terms(scope)))
}

pub(crate) fn closed(lot: u64) -> Fact {
    let records = [(kind("product"), 2), (kind("price"), 3)].into();
    let manifest = Manifest { chunks: 1, records, bytes: 99, digest: Some(Digest::of(b"lot")) };
    Fact::Lot(lot_id(lot), LotEvent::Closed(manifest))
}

pub(crate) fn released(lot: u64, stores: &[&str], last: bool) -> Fact {
    let stores = stores.iter().map(|store| store_id(store)).collect();
    Fact::Lot(lot_id(lot), LotEvent::Released { stores, last })
}

pub(crate) fn applied(lot: u64, at: PdvAddress, problems: &[(&str, &str)]) -> Fact {
    let problems: Vec<_> = problems
        .iter()
        .map(|(key, reason)| Quarantined {
            kind: kind("product"),
            key: (*key).into(),
            reason: (*reason).into(),
        })
        .collect();
    let quarantined = problems.len() as u64;
    let event = TillEvent::LotApplied {
        lot: lot_id(lot),
        notice: lot,
        upserted: 5 - quarantined,
        deleted: 0,
        quarantined,
        problems,
        took_ms: 7,
    };
    Fact::Till(at, event)
}

pub(crate) fn failed(lot: u64, at: PdvAddress, attempt: u32) -> Fact {
    let event = TillEvent::LotFailed {
        lot: lot_id(lot),
        notice: lot,
        reason: "disk full".into(),
        attempt,
        next_try_at: Timestamp::from_micros(60_000_000),
    };
    Fact::Till(at, event)
}

pub(crate) fn superseded(lot: u64, at: PdvAddress, by: u64) -> Fact {
    Fact::Till(at, TillEvent::LotSuperseded { lot: lot_id(lot), notice: lot, by: lot_id(by) })
}

/// A statement over many rows finds each by a key, whatever is in the tables.
pub(crate) async fn no_scan(conn: &mut AnyConnection, mut query: Query<'static, Any, AnyArguments>) {
    let arguments = query.take_arguments().unwrap().unwrap();
    let sql = query.sql();
    let explain = format!("EXPLAIN QUERY PLAN {}", sql.as_str());
    let plan = sqlx::query_with(sqlx::AssertSqlSafe(explain), arguments).fetch_all(conn).await.unwrap();
    let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
    // The given rows, and the tills where their number in each store is asked for.
    let fine = |step: &String| {
        !step.starts_with("SCAN ")
            || ["c", "pdv"].contains(&step.split(' ').nth(1).unwrap())
            || step.ends_with("CONSTANT ROW")
            || step.ends_with("VALUES CLAUSE")
    };
    assert!(steps.iter().all(fine), "{} scans: {steps:#?}", sql.as_str());
}

/// Every row of every table as a line, but for when something was parked.
pub(crate) async fn dump(db: &Db) -> Vec<String> {
    let mut conn = db.reader().await.unwrap();
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        .fetch_all(&mut *conn)
        .await
        .unwrap();
    let mut lines = vec![];
    for table in tables {
        let table: String = table.get(0);
        let all = format!("SELECT * FROM {table}");
        for row in sqlx::query(sqlx::AssertSqlSafe(all)).fetch_all(&mut *conn).await.unwrap() {
            let columns = row.len() - usize::from(table == "parked");
            let values: Vec<String> = (0..columns)
                .map(|n| match row.try_get::<Option<i64>, _>(n) {
                    Ok(number) => format!("{number:?}"),
                    Err(_) => row.get(n),
                })
                .collect();
            lines.push(format!("{table}: {}", values.join(" | ")));
        }
    }
    lines.sort();
    lines
}
