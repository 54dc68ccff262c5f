//! What wakes a reader.

use std::time::Duration;

use bytes::Bytes;
use malote_journal::{Expected, Journal, Page, Reader, Stored, Wake};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::fixture::{Brokers, Nodes, World, alone, entries, eventually, on_one_and_on_three, place};

/// Far longer than a test may take: who waits so long was not woken.
const NEVER: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(20);

on_one_and_on_three!(on: a_message_wakes, a_burst_wakes_once, what_was_heard_of_wakes_until_it_is_reached);

async fn wake(world: &World, stream: &str) -> Wake {
    // The first connection is told of a moment later; it is not what must wake.
    world.journal.connection().connects().wait_for(|connects| *connects == 1).await.unwrap();
    let wake = Wake::on(world.journal.connection(), format!("{stream}.>")).await.unwrap();
    // The subscription is with the server before anybody writes.
    world.journal.connection().client().flush().await.unwrap();
    wake
}

async fn a_message_wakes(world: World) {
    let stream = world.stream(json!({})).await;
    let mut wake = wake(&world, stream).await;
    let writer = world.another().await;
    let mut written = 0;
    let mut woken = std::pin::pin!(timeout(SOON, wake.wait(NEVER)));
    // Another node of a cluster hears of the subscription a moment later, and does not send before.
    loop {
        let expected = if written == 0 { Expected::Empty } else { Expected::At(written) };
        written = writer.append(&place(stream, "a"), expected, &entries::<1>()).await.unwrap().last();
        if let Ok(woken) = timeout(Duration::from_millis(200), &mut woken).await {
            break woken.unwrap();
        }
    }
    let reader = Reader::new(world.journal.clone(), stream);
    eventually("it can be read", async || {
        matches!(reader.after(None, 1000).await.unwrap(), Page::Messages(messages) if messages.len() as u64 == written)
    })
    .await;
}

async fn a_burst_wakes_once(world: World) {
    let stream = world.stream(json!({})).await;
    let mut wake = wake(&world, stream).await;
    let client = world.journal.connection().client();
    for _ in 0..100 {
        client.publish(format!("{stream}.a"), Bytes::new()).await.unwrap();
    }
    // What was published on this connection before comes back on it before the answer to this.
    let reader = Reader::new(world.journal.clone(), stream);
    eventually("all are stored", async || reader.last_sequence().await.unwrap() == 100).await;
    timeout(SOON, wake.wait(NEVER)).await.unwrap();
    wake.reached(100);
    let nothing_more = Duration::from_millis(300);
    let before = Instant::now();
    wake.wait(nothing_more).await;
    assert!(before.elapsed() >= nothing_more, "woken again by the same burst");
}

/// A message is heard of before it can be read: who has not come to it yet is woken again, until it is there.
async fn what_was_heard_of_wakes_until_it_is_reached(world: World) {
    let stream = world.stream(json!({})).await;
    let mut wake = wake(&world, stream).await;
    let writer = world.journal.connection().client().clone();
    writer.publish(format!("{stream}.a"), Bytes::new()).await.unwrap();
    for _ in 0..3 {
        timeout(SOON, wake.wait(NEVER)).await.unwrap();
    }
    wake.reached(1);
    assert!(
        timeout(Duration::from_millis(300), wake.wait(NEVER)).await.is_err(),
        "woken for what was reached"
    );
}

/// What was missed while the broker was away is read because the new connection wakes.
#[test]
fn a_new_connection_wakes() {
    alone(Nodes::One, async |world| {
        let stream = world.stream(json!({})).await;
        let Brokers::One(broker) = &world.servers.brokers else { panic!("one node") };
        let [first, second] = entries();
        let place = place(stream, "a");
        world.journal.append(&place, Expected::Empty, &[first]).await.unwrap();
        let reader = Reader::new(world.journal.clone(), stream);
        let Page::Messages(read) = reader.after(None, 10).await.unwrap() else { panic!("truncated") };
        let mut wake = wake(&world, stream).await;
        assert!(world.journal.connection().is_online());

        broker.crash().await.unwrap();
        eventually("the loss is noticed", async || !world.journal.connection().is_online()).await;
        assert!(reader.after(None, 10).await.is_err(), "nobody is there");
        let woken = tokio::spawn(async move {
            wake.wait(NEVER).await;
            wake
        });
        broker.start_again().await.unwrap();
        let mut wake = timeout(SOON, woken).await.unwrap().unwrap();
        assert!(world.journal.connection().is_online());
        let cursor = read.last().map(Stored::cursor);
        eventually("the stream is there again", async || {
            matches!(reader.after(cursor, 10).await, Ok(Page::Messages(messages)) if messages.is_empty())
        })
        .await;

        // And the subscription goes on over the new connection.
        world.journal.append(&place, Expected::At(1), &[second]).await.unwrap();
        timeout(SOON, wake.wait(NEVER)).await.unwrap();
        let Page::Messages(read) = reader.after(cursor, 10).await.unwrap() else { panic!("truncated") };
        assert_eq!(read.len(), 1);
    });
}
