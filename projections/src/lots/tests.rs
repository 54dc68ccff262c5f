use malote_domain::lots::{AbortReason, Event};
use malote_domain::{Read, Scope};
use proptest::prelude::*;

use super::*;
use crate::Projection;
use crate::testing::{
    Temp, applied, closed, dump, failed, feed, history, lot_id, opened, pdv, place, released, store,
    store_id, superseded, temp, till,
};

async fn given(lots: Vec<Fact>, pdvs: Vec<Fact>) -> Temp {
    let db = temp().await;
    let registry = [
        store("1", &["sul"]),
        store("2", &["sul"]),
        store("3", &[]),
        pdv("1", "a"),
        pdv("1", "b"),
        pdv("2", "a"),
        pdv("3", "a"),
    ];
    feed(&db, Projection::Registry, "REGISTRY", &history(registry)).await.unwrap();
    feed(&db, Projection::Lots, LOTS, &history(lots)).await.unwrap();
    feed(&db, Projection::Lots, PDVS, &history(pdvs)).await.unwrap();
    db
}

async fn view(db: &Temp, lot: u64) -> LotView {
    db.lot(lot_id(lot)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_lot_tells_its_life() {
    let db = given(vec![opened(1, "group-sul"), closed(1)], vec![]).await;
    let lot = view(&db, 1).await;
    assert_eq!((lot.scope.as_str(), lot.mode.as_str(), lot.state), ("group-sul", "delta", LotState::Closed));
    assert_eq!((lot.opened_at.as_str(), lot.opened_by.as_str()), ("1970-01-01T00:00:01Z", "back office"));
    assert_eq!(lot.closed_at.as_deref(), Some("1970-01-01T00:00:02Z"));
    assert_eq!((lot.chunks, lot.records, lot.bytes), (1, 5, 99));
    assert_eq!(lot.kinds, [("price".to_owned(), 3), ("product".to_owned(), 2)].into());
    assert_eq!((lot.version, lot.opened_seq, lot.lease_seconds), (None, 1, 900));
    assert_eq!(db.lot(lot_id(9)).await.unwrap(), None);
    assert_eq!(db.last_lots_sequence().await.unwrap(), Some(2));
}

#[tokio::test]
async fn waves_keep_the_version_of_the_first() {
    let waves = vec![opened(1, "all"), closed(1), released(1, &["1"], false), released(1, &["2", "3"], true)];
    let db = given(waves[..3].to_vec(), vec![]).await;
    let lot = view(&db, 1).await;
    assert_eq!((lot.state, lot.version, lot.totals.stores), (LotState::Releasing, Some(3), 1));
    let db = given(waves, vec![]).await;
    let lot = view(&db, 1).await;
    assert_eq!((lot.state, lot.version, lot.totals.stores), (LotState::Released, Some(3), 3));
    assert_eq!(lot.released_at.as_deref(), Some("1970-01-01T00:00:03Z"));
    let stores = db.current_releases(lot_id(1), None, 10).await.unwrap();
    let named: Vec<_> = stores.iter().map(|s| (s.store.as_str(), s.version)).collect();
    assert_eq!(named, [("1", 3), ("2", 4), ("3", 4)]);
    let rest = db.current_releases(lot_id(1), Some(&store_id("2")), 10).await.unwrap();
    assert_eq!(rest.len(), 1);
}

#[tokio::test]
async fn an_end_before_closing_is_an_abort_and_after_it_a_recall() {
    let aborted = Fact::Lot(lot_id(1), Event::Aborted(AbortReason::LeaseExpired));
    let recalled = Fact::Lot(lot_id(2), Event::Recalled { reason: "wrong prices".into() });
    let lots =
        vec![opened(1, "all"), aborted, opened(2, "all"), closed(2), released(2, &["1"], false), recalled];
    let db = given(lots, vec![]).await;
    let (one, two) = (view(&db, 1).await, view(&db, 2).await);
    assert_eq!(one.state, LotState::Aborted);
    assert_eq!(one.reason.as_deref(), Some("its lease expired: the sender gave no sign"));
    assert_eq!((two.state, two.reason.as_deref()), (LotState::Recalled, Some("wrong prices")));
}

#[tokio::test]
async fn totals_are_what_the_tills_reported() {
    let lots = vec![opened(1, "all"), closed(1), released(1, &["1", "2"], false)];
    let reports = vec![
        failed(1, till("1", "a"), 1),
        applied(1, till("1", "a"), &[]),
        failed(1, till("1", "a"), 2),
        applied(1, till("1", "b"), &[("7", "no price")]),
    ];
    let db = given(lots, reports).await;
    let totals = view(&db, 1).await.totals;
    let expected = Totals {
        stores: 2,
        pdvs: 4,
        applied: 1,
        applied_with_errors: 1,
        failed: 0,
        superseded: 0,
        pending: 2,
    };
    assert_eq!(totals, expected, "a late failure changes nothing; store 3 is still to come");
}

#[tokio::test]
async fn each_till_has_its_line() {
    let lots = vec![opened(1, "all"), closed(1), released(1, &["1", "2"], false)];
    let reports = vec![failed(1, till("1", "a"), 3), applied(1, till("1", "b"), &[("7", "no price")])];
    let db = given(lots, reports).await;
    let all = db.lot_arrival(lot_id(1), &ArrivalFilter::default(), None, 10).await.unwrap();
    let lines: Vec<_> = all.iter().map(|a| (a.store.as_str(), a.pdv.as_str(), a.state)).collect();
    assert_eq!(
        lines,
        [
            ("1", "a", ArrivalState::Failed),
            ("1", "b", ArrivalState::AppliedWithErrors),
            ("2", "a", ArrivalState::Released),
            ("3", "a", ArrivalState::Pending),
        ]
    );
    assert_eq!((all[0].reason.as_deref(), all[0].attempt), (Some("disk full"), 3));
    assert_eq!(all[0].next_try_at.as_deref(), Some("1970-01-01T00:01:00Z"));
    assert_eq!(
        (all[1].upserted, all[1].quarantined, all[1].took_ms, all[1].notice),
        (4, 1, Some(7), Some(1))
    );
    assert_eq!((all[2].released_at.is_some(), all[3].released_at.is_some()), (true, false));

    let page = db.lot_arrival(lot_id(1), &ArrivalFilter::default(), Some(&till("1", "b")), 1).await.unwrap();
    assert_eq!(page, all[2..3]);
    for (store, state, expected) in [
        (Some("1"), None, &all[..2]),
        (None, Some(ArrivalState::Pending), &all[2..]),
        (None, Some(ArrivalState::Released), &all[2..3]),
        (None, Some(ArrivalState::Failed), &all[..1]),
        (Some("1"), Some(ArrivalState::AppliedWithErrors), &all[1..2]),
    ] {
        let filter = ArrivalFilter { store: store.map(store_id), state };
        let found = db.lot_arrival(lot_id(1), &filter, None, 10).await.unwrap();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn a_lot_of_one_group_is_pending_only_there() {
    let db = given(vec![opened(1, "group-sul"), closed(1)], vec![]).await;
    let rows = db.lot_arrival(lot_id(1), &ArrivalFilter::default(), None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.store.as_str()).collect::<Vec<_>>(), ["1", "1", "2"]);
    assert_eq!(view(&db, 1).await.totals.pending, 3);
    let db = given(vec![opened(1, "store-3"), closed(1)], vec![]).await;
    let rows = db.lot_arrival(lot_id(1), &ArrivalFilter::default(), None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.store.as_str()).collect::<Vec<_>>(), ["3"]);
    assert_eq!(view(&db, 1).await.totals.pdvs, 1);
}

#[tokio::test]
async fn problems_are_those_of_the_last_report_page_by_page() {
    let reports = vec![
        applied(1, till("1", "a"), &[("old", "x"), ("older", "x")]),
        applied(1, till("1", "a"), &[("7", "no price")]),
        applied(1, till("2", "a"), &[("8", "no name"), ("8", "no unit")]),
    ];
    // Each report in a batch of its own, for the second to find the first in the tables.
    let db = given(vec![], vec![]).await;
    for read in history(reports) {
        feed(&db, Projection::Lots, PDVS, &[read]).await.unwrap();
    }
    let all = db.lot_problems(lot_id(1), None, 10).await.unwrap();
    let named: Vec<_> = all.iter().map(|p| (p.store.as_str(), p.key.as_str(), p.reason.as_str())).collect();
    assert_eq!(named, [("1", "7", "no price"), ("2", "8", "no name"), ("2", "8", "no unit")]);
    let page = db.lot_problems(lot_id(1), Some((&till("2", "a"), 0)), 1).await.unwrap();
    assert_eq!(page, all[2..]);
}

#[tokio::test]
async fn lots_are_listed_newest_first_by_state_and_scope() {
    let lots = vec![
        opened(1, "all"),
        opened(2, "store-1"),
        closed(2),
        opened(3, "all"),
        closed(3),
        opened(4, "all"),
    ];
    let db = given(lots, vec![]).await;
    let list = async |state, scope: Option<&str>, before, limit| {
        let filter = LotFilter { state, scope: scope.map(|scope| Scope::parse(scope).unwrap()) };
        let lots = db.lots(&filter, before, limit).await.unwrap();
        lots.iter().map(|lot| lot.opened_seq).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, None, 10).await, [6, 4, 2, 1]);
    assert_eq!(list(None, None, None, 2).await, [6, 4]);
    assert_eq!(list(None, None, Some(4), 2).await, [2, 1]);
    assert_eq!(list(Some(LotState::Closed), None, None, 10).await, [4, 2]);
    assert_eq!(list(None, Some("all"), None, 10).await, [6, 4, 1]);
    assert_eq!(list(Some(LotState::Open), Some("all"), None, 10).await, [6, 1]);
    let open = db.open_lots(1).await.unwrap();
    assert_eq!((open.count, open.lots.len()), (2, 1));
    assert_eq!((open.lots[0].lot.clone(), open.lots[0].lease_seconds), (lot_id(1).to_string(), 900));
}

#[tokio::test]
async fn a_new_store_is_told_what_was_released_to_its_scopes() {
    let mut lots = vec![];
    for (n, scope) in [(1, "all"), (2, "group-sul"), (3, "store-9"), (4, "group-norte"), (5, "all")] {
        lots.extend([opened(n, scope), closed(n), released(n, &["1"], n != 5)]);
    }
    let db = given(lots, vec![]).await;
    let scopes = ["all", "group-sul", "store-9"].map(|scope| Scope::parse(scope).unwrap());
    let found = db.released_for(&scopes, None, 10).await.unwrap();
    let versions: Vec<_> = found.iter().map(|lot| (lot.scope.as_str(), lot.version)).collect();
    assert_eq!(versions, [("all", 3), ("group-sul", 6), ("store-9", 9)], "lot 5 has waves to come");
    assert_eq!((found[0].records, found[0].kinds.len()), (5, 2));
    assert_eq!(db.released_for(&scopes, Some(6), 10).await.unwrap(), found[2..]);
    assert!(db.released_for(&[], None, 10).await.unwrap().is_empty());
}

/// A history of three lots and what three tills say of them.
fn anything() -> impl Strategy<Value = (Vec<Fact>, Vec<Fact>)> {
    let step = (0..3_u64, 0..5_u8, any::<bool>());
    let lots = prop::collection::vec(step, 0..12).prop_map(|steps| {
        let mut facts: Vec<Fact> = (0..3).map(|lot| opened(lot, "all")).collect();
        facts.extend(steps.into_iter().map(|(lot, what, flag)| match what {
            0 => opened(lot, "all"),
            1 => closed(lot),
            2 => released(lot, if flag { &["1", "2"] } else { &["3"] }, flag),
            3 => Fact::Lot(lot_id(lot), Event::Recalled { reason: "so".into() }),
            _ => released(lot, &["3"], false),
        }));
        facts
    });
    let report = (0..3_u64, 0..4_u8, prop::sample::select(vec!["1", "2"]));
    let pdvs = prop::collection::vec(report, 0..20).prop_map(|reports| {
        let facts = reports.into_iter().map(|(lot, what, store)| match what {
            0 => applied(lot, till(store, "a"), &[]),
            1 => applied(lot, till(store, "a"), &[("7", "no price")]),
            2 => failed(lot, till(store, "a"), 1),
            _ => superseded(lot, till(store, "a"), 9),
        });
        facts.collect()
    });
    (lots, pdvs)
}

async fn play(db: &Temp, stream: &str, reads: &[Read], sizes: &[usize]) {
    let (mut from, mut sizes) = (0, sizes.iter().cycle());
    while from < reads.len() {
        let to = reads.len().min(from + sizes.next().copied().unwrap_or(1));
        // Each batch repeats the one message before it.
        feed(db, Projection::Lots, stream, &reads[from.saturating_sub(1)..to]).await.unwrap();
        from = to;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a history comes, in batches, twice or again after setting back, the tables are those of once.
    #[test]
    fn a_rebuild_equals_the_live_tables(
        (lots, pdvs) in anything(),
        sizes in prop::collection::vec(1..6_usize, 1..4),
        back in 1..20_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (lots, pdvs) = (history(lots), history(pdvs));
            let live = temp().await;
            play(&live, LOTS, &lots, &sizes).await;
            play(&live, PDVS, &pdvs, &sizes).await;
            let expected = dump(&live).await;

            let rebuilt = temp().await;
            play(&rebuilt, PDVS, &pdvs, &[usize::MAX / 2]).await;
            play(&rebuilt, LOTS, &lots, &[usize::MAX / 2]).await;
            prop_assert_eq!(&dump(&rebuilt).await, &expected, "in one batch, the streams in the other order");

            for to in [None, Some(back)] {
                for (stream, reads) in [(LOTS, &lots), (PDVS, &pdvs)] {
                    let to = to.filter(|to| *to <= reads.len() as u64).map(place);
                    prop_assert_eq!(live.rewind(Projection::Lots, stream, to).await.unwrap(), to);
                    play(&live, stream, reads, &sizes).await;
                    prop_assert_eq!(&dump(&live).await, &expected, "{} set back to {:?}", stream, to);
                }
            }
            Ok(())
        })?;
    }
}
