//! `execute` on lots of their own, against what the broker gives a bare publish with an expectation.
//!
//! One line of JSON for each case: `ours` and `floor` in commands a second, and their ratio. The two take turns, so
//! that a busy moment of the machine meets both.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be made has nothing to say")]
#![expect(clippy::print_stdout, reason = "the result is the output")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use malote_broker::{Broker, BrokerOptions};
use malote_domain::lots::{Command, Event, Lot, Mode, Terms};
use malote_domain::{Actor, CommandId, Ctx, Kind, Scope, Timestamp};
use malote_journal::connection::Patience;
use malote_journal::streams::Streams;
use malote_journal::wire::Wire;
use malote_journal::{Connection, JetStream, execute, subjects};
use tokio::task::JoinSet;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerOptions::new(dir.path(), "bench")).await.unwrap();
    let connection = Connection::connect(broker.url(), "bench", Patience::None).await.unwrap();
    for file in Streams::load(None, Some(1)).unwrap().fixed() {
        file.ensure(&connection).await.unwrap();
    }
    let journal = JetStream::new(connection);
    for (name, tasks) in [("execute_sequential", 1), ("execute_64_tasks", 64)] {
        measure(name, &journal, tasks).await;
    }
    broker.stop().await.unwrap();
}

async fn measure(name: &str, journal: &JetStream, tasks: usize) {
    let mut ratios = vec![];
    let (mut ours, mut floor) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let bare = rate(journal, tasks, What::Publish).await;
        let whole = rate(journal, tasks, What::Execute).await;
        ratios.push(whole / bare);
        ours.push(whole);
        floor.push(bare);
    }
    let machine = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        r#"{{"bench":"{name}","machine":"{machine} cores, {}","ours":{:.0},"floor":{:.0},"ratio":{:.2}}}"#,
        std::env::consts::ARCH,
        median(&mut ours),
        median(&mut floor),
        median(&mut ratios)
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[derive(Clone, Copy)]
enum What {
    Publish,
    Execute,
}

/// Commands a second, each on a lot of its own.
async fn rate(journal: &JetStream, tasks: usize, what: What) -> f64 {
    let done = Arc::new(AtomicU32::new(0));
    let start = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..tasks {
        let (journal, done) = (journal.clone(), Arc::clone(&done));
        all.spawn(async move {
            while start.elapsed() < ROUND {
                let ctx = ctx();
                match what {
                    What::Publish => publish(&journal, &ctx).await,
                    What::Execute => {
                        let open = Command::Open(terms());
                        execute::<Lot, _>(&journal, &ctx.command.lot(), open, &ctx).await.unwrap();
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    all.join_all().await;
    f64::from(done.load(Ordering::Relaxed)) / start.elapsed().as_secs_f64()
}

fn ctx() -> Ctx {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let key = format!("bench {}", NEXT.fetch_add(1, Ordering::Relaxed));
    Ctx::new(Timestamp::from_micros(0), Actor::new("bench"), CommandId::from_key(&key).unwrap())
}

fn terms() -> Terms {
    Terms {
        scope: Scope::All,
        kinds: BTreeSet::from([Kind::parse("price").unwrap()]),
        mode: Mode::Delta,
        strict: false,
        lease_seconds: 900,
        activate_at: None,
        as_of: None,
    }
}

/// The same bytes on the same kind of subject, and nothing read before or looked at after.
async fn publish(journal: &JetStream, ctx: &Ctx) {
    let entry = Lot::encode(&Event::Opened(terms()), &ctx.meta(0));
    let lot = ctx.command.lot();
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", entry.id.to_string());
    headers.insert("Malote-Type", entry.message_type);
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", subjects::lot_any_scope(lot));
    let request = async_nats::Request::new().headers(headers).payload(entry.payload);
    let subject = subjects::lot(&Scope::All, lot);
    let answer = journal.connection().client().send_request(subject, request).await.unwrap();
    assert!(!answer.payload.windows(7).any(|window| window == b"\"error\""), "{:?}", answer.payload);
}
