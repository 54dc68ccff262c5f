//! What a journal is: the history of each entity, appended to under an expectation.

use bytes::Bytes;
use malote_domain::{Cursor, Digest, EventId};

/// Longest history of one entity that is read to decide.
pub const HISTORY_EVENTS_MAX: usize = 10_000;
/// Most events that one decision may make: they go as one atomic batch.
pub const ENTRIES_MAX: usize = 1_000;
/// Largest payload of one event in bytes: the broker takes 1 MiB with headers.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024 - 8 * 1024;

/// Where an entity's events are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stream.
    pub stream: &'static str,
    /// The subject that new events go to.
    pub subject: String,
    /// The subjects of all of the entity's events: the subject itself, or with wildcards. All writers of one
    /// entity must use the same text.
    pub filter: String,
}

/// An event to append, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The event's id.
    pub id: EventId,
    /// Full name of its message type.
    pub message_type: &'static str,
    /// The encoded message.
    pub payload: Bytes,
}

/// A message as the stream holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// The event id it was published with.
    pub id: Option<String>,
    /// Its bytes.
    pub payload: Bytes,
}

impl Stored {
    /// The hash by which a reader recognises this message again.
    pub fn hash(&self) -> Digest {
        let id = self.id.as_deref().unwrap_or_default();
        Digest::of_parts(&[self.subject.as_bytes(), id.as_bytes(), &self.payload])
    }

    /// The cursor of a reader that has taken this in.
    pub fn cursor(&self) -> Cursor {
        Cursor { sequence: self.sequence, hash: self.hash() }
    }
}

/// What the writer believes is the entity's last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is none.
    Empty,
    /// The one at this sequence.
    At(u64),
}

impl Expected {
    /// As the broker is told: 0 for none.
    pub const fn sequence(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::At(sequence) => sequence,
        }
    }
}

/// The events are in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// They are new.
    Created {
        /// Sequence of the last one.
        last: u64,
    },
    /// They were there already: an earlier attempt, whose answer was lost, had succeeded.
    Existed {
        /// Sequence of the last one.
        last: u64,
    },
}

impl Appended {
    /// Sequence of the last event.
    pub const fn last(self) -> u64 {
        match self {
            Self::Created { last } | Self::Existed { last } => last,
        }
    }
}

/// Why events are not known to be in the journal.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else wrote: load again and decide again.
    #[error("'{subject}' has changed since it was read")]
    Conflict {
        /// Where.
        subject: String,
    },
    /// No answer; the events may still land. Asking again with the same ids is safe.
    #[error("the journal does not answer for '{subject}': {reason}")]
    Unavailable {
        /// Where.
        subject: String,
        /// Why, for people.
        reason: String,
    },
    /// The journal says no, and will again.
    #[error("the journal refuses an event for '{subject}': {reason}")]
    Refused {
        /// Where.
        subject: String,
        /// Why, for people.
        reason: String,
    },
    /// An event that is too large.
    #[error("an event for '{subject}' is {bytes} bytes, and at most {PAYLOAD_BYTES_MAX} are taken")]
    TooLarge {
        /// Where.
        subject: String,
        /// Its size.
        bytes: usize,
    },
}

/// What every journal refuses before it looks at the history.
pub(crate) fn check(place: &Place, entries: &[Entry]) -> Result<(), AppendError> {
    let subject = || place.subject.clone();
    if !(1..=ENTRIES_MAX).contains(&entries.len()) {
        let reason = format!("{} events in one decision, and 1 to {ENTRIES_MAX} are taken", entries.len());
        return Err(AppendError::Refused { subject: subject(), reason });
    }
    match entries.iter().map(|entry| entry.payload.len()).find(|bytes| *bytes > PAYLOAD_BYTES_MAX) {
        Some(bytes) => Err(AppendError::TooLarge { subject: subject(), bytes }),
        None => Ok(()),
    }
}

/// Why a history cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No answer.
    #[error("the journal does not answer for '{filter}': {reason}")]
    Unavailable {
        /// What was asked for.
        filter: String,
        /// Why, for people.
        reason: String,
    },
    /// Longer than any entity's history should be.
    #[error("'{filter}' has more than {HISTORY_EVENTS_MAX} events")]
    TooLong {
        /// What was asked for.
        filter: String,
    },
}

/// The histories of entities. JetStream in the hub, memory in tests, the till's outbox beside the till.
pub trait Journal: Send + Sync {
    /// All events of an entity, oldest first, as the leader has them.
    fn load(&self, stream: &str, filter: &str)
    -> impl Future<Output = Result<Vec<Stored>, LoadError>> + Send;

    /// Appends one decision's events, all or none.
    fn append(
        &self,
        place: &Place,
        expected: Expected,
        entries: &[Entry],
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send;
}
