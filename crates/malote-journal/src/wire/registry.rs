//! Stores, groups and tills on the wire.

use malote_domain::registry::{
    Cnpj, Group, GroupEvent, Name, Pdv, PdvAddress, PdvEvent, Store, StoreDetails, StoreEvent,
};
use malote_domain::{GroupId, Meta, StoreId};
use malote_proto::registry::v1 as wire;
use malote_proto::registry::v1::registry_event::Event as WireEvent;
use prost::Message;

use super::{DecodeError, Wire, encoded, meta_from_wire, meta_to_wire};
use crate::journal::{Entry, Stored};
use crate::subjects;

fn encode(name: &'static str, event: WireEvent, meta: &Meta) -> Entry {
    encoded(meta, name, &wire::RegistryEvent { meta: Some(meta_to_wire(meta)), event: Some(event) })
}

fn decode(stored: &Stored) -> Result<(WireEvent, Meta), DecodeError> {
    let message = wire::RegistryEvent::decode(stored.payload.clone())?;
    Ok((message.event.ok_or(DecodeError::Unknown)?, meta_from_wire(message.meta)?))
}

impl Wire for Store {
    const STREAM: &'static str = subjects::REGISTRY;

    fn filter(id: &StoreId) -> String {
        subjects::store(id)
    }

    fn subject(id: &StoreId, _: &Option<StoreDetails>, _: &[StoreEvent]) -> String {
        subjects::store(id)
    }

    fn encode(event: &StoreEvent, meta: &Meta) -> Entry {
        match event {
            StoreEvent::Registered(details) => encode(
                "malote.registry.v1.StoreRegistered",
                WireEvent::StoreRegistered(wire::StoreRegistered { details: Some(details_to_wire(details)) }),
                meta,
            ),
            StoreEvent::Changed(details) => encode(
                "malote.registry.v1.StoreChanged",
                WireEvent::StoreChanged(wire::StoreChanged { details: Some(details_to_wire(details)) }),
                meta,
            ),
        }
    }

    fn decode(stored: &Stored) -> Result<(StoreEvent, Meta), DecodeError> {
        let (event, meta) = decode(stored)?;
        let event = match event {
            WireEvent::StoreRegistered(event) => StoreEvent::Registered(details_from_wire(event.details)?),
            WireEvent::StoreChanged(event) => StoreEvent::Changed(details_from_wire(event.details)?),
            WireEvent::GroupRegistered(_) | WireEvent::PdvRegistered(_) => return Err(DecodeError::Unknown),
        };
        Ok((event, meta))
    }
}

fn details_to_wire(details: &StoreDetails) -> wire::StoreDetails {
    wire::StoreDetails {
        name: details.name.as_str().to_owned(),
        cnpj: details.cnpj.as_ref().map(|cnpj| cnpj.as_str().to_owned()).unwrap_or_default(),
        zone: details.zone.clone(),
        groups: details.groups.iter().map(ToString::to_string).collect(),
    }
}

fn details_from_wire(details: Option<wire::StoreDetails>) -> Result<StoreDetails, DecodeError> {
    let details = details.ok_or(DecodeError::Field("details"))?;
    let cnpj = if details.cnpj.is_empty() {
        None
    } else {
        Some(Cnpj::parse(&details.cnpj).map_err(|_| DecodeError::Field("cnpj"))?)
    };
    Ok(StoreDetails {
        name: Name::parse(&details.name).map_err(|_| DecodeError::Field("name"))?,
        cnpj,
        zone: details.zone,
        groups: details.groups.iter().map(|group| GroupId::parse(group)).collect::<Result<_, _>>()?,
    })
}

impl Wire for Group {
    const STREAM: &'static str = subjects::REGISTRY;

    fn filter(id: &GroupId) -> String {
        subjects::group(id)
    }

    fn subject(id: &GroupId, _: &Option<Name>, _: &[GroupEvent]) -> String {
        subjects::group(id)
    }

    fn encode(event: &GroupEvent, meta: &Meta) -> Entry {
        let GroupEvent::Registered { name } = event;
        let event = WireEvent::GroupRegistered(wire::GroupRegistered { name: name.as_str().to_owned() });
        encode("malote.registry.v1.GroupRegistered", event, meta)
    }

    fn decode(stored: &Stored) -> Result<(GroupEvent, Meta), DecodeError> {
        let (event, meta) = decode(stored)?;
        match event {
            WireEvent::GroupRegistered(event) => {
                let name = Name::parse(&event.name).map_err(|_| DecodeError::Field("name"))?;
                Ok((GroupEvent::Registered { name }, meta))
            }
            WireEvent::StoreRegistered(_) | WireEvent::StoreChanged(_) | WireEvent::PdvRegistered(_) => {
                Err(DecodeError::Unknown)
            }
        }
    }
}

impl Wire for Pdv {
    const STREAM: &'static str = subjects::REGISTRY;

    fn filter(id: &PdvAddress) -> String {
        subjects::pdv(id)
    }

    fn subject(id: &PdvAddress, _: &bool, _: &[PdvEvent]) -> String {
        subjects::pdv(id)
    }

    fn encode(event: &PdvEvent, meta: &Meta) -> Entry {
        let PdvEvent::Registered = event;
        encode("malote.registry.v1.PdvRegistered", WireEvent::PdvRegistered(wire::PdvRegistered {}), meta)
    }

    fn decode(stored: &Stored) -> Result<(PdvEvent, Meta), DecodeError> {
        let (event, meta) = decode(stored)?;
        match event {
            WireEvent::PdvRegistered(_) => Ok((PdvEvent::Registered, meta)),
            WireEvent::StoreRegistered(_) | WireEvent::StoreChanged(_) | WireEvent::GroupRegistered(_) => {
                Err(DecodeError::Unknown)
            }
        }
    }
}
