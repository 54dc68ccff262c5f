use malote_domain::registry::StoreEvent;
use malote_domain::{Fact, Read, Scope};

use crate::Projection;
use crate::testing::{Temp, applied, details, dump, feed, group, history, pdv, store, store_id, temp, till};

const REGISTRY: &str = "REGISTRY";

fn changed(id: &str, name: &str, groups: &[&str]) -> Fact {
    Fact::Store(store_id(id), StoreEvent::Changed(details(name, groups)))
}

fn network() -> Vec<Read> {
    history([
        group("sul"),
        store("1", &["sul", "outlet"]),
        store("2", &["sul"]),
        pdv("1", "b"),
        pdv("1", "a"),
        changed("2", "Loja Dois", &["outlet"]),
        store("3", &[]),
    ])
}

async fn given(batch: &[Read]) -> Temp {
    let db = temp().await;
    feed(&db, Projection::Registry, REGISTRY, batch).await.unwrap();
    db
}

#[tokio::test]
async fn the_last_fact_of_a_store_counts() {
    let db = given(&network()).await;
    let two = db.store(&store_id("2")).await.unwrap().unwrap();
    assert_eq!((two.name.as_str(), &two.groups[..]), ("Loja Dois", &["outlet".to_owned()][..]));
    assert_eq!(two.registered_at, "1970-01-01T00:00:03Z");
    assert_eq!(two.changed_at, "1970-01-01T00:00:06Z");
    assert_eq!(db.store(&store_id("9")).await.unwrap(), None);
}

#[tokio::test]
async fn in_whatever_batches_and_however_often_it_comes_the_tables_are_the_same() {
    let once = dump(&given(&network()).await.db).await;
    for size in 1..network().len() {
        let db = temp().await;
        for batch in network().chunks(size) {
            feed(&db, Projection::Registry, REGISTRY, batch).await.unwrap();
        }
        assert_eq!(dump(&db).await, once, "in batches of {size}");
        // From the beginning over the same rows, as after a checkpoint that was lost.
        let mut tx = db.begin().await.unwrap();
        let forget = "DELETE FROM checkpoint";
        crate::sql::execute(&mut tx, forget, crate::sql::Binds::new(), "test").await.unwrap();
        tx.commit().await.unwrap();
        for batch in network().chunks(size) {
            feed(&db, Projection::Registry, REGISTRY, batch).await.unwrap();
        }
        assert_eq!(dump(&db).await, once, "twice in batches of {size}");
    }
}

#[tokio::test]
async fn a_scope_has_its_members() {
    let db = given(&network()).await;
    let members = async |scope: &str| {
        let members = db.members(&Scope::parse(scope).unwrap()).await.unwrap();
        members.into_iter().map(|(store, _)| store.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(members("all").await, ["1", "2", "3"]);
    assert_eq!(members("group-sul").await, ["1"]);
    assert_eq!(members("group-outlet").await, ["1", "2"]);
    assert_eq!(members("store-3").await, ["3"]);
    assert!(members("store-9").await.is_empty());
    for (scope, exists) in [
        ("all", true),
        ("group-sul", true),
        ("group-outlet", true),
        ("group-norte", false),
        ("store-1", true),
        ("store-9", false),
    ] {
        assert_eq!(db.scope_exists(&Scope::parse(scope).unwrap()).await.unwrap(), exists, "{scope}");
    }
    assert_eq!(db.members(&Scope::All).await.unwrap()[0].1, "America/Sao_Paulo");
}

#[tokio::test]
async fn stores_come_in_pages_with_their_tills_and_what_was_heard_of_them() {
    let db = given(&network()).await;
    feed(&db, Projection::Lots, "PDVS", &history([applied(4, till("1", "a"), &[])])).await.unwrap();
    let first = db.stores(None, 2).await.unwrap();
    assert_eq!(first.iter().map(|s| s.store.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(first[0].groups, ["outlet", "sul"]);
    let pdvs: Vec<_> = first[0].pdvs.iter().map(|p| (p.pdv.as_str(), p.notice)).collect();
    assert_eq!(pdvs, [("a", Some(4)), ("b", None)]);
    assert_eq!(db.pdvs(&store_id("1")).await.unwrap(), first[0].pdvs);
    let rest = db.stores(Some(&store_id("2")), 2).await.unwrap();
    assert_eq!(rest.iter().map(|s| s.store.as_str()).collect::<Vec<_>>(), ["3"]);
    assert!(db.stores(Some(&store_id("3")), 2).await.unwrap().is_empty());
}

#[tokio::test]
async fn groups_count_their_stores() {
    let db = given(&network()).await;
    let groups = db.groups(None, 10).await.unwrap();
    assert_eq!(groups.len(), 1);
    assert_eq!(
        (groups[0].group.as_str(), groups[0].name.as_str(), groups[0].stores),
        ("sul", "Grupo sul", 1)
    );
}
