//! What the hub knows of lots that are being filled: their chunks so far, and which keys they hold.
//!
//! All of it can be made again from the stream, and is after a restart or when another hub wrote chunks too.

use std::collections::{BTreeMap, HashSet, hash_map::RandomState};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use malote_domain::lots::{Manifest, Terms};
use malote_domain::{Digest, Kind, LotId, Timestamp};
use malote_journal::chunk::{Chunk, ChunkError, Packed};
use malote_journal::journal::AppendError;
use malote_journal::{Appended, Entry, Expected, JetStream, Journal, LoadError, Place, subjects};

use crate::clock;

/// Most chunks of one lot: at half a MiB each, far beyond any catalogue.
const CHUNKS_MAX: u32 = 20_000;

/// A lot that is being filled.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) lot: LotId,
    pub(crate) terms: Terms,
    hasher: RandomState,
    /// One sender's chunk at a time: chunk numbers have no gaps.
    pub(crate) progress: tokio::sync::Mutex<Progress>,
}

/// How far it is filled.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    digests: Vec<Digest>,
    records: BTreeMap<Kind, u64>,
    bytes: u64,
    /// Hashes of (kind, key): enough to count repeated keys, at 8 bytes a record. Two of a million keys share one
    /// by chance once in forty million lots, and then a count is off by one.
    keys: HashSet<u64, BuildHasherDefault<Same>>,
    /// Records whose key was in the lot already.
    pub(crate) repeated: u64,
    /// Whether the message after the last chunk is there: nothing can be added any more.
    pub(crate) ended: bool,
    caught_up: bool,
    /// The position in LOTS up to which unchanged records were told apart, if any were.
    pub(crate) unchanged_since: Option<u64>,
    /// When the lease was last renewed.
    pub(crate) renewed_at: Timestamp,
}

/// Why a chunk is not in the stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    /// The lot is being closed.
    #[error("the lot is being closed; no more records can be added")]
    Ended,
    /// More chunks than any lot has.
    #[error("a lot has at most {CHUNKS_MAX} chunks; close this one and open another")]
    TooManyChunks,
    /// The journal does not answer.
    #[error("the records could not be written")]
    Append(#[from] AppendError),
    /// What is there cannot be read.
    #[error("the lot's chunks could not be read")]
    Load(#[from] LoadError),
    /// What is there makes no sense.
    #[error("a stored chunk cannot be read")]
    Chunk(#[from] ChunkError),
    /// zstd failed.
    #[error("the records could not be packed")]
    Pack(#[from] std::io::Error),
}

impl Progress {
    /// The number that the next chunk gets.
    fn next(&self) -> u32 {
        u32::try_from(self.digests.len()).unwrap_or(u32::MAX)
    }

    /// What is there.
    pub(crate) fn manifest(&self) -> Manifest {
        Manifest {
            chunks: self.next(),
            records: self.records.clone(),
            bytes: self.bytes,
            digest: Some(Digest::of_list(&self.digests)),
        }
    }

    /// Notes that the lot holds this key; counts it when it did before.
    pub(crate) fn note_key(&mut self, hash: u64) {
        if !self.keys.insert(hash) {
            self.repeated += 1;
        }
    }

    /// Whether a third of the lease has gone by since it was last renewed.
    pub(crate) fn lease_due(&self, lease_seconds: u32, now: Timestamp) -> bool {
        now > self.renewed_at.plus_seconds(i64::from(lease_seconds) / 3)
    }

    fn note_chunk(&mut self, digest: Digest, records: &BTreeMap<Kind, u64>, bytes: u64) {
        self.digests.push(digest);
        self.bytes += bytes;
        for (kind, count) in records {
            *self.records.entry(kind.clone()).or_default() += count;
        }
    }
}

/// Takes a hash for what it is: the keys are hashed already.
#[derive(Clone, Copy, Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Session {
    /// By what a key is recognised as one that the lot holds.
    pub(crate) fn key_hash(&self, kind: &Kind, key: &str) -> u64 {
        self.hasher.hash_one((kind.as_str(), key))
    }

    fn place(&self, number: u32) -> Place {
        let subject = subjects::chunk(&self.terms.scope, self.lot, number);
        Place { stream: subjects::LOTDATA, filter: subject.clone(), subject }
    }

    /// Takes in the chunks that are in the stream and not known here: after a restart, or by another hub.
    pub(crate) async fn catch_up(
        &self,
        journal: &JetStream,
        progress: &mut Progress,
    ) -> Result<(), FillError> {
        while !progress.ended {
            let subject = self.place(progress.next()).subject;
            let Some(stored) = journal.leader_last(subjects::LOTDATA, &subject).await? else {
                return Ok(());
            };
            let chunk = Chunk::decode(stored.payload)?;
            if chunk.end {
                progress.ended = true;
                return Ok(());
            }
            for record in chunk.unpack()?.iter() {
                progress.note_key(self.key_hash(record.kind, record.key));
            }
            progress.note_chunk(chunk.digest, &chunk.records, chunk.bytes());
        }
        Ok(())
    }

    /// The same, only the first time: later a conflict tells when another hub writes too.
    pub(crate) async fn catch_up_once(
        &self,
        journal: &JetStream,
        progress: &mut Progress,
    ) -> Result<(), FillError> {
        if progress.caught_up {
            return Ok(());
        }
        self.catch_up(journal, progress).await?;
        progress.caught_up = true;
        Ok(())
    }

    /// Adds a chunk behind the last one, wherever that is by now.
    pub(crate) async fn add(
        &self,
        journal: &JetStream,
        progress: &mut Progress,
        packed: &Packed,
    ) -> Result<(), FillError> {
        let id = clock::event();
        loop {
            if progress.ended {
                return Err(FillError::Ended);
            }
            let number = progress.next();
            if number >= CHUNKS_MAX {
                return Err(FillError::TooManyChunks);
            }
            let entry = Entry {
                id,
                message_type: "malote.lots.v1.LotChunk",
                payload: packed.message(self.lot, number),
            };
            match journal.append(&self.place(number), Expected::Empty, &[entry]).await {
                Ok(Appended::Created { .. } | Appended::Existed { .. }) => {
                    progress.note_chunk(packed.digest(), packed.records(), packed.bytes());
                    return Ok(());
                }
                // Another hub took this number.
                Err(AppendError::Conflict { .. }) => self.catch_up(journal, progress).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Puts the end behind the last chunk. `false`: another chunk was there first, and the sum has changed.
    pub(crate) async fn end(&self, journal: &JetStream, progress: &mut Progress) -> Result<bool, FillError> {
        if progress.ended {
            return Ok(true);
        }
        let number = progress.next();
        let entry = Entry {
            id: clock::event(),
            message_type: "malote.lots.v1.LotChunk",
            payload: malote_journal::chunk::end_message(self.lot, number),
        };
        match journal.append(&self.place(number), Expected::Empty, &[entry]).await {
            Ok(_) => {
                progress.ended = true;
                Ok(true)
            }
            Err(AppendError::Conflict { .. }) => {
                self.catch_up(journal, progress).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The sessions of all open lots that this hub has had to do with.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<LotId, Arc<Session>>>);

impl Sessions {
    /// The session of an open lot, made when there is none.
    pub(crate) fn enter(&self, lot: LotId, terms: Terms) -> Arc<Session> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            Arc::new(Session {
                lot,
                terms,
                hasher: RandomState::new(),
                progress: tokio::sync::Mutex::default(),
            })
        };
        Arc::clone(sessions.entry(lot).or_insert_with(made))
    }

    /// Forgets a lot that is not open any more.
    pub(crate) fn leave(&self, lot: LotId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&lot);
    }
}
