//! Ports on loopback that stay the same: a client that knows the address finds the broker again after every restart.

use serde::{Deserialize, Serialize};
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

/// Below the range that systems give to outgoing connections. A port of that range is taken by chance while the broker
/// is down, even by a client that tries to reconnect to it and so connects to itself.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const TRIES: u16 = 200;
const FILE: &str = "ports.json";

/// The ports one node listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) monitor: u16,
    /// Used by clusters only, chosen for all so that a directory's file has one shape.
    pub(crate) cluster: u16,
}

/// Why there are no ports to listen on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortsError {
    #[error("port {0} is taken")]
    Taken(u16),
    #[error("no free port")]
    NoneFree,
    #[error("the ports cannot be stored")]
    Store(#[from] io::Error),
}

impl Ports {
    /// Takes the ports that `dir` remembers where they are still free, others where not, and remembers them.
    /// A port asked for by the caller is used or refused; `others` belong to nodes that are not started yet.
    pub(crate) fn choose(dir: &Path, client: Option<u16>, others: &[Self]) -> Result<Self, PortsError> {
        let remembered = Self::remembered(dir);
        let mut taken: Vec<u16> =
            others.iter().flat_map(|ports| [ports.client, ports.monitor, ports.cluster]).collect();
        let client = match client {
            Some(port) if is_free(port) => port,
            Some(port) => return Err(PortsError::Taken(port)),
            None => keep(remembered.map(|ports| ports.client), &taken)?,
        };
        taken.push(client);
        let monitor = keep(remembered.map(|ports| ports.monitor), &taken)?;
        taken.push(monitor);
        let cluster = keep(remembered.map(|ports| ports.cluster), &taken)?;
        let ports = Self { client, monitor, cluster };
        if remembered != Some(ports) {
            fs::write(dir.join(FILE), serde_json::to_vec(&ports).map_err(io::Error::from)?)?;
        }
        Ok(ports)
    }

    /// A file that is missing or not ours to read only costs the old numbers.
    fn remembered(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Forgets what [`Ports::choose`] remembered, after somebody else took one of them in between.
    pub(crate) fn forget(dir: &Path) -> io::Result<()> {
        fs::remove_file(dir.join(FILE))
    }
}

fn is_free(port: u16) -> bool {
    port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn keep(port: Option<u16>, taken: &[u16]) -> Result<u16, PortsError> {
    port.filter(|port| is_free(*port) && !taken.contains(port)).map_or_else(|| pick(taken), Ok)
}

/// At random, so that two programs that look at the same moment seldom choose the same.
fn pick(taken: &[u16]) -> Result<u16, PortsError> {
    let random = RandomState::new();
    (0..TRIES)
        .map(|attempt| FIRST + u16::try_from(random.hash_one(attempt) % u64::from(COUNT)).unwrap_or_default())
        .find(|port| !taken.contains(port) && is_free(*port))
        .ok_or(PortsError::NoneFree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_ports_and_gives_up_only_the_taken_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ports::choose(dir.path(), None, &[]).unwrap();
        assert!(
            first.client != first.monitor && first.client != first.cluster && first.monitor != first.cluster
        );
        assert_eq!(Ports::choose(dir.path(), None, &[]).unwrap(), first);

        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, first.monitor)).unwrap();
        let second = Ports::choose(dir.path(), None, &[]).unwrap();
        assert_ne!(second.monitor, first.monitor);
        assert_eq!((second.client, second.cluster), (first.client, first.cluster));
    }

    #[test]
    fn a_port_asked_for_is_used_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let free = pick(&[]).unwrap();
        assert_eq!(Ports::choose(dir.path(), Some(free), &[]).unwrap().client, free);
        let _other = TcpListener::bind((Ipv4Addr::LOCALHOST, free)).unwrap();
        assert!(
            matches!(Ports::choose(dir.path(), Some(free), &[]), Err(PortsError::Taken(port)) if port == free)
        );
    }
}
