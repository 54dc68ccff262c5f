//! The back office's Rust SDK: lots of records up, what became of them down.
//!
//! [`Client`] speaks the hub's HTTP API, one method a question. [`LotSender`] opens a lot, sends records in
//! requests of a good size and closes it; a sender that is dropped gives its lot up. [`source`] reads flat files.
//! A call that can be asked twice is asked again while the hub does not answer, for as long as the client has
//! [patience](Client::with_patience), under the same Idempotency-Key; what the hub refuses comes back at once.
//!
//! ```no_run
//! # async fn example() -> Result<(), malote_client::ClientError> {
//! use malote_client::{Client, NewLot};
//!
//! let client = Client::new("http://127.0.0.1:8480")?;
//! let mut lot = client.send_lot(NewLot::delta("all", ["price"])).await?;
//! lot.upsert("price", "789100", &serde_json::json!({ "price_cents": 1299 })).await?;
//! lot.delete("price", "789200").await?;
//! let closed = lot.close().await?;
//! println!("lot {} has {} records", closed.lot, closed.records.values().sum::<u64>());
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod retry;
mod sender;
pub mod source;
mod views;

pub use client::{ArrivalQuery, Client, Page, RecordsQuery};
pub use error::ClientError;
pub use malote_domain::{Kind, LotId, PdvId, Scope, StoreId};
pub use sender::{LotSender, REFUSALS_KEPT_MAX};
pub use views::{
    Arrival, ArrivalState, Closed, Declared, Downloading, GroupView, LotState, LotView, Mode, NewLot,
    NewStore, PdvDistance, PdvView, Place, PlaceState, Problem, Refusal, Sent, StoreView, Taken, Totals,
    Trace,
};
