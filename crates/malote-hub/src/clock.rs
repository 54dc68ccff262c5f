//! The only place in the hub that reads the wall clock and makes random ids.

use malote_domain::{CommandId, EventId, Timestamp};
use uuid::Uuid;

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::from(time::OffsetDateTime::now_utc())
}

/// A new command id.
pub(crate) fn command() -> CommandId {
    CommandId::new(Uuid::now_v7())
}

/// A new event id for a message that no decision made, such as a chunk.
pub(crate) fn event() -> EventId {
    EventId::new(Uuid::now_v7())
}
