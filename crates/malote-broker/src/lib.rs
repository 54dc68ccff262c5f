//! A real nats-server, found or fetched, configured to be durable and kept running.
//!
//! [`nats_server`] finds the program, [`Broker`] runs one of it in a directory, [`Cluster`] runs several for the tests
//! of replication, and [`facts`] asks any running server what malote insists on: its version and that it syncs
//! before it acknowledges. The demo, `malote up`, tests and benches all start their broker here, so that they all run
//! with the configuration that production is told to use.

mod apt;
mod broker;
mod cluster;
mod config;
mod fetch;
mod find;
mod lock;
mod monitor;
mod ports;
mod server;
mod supervisor;
#[cfg(test)]
mod tests;
mod version;

pub use broker::{Broker, BrokerState, ControlError};
pub use cluster::{Cluster, ClusterError};
pub use config::BrokerOptions;
pub use fetch::FetchError;
pub use find::{FindError, nats_server};
pub use monitor::{FactsError, ServerFacts, facts};
pub use server::StartError;
pub use version::{BadVersion, ServerVersion};
