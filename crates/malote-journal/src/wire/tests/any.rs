//! Arbitrary values of everything that travels, for the property tests.

use std::collections::{BTreeMap, BTreeSet};

use malote_domain::lots::{self, AbortReason, Activation, Manifest, Mode, Terms};
use malote_domain::pdvs::{self, Quarantined};
use malote_domain::registry::{Cnpj, GroupEvent, Name, PdvAddress, PdvEvent, StoreDetails, StoreEvent};
use malote_domain::{
    Actor, CommandId, Digest, EventId, Fact, GroupId, Kind, LotId, Meta, PdvId, Scope, StoreId, Timestamp,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::notice::{LotNotice, Notice};
use crate::wire::{Beat, Download};

/// Numbers with their ends: an encoding goes wrong there first.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), any::<u32>()]
}

fn at() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(0), Just(i64::MIN), Just(i64::MAX), any::<i64>()].prop_map(Timestamp::from_micros)
}

fn id() -> impl Strategy<Value = Uuid> {
    prop_oneof![
        Just(Uuid::nil()),
        Just(Uuid::max()),
        any::<[u8; 16]>().prop_map(|bytes| Uuid::from_slice(&bytes).unwrap())
    ]
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}"
}

fn text() -> impl Strategy<Value = String> {
    any::<String>()
}

pub fn store() -> impl Strategy<Value = StoreId> {
    token().prop_map(|text| StoreId::parse(&text).unwrap())
}

fn group() -> impl Strategy<Value = GroupId> {
    token().prop_map(|text| GroupId::parse(&text).unwrap())
}

fn kind() -> impl Strategy<Value = Kind> {
    token().prop_map(|text| Kind::parse(&text).unwrap())
}

fn lot() -> impl Strategy<Value = LotId> {
    id().prop_map(LotId::new)
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(|bytes| Digest::from_bytes(&bytes).unwrap())
}

fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::All), group().prop_map(Scope::Group), store().prop_map(Scope::Store)]
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Delta), Just(Mode::Full)]
}

fn kinds() -> impl Strategy<Value = BTreeSet<Kind>> {
    btree_set(kind(), 0..5)
}

fn address() -> impl Strategy<Value = PdvAddress> {
    (store(), token()).prop_map(|(store, pdv)| PdvAddress { store, pdv: PdvId::parse(&pdv).unwrap() })
}

pub fn meta() -> impl Strategy<Value = Meta> {
    (id(), at(), text(), id(), option::of(id()), id()).prop_map(
        |(id, occurred_at, actor, command, causation, correlation)| Meta {
            id: EventId::new(id),
            occurred_at,
            actor: Actor::new(&actor),
            command: CommandId::new(command),
            causation: causation.map(EventId::new),
            correlation: CommandId::new(correlation),
        },
    )
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![at().prop_map(Activation::Instant), text().prop_map(Activation::Local)]
}

/// Position 0 is no position: the wire has it for "no snapshot".
fn position() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), Just(u64::MAX), 1..u64::MAX]
}

fn terms() -> impl Strategy<Value = Terms> {
    (scope(), kinds(), mode(), any::<bool>(), small(), option::of(activation()), option::of(position()))
        .prop_map(|(scope, kinds, mode, strict, lease_seconds, activate_at, as_of)| Terms {
            scope,
            kinds,
            mode,
            strict,
            lease_seconds,
            activate_at,
            as_of,
        })
}

fn counts() -> impl Strategy<Value = BTreeMap<Kind, u64>> {
    btree_map(kind(), number(), 0..5)
}

fn manifest() -> impl Strategy<Value = Manifest> {
    (small(), counts(), number(), option::of(digest()))
        .prop_map(|(chunks, records, bytes, digest)| Manifest { chunks, records, bytes, digest })
}

fn abort_reason() -> impl Strategy<Value = AbortReason> {
    prop_oneof![
        text().prop_map(AbortReason::Owner),
        Just(AbortReason::LeaseExpired),
        text().prop_map(AbortReason::Strict)
    ]
}

fn lot_event() -> impl Strategy<Value = lots::Event> {
    use lots::Event;

    prop_oneof![
        terms().prop_map(Event::Opened),
        manifest().prop_map(Event::Closed),
        abort_reason().prop_map(Event::Aborted),
        (vec(store(), 0..6), any::<bool>()).prop_map(|(stores, last)| Event::Released { stores, last }),
        text().prop_map(|reason| Event::Recalled { reason })
    ]
}

fn name() -> impl Strategy<Value = Name> {
    "[^\\pC\\pZ][^\\pC]{0,60}".prop_map(|text| Name::parse(&text).unwrap())
}

fn cnpj() -> impl Strategy<Value = Cnpj> {
    prop_oneof![Just("11222333000181"), Just("12ABC34501DE35")].prop_map(|text| Cnpj::parse(text).unwrap())
}

fn details() -> impl Strategy<Value = StoreDetails> {
    (name(), option::of(cnpj()), text(), btree_set(group(), 0..5))
        .prop_map(|(name, cnpj, zone, groups)| StoreDetails { name, cnpj, zone, groups })
}

fn store_event() -> impl Strategy<Value = StoreEvent> {
    prop_oneof![details().prop_map(StoreEvent::Registered), details().prop_map(StoreEvent::Changed)]
}

fn problem() -> impl Strategy<Value = Quarantined> {
    (kind(), text(), text()).prop_map(|(kind, key, reason)| Quarantined { kind, key, reason })
}

fn report() -> impl Strategy<Value = pdvs::Event> {
    use pdvs::Event;

    prop_oneof![
        (lot(), number(), number(), number(), number(), vec(problem(), 0..4), number()).prop_map(
            |(lot, notice, upserted, deleted, quarantined, problems, took_ms)| Event::LotApplied {
                lot,
                notice,
                upserted,
                deleted,
                quarantined,
                problems,
                took_ms
            }
        ),
        (lot(), number(), lot()).prop_map(|(lot, notice, by)| Event::LotSuperseded { lot, notice, by }),
        (lot(), number(), text(), small(), at()).prop_map(|(lot, notice, reason, attempt, next_try_at)| {
            Event::LotFailed { lot, notice, reason, attempt, next_try_at }
        })
    ]
}

/// Any fact of LOTS, REGISTRY or PDVS.
pub fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        3 => (lot(), lot_event()).prop_map(|(lot, event)| Fact::Lot(lot, event)),
        2 => (store(), store_event()).prop_map(|(store, event)| Fact::Store(store, event)),
        1 => (group(), name()).prop_map(|(group, name)| Fact::Group(group, GroupEvent::Registered { name })),
        1 => address().prop_map(|address| Fact::Pdv(address, PdvEvent::Registered)),
        3 => (address(), report()).prop_map(|(address, event)| Fact::Till(address, event)),
    ]
}

/// Any notice of a store.
pub fn notice() -> impl Strategy<Value = Notice> {
    let lot_notice =
        ((lot(), scope(), mode(), kinds()), (small(), number(), number(), digest(), number(), any::<bool>()))
            .prop_map(|((lot, scope, mode, kinds), (chunks, records, bytes, digest, version, snapshot))| {
                Notice::Lot(LotNotice {
                    lot,
                    scope,
                    mode,
                    kinds,
                    chunks,
                    records,
                    bytes,
                    digest,
                    version,
                    snapshot,
                })
            });
    prop_oneof![lot_notice, btree_set(group(), 0..5).prop_map(Notice::Groups)]
}

/// Any sign of life.
pub fn beat() -> impl Strategy<Value = Beat> {
    let download = (lot(), small(), small()).prop_map(|(lot, chunks_done, chunks)| Download {
        lot,
        chunks_done,
        chunks,
    });
    (number(), at(), option::of(download), "[^\\pC]{0,64}").prop_map(|(notice, at, download, version)| Beat {
        notice,
        at,
        download,
        version,
    })
}
