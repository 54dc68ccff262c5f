//! The agent against a real broker, with the hub's part played by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use malote_broker::{Broker, BrokerOptions};
use malote_domain::lots::Mode;
use malote_domain::pdvs::Event;
use malote_domain::{GroupId, LotId};
use malote_journal::connection::Patience;
use malote_journal::notice::Notice;
use malote_journal::streams::Streams;
use malote_journal::wire::{decode_beat, decode_report};
use malote_journal::{Connection, Entry, JetStream, Journal as _, subjects};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::replica::Replica;
use crate::shared::Shared;
use crate::store::{OpenError, Store};
use crate::testkit::{Line, Made, address, delete, delta, entry, full, killed_after, lot, price};
use crate::{Agent, Config, StartError, Status};

const DEADLINE: Duration = Duration::from_secs(30);

/// A broker with the streams that a till needs.
struct Hub {
    broker: Broker,
    journal: JetStream,
    _dir: TempDir,
}

impl Hub {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let broker = Broker::start(BrokerOptions::new(dir.path(), "pdv-test")).await.unwrap();
        let connection = Connection::connect(broker.url(), "hub", Patience::None).await.unwrap();
        let hub = Self { broker, journal: JetStream::new(connection), _dir: dir };
        hub.ensure_streams().await;
        hub
    }

    async fn ensure_streams(&self) {
        let streams = Streams::load(None, None).unwrap();
        let wanted = [subjects::LOTDATA, subjects::PDVS];
        for file in streams.fixed().iter().filter(|file| wanted.contains(&file.name.as_str())) {
            file.ensure(self.journal.connection()).await.unwrap();
        }
        streams.of_store(&address().store).ensure(self.journal.connection()).await.unwrap();
    }

    async fn delete_stream(&self, name: &str) {
        let subject = format!("$JS.API.STREAM.DELETE.{name}");
        let answer: Value = self.journal.connection().ask(&subject, "".into()).await.unwrap();
        assert_eq!(answer["success"], true, "{answer}");
    }

    async fn publish(&self, subject: &str, entry: &Entry) -> u64 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", entry.id.to_string());
        self.journal.publish(subject, headers, entry.payload.clone()).await.unwrap()
    }

    async fn send_chunks(&self, made: &Made) {
        for (number, chunk) in &made.chunks {
            let subject = subjects::chunk(&made.notice.scope, made.notice.lot, *number);
            self.journal.publish(&subject, HeaderMap::new(), chunk.clone()).await.unwrap();
        }
    }

    async fn announce(&self, made: &Made) -> Entry {
        let entry = entry(&Notice::Lot(made.notice.clone()));
        self.publish(&subjects::lot_notice(&address().store), &entry).await;
        entry
    }

    async fn release(&self, made: &Made) {
        self.send_chunks(made).await;
        self.announce(made).await;
    }

    async fn reports(&self) -> Vec<Event> {
        let stored = self.journal.load(subjects::PDVS, &subjects::till(&address())).await.unwrap();
        stored.iter().map(|stored| decode_report(&stored.payload).unwrap().0).collect()
    }

    fn config(&self, dir: &Path) -> Config {
        Config {
            store: address().store,
            pdv: address().pdv,
            dir: dir.to_owned(),
            nats: self.broker.url().to_owned(),
            listen: Some(([127, 0, 0, 1], 0).into()),
        }
    }

    async fn agent(&self, dir: &Path) -> Agent {
        Agent::start(self.config(dir)).await.unwrap()
    }

    /// The parts of an agent, for a step at a time.
    async fn parts(&self, dir: &Path) -> Shared {
        let connection = self.journal.connection().clone();
        let deadline = Instant::now() + DEADLINE;
        loop {
            match Store::open(dir, &address()).await {
                Err(OpenError::InUse { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
                store => return Shared::new(store.unwrap(), connection),
            }
        }
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn settled(agent: &Agent, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    let mut last = None;
    eventually(what, async || {
        let status = agent.status().await.unwrap();
        let held = holds(&status);
        last = Some(status);
        held
    })
    .await;
    last.unwrap()
}

async fn get(agent: &Agent, path: &str) -> (u16, Value) {
    let url = format!("http://{}{path}", agent.http_addr().unwrap());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

async fn prices(shared: &Shared) -> BTreeMap<String, String> {
    let (records, _) = shared.store.records("price", "", "", 1000).await.unwrap();
    records.into_iter().map(|record| (record.key, record.body.as_str().to_owned())).collect()
}

fn lines(keys: std::ops::Range<u32>, cents: u64) -> Vec<Line> {
    keys.map(|key| price(&key.to_string(), cents)).collect()
}

#[tokio::test]
async fn a_lot_reaches_the_till_and_its_report_the_hub() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut beats = hub.journal.connection().client().subscribe(subjects::beat(&address())).await.unwrap();
    let agent = hub.agent(dir.path()).await;
    settled(&agent, "the till is online", |status| status.online && status.notices_behind == Some(0)).await;
    let made = delta(
        "all",
        1,
        &[price("7 89/1", 100), delete("price", "2"), ("price", "3".into(), Some("{}".into()))],
    );
    hub.release(&made).await;
    settled(&agent, "the lot is applied and reported", |s| {
        s.applied_since_start == 1 && s.outbox_unsent == 0
    })
    .await;
    let (status, record) = get(&agent, "/records/price/7%2089%2F1").await;
    assert_eq!((status, &record["body"]["price_cents"], &record["scope"]), (200, &100.into(), &"all".into()));
    assert_eq!(get(&agent, "/records/price/2").await.0, 404);
    assert_eq!(get(&agent, "/records/price?limit=5&prefix=7").await.1["records"][0]["key"], "7 89/1");
    for bad in ["/records/price?limit=0", "/records/price?limit=1001", "/records/pri.ce", "/lots?x=1"] {
        let (status, problem) = get(&agent, bad).await;
        assert_eq!((status, &problem["status"]), (400, &400.into()), "{bad}: {problem}");
    }
    assert_eq!(get(&agent, "/lots").await.1["lots"][0]["state"], "applied");
    assert_eq!(get(&agent, "/status").await.1["quarantined"], 1);
    let reports = hub.reports().await;
    assert!(
        matches!(&reports[..], [Event::LotApplied { lot, upserted: 1, deleted: 1, quarantined: 1, .. }]
            if *lot == made.notice.lot),
        "{reports:?}"
    );
    eventually("a beat tells of the notice", async || {
        let beat = decode_beat(&beats.next().await.unwrap().payload).unwrap();
        beat.notice == 1 && beat.download.is_none()
    })
    .await;
    agent.stop().await;
    hub.agent(dir.path()).await.stop().await;
}

#[tokio::test]
async fn requests_from_elsewhere_are_refused() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = hub.config(dir.path());
    config.listen = Some(([0, 0, 0, 0], 0).into());
    assert!(matches!(Agent::start(config).await, Err(StartError::NotLoopback { .. })));
    let agent = hub.agent(dir.path()).await;
    let url = format!("http://{}/status", agent.http_addr().unwrap());
    let client = reqwest::Client::new();
    for (header, value, wanted) in [
        ("host", "evil.example", 403),
        ("origin", "https://evil.example", 403),
        ("origin", "http://localhost:3000", 200),
    ] {
        let answer = client.get(&url).header(header, value).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), wanted, "{header}: {value}");
    }
    let answer = client.post(&url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 405);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_till_starts_and_answers_without_a_broker_and_catches_up_later() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let agent = hub.agent(dir.path()).await;
    hub.release(&delta("all", 1, &[price("1", 100)])).await;
    settled(&agent, "the first lot is applied", |status| status.applied_since_start == 1).await;
    agent.stop().await;
    hub.release(&delta("all", 2, &[price("1", 200)])).await;
    hub.broker.suspend().await.unwrap();
    let agent = hub.agent(dir.path()).await;
    let status = agent.status().await.unwrap();
    assert!(!status.online && status.notices_behind.is_none(), "{status:?}");
    assert_eq!(get(&agent, "/records/price/1").await.1["body"]["price_cents"], 100);
    hub.broker.start_again().await.unwrap();
    settled(&agent, "the second lot is applied", |status| status.online && status.applied_since_start == 1)
        .await;
    assert_eq!(get(&agent, "/records/price/1").await.1["body"]["price_cents"], 200);
}

#[tokio::test]
async fn a_store_that_is_not_registered_is_waited_for() {
    let hub = Hub::start().await;
    hub.delete_stream("STORE-330").await;
    let dir = tempfile::tempdir().unwrap();
    let shared = hub.parts(dir.path()).await;
    Replica::new(&shared).step().await.unwrap();
    assert_eq!(shared.activity.borrow().registered, Some(false));
    hub.ensure_streams().await;
    hub.release(&delta("all", 1, &[price("1", 100)])).await;
    Replica::new(&shared).step().await.unwrap();
    assert_eq!(prices(&shared).await.len(), 1);
}

#[tokio::test]
async fn a_step_killed_at_every_await_loses_nothing_and_repeats_nothing() {
    let hub = Hub::start().await;
    let lots = [
        full("all", 1, &lines(0..50, 1)),
        delta("all", 2, &lines(10..20, 2)),
        full("all", 3, &lines(0..30, 3)),
        lot("store-330", Mode::Delta, 4, &lines(5..35, 4), 3),
    ];
    for made in &lots {
        hub.release(made).await;
    }
    let wanted: BTreeMap<String, String> = (0..35)
        .map(|key| (key.to_string(), format!("{{\"price_cents\":{}}}", if key < 5 { 3 } else { 4 })))
        .collect();
    let (mut completed, mut kills) = (0, 0);
    while completed < 2 || kills < 60 {
        let dir = tempfile::tempdir().unwrap();
        let shared = hub.parts(dir.path()).await;
        let done = killed_after(kills, Replica::new(&shared).step()).await;
        drop(shared);
        let shared = hub.parts(dir.path()).await;
        let seen = prices(&shared).await;
        let full_lot = lines(0..30, 3).len();
        assert!([0, full_lot, 35].contains(&seen.len()), "after {kills} polls part of a lot shows: {seen:?}");
        completed += u32::from(done.is_some());
        Replica::new(&shared).step().await.unwrap();
        assert_eq!(prices(&shared).await, wanted, "after {kills} polls");
        let (_, unsent) = shared.store.unsent(100).await.unwrap();
        let mut applied = Vec::new();
        let mut superseded = BTreeSet::new();
        for entry in &unsent.entries {
            match decode_report(&entry.payload).unwrap().0 {
                Event::LotApplied { lot, .. } => applied.push(lot),
                Event::LotSuperseded { lot, by, .. } if by == lots[2].notice.lot => {
                    assert!(superseded.insert(lot));
                }
                other @ (Event::LotFailed { .. } | Event::LotSuperseded { .. }) => panic!("{other:?}"),
            }
        }
        assert_eq!(applied, [lots[2].notice.lot, lots[3].notice.lot], "after {kills} polls");
        assert_eq!(superseded.len(), 2, "after {kills} polls");
        kills += 1;
    }
}

/// The numbers of the chunks that are asked for while something runs.
async fn asked_during<T>(hub: &Hub, lot: LotId, run: impl Future<Output = T>) -> (Vec<u32>, T) {
    let client = hub.journal.connection().client();
    let mut asked = client.subscribe("$JS.API.DIRECT.GET.LOTDATA.>").await.unwrap();
    client.flush().await.unwrap();
    let output = run.await;
    client.publish("$JS.API.DIRECT.GET.LOTDATA.the.end", "".into()).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(message) = asked.next().await {
        let tokens: Vec<&str> = message.subject.split('.').collect();
        match tokens.as_slice() {
            [.., id, number] if *id == lot.to_string() => numbers.push(number.parse().unwrap()),
            [.., "the", "end"] => break,
            _ => {}
        }
    }
    (numbers, output)
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_killed() {
    let hub = Hub::start().await;
    let made = lot("all", Mode::Full, 1, &lines(0..200, 1), 5);
    assert_eq!(made.notice.chunks, 40);
    hub.release(&made).await;
    let dir = tempfile::tempdir().unwrap();
    let shared = hub.parts(dir.path()).await;
    let replica = Replica::new(&shared);
    let half_way = async {
        loop {
            if let Ok(work) = shared.store.next_work().await.unwrap()
                && shared.store.staged(&work).await.unwrap().len() >= 16
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = half_way => {}
        _ = replica.step() => panic!("the lot came in before the kill"),
    }
    drop(shared);
    let shared = hub.parts(dir.path()).await;
    let work = shared.store.next_work().await.unwrap().unwrap();
    let staged = shared.store.staged(&work).await.unwrap();
    assert!((16..40).contains(&staged.len()), "{staged:?}");
    let replica = Replica::new(&shared);
    let (asked, result) = asked_during(&hub, made.notice.lot, replica.step()).await;
    result.unwrap();
    let wanted: BTreeSet<u32> = (0..40).filter(|number| !staged.contains(number)).collect();
    assert_eq!(asked.len(), wanted.len());
    assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(prices(&shared).await.len(), 200);
}

#[tokio::test]
async fn a_lot_that_cannot_be_had_is_reported_and_holds_no_other_up() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let shared = hub.parts(dir.path()).await;
    let mut broken = lot("all", Mode::Delta, 1, &lines(0..50, 1), 5);
    let last = broken.chunks.pop_last().unwrap();
    hub.release(&broken).await;
    hub.release(&delta("all", 2, &[price("x", 9)])).await;
    let next = Replica::new(&shared).step().await.unwrap();
    assert!(next.is_some(), "it is tried again");
    assert_eq!(prices(&shared).await.len(), 1);
    let row = shared.store.lots(2).await.unwrap().pop().unwrap();
    assert_eq!(
        (row.state.as_str(), row.attempts, row.reason.as_deref()),
        ("failed", 1, Some("chunk 9 of 10 is missing"))
    );
    broken.chunks = BTreeMap::from([last]);
    hub.send_chunks(&broken).await;
    eventually("it is applied once its chunk is there", async || {
        Replica::new(&shared).step().await.unwrap();
        prices(&shared).await.len() == 51
    })
    .await;
}

#[tokio::test]
async fn a_store_stream_that_lost_its_tail_is_noticed_and_healed() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let shared = hub.parts(dir.path()).await;
    let replica = Replica::new(&shared);
    let first = delta("all", 1, &[price("1", 1)]);
    hub.send_chunks(&first).await;
    let first_notice = hub.announce(&first).await;
    hub.release(&delta("all", 2, &[price("2", 2)])).await;
    hub.release(&delta("all", 3, &[price("3", 3)])).await;
    replica.step().await.unwrap();
    assert_eq!(shared.store.counts().await.unwrap().truncations, 0);
    // The same first message, then others at the same sequences.
    hub.delete_stream("STORE-330").await;
    hub.ensure_streams().await;
    hub.publish(&subjects::lot_notice(&address().store), &first_notice).await;
    hub.release(&delta("all", 4, &[price("2", 22)])).await;
    hub.release(&delta("all", 5, &[price("5", 5)])).await;
    hub.release(&delta("all", 6, &[price("6", 6)])).await;
    replica.step().await.unwrap();
    assert_eq!(shared.store.counts().await.unwrap().truncations, 1);
    let prices = prices(&shared).await;
    assert_eq!(prices.keys().collect::<Vec<_>>(), ["1", "2", "3", "5", "6"]);
    assert!(prices["2"].contains("22"));
    assert_eq!(shared.store.position(&shared.stream()).await.unwrap(), 4);
    let applied_once = shared.store.lots(10).await.unwrap().iter().all(|lot| lot.attempts == 1);
    assert!(applied_once, "what both have in common is not applied again");
    // A stream made anew with nothing in it.
    hub.delete_stream("STORE-330").await;
    hub.ensure_streams().await;
    replica.step().await.unwrap();
    assert_eq!(shared.store.counts().await.unwrap().truncations, 2);
    assert_eq!(shared.store.cursor(&shared.stream()).await.unwrap(), None);
}

#[tokio::test]
async fn a_new_till_fetches_only_what_still_counts() {
    let hub = Hub::start().await;
    let mut wanted = BTreeMap::new();
    let mut needed = 0;
    for version in 1..=200_u64 {
        let made = if version % 50 == 0 {
            wanted = (0..10).map(|key: u32| (key.to_string(), version)).collect();
            full("all", version, &lines(0..10, version))
        } else {
            wanted.insert((version % 20).to_string(), version);
            delta("all", version, &[price(&(version % 20).to_string(), version)])
        };
        needed += u32::from(version >= 200);
        hub.release(&made).await;
    }
    for version in 201..=210_u64 {
        wanted.insert(version.to_string(), version);
        needed += 1;
        hub.release(&delta("all", version, &[price(&version.to_string(), version)])).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let agent = hub.agent(dir.path()).await;
    let status = settled(&agent, "all is done and reported", |s| s.done == 210 && s.outbox_unsent == 0).await;
    assert_eq!(status.applied_since_start, u64::from(needed));
    let (_, answer) = get(&agent, "/records/price?limit=1000").await;
    let seen: BTreeMap<String, u64> = answer["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["key"].as_str().unwrap().to_owned(), r["body"]["price_cents"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen, wanted);
    let reports = hub.reports().await;
    assert_eq!(reports.len(), 210);
    let superseded = reports.iter().filter(|event| matches!(event, Event::LotSuperseded { .. })).count();
    assert_eq!(superseded, 199);
}

#[tokio::test]
async fn groups_come_and_go_by_notice() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let shared = hub.parts(dir.path()).await;
    hub.release(&delta("group-sul", 1, &[price("1", 1)])).await;
    Replica::new(&shared).step().await.unwrap();
    assert_eq!(prices(&shared).await.len(), 1);
    let groups = Notice::Groups(BTreeSet::from([GroupId::parse("norte").unwrap()]));
    hub.publish(&subjects::groups_notice(&address().store), &entry(&groups)).await;
    Replica::new(&shared).step().await.unwrap();
    assert_eq!(prices(&shared).await.len(), 0);
}

#[tokio::test]
async fn a_hub_that_lost_its_reports_gets_all_of_them_again() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let agent = hub.agent(dir.path()).await;
    for version in 1..=3 {
        hub.release(&delta("all", version, &[price("1", version)])).await;
    }
    settled(&agent, "three reports are sent", |s| s.applied_since_start == 3 && s.outbox_unsent == 0).await;
    let before = hub.reports().await;
    hub.delete_stream(subjects::PDVS).await;
    hub.ensure_streams().await;
    hub.release(&delta("all", 4, &[price("1", 4)])).await;
    eventually("all four reports are there", async || hub.reports().await.len() == 4).await;
    assert_eq!(hub.reports().await[..3], before[..]);
    let status = settled(&agent, "nothing waits", |s| s.outbox_unsent == 0).await;
    assert!(!status.identity_conflict);
}

#[tokio::test]
async fn a_till_set_up_anew_goes_on_and_the_one_still_using_its_name_is_told() {
    let hub = Hub::start().await;
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = hub.agent(one.path()).await;
    hub.release(&delta("all", 1, &[price("1", 1)])).await;
    settled(&first, "the first has reported", |s| s.applied_since_start == 1 && s.outbox_unsent == 0).await;
    let second = hub.agent(two.path()).await;
    settled(&second, "the second has reported", |s| s.applied_since_start == 1 && s.outbox_unsent == 0).await;
    assert_eq!(hub.reports().await.len(), 2);
    hub.release(&delta("all", 2, &[price("1", 2)])).await;
    settled(&second, "the second goes on", |s| s.applied_since_start == 2 && s.outbox_unsent == 0).await;
    let status = settled(&first, "the first sees the conflict", |status| status.identity_conflict).await;
    assert_eq!(
        (status.applied_since_start, status.outbox_unsent),
        (2, 1),
        "its catalogue goes on all the same"
    );
    assert_eq!(hub.reports().await.len(), 3);
}

#[tokio::test]
async fn a_dropped_agent_lets_go_of_its_directory() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let agent = hub.agent(dir.path()).await;
    assert!(matches!(
        Agent::start(hub.config(dir.path())).await,
        Err(StartError::Open(OpenError::InUse { .. }))
    ));
    drop(agent);
    let shared = Arc::new(hub.parts(dir.path()).await);
    assert_eq!(shared.store.counts().await.unwrap().waiting, 0);
}
