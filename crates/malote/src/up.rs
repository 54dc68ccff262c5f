//! `malote up` and `malote hub`: the processes behind the doors.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use malote_broker::{Broker, BrokerOptions, BrokerState};
use malote_hub::{Config, Hub, Limits};
use serde_json::json;

use crate::error::Failure;
use crate::output::Shell;

const LISTEN: &str = "127.0.0.1:8480";
const BROKER_LOOK: Duration = Duration::from_secs(2);

/// What `malote up` takes.
#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// Directory for all that is kept; made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where to serve HTTP, on this machine only; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Port of the broker; by default a free one, the same at each start
    #[arg(long, value_name = "PORT")]
    nats_port: Option<u16>,
    /// Go on with what is left after the broker has lost events
    #[arg(long)]
    heal: bool,
}

/// What `malote hub` takes.
#[derive(Args, Debug)]
pub(crate) struct HubArgs {
    /// The broker: nats://host:4222, several separated by commas
    #[arg(long, value_name = "URL")]
    nats: String,
    /// Its read models: sqlite:/path/hub.db
    #[arg(long, value_name = "URL")]
    database: String,
    /// The broker's monitor [default: port 8222 of its host]
    #[arg(long, value_name = "URL")]
    monitor: Option<String>,
    /// Where to serve HTTP, on this machine only; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Serve although the broker is not shown to keep what it acknowledges
    #[arg(long = "unsafe")]
    allow_unsafe: bool,
    /// Go on with what is left after the broker has lost events
    #[arg(long)]
    heal: bool,
    /// Copies of each stream [default: what the stream files say]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5))]
    replicas: Option<u32>,
    /// Stream files that replace those of the same name
    #[arg(long, value_name = "DIR")]
    streams: Option<PathBuf>,
}

/// Why it does not come up, or went down.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The directory cannot be used.
    #[error("{} cannot be used as the directory for all that is kept; choose one that can be written to", path.display())]
    Dir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No broker.
    #[error("the broker does not start")]
    Broker(#[from] malote_broker::StartError),
    /// No hub.
    #[error("the hub does not start")]
    Hub(#[from] malote_hub::StartError),
}

/// A broker and a hub in one directory.
pub struct Up {
    broker: Broker,
    hub: Hub,
    dir: PathBuf,
}

/// How to start them.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// Directory for all that is kept.
    pub dir: PathBuf,
    /// Where to serve HTTP.
    pub listen: SocketAddr,
    /// Port of the broker; a free one when absent.
    pub nats_port: Option<u16>,
    /// Go on with what is left after the broker has lost events.
    pub heal: bool,
}

impl Up {
    /// Starts the broker, then the hub.
    ///
    /// # Errors
    /// When one of them does not start; nothing is left running then.
    pub async fn start(options: &UpOptions) -> Result<Self, UpError> {
        let unusable = |source| UpError::Dir { path: options.dir.clone(), source };
        std::fs::create_dir_all(&options.dir).map_err(unusable)?;
        let dir = options.dir.canonicalize().map_err(unusable)?;
        let mut broker = BrokerOptions::new(dir.join("broker"), "malote");
        broker.port = options.nats_port;
        let broker = Broker::start(broker).await?;
        let config = Config {
            nats: broker.url().to_owned(),
            monitor: Some(broker.monitor_url().to_owned()),
            database: database_in(&dir),
            listen: options.listen,
            streams: None,
            replicas: None,
            allow_unsafe_broker: false,
            heal: options.heal,
            limits: Limits::STANDARD,
        };
        match Hub::start(config).await {
            Ok(hub) => Ok(Self { broker, hub, dir }),
            Err(error) => {
                stop_broker(&broker).await;
                Err(error.into())
            }
        }
    }

    /// The hub's address.
    pub fn hub_url(&self) -> String {
        format!("http://{}", self.hub.address())
    }

    /// The broker.
    pub const fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Stops both, the hub first.
    pub async fn stop(self) {
        self.hub.stop().await;
        stop_broker(&self.broker).await;
    }
}

/// The database of the directory, as an address: what means something in an address is written otherwise.
fn database_in(dir: &Path) -> String {
    let path = dir.join("hub.db").display().to_string();
    format!("sqlite:{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
}

async fn stop_broker(broker: &Broker) {
    if let Err(error) = broker.stop().await {
        tracing::warn!(%error, "the broker did not stop cleanly; it mends itself at the next start");
    }
}

/// `malote up`.
pub(crate) async fn up(args: &UpArgs, json: bool, shell: &mut Shell) -> Result<(), Failure> {
    let options =
        UpOptions { dir: args.dir.clone(), listen: args.listen, nats_port: args.nats_port, heal: args.heal };
    let stop = shell.stop().clone();
    let started = tokio::select! {
        started = Up::start(&options) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    let said = say_where(&started, json, shell);
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        reason = broker_down(&started.broker) => {
            Err(Failure::usage(format!("the broker is down and stays down: {reason}"))
                .hint(format!("look into {}", started.dir.join("broker").display())))
        }
    };
    if said.is_ok() {
        shell.tell("stopping")?;
    }
    started.stop().await;
    said?;
    ended
}

fn say_where(up: &Up, json: bool, shell: &mut Shell) -> io::Result<()> {
    let (hub, nats, monitor) = (up.hub_url(), up.broker.url(), up.broker.monitor_url());
    if json {
        shell.json(&json!({ "step": "up", "hub": hub, "nats": nats, "monitor": monitor, "dir": up.dir }))?;
    }
    shell.tell("malote is up; Ctrl-C stops it")?;
    shell.tell(format!("  hub     {hub}"))?;
    shell.tell(format!("  broker  {nats}, its monitor {monitor}"))?;
    shell.tell(format!("  data    {}", up.dir.display()))?;
    shell.tell(format!("next: malote store import STORES.csv --hub {hub}"))
}

/// Ends when the broker has been given up, with the reason.
async fn broker_down(broker: &Broker) -> String {
    loop {
        match broker.state() {
            BrokerState::Failed { reason } => return reason,
            BrokerState::Running { .. }
            | BrokerState::Restarting { .. }
            | BrokerState::Suspended
            | BrokerState::Stopped => tokio::time::sleep(BROKER_LOOK).await,
        }
    }
}

/// `malote hub`.
pub(crate) async fn hub(args: &HubArgs, json: bool, shell: &mut Shell) -> Result<(), Failure> {
    let config = Config {
        nats: args.nats.clone(),
        monitor: args.monitor.clone(),
        database: args.database.clone(),
        listen: args.listen,
        streams: args.streams.clone(),
        replicas: args.replicas,
        allow_unsafe_broker: args.allow_unsafe,
        heal: args.heal,
        limits: Limits::STANDARD,
    };
    let stop = shell.stop().clone();
    let hub = tokio::select! {
        hub = Hub::start(config) => hub.map_err(UpError::Hub)?,
        () = stop.cancelled() => return Ok(()),
    };
    let url = format!("http://{}", hub.address());
    let said = if json {
        shell.json(&json!({ "step": "up", "hub": url, "nats": args.nats }))
    } else {
        shell.tell(format!("the hub is up at {url}; Ctrl-C stops it"))
    };
    if said.is_ok() {
        stop.cancelled().await;
    }
    hub.stop().await;
    Ok(said?)
}
