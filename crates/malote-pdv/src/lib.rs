//! malote's agent beside the till: a replica of the store's catalogue in one SQLite file, online or not.
//!
//! It reads its store's stream of notices from a cursor of its own, fetches the chunks of each lot by direct get,
//! and applies a lot in one transaction, so that the till sees all of it or nothing. How lots add up is in
//! `store/apply.rs`: of two records the greater version wins, so neither order nor repetition matters. The till
//! asks over HTTP on the same machine, or reads the database's views `catalogue`, `product` and `price` itself.

mod agent;
pub mod cli;
mod http;
mod pulse;
mod replica;
mod report;
mod shared;
mod store;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;

pub use agent::{Agent, Config, StartError};
pub use shared::{Downloading, Status};
pub use store::{OpenError, StoreError};
