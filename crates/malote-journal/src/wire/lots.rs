//! Lots on the wire.

use std::collections::BTreeMap;

use malote_domain::lots::{AbortReason, Activation, Event, Lot, Manifest, Mode, State, Terms};
use malote_domain::{Digest, Kind, LotId, Meta, Scope, StoreId, Timestamp};
use malote_proto::lots::v1 as wire;
use malote_proto::lots::v1::aborted::Reason;
use malote_proto::lots::v1::lots_event::Event as WireEvent;
use malote_proto::lots::v1::opened::ActivateAt;
use prost::Message;

use super::{DecodeError, Wire, encoded, meta_from_wire, meta_to_wire};
use crate::journal::{Entry, Stored};
use crate::subjects;

impl Wire for Lot {
    const STREAM: &'static str = subjects::LOTS;

    fn filter(id: &LotId) -> String {
        subjects::lot_any_scope(*id)
    }

    fn subject(id: &LotId, state: &State, events: &[Event]) -> String {
        let scope = match state {
            State::Open(terms) | State::Closed { terms, .. } => Some(&terms.scope),
            State::Absent | State::Aborted(_) | State::Recalled => None,
        };
        let opened = events.iter().find_map(|event| match event {
            Event::Opened(terms) => Some(&terms.scope),
            Event::Closed(_) | Event::Aborted(_) | Event::Released { .. } | Event::Recalled { .. } => None,
        });
        // A lot that ends here is found again by its id whatever the scope in the subject says.
        subjects::lot(scope.or(opened).unwrap_or(&Scope::All), *id)
    }

    fn encode(event: &Event, meta: &Meta) -> Entry {
        let (name, event) = match event {
            Event::Opened(terms) => ("malote.lots.v1.Opened", WireEvent::Opened(opened(terms))),
            Event::Closed(manifest) => (
                "malote.lots.v1.Closed",
                WireEvent::Closed(wire::Closed {
                    chunks: manifest.chunks,
                    records: counts_to_wire(&manifest.records),
                    bytes: manifest.bytes,
                    digest: manifest
                        .digest
                        .map(|digest| digest.as_bytes().to_vec())
                        .unwrap_or_default()
                        .into(),
                }),
            ),
            Event::Aborted(reason) => (
                "malote.lots.v1.Aborted",
                WireEvent::Aborted(wire::Aborted {
                    reason: Some(match reason {
                        AbortReason::Owner(text) => Reason::Owner(text.clone()),
                        AbortReason::LeaseExpired => Reason::LeaseExpired(wire::LeaseExpired {}),
                        AbortReason::Strict(text) => Reason::Strict(text.clone()),
                    }),
                }),
            ),
            Event::Released { stores, last } => (
                "malote.lots.v1.Released",
                WireEvent::Released(wire::Released {
                    stores: stores.iter().map(ToString::to_string).collect(),
                    last: *last,
                }),
            ),
            Event::Recalled { reason } => {
                ("malote.lots.v1.Recalled", WireEvent::Recalled(wire::Recalled { reason: reason.clone() }))
            }
        };
        let message = wire::LotsEvent { meta: Some(meta_to_wire(meta)), event: Some(event) };
        encoded(meta, name, &message)
    }

    fn decode(stored: &Stored) -> Result<(Event, Meta), DecodeError> {
        let message = wire::LotsEvent::decode(stored.payload.clone())?;
        let meta = meta_from_wire(message.meta)?;
        let event = match message.event.ok_or(DecodeError::Unknown)? {
            WireEvent::Opened(opened) => Event::Opened(terms(opened)?),
            WireEvent::Closed(closed) => Event::Closed(Manifest {
                chunks: closed.chunks,
                records: counts_from_wire(closed.records)?,
                bytes: closed.bytes,
                digest: match closed.digest.as_ref() {
                    [] => None,
                    bytes => Some(Digest::from_bytes(bytes).ok_or(DecodeError::Field("digest"))?),
                },
            }),
            WireEvent::Aborted(aborted) => {
                Event::Aborted(match aborted.reason.ok_or(DecodeError::Unknown)? {
                    Reason::Owner(text) => AbortReason::Owner(text),
                    Reason::LeaseExpired(_) => AbortReason::LeaseExpired,
                    Reason::Strict(text) => AbortReason::Strict(text),
                })
            }
            WireEvent::Released(released) => Event::Released {
                stores: released
                    .stores
                    .iter()
                    .map(|store| StoreId::parse(store))
                    .collect::<Result<_, _>>()?,
                last: released.last,
            },
            WireEvent::Recalled(recalled) => Event::Recalled { reason: recalled.reason },
        };
        Ok((event, meta))
    }
}

fn opened(terms: &Terms) -> wire::Opened {
    wire::Opened {
        scope: terms.scope.to_string(),
        kinds: terms.kinds.iter().map(ToString::to_string).collect(),
        mode: mode_to_wire(terms.mode).into(),
        strict: terms.strict,
        lease_seconds: terms.lease_seconds,
        activate_at: terms.activate_at.as_ref().map(|at| match at {
            Activation::Instant(at) => ActivateAt::InstantMicros(at.micros()),
            Activation::Local(text) => ActivateAt::Local(text.clone()),
        }),
        as_of: terms.as_of.unwrap_or(0),
    }
}

fn terms(opened: wire::Opened) -> Result<Terms, DecodeError> {
    Ok(Terms {
        scope: Scope::parse(&opened.scope)?,
        kinds: opened.kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<_, _>>()?,
        mode: mode_from_wire(opened.mode)?,
        strict: opened.strict,
        lease_seconds: opened.lease_seconds,
        activate_at: opened.activate_at.map(|at| match at {
            ActivateAt::InstantMicros(micros) => Activation::Instant(Timestamp::from_micros(micros)),
            ActivateAt::Local(text) => Activation::Local(text),
        }),
        as_of: (opened.as_of != 0).then_some(opened.as_of),
    })
}

pub(crate) const fn mode_to_wire(mode: Mode) -> wire::Mode {
    match mode {
        Mode::Delta => wire::Mode::Delta,
        Mode::Full => wire::Mode::Full,
    }
}

pub(crate) fn mode_from_wire(mode: i32) -> Result<Mode, DecodeError> {
    match wire::Mode::try_from(mode) {
        Ok(wire::Mode::Delta) => Ok(Mode::Delta),
        Ok(wire::Mode::Full) => Ok(Mode::Full),
        Ok(wire::Mode::Unspecified) | Err(_) => Err(DecodeError::Field("mode")),
    }
}

pub(crate) fn counts_to_wire(counts: &BTreeMap<Kind, u64>) -> Vec<wire::KindCount> {
    counts.iter().map(|(kind, count)| wire::KindCount { kind: kind.to_string(), count: *count }).collect()
}

pub(crate) fn counts_from_wire(counts: Vec<wire::KindCount>) -> Result<BTreeMap<Kind, u64>, DecodeError> {
    counts.into_iter().map(|count| Ok((Kind::parse(&count.kind)?, count.count))).collect()
}
