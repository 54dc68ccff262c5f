//! The journal over JetStream, and what it hides.
//!
//! With one replica the server checks the expected sequence before it recognises a repeated message, with three
//! after: so an append whose first answer was lost is told *conflict* here and *duplicate* there. The window in
//! which repeated messages are recognised is short, and by id only. Therefore no answer but a plain "stored" is
//! believed: [`JetStream::append`] then asks the stream's leader whether our own event is there.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::client::RequestErrorKind;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageError};
use async_nats::jetstream::{Context, message::StreamMessage};
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::journal::{
    AppendError, Appended, Entry, Expected, HISTORY_EVENTS_MAX, Journal, LoadError, Place, Stored, check,
};

/// How long an append goes on while a stream has no leader.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The journal over JetStream. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JetStream {
    connection: Connection,
    context: Context,
    answer_within: Duration,
}

/// What the server says to a publish.
#[derive(Debug, Deserialize)]
pub(crate) struct PublishAnswer {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

/// What the server says when it says no.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub(crate) err_code: u64,
    #[serde(default)]
    pub(crate) description: String,
}

/// What an answer to a publish means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Stored now.
    Stored(u64),
    /// Perhaps ours, perhaps somebody else's: look.
    Look,
    /// Nothing was stored, and trying again helps.
    Later(String),
    /// Nothing was stored, and trying again does not help.
    Never(String),
}

/// Reads the server's answer. The codes are those of nats-server's `errors.json`.
fn judge(answer: &PublishAnswer) -> Verdict {
    match &answer.error {
        None if answer.duplicate => Verdict::Look,
        None => Verdict::Stored(answer.seq),
        Some(error) => match error.err_code {
            // 10071: the last sequence is another; 10164: the same while another write is in flight, on replicated
            // streams; 10201: an id of the batch was seen before.
            10071 | 10164 | 10201 => Verdict::Look,
            // 10008 system unavailable, 10009 no leader here, 10023 insufficient resources now, 10077 limits reached,
            // 10158 a message of this id is on its way (replicated streams), 10167 too many requests, 10176 batch
            // incomplete, 10210 too many open batches.
            10008 | 10009 | 10023 | 10077 | 10158 | 10167 | 10176 | 10210 => {
                Verdict::Later(error.description.clone())
            }
            _ => Verdict::Never(format!("{} ({})", error.description, error.err_code)),
        },
    }
}

impl JetStream {
    /// A journal over a connection.
    pub fn new(connection: Connection) -> Self {
        let context = async_nats::jetstream::new(connection.client().clone());
        Self { connection, context, answer_within: crate::connection::REQUEST_TIMEOUT }
    }

    /// The same journal with another patience for one answer.
    #[must_use]
    pub const fn answer_within(mut self, limit: Duration) -> Self {
        self.answer_within = limit;
        self
    }

    /// The connection.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The first message at or after a sequence whose subject the filter covers, as the leader has it.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub async fn leader_next(
        &self,
        stream: &str,
        filter: &str,
        from: u64,
    ) -> Result<Option<Stored>, LoadError> {
        let unavailable = |reason: String| LoadError::Unavailable { filter: filter.to_owned(), reason };
        let handle =
            self.context.get_stream_no_info(stream).await.map_err(|error| unavailable(error.to_string()))?;
        found(handle.get_first_raw_message_by_subject(filter, from).await)
            .map_err(|error| unavailable(error.to_string()))
    }

    /// The last message of a subject, as the leader has it.
    ///
    /// # Errors
    /// When the leader does not answer.
    pub async fn leader_last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, LoadError> {
        let unavailable = |reason: String| LoadError::Unavailable { filter: subject.to_owned(), reason };
        let handle =
            self.context.get_stream_no_info(stream).await.map_err(|error| unavailable(error.to_string()))?;
        found(handle.get_last_raw_message_by_subject(subject).await)
            .map_err(|error| unavailable(error.to_string()))
    }

    /// Publishes a message that needs no expectation, recognised by its id for the time of the stream's window:
    /// notices, which a reader takes in once however often they come, and timers.
    ///
    /// # Errors
    /// When it is not known to be stored.
    pub async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<u64, AppendError> {
        let deadline = Instant::now() + ELECTION_TIMEOUT;
        loop {
            let reason = match self.send(subject, headers.clone(), payload.clone()).await {
                Ok(answer) => match judge(&answer) {
                    Verdict::Stored(sequence) => return Ok(sequence),
                    Verdict::Look => return Ok(answer.seq),
                    Verdict::Later(reason) => reason,
                    Verdict::Never(reason) => {
                        return Err(AppendError::Refused { subject: subject.to_owned(), reason });
                    }
                },
                Err(reason) => reason,
            };
            if Instant::now() >= deadline {
                return Err(AppendError::Unavailable { subject: subject.to_owned(), reason });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn send(&self, subject: &str, headers: HeaderMap, payload: Bytes) -> Result<PublishAnswer, String> {
        let request =
            async_nats::Request::new().headers(headers).payload(payload).timeout(Some(self.answer_within));
        match self.connection.client().send_request(subject.to_owned(), request).await {
            Ok(message) => serde_json::from_slice(&message.payload)
                .map_err(|error| format!("an answer that is not a publish acknowledgement: {error}")),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                Err("no stream or no leader there".into())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends one decision's events: a plain publish, or an atomic batch when there are several.
    async fn offer(
        &self,
        place: &Place,
        expected: Expected,
        entries: &[Entry],
    ) -> Result<PublishAnswer, String> {
        let [entry] = entries else {
            return self.offer_batch(place, expected, entries).await;
        };
        let mut headers = headers(entry);
        expect(&mut headers, place, expected);
        self.send(&place.subject, headers, entry.payload.clone()).await
    }

    /// ADR-50: the first message asks whether the batch may begin, the last one commits it; all or none are stored.
    async fn offer_batch(
        &self,
        place: &Place,
        expected: Expected,
        entries: &[Entry],
    ) -> Result<PublishAnswer, String> {
        let batch = self.connection.client().new_inbox();
        let batch = batch.rsplit('.').next().unwrap_or(&batch).to_owned();
        for (index, entry) in entries.iter().enumerate() {
            let mut headers = headers(entry);
            headers.insert("Nats-Batch-Id", batch.as_str());
            headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
            if index == 0 {
                // Only the first message of a subject may carry the expectation.
                expect(&mut headers, place, expected);
                let begun = self.begin_batch(&place.subject, headers, entry.payload.clone()).await?;
                if let Some(refused) = begun {
                    return Ok(refused);
                }
            } else if index + 1 == entries.len() {
                headers.insert("Nats-Batch-Commit", "1");
                return self.send(&place.subject, headers, entry.payload.clone()).await;
            } else {
                self.connection
                    .client()
                    .publish_with_headers(place.subject.clone(), headers, entry.payload.clone())
                    .await
                    .map_err(|error| error.to_string())?;
            }
        }
        Err("an empty batch".into())
    }

    /// The first message of a batch: an empty answer lets it begin, anything else is the refusal.
    async fn begin_batch(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Option<PublishAnswer>, String> {
        let request =
            async_nats::Request::new().headers(headers).payload(payload).timeout(Some(self.answer_within));
        let answer = self
            .connection
            .client()
            .send_request(subject.to_owned(), request)
            .await
            .map_err(|error| error.to_string())?;
        if answer.payload.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&answer.payload).map(Some).map_err(|error| error.to_string())
    }

    /// Whether our own events are in the stream, by the id of the first: the whole decision is then.
    async fn look(
        &self,
        place: &Place,
        expected: Expected,
        entries: &[Entry],
    ) -> Result<Option<u64>, LoadError> {
        let wanted: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
        let mut from = expected.sequence() + 1;
        for _ in 0..HISTORY_EVENTS_MAX {
            let Some(stored) = self.leader_next(place.stream, &place.filter, from).await? else {
                return Ok(None);
            };
            if stored.id.is_some() && stored.id.as_deref() == wanted.last().map(String::as_str) {
                return Ok(Some(stored.sequence));
            }
            from = stored.sequence + 1;
        }
        Ok(None)
    }
}

fn headers(entry: &Entry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", entry.id.to_string());
    headers.insert("Malote-Type", entry.message_type);
    headers
}

fn expect(headers: &mut HeaderMap, place: &Place, expected: Expected) {
    headers.insert("Nats-Expected-Last-Subject-Sequence", expected.sequence().to_string());
    if place.filter != place.subject {
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", place.filter.as_str());
    }
}

fn found(result: Result<StreamMessage, RawMessageError>) -> Result<Option<Stored>, RawMessageError> {
    match result {
        Ok(message) => Ok(Some(Stored {
            sequence: message.sequence,
            subject: message.subject.to_string(),
            id: message.headers.get("Nats-Msg-Id").map(ToString::to_string),
            payload: message.payload,
        })),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Journal for JetStream {
    async fn load(&self, stream: &str, filter: &str) -> Result<Vec<Stored>, LoadError> {
        let mut history = Vec::new();
        let mut from = 1;
        while let Some(stored) = self.leader_next(stream, filter, from).await? {
            if history.len() >= HISTORY_EVENTS_MAX {
                return Err(LoadError::TooLong { filter: filter.to_owned() });
            }
            from = stored.sequence + 1;
            history.push(stored);
        }
        Ok(history)
    }

    async fn append(
        &self,
        place: &Place,
        expected: Expected,
        entries: &[Entry],
    ) -> Result<Appended, AppendError> {
        let subject = || place.subject.clone();
        check(place, entries)?;
        let deadline = Instant::now() + ELECTION_TIMEOUT;
        loop {
            let (reason, refused) = match self.offer(place, expected, entries).await {
                Ok(answer) => match judge(&answer) {
                    Verdict::Stored(last) => return Ok(Appended::Created { last }),
                    Verdict::Look => (String::new(), true),
                    Verdict::Later(reason) => (reason, false),
                    Verdict::Never(reason) => {
                        return Err(AppendError::Refused { subject: subject(), reason });
                    }
                },
                Err(reason) => (reason, false),
            };
            let looked = self.look(place, expected, entries).await;
            match looked {
                Ok(Some(last)) => return Ok(Appended::Existed { last }),
                Ok(None) if refused => return Err(AppendError::Conflict { subject: subject() }),
                // Not there now, but it may still land: the ids and the expectation make a second try harmless.
                Ok(None) => {}
                Err(error) if Instant::now() >= deadline => {
                    return Err(AppendError::Unavailable { subject: subject(), reason: error.to_string() });
                }
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(AppendError::Unavailable { subject: subject(), reason });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(json: &str) -> Verdict {
        judge(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn only_a_plain_acknowledgement_is_believed() {
        assert_eq!(verdict(r#"{"stream":"S","seq":7}"#), Verdict::Stored(7));
        assert_eq!(verdict(r#"{"stream":"S","seq":7,"duplicate":true}"#), Verdict::Look);
        for code in [10071, 10164, 10201] {
            let json = format!(
                r#"{{"error":{{"code":400,"err_code":{code},"description":"wrong last sequence"}}}}"#
            );
            assert_eq!(verdict(&json), Verdict::Look, "{code}");
        }
        for code in [10008, 10158] {
            let json = format!(r#"{{"error":{{"code":503,"err_code":{code},"description":"not now"}}}}"#);
            assert!(matches!(verdict(&json), Verdict::Later(_)), "{code}");
        }
        assert!(matches!(
            verdict(
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum"}}"#
            ),
            Verdict::Never(_)
        ));
    }
}
