//! Lots: a container of records, opened, filled and closed by the back office, then released to stores.
//!
//! Never: a change after `Closed`; a close whose counts or digest differ from what was received; a release of
//! something not closed. The records themselves are chunks of their own stream; here only their sum is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::ctx::{Ctx, Meta};
use crate::decider::{Decider, Rejection};
use crate::digest::Digest;
use crate::ids::{CommandId, Kind, LotId, Scope, StoreId};
use crate::time::Timestamp;

/// Most kinds that one lot may hold.
pub const KINDS_MAX: usize = 32;
/// Shortest and longest lease in seconds.
pub const LEASE_SECONDS: std::ops::RangeInclusive<u32> = 5..=7 * 24 * 3600;
/// Most stores in one wave: their names must fit in one message.
pub const WAVE_STORES_MAX: usize = 10_000;
/// Furthest activation, in seconds from opening: a year.
pub const ACTIVATION_SECONDS_MAX: i64 = 366 * 24 * 3600;

/// What a lot does to the scope's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Upserts and deletes.
    Delta,
    /// Afterwards the scope holds exactly this lot's records of these kinds.
    Full,
}

/// When a closed lot reaches the tills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// At this instant, everywhere.
    Instant(Timestamp),
    /// At this hour of each store's own clock: `2026-11-25T06:00:00`, checked at the edge.
    Local(String),
}

/// What the sender says of a lot when opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whom it is for.
    pub scope: Scope,
    /// The kinds it may hold.
    pub kinds: BTreeSet<Kind>,
    /// What it does.
    pub mode: Mode,
    /// One bad record aborts all of it.
    pub strict: bool,
    /// Seconds without a sign of the sender after which it is aborted.
    pub lease_seconds: u32,
    /// When it becomes active, if not at once.
    pub activate_at: Option<Activation>,
    /// For a snapshot: the release whose state it repeats. It then never covers anything released later.
    pub as_of: Option<u64>,
}

/// The sum of a lot's chunks.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Number of chunks.
    pub chunks: u32,
    /// Records of each kind, repeated keys included.
    pub records: BTreeMap<Kind, u64>,
    /// Bytes of all chunks as stored.
    pub bytes: u64,
    /// Digest over the list of chunk digests.
    pub digest: Option<Digest>,
}

/// What the sender believes it has sent; what it leaves out is not compared.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Declared {
    /// Number of chunks.
    pub chunks: Option<u32>,
    /// Records of each kind.
    pub records: Option<BTreeMap<Kind, u64>>,
    /// The lot's digest.
    pub digest: Option<Digest>,
}

/// Why a lot was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AbortReason {
    /// Its owner said so, with a reason.
    Owner(String),
    /// Its sender gave no sign for the whole lease.
    LeaseExpired,
    /// It was strict and a record was refused.
    Strict(String),
}

/// The rule book of one lot.
pub struct Lot;

/// What may be asked of a lot.
#[derive(Clone, Debug)]
pub enum Command {
    /// Open it.
    Open(Terms),
    /// Close it: no more records, let it go.
    Close {
        /// What the sender believes.
        declared: Declared,
        /// What is in the stream.
        found: Manifest,
    },
    /// Give it up.
    Abort(AbortReason),
    /// Send it to these stores; the last wave ends the release.
    Release {
        /// The stores.
        stores: Vec<StoreId>,
        /// Whether more waves follow.
        last: bool,
    },
    /// Take it back from the stores that do not have it yet.
    Recall {
        /// Why.
        reason: String,
    },
}

/// What may happen to a lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It exists and takes records.
    Opened(Terms),
    /// It is complete and never changes again.
    Closed(Manifest),
    /// It was given up; nobody sees it.
    Aborted(AbortReason),
    /// These stores get it. The position of this fact is the lot's version there: the later release wins.
    Released {
        /// The stores, as membership was at that moment.
        stores: Vec<StoreId>,
        /// Whether this was the last wave.
        last: bool,
    },
    /// It was taken back before its last wave.
    Recalled {
        /// Why.
        reason: String,
    },
}

/// What decisions need to remember of a lot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It does not exist.
    #[default]
    Absent,
    /// It takes records.
    Open(Terms),
    /// It is closed; some waves may have gone out.
    Closed {
        /// What was agreed.
        terms: Terms,
        /// Its sum.
        manifest: Manifest,
        /// The command that closed it.
        by: CommandId,
        /// Stores that were sent it.
        released: BTreeSet<StoreId>,
        /// Whether the last wave has gone out.
        complete: bool,
    },
    /// It was given up.
    Aborted(AbortReason),
    /// It was taken back; the stores that had it keep it.
    Recalled,
}

/// Why a lot says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such lot.
    #[error("there is no such lot; `malote lot ls` lists those there are")]
    Unknown,
    /// Opened before with other terms.
    #[error("this idempotency key opened a lot with other terms; use a new key")]
    OpenedDifferently,
    /// Without kinds, or with too many.
    #[error("a lot declares 1 to {KINDS_MAX} kinds")]
    Kinds,
    /// A lease out of range.
    #[error("a lease has 5 seconds to 7 days")]
    Lease,
    /// Activation too far away.
    #[error("a lot activates within a year of its opening")]
    Activation,
    /// Closed already.
    #[error("the lot is closed and cannot change; open a new one")]
    Closed,
    /// Aborted already.
    #[error("the lot was aborted ({}); open a new one", reason_text(.0))]
    Aborted(AbortReason),
    /// Recalled already.
    #[error("the lot was recalled; open a new one")]
    Recalled,
    /// Still open.
    #[error("the lot is still open; close it first")]
    Open,
    /// Nothing in it.
    #[error("the lot is empty; send records before closing it, or abort it")]
    Empty,
    /// A chunk that the sender counts on is not there.
    #[error("the lot has {found} chunks and its sender counts {declared}; send again what is missing")]
    Chunks {
        /// What the sender says.
        declared: u32,
        /// What is there.
        found: u32,
    },
    /// Counts that differ.
    #[error(
        "the lot has {found} records of kind {kind} and its sender counts {declared}; send again what is missing"
    )]
    Records {
        /// Which kind.
        kind: Kind,
        /// What the sender says.
        declared: u64,
        /// What is there.
        found: u64,
    },
    /// A digest that differs.
    #[error("the lot's digest is {found} and its sender expects {declared}")]
    DigestDiffers {
        /// What the sender says.
        declared: Digest,
        /// What is there.
        found: Digest,
    },
    /// A kind that was not declared at opening.
    #[error("the lot holds records of kind {0}, which it did not declare when it was opened")]
    KindNotDeclared(Kind),
    /// A full lot that would wipe a kind.
    #[error(
        "a full lot without any record of kind {0} would remove all of them; declare 0 records of it when closing if that is meant"
    )]
    WouldWipe(Kind),
    /// Released to all already.
    #[error("the lot has been released to every store; send a lot that corrects it")]
    Released,
}

fn reason_text(reason: &AbortReason) -> String {
    reason.to_string()
}

impl std::fmt::Display for AbortReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner(text) => f.write_str(text),
            Self::LeaseExpired => f.write_str("its lease expired: the sender gave no sign"),
            Self::Strict(text) => write!(f, "strict: {text}"),
        }
    }
}

impl Rejection for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "lots.unknown",
            Self::OpenedDifferently => "lots.opened_differently",
            Self::Kinds => "lots.kinds",
            Self::Lease => "lots.lease",
            Self::Activation => "lots.activation",
            Self::Closed => "lots.closed",
            Self::Aborted(_) => "lots.aborted",
            Self::Recalled => "lots.recalled",
            Self::Open => "lots.open",
            Self::Empty => "lots.empty",
            Self::Chunks { .. } => "lots.chunks_differ",
            Self::Records { .. } => "lots.records_differ",
            Self::DigestDiffers { .. } => "lots.digest_differs",
            Self::KindNotDeclared(_) => "lots.kind_not_declared",
            Self::WouldWipe(_) => "lots.would_wipe",
            Self::Released => "lots.released",
        }
    }

    fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }
}

impl Decider for Lot {
    type Id = LotId;
    type Command = Command;
    type Event = Event;
    type Rejection = Refused;
    type State = State;

    fn decide(state: &State, command: Command, ctx: &Ctx) -> Result<Vec<Event>, Refused> {
        match command {
            Command::Open(terms) => open(state, terms, ctx),
            Command::Close { declared, found } => close(state, &declared, found, ctx),
            Command::Abort(reason) => abort(state, reason),
            Command::Release { stores, last } => release(state, stores, last),
            Command::Recall { reason } => recall(state, reason),
        }
    }

    fn evolve(state: &mut State, event: &Event, meta: &Meta) {
        match event {
            Event::Opened(terms) => *state = State::Open(terms.clone()),
            Event::Closed(manifest) => {
                if let State::Open(terms) = state {
                    *state = State::Closed {
                        terms: terms.clone(),
                        manifest: manifest.clone(),
                        by: meta.command,
                        released: BTreeSet::new(),
                        complete: false,
                    };
                }
            }
            Event::Aborted(reason) => *state = State::Aborted(reason.clone()),
            Event::Released { stores, last } => {
                if let State::Closed { released, complete, .. } = state {
                    released.extend(stores.iter().cloned());
                    *complete |= *last;
                }
            }
            Event::Recalled { .. } => *state = State::Recalled,
        }
    }
}

fn open(state: &State, terms: Terms, ctx: &Ctx) -> Result<Vec<Event>, Refused> {
    match state {
        State::Absent => {}
        State::Open(known) | State::Closed { terms: known, .. } if *known == terms => return Ok(vec![]),
        State::Open(_) | State::Closed { .. } => return Err(Refused::OpenedDifferently),
        State::Aborted(reason) => return Err(Refused::Aborted(reason.clone())),
        State::Recalled => return Err(Refused::Recalled),
    }
    if terms.kinds.is_empty() || terms.kinds.len() > KINDS_MAX {
        return Err(Refused::Kinds);
    }
    if !LEASE_SECONDS.contains(&terms.lease_seconds) {
        return Err(Refused::Lease);
    }
    if let Some(Activation::Instant(at)) = terms.activate_at
        && at > ctx.now.plus_seconds(ACTIVATION_SECONDS_MAX)
    {
        return Err(Refused::Activation);
    }
    Ok(vec![Event::Opened(terms)])
}

fn close(state: &State, declared: &Declared, found: Manifest, ctx: &Ctx) -> Result<Vec<Event>, Refused> {
    let terms = match state {
        State::Open(terms) => terms,
        State::Closed { by, .. } if *by == ctx.command => return Ok(vec![]),
        State::Absent => return Err(Refused::Unknown),
        State::Closed { .. } => return Err(Refused::Closed),
        State::Aborted(reason) => return Err(Refused::Aborted(reason.clone())),
        State::Recalled => return Err(Refused::Recalled),
    };
    if found.records.values().all(|count| *count == 0) {
        return Err(Refused::Empty);
    }
    if let Some(chunks) = declared.chunks
        && chunks != found.chunks
    {
        return Err(Refused::Chunks { declared: chunks, found: found.chunks });
    }
    if let Some(kind) = found.records.keys().find(|kind| !terms.kinds.contains(*kind)) {
        return Err(Refused::KindNotDeclared(kind.clone()));
    }
    let no_counts = BTreeMap::new();
    let counts = declared.records.as_ref().unwrap_or(&no_counts);
    for (kind, count) in counts {
        let there = found.records.get(kind).copied().unwrap_or(0);
        if there != *count {
            return Err(Refused::Records { kind: kind.clone(), declared: *count, found: there });
        }
    }
    if declared.records.is_some()
        && let Some((kind, count)) =
            found.records.iter().find(|(kind, count)| **count > 0 && !counts.contains_key(*kind))
    {
        return Err(Refused::Records { kind: kind.clone(), declared: 0, found: *count });
    }
    if let (Some(declared), Some(found)) = (declared.digest, found.digest)
        && declared != found
    {
        return Err(Refused::DigestDiffers { declared, found });
    }
    if terms.mode == Mode::Full {
        let wiped = terms.kinds.iter().find(|kind| {
            found.records.get(*kind).copied().unwrap_or(0) == 0 && counts.get(*kind) != Some(&0)
        });
        if let Some(kind) = wiped {
            return Err(Refused::WouldWipe(kind.clone()));
        }
    }
    Ok(vec![Event::Closed(found)])
}

fn abort(state: &State, reason: AbortReason) -> Result<Vec<Event>, Refused> {
    match state {
        State::Open(_) => Ok(vec![Event::Aborted(reason)]),
        State::Aborted(_) => Ok(vec![]),
        State::Absent => Err(Refused::Unknown),
        State::Closed { .. } => Err(Refused::Closed),
        State::Recalled => Err(Refused::Recalled),
    }
}

fn release(state: &State, stores: Vec<StoreId>, last: bool) -> Result<Vec<Event>, Refused> {
    let (released, complete) = match state {
        State::Closed { released, complete, .. } => (released, *complete),
        State::Absent => return Err(Refused::Unknown),
        State::Open(_) => return Err(Refused::Open),
        State::Aborted(reason) => return Err(Refused::Aborted(reason.clone())),
        State::Recalled => return Err(Refused::Recalled),
    };
    if complete {
        return Ok(vec![]);
    }
    let fresh: Vec<_> = stores.into_iter().filter(|store| !released.contains(store)).collect();
    if fresh.is_empty() && !last {
        return Ok(vec![]);
    }
    // One event holds so many stores; an empty audience still ends the release with one event.
    let mut waves: Vec<_> = fresh.chunks(WAVE_STORES_MAX).map(<[_]>::to_vec).collect();
    if waves.is_empty() {
        waves.push(vec![]);
    }
    let end = waves.len() - 1;
    Ok(waves
        .into_iter()
        .enumerate()
        .map(|(n, stores)| Event::Released { stores, last: last && n == end })
        .collect())
}

fn recall(state: &State, reason: String) -> Result<Vec<Event>, Refused> {
    match state {
        State::Closed { complete: false, .. } => Ok(vec![Event::Recalled { reason }]),
        State::Closed { complete: true, .. } => Err(Refused::Released),
        State::Recalled => Ok(vec![]),
        State::Absent => Err(Refused::Unknown),
        State::Open(_) => Err(Refused::Open),
        State::Aborted(reason) => Err(Refused::Aborted(reason.clone())),
    }
}

#[cfg(test)]
mod tests;
