//! Reading a stream from a cursor of one's own.

use async_nats::HeaderMap;
use bytes::Bytes;
use malote_domain::Cursor;
use malote_journal::{Entry, Expected, Journal, Page, ReadError, Reader, Stored};
use serde_json::{Value, json};

use crate::fixture::{Nodes, World, entries, eventually, on, on_one_and_on_three, place, unique};
use crate::raw;

on_one_and_on_three!(on:
    pages_bring_everything_once_and_in_order,
    a_page_is_bounded_in_bytes,
    a_filtered_reader_sees_its_subjects_only,
    other_messages_at_the_same_numbers_are_a_truncation,
    fewer_messages_are_a_truncation,
    the_same_messages_are_none,
    a_missing_stream_is_said_to_be_missing,
    single_messages_are_found,
);

/// The messages of a page that must not be a truncation.
#[track_caller]
fn messages(page: Page) -> Vec<Stored> {
    match page {
        Page::Messages(messages) => messages,
        Page::Truncated { last } => panic!("no tail was lost, yet it ends at {last}"),
    }
}

fn reader(world: &World, stream: &str) -> Reader {
    Reader::new(world.journal.clone(), stream)
}

/// Reads until so many messages were read. A replica may be a moment behind; it never brings a gap.
async fn read_all(reader: &Reader, limit: usize, count: usize) -> Vec<Stored> {
    let (mut all, mut cursor): (Vec<Stored>, Option<Cursor>) = (vec![], None);
    eventually("everything is read", async || {
        let page = messages(reader.after(cursor, limit).await.unwrap());
        assert!(page.len() <= limit);
        cursor = page.last().map(Stored::cursor).or(cursor);
        all.extend(page);
        all.len() >= count
    })
    .await;
    all
}

async fn fill(world: &World, stream: &'static str, entries: &[Entry]) {
    world.journal.append(&place(stream, "a"), Expected::Empty, entries).await.unwrap();
}

async fn pages_bring_everything_once_and_in_order(world: World) {
    let stream = world.stream(json!({})).await;
    let reader = reader(&world, stream);
    assert!(messages(reader.after(None, 10).await.unwrap()).is_empty());
    let written: [_; 25] = entries();
    fill(&world, stream, &written).await;
    let read = read_all(&reader, 10, 25).await;
    assert_eq!(read.iter().map(|stored| stored.sequence).collect::<Vec<_>>(), (1..=25).collect::<Vec<_>>());
    for (stored, entry) in read.iter().zip(&written) {
        assert_eq!((stored.id.clone(), &stored.payload), (Some(entry.id.to_string()), &entry.payload));
    }
    let end = read.last().map(Stored::cursor);
    assert!(messages(reader.after(end, 10).await.unwrap()).is_empty());
    assert_eq!(reader.last_sequence().await.unwrap(), 25);
    // What is read is what the leader has, to the hash.
    assert_eq!(world.messages(&place(stream, "a")).await, read);
}

async fn a_page_is_bounded_in_bytes(world: World) {
    let stream = world.stream(json!({})).await;
    let mut written: [_; 8] = entries();
    for entry in &mut written {
        entry.payload = Bytes::from(vec![b'x'; 900_000]);
    }
    fill(&world, stream, &written).await;
    let reader = reader(&world, stream);
    let read = read_all(&reader, 100, 8).await;
    let first = messages(reader.after(None, 100).await.unwrap());
    assert!((1..8).contains(&first.len()), "{} messages of 900 kB in one page", first.len());
    assert_eq!(first, read[..first.len()]);
}

async fn a_filtered_reader_sees_its_subjects_only(world: World) {
    let stream = world.stream(json!({})).await;
    let filter: &'static str = format!("{stream}.b").leak();
    for key in ["a", "b", "a", "b", "a"] {
        let [entry] = entries();
        raw::ask(&world.journal, &format!("{stream}.{key}"), raw::headers(&entry), Bytes::new()).await;
    }
    let reader = reader(&world, stream).filtered(filter);
    let read = read_all(&reader, 1, 2).await;
    assert_eq!(read.iter().map(|stored| stored.sequence).collect::<Vec<_>>(), [2, 4]);
    let end = read.last().map(Stored::cursor);
    assert!(messages(reader.after(end, 10).await.unwrap()).is_empty());
}

/// Takes the stream away, and makes it anew.
async fn lose(world: &World, stream: &'static str) {
    let answer = world.api(&format!("STREAM.DELETE.{stream}"), Value::Null).await;
    assert_eq!(answer["success"], true, "{answer}");
    world.create(stream, json!({})).await;
}

async fn is_truncated(reader: &Reader, cursor: Cursor, at: u64) {
    let page = reader.after(Some(cursor), 10).await.unwrap();
    assert!(matches!(page, Page::Truncated { last } if last == at), "{page:?}");
}

async fn other_messages_at_the_same_numbers_are_a_truncation(world: World) {
    let stream = world.stream(json!({})).await;
    let mut written: [_; 5] = entries();
    fill(&world, stream, &written).await;
    let reader = reader(&world, stream);
    let read = read_all(&reader, 10, 5).await;
    lose(&world, stream).await;
    // The first three are the same; the fourth differs by its bytes alone, the fifth by its id alone.
    written[3].payload = Bytes::from_static(b"other");
    written[4].id = entries::<1>()[0].id;
    fill(&world, stream, &written).await;
    is_truncated(&reader, read[3].cursor(), 5).await;
    is_truncated(&reader, read[4].cursor(), 5).await;
    // The walk back ends at the last common message, and goes on from there.
    let common = read[2].cursor();
    let at = reader.at(common.sequence).await.unwrap().unwrap();
    assert_eq!(at.cursor(), common);
    eventually("the new tail is read", async || {
        let page = messages(reader.after(Some(common), 10).await.unwrap());
        page.iter().map(|stored| stored.sequence).collect::<Vec<_>>() == [4, 5]
    })
    .await;
}

async fn fewer_messages_are_a_truncation(world: World) {
    let stream = world.stream(json!({})).await;
    let written: [_; 5] = entries();
    fill(&world, stream, &written).await;
    let reader = reader(&world, stream);
    let read = read_all(&reader, 10, 5).await;
    lose(&world, stream).await;
    is_truncated(&reader, read[4].cursor(), 0).await;
    fill(&world, stream, &written[..2]).await;
    is_truncated(&reader, read[4].cursor(), 2).await;
    // The same bytes and id on another subject are another message.
    lose(&world, stream).await;
    world.journal.append(&place(stream, "b"), Expected::Empty, &written[..1]).await.unwrap();
    is_truncated(&reader, read[0].cursor(), 1).await;
}

async fn the_same_messages_are_none(world: World) {
    let stream = world.stream(json!({})).await;
    let written: [_; 5] = entries();
    fill(&world, stream, &written).await;
    let reader = reader(&world, stream);
    let read = read_all(&reader, 10, 5).await;
    lose(&world, stream).await;
    fill(&world, stream, &written).await;
    assert!(messages(reader.after(Some(read[4].cursor()), 10).await.unwrap()).is_empty());
}

async fn a_missing_stream_is_said_to_be_missing(world: World) {
    let name = unique("MISSING");
    let reader = reader(&world, &name);
    let cursor = Stored { sequence: 1, subject: String::new(), id: None, payload: Bytes::new() }.cursor();
    let results = [
        reader.after(None, 10).await.map(|_| ()),
        reader.after(Some(cursor), 10).await.map(|_| ()),
        reader.last_sequence().await.map(|_| ()),
        reader.last_of("a").await.map(|_| ()),
    ];
    for result in results {
        assert!(matches!(&result, Err(ReadError::NoStream { stream }) if *stream == name), "{result:?}");
    }
}

async fn single_messages_are_found(world: World) {
    let stream = world.stream(json!({})).await;
    let reader = reader(&world, stream);
    let (a, nobody) = (format!("{stream}.a"), format!("{stream}.nobody"));
    assert_eq!(reader.last_of(&a).await.unwrap(), None);
    let written: [_; 3] = entries();
    fill(&world, stream, &written).await;
    let second = reader.at(2).await.unwrap().unwrap();
    assert_eq!((second.sequence, second.payload), (2, written[1].payload.clone()));
    assert_eq!(reader.at(4).await.unwrap(), None);
    eventually("every replica has the last", async || {
        reader.last_of(&a).await.unwrap().is_some_and(|stored| stored.id == Some(written[2].id.to_string()))
    })
    .await;
    assert_eq!(reader.last_of(&nobody).await.unwrap(), None);
}

/// A mirror that answers reads in the stream's place and gets one of its messages only is a replica that lags for
/// ever.
#[test]
fn a_replica_that_lags_is_not_taken_for_a_truncation() {
    on(Nodes::One, async |world| {
        let stream = world.stream(json!({})).await;
        let mirror = unique("LAGS");
        let of = json!({ "name": stream, "filter_subject": format!("{stream}.early") });
        let config = json!({ "subjects": null, "mirror": of, "mirror_direct": true, "allow_atomic": false });
        world.create(&mirror, config).await;
        let early = place(stream, "early");
        world.journal.append(&early, Expected::Empty, &entries::<1>()).await.unwrap();
        fill(&world, stream, &entries::<4>()).await;
        let reader = reader(&world, stream);
        let cursor = async |sequence| reader.at(sequence).await.unwrap().unwrap().cursor();
        let (first, third, end) = (cursor(1).await, cursor(3).await, cursor(5).await);

        let (mut lagged, mut answers) = (false, false);
        eventually("both answer", async || {
            let ask = Bytes::from_static(br#"{"seq":5}"#);
            let client = world.journal.connection().client();
            let message = client.request(format!("$JS.API.DIRECT.GET.{stream}"), ask).await.unwrap();
            let is_there = message.status.is_none_or(|status| status.as_u16() != 404);
            (lagged, answers) = (lagged || !is_there, answers || is_there);
            for (cursor, all) in [(first, 4), (third, 2), (end, 0)] {
                let page = messages(reader.after(Some(cursor), 10).await.unwrap());
                assert!(page.is_empty() || page.len() == all, "all or nothing from one replica: {page:?}");
            }
            lagged && answers
        })
        .await;
    });
}

/// A message that came without an id is read all the same.
#[test]
fn a_message_of_another_publisher_is_read() {
    on(Nodes::One, async |world| {
        let stream = world.stream(json!({})).await;
        raw::ask(&world.journal, &format!("{stream}.a"), HeaderMap::new(), Bytes::from_static(b"x")).await;
        let read = messages(reader(&world, stream).after(None, 10).await.unwrap());
        assert_eq!(read.iter().map(|stored| (stored.sequence, &stored.id)).collect::<Vec<_>>(), [(1, &None)]);
        let again = reader(&world, stream).after(Some(read[0].cursor()), 10).await.unwrap();
        assert!(messages(again).is_empty());
    });
}
