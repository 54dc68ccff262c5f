//! Bytes once published decode for ever: `proto/golden/<domain>/v1/<Message>[.<what>].hex` against the value
//! that each stands for.
//!
//! A new message, or a new form of one, gets a file of its own: give it an example below and run the tests once
//! with `MALOTE_WRITE_GOLDEN` set. Files that are there are never written again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use malote_domain::Digest;
use malote_domain::lots::{self, AbortReason, Activation, Manifest, Mode, Terms};
use malote_domain::pdvs::{self, Quarantined};
use malote_domain::registry::{Cnpj, PdvEvent, StoreDetails};

use super::*;
use crate::chunk::end_message;
use crate::notice::{LotNotice, Notice};

const WRITE: &str = "MALOTE_WRITE_GOLDEN";

/// Messages that are published without an envelope whose `oneof` would name them.
const BARE: &[&str] = &["Beat", "LotChunk"];

/// Something published, as a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Example {
    Fact(Fact),
    Notice(Notice),
    Beat(Beat),
    Chunk { number: u32, end: bool, records: Vec<(Kind, String, Option<Bytes>)> },
}

fn lot(last: u128) -> LotId {
    LotId::new(Uuid::from_u128(0x0197_f0aa_0000_7000_8000_0000_0000_0000 + last))
}

fn store(text: &str) -> StoreId {
    StoreId::parse(text).unwrap()
}

fn kinds(names: &[&str]) -> BTreeSet<Kind> {
    names.iter().map(|name| Kind::parse(name).unwrap()).collect()
}

fn groups(names: &[&str]) -> BTreeSet<GroupId> {
    names.iter().map(|name| GroupId::parse(name).unwrap()).collect()
}

fn till() -> PdvAddress {
    PdvAddress { store: store("330"), pdv: PdvId::parse("till-2").unwrap() }
}

fn of_lot(event: lots::Event) -> Example {
    Example::Fact(Fact::Lot(lot(1), event))
}

fn of_till(event: pdvs::Event) -> Example {
    Example::Fact(Fact::Till(till(), event))
}

fn terms() -> Terms {
    Terms {
        scope: Scope::All,
        kinds: kinds(&["product", "price"]),
        mode: Mode::Delta,
        strict: false,
        lease_seconds: 900,
        activate_at: None,
        as_of: None,
    }
}

fn details() -> StoreDetails {
    StoreDetails {
        name: Name::parse("Três Corações").unwrap(),
        cnpj: Some(Cnpj::parse("11.222.333/0001-81").unwrap()),
        zone: "America/Sao_Paulo".into(),
        groups: groups(&["south", "large"]),
    }
}

fn lots_examples() -> Vec<(&'static str, Example)> {
    let manifest = Manifest {
        chunks: 3,
        records: BTreeMap::from([
            (Kind::parse("price").unwrap(), 99_999),
            (Kind::parse("product").unwrap(), 1),
        ]),
        bytes: 1 << 33,
        digest: Some(Digest::of(b"lot")),
    };
    let strict = Terms {
        scope: Scope::Group(GroupId::parse("south").unwrap()),
        mode: Mode::Full,
        strict: true,
        activate_at: Some(Activation::Local("2026-11-25T06:00:00".into())),
        ..terms()
    };
    let snapshot = Terms {
        scope: Scope::Store(store("330")),
        activate_at: Some(Activation::Instant(Timestamp::from_micros(1_795_683_600_000_000))),
        as_of: Some(42),
        ..terms()
    };
    let notice = LotNotice {
        lot: lot(1),
        scope: Scope::Group(GroupId::parse("south").unwrap()),
        mode: Mode::Full,
        kinds: kinds(&["price"]),
        chunks: 3,
        records: 100_000,
        bytes: 1 << 33,
        digest: Digest::of(b"lot"),
        version: 42,
        snapshot: false,
    };
    let record = |kind: &str, key: &str, body: Option<&'static str>| {
        (Kind::parse(kind).unwrap(), key.to_owned(), body.map(|body| Bytes::from_static(body.as_bytes())))
    };
    let records = vec![
        record("price", "789", Some(r#"{"price_cents":1999}"#)),
        record("product", "789", Some(r#"{"name":"Café"}"#)),
        record("price", "790", None),
    ];
    vec![
        ("lots/v1/Opened", of_lot(lots::Event::Opened(terms()))),
        ("lots/v1/Opened.local", of_lot(lots::Event::Opened(strict))),
        ("lots/v1/Opened.instant_micros", of_lot(lots::Event::Opened(snapshot))),
        ("lots/v1/Closed", of_lot(lots::Event::Closed(manifest))),
        ("lots/v1/Closed.empty", of_lot(lots::Event::Closed(Manifest::default()))),
        ("lots/v1/Aborted.owner", of_lot(lots::Event::Aborted(AbortReason::Owner("wrong file".into())))),
        ("lots/v1/Aborted.lease_expired", of_lot(lots::Event::Aborted(AbortReason::LeaseExpired))),
        ("lots/v1/Aborted.strict", of_lot(lots::Event::Aborted(AbortReason::Strict("line 3".into())))),
        (
            "lots/v1/Released",
            of_lot(lots::Event::Released { stores: vec![store("330"), store("Loja_1")], last: false }),
        ),
        ("lots/v1/Released.last", of_lot(lots::Event::Released { stores: vec![], last: true })),
        ("lots/v1/Recalled", of_lot(lots::Event::Recalled { reason: "wrong price".into() })),
        ("lots/v1/LotNotice", Example::Notice(Notice::Lot(notice.clone()))),
        ("lots/v1/LotNotice.snapshot", Example::Notice(Notice::Lot(LotNotice { snapshot: true, ..notice }))),
        ("lots/v1/GroupsNotice", Example::Notice(Notice::Groups(groups(&["south", "large"])))),
        ("lots/v1/LotChunk", Example::Chunk { number: 0, end: false, records }),
        ("lots/v1/LotChunk.end", Example::Chunk { number: 3, end: true, records: vec![] }),
    ]
}

fn other_examples() -> Vec<(&'static str, Example)> {
    let plain = StoreDetails { cnpj: None, groups: BTreeSet::new(), ..details() };
    let group = GroupEvent::Registered { name: Name::parse("Sul").unwrap() };
    let applied = pdvs::Event::LotApplied {
        lot: lot(1),
        notice: 17,
        upserted: 99_998,
        deleted: 1,
        quarantined: 1,
        problems: vec![Quarantined {
            kind: Kind::parse("price").unwrap(),
            key: "791".into(),
            reason: "price_cents is negative".into(),
        }],
        took_ms: 1_250,
    };
    let failed = pdvs::Event::LotFailed {
        lot: lot(1),
        notice: 19,
        reason: "disk full".into(),
        attempt: 4,
        next_try_at: Timestamp::from_micros(1_795_683_600_000_000),
    };
    let at = Timestamp::from_micros(1_795_683_600_000_000);
    let download = Download { lot: lot(1), chunks_done: 2, chunks: 3 };
    let beat = Beat { notice: 17, at, download: Some(download), version: "0.1.0".into() };
    vec![
        (
            "registry/v1/StoreRegistered",
            Example::Fact(Fact::Store(store("330"), StoreEvent::Registered(details()))),
        ),
        ("registry/v1/StoreChanged", Example::Fact(Fact::Store(store("330"), StoreEvent::Changed(plain)))),
        ("registry/v1/GroupRegistered", Example::Fact(Fact::Group(GroupId::parse("south").unwrap(), group))),
        ("registry/v1/PdvRegistered", Example::Fact(Fact::Pdv(till(), PdvEvent::Registered))),
        ("pdvs/v1/LotApplied", of_till(applied)),
        (
            "pdvs/v1/LotSuperseded",
            of_till(pdvs::Event::LotSuperseded { lot: lot(1), notice: 18, by: lot(2) }),
        ),
        ("pdvs/v1/LotFailed", of_till(failed)),
        ("pdvs/v1/Beat", Example::Beat(Beat { download: None, ..beat.clone() })),
        ("pdvs/v1/Beat.download", Example::Beat(beat)),
    ]
}

fn examples() -> BTreeMap<&'static str, Example> {
    lots_examples().into_iter().chain(other_examples()).collect()
}

/// Half of the examples were caused by an event, so that both forms of the meta are kept.
fn meta_of(name: &str) -> Meta {
    let cause = name.len().is_multiple_of(2).then(|| CommandId::new(Uuid::from_u128(5)).event(1));
    Meta { causation: cause, ..meta() }
}

/// An example as it is published today: the name of its message, and its bytes.
fn published(name: &str, example: &Example) -> (String, Bytes) {
    let of_entry = |entry: Entry| (entry.message_type.to_owned(), entry.payload);
    match example {
        Example::Fact(fact) => of_entry(entry(fact, &meta_of(name))),
        Example::Notice(told) => of_entry(notice::encode(told, &meta_of(name))),
        Example::Beat(beat) => ("malote.pdvs.v1.Beat".into(), encode_beat(beat)),
        Example::Chunk { number, end: true, .. } => {
            ("malote.lots.v1.LotChunk".into(), end_message(lot(1), *number))
        }
        Example::Chunk { number, records, .. } => {
            let mut packer = Packer::default();
            for (kind, key, body) in records {
                packer.push(kind, key.clone(), body.clone());
            }
            ("malote.lots.v1.LotChunk".into(), packer.pack().unwrap().message(lot(1), *number))
        }
    }
}

/// Golden bytes as this version reads them.
fn decoded(name: &str, example: &Example, payload: Bytes) -> Example {
    match example {
        Example::Fact(fact) => match read(&stored(&subject(fact), payload)) {
            Read::Fact(recorded) => {
                assert_eq!(recorded.meta, meta_of(name), "{name}");
                Example::Fact(recorded.event)
            }
            Read::Unreadable { reason, .. } => panic!("{name}: {reason}"),
        },
        Example::Notice(_) => {
            let (told, meta) = notice::decode(&stored("stores.330.lot", payload)).unwrap();
            assert_eq!(meta, meta_of(name), "{name}");
            Example::Notice(told)
        }
        Example::Beat(_) => Example::Beat(decode_beat(&payload).unwrap()),
        Example::Chunk { .. } => {
            let chunk = Chunk::decode(payload).unwrap();
            assert_eq!(chunk.lot, lot(1), "{name}");
            let records = if chunk.end {
                vec![]
            } else {
                let unpacked = chunk.unpack().unwrap();
                let owned = unpacked
                    .iter()
                    .map(|r| (r.kind.clone(), r.key.to_owned(), r.body.map(Bytes::copy_from_slice)));
                owned.collect()
            };
            Example::Chunk { number: chunk.number, end: chunk.end, records }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}

fn to_hex(bytes: &[u8]) -> String {
    bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n")
        .collect()
}

fn from_hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2));
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Every file of `proto/golden`, by its name without the ending.
fn files() -> BTreeMap<String, Bytes> {
    let golden = root().join("golden");
    let mut files = BTreeMap::new();
    for domain in fs::read_dir(&golden).unwrap() {
        for version in fs::read_dir(domain.unwrap().path()).unwrap() {
            for file in fs::read_dir(version.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(&golden).unwrap().to_str().unwrap();
                let name = name.strip_suffix(".hex").unwrap_or_else(|| panic!("{name} is not golden bytes"));
                files.insert(name.to_owned(), from_hex(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

fn write_missing() {
    for (name, example) in examples() {
        let path = root().join("golden").join(format!("{name}.hex"));
        if !path.exists() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, to_hex(&published(name, &example).1)).unwrap();
        }
    }
}

#[test]
fn golden_bytes_decode_for_ever() {
    if std::env::var_os(WRITE).is_some() {
        write_missing();
    }
    let (files, examples) = (files(), examples());
    let without_example: Vec<_> = files.keys().filter(|name| !examples.contains_key(name.as_str())).collect();
    assert!(without_example.is_empty(), "nothing says what these stand for: {without_example:?}");
    for (name, example) in examples {
        let bytes = files.get(name).unwrap_or_else(|| panic!("{name} has no golden bytes; set {WRITE} once"));
        assert_eq!(decoded(name, &example, bytes.clone()), example, "{name}");
        let stem = name.rsplit('/').next().unwrap().split('.').next().unwrap();
        let domain = name.split('/').next().unwrap();
        assert_eq!(published(name, &example).0, format!("malote.{domain}.v1.{stem}"), "{name}");
    }
}

#[test]
fn what_is_published_today_is_among_the_golden_bytes() {
    let files = files();
    let mut kept: BTreeMap<String, bool> = BTreeMap::new();
    for (name, example) in examples() {
        let (message, bytes) = published(name, &example);
        // What zstd makes of a chunk is the compressor's affair; only its reading is promised.
        let same = message.ends_with(".LotChunk") || files.get(name) == Some(&bytes);
        *kept.entry(message).or_default() |= same;
    }
    let changed: Vec<_> = kept.iter().filter(|(_, same)| !**same).map(|(message, _)| message).collect();
    assert!(changed.is_empty(), "published otherwise than before; keep golden bytes of both: {changed:?}");
}

/// A choice of a `oneof`: its message, the `oneof`'s name, the choice's type and name.
fn choices(proto: &str) -> Vec<[String; 4]> {
    let (mut message, mut oneof, mut found) = (String::new(), None, vec![]);
    for line in proto.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &oneof) {
            (["message", name, ..], _) => message = (*name).to_owned(),
            (["oneof", name, ..], _) => oneof = Some((*name).to_owned()),
            (["}"], _) => oneof = None,
            ([kind, name, "=", ..], Some(oneof)) => {
                found.push([message.as_str(), oneof, kind, name].map(str::to_owned));
            }
            _ => {}
        }
    }
    found
}

#[test]
fn everything_the_contract_can_say_has_golden_bytes() {
    let examples = examples();
    let kept = |domain: &str, name: &str| {
        let exact = format!("{domain}/v1/{name}");
        examples.keys().any(|key| *key == exact || key.starts_with(&format!("{exact}.")))
    };
    let mut seen = 0;
    for domain in ["lots", "pdvs", "registry"] {
        let proto = fs::read_to_string(root().join(format!("malote/{domain}/v1/{domain}.proto"))).unwrap();
        for [message, oneof, kind, choice] in choices(&proto) {
            seen += 1;
            let name = match oneof.as_str() {
                "event" | "notice" => kind,
                _ => format!("{message}.{choice}"),
            };
            assert!(kept(domain, &name), "{domain}: {name} has no golden bytes; give it an example here");
        }
        for bare in BARE.iter().filter(|bare| proto.contains(&format!("message {bare} "))) {
            seen += 1;
            assert!(kept(domain, bare), "{domain}: {bare} has no golden bytes; give it an example here");
        }
    }
    assert!(seen >= 21, "only {seen} found: are the .proto files still read rightly?");
    let folders = fs::read_dir(root().join("malote")).unwrap().count();
    assert_eq!(folders, 4, "a new domain: name it here");
}
