//! Notices: the small messages in a store's own stream that say what there is for its tills.

use std::collections::BTreeSet;

use malote_domain::lots::Mode;
use malote_domain::{Digest, EventId, GroupId, Kind, LotId, Meta, Scope, StoreId};
use malote_proto::lots::v1 as wire;
use malote_proto::lots::v1::store_notice::Notice as WireNotice;
use prost::Message;

use crate::journal::{Entry, Stored};
use crate::wire::{DecodeError, lot_id, meta_from_wire, meta_to_wire, mode_from_wire, mode_to_wire};

/// What a store's tills are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A lot is for them.
    Lot(LotNotice),
    /// The groups that the store is in from now on.
    Groups(BTreeSet<GroupId>),
}

/// A lot that is for a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LotNotice {
    /// The lot.
    pub lot: LotId,
    /// Its scope.
    pub scope: Scope,
    /// What it does.
    pub mode: Mode,
    /// Of a full lot the kinds that it replaces, of a delta the kinds that it holds.
    pub kinds: BTreeSet<Kind>,
    /// Number of chunks.
    pub chunks: u32,
    /// Records in all.
    pub records: u64,
    /// Bytes of all chunks as stored.
    pub bytes: u64,
    /// Digest over the chunk digests.
    pub digest: Digest,
    /// Of two records of the same scope, kind and key, the one of greater version is the store's.
    pub version: u64,
    /// Whether it only repeats what was released up to its version.
    pub snapshot: bool,
}

/// The id of the notice that tells a store of something, the same however often it is made.
pub fn notice_id(store: &StoreId, cause: EventId) -> EventId {
    malote_domain::CommandId::new(cause.uuid()).follow_up(store.as_str()).event(0)
}

/// A notice as it is published.
pub fn encode(notice: &Notice, meta: &Meta) -> Entry {
    let (message_type, notice) = match notice {
        Notice::Lot(lot) => (
            "malote.lots.v1.LotNotice",
            WireNotice::Lot(wire::LotNotice {
                lot: lot.lot.uuid().as_bytes().to_vec().into(),
                scope: lot.scope.to_string(),
                mode: mode_to_wire(lot.mode).into(),
                kinds: lot.kinds.iter().map(ToString::to_string).collect(),
                chunks: lot.chunks,
                records: lot.records,
                bytes: lot.bytes,
                digest: lot.digest.as_bytes().to_vec().into(),
                version: lot.version,
                snapshot: lot.snapshot,
            }),
        ),
        Notice::Groups(groups) => (
            "malote.lots.v1.GroupsNotice",
            WireNotice::Groups(wire::GroupsNotice {
                groups: groups.iter().map(ToString::to_string).collect(),
            }),
        ),
    };
    let message = wire::StoreNotice { meta: Some(meta_to_wire(meta)), notice: Some(notice) };
    Entry { id: meta.id, message_type, payload: message.encode_to_vec().into() }
}

/// A notice as it was stored.
///
/// # Errors
/// When it is not one that this version knows.
pub fn decode(stored: &Stored) -> Result<(Notice, Meta), DecodeError> {
    let message = wire::StoreNotice::decode(stored.payload.clone())?;
    let meta = meta_from_wire(message.meta)?;
    let notice = match message.notice.ok_or(DecodeError::Unknown)? {
        WireNotice::Lot(lot) => Notice::Lot(LotNotice {
            lot: lot_id(&lot.lot)?,
            scope: Scope::parse(&lot.scope)?,
            mode: mode_from_wire(lot.mode)?,
            kinds: lot.kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<_, _>>()?,
            chunks: lot.chunks,
            records: lot.records,
            bytes: lot.bytes,
            digest: Digest::from_bytes(&lot.digest).ok_or(DecodeError::Field("digest"))?,
            version: lot.version,
            snapshot: lot.snapshot,
        }),
        WireNotice::Groups(groups) => {
            Notice::Groups(groups.groups.iter().map(|group| GroupId::parse(group)).collect::<Result<_, _>>()?)
        }
    };
    Ok((notice, meta))
}
