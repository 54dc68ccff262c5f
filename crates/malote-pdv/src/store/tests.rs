use std::collections::{BTreeMap, BTreeSet};

use malote_domain::GroupId;
use malote_domain::lots::Mode;
use malote_domain::pdvs::Event;
use malote_journal::notice::Notice;
use malote_journal::wire::decode_report;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::testkit::{Line, Made, address, delete, delta, full, killed_after, lot, price, product, stored};

const STREAM: &str = "STORE-330";

/// Opens a directory, waiting for a dropped owner to let go of it.
async fn open(dir: &Path) -> Store {
    for _ in 0..500 {
        match Store::open(dir, &address()).await {
            Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
            result => return result.unwrap(),
        }
    }
    panic!("the directory stays in use");
}

async fn fresh() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    (dir, store)
}

async fn announce(store: &Store, sequence: u64, notice: Notice) -> super::intake::Found {
    let cursor = store.cursor(STREAM).await.unwrap();
    store.take_in(STREAM, cursor, &[stored(sequence, &notice)]).await.unwrap()
}

/// Announces a lot and applies whatever is open from these lots.
async fn bring(store: &Store, sequence: u64, made: &Made) {
    announce(store, sequence, Notice::Lot(made.notice.clone())).await;
    while let Ok(work) = store.next_work().await.unwrap() {
        assert_eq!(work.lot, made.notice.lot);
        store.apply(&work, &made.chunks).await.unwrap().unwrap();
    }
}

async fn shown(store: &Store, kind: &str) -> BTreeMap<String, (String, String)> {
    let (records, more) = store.records(kind, "", "", 1000).await.unwrap();
    assert!(!more);
    let row = |r: Record| (r.key, (r.scope, r.body.as_str().to_owned()));
    records.into_iter().map(row).collect()
}

async fn cents(store: &Store, key: &str) -> Option<i64> {
    sqlx::query_scalar("SELECT price_cents FROM price WHERE sku = ?")
        .bind(key)
        .fetch_optional(&store.read)
        .await
        .unwrap()
}

async fn reports(store: &Store) -> Vec<Event> {
    let payloads: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT payload FROM outbox ORDER BY id").fetch_all(&store.read).await.unwrap();
    payloads.into_iter().map(|payload| decode_report(&payload.into()).unwrap().0).collect()
}

#[tokio::test]
async fn deltas_upsert_and_delete() {
    let (_dir, store) = fresh().await;
    bring(&store, 1, &delta("all", 10, &[price("1", 100), price("2", 200), product("1", "Café")])).await;
    bring(&store, 2, &delta("all", 11, &[price("1", 150), delete("price", "2"), delete("price", "3")])).await;
    assert_eq!(cents(&store, "1").await, Some(150));
    assert_eq!(cents(&store, "2").await, None);
    let record = store.record("product", "1").await.unwrap().unwrap();
    assert_eq!((record.scope.as_str(), record.version), ("all", 10));
    let reports = reports(&store).await;
    assert!(
        matches!(&reports[1], Event::LotApplied { notice: 2, upserted: 1, deleted: 2, quarantined: 0, .. }),
        "{reports:?}"
    );
}

#[tokio::test]
async fn within_a_lot_the_last_word_counts() {
    let (_dir, store) = fresh().await;
    let lines = [price("1", 100), delete("price", "1"), price("1", 300), price("2", 1), delete("price", "2")];
    bring(&store, 1, &delta("all", 10, &lines)).await;
    assert_eq!(cents(&store, "1").await, Some(300));
    assert_eq!(cents(&store, "2").await, None);
}

#[tokio::test]
async fn a_full_lot_leaves_only_its_own_records_of_its_own_kinds() {
    let (_dir, store) = fresh().await;
    bring(&store, 1, &delta("all", 10, &[price("1", 100), price("2", 200), product("1", "Café")])).await;
    bring(&store, 2, &delta("store-330", 11, &[price("2", 222)])).await;
    bring(&store, 3, &full("all", 12, &[price("3", 300)])).await;
    let prices = shown(&store, "price").await;
    assert_eq!(prices.keys().collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(prices["2"].0, "store-330", "another scope's record stays");
    assert_eq!(shown(&store, "product").await.len(), 1, "another kind stays");
    // What comes late and is older than the full lot does not count.
    bring(&store, 4, &delta("all", 11, &[price("9", 900), product("9", "Late")])).await;
    assert_eq!(cents(&store, "9").await, None);
    assert_eq!(shown(&store, "product").await.len(), 2);
}

#[tokio::test]
async fn a_delete_outlives_an_older_upsert_that_comes_later() {
    let (_dir, store) = fresh().await;
    bring(&store, 1, &delta("all", 20, &[delete("price", "1")])).await;
    bring(&store, 2, &delta("all", 10, &[price("1", 100)])).await;
    assert_eq!(cents(&store, "1").await, None);
}

#[tokio::test]
async fn scopes_overlay_and_a_delete_uncovers_the_wider_one() {
    let (_dir, store) = fresh().await;
    bring(&store, 1, &delta("store-330", 1, &[price("1", 30)])).await;
    bring(&store, 2, &delta("group-sul", 2, &[price("1", 20), price("2", 20)])).await;
    bring(&store, 3, &delta("group-norte", 3, &[price("1", 21), price("2", 21)])).await;
    bring(&store, 4, &delta("all", 4, &[price("1", 10), price("2", 10), price("3", 10)])).await;
    assert_eq!(cents(&store, "1").await, Some(30));
    assert_eq!(cents(&store, "2").await, Some(21), "between groups the greater version");
    assert_eq!(cents(&store, "3").await, Some(10));
    bring(&store, 5, &delta("store-330", 5, &[delete("price", "1")])).await;
    bring(&store, 6, &delta("group-norte", 6, &[delete("price", "1")])).await;
    assert_eq!(cents(&store, "1").await, Some(20));
}

#[tokio::test]
async fn only_groups_that_the_store_is_in_count() {
    let (_dir, store) = fresh().await;
    let groups =
        |names: &[&str]| Notice::Groups(names.iter().map(|name| GroupId::parse(name).unwrap()).collect());
    bring(&store, 1, &delta("group-sul", 1, &[price("1", 10)])).await;
    assert_eq!(cents(&store, "1").await, Some(10), "before the hub has said anything a lot's group counts");
    announce(&store, 2, groups(&["norte"])).await;
    assert_eq!(cents(&store, "1").await, None);
    bring(&store, 3, &delta("group-leste", 3, &[price("1", 30)])).await;
    assert_eq!(cents(&store, "1").await, None, "from then on only what the hub said counts");
    bring(&store, 4, &delta("group-norte", 4, &[price("1", 40)])).await;
    assert_eq!(cents(&store, "1").await, Some(40));
    announce(&store, 5, groups(&["sul", "leste"])).await;
    assert_eq!(cents(&store, "1").await, Some(30));
}

#[tokio::test]
async fn what_cannot_be_taken_is_set_aside_and_changes_nothing() {
    let (_dir, store) = fresh().await;
    bring(&store, 1, &delta("all", 1, &[price("1", 100)])).await;
    let bad = |kind, key: &str, body: &str| (kind, key.to_owned(), Some(body.to_owned()));
    let lines = [
        bad("price", "1", "{\"price_cents\":-5}"),
        bad("price", "2", "[]"),
        bad("product", "3", "{\"description\":4}"),
        bad("price", "a\tb", "{\"price_cents\":5}"),
        bad("stock", "5", "{"),
        price("6", 600),
    ];
    bring(&store, 2, &delta("all", 2, &lines)).await;
    assert_eq!(cents(&store, "1").await, Some(100));
    assert_eq!(cents(&store, "6").await, Some(600));
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.quarantined, 5);
    let reports = reports(&store).await;
    let Event::LotApplied { upserted: 1, quarantined: 5, problems, .. } = &reports[1] else {
        panic!("{reports:?}")
    };
    assert_eq!(problems.len(), 5);
    assert_eq!((problems[0].kind.as_str(), problems[0].key.as_str()), ("price", "1"));
}

#[tokio::test]
async fn problems_are_named_up_to_a_limit_and_counted_beyond() {
    let (_dir, store) = fresh().await;
    let lines: Vec<Line> = (0..1500).map(|n| ("price", n.to_string(), Some("{}".to_owned()))).collect();
    bring(&store, 1, &delta("all", 1, &lines)).await;
    let reports = reports(&store).await;
    let Event::LotApplied { quarantined: 1500, problems, .. } = &reports[0] else { panic!("{reports:?}") };
    assert_eq!(problems.len(), malote_domain::pdvs::NAMED_PROBLEMS_MAX);
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM quarantine").fetch_one(&store.read).await.unwrap();
    assert_eq!(kept, 1000);
}

#[tokio::test]
async fn a_lot_that_later_full_lots_replace_is_not_needed() {
    let (_dir, store) = fresh().await;
    let old = delta("all", 1, &[price("1", 1), product("1", "x")]);
    let half = delta("group-sul", 2, &[price("1", 2)]);
    let prices = full("all", 3, &[price("1", 3)]);
    let products = full("all", 4, &[product("1", "y")]);
    let notices: Vec<_> = [&old, &half, &prices, &products]
        .iter()
        .zip(1..)
        .map(|(made, sequence)| stored(sequence, &Notice::Lot(made.notice.clone())))
        .collect();
    let found = store.take_in(STREAM, None, &notices).await.unwrap();
    assert_eq!(found.superseded, 1);
    assert_eq!(
        reports(&store).await,
        [Event::LotSuperseded { lot: old.notice.lot, notice: 1, by: products.notice.lot }]
    );
    assert_eq!(store.next_work().await.unwrap().unwrap().lot, half.notice.lot, "another scope is needed");
    // Also when the full lot is applied already, and the old notice comes later.
    let (_dir, store) = fresh().await;
    bring(&store, 1, &prices).await;
    let late = delta("all", 2, &[price("1", 2)]);
    assert_eq!(announce(&store, 2, Notice::Lot(late.notice.clone())).await.superseded, 1);
    assert!(store.next_work().await.unwrap().is_err());
}

#[tokio::test]
async fn a_wrong_digest_applies_nothing() {
    let (_dir, store) = fresh().await;
    let mut made = delta("all", 1, &[price("1", 1)]);
    made.notice.digest = Digest::of(b"another");
    announce(&store, 1, Notice::Lot(made.notice.clone())).await;
    let work = store.next_work().await.unwrap().unwrap();
    assert!(matches!(store.apply(&work, &made.chunks).await, Err(ApplyError::Digest)));
    assert_eq!(cents(&store, "1").await, None);
    let next = Timestamp::from_micros(now().micros() + 60_000_000);
    store.postpone(&work, "the digest is wrong", next, true).await.unwrap();
    assert_eq!(store.next_work().await.unwrap().unwrap_err(), Some(next));
    assert_eq!(store.position(STREAM).await.unwrap(), 1, "a failed lot holds nothing up");
    assert!(matches!(&reports(&store).await[0], Event::LotFailed { attempt: 1, .. }));
}

#[tokio::test]
async fn notices_that_make_no_sense_are_passed_over() {
    let (_dir, store) = fresh().await;
    let other = delta("store-331", 1, &[price("1", 1)]);
    let huge = delta("all", u64::MAX, &[price("1", 1)]);
    let mut garbage = stored(3, &Notice::Lot(other.notice.clone()));
    garbage.payload = bytes::Bytes::from_static(b"\xff\xff\xff");
    let page = [
        stored(1, &Notice::Lot(other.notice.clone())),
        stored(2, &Notice::Lot(huge.notice.clone())),
        garbage,
        stored(4, &Notice::Lot(delta("all", 7, &[price("1", 1)]).notice)),
    ];
    let found = store.take_in(STREAM, None, &page).await.unwrap();
    assert_eq!((found.lots, found.unread), (1, 3));
    assert_eq!(store.cursor(STREAM).await.unwrap(), Some(page[3].cursor()));
    assert_eq!(store.counts().await.unwrap().unread, 3);
}

#[tokio::test]
async fn a_page_read_from_elsewhere_is_not_taken_in() {
    let (_dir, store) = fresh().await;
    let made = delta("all", 1, &[price("1", 1)]);
    let page = [stored(1, &Notice::Lot(made.notice.clone()))];
    store.take_in(STREAM, None, &page).await.unwrap();
    let again = [stored(1, &Notice::Lot(delta("all", 2, &[price("2", 2)]).notice))];
    assert_eq!(store.take_in(STREAM, None, &again).await.unwrap(), intake::Found::default());
    assert_eq!(store.cursor(STREAM).await.unwrap(), Some(page[0].cursor()));
}

#[tokio::test]
async fn pages_of_records_follow_one_another() {
    let (_dir, store) = fresh().await;
    let lines: Vec<Line> = (0..30).map(|n| price(&format!("{n:02}"), n)).collect();
    bring(&store, 1, &delta("all", 1, &lines)).await;
    let keys = |records: &[Record]| records.iter().map(|r| r.key.clone()).collect::<Vec<_>>();
    let (page, more) = store.records("price", "1", "", 4).await.unwrap();
    assert_eq!((keys(&page), more), (vec!["10".into(), "11".into(), "12".into(), "13".into()], true));
    let (page, more) = store.records("price", "1", "13", 100).await.unwrap();
    assert_eq!((page.len(), more), (6, false));
    let plan: Vec<(i64, i64, i64, String)> =
        sqlx::query_as("EXPLAIN QUERY PLAN SELECT price_cents FROM price WHERE sku = '1'")
            .fetch_all(&store.read)
            .await
            .unwrap();
    assert!(!plan.iter().any(|(.., step)| step.starts_with("SCAN")), "a till's look-up scans: {plan:?}");
}

#[tokio::test]
async fn a_directory_serves_one_till_and_one_process() {
    let (dir, store) = fresh().await;
    assert!(matches!(Store::open(dir.path(), &address()).await, Err(OpenError::InUse { .. })));
    store.close().await;
    drop(store);
    let mut other = address();
    other.pdv = malote_domain::PdvId::parse("2").unwrap();
    let error = Store::open(dir.path(), &other).await.unwrap_err();
    assert!(matches!(&error, OpenError::Identity { found, .. } if found == "1 of store 330"), "{error}");
}

#[tokio::test]
async fn files_that_are_not_ours_are_refused_and_left_alone() {
    for (change, wanted) in [
        ("PRAGMA application_id = 7", "another program"),
        ("PRAGMA user_version = 2", "version 2"),
        ("CREATE TABLE theirs (x); PRAGMA application_id = 0; PRAGMA user_version = 0", "another program"),
    ] {
        let (dir, store) = fresh().await;
        sqlx::raw_sql(change).execute(&store.write).await.unwrap();
        store.close().await;
        drop(store);
        let before = fs::read(dir.path().join(FILE)).unwrap();
        let error = Store::open(dir.path(), &address()).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
        assert!(before == fs::read(dir.path().join(FILE)).unwrap(), "{change}: the file was changed");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), vec![b'x'; 8192]).unwrap();
    let error = Store::open(dir.path(), &address()).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_noticed_at_the_start() {
    let (dir, store) = fresh().await;
    let lines: Vec<Line> = (0..2000).map(|n| product(&format!("{n:05}"), "Feijão preto 1 kg")).collect();
    bring(&store, 1, &delta("all", 1, &lines)).await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&store.write).await.unwrap();
    store.close().await;
    drop(store);
    let file = dir.path().join(FILE);
    let mut bytes = fs::read(&file).unwrap();
    let middle = usize::try_from(pages / 2).unwrap() * 4096;
    bytes[middle..middle + 64].fill(0xff);
    fs::write(&file, bytes).unwrap();
    let error = Store::open(dir.path(), &address()).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn the_commit_is_durable_and_the_file_is_marked() {
    let (_dir, store) = fresh().await;
    for (pragma, wanted) in [
        ("PRAGMA synchronous", 2_i64),
        ("PRAGMA application_id", APPLICATION_ID),
        ("PRAGMA user_version", VERSION),
        ("PRAGMA foreign_keys", 1),
        ("PRAGMA mmap_size", 0),
        ("PRAGMA cache_size", -4000),
    ] {
        let value: i64 = sqlx::query_scalar(pragma).fetch_one(&store.write).await.unwrap();
        assert_eq!(value, wanted, "{pragma}");
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.write).await.unwrap();
    assert_eq!(mode, "wal");
}

#[tokio::test]
async fn a_hub_that_lost_reports_gets_them_again_and_a_stranger_is_told() {
    let (_dir, store) = fresh().await;
    for n in 1..=3 {
        bring(&store, n, &delta("all", n, &[price("1", n)])).await;
    }
    let (reported, unsent) = store.unsent(10).await.unwrap();
    assert_eq!((reported, unsent.entries.len()), (0, 3));
    store.sent(unsent.last_row, 30).await.unwrap();
    assert_eq!(store.unsent(10).await.unwrap().1.entries.len(), 0);
    let second = unsent.entries[1].id.to_string();
    assert_eq!(store.hub_has(Some((&second, 20))).await.unwrap(), HubHas::Ours);
    let (reported, again) = store.unsent(10).await.unwrap();
    assert_eq!(reported, 20);
    assert_eq!(again.entries, unsent.entries[2..], "the same event, byte by byte");
    assert_eq!(store.hub_has(Some(("somebody else's", 40))).await.unwrap(), HubHas::Strangers);
    assert_eq!(store.unsent(10).await.unwrap().0, 20, "a stranger's event changes nothing");
    assert_eq!(store.hub_has(None).await.unwrap(), HubHas::Ours);
    let (reported, again) = store.unsent(10).await.unwrap();
    assert_eq!((reported, again.entries.len()), (0, 3));
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

#[tokio::test]
async fn applying_killed_at_every_await_is_all_or_nothing() {
    let (base, store) = fresh().await;
    let before: Vec<Line> = (0..40).map(|n| price(&n.to_string(), 1)).collect();
    bring(&store, 1, &full("all", 1, &before)).await;
    let mut lines: Vec<Line> = (20..700).map(|n| price(&n.to_string(), 2)).collect();
    lines.push(("price", "bad".to_owned(), Some("{}".to_owned())));
    let made = lot("all", Mode::Full, 2, &lines, 300);
    announce(&store, 2, Notice::Lot(made.notice.clone())).await;
    let work = store.next_work().await.unwrap().unwrap();
    let chunks: Vec<_> = made.chunks.clone().into_iter().collect();
    store.stage(&work, &chunks).await.unwrap();
    let old = shown(&store, "price").await;
    store.close().await;
    drop(store);
    // How often a statement is waited for depends on SQLite's thread, so a number of polls is not a place: many are tried.
    let (mut completed, mut interrupted, mut kills) = (0, 0, 0);
    while completed < 3 || kills < 40 {
        let dir = copy(base.path());
        let store = open(dir.path()).await;
        completed += u32::from(killed_after(kills, store.apply(&work, &BTreeMap::new())).await.is_some());
        drop(store);
        let store = open(dir.path()).await;
        let state = shown(&store, "price").await;
        let open = store.next_work().await.unwrap().ok();
        if let Some(work) = open {
            interrupted += 1;
            assert_eq!(state, old, "killed after {kills} polls");
            assert_eq!(reports(&store).await.len(), 1);
            assert_eq!(store.staged(&work).await.unwrap().len(), 3);
            store.apply(&work, &BTreeMap::new()).await.unwrap();
        }
        let state = shown(&store, "price").await;
        assert_eq!(state.len(), 680, "killed after {kills} polls");
        assert!(state.values().all(|(_, body)| body.contains(":2")), "killed after {kills} polls");
        assert_eq!(reports(&store).await.len(), 2, "killed after {kills} polls");
        assert_eq!(store.counts().await.unwrap().quarantined, 1);
        assert!(store.staged(&work).await.unwrap().is_empty());
        kills += 1;
    }
    assert!(interrupted >= 8, "only {interrupted} kills came before the commit");
}

/// A lot of the property test: scope, full or not, records.
type Plan = (usize, bool, Vec<(usize, u8, Option<u8>)>);

const SCOPES: [&str; 4] = ["all", "group-a", "group-b", "store-330"];
const KINDS: [&str; 2] = ["price", "stock"];

fn body(value: u8) -> String {
    format!("{{\"price_cents\":{value}}}")
}

/// What the lots come to, one after the other by version.
fn fold(lots: &[Plan]) -> BTreeMap<(String, String, String), String> {
    let mut state = BTreeMap::new();
    for (scope, full, records) in lots {
        let scope = SCOPES[*scope].to_owned();
        if *full {
            let kinds: BTreeSet<&str> = records.iter().map(|(kind, ..)| KINDS[*kind]).collect();
            state
                .retain(|(s, k, _): &(String, String, String), _| *s != scope || !kinds.contains(k.as_str()));
        }
        for (kind, key, value) in records {
            let place = (scope.clone(), KINDS[*kind].to_owned(), key.to_string());
            match value {
                Some(value) => state.insert(place, body(*value)),
                None => state.remove(&place),
            };
        }
    }
    state
}

async fn table(store: &Store) -> BTreeMap<(String, String, String), String> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT s.name, k.name, r.key, r.body FROM record r JOIN scope s ON s.id = r.scope \
           JOIN kind k ON k.id = r.kind WHERE r.body IS NOT NULL",
    )
    .fetch_all(&store.read)
    .await
    .unwrap();
    rows.into_iter().map(|(scope, kind, key, body)| ((scope, kind, key), body)).collect()
}

/// What the till must show of a table: the narrowest scope, between groups the newest.
fn overlay(lots: &[Plan]) -> BTreeMap<(String, String), String> {
    let mut shown: BTreeMap<(String, String), (u8, usize, String)> = BTreeMap::new();
    for ((scope, kind, key), body) in fold(lots) {
        let rank = malote_domain::Scope::parse(&scope).unwrap().rank();
        let version = lots
            .iter()
            .rposition(|(s, _, records)| {
                SCOPES[*s] == scope
                    && records.iter().any(|(k, n, _)| KINDS[*k] == kind && n.to_string() == key)
            })
            .unwrap();
        let candidate = (rank, version, body);
        let entry = shown.entry((kind, key)).or_insert_with(|| candidate.clone());
        if (entry.0, entry.1) < (candidate.0, candidate.1) {
            *entry = candidate;
        }
    }
    shown.into_iter().map(|(place, (_, _, body))| (place, body)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_order_and_repetition_of_lots_comes_to_their_fold_by_version(
        lots in proptest::collection::vec(
            (0..SCOPES.len(), proptest::bool::weighted(0.3),
             proptest::collection::vec((0..KINDS.len(), 0_u8..6, proptest::option::weighted(0.7, any::<u8>())), 1..8)),
            1..9,
        ),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..24),
        page in 1_usize..5,
        again in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let made: Vec<Made> = lots.iter().zip(1..).map(|((scope, full, records), version)| {
                let lines: Vec<Line> = records.iter()
                    .map(|(kind, key, value)| (KINDS[*kind], key.to_string(), value.map(body))).collect();
                let mode = if *full { Mode::Full } else { Mode::Delta };
                lot(SCOPES[*scope], mode, version, &lines, 3)
            }).collect();
            // Some order with repetitions, then all of them.
            let arrivals: Vec<&Made> =
                order.iter().map(|index| index.get(&made)).chain(made.iter().rev()).collect();
            let (_dir, store) = fresh().await;
            let notices: Vec<_> = arrivals.iter().zip(1..)
                .map(|(made, sequence)| stored(sequence, &Notice::Lot(made.notice.clone()))).collect();
            for page in notices.chunks(page) {
                let cursor = store.cursor(STREAM).await.unwrap();
                store.take_in(STREAM, cursor, page).await.unwrap();
                while let Ok(work) = store.next_work().await.unwrap() {
                    let made = made.iter().find(|made| made.notice.lot == work.lot).unwrap();
                    store.apply(&work, &made.chunks).await.unwrap().unwrap();
                }
                if again {
                    sqlx::query("UPDATE lot SET state = 'waiting' WHERE state = 'applied' AND id % 2 = 0 AND attempts < 2")
                        .execute(&store.write).await.unwrap();
                }
            }
            while let Ok(work) = store.next_work().await.unwrap() {
                let made = made.iter().find(|made| made.notice.lot == work.lot).unwrap();
                store.apply(&work, &made.chunks).await.unwrap().unwrap();
            }
            prop_assert_eq!(table(&store).await, fold(&lots));
            let rows: Vec<(String, String, String)> =
                sqlx::query_as("SELECT kind, key, body FROM catalogue").fetch_all(&store.read).await.unwrap();
            let shown: BTreeMap<_, _> = rows.into_iter().map(|(kind, key, body)| ((kind, key), body)).collect();
            prop_assert_eq!(shown, overlay(&lots));
            Ok(())
        })?;
    }
}
