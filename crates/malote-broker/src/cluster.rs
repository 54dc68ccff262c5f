//! Several servers on loopback that replicate to each other, to test what one server cannot show.

use crate::{
    broker::{Broker, ControlError},
    config::{BrokerOptions, Routes},
    lock::lock_within,
    monitor::{Depth, Health, Monitor},
    ports::{Ports, PortsError},
    server::StartError,
};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const LOCK_PATIENCE: Duration = Duration::from_secs(3);

/// A cluster of brokers in one directory, all on this machine: for tests, for it protects nothing from the machine's loss.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Broker>,
    monitors: Vec<Monitor>,
    _lock: File,
}

/// Why a cluster did not come up or do as told.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The directory cannot be used.
    #[error("the cluster's directory {path} cannot be used: it must be writable", path = path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another cluster runs in the directory.
    #[error("{path} is in use by a running cluster: stop that one, or give this one another directory", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// There are too few free ports.
    #[error("no free ports found on 127.0.0.1 for {nodes} nodes: end what uses ports 20000 to 32000")]
    NoPorts {
        /// How many nodes need some.
        nodes: usize,
    },
    /// A node did not start.
    #[error("node {node} of the cluster did not start")]
    Node {
        /// Which one, from 0.
        node: usize,
        /// Why.
        source: StartError,
    },
    /// A node did not do as told.
    #[error("node {node} of the cluster did not do as told")]
    Control {
        /// Which one, from 0.
        node: usize,
        /// Why.
        source: ControlError,
    },
    /// The nodes run and do not agree.
    #[error("node {node} of the cluster was not current within {} s ({health}): look into its log", DEADLINE.as_secs())]
    NotCurrent {
        /// Which one, from 0.
        node: usize,
        /// What it says.
        health: String,
    },
}

impl Cluster {
    /// Starts `nodes` durable servers below `dir` and waits until they have a leader and all are current.
    pub async fn start(dir: impl AsRef<Path>, nodes: usize) -> Result<Self, ClusterError> {
        let dir = dir.as_ref();
        let unusable = |source| ClusterError::Dir { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(unusable)?;
        let lock = lock_within(&dir.join("cluster.lock"), LOCK_PATIENCE).await.map_err(unusable)?;
        let Some(lock) = lock else { return Err(ClusterError::InUse { path: dir.to_owned() }) };

        let folders: Vec<_> = (0..nodes).map(|node| dir.join(format!("node-{node}"))).collect();
        let ports = choose_ports(&folders)?;
        let routes =
            Routes { cluster: "malote".to_owned(), ports: ports.iter().map(|ports| ports.cluster).collect() };
        let mut starting = JoinSet::new();
        for (node, (folder, ports)) in folders.into_iter().zip(ports).enumerate() {
            let options = BrokerOptions::new(folder, format!("node-{node}"));
            let routes = routes.clone();
            starting.spawn(async move { (node, ports, Broker::start_node(options, ports, routes).await) });
        }
        let mut started = Vec::with_capacity(nodes);
        // A panic of a start is a fault of ours; the missing node would show as an index out of place.
        while let Some(Ok((node, ports, result))) = starting.join_next().await {
            started.push((node, ports, result.map_err(|source| ClusterError::Node { node, source })?));
        }
        started.sort_by_key(|(node, ..)| *node);
        let mut cluster = Self { nodes: Vec::new(), monitors: Vec::new(), _lock: lock };
        for (node, ports, broker) in started {
            let monitor = Monitor::new(ports.monitor)
                .map_err(|source| ClusterError::Node { node, source: StartError::Monitor(source) })?;
            cluster.nodes.push(broker);
            cluster.monitors.push(monitor);
        }
        cluster.current().await?;
        Ok(cluster)
    }

    /// Where clients connect, node by node.
    pub fn urls(&self) -> Vec<&str> {
        self.nodes.iter().map(Broker::url).collect()
    }

    /// Where clients connect, separated by commas.
    pub fn url(&self) -> String {
        self.urls().join(",")
    }

    /// One of the nodes, from 0; a number past the last is a fault of the caller and panics.
    pub fn node(&self, node: usize) -> &Broker {
        &self.nodes[node]
    }

    /// Kills a node, which stays down until [`Cluster::start_node`].
    pub async fn kill_node(&self, node: usize) -> Result<(), ClusterError> {
        self.nodes[node].crash().await.map_err(|source| ClusterError::Control { node, source })
    }

    /// Starts a node that is down and waits until all that run are current.
    pub async fn start_node(&self, node: usize) -> Result<(), ClusterError> {
        self.nodes[node].start_again().await.map_err(|source| ClusterError::Control { node, source })?;
        self.current().await
    }

    /// Waits until every node that runs has a leader and is current with it.
    pub async fn current(&self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + DEADLINE;
        for (node, (broker, monitor)) in self.nodes.iter().zip(&self.monitors).enumerate() {
            while broker.pid().is_some() {
                match monitor.health(Depth::Everything).await {
                    Health::Well => break,
                    Health::Unwell(health) | Health::Silent(health) if Instant::now() >= deadline => {
                        return Err(ClusterError::NotCurrent { node, health });
                    }
                    Health::Unwell(_) | Health::Silent(_) => sleep(POLL).await,
                }
            }
        }
        Ok(())
    }

    /// Stops all nodes cleanly. One that was stopped before is fine.
    pub async fn stop(&self) -> Result<(), ClusterError> {
        for (node, broker) in self.nodes.iter().enumerate() {
            broker.stop().await.map_err(|source| ClusterError::Control { node, source })?;
        }
        Ok(())
    }
}

/// Every node has to know the others' ports before any of them starts.
fn choose_ports(folders: &[PathBuf]) -> Result<Vec<Ports>, ClusterError> {
    let mut chosen: Vec<Ports> = Vec::new();
    for folder in folders {
        let unusable = |source| ClusterError::Dir { path: folder.clone(), source };
        fs::create_dir_all(folder).map_err(unusable)?;
        let ports = Ports::choose(folder, None, &chosen).map_err(|error| match error {
            PortsError::Taken(_) | PortsError::NoneFree => ClusterError::NoPorts { nodes: folders.len() },
            PortsError::Store(source) => unusable(source),
        })?;
        chosen.push(ports);
    }
    Ok(chosen)
}
