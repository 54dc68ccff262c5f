//! Between domain types and wire types: one exhaustive mapping per domain. Events that this version does not know
//! are a typed error, never a panic: readers park them.

mod lots;
mod pdvs;
mod registry;

use bytes::Bytes;
use malote_domain::ids::IdError;
use malote_domain::{
    Actor, CommandId, Decider, EventId, Fact, GroupId, LotId, Meta, PdvId, Read, Recorded, StoreId,
    Timestamp, registry::PdvAddress,
};
use malote_proto::common::v1::EventMeta;
use prost::Message;
use uuid::Uuid;

use crate::journal::{Entry, Stored};

pub(crate) use lots::{counts_from_wire, counts_to_wire, mode_from_wire, mode_to_wire};
pub use pdvs::{Beat, Download, decode_beat, decode_report, encode_beat, encode_report};

/// How one domain's events travel.
pub trait Wire: Decider {
    /// Their stream.
    const STREAM: &'static str;

    /// The subjects of all events of one entity.
    fn filter(id: &Self::Id) -> String;

    /// The subject of new events, given the state after them.
    fn subject(id: &Self::Id, state: &Self::State, events: &[Self::Event]) -> String;

    /// An event as it is appended.
    fn encode(event: &Self::Event, meta: &Meta) -> Entry;

    /// An event as it was stored.
    ///
    /// # Errors
    /// When it is not one that this version knows.
    fn decode(stored: &Stored) -> Result<(Self::Event, Meta), DecodeError>;
}

/// Why a stored message is no event to this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf of the expected message.
    #[error("not the protobuf message expected here")]
    Protobuf(#[from] prost::DecodeError),
    /// An event newer than this version.
    #[error("an event of a kind that this version does not know")]
    Unknown,
    /// A field that must be there and is not, or makes no sense.
    #[error("field '{0}' is missing or out of range")]
    Field(&'static str),
    /// A name in it that cannot be one.
    #[error(transparent)]
    Id(#[from] IdError),
    /// A subject that is none of ours.
    #[error("a subject of no known form")]
    Subject,
}

pub(crate) fn meta_to_wire(meta: &Meta) -> EventMeta {
    EventMeta {
        event_id: uuid_bytes(meta.id.uuid()),
        occurred_at_micros: meta.occurred_at.micros(),
        actor: meta.actor.as_str().to_owned(),
        command_id: uuid_bytes(meta.command.uuid()),
        causation_id: meta.causation.map_or_else(Bytes::new, |id| uuid_bytes(id.uuid())),
        correlation_id: uuid_bytes(meta.correlation.uuid()),
    }
}

pub(crate) fn meta_from_wire(meta: Option<EventMeta>) -> Result<Meta, DecodeError> {
    let meta = meta.ok_or(DecodeError::Field("meta"))?;
    let causation = if meta.causation_id.is_empty() {
        None
    } else {
        Some(EventId::new(uuid(&meta.causation_id, "causation_id")?))
    };
    Ok(Meta {
        id: EventId::new(uuid(&meta.event_id, "event_id")?),
        occurred_at: Timestamp::from_micros(meta.occurred_at_micros),
        actor: Actor::new(&meta.actor),
        command: CommandId::new(uuid(&meta.command_id, "command_id")?),
        causation,
        correlation: CommandId::new(uuid(&meta.correlation_id, "correlation_id")?),
    })
}

fn uuid_bytes(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

fn uuid(bytes: &[u8], field: &'static str) -> Result<Uuid, DecodeError> {
    Uuid::from_slice(bytes).map_err(|_| DecodeError::Field(field))
}

pub(crate) fn lot_id(bytes: &[u8]) -> Result<LotId, DecodeError> {
    uuid(bytes, "lot").map(LotId::new)
}

/// What a reader makes of a message of LOTS, PDVS or REGISTRY: a fact, or something to park.
pub fn read(stored: &Stored) -> Read {
    match fact(stored) {
        Ok((event, meta)) => {
            Read::Fact(Box::new(Recorded { sequence: stored.sequence, hash: stored.hash(), meta, event }))
        }
        Err(error) => Read::Unreadable {
            cursor: stored.cursor(),
            subject: stored.subject.clone(),
            reason: error.to_string(),
        },
    }
}

fn fact(stored: &Stored) -> Result<(Fact, Meta), DecodeError> {
    use malote_domain::lots::Lot;
    use malote_domain::registry::{Group, Pdv, Store};

    let tokens: Vec<&str> = stored.subject.split('.').collect();
    match tokens.as_slice() {
        ["lots", _, lot] => {
            let (event, meta) = Lot::decode(stored)?;
            Ok((Fact::Lot(LotId::parse(lot)?, event), meta))
        }
        ["pdvs", store, pdv] => {
            let (event, meta) = decode_report(&stored.payload)?;
            Ok((Fact::Till(address(store, pdv)?, event), meta))
        }
        ["registry", "store", store] => {
            let (event, meta) = Store::decode(stored)?;
            Ok((Fact::Store(StoreId::parse(store)?, event), meta))
        }
        ["registry", "group", group] => {
            let (event, meta) = Group::decode(stored)?;
            Ok((Fact::Group(GroupId::parse(group)?, event), meta))
        }
        ["registry", "pdv", store, pdv] => {
            let (event, meta) = Pdv::decode(stored)?;
            Ok((Fact::Pdv(address(store, pdv)?, event), meta))
        }
        _ => Err(DecodeError::Subject),
    }
}

fn address(store: &str, pdv: &str) -> Result<PdvAddress, DecodeError> {
    Ok(PdvAddress { store: StoreId::parse(store)?, pdv: PdvId::parse(pdv)? })
}

fn encoded<M: Message>(meta: &Meta, message_type: &'static str, message: &M) -> Entry {
    Entry { id: meta.id, message_type, payload: message.encode_to_vec().into() }
}

#[cfg(test)]
mod tests;
