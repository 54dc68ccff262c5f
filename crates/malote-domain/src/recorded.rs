//! An event as a reader meets it: a fact of some entity, at a place in a stream.

use crate::ctx::Meta;
use crate::digest::Digest;
use crate::ids::{GroupId, LotId};
use crate::registry::{GroupEvent, PdvAddress, PdvEvent, StoreEvent};
use crate::{StoreId, lots, pdvs};

/// A reader's place in a stream: the last message it has taken in, and that message's hash. A broker that lost
/// its tail hands out the same sequence numbers again; only the hash tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Sequence of the last message taken in.
    pub sequence: u64,
    /// Hash of that message.
    pub hash: Digest,
}

/// Something at a place in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<E> {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The hash of the message as stored.
    pub hash: Digest,
    /// What was recorded with it.
    pub meta: Meta,
    /// What happened.
    pub event: E,
}

impl<E> Recorded<E> {
    /// The cursor of a reader that has taken this in.
    pub const fn cursor(&self) -> Cursor {
        Cursor { sequence: self.sequence, hash: self.hash }
    }
}

/// Any domain's event, with the entity that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Something happened to a lot.
    Lot(LotId, lots::Event),
    /// Something is known of a store.
    Store(StoreId, StoreEvent),
    /// Something is known of a group.
    Group(GroupId, GroupEvent),
    /// Something is known of a till.
    Pdv(PdvAddress, PdvEvent),
    /// A till reported something.
    Till(PdvAddress, pdvs::Event),
}

/// What a reader makes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// A fact it understands.
    Fact(Box<Recorded<Fact>>),
    /// A message it does not: to be parked, with everything later of the same subject behind it.
    Unreadable {
        /// Where it is.
        cursor: Cursor,
        /// Its subject.
        subject: String,
        /// Why it cannot be read.
        reason: String,
    },
}

impl Read {
    /// The cursor of a reader that has taken this in.
    pub fn cursor(&self) -> Cursor {
        match self {
            Self::Fact(recorded) => recorded.cursor(),
            Self::Unreadable { cursor, .. } => *cursor,
        }
    }
}
