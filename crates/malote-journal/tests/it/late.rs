//! A publish that timed out and lands all the same, when the broker goes on.

use std::slice;
use std::time::Duration;

use malote_broker::Broker;
use malote_domain::registry::{Store, StoreCommand, StoreEvent};
use malote_domain::{Decider, StoreId};
use malote_journal::wire::Wire;
use malote_journal::{AppendError, Appended, Entry, Expected, JetStream, Journal, Place, execute};
use serde_json::Value;

use crate::execute::details;
use crate::fixture::{Nodes, World, connect, ctx, entries, on_one_and_on_three};

on_one_and_on_three!(alone: what_lands_late_existed);

/// How often a node is frozen, and how long what it had taken in may take to land.
const ROUNDS: usize = 5;
const LANDS_WITHIN: Duration = Duration::from_secs(8);

/// The node to freeze: alone, or one that takes messages in and only passes them on to the stream's leader. Freezing
/// the leader itself would let another take over, and what the old one had taken in would be nobody's.
async fn node(world: &World, stream: &str) -> usize {
    if world.nodes == Nodes::One {
        return 0;
    }
    let info = world.api(&format!("STREAM.INFO.{stream}"), Value::Null).await;
    let leader = info["cluster"]["leader"].as_str().unwrap().to_owned();
    (0..3).find(|node| leader != format!("node-{node}")).unwrap()
}

/// Appends at a frozen broker, and waits until what it was told has landed.
async fn append_late(world: &World, frozen: (&Broker, &JetStream), place: &Place, entry: &Entry) {
    let (broker, journal) = frozen;
    // What a frozen node of three had taken in may be lost with its routes when it goes on: then it is frozen again.
    for _ in 0..ROUNDS {
        broker.pause().await.unwrap();
        let result = journal.append(place, Expected::Empty, slice::from_ref(entry)).await;
        broker.resume().await.unwrap();
        assert!(matches!(result, Err(AppendError::Unavailable { .. })), "{result:?}");
        let landed = async {
            while !world.journal.load(place.stream, &place.filter).await.is_ok_and(|there| !there.is_empty())
            {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(LANDS_WITHIN, landed).await.is_ok() {
            return;
        }
    }
    panic!("in {ROUNDS} rounds nothing landed late");
}

async fn what_lands_late_existed(world: World) {
    let node = node(&world, Store::STREAM).await;
    let broker = world.servers.brokers.node(node);
    let journal = connect(broker.url()).await.answer_within(Duration::from_millis(200));
    let (store, ctx) = (StoreId::parse("330").unwrap(), ctx());
    let event = StoreEvent::Registered(details("Centro"));
    let entry = Store::encode(&event, &ctx.meta(0));
    let place = Place {
        stream: Store::STREAM,
        subject: Store::subject(&store, &<Store as Decider>::State::default(), &[]),
        filter: Store::filter(&store),
    };
    append_late(&world, (broker, &journal), &place, &entry).await;

    let again = journal.append(&place, Expected::Empty, &[entry]).await.unwrap();
    assert_eq!(again, Appended::Existed { last: 1 });
    let command = StoreCommand::Register(details("Centro"));
    let done = execute::<Store, _>(&journal, &store, command, &ctx).await.unwrap();
    assert_eq!((done.events, done.last), (vec![event], 1));

    // Somebody else is told that there was a write.
    let result = journal.append(&place, Expected::Empty, &entries::<1>()).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    assert_eq!(world.messages(&place).await.len(), 1, "sent again and again while frozen, stored once");
}
