//! The agent: its tasks, started and stopped together.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use malote_domain::registry::PdvAddress;
use malote_domain::{PdvId, StoreId};
use malote_journal::connection::Patience;
use malote_journal::{ConnectError, Connection};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::replica::Replica;
use crate::shared::{Shared, Status};
use crate::store::{OpenError, Store, StoreError};
use crate::{http, pulse, report};

/// How long questions that are being answered may hold up a stop.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// What an agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store.
    pub store: StoreId,
    /// The till.
    pub pdv: PdvId,
    /// Where it keeps its database; made when it is not there.
    pub dir: PathBuf,
    /// The broker: `nats://host:4222`, several separated by commas. It need not be there.
    pub nats: String,
    /// Where the till software asks, on this machine only; port 0 takes any free one.
    pub listen: Option<SocketAddr>,
}

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory or the database in it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An address that others could reach.
    #[error("{address} can be reached from other machines; listen on 127.0.0.1 or [::1]")]
    NotLoopback {
        /// What was given.
        address: SocketAddr,
    },
    /// Nothing can listen there.
    #[error("cannot listen on {address}; is another malote-pdv there? Give another port with --listen")]
    Listen {
        /// What was given.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The broker's address.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A running agent. Dropping it ends it like a kill, which loses nothing; [`Agent::stop`] says goodbye first. The
/// directory is free again once the dropped tasks have let go of it, a moment later.
#[derive(Debug)]
pub struct Agent {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    http: Option<Http>,
}

#[derive(Debug)]
struct Http {
    address: SocketAddr,
    /// Ends what is being answered too when it is dropped.
    stopping: DropGuard,
    task: AbortOnDropHandle<()>,
}

impl Agent {
    /// Starts an agent. It needs neither the broker nor anything in its directory.
    ///
    /// # Errors
    /// When the directory is in use, another till's or damaged, or the address to listen on cannot be had.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let address = PdvAddress { store: config.store, pdv: config.pdv };
        if let Some(listen) = config.listen
            && !listen.ip().is_loopback()
        {
            return Err(StartError::NotLoopback { address: listen });
        }
        let store = Store::open(&config.dir, &address).await?;
        let http = match config.listen {
            Some(listen) => Some((listen, TcpListener::bind(listen).await.map_err(cannot_listen(listen))?)),
            None => None,
        };
        let name = format!("malote-pdv {}/{}", address.store, address.pdv);
        let connection = Connection::connect(&config.nats, &name, Patience::Forever).await?;
        let shared = Arc::new(Shared::new(store, connection));
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { Replica::new(&shared).run().await }
        });
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { report::run(&shared).await }
        });
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { pulse::run(&shared).await }
        });
        let http = match http {
            Some((listen, listener)) => Some(Http::start(listener, &shared).map_err(cannot_listen(listen))?),
            None => None,
        };
        tracing::info!(
            store = %address.store, pdv = %address.pdv, dir = %config.dir.display(), http = ?http.as_ref().map(|http| http.address), "started"
        );
        Ok(Self { shared, tasks, http })
    }

    /// Where the till software asks.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.address)
    }

    /// How it is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn status(&self) -> Result<Status, StoreError> {
        self.shared.status().await
    }

    /// Waits until a task ends by itself, which none should: the agent is then to be started again.
    pub async fn ended(&mut self) {
        match &mut self.http {
            Some(http) => tokio::select! {
                _ = self.tasks.join_next() => {}
                _ = &mut http.task => {}
            },
            None => {
                self.tasks.join_next().await;
            }
        }
    }

    /// Answers what is being asked, then stops.
    pub async fn stop(mut self) {
        if let Some(http) = self.http.take() {
            drop(http.stopping);
            let _ = tokio::time::timeout(STOP_PATIENCE, http.task).await;
        }
        self.tasks.shutdown().await;
        self.shared.connection().close().await;
        self.shared.store.close().await;
    }
}

fn cannot_listen(address: SocketAddr) -> impl FnOnce(std::io::Error) -> StartError {
    move |source| StartError::Listen { address, source }
}

impl Http {
    fn start(listener: TcpListener, shared: &Arc<Shared>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let stopping = CancellationToken::new();
        let task = tokio::spawn(http::serve(listener, Arc::clone(shared), stopping.clone()));
        Ok(Self { address, stopping: stopping.drop_guard(), task: AbortOnDropHandle::new(task) })
    }
}
