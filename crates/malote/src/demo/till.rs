//! A till of the demo: an agent in this process, asked as till software asks, over HTTP on this machine.

use std::path::PathBuf;
use std::time::Duration;

use malote_domain::{LotId, PdvId, StoreId};
use malote_pdv::{Agent, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::DemoError;
use super::expected::{Comparison, Expected};

/// How often a till that is waited for is asked.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Longest wait for a till, on a slow machine with a large catalogue.
const PATIENCE: Duration = Duration::from_secs(300);
/// Records of one page, and how many of the newest lots are looked at.
const PAGE: usize = 1_000;
const LOTS: usize = 20;

/// One till, running or not.
pub(super) struct Till {
    pub(super) store: StoreId,
    pub(super) pdv: PdvId,
    /// Its store's scopes, the widest first.
    pub(super) scopes: Vec<String>,
    dir: PathBuf,
    broker: String,
    http: reqwest::Client,
    agent: Option<Agent>,
}

#[derive(Deserialize)]
struct Status {
    registered: Option<bool>,
    quarantined: u64,
}

#[derive(Deserialize)]
struct Lots {
    lots: Vec<Lot>,
}

#[derive(Deserialize)]
struct Lot {
    lot: String,
    state: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Records {
    records: Vec<Record>,
    next: Option<String>,
}

/// A record as a till shows it.
#[derive(Deserialize)]
pub(super) struct Record {
    pub(super) key: String,
    /// The scope that it came for.
    pub(super) scope: String,
    pub(super) body: Box<RawValue>,
}

impl Till {
    pub(super) fn new(
        store: StoreId,
        pdv: PdvId,
        scopes: Vec<String>,
        dir: PathBuf,
        broker: String,
        http: reqwest::Client,
    ) -> Self {
        Self { store, pdv, scopes, dir, broker, http, agent: None }
    }

    /// Starts it, or starts it again.
    pub(super) async fn start(&mut self) -> Result<(), DemoError> {
        let config = Config {
            store: self.store.clone(),
            pdv: self.pdv.clone(),
            dir: self.dir.clone(),
            nats: self.broker.clone(),
            listen: Some(([127, 0, 0, 1], 0).into()),
        };
        self.agent = Some(Agent::start(config).await?);
        Ok(())
    }

    /// Stops it, as when the store is closed or its line is cut.
    pub(super) async fn stop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop().await;
        }
    }

    /// Where till software asks it, while it runs.
    pub(super) fn url(&self) -> Option<String> {
        let address = self.agent.as_ref()?.http_addr()?;
        Some(format!("http://{address}"))
    }

    fn name(&self) -> String {
        format!("till {} of store {}", self.pdv, self.store)
    }

    async fn ask<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, DemoError> {
        let failed = |source| DemoError::Till { till: self.name(), source };
        let mut url = reqwest::Url::parse(&self.url().unwrap_or_default())
            .map_err(|_| DemoError::TillStopped { till: self.name() })?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        let answer = self.http.get(url).query(query).send().await.map_err(failed)?;
        answer.error_for_status().map_err(failed)?.json().await.map_err(failed)
    }

    /// Waits until it knows its store's stream.
    pub(super) async fn registered(&self) -> Result<(), DemoError> {
        self.wait("know its store's stream", async || {
            let status: Status = self.ask(&["status"], &[]).await?;
            Ok(status.registered == Some(true))
        })
        .await
    }

    /// Waits until it has applied a lot.
    pub(super) async fn applied(&self, lot: LotId) -> Result<(), DemoError> {
        let lot = lot.to_string();
        self.wait("apply a lot", async || {
            let lots: Lots = self.ask(&["lots"], &[("limit", &LOTS.to_string())]).await?;
            match lots.lots.into_iter().find(|found| found.lot == lot) {
                Some(Lot { state, reason, .. }) if state == "failed" => {
                    let reason = reason.unwrap_or_default();
                    Err(DemoError::LotFailed { till: self.name(), lot: lot.clone(), reason })
                }
                found => Ok(found.is_some_and(|found| found.state == "applied")),
            }
        })
        .await
    }

    async fn wait(
        &self,
        what: &'static str,
        mut done: impl AsyncFnMut() -> Result<bool, DemoError>,
    ) -> Result<(), DemoError> {
        let deadline = Instant::now() + PATIENCE;
        while !done().await? {
            if Instant::now() >= deadline {
                return Err(DemoError::Late { till: self.name(), what, seconds: PATIENCE.as_secs() });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// One record as it shows it.
    pub(super) async fn record(&self, kind: &str, key: &str) -> Result<Record, DemoError> {
        self.ask(&["records", kind, key], &[]).await
    }

    /// Compares every record of a kind that it shows with what it must show, and answers how many there are.
    pub(super) async fn check(&self, expected: &Expected, kind: &str) -> Result<u64, DemoError> {
        let differs = |difference| DemoError::Differs { till: self.name(), difference };
        let status: Status = self.ask(&["status"], &[]).await?;
        if status.quarantined > 0 {
            return Err(DemoError::Quarantined { till: self.name(), records: status.quarantined });
        }
        let mut comparison = Comparison::new(expected, &self.scopes, kind);
        let (limit, mut after) = (PAGE.to_string(), String::new());
        loop {
            let query = [("limit", limit.as_str()), ("after", after.as_str())];
            let page: Records = self.ask(&["records", kind], &query).await?;
            for record in page.records {
                comparison.next(&record.key, record.body.get()).map_err(differs)?;
            }
            match page.next {
                Some(next) => after = next,
                None => return comparison.end().map_err(differs),
            }
        }
    }
}
