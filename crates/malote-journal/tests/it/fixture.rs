//! Brokers that tests share, and streams that they do not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use malote_broker::{Broker, BrokerOptions, Cluster};
use malote_domain::{Actor, CommandId, Ctx, Timestamp};
use malote_journal::connection::Patience;
use malote_journal::streams::Streams;
use malote_journal::{Connection, Entry, JetStream, Journal, Memory, Place, Stored};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where a test runs: what the two answer differs, what the journal makes of it must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nodes {
    One,
    Three,
}

impl Nodes {
    pub const fn replicas(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Three => 3,
        }
    }
}

/// The servers of a test. They end with the last test that uses them.
pub struct Servers {
    pub brokers: Brokers,
    runtime: Runtime,
    _dir: TempDir,
}

pub enum Brokers {
    One(Broker),
    Three(Cluster),
}

impl Brokers {
    /// Where node `node` is reached, and only it.
    pub fn node(&self, node: usize) -> &Broker {
        match self {
            Self::One(broker) => broker,
            Self::Three(cluster) => cluster.node(node),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::One(broker) => broker.url().to_owned(),
            Self::Three(cluster) => cluster.url(),
        }
    }
}

impl Servers {
    fn start(nodes: Nodes) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let brokers = runtime.block_on(async {
            match nodes {
                Nodes::One => {
                    let options = BrokerOptions::new(dir.path(), "node-0");
                    Brokers::One(Broker::start(options).await.unwrap())
                }
                Nodes::Three => Brokers::Three(Cluster::start(dir.path(), 3).await.unwrap()),
            }
        });
        runtime.block_on(async {
            let connection = Connection::connect(&brokers.url(), "setup", Patience::None).await.unwrap();
            for file in Streams::load(None, Some(nodes.replicas())).unwrap().fixed() {
                // Three nodes that have just found each other may take their time.
                eventually("the stream is made", async || file.ensure(&connection).await.is_ok()).await;
            }
            connection.close().await;
        });
        Self { brokers, runtime, _dir: dir }
    }

    fn run(self: &Arc<Self>, nodes: Nodes, test: impl AsyncFnOnce(World)) {
        self.runtime.block_on(async {
            let journal = connect(&self.brokers.url()).await;
            test(World { nodes, journal, servers: Arc::clone(self) }).await;
        });
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // A server that is gone already is as good.
        self.runtime.block_on(async {
            let _ = match &self.brokers {
                Brokers::One(broker) => broker.stop().await.map_err(|error| error.to_string()),
                Brokers::Three(cluster) => cluster.stop().await.map_err(|error| error.to_string()),
            };
        });
    }
}

static SHARED: Mutex<BTreeMap<Nodes, Weak<Servers>>> = Mutex::new(BTreeMap::new());

/// Runs a test on servers that it shares with others.
pub fn on(nodes: Nodes, test: impl AsyncFnOnce(World)) {
    let servers = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.get(&nodes).and_then(Weak::upgrade).unwrap_or_else(|| {
            let servers = Arc::new(Servers::start(nodes));
            shared.insert(nodes, Arc::downgrade(&servers));
            servers
        })
    };
    servers.run(nodes, test);
}

/// Runs a test on servers of its own, which it may kill and freeze.
pub fn alone(nodes: Nodes, test: impl AsyncFnOnce(World)) {
    Arc::new(Servers::start(nodes)).run(nodes, test);
}

/// Makes each test twice: on one node and on three.
macro_rules! on_one_and_on_three {
    ($how:ident: $($test:ident),+ $(,)?) => {
        mod one_node {
            $(#[test] fn $test() { $crate::fixture::$how($crate::fixture::Nodes::One, super::$test); })+
        }
        mod three_nodes {
            $(#[test] fn $test() { $crate::fixture::$how($crate::fixture::Nodes::Three, super::$test); })+
        }
    };
}
pub(crate) use on_one_and_on_three;

/// Makes each test three times: in memory, on one node and on three. It gets a journal and a stream of its own.
macro_rules! by_every_journal {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $test() { $crate::fixture::in_memory(async |journal, stream| super::$test(journal, stream).await); })+
        }
        mod one_node {
            $(#[test] fn $test() {
                $crate::fixture::with_stream($crate::fixture::Nodes::One, async |journal, stream| super::$test(journal, stream).await);
            })+
        }
        mod three_nodes {
            $(#[test] fn $test() {
                $crate::fixture::with_stream($crate::fixture::Nodes::Three, async |journal, stream| super::$test(journal, stream).await);
            })+
        }
    };
}
pub(crate) use by_every_journal;

pub fn in_memory(test: impl AsyncFnOnce(Arc<Memory>, &'static str)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(test(Arc::default(), unique("T").leak()));
}

pub fn with_stream(nodes: Nodes, test: impl AsyncFnOnce(Arc<JetStream>, &'static str)) {
    on(nodes, async |world| {
        let stream = world.stream(json!({})).await;
        test(Arc::new(world.journal.clone()), stream).await;
    });
}

/// What a test has at hand.
pub struct World {
    pub nodes: Nodes,
    pub journal: JetStream,
    pub servers: Arc<Servers>,
}

pub async fn connect(url: &str) -> JetStream {
    JetStream::new(Connection::connect(url, "test", Patience::None).await.unwrap())
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test of this process has.
pub fn unique(what: &str) -> String {
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl World {
    /// Another connection to the same servers.
    pub async fn another(&self) -> JetStream {
        connect(&self.servers.brokers.url()).await
    }

    /// A new stream `<name>` of the subjects `<name>.>`, as malote's own are but for what `other` says.
    pub async fn stream(&self, other: Value) -> &'static str {
        let name = unique("T");
        self.create(&name, other).await;
        // A place holds the name for ever, as the streams in use are known at compile time.
        name.leak()
    }

    pub async fn create(&self, name: &str, other: Value) {
        let mut config = json!({
            "name": name,
            "subjects": [format!("{name}.>")],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": self.nodes.replicas(),
            "allow_direct": true,
            "allow_atomic": true,
        });
        config.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        let subject = format!("$JS.API.STREAM.CREATE.{name}");
        let connection = self.journal.connection();
        eventually("the stream is made", async || {
            match connection.ask::<Value>(&subject, config.to_string().into()).await {
                Ok(answer) if answer.get("error").is_none() => true,
                Ok(answer) => panic!("{answer}"),
                // Busy with an election: the same again is harmless.
                Err(_) => false,
            }
        })
        .await;
    }

    /// Asks the JetStream API.
    pub async fn api(&self, what: &str, body: Value) -> Value {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.journal.connection().ask(&format!("$JS.API.{what}"), body).await.unwrap()
    }

    /// All messages of a subject.
    pub async fn messages(&self, place: &Place) -> Vec<Stored> {
        self.journal.load(place.stream, &place.filter).await.unwrap()
    }
}

pub fn place(stream: &'static str, key: &str) -> Place {
    let subject = format!("{stream}.{key}");
    Place { stream, filter: subject.clone(), subject }
}

/// A command that nobody gave before, at some moment.
pub fn ctx() -> Ctx {
    let key = format!("{} {}", std::process::id(), unique("command "));
    Ctx::new(
        Timestamp::from_micros(1_795_683_600_000_000),
        Actor::new("test"),
        CommandId::from_key(&key).unwrap(),
    )
}

/// Events of one decision that nobody made before.
pub fn entries<const N: usize>() -> [Entry; N] {
    let command = ctx().command;
    std::array::from_fn(|n| Entry {
        id: command.event(n),
        message_type: "malote.test.v1.Happened",
        payload: Bytes::from(format!("{command} {n}")),
    })
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
