use std::collections::BTreeMap;

use malote_domain::{Fact, RecordKey, StoreId};
use proptest::prelude::*;

use super::*;
use crate::lots::PDVS;
use crate::testing::{
    Temp, applied, closed, dump, fact, failed, feed, history, kind, lot_id, opened, pdv, place, released,
    store, store_id, superseded, temp, till,
};

/// A change to a record: kind, key and body, without one to delete it.
type Change<'a> = (&'a str, &'a str, Option<&'a str>);

fn hash(body: Option<&str>) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&malote_domain::Digest::of(body.unwrap_or("").as_bytes()).as_bytes()[..16]);
    hash
}

fn rows<'a>(changes: &[Change<'a>]) -> Vec<CatalogueRow<'a>> {
    changes
        .iter()
        .map(|(kind, key, body)| CatalogueRow { kind, key, body: *body, hash: hash(*body) })
        .collect()
}

/// Lot `version`, released by message `version`.
fn lot(scope: &str, version: u64, full: bool) -> CatalogueLot {
    CatalogueLot {
        lot: lot_id(version),
        scope: Scope::parse(scope).unwrap(),
        version,
        full,
        kinds: BTreeSet::from([kind("price"), kind("product")]),
    }
}

/// Loads a lot as if it were the next message, whatever its version.
async fn load(db: &Db, lot: CatalogueLot, changes: &[Change<'_>]) {
    let cursor = db.cursor(Projection::Catalogue, LOTS).await.unwrap();
    let mut load = db.begin_catalogue(lot, cursor).await.unwrap();
    for changes in changes.chunks(3) {
        load.add(&rows(changes)).await.unwrap();
    }
    load.commit(place(cursor.map_or(1, |cursor| cursor.sequence + 1))).await.unwrap();
}

async fn held(db: &Db, scope: &str, of: &str) -> Vec<(String, String)> {
    let scope = Scope::parse(scope).unwrap();
    let rows = db.snapshot_page(&scope, &kind(of), None, 1_000).await.unwrap();
    rows.into_iter().map(|row| (row.key, row.body.unwrap())).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(key, body)| ((*key).to_owned(), (*body).to_owned())).collect()
}

#[tokio::test]
async fn a_delta_changes_what_it_names() {
    let db = temp().await;
    load(&db, lot("all", 1, false), &[("price", "a", Some("1")), ("price", "b", Some("2"))]).await;
    load(&db, lot("all", 2, false), &[("price", "b", None), ("price", "c", Some("3"))]).await;
    assert_eq!(held(&db, "all", "price").await, pairs(&[("a", "1"), ("c", "3")]));
    let record = db.record(&kind("price"), "b", None, 10).await.unwrap();
    assert_eq!((record[0].deleted, record[0].version, record[0].body.clone()), (true, 2, None));
}

#[tokio::test]
async fn the_last_of_a_repeated_key_counts() {
    let db = temp().await;
    let repeated = [("price", "a", Some("1")), ("price", "a", Some("2")), ("price", "b", None)];
    load(&db, lot("all", 1, false), &repeated).await;
    load(&db, lot("all", 2, false), &[("price", "a", Some("3")), ("price", "x", None), ("price", "y", None)])
        .await;
    load(&db, lot("all", 3, false), &[("price", "a", None), ("price", "a", Some("4"))]).await;
    assert_eq!(held(&db, "all", "price").await, pairs(&[("a", "4")]));
}

#[tokio::test]
async fn an_older_lot_that_comes_late_changes_nothing_newer() {
    let db = temp().await;
    load(&db, lot("all", 5, false), &[("price", "a", Some("new")), ("price", "gone", None)]).await;
    let late = [("price", "a", Some("old")), ("price", "gone", Some("old")), ("price", "other", Some("old"))];
    load(&db, lot("all", 3, false), &late).await;
    assert_eq!(held(&db, "all", "price").await, pairs(&[("a", "new"), ("other", "old")]));
}

#[tokio::test]
async fn a_full_lot_takes_out_what_is_older_in_its_kinds_and_scope() {
    let db = temp().await;
    let before = [("price", "a", Some("1")), ("product", "a", Some("p")), ("stock", "a", Some("9"))];
    load(&db, lot("all", 1, false), &before).await;
    load(&db, lot("store-1", 2, false), &before).await;
    load(&db, lot("all", 4, false), &[("price", "newer", Some("4"))]).await;
    load(&db, lot("all", 3, true), &[("price", "b", Some("3"))]).await;
    assert_eq!(held(&db, "all", "price").await, pairs(&[("b", "3"), ("newer", "4")]));
    assert_eq!(held(&db, "all", "product").await, pairs(&[]));
    assert_eq!(held(&db, "all", "stock").await, pairs(&[("a", "9")]), "a kind that it does not declare");
    assert_eq!(held(&db, "store-1", "price").await, pairs(&[("a", "1")]), "another scope");
    // What an older lot brings stays out, even of a key that the full lot did not hold.
    load(&db, lot("all", 2, false), &before).await;
    assert_eq!(held(&db, "all", "price").await, pairs(&[("b", "3"), ("newer", "4")]));
}

#[tokio::test]
async fn a_load_that_is_given_up_is_taken_in_again() {
    let (killed, whole) = (temp().await, temp().await);
    for db in [&killed, &whole] {
        load(db, lot("all", 1, false), &[("price", "a", Some("1")), ("price", "b", Some("1"))]).await;
    }
    let mut given_up = killed.begin_catalogue(lot("all", 2, true), Some(place(1))).await.unwrap();
    given_up.add(&rows(&[("price", "a", Some("2"))])).await.unwrap();
    drop(given_up);
    assert_eq!(killed.cursor(Projection::Catalogue, LOTS).await.unwrap(), Some(place(1)), "it is not done");
    for db in [&killed, &whole] {
        load(db, lot("all", 2, true), &[("price", "a", Some("2"))]).await;
    }
    assert_eq!(dump(&killed).await, dump(&whole).await);
}

#[tokio::test]
async fn of_two_hubs_only_one_moves_the_catalogue_on() {
    let temp = temp().await;
    load(&temp, lot("all", 1, false), &[("price", "a", Some("1"))]).await;
    for expected in [None, Some(place(9))] {
        let late = temp.begin_catalogue(lot("all", 2, false), expected).await.unwrap();
        let error = late.commit(place(2)).await.unwrap_err();
        assert!(matches!(error, ApplyError::Moved { .. }), "{error}");
    }
    let other = Db::open(&temp.url).await.unwrap();
    let race = async |db: &Db| {
        let mut load = db.begin_catalogue(lot("all", 2, false), Some(place(1))).await?;
        load.add(&rows(&[("price", "a", Some("2"))])).await?;
        load.commit(place(2)).await
    };
    let (one, two) = tokio::join!(race(&temp), race(&other));
    assert_eq!([&one, &two].into_iter().filter(|outcome| outcome.is_ok()).count(), 1, "{one:?} {two:?}");
    assert_eq!(held(&temp, "all", "price").await, pairs(&[("a", "2")]));
}

#[tokio::test]
async fn other_facts_only_move_the_catalogue_on() {
    let db = temp().await;
    feed(&db, Projection::Catalogue, LOTS, &history([opened(1, "all"), closed(1)])).await.unwrap();
    assert_eq!(db.cursor(Projection::Catalogue, LOTS).await.unwrap(), Some(place(2)));
    load(&db, lot("all", 3, false), &[("price", "a", Some("1"))]).await;
    let moved = feed(&db, Projection::Catalogue, LOTS, &[fact(4, opened(2, "all"))]).await.unwrap();
    assert_eq!(moved.cursor, Some(place(4)));
    assert_eq!(db.rewind(Projection::Catalogue, LOTS, Some(place(2))).await.unwrap(), None);
    assert!(held(&db, "all", "price").await.is_empty(), "what a row was before is not known");
}

#[tokio::test]
async fn what_is_the_same_is_found_by_its_hash() {
    let db = temp().await;
    let many: Vec<String> = (0..1_200).map(|n| format!("k{n:04}")).collect();
    let changes: Vec<Change<'_>> = many.iter().map(|key| ("price", key.as_str(), Some("1"))).collect();
    load(&db, lot("all", 1, false), &changes).await;
    load(&db, lot("all", 2, false), &[("price", "k0003", None), ("product", "k0001", Some("1"))]).await;
    let mut asked: Vec<_> = many.iter().map(|key| ("price", key.as_str(), hash(Some("1")))).collect();
    asked[7].2 = hash(Some("2"));
    asked[9].1 = "unknown";
    asked[11].0 = "stock";
    let all = Scope::All;
    let same = db.unchanged(&all, &asked).await.unwrap();
    let expected: std::collections::HashSet<usize> =
        (0..1_200).filter(|at| ![3, 7, 9, 11].contains(at)).collect();
    assert_eq!(same, expected);
    let store = Scope::Store(store_id("1"));
    assert!(db.unchanged(&store, &asked).await.unwrap().is_empty(), "another scope");
    let gone = db.unchanged(&all, &[("price", "k0003", hash(None))]).await.unwrap();
    assert_eq!(gone.len(), 1, "deleted already");
}

#[tokio::test]
async fn records_and_snapshots_come_in_pages() {
    let db = temp().await;
    for (version, scope) in [(1, "store-2"), (2, "all"), (3, "group-sul")] {
        let changes = [("price", "a", Some("1")), ("price", "b", None), ("price", "c", Some("3"))];
        load(&db, lot(scope, version, false), &changes).await;
    }
    let scopes = async |after, limit| {
        let rows = db.record(&kind("price"), "a", after, limit).await.unwrap();
        rows.into_iter().map(|row| row.scope).collect::<Vec<_>>()
    };
    assert_eq!(scopes(None, 2).await, ["all", "group-sul"]);
    assert_eq!(scopes(Some("group-sul"), 2).await, ["store-2"]);
    let page = db.snapshot_page(&Scope::All, &kind("price"), None, 1).await.unwrap();
    assert_eq!((page[0].key.as_str(), page[0].lot.clone()), ("a", lot_id(2).to_string()));
    let rest = db.snapshot_page(&Scope::All, &kind("price"), Some("a"), 5).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["c"]);
}

/// Stores 1 (sul, outlet), 2 (sul) and 3, with lots as given: number, scope, stores released to.
async fn network(lots: &[(u64, &str, &[&str])], reports: Vec<Fact>) -> Temp {
    let db = temp().await;
    let registry = [
        store("1", &["sul", "outlet"]),
        store("2", &["sul"]),
        store("3", &[]),
        pdv("1", "a"),
        pdv("1", "b"),
        pdv("2", "a"),
        pdv("3", "a"),
    ];
    feed(&db, Projection::Registry, "REGISTRY", &history(registry)).await.unwrap();
    let mut facts = vec![];
    for (n, scope, stores) in lots {
        facts.extend([opened(*n, scope), closed(*n), released(*n, stores, true)]);
    }
    feed(&db, Projection::Lots, LOTS, &history(facts)).await.unwrap();
    feed(&db, Projection::Lots, PDVS, &history(reports)).await.unwrap();
    db
}

async fn places(db: &Db, key: &str, store: Option<&StoreId>) -> Vec<(String, Option<String>, PlaceState)> {
    let key = RecordKey::parse(key).unwrap();
    let trace = db.trace(&kind("product"), key.as_str(), store, None, 100).await.unwrap();
    let line = |place: Place| (format!("{}/{}", place.store, place.pdv), place.scope, place.state);
    trace.places.into_iter().map(line).collect()
}

fn line(till: &str, scope: Option<&str>, state: PlaceState) -> (String, Option<String>, PlaceState) {
    (till.to_owned(), scope.map(str::to_owned), state)
}

#[tokio::test]
async fn a_record_is_traced_to_every_till() {
    let reports = vec![
        applied(1, till("1", "a"), &[]),
        applied(1, till("1", "b"), &[("x", "no price")]),
        failed(1, till("2", "a"), 2),
    ];
    let db = network(&[(1, "all", &["1", "2"])], reports).await;
    load(&db, lot("all", 1, false), &[("product", "x", Some("{}"))]).await;
    assert_eq!(
        places(&db, "x", None).await,
        [
            line("1/a", Some("all"), PlaceState::Applied),
            line("1/b", Some("all"), PlaceState::Quarantined),
            line("2/a", Some("all"), PlaceState::Failed),
            line("3/a", Some("all"), PlaceState::NotReleased),
        ]
    );
    let trace = db.trace(&kind("product"), "x", None, Some(&till("1", "a")), 2).await.unwrap();
    let reasons: Vec<_> = trace.places.iter().map(|place| place.reason.as_deref().unwrap()).collect();
    assert_eq!(reasons, ["no price", "disk full"]);
    assert_eq!((trace.sent.len(), trace.sent[0].record.body.as_deref()), (1, Some("{}")));
    assert_eq!(trace.sent[0].released_at.as_deref(), Some("1970-01-01T00:00:03Z"));
    let one = places(&db, "x", Some(&store_id("3"))).await;
    assert_eq!(one, [line("3/a", Some("all"), PlaceState::NotReleased)]);
}

#[tokio::test]
async fn the_narrower_scope_counts_and_between_groups_the_later() {
    let lots: &[(u64, &str, &[&str])] = &[
        (1, "all", &["1", "2", "3"]),
        (2, "group-outlet", &["1"]),
        (3, "group-sul", &["1", "2"]),
        (4, "store-2", &["2"]),
    ];
    let db = network(lots, vec![superseded(3, till("1", "b"), 9)]).await;
    for (n, scope, _) in lots {
        load(&db, lot(scope, *n, false), &[("product", "x", Some("1")), ("product", "y", None)]).await;
    }
    let expected = [
        line("1/a", Some("group-sul"), PlaceState::Pending),
        line("1/b", Some("group-sul"), PlaceState::Superseded),
        line("2/a", Some("store-2"), PlaceState::Pending),
        line("3/a", Some("all"), PlaceState::Pending),
    ];
    assert_eq!(places(&db, "x", None).await, expected);
    let trace = db.trace(&kind("product"), "x", None, None, 1).await.unwrap();
    assert_eq!(trace.places[0].covered, ["group-outlet", "all"]);
    // A group that takes its record back uncovers the other group's.
    load(&db, lot("group-sul", 5, false), &[("product", "x", None)]).await;
    let one = places(&db, "x", Some(&store_id("1"))).await;
    assert_eq!(one[0], line("1/a", Some("group-outlet"), PlaceState::Pending));
}

#[tokio::test]
async fn a_record_that_is_not_there_says_why() {
    let db = network(&[(1, "store-1", &["1"])], vec![applied(1, till("1", "a"), &[])]).await;
    load(&db, lot("store-1", 1, false), &[("product", "x", None)]).await;
    assert_eq!(
        places(&db, "x", None).await,
        [
            line("1/a", Some("store-1"), PlaceState::Deleted),
            line("1/b", Some("store-1"), PlaceState::Pending),
            line("2/a", None, PlaceState::NotInScope),
            line("3/a", None, PlaceState::NotInScope),
        ]
    );
}

/// A lot in a property test: whether it is full, and its changes by key, without a body to delete.
type Any = (bool, Vec<(u8, Option<u8>)>);

/// What a scope holds after these lots, by version, in the order of their versions: the rule, told naively.
fn naive(lots: &[Any]) -> BTreeMap<String, String> {
    let mut held = BTreeMap::new();
    for (full, changes) in lots {
        if *full {
            held.clear();
        }
        for (key, body) in changes {
            match body {
                Some(body) => held.insert(key.to_string(), body.to_string()),
                None => held.remove(&key.to_string()),
            };
        }
    }
    held
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// In whatever order lots come, and however often, a scope holds what they make of it in their own order.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        (lots, order) in prop::collection::vec(
            (any::<bool>(), prop::collection::vec((0..5_u8, prop::option::of(any::<u8>())), 0..6)),
            1..6,
        )
        .prop_flat_map(|lots: Vec<Any>| {
            let twice: Vec<usize> = (0..lots.len()).chain(0..lots.len()).collect();
            (Just(lots), Just(twice).prop_shuffle())
        }),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let db = temp().await;
            for at in order {
                let (full, changes) = &lots[at];
                let texts: Vec<_> =
                    changes.iter().map(|(key, body)| (key.to_string(), body.map(|b| b.to_string()))).collect();
                let changes: Vec<Change<'_>> =
                    texts.iter().map(|(key, body)| ("price", key.as_str(), body.as_deref())).collect();
                load(&db, lot("all", at as u64 + 1, *full), &changes).await;
            }
            let found: BTreeMap<_, _> = held(&db, "all", "price").await.into_iter().collect();
            prop_assert_eq!(found, naive(&lots));
            Ok(())
        })?;
    }
}
