//! What a till reports: the outcome of each lot. The till is the only writer, so there is nothing to decide here.

use crate::ids::{Kind, LotId};
use crate::time::Timestamp;

/// Most quarantined records that one report names; the count is always exact.
pub const NAMED_PROBLEMS_MAX: usize = 200;

/// A record that a till could not apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its kind.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// Why, for people.
    pub reason: String,
}

/// A fact reported by a till.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A lot is in the till's catalogue, whole.
    LotApplied {
        /// The lot.
        lot: LotId,
        /// Sequence of the notice in the store's stream.
        notice: u64,
        /// Records upserted.
        upserted: u64,
        /// Records deleted.
        deleted: u64,
        /// Records set aside.
        quarantined: u64,
        /// The first of them, by name.
        problems: Vec<Quarantined>,
        /// Milliseconds from notice seen to committed.
        took_ms: u64,
    },
    /// A lot was not needed: a later full lot replaces all of it.
    LotSuperseded {
        /// The lot.
        lot: LotId,
        /// Sequence of the notice in the store's stream.
        notice: u64,
        /// The lot that replaces it.
        by: LotId,
    },
    /// A lot could not be applied yet; the till goes on trying.
    LotFailed {
        /// The lot.
        lot: LotId,
        /// Sequence of the notice in the store's stream.
        notice: u64,
        /// Why, for people.
        reason: String,
        /// How often it was tried.
        attempt: u32,
        /// When it is tried next.
        next_try_at: Timestamp,
    },
}
