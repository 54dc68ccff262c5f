//! What `/metrics` shows, in the OpenMetrics text format.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All of the hub's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) lots_opened: Counter,
    pub(crate) lots_closed: Counter,
    pub(crate) leases_expired: Counter,
    pub(crate) records_accepted: Counter,
    pub(crate) records_refused: Counter,
    pub(crate) chunks: Counter,
    pub(crate) notices: Counter,
    pub(crate) distributor_failures: Counter,
    pub(crate) requests: Family<Vec<(String, String)>, Counter>,
    /// Messages between a projection and the end of its stream.
    pub(crate) lag: Family<Vec<(String, String)>, Gauge<i64>>,
    pub(crate) applied: Family<Vec<(String, String)>, Counter>,
    pub(crate) parked: Gauge<i64>,
    pub(crate) open_lots: Gauge<i64>,
    pub(crate) pdvs_online: Gauge<i64>,
    pub(crate) broker_online: Gauge<i64>,
    pub(crate) truncations: Counter<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("malote"),
            lots_opened: Counter::default(),
            lots_closed: Counter::default(),
            leases_expired: Counter::default(),
            records_accepted: Counter::default(),
            records_refused: Counter::default(),
            chunks: Counter::default(),
            notices: Counter::default(),
            distributor_failures: Counter::default(),
            requests: Family::default(),
            lag: Family::default(),
            applied: Family::default(),
            parked: Gauge::default(),
            open_lots: Gauge::default(),
            pdvs_online: Gauge::default(),
            broker_online: Gauge::default(),
            truncations: Counter::default(),
        };
        let r = &mut metrics.registry;
        r.register("lots_opened", "Lots opened", metrics.lots_opened.clone());
        r.register("lots_closed", "Lots closed", metrics.lots_closed.clone());
        r.register(
            "leases_expired",
            "Lots aborted because their sender gave no sign",
            metrics.leases_expired.clone(),
        );
        r.register("records_accepted", "Records taken into lots", metrics.records_accepted.clone());
        r.register("records_refused", "Records refused with a reason", metrics.records_refused.clone());
        r.register("chunks", "Chunks written", metrics.chunks.clone());
        r.register("notices", "Notices sent to stores", metrics.notices.clone());
        r.register(
            "distributor_failures",
            "Times distributing had to be tried again",
            metrics.distributor_failures.clone(),
        );
        r.register("http_requests", "Requests by route and status", metrics.requests.clone());
        r.register("projection_lag", "Messages that a projection has yet to take in", metrics.lag.clone());
        r.register("projection_applied", "Messages that a projection has taken in", metrics.applied.clone());
        r.register("parked", "Messages that projections have set aside", metrics.parked.clone());
        r.register("open_lots", "Lots that are open", metrics.open_lots.clone());
        r.register(
            "pdvs_online",
            "Tills that gave a sign of life within the last minute",
            metrics.pdvs_online.clone(),
        );
        r.register("broker_online", "1 while the broker answers", metrics.broker_online.clone());
        r.register(
            "truncations",
            "Times a stream was found to have lost its tail",
            metrics.truncations.clone(),
        );
        metrics
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
