//! What the hub proves of its broker before it serves: new enough, and an acknowledgement means synced to disk.

use std::time::Duration;

use malote_journal::Connection;
use serde::Deserialize;

/// Oldest broker that keeps what it acknowledges: older ones skipped the sync when compacting.
const VERSION_MIN: (u64, u64, u64) = (2, 15, 0);

/// Why the broker is not one to trust sales with.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Too old.
    #[error(
        "the broker is nats-server {found}, and at least 2.15.0 is needed: older ones can lose what they acknowledged"
    )]
    TooOld {
        /// Its version.
        found: String,
    },
    /// It acknowledges before it syncs.
    #[error(
        "the broker acknowledges before it has synced to disk; set `sync_interval: always` in its jetstream block, or pass --unsafe to go on all the same"
    )]
    NotDurable,
    /// Its monitor does not answer, so nothing is proven.
    #[error(
        "the broker's monitor at {url} does not show whether it syncs; set `http: 127.0.0.1:8222` in its configuration and pass --monitor, or pass --unsafe"
    )]
    Unproven {
        /// Where it was asked.
        url: String,
        /// Why.
        #[source]
        source: Option<reqwest::Error>,
    },
}

#[derive(Deserialize)]
struct Varz {
    jetstream: Option<VarzJetStream>,
}

#[derive(Deserialize)]
struct VarzJetStream {
    config: Option<VarzConfig>,
}

#[derive(Deserialize)]
struct VarzConfig {
    #[serde(default)]
    sync_always: bool,
}

fn version(text: &str) -> Option<(u64, u64, u64)> {
    let numbers = text.split(['-', '+']).next()?;
    let mut parts = numbers.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?))
}

/// Checks the broker's version and that it syncs before it acknowledges.
///
/// # Errors
/// When it is too old, not durable, or that cannot be shown.
pub(crate) async fn check(connection: &Connection, monitor: &str) -> Result<(), PreflightError> {
    let found = connection.client().server_info().version;
    if version(&found).is_none_or(|version| version < VERSION_MIN) {
        return Err(PreflightError::TooOld { found });
    }
    let url = format!("{}/varz", monitor.trim_end_matches('/'));
    let asked = async {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build()?;
        client.get(&url).send().await?.error_for_status()?.json::<Varz>().await
    };
    let varz =
        asked.await.map_err(|source| PreflightError::Unproven { url: url.clone(), source: Some(source) })?;
    match varz.jetstream.and_then(|jetstream| jetstream.config) {
        Some(config) if config.sync_always => Ok(()),
        Some(_) => Err(PreflightError::NotDurable),
        None => Err(PreflightError::Unproven { url, source: None }),
    }
}

/// Where a broker's monitor is by custom: its host, port 8222.
pub(crate) fn monitor_of(nats: &str) -> String {
    let first = nats.split(',').next().unwrap_or(nats);
    let host = first.rsplit("://").next().unwrap_or(first);
    let host = host.rsplit('@').next().unwrap_or(host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    format!("http://{host}:8222")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(version("2.15.0").unwrap() >= VERSION_MIN);
        assert!(version("2.15.1-beta.2").unwrap() >= VERSION_MIN);
        assert!(version("2.9.10").unwrap() < VERSION_MIN);
        assert!(version("10.0.0").unwrap() >= VERSION_MIN);
        assert_eq!(version("devel"), None);
    }

    #[test]
    fn the_monitor_is_beside_the_broker() {
        assert_eq!(monitor_of("nats://10.1.2.3:4222,nats://b:4222"), "http://10.1.2.3:8222");
        assert_eq!(monitor_of("user:pass@hub:4222"), "http://hub:8222");
        assert_eq!(monitor_of("127.0.0.1"), "http://127.0.0.1:8222");
    }
}
