use super::*;
use crate::lots::{LOTS, PDVS};
use crate::testing::{
    applied, closed, dump, fact, failed, feed, history, opened, pdv, place, released, store, temp, till,
    unreadable,
};

const REGISTRY: &str = "REGISTRY";

#[tokio::test]
async fn a_batch_moves_the_place_and_counts_once_when_it_is_delivered_again() {
    let db = temp().await;
    assert_eq!(db.cursor(Projection::Registry, REGISTRY).await.unwrap(), None);
    let batch = history([store("1", &[]), pdv("1", "a"), store("2", &[])]);
    let first = db.apply(Projection::Registry, REGISTRY, None, &batch[..2]).await.unwrap();
    assert_eq!(first, Applied { cursor: Some(place(2)), applied: 2, parked: 0, skipped: 0 });
    let again = db.apply(Projection::Registry, REGISTRY, Some(place(2)), &batch).await.unwrap();
    assert_eq!(again, Applied { cursor: Some(place(3)), applied: 1, parked: 0, skipped: 2 });
    let rows = dump(&db).await;
    let nothing = db.apply(Projection::Registry, REGISTRY, Some(place(3)), &batch).await.unwrap();
    assert_eq!(nothing, Applied { cursor: Some(place(3)), applied: 0, parked: 0, skipped: 3 });
    assert_eq!(dump(&db).await, rows);
    assert_eq!(db.cursor(Projection::Registry, REGISTRY).await.unwrap(), Some(place(3)));
    assert_eq!(db.cursor(Projection::Lots, REGISTRY).await.unwrap(), None, "each projection has its own");
}

#[tokio::test]
async fn a_runner_that_was_overtaken_changes_nothing() {
    let db = temp().await;
    let batch = history([store("1", &[]), store("2", &[])]);
    db.apply(Projection::Registry, REGISTRY, None, &batch[..1]).await.unwrap();
    let rows = dump(&db).await;
    let other = Cursor { sequence: 1, hash: Digest::of(b"another message at the same place") };
    for expected in [None, Some(other), Some(place(7))] {
        let late = [fact(8, store("3", &[]))];
        let error = db.apply(Projection::Registry, REGISTRY, expected, &late).await.unwrap_err();
        assert!(matches!(error, ApplyError::Moved { .. }), "{expected:?}: {error}");
    }
    assert_eq!(dump(&db).await, rows);
}

#[tokio::test]
async fn of_two_hubs_that_race_each_batch_goes_in_once() {
    let temp = temp().await;
    let other = Db::open(&temp.url).await.unwrap();
    let batch = history((0..40).map(|n| opened(n, "all")));
    for n in 0..20 {
        let expected = (n > 0).then(|| place(n * 2));
        let (from, to) = (usize::try_from(n * 2).unwrap(), usize::try_from(n * 2 + 2).unwrap());
        let (one, two) = tokio::join!(
            temp.apply(Projection::Lots, LOTS, expected, &batch[from..to]),
            other.apply(Projection::Lots, LOTS, expected, &batch[from..to])
        );
        let outcomes = [one, two];
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        let moved = |outcome: &Result<_, _>| matches!(outcome, Err(ApplyError::Moved { .. }));
        assert_eq!(outcomes.iter().filter(|outcome| moved(outcome)).count(), 1, "{outcomes:?}");
    }
    assert_eq!(temp.open_lots(10).await.unwrap().count, 40);
}

#[tokio::test]
async fn a_batch_out_of_order_is_refused() {
    let db = temp().await;
    let batch = [fact(2, store("1", &[])), fact(1, store("2", &[]))];
    let error = db.apply(Projection::Registry, REGISTRY, None, &batch).await.unwrap_err();
    assert!(matches!(error, ApplyError::OutOfOrder { sequence: 1, after: 2, .. }), "{error}");
    assert_eq!(db.cursor(Projection::Registry, REGISTRY).await.unwrap(), None);
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_with_its_key_and_nobody_elses() {
    let db = temp().await;
    let lot = crate::testing::lot_id(1);
    let batch = [
        fact(1, opened(1, "group-sul")),
        unreadable(2, &format!("lots.group-sul.{lot}")),
        fact(3, closed(1)),
        fact(4, opened(2, "all")),
    ];
    let done = feed(&db, Projection::Lots, LOTS, &batch).await.unwrap();
    assert_eq!((done.applied, done.parked), (2, 2));
    // A later batch finds the key parked too.
    let later = [fact(5, released(1, &["1"], true)), fact(6, closed(2))];
    let done = feed(&db, Projection::Lots, LOTS, &later).await.unwrap();
    assert_eq!((done.applied, done.parked), (1, 1));
    let parked = db.parked(10).await.unwrap();
    let told: Vec<_> = parked.iter().map(|p| (p.sequence, p.behind, p.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            (2, None, "not protobuf"),
            (3, Some(2), "waits behind message 2"),
            (5, Some(2), "waits behind message 2")
        ]
    );
    assert_eq!(parked[0].subject_key, format!("lots.{lot}"));
    assert_eq!(db.parked_count().await.unwrap(), 3);
    assert_eq!(db.lot(lot).await.unwrap().unwrap().state, crate::lots::LotState::Open);
    let other = db.lot(crate::testing::lot_id(2)).await.unwrap().unwrap();
    assert_eq!(other.state, crate::lots::LotState::Closed);
}

#[tokio::test]
async fn a_fact_that_makes_no_sense_is_parked() {
    let db = temp().await;
    let batch = [fact(1, closed(1)), fact(2, store("1", &[])), fact(3, opened(2, "all"))];
    let done = feed(&db, Projection::Lots, LOTS, &batch).await.unwrap();
    assert_eq!((done.applied, done.parked), (1, 2));
    let reasons: Vec<_> = db.parked(10).await.unwrap().into_iter().map(|p| p.reason).collect();
    assert_eq!(reasons, ["the lot was never opened", "registry.store.1 is not of this projection"]);
}

#[tokio::test]
async fn a_till_that_counts_beyond_reason_is_parked() {
    let db = temp().await;
    let absurd = malote_domain::pdvs::Event::LotApplied {
        lot: crate::testing::lot_id(1),
        notice: u64::MAX,
        upserted: 1,
        deleted: 0,
        quarantined: 0,
        problems: vec![],
        took_ms: 0,
    };
    let batch = history([Fact::Till(till("1", "a"), absurd), applied(1, till("1", "b"), &[])]);
    let done = feed(&db, Projection::Lots, PDVS, &batch).await.unwrap();
    assert_eq!((done.applied, done.parked), (1, 1));
}

#[tokio::test]
async fn setting_back_to_the_beginning_empties_what_came_of_the_stream() {
    let db = temp().await;
    let lots = history([opened(1, "all"), closed(1), released(1, &["1"], true)]);
    let pdvs = history([failed(1, till("1", "a"), 1), applied(1, till("1", "a"), &[("k", "bad")])]);
    feed(&db, Projection::Lots, LOTS, &lots).await.unwrap();
    let without = dump(&db).await;
    feed(&db, Projection::Lots, PDVS, &pdvs).await.unwrap();
    feed(&db, Projection::Lots, PDVS, &[unreadable(3, "pdvs.1.a")]).await.unwrap();
    assert_eq!(db.rewind(Projection::Lots, PDVS, None).await.unwrap(), None);
    assert_eq!(dump(&db).await, without);
}

#[tokio::test]
async fn what_cannot_be_undone_is_built_anew() {
    let db = temp().await;
    let registry = history([store("1", &[]), store("2", &[])]);
    feed(&db, Projection::Registry, REGISTRY, &registry).await.unwrap();
    assert_eq!(db.rewind(Projection::Registry, REGISTRY, Some(place(1))).await.unwrap(), None);
    assert!(db.all_stores().await.unwrap().is_empty());
    assert_eq!(db.cursor(Projection::Registry, REGISTRY).await.unwrap(), None);
}

#[tokio::test]
async fn a_head_only_moves_forward_until_it_is_forgotten() {
    let db = temp().await;
    for sequence in [5, 9, 7] {
        db.record_head(LOTS, sequence, place(sequence).hash).await.unwrap();
    }
    assert_eq!(db.head(LOTS).await.unwrap(), Some(place(9)));
    assert_eq!(db.head(PDVS).await.unwrap(), None);
    db.forget_heads().await.unwrap();
    assert_eq!(db.head(LOTS).await.unwrap(), None);
}

#[tokio::test]
async fn texts_from_tills_may_hold_anything() {
    let db = temp().await;
    let batch = history([applied(1, till("1", "a"), &[("k'; DROP TABLE lot; --", "a\0b")])]);
    feed(&db, Projection::Lots, PDVS, &batch).await.unwrap();
    let problems = db.lot_problems(crate::testing::lot_id(1), None, 10).await.unwrap();
    assert_eq!(problems[0].key, "k'; DROP TABLE lot; --");
    assert_eq!(problems[0].reason, "a\u{fffd}b");
}
