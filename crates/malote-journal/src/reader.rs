//! Following a stream from a cursor of the reader's own: tills, projections and policies all read this way.
//!
//! A reader has no consumer at the broker. It reads in batches by direct get, and is woken by a plain
//! subscription, by a new connection, or by its own slow look. Its cursor holds the hash of the last message it
//! took in; each read begins with that message, so a broker that lost its tail and reused the numbers is noticed.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use malote_domain::Cursor;
use serde::Deserialize;
use tokio::sync::watch;

use crate::connection::{Connection, REQUEST_TIMEOUT, RequestError};
use crate::jetstream::{ApiError, JetStream};
use crate::journal::{LoadError, Stored};

/// Most bytes that one read brings: it bounds what a reader holds in memory.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a read brings.
#[derive(Debug)]
pub enum Page {
    /// The messages after the cursor, oldest first; none when the reader has them all.
    Messages(Vec<Stored>),
    /// The message at the cursor is gone or another one: the stream lost its tail since this reader read it.
    Truncated {
        /// The stream's last sequence now.
        last: u64,
    },
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No answer.
    #[error("the broker did not answer a read of {stream}: {reason}")]
    Unavailable {
        /// Which stream.
        stream: String,
        /// Why, for people.
        reason: String,
    },
    /// No such stream, or no right to read it.
    #[error("there is no stream {stream}, or no permission to read it")]
    NoStream {
        /// Which stream.
        stream: String,
    },
}

/// Reads one stream.
#[derive(Clone, Debug)]
pub struct Reader {
    journal: JetStream,
    stream: String,
    filter: Option<&'static str>,
}

#[derive(Deserialize)]
struct StreamInfo {
    state: Option<StreamState>,
    error: Option<ApiError>,
}

#[derive(Deserialize)]
struct StreamState {
    last_seq: u64,
}

impl Reader {
    /// A reader of the named stream.
    pub fn new(journal: JetStream, stream: impl Into<String>) -> Self {
        Self { journal, stream: stream.into(), filter: None }
    }

    /// The same reader for some subjects of the stream only.
    #[must_use]
    pub const fn filtered(mut self, filter: &'static str) -> Self {
        self.filter = Some(filter);
        self
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Sequence of the stream's last message, as the leader has it.
    ///
    /// # Errors
    /// When the leader does not answer or there is no such stream.
    pub async fn last_sequence(&self) -> Result<u64, ReadError> {
        let subject = format!("$JS.API.STREAM.INFO.{}", self.stream);
        let info: StreamInfo = self
            .journal
            .connection()
            .ask(&subject, Bytes::new())
            .await
            .map_err(|error: RequestError| self.unavailable(&error))?;
        match (info.state, info.error) {
            (Some(state), _) => Ok(state.last_seq),
            // 10059: no such stream.
            (None, Some(error)) if error.err_code == 10059 => {
                Err(ReadError::NoStream { stream: self.stream.clone() })
            }
            (None, error) => Err(ReadError::Unavailable {
                stream: self.stream.clone(),
                reason: error.map_or_else(|| "an empty answer".to_owned(), |error| error.description),
            }),
        }
    }

    /// The messages after the cursor, at most `limit` of them.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn after(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page, ReadError> {
        let Some(cursor) = cursor else {
            return Ok(Page::Messages(self.from_start(limit).await?));
        };
        // Inclusive of the cursor: the first message must be the one that it names.
        let mut messages = self.batch(cursor.sequence, limit + 1).await?;
        if messages.first().is_some_and(|first| first.cursor() == cursor) {
            messages.remove(0);
            return Ok(Page::Messages(messages));
        }
        // A replica that lags behind may not have it yet: only the leader's word counts.
        let at_leader = self
            .journal
            .leader_next(&self.stream, self.filter.unwrap_or(">"), cursor.sequence)
            .await
            .map_err(|error: LoadError| self.unavailable(&error))?;
        if at_leader.is_some_and(|stored| stored.cursor() == cursor) {
            return Ok(Page::Messages(vec![]));
        }
        Ok(Page::Truncated { last: self.last_sequence().await? })
    }

    /// The first messages that there are, at most `limit` of them.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn from_start(&self, limit: usize) -> Result<Vec<Stored>, ReadError> {
        self.batch(1, limit).await
    }

    /// The message at exactly this sequence, as the leader has it.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub async fn at(&self, sequence: u64) -> Result<Option<Stored>, ReadError> {
        let stored = self
            .journal
            .leader_next(&self.stream, ">", sequence)
            .await
            .map_err(|error: LoadError| self.unavailable(&error))?;
        Ok(stored.filter(|stored| stored.sequence == sequence))
    }

    /// The last message of a subject, from any replica.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn last_of(&self, subject: &str) -> Result<Option<Stored>, ReadError> {
        let api = format!("$JS.API.DIRECT.GET.{}.{subject}", self.stream);
        match self.journal.connection().client().request(api, Bytes::new()).await {
            Ok(message) if message.status.is_some_and(|status| status.as_u16() == 404) => Ok(None),
            Ok(message) => {
                stored(message).map(Some).ok_or_else(|| self.unavailable(&"an answer without a sequence"))
            }
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                Err(ReadError::NoStream { stream: self.stream.clone() })
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    async fn batch(&self, from: u64, limit: usize) -> Result<Vec<Stored>, ReadError> {
        let client = self.journal.connection().client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| self.unavailable(&error))?;
        let mut ask = serde_json::json!({ "seq": from, "batch": limit, "max_bytes": PAGE_BYTES_MAX });
        if let Some(filter) = self.filter {
            ask["next_by_subj"] = filter.into();
        }
        let api = format!("$JS.API.DIRECT.GET.{}", self.stream);
        client
            .publish_with_reply(api, inbox, ask.to_string().into())
            .await
            .map_err(|error| self.unavailable(&error))?;
        let mut messages = Vec::new();
        loop {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, answers.next())
                .await
                .map_err(|_| self.unavailable(&"no answer in time"))?
                .ok_or_else(|| self.unavailable(&"the connection is closed"))?;
            match answer.status.map(|status| status.as_u16()) {
                // 204: the end of the batch; 404: nothing at or after that sequence.
                Some(204 | 404) => return Ok(messages),
                Some(503) => return Err(ReadError::NoStream { stream: self.stream.clone() }),
                Some(status) if status != 200 => {
                    let reason = answer.description.unwrap_or_default();
                    return Err(self.unavailable(&format!("status {status} {reason}")));
                }
                _ => messages
                    .push(stored(answer).ok_or_else(|| self.unavailable(&"an answer without a sequence"))?),
            }
            if messages.len() >= limit {
                return Ok(messages);
            }
        }
    }

    fn unavailable(&self, reason: &impl ToString) -> ReadError {
        ReadError::Unavailable { stream: self.stream.clone(), reason: reason.to_string() }
    }
}

/// A direct get's answer as the stored message it brings.
fn stored(message: Message) -> Option<Stored> {
    let headers = message.headers?;
    let sequence = headers.get("Nats-Sequence")?.as_str().parse().ok()?;
    let subject = headers.get("Nats-Subject")?.to_string();
    let id = headers.get("Nats-Msg-Id").map(ToString::to_string);
    Some(Stored { sequence, subject, id, payload: message.payload })
}

/// First pause before looking again for a message that is on its way, and how often the pause grows fourfold.
const AGAIN_AFTER: Duration = Duration::from_millis(3);
const AGAIN_TIMES: u32 = 5;

/// Wakes a reader when there may be something new. Missing a wake-up costs time, never data.
///
/// A plain subscription hears of a message before the stream has stored it, so a reader that looks at once may find
/// nothing yet. Until the reader has come as far as it has heard, it is woken again, a few times.
#[derive(Debug)]
pub struct Wake {
    subscriber: Subscriber,
    connects: watch::Receiver<u64>,
    /// Messages heard of that the reader has not come to.
    owed: u64,
    /// Looks in vain since the last message was heard of.
    looks: u32,
    reached: u64,
}

impl Wake {
    /// Wakes on any message to these subjects, and on each new connection.
    ///
    /// # Errors
    /// When the subscription cannot be made.
    pub async fn on(connection: &Connection, subject: String) -> Result<Self, ReadError> {
        let subscriber = connection
            .client()
            .subscribe(subject.clone())
            .await
            .map_err(|error| ReadError::Unavailable { stream: subject, reason: error.to_string() })?;
        let mut connects = connection.connects();
        connects.mark_unchanged();
        Ok(Self { subscriber, connects, owed: 0, looks: 0, reached: 0 })
    }

    /// Tells how far the reader has come.
    pub const fn reached(&mut self, sequence: u64) {
        let came = sequence.saturating_sub(self.reached);
        self.owed = self.owed.saturating_sub(came);
        self.reached = sequence;
    }

    /// Waits for something new, at most this long. What came in one burst wakes once.
    pub async fn wait(&mut self, at_most: Duration) {
        let wait = match self.again() {
            Some(pause) => pause.min(at_most),
            None => at_most,
        };
        tokio::select! {
            message = self.subscriber.next() => match message {
                Some(_) => self.heard(),
                // The connection is being closed; the slow look goes on until its owner stops too.
                None => tokio::time::sleep(at_most).await,
            },
            changed = self.connects.changed() => match changed {
                // What was sent while nobody listened may be on its way to the disk.
                Ok(()) => self.heard(),
                Err(_) => tokio::time::sleep(at_most).await,
            },
            () = tokio::time::sleep(wait) => self.looks = self.looks.saturating_add(1),
        }
        while let Some(Some(_)) = futures_util::FutureExt::now_or_never(self.subscriber.next()) {
            self.heard();
        }
    }

    const fn heard(&mut self) {
        self.owed = self.owed.saturating_add(1);
        self.looks = 0;
    }

    /// The pause before the next look for what was heard of, until that has been tried often enough.
    fn again(&mut self) -> Option<Duration> {
        if self.owed > 0 && self.looks < AGAIN_TIMES {
            return Some(AGAIN_AFTER * 4_u32.pow(self.looks));
        }
        self.owed = 0;
        None
    }
}
