//! A broker: one nats-server in one directory, kept running until it is stopped or dropped.

use crate::{
    config::{BrokerOptions, Routes, configuration},
    find::nats_server,
    lock::lock_within,
    monitor::{Depth, Monitor},
    ports::{Ports, PortsError},
    server::{Launch, Running, START_DEADLINE, StartError},
    supervisor::{Command, Order, Status, Supervisor},
};
use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// A server whose parent was killed still needs a moment to let go of the directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const START_TRIES: u32 = 3;

/// A running nats-server, started again whenever it dies.
///
/// It is in a process group of its own and ends when this process ends, however that ends. Dropping the handle kills
/// it; [`Broker::stop`] lets it end cleanly.
#[derive(Debug)]
pub struct Broker {
    dir: PathBuf,
    url: String,
    monitor_url: String,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    supervisor: JoinHandle<()>,
}

/// How a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerState {
    /// It answers, or is paused.
    Running {
        /// The server's process id.
        pid: u32,
    },
    /// It is down and is being started again.
    Restarting {
        /// Why it is down.
        reason: String,
    },
    /// It was told to be down until told otherwise.
    Suspended,
    /// It failed too often in a row and stays down until told to start again.
    Failed {
        /// What went wrong last.
        reason: String,
    },
    /// It was stopped for good.
    Stopped,
}

/// Why a broker did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It was stopped for good.
    #[error("the broker is stopped: start another")]
    Stopped,
    /// What was asked needs a running server.
    #[error("the broker's server is not running: wait until it is ready")]
    NotRunning,
    /// The system refused the signal.
    #[error("the broker's server could not be signalled")]
    Signal(#[source] io::Error),
    /// It will not become ready by itself.
    #[error("the broker's server is down and stays down ({state:?}): start it again")]
    StaysDown {
        /// How it is.
        state: BrokerState,
    },
    /// It was not ready in time.
    #[error("the broker's server was not ready within {} s: look into its log in {dir}", START_DEADLINE.as_secs(), dir = dir.display())]
    NotReady {
        /// The broker's directory.
        dir: PathBuf,
    },
}

impl Broker {
    /// Starts a server and waits until it is ready.
    pub async fn start(options: BrokerOptions) -> Result<Self, StartError> {
        let directory = Directory::take(&options.dir).await?;
        let mut tries = 1;
        loop {
            let ports = Ports::choose(&directory.path, options.port, &[])
                .map_err(|error| directory.no_ports(error))?;
            match directory.launch(&options, ports, None).await {
                // Somebody took the port between our look and the server's.
                Err(StartError::Died { log, .. })
                    if tries < START_TRIES
                        && options.port.is_none()
                        && log.contains("address already in use") =>
                {
                    tries += 1;
                    Ports::forget(&directory.path).map_err(|source| directory.unusable(source))?;
                }
                Err(error) => return Err(error),
                Ok((launch, running)) => return Ok(Self::supervised(launch, running, ports)),
            }
        }
    }

    /// Starts one node of a cluster; it is ready before it has found the others.
    pub(crate) async fn start_node(
        options: BrokerOptions,
        ports: Ports,
        routes: Routes,
    ) -> Result<Self, StartError> {
        let directory = Directory::take(&options.dir).await?;
        let (launch, running) = directory.launch(&options, ports, Some(&routes)).await?;
        Ok(Self::supervised(launch, running, ports))
    }

    fn supervised(launch: Launch, running: Running, ports: Ports) -> Self {
        let (commands, received) = mpsc::channel(8);
        let state = BrokerState::Running { pid: running.pid() };
        let (status, seen) = watch::channel(Status { state, restarts: 0 });
        Self {
            dir: launch.dir.clone(),
            url: format!("nats://127.0.0.1:{}", ports.client),
            monitor_url: launch.monitor.url().to_owned(),
            commands,
            status: seen,
            supervisor: tokio::spawn(
                Supervisor { launch, commands: received, status, failures: 0 }.run(running),
            ),
        }
    }

    /// Where clients connect. Stays the same over restarts.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the server tells about itself over HTTP. Stays the same over restarts.
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    /// The server's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        match self.state() {
            BrokerState::Running { pid } => Some(pid),
            BrokerState::Restarting { .. }
            | BrokerState::Suspended
            | BrokerState::Failed { .. }
            | BrokerState::Stopped => None,
        }
    }

    /// How it is now.
    pub fn state(&self) -> BrokerState {
        self.status.borrow().state.clone()
    }

    /// How many times the server was started again.
    pub fn restarts(&self) -> u64 {
        self.status.borrow().restarts
    }

    /// Waits until the server is running, after a restart for instance.
    pub async fn ready(&self) -> Result<(), ControlError> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|status| !matches!(status.state, BrokerState::Restarting { .. }));
        let state = match timeout(START_DEADLINE, settled).await {
            Ok(Ok(status)) => status.state.clone(),
            Ok(Err(_)) => return Err(ControlError::Stopped),
            Err(_) => return Err(ControlError::NotReady { dir: self.dir.clone() }),
        };
        match state {
            BrokerState::Running { .. } => Ok(()),
            BrokerState::Stopped => Err(ControlError::Stopped),
            BrokerState::Restarting { .. } | BrokerState::Suspended | BrokerState::Failed { .. } => {
                Err(ControlError::StaysDown { state })
            }
        }
    }

    /// Kills the server as a power cut would and returns when it is dead; the supervisor starts it again at once.
    pub async fn kill(&self) -> Result<(), ControlError> {
        self.order(Order::Kill).await
    }

    /// Freezes the server: its connections stay open and nothing answers.
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.order(Order::Pause).await
    }

    /// Lets a frozen server go on.
    pub async fn resume(&self) -> Result<(), ControlError> {
        self.order(Order::Resume).await
    }

    /// Stops the server cleanly and keeps it down until [`Broker::start_again`].
    pub async fn suspend(&self) -> Result<(), ControlError> {
        self.order(Order::Suspend).await
    }

    /// Kills the server and keeps it down until [`Broker::start_again`].
    pub async fn crash(&self) -> Result<(), ControlError> {
        self.order(Order::Crash).await
    }

    /// Starts a server that is down, on the same ports with the same data, and waits until it is ready.
    pub async fn start_again(&self) -> Result<(), ControlError> {
        self.order(Order::StartAgain).await?;
        self.ready().await
    }

    /// Stops the server cleanly, for good, and lets go of the directory. Stopping twice is fine.
    pub async fn stop(&self) -> Result<(), ControlError> {
        match self.order(Order::Stop).await {
            Ok(()) | Err(ControlError::Stopped) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn order(&self, order: Order) -> Result<(), ControlError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(Command { order, done }).await.map_err(|_| ControlError::Stopped)?;
        answer.await.map_err(|_| ControlError::Stopped)?
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Dropping the supervisor's future kills the server.
        self.supervisor.abort();
    }
}

/// A directory that nobody else uses.
struct Directory {
    path: PathBuf,
    lock: fs::File,
}

impl Directory {
    async fn take(dir: &Path) -> Result<Self, StartError> {
        let unusable = |source| StartError::Dir { path: dir.to_owned(), source };
        // Events hold what only the owner may read.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        let path = dir.canonicalize().map_err(unusable)?;
        if path.to_str().is_none_or(|path| path.contains(char::is_control)) {
            return Err(unusable(io::ErrorKind::InvalidFilename.into()));
        }
        match lock_within(&path.join("broker.lock"), LOCK_PATIENCE).await.map_err(unusable)? {
            Some(lock) => Ok(Self { path, lock }),
            None => Err(StartError::InUse { path }),
        }
    }

    async fn launch(
        &self,
        options: &BrokerOptions,
        ports: Ports,
        routes: Option<&Routes>,
    ) -> Result<(Launch, Running), StartError> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => nats_server().await?,
        };
        let config = self.path.join("nats-server.conf");
        fs::write(&config, configuration(options, &self.path, ports, routes))
            .map_err(|source| self.unusable(source))?;
        let launch = Launch {
            program,
            config,
            monitor: Monitor::new(ports.monitor).map_err(StartError::Monitor)?,
            ready_when: if routes.is_some() { Depth::JetStream } else { Depth::Everything },
            lock: self.lock.try_clone().map_err(|source| self.unusable(source))?,
            dir: self.path.clone(),
        };
        let running = launch.start().await?;
        Ok((launch, running))
    }

    fn unusable(&self, source: io::Error) -> StartError {
        StartError::Dir { path: self.path.clone(), source }
    }

    fn no_ports(&self, error: PortsError) -> StartError {
        match error {
            PortsError::Taken(port) => StartError::PortTaken { port },
            PortsError::NoneFree => StartError::NoPort,
            PortsError::Store(source) => self.unusable(source),
        }
    }
}
