//! What an append meets at a broker, and what must come of it wherever it runs.

use std::collections::BTreeSet;
use std::slice;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use malote_journal::{AppendError, Appended, Expected, JetStream, Journal, Place};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{Nodes, World, entries, eventually, on_one_and_on_three, place, unique};
use crate::raw;

on_one_and_on_three!(on:
    an_event_whose_answer_was_lost_existed,
    a_batch_whose_answer_was_lost_existed,
    an_answer_lost_on_the_way_is_looked_for_at_once,
    of_racing_writers_one_wins,
    of_racing_batches_one_wins_whole,
    a_repeat_beyond_the_window_existed,
    an_id_seen_on_another_subject_is_not_taken_for_stored,
    error_10164_is_looked_into,
    a_batch_is_all_or_nothing,
);

/// What the server says to the same single event once more. The two differ, or these tests would show nothing.
#[track_caller]
fn is_a_repeat(nodes: Nodes, answer: &Value) {
    match nodes {
        Nodes::One => assert_eq!(raw::code(answer), 10071, "{answer}"),
        Nodes::Three => assert!(raw::is_duplicate(answer), "{answer}"),
    }
}

async fn an_event_whose_answer_was_lost_existed(world: World) {
    let place = place(world.stream(json!({})).await, "a");
    let [first, second] = entries();
    let stored = raw::append(&world.journal, &place, Expected::Empty, &first).await;
    let last = stored["seq"].as_u64().unwrap();
    is_a_repeat(world.nodes, &raw::append(&world.journal, &place, Expected::Empty, &first).await);

    let again = world.journal.append(&place, Expected::Empty, slice::from_ref(&first)).await.unwrap();
    assert_eq!(again, Appended::Existed { last });
    // Also when others have gone on since.
    let next = world.journal.append(&place, Expected::At(last), &[second]).await.unwrap();
    assert_eq!(next, Appended::Created { last: last + 1 });
    let again = world.journal.append(&place, Expected::Empty, &[first]).await.unwrap();
    assert_eq!(again, Appended::Existed { last });
    assert_eq!(world.messages(&place).await.len(), 2);
}

async fn a_batch_whose_answer_was_lost_existed(world: World) {
    let place = place(world.stream(json!({})).await, "a");
    let [before] = entries();
    world.journal.append(&place, Expected::Empty, &[before]).await.unwrap();
    let batch: [_; 3] = entries();
    let expected = Expected::At(1);
    let stored = raw::append_batch(&world.journal, &place, expected, &batch, |index| index == 0).await;
    assert_eq!((stored["seq"].as_u64(), stored["count"].as_u64()), (Some(4), Some(3)), "{stored}");
    let repeat = raw::append_batch(&world.journal, &place, expected, &batch, |index| index == 0).await;
    assert_eq!(raw::code(&repeat), 10201, "{repeat}");

    let again = world.journal.append(&place, expected, &batch).await.unwrap();
    assert_eq!(again, Appended::Existed { last: 4 });
    let ids: Vec<_> = world.messages(&place).await.into_iter().filter_map(|stored| stored.id).collect();
    assert_eq!(ids[1..], batch.map(|entry| entry.id.to_string()), "once, and in their order");
}

/// A subject that leads to another one, and whose answers are lost on the way back.
async fn losing_answers(world: &World, place: &Place) -> Place {
    let subject = unique("loses.");
    let (journal, to) = (world.another().await, place.subject.clone());
    let mut messages = journal.connection().client().subscribe(subject.clone()).await.unwrap();
    journal.connection().client().flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            raw::ask(&journal, &to, message.headers.unwrap_or_default(), message.payload).await;
        }
    });
    Place { subject, ..place.clone() }
}

async fn an_answer_lost_on_the_way_is_looked_for_at_once(world: World) {
    let real = place(world.stream(json!({})).await, "a");
    let lossy = losing_answers(&world, &real).await;
    let journal = world.journal.clone().answer_within(Duration::from_millis(300));
    let [entry] = entries();
    let existed = journal.append(&lossy, Expected::Empty, &[entry]).await.unwrap();
    assert_eq!(existed, Appended::Existed { last: 1 });
    assert_eq!(world.messages(&real).await.len(), 1);
}

/// How `writers` appends of different events, of `N` each, at the same position end.
async fn race<const N: usize>(world: &World, place: &Place, expected: Expected, writers: usize) -> Vec<bool> {
    let journals: Vec<JetStream> =
        futures_util::future::join_all((0..4).map(|_| world.another())).await.into_iter().collect();
    let mut tasks = JoinSet::new();
    for n in 0..writers {
        let (journal, place) = (journals[n % journals.len()].clone(), place.clone());
        tasks.spawn(async move {
            match journal.append(&place, expected, &entries::<N>()).await {
                Ok(Appended::Created { .. }) => true,
                Err(AppendError::Conflict { .. }) => false,
                other => panic!("{other:?}"),
            }
        });
    }
    tasks.join_all().await
}

async fn of_racing_writers_one_wins(world: World) {
    let place = place(world.stream(json!({})).await, "a");
    let mut expected = Expected::Empty;
    for round in 1..=10 {
        let won = race::<1>(&world, &place, expected, 16).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "round {round}");
        let messages = world.messages(&place).await;
        assert_eq!(messages.len(), round);
        expected = Expected::At(messages.last().unwrap().sequence);
    }
}

async fn of_racing_batches_one_wins_whole(world: World) {
    let place = place(world.stream(json!({})).await, "a");
    let mut expected = Expected::Empty;
    for round in 1..=5 {
        let won = race::<3>(&world, &place, expected, 8).await;
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "round {round}");
        let messages = world.messages(&place).await;
        assert_eq!(messages.len(), round * 3);
        let sequences: Vec<_> = messages.iter().map(|stored| stored.sequence).collect();
        assert!(sequences.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{sequences:?}");
        expected = Expected::At(messages.last().unwrap().sequence);
    }
}

async fn a_repeat_beyond_the_window_existed(world: World) {
    // A tenth of a second: the server takes no less.
    let stream = world.stream(json!({ "duplicate_window": 100_000_000 })).await;
    let place = place(stream, "a");
    let [first, probe] = entries();
    let batch: [_; 3] = entries();
    let last = world.journal.append(&place, Expected::Empty, slice::from_ref(&first)).await.unwrap().last();
    let end = world.journal.append(&place, Expected::At(last), &batch).await.unwrap().last();
    // When the server has forgotten the id of a message that is younger than these, it has forgotten theirs.
    let probe_subject = format!("{stream}.probe");
    raw::ask(&world.journal, &probe_subject, raw::headers(&probe), Bytes::new()).await;
    eventually("the window passes", async || {
        let answer = raw::ask(&world.journal, &probe_subject, raw::headers(&probe), Bytes::new()).await;
        assert_eq!(raw::code(&answer), 0, "{answer}");
        !raw::is_duplicate(&answer)
    })
    .await;

    let answer = raw::append(&world.journal, &place, Expected::Empty, &first).await;
    assert!([10071, 10164].contains(&raw::code(&answer)), "no longer known by its id: {answer}");
    let again = world.journal.append(&place, Expected::Empty, &[first]).await.unwrap();
    assert_eq!(again, Appended::Existed { last });
    let again = world.journal.append(&place, Expected::At(last), &batch).await.unwrap();
    assert_eq!(again, Appended::Existed { last: end });
    assert_eq!(world.messages(&place).await.len(), 4);
}

async fn an_id_seen_on_another_subject_is_not_taken_for_stored(world: World) {
    let stream = world.stream(json!({})).await;
    let (victim, elsewhere) = (place(stream, "victim"), place(stream, "elsewhere"));
    let [entry] = entries();
    raw::ask(&world.journal, &elsewhere.subject, raw::headers(&entry), Bytes::from_static(b"other")).await;
    let answer = raw::append(&world.journal, &victim, Expected::Empty, &entry).await;
    assert!(raw::is_duplicate(&answer), "the server takes it for stored: {answer}");

    let result = world.journal.append(&victim, Expected::Empty, slice::from_ref(&entry)).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    let [another] = entries();
    let result = world.journal.append(&victim, Expected::Empty, &[another, entry]).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    assert!(world.messages(&victim).await.is_empty());
}

/// Brings the server to say 10164: one node by a batch that expects twice, three by writes that meet in flight.
async fn provoked_10164(world: &World) -> Value {
    let stream = world.stream(json!({})).await;
    if world.nodes == Nodes::One {
        let batch: [_; 2] = entries();
        return raw::append_batch(&world.journal, &place(stream, "a"), Expected::Empty, &batch, |_| true)
            .await;
    }
    let journals = [world.another().await, world.another().await];
    for round in 0..200 {
        let place = place(stream, &format!("round-{round}"));
        let mut tasks = JoinSet::new();
        for n in 0..8 {
            let (journal, place) = (journals[n % 2].clone(), place.clone());
            tasks.spawn(async move {
                let [entry] = entries();
                raw::append(&journal, &place, Expected::Empty, &entry).await
            });
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|answer| raw::code(answer) == 0).count(), 1, "{answers:?}");
        let codes: BTreeSet<_> = answers.iter().map(raw::code).collect();
        assert!(codes.is_subset(&BTreeSet::from([0, 10071, 10164])), "{codes:?}");
        if let Some(found) = answers.into_iter().find(|answer| raw::code(answer) == 10164) {
            return found;
        }
    }
    panic!("no two writes met in flight");
}

/// A subject where everybody is told the same.
async fn answering(world: &World, place: &Place, answer: &Value) -> Place {
    let subject = unique("answers.");
    let (client, answer) =
        (world.another().await.connection().client().clone(), Bytes::from(answer.to_string()));
    let mut messages = client.subscribe(subject.clone()).await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            client.publish(message.reply.unwrap(), answer.clone()).await.unwrap();
        }
    });
    Place { subject, ..place.clone() }
}

async fn error_10164_is_looked_into(world: World) {
    let answer = provoked_10164(&world).await;
    assert_eq!(raw::code(&answer), 10164, "{answer}");
    let real = place(world.stream(json!({})).await, "a");
    let refusing = answering(&world, &real, &answer).await;
    let [ours] = entries();
    let result = world.journal.append(&refusing, Expected::Empty, slice::from_ref(&ours)).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    world.journal.append(&real, Expected::Empty, slice::from_ref(&ours)).await.unwrap();
    let result = world.journal.append(&refusing, Expected::Empty, &[ours]).await.unwrap();
    assert_eq!(result, Appended::Existed { last: 1 });
}

async fn a_batch_is_all_or_nothing(world: World) {
    let stream = world.stream(json!({ "max_msg_size": 10_000 })).await;
    let place = place(stream, "a");
    let good: [_; 3] = entries();
    let result = world.journal.append(&place, Expected::At(7), &good).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    // The last is the one that is refused, when the others are with the server already.
    let mut bad = good.clone();
    bad[2].payload = Bytes::from(vec![b'x'; 20_000]);
    let result = world.journal.append(&place, Expected::Empty, &bad).await;
    assert!(matches!(result, Err(AppendError::Refused { .. })), "{result:?}");
    // A batch that nobody commits.
    let mut headers = raw::headers(&good[0]);
    headers.insert("Nats-Batch-Id", unique("batch"));
    headers.insert("Nats-Batch-Sequence", "1");
    assert!(raw::ask(&world.journal, &place.subject, headers, Bytes::new()).await.is_null());
    let result = world.journal.append(&place, Expected::Empty, &entries::<1000>()).await.unwrap();
    assert_eq!(world.messages(&place).await.len(), 1000, "{result:?}");
}
