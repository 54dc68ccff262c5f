//! The journal against a real nats-server: one node, and a cluster of three.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod contract;
mod execute;
mod fixture;
mod late;
mod raw;
mod reader;
mod streams;
mod traps;
mod wake;
