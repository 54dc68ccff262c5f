//! What was encoded is decoded; what cannot be decoded is said to be so, and never ends the reader.

mod any;
mod golden;

use malote_domain::lots::Lot;
use malote_domain::registry::{Group, GroupEvent, Name, Pdv, Store, StoreEvent};
use malote_domain::{Kind, Scope};
use malote_proto::{lots::v1 as lots_wire, pdvs::v1 as pdvs_wire, registry::v1 as registry_wire};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::chunk::{Chunk, Packer};
use crate::{notice, subjects};

const LOT: &str = "0197f0aa-0000-7000-8000-000000000001";

fn entry(fact: &Fact, meta: &Meta) -> Entry {
    match fact {
        Fact::Lot(_, event) => Lot::encode(event, meta),
        Fact::Store(_, event) => Store::encode(event, meta),
        Fact::Group(_, event) => Group::encode(event, meta),
        Fact::Pdv(_, event) => Pdv::encode(event, meta),
        Fact::Till(_, event) => encode_report(event, meta),
    }
}

fn subject(fact: &Fact) -> String {
    match fact {
        Fact::Lot(lot, _) => subjects::lot(&Scope::All, *lot),
        Fact::Store(store, _) => subjects::store(store),
        Fact::Group(group, _) => subjects::group(group),
        Fact::Pdv(address, _) => subjects::pdv(address),
        Fact::Till(address, _) => subjects::till(address),
    }
}

fn stored(subject: &str, payload: Bytes) -> Stored {
    Stored { sequence: 7, subject: subject.to_owned(), id: Some("id".to_owned()), payload }
}

fn meta() -> Meta {
    let command = CommandId::new(Uuid::from_u128(0x0197_f0aa_0000_7000_8000_0000_0000_00cc));
    Meta {
        id: command.event(0),
        occurred_at: Timestamp::from_micros(1_700_000_000_000_000),
        actor: Actor::new("back office"),
        command,
        causation: None,
        correlation: command,
    }
}

/// What `read` says of a message that it cannot read.
#[track_caller]
fn reason(subject: &str, payload: impl Into<Bytes>) -> String {
    let stored = stored(subject, payload.into());
    match read(&stored) {
        Read::Unreadable { cursor, subject: named, reason } => {
            assert_eq!((cursor, named.as_str()), (stored.cursor(), subject));
            reason
        }
        Read::Fact(fact) => panic!("was read as {fact:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_fact_comes_back_as_it_was(fact in any::fact(), meta in any::meta()) {
        let entry = entry(&fact, &meta);
        prop_assert_eq!(entry.id, meta.id);
        let stored = stored(&subject(&fact), entry.payload);
        let recorded = Recorded { sequence: 7, hash: stored.hash(), meta, event: fact };
        prop_assert_eq!(read(&stored), Read::Fact(Box::new(recorded)));
    }

    #[test]
    fn every_notice_comes_back_as_it_was(told in any::notice(), meta in any::meta(), store in any::store()) {
        let entry = notice::encode(&told, &meta);
        let stored = stored(&subjects::lot_notice(&store), entry.payload);
        prop_assert_eq!(notice::decode(&stored), Ok((told, meta)));
    }

    #[test]
    fn every_sign_of_life_comes_back_as_it_was(beat in any::beat()) {
        prop_assert_eq!(decode_beat(&encode_beat(&beat)), Ok(beat));
    }
}

/// Something that happens to bytes on a bad day.
#[derive(Clone, Debug)]
enum Harm {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Repeat,
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<Index>(), 1_u8..).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        any::<Index>().prop_map(Harm::Cut),
        (any::<Index>(), vec(any::<u8>(), 1..5)).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        any::<Index>().prop_map(Harm::Remove),
        Just(Harm::Repeat),
    ]
}

fn harmed(bytes: &[u8], harms: &[Harm]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for harm in harms {
        match harm {
            Harm::Flip(at, bits) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Harm::Remove(at) if !bytes.is_empty() => {
                bytes.remove(at.index(bytes.len()));
            }
            Harm::Flip(..) | Harm::Remove(_) => {}
            Harm::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Harm::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more.iter().copied());
            }
            Harm::Repeat => bytes.extend_from_within(..),
        }
    }
    bytes
}

/// Reads a message in every way there is; none may panic, and a refusal has a reason.
fn read_every_way(subject: &str, payload: &[u8]) {
    let stored = stored(subject, Bytes::copy_from_slice(payload));
    match read(&stored) {
        Read::Fact(fact) => assert_eq!(fact.cursor(), stored.cursor()),
        Read::Unreadable { cursor, subject: named, reason } => {
            assert_eq!((cursor, &named), (stored.cursor(), &stored.subject));
            assert!(!reason.is_empty());
        }
    }
    let _ = notice::decode(&stored);
    let _ = decode_beat(&stored.payload);
    if let Ok(chunk) = Chunk::decode(stored.payload) {
        let _ = chunk.unpack();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn harmed_bytes_never_end_the_reader(
        fact in any::fact(), meta in any::meta(), harms in vec(harm(), 1..4), subject_harms in vec(harm(), 0..2)
    ) {
        let subject = harmed(subject(&fact).as_bytes(), &subject_harms);
        read_every_way(&String::from_utf8_lossy(&subject), &harmed(&entry(&fact, &meta).payload, &harms));
    }

    #[test]
    fn garbage_never_ends_the_reader(subject in "(lots|pdvs|registry|stores|.{0,8})(\\.[a-z*>]{0,5}){0,5}", bytes in vec(any::<u8>(), 0..200)) {
        read_every_way(&subject, &bytes);
    }

    #[test]
    fn harmed_notices_beats_and_chunks_never_end_the_reader(
        told in any::notice(), beat in any::beat(), meta in any::meta(), harms in vec(harm(), 1..4)
    ) {
        let mut packer = Packer::default();
        packer.push(&Kind::parse("price").unwrap(), "1".into(), Some(Bytes::from_static(b"{}")));
        let chunk = packer.pack().unwrap().message(LotId::parse(LOT).unwrap(), 3);
        for bytes in [notice::encode(&told, &meta).payload, encode_beat(&beat), chunk] {
            read_every_way("stores.330.lot", &harmed(&bytes, &harms));
        }
    }
}

fn lots_event(event: Option<lots_wire::lots_event::Event>) -> Bytes {
    lots_wire::LotsEvent { meta: Some(meta_to_wire(&meta())), event }.encode_to_vec().into()
}

fn opened() -> lots_wire::Opened {
    lots_wire::Opened { scope: "all".into(), mode: lots_wire::Mode::Full.into(), ..Default::default() }
}

#[test]
fn an_event_of_a_later_version_is_unreadable_and_not_an_error() {
    let subject = format!("lots.all.{LOT}");
    // Field 50 with three bytes: a kind of event that does not exist yet.
    let unknown = [lots_event(None).as_ref(), &[0x92, 0x03, 0x03, 1, 2, 3]].concat();
    let said = reason(&subject, unknown);
    assert_eq!(said, DecodeError::Unknown.to_string());
    // A way of giving up that does not exist yet.
    let aborted = lots_wire::Aborted { reason: None };
    let said = reason(&subject, lots_event(Some(lots_wire::lots_event::Event::Aborted(aborted))));
    assert_eq!(said, DecodeError::Unknown.to_string());
    // A mode that does not exist yet is not taken for one that does.
    for mode in [0, 3] {
        let opened = lots_wire::Opened { mode, ..opened() };
        let said = reason(&subject, lots_event(Some(lots_wire::lots_event::Event::Opened(opened))));
        assert_eq!(said, DecodeError::Field("mode").to_string());
    }
}

#[test]
fn a_field_of_a_later_version_is_passed_over() {
    let fact = Fact::Group(
        GroupId::parse("south").unwrap(),
        GroupEvent::Registered { name: Name::parse("Sul").unwrap() },
    );
    let later = [entry(&fact, &meta()).payload.as_ref(), &[0x92, 0x03, 0x03, 1, 2, 3]].concat();
    let Read::Fact(read) = read(&stored(&subject(&fact), later.into())) else { panic!("unreadable") };
    assert_eq!((read.event, read.meta), (fact, meta()));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    use lots_wire::lots_event::Event;

    let subject = format!("lots.all.{LOT}");
    let without_meta = lots_wire::LotsEvent { meta: None, event: Some(Event::Opened(opened())) };
    assert!(reason(&subject, without_meta.encode_to_vec()).contains("'meta'"));
    for field in ["event_id", "command_id", "correlation_id", "causation_id"] {
        let mut meta = meta_to_wire(&meta());
        let short = Bytes::from_static(&[1; 15]);
        match field {
            "event_id" => meta.event_id = short,
            "command_id" => meta.command_id = short,
            "correlation_id" => meta.correlation_id = short,
            _ => meta.causation_id = short,
        }
        let event = lots_wire::LotsEvent { meta: Some(meta), event: Some(Event::Opened(opened())) };
        let said = reason(&subject, event.encode_to_vec());
        assert!(said.contains(&format!("'{field}'")), "{field}: {said}");
    }
    let closed = lots_wire::Closed { digest: Bytes::from_static(&[1; 31]), ..Default::default() };
    assert!(reason(&subject, lots_event(Some(Event::Closed(closed)))).contains("'digest'"));
    let scope = lots_wire::Opened { scope: "everyone".into(), ..opened() };
    assert!(reason(&subject, lots_event(Some(Event::Opened(scope)))).contains("everyone"));
    let kinds = lots_wire::Opened { kinds: vec!["a.b".into()], ..opened() };
    assert!(reason(&subject, lots_event(Some(Event::Opened(kinds)))).contains("a.b"));
    let stores = lots_wire::Released { stores: vec!["*".into()], last: true };
    assert!(reason(&subject, lots_event(Some(Event::Released(stores)))).contains("'*'"));

    let failed = pdvs_wire::LotFailed { lot: Bytes::from_static(b"short"), ..Default::default() };
    let event = pdvs_wire::pdvs_event::Event::LotFailed(failed);
    let report = pdvs_wire::PdvsEvent { meta: Some(meta_to_wire(&meta())), event: Some(event) };
    assert!(reason("pdvs.330.1", report.encode_to_vec()).contains("'lot'"));
    assert_eq!(reason("pdvs.330.1", vec![0xff; 9]), "not the protobuf message expected here");
}

fn registry_event(event: registry_wire::registry_event::Event) -> Vec<u8> {
    registry_wire::RegistryEvent { meta: Some(meta_to_wire(&meta())), event: Some(event) }.encode_to_vec()
}

#[test]
fn what_is_known_of_a_store_is_checked() {
    use registry_wire::registry_event::Event;

    let good = registry_wire::StoreDetails { name: "Centro".into(), ..Default::default() };
    let said = |details: Option<registry_wire::StoreDetails>| {
        let event = registry_wire::StoreRegistered { details };
        reason("registry.store.330", registry_event(Event::StoreRegistered(event)))
    };
    assert!(said(None).contains("'details'"));
    assert!(said(Some(registry_wire::StoreDetails { name: " ".into(), ..good.clone() })).contains("'name'"));
    let cnpj = registry_wire::StoreDetails { cnpj: "11222333000182".into(), ..good.clone() };
    assert!(said(Some(cnpj)).contains("'cnpj'"));
    let groups = registry_wire::StoreDetails { groups: vec!["a b".into()], ..good };
    assert!(said(Some(groups)).contains("'a b'"));
}

#[test]
fn an_event_on_a_subject_of_another_entity_is_unreadable() {
    let details = malote_domain::registry::StoreDetails {
        name: Name::parse("Centro").unwrap(),
        cnpj: None,
        zone: "America/Sao_Paulo".into(),
        groups: std::collections::BTreeSet::new(),
    };
    let payload = Store::encode(&StoreEvent::Registered(details), &meta()).payload;
    for subject in ["registry.group.330", "registry.pdv.330.1"] {
        assert_eq!(reason(subject, payload.clone()), DecodeError::Unknown.to_string(), "{subject}");
    }
    let group = Group::encode(&GroupEvent::Registered { name: Name::parse("Sul").unwrap() }, &meta());
    assert_eq!(reason("registry.store.330", group.payload), DecodeError::Unknown.to_string());
}

#[test]
fn a_subject_that_names_nothing_is_unreadable() {
    let event = lots_wire::lots_event::Event::Recalled(lots_wire::Recalled { reason: "wrong".into() });
    let payload = lots_event(Some(event));
    for subject in ["", "lots", "lots.all", "lots.all.1.2", "registry", "registry.till.330", "stores.330.lot"]
    {
        assert_eq!(reason(subject, payload.clone()), DecodeError::Subject.to_string(), "{subject}");
    }
    assert!(reason("lots.all.330", payload.clone()).contains("lot '330' is not a UUID"));
    let Read::Fact(_) = read(&stored(&format!("lots.all.{LOT}"), payload)) else { panic!("unreadable") };

    let pdv =
        registry_event(registry_wire::registry_event::Event::PdvRegistered(registry_wire::PdvRegistered {}));
    assert!(reason("registry.pdv..1", pdv.clone()).contains("store ''"));
    assert!(reason("registry.pdv.330.a b", pdv).contains("PDV 'a b'"));
}
