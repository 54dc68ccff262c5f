//! A chain of stores in a directory: a broker, a hub and tills, each a process of its own.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use malote_broker::{Broker, BrokerOptions};
use malote_client::{Client, NewStore};
use malote_domain::StoreId;

use super::BenchError;
use super::process::{Process, Usage, usage};
use super::reports::{Reports, ReportsError};

/// Tills of one store: as in most shops of a chain.
const TILLS_OF_STORE: usize = 2;
/// Longest wait for a part to be there.
const READY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Everything that runs, fresh.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) client: Client,
    pub(super) reports: Reports,
    broker: Broker,
    hub: Process,
    tills: Vec<Process>,
    dir: PathBuf,
}

/// What the parts have used since their start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) broker: Usage,
    pub(super) hub: Usage,
    /// Of all tills: the most memory that one had, the processor time of all.
    pub(super) tills: Usage,
    /// This process, which sends.
    pub(super) sender: Usage,
}

impl Site {
    /// Starts a broker, a hub and `tills` tills in `dir`, and waits until each till is connected.
    pub(super) async fn start(dir: &Path, tills: usize) -> Result<Self, BenchError> {
        std::fs::create_dir_all(dir).map_err(|source| BenchError::Dir { dir: dir.to_owned(), source })?;
        let broker = Broker::start(BrokerOptions::new(dir.join("broker"), "bench")).await?;
        let (mut hub, address) = start_hub(dir, &broker)?;
        let client = Client::new(&format!("http://{address}"))?;
        ready(&client, &mut hub).await?;
        let mut reports = Reports::listen(broker.url()).await?;
        let mut processes = Vec::new();
        for first in (0..tills).step_by(TILLS_OF_STORE) {
            let name = format!("{}", 1 + first / TILLS_OF_STORE);
            let store = StoreId::parse(&name)?;
            let here: Vec<_> = (1..=TILLS_OF_STORE.min(tills - first)).map(|pdv| pdv.to_string()).collect();
            let zone = "America/Sao_Paulo".to_owned();
            let details = NewStore { name, zone, pdvs: here.clone(), ..NewStore::default() };
            client.put_store(&store, &details).await?;
            for pdv in here {
                processes.push(start_till(dir, &broker, store.as_str(), &pdv)?);
            }
        }
        reports.connected(tills, READY).await.map_err(|error| of_a_till(error, &mut processes))?;
        Ok(Self { client, reports, broker, hub, tills: processes, dir: dir.to_owned() })
    }

    /// Where the broker tells of itself.
    pub(super) fn monitor(&self) -> &str {
        self.broker.monitor_url()
    }

    /// What the parts have used so far.
    pub(super) fn used(&self) -> Result<Used, BenchError> {
        let mut tills = Usage::default();
        for till in &self.tills {
            let usage = till.usage()?;
            tills.rss_mb = tills.rss_mb.max(usage.rss_mb);
            tills.cpu_s += usage.cpu_s;
        }
        Ok(Used {
            broker: self.broker.pid().and_then(usage).unwrap_or_default(),
            hub: self.hub.usage()?,
            tills,
            sender: usage(std::process::id()).unwrap_or_default(),
        })
    }

    /// Ends everything and removes its directory.
    pub(super) async fn end(self) -> Result<(), BenchError> {
        let Self { broker, dir, reports, hub, tills, .. } = self;
        drop((tills, hub));
        reports.connection().close().await;
        broker.stop().await?;
        std::fs::remove_dir_all(&dir).map_err(|source| BenchError::Dir { dir, source })
    }
}

impl Used {
    /// What was used after `before`; memory is the most there ever was.
    pub(super) fn since(self, before: Self) -> Self {
        let of = |now: Usage, before: Usage| Usage { rss_mb: now.rss_mb, cpu_s: now.cpu_s - before.cpu_s };
        Self {
            broker: of(self.broker, before.broker),
            hub: of(self.hub, before.hub),
            tills: of(self.tills, before.tills),
            sender: of(self.sender, before.sender),
        }
    }
}

/// The failure of the first till that has ended, which says more than its silence.
fn of_a_till(silence: ReportsError, tills: &mut [Process]) -> BenchError {
    let ended = tills.iter_mut().find_map(|till| till.running().err());
    ended.map_or_else(|| silence.into(), BenchError::Process)
}

fn start_hub(dir: &Path, broker: &Broker) -> Result<(Process, SocketAddr), BenchError> {
    let address = free_address().map_err(|source| BenchError::Dir { dir: dir.to_owned(), source })?;
    let mut database = OsString::from("sqlite:");
    database.push(dir.join("hub.db"));
    let args = [
        "hub".into(),
        "--nats".into(),
        broker.url().into(),
        "--monitor".into(),
        broker.monitor_url().into(),
        "--database".into(),
        database,
        "--listen".into(),
        address.to_string().into(),
    ];
    Ok((Process::start("hub", dir, &args)?, address))
}

fn start_till(dir: &Path, broker: &Broker, store: &str, pdv: &str) -> Result<Process, BenchError> {
    let name = format!("till {store}/{pdv}");
    let args = [
        "pdv".into(),
        "run".into(),
        "--store".into(),
        store.into(),
        "--pdv".into(),
        pdv.into(),
        "--dir".into(),
        dir.join(format!("till-{store}-{pdv}")).into(),
        "--nats".into(),
        broker.url().into(),
        "--listen".into(),
        "127.0.0.1:0".into(),
    ];
    Ok(Process::start(&name, dir, &args)?)
}

/// A port that is free now; whoever takes it before the hub does makes the hub say so and end.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Waits until the hub answers, or has ended.
async fn ready(client: &Client, hub: &mut Process) -> Result<(), BenchError> {
    let client = client.clone().with_patience(Duration::ZERO);
    let deadline = Instant::now() + READY;
    loop {
        hub.running()?;
        match client.stores(None).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
