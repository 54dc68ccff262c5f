//! malote's write side, and the only crate that knows NATS subjects, headers and sequence rules.
//!
//! Writing: [`execute`] loads an entity's history, folds it, asks its decider and appends, over a [`Journal`]:
//! [`JetStream`] in the hub, [`Memory`] in tests. Reading: [`Reader`] follows a stream from a cursor of the reader's own.
//! [`streams`] creates or verifies the streams from their files. Nothing here knows SQL or HTTP.

pub mod chunk;
pub mod connection;
pub mod execute;
pub mod jetstream;
pub mod journal;
pub mod memory;
pub mod notice;
pub mod reader;
pub mod streams;
pub mod subjects;
pub mod wire;

pub use connection::{ConnectError, Connection};
pub use execute::{ExecuteError, Executed, execute};
pub use jetstream::JetStream;
pub use journal::{AppendError, Appended, Entry, Expected, Journal, LoadError, Place, Stored};
pub use memory::Memory;
pub use reader::{Page, ReadError, Reader, Wake};
