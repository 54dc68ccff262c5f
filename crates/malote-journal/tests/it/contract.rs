//! What every journal promises, asked of each: memory, one node, three nodes.

use std::collections::BTreeSet;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use malote_journal::journal::{HISTORY_EVENTS_MAX, PAYLOAD_BYTES_MAX};
use malote_journal::{AppendError, Appended, Expected, Journal, LoadError, Place};
use tokio::task::JoinSet;

use crate::fixture::{by_every_journal, entries, place};

by_every_journal!(
    nothing_is_read_where_nothing_was_written,
    what_was_appended_is_read_in_its_order,
    a_wrong_expectation_is_a_conflict,
    the_same_append_again_existed,
    an_expectation_covers_every_subject_of_the_filter,
    what_no_journal_takes_is_refused,
    a_history_too_long_is_said_to_be,
    of_racing_writers_one_wins,
);

async fn nothing_is_read_where_nothing_was_written<J: Journal>(journal: Arc<J>, stream: &'static str) {
    let place = place(stream, "a");
    assert!(journal.load(stream, &place.filter).await.unwrap().is_empty());
    let [entry] = entries();
    let result = journal.append(&place, Expected::At(1), &[entry]).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    assert!(journal.load(stream, &place.filter).await.unwrap().is_empty());
}

async fn what_was_appended_is_read_in_its_order<J: Journal>(journal: Arc<J>, stream: &'static str) {
    let (place, other) = (place(stream, "a"), place(stream, "b"));
    let all: [_; 6] = entries();
    let first = journal.append(&place, Expected::Empty, &all[..1]).await.unwrap();
    let others = journal.append(&other, Expected::Empty, &entries::<2>()).await.unwrap();
    let rest = journal.append(&place, Expected::At(first.last()), &all[1..]).await.unwrap();
    assert_eq!(
        [first, others, rest],
        [Appended::Created { last: 1 }, Appended::Created { last: 3 }, Appended::Created { last: 8 }]
    );
    let history = journal.load(stream, &place.filter).await.unwrap();
    assert_eq!(history.iter().map(|stored| stored.sequence).collect::<Vec<_>>(), [1, 4, 5, 6, 7, 8]);
    for (stored, entry) in history.iter().zip(&all) {
        assert_eq!((&stored.subject, &stored.payload), (&place.subject, &entry.payload));
        assert_eq!(stored.id, Some(entry.id.to_string()));
    }
    assert_eq!(journal.load(stream, &format!("{stream}.*")).await.unwrap().len(), 8);
}

async fn a_wrong_expectation_is_a_conflict<J: Journal>(journal: Arc<J>, stream: &'static str) {
    let place = place(stream, "a");
    let last = journal.append(&place, Expected::Empty, &entries::<2>()).await.unwrap().last();
    for wrong in [Expected::Empty, Expected::At(1), Expected::At(last + 1)] {
        let single = journal.append(&place, wrong, &entries::<1>()).await;
        let batch = journal.append(&place, wrong, &entries::<3>()).await;
        for result in [single, batch] {
            assert!(matches!(result, Err(AppendError::Conflict { .. })), "{wrong:?}: {result:?}");
        }
    }
    assert_eq!(journal.load(stream, &place.filter).await.unwrap().len(), 2);
}

async fn the_same_append_again_existed<J: Journal>(journal: Arc<J>, stream: &'static str) {
    let place = place(stream, "a");
    let (single, batch) = (entries::<1>(), entries::<3>());
    assert_eq!(
        journal.append(&place, Expected::Empty, &single).await.unwrap(),
        Appended::Created { last: 1 }
    );
    assert_eq!(journal.append(&place, Expected::At(1), &batch).await.unwrap(), Appended::Created { last: 4 });
    for _ in 0..2 {
        let again = journal.append(&place, Expected::Empty, &single).await.unwrap();
        assert_eq!(again, Appended::Existed { last: 1 });
        let again = journal.append(&place, Expected::At(1), &batch).await.unwrap();
        assert_eq!(again, Appended::Existed { last: 4 });
    }
    assert_eq!(journal.load(stream, &place.filter).await.unwrap().len(), 4);
}

async fn an_expectation_covers_every_subject_of_the_filter<J: Journal>(
    journal: Arc<J>,
    stream: &'static str,
) {
    let within = |scope: &str| Place {
        stream,
        subject: format!("{stream}.{scope}.lot"),
        filter: format!("{stream}.*.lot"),
    };
    let last = journal.append(&within("all"), Expected::Empty, &entries::<1>()).await.unwrap().last();
    let result = journal.append(&within("store"), Expected::Empty, &entries::<1>()).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    let batch: [_; 2] = entries();
    let next = journal.append(&within("store"), Expected::At(last), &batch).await.unwrap();
    assert_eq!(next, Appended::Created { last: 3 });
    let again = journal.append(&within("store"), Expected::At(last), &batch).await.unwrap();
    assert_eq!(again, Appended::Existed { last: 3 });
}

async fn what_no_journal_takes_is_refused<J: Journal>(journal: Arc<J>, stream: &'static str) {
    let place = place(stream, "a");
    let result = journal.append(&place, Expected::Empty, &[]).await;
    assert!(matches!(result, Err(AppendError::Refused { .. })), "{result:?}");
    let result = journal.append(&place, Expected::Empty, &entries::<1001>()).await;
    assert!(matches!(result, Err(AppendError::Refused { .. })), "{result:?}");
    let mut pair: [_; 2] = entries();
    pair[1].payload = Bytes::from(vec![b'x'; PAYLOAD_BYTES_MAX + 1]);
    let result = journal.append(&place, Expected::Empty, &pair).await;
    let too_large = PAYLOAD_BYTES_MAX + 1;
    assert!(matches!(result, Err(AppendError::TooLarge { bytes, .. }) if bytes == too_large), "{result:?}");
    assert!(journal.load(stream, &place.filter).await.unwrap().is_empty());
    // The largest that is taken is really taken.
    pair[1].payload.truncate(PAYLOAD_BYTES_MAX);
    assert_eq!(journal.append(&place, Expected::Empty, &pair).await.unwrap().last(), 2);
}

async fn a_history_too_long_is_said_to_be<J: Journal>(journal: Arc<J>, stream: &'static str) {
    let place = place(stream, "a");
    let mut expected = Expected::Empty;
    for _ in 0..HISTORY_EVENTS_MAX / 1000 {
        let appended = journal.append(&place, expected, &entries::<1000>()).await.unwrap();
        expected = Expected::At(appended.last());
    }
    assert_eq!(journal.load(stream, &place.filter).await.unwrap().len(), HISTORY_EVENTS_MAX);
    journal.append(&place, expected, &entries::<1>()).await.unwrap();
    let result = journal.load(stream, &place.filter).await;
    assert!(matches!(result, Err(LoadError::TooLong { .. })), "{:?}", result.map(|history| history.len()));
}

async fn of_racing_writers_one_wins<J: Journal + 'static>(journal: Arc<J>, stream: &'static str) {
    let place = place(stream, "a");
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (journal, place) = (Arc::clone(&journal), place.clone());
        tasks.spawn(async move {
            let [entry] = entries();
            journal
                .append(&place, Expected::Empty, slice::from_ref(&entry))
                .await
                .map(|_| entry.id.to_string())
        });
    }
    let results = tasks.join_all().await;
    let won: BTreeSet<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
    let history = journal.load(stream, &place.filter).await.unwrap();
    let stored: Vec<_> = history.iter().filter_map(|stored| stored.id.clone()).collect();
    assert_eq!(won.into_iter().collect::<Vec<_>>(), stored.iter().collect::<Vec<_>>());
    assert_eq!(stored.len(), 1);
    let lost = results.iter().filter(|result| matches!(result, Err(AppendError::Conflict { .. })));
    assert_eq!(lost.count(), 15);
}
