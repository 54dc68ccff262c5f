//! malote's tests: a harness of real parts, one binary of scenarios over it (`tests/it`).
//!
//! Nothing here sleeps: [`until`] waits for a condition with a deadline.

#![expect(clippy::unwrap_used, reason = "a harness that fails is a test that fails")]

mod stack;

pub use stack::{Nodes, Stack, Till, config, price, until};
