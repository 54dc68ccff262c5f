//! malote's pure core: ids, events and the rules that decide them.
//!
//! Nothing here does I/O, reads a clock or makes a random number: the moment, the actor and every id come in
//! through [`Ctx`], so a decision is the same on a till, in the hub and in the audit tool. Start reading at
//! [`decider`], then at [`lots`].

pub mod ctx;
pub mod decider;
pub mod digest;
pub mod ids;
pub mod lots;
pub mod pdvs;
pub mod recorded;
pub mod registry;
pub mod time;

pub use ctx::{Ctx, Meta};
pub use decider::{Decider, Rejection};
pub use digest::Digest;
pub use ids::{Actor, CommandId, EventId, GroupId, IdError, Kind, LotId, PdvId, RecordKey, Scope, StoreId};
pub use recorded::{Cursor, Fact, Read, Recorded};
pub use time::Timestamp;
