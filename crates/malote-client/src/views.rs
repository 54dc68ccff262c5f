//! What the hub is asked and what it answers, as its JSON has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a lot does to the records of its scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Upserts and deletes.
    #[default]
    Delta,
    /// Afterwards the scope holds exactly this lot's records of these kinds.
    Full,
}

/// A lot to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewLot {
    /// Whom it is for: `all`, `group-<group>` or `store-<store>`.
    pub scope: String,
    /// The kinds of record that it may hold.
    pub kinds: Vec<String>,
    /// What it does.
    pub mode: Mode,
    /// One bad record aborts all of it.
    pub strict: bool,
    /// Seconds without a sign of its sender after which the hub aborts it; the hub has a custom when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
    /// When tills get it: an instant with its offset, or an hour of each store's own clock without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activate_at: Option<String>,
}

impl NewLot {
    /// A lot of upserts and deletes, active at once.
    pub fn delta<K: Into<String>>(scope: impl Into<String>, kinds: impl IntoIterator<Item = K>) -> Self {
        Self {
            scope: scope.into(),
            kinds: kinds.into_iter().map(Into::into).collect(),
            mode: Mode::Delta,
            strict: false,
            lease_seconds: None,
            activate_at: None,
        }
    }

    /// A lot that replaces all records of its kinds in its scope, active at once.
    pub fn full<K: Into<String>>(scope: impl Into<String>, kinds: impl IntoIterator<Item = K>) -> Self {
        Self { mode: Mode::Full, ..Self::delta(scope, kinds) }
    }
}

/// A record that the hub did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The line that the record named, else its place in the request.
    pub line: u64,
    /// Its kind, when it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its key, when it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// For machines: `record.schema`, `record.too_large` …
    pub code: String,
    /// For people: what is wrong and what to do.
    pub reason: String,
}

/// What became of records that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Records in the lot now: they are durable.
    pub accepted: u64,
    /// Records not taken.
    pub refused: u64,
    /// Records whose key was in the lot before: the last one wins.
    pub repeated: u64,
    /// Records left out because they are what was sent last time.
    pub unchanged: u64,
    /// The first of the refusals.
    pub refusals: Vec<Refusal>,
    /// Chunks in the lot so far.
    pub chunks: u32,
    /// Bytes that the records came in.
    pub body_bytes: u64,
    /// Bytes of the lot's chunks as stored.
    pub stored_bytes: u64,
}

/// What a sender believes is in a lot; what is left out is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// Number of chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<u32>,
    /// Records of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<BTreeMap<String, u64>>,
    /// The lot's digest, 64 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// A lot that was closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Its id.
    pub lot: String,
    /// Whom it is for.
    pub scope: String,
    /// Chunks.
    pub chunks: u32,
    /// Records of each kind, repeated keys included.
    pub records: BTreeMap<String, u64>,
    /// Bytes of all chunks as stored.
    pub bytes: u64,
    /// Digest over the list of chunk digests.
    pub digest: Option<String>,
}

/// Declares an enum of words that the hub writes.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All of them, in the order of a life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The hub's word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Reads the hub's word.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|state| state.as_str() == text)
            }
        }
    };
}

words! {
    /// Where a lot is in its life.
    LotState {
        /// It takes records.
        Open = "open",
        /// It is complete; no store has it yet.
        Closed = "closed",
        /// Some waves have gone out, more follow.
        Releasing = "releasing",
        /// The last wave has gone out.
        Released = "released",
        /// It was given up before it was closed.
        Aborted = "aborted",
        /// It was taken back before its last wave.
        Recalled = "recalled",
    }
}

words! {
    /// Where a lot is at one till.
    ArrivalState {
        /// It is for the till's store, and has not been released there yet.
        Pending = "pending",
        /// It has been released to the store, and the till has not reported.
        Released = "released",
        /// The till has all of it.
        Applied = "applied",
        /// The till has it but for the records that it set aside.
        AppliedWithErrors = "applied_with_errors",
        /// The till could not apply it yet and goes on trying.
        Failed = "failed",
        /// The till did not need it: a later lot replaces it.
        Superseded = "superseded",
    }
}

words! {
    /// Whether a record has arrived at a till.
    PlaceState {
        /// No scope that the store is in was ever sent it.
        NotInScope = "not_in_scope",
        /// It was deleted.
        Deleted = "deleted",
        /// Its lot has not been released to the store.
        NotReleased = "not_released",
        /// Its lot has been released to the store, and the till has not reported.
        Pending = "pending",
        /// It is there.
        Applied = "applied",
        /// The till set this record aside.
        Quarantined = "quarantined",
        /// The till could not apply its lot yet.
        Failed = "failed",
        /// The till did not need its lot: a later one replaces it.
        Superseded = "superseded",
    }
}

/// A lot and the sum of what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotView {
    /// Its id.
    pub lot: String,
    /// Whom it is for.
    pub scope: String,
    /// What it does.
    pub mode: Mode,
    /// One bad record aborts all of it.
    pub strict: bool,
    /// Where it is in its life.
    pub state: LotState,
    /// When it was opened, RFC 3339.
    pub opened_at: String,
    /// Who opened it.
    pub opened_by: String,
    /// When it was closed.
    pub closed_at: Option<String>,
    /// When its first wave went out.
    pub released_at: Option<String>,
    /// When it becomes active.
    pub activate_at: Option<String>,
    /// Seconds without a sign of its sender after which it is aborted.
    pub lease_seconds: u64,
    /// Chunks, once closed.
    pub chunks: u64,
    /// Records of all kinds, once closed.
    pub records: u64,
    /// Bytes of all chunks, once closed.
    pub bytes: u64,
    /// Digest over the list of chunk digests, once closed.
    pub digest: Option<String>,
    /// Why it was aborted or recalled.
    pub reason: Option<String>,
    /// For a snapshot: the release whose state it repeats.
    pub as_of: Option<u64>,
    /// The sequence of its first release: the later release wins.
    pub version: Option<u64>,
    /// Ties together everything that came of the request that opened it.
    pub correlation: String,
    /// The sequence of its opening.
    pub opened_seq: u64,
    /// The kinds that it declared, with their records once closed.
    pub kinds: BTreeMap<String, u64>,
    /// What became of it.
    pub totals: Totals,
}

/// How many stores and tills a lot is for, and what became of it there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Stores that it has been released to.
    pub stores: u64,
    /// Tills that it is for.
    pub pdvs: u64,
    /// Tills that have all of it.
    pub applied: u64,
    /// Tills that have it but for some records.
    pub applied_with_errors: u64,
    /// Tills that could not apply it yet.
    pub failed: u64,
    /// Tills that did not need it.
    pub superseded: u64,
    /// Tills that have not reported.
    pub pending: u64,
}

impl Totals {
    /// Tills that are done with the lot, one way or another.
    pub const fn settled(&self) -> u64 {
        self.applied + self.applied_with_errors + self.superseded
    }
}

/// How far a till is with downloading a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downloading {
    /// Chunks that it has.
    pub chunks_done: u64,
    /// Chunks there are.
    pub chunks: u64,
}

/// What became of a lot at one till.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// The till's store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// Where the lot is there.
    pub state: ArrivalState,
    /// When it was released to the store.
    pub released_at: Option<String>,
    /// When the till reported.
    pub at: Option<String>,
    /// Records upserted.
    pub upserted: u64,
    /// Records deleted.
    pub deleted: u64,
    /// Records set aside.
    pub quarantined: u64,
    /// Why it failed, or what replaces it.
    pub reason: Option<String>,
    /// How often the till has tried.
    pub attempt: u64,
    /// When it tries next.
    pub next_try_at: Option<String>,
    /// Milliseconds from the notice seen to committed.
    pub took_ms: Option<u64>,
    /// The notice's sequence in the store's stream.
    pub notice: Option<u64>,
    /// Whether the till has given a sign of life lately.
    #[serde(default)]
    pub online: bool,
    /// How far it is with downloading the lot, if it is right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downloading: Option<Downloading>,
}

/// A record of a lot that a till has set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The till's store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// Its place in the till's report.
    pub n: u64,
    /// The record's kind.
    pub kind: String,
    /// The record's key.
    pub key: String,
    /// Why the till set it aside.
    pub reason: String,
}

/// One record, everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Its kind.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// What was last sent of it to each scope.
    pub sent: Vec<Sent>,
    /// Where it is at each till.
    pub places: Vec<Place>,
    /// The last till of this page.
    pub after: Option<String>,
}

/// What was last sent of a record to a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The scope.
    pub scope: String,
    /// The lot that it was in.
    pub lot: String,
    /// That lot's version.
    pub version: u64,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Its body, JSON text; none when it was deleted.
    pub body: Option<String>,
    /// When its lot was released.
    pub released_at: Option<String>,
}

/// A record at one till.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The till's store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// The scope whose record counts there.
    pub scope: Option<String>,
    /// The lot that holds it.
    pub lot: Option<String>,
    /// That lot's version.
    pub version: Option<u64>,
    /// Whether it has arrived.
    pub state: PlaceState,
    /// Why not, or why in this way.
    pub reason: Option<String>,
    /// Scopes that also hold the record and do not count there.
    pub covered: Vec<String>,
}

/// A store to be registered, or what is to be known of it from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NewStore {
    /// Its name.
    pub name: String,
    /// Its company number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cnpj: Option<String>,
    /// Its time zone, an IANA name.
    pub zone: String,
    /// The groups that it is in; new ones are made.
    pub groups: Vec<String>,
    /// Tills to register with it; those that it has already stay.
    pub pdvs: Vec<String>,
}

/// A store as the hub knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreView {
    /// Its id.
    pub store: String,
    /// Its name.
    pub name: String,
    /// Its company number, if given.
    pub cnpj: Option<String>,
    /// Its time zone.
    pub zone: String,
    /// When it was registered.
    pub registered_at: String,
    /// When something of it last changed.
    pub changed_at: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// Its tills.
    pub pdvs: Vec<PdvView>,
}

/// A till as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PdvView {
    /// Its store.
    pub store: String,
    /// Its own id there.
    pub pdv: String,
    /// When it was registered.
    pub registered_at: String,
    /// The last notice that it has reported on.
    pub notice: Option<u64>,
    /// When it last reported.
    pub seen_at: Option<String>,
}

/// How far a till is from its store's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PdvDistance {
    /// Its store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// Whether it has given a sign of life lately.
    pub online: bool,
    /// The last notice that it is known to have handled.
    pub notice: Option<u64>,
    /// Notices that it has yet to handle, when that is known.
    pub notices_behind: Option<u64>,
    /// Seconds that the oldest of them has waited.
    #[serde(default)]
    pub seconds_behind: i64,
    /// Seconds since its last sign of life, since the hub's start.
    pub seconds_silent: Option<i64>,
    /// When that was, or its last report.
    pub seen_at: Option<String>,
    /// The version of its agent.
    pub version: Option<String>,
}

/// A group of stores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Its id.
    pub group: String,
    /// Its name.
    pub name: String,
    /// How many stores are in it.
    pub stores: u64,
}
