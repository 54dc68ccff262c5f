//! What a running server says about itself over its monitor port.

use crate::version::{BadVersion, ServerVersion};
use serde::Deserialize;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);

/// What malote insists on before it trusts a server's acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerFacts {
    /// The server's version.
    pub version: ServerVersion,
    /// Whether an acknowledgement means synced to disk. False also where JetStream is off.
    pub sync_always: bool,
}

/// Why a server's facts are not known.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The monitor did not answer as nats-server's does.
    #[error("no nats-server monitor answers at {url}: check the address and the server's `http` setting")]
    Unreachable {
        /// The monitor's address.
        url: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// The version cannot be read.
    #[error("the monitor at {url} tells no version that malote understands")]
    Version {
        /// The monitor's address.
        url: String,
        /// What it told instead.
        source: BadVersion,
    },
}

/// Asks the server whose monitor is at `monitor_url` (`http://127.0.0.1:8222`) for its facts.
pub async fn facts(monitor_url: &str) -> Result<ServerFacts, FactsError> {
    #[derive(Deserialize)]
    struct Varz {
        version: String,
        #[serde(default)]
        jetstream: JetStream,
    }
    #[derive(Deserialize, Default)]
    struct JetStream {
        #[serde(default)]
        config: Config,
    }
    #[derive(Deserialize, Default)]
    struct Config {
        #[serde(default)]
        sync_always: bool,
    }
    let url = monitor_url.trim_end_matches('/');
    let unreachable = |source| FactsError::Unreachable { url: url.to_owned(), source };
    let client = client().map_err(unreachable)?;
    let answer = client.get(format!("{url}/varz")).send().await.and_then(reqwest::Response::error_for_status);
    let varz: Varz = answer.map_err(unreachable)?.json().await.map_err(unreachable)?;
    let version =
        varz.version.parse().map_err(|source| FactsError::Version { url: url.to_owned(), source })?;
    Ok(ServerFacts { version, sync_always: varz.jetstream.config.sync_always })
}

fn client() -> reqwest::Result<reqwest::Client> {
    // A monitor is on loopback or inside the network: the proxy that the environment names is not asked.
    reqwest::Client::builder().no_proxy().timeout(DEADLINE).build()
}

/// What `/healthz` answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Health {
    Well,
    /// The server's own words.
    Unwell(String),
    Silent(String),
}

impl Health {
    /// After a failed write (a full disk) a stream refuses everything until the server restarts, even when there is
    /// space again.
    pub(crate) fn is_write_error(&self) -> bool {
        match self {
            Self::Unwell(text) => text.to_ascii_lowercase().contains("write error"),
            Self::Well | Self::Silent(_) => false,
        }
    }
}

/// How much has to be well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// JetStream runs: all that a cluster's node can say before the others are there.
    JetStream,
    /// Every stream and consumer, and the cluster's leader where there is one.
    Everything,
}

/// One server's monitor, with a connection that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Monitor {
    client: reqwest::Client,
    url: String,
}

impl Monitor {
    pub(crate) fn new(port: u16) -> reqwest::Result<Self> {
        Ok(Self { client: client()?, url: format!("http://127.0.0.1:{port}") })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) async fn health(&self, depth: Depth) -> Health {
        let query = match depth {
            Depth::JetStream => "?js-enabled-only=true",
            Depth::Everything => "",
        };
        let response = match self.client.get(format!("{}/healthz{query}", self.url)).send().await {
            Ok(response) => response,
            Err(error) => return Health::Silent(error.to_string()),
        };
        if response.status().is_success() {
            return Health::Well;
        }
        match response.text().await {
            Ok(text) => Health::Unwell(text.trim().to_owned()),
            Err(error) => Health::Silent(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_write_error_asks_for_a_restart() {
        let unwell = |text: &str| Health::Unwell(text.to_owned());
        let error = r#"{"status":"unavailable","status_code":503,"error":"JetStream stream '$G > S' write error: no space left"}"#;
        assert!(unwell(error).is_write_error());
        assert!(!unwell(r#"{"status":"unavailable","error":"JetStream has not established contact with a meta leader"}"#).is_write_error());
        assert!(!Health::Silent("connection refused".to_owned()).is_write_error());
        assert!(!Health::Well.is_write_error());
    }
}
