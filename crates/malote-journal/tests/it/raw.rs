//! Publishing past the journal, to see what the server itself answers.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use malote_journal::{Entry, Expected, JetStream, Place};
use serde_json::Value;

use crate::fixture::unique;

/// What the server answers to a message; an empty answer is `null`.
pub async fn ask(journal: &JetStream, subject: &str, headers: HeaderMap, payload: Bytes) -> Value {
    let request =
        async_nats::Request::new().headers(headers).payload(payload).timeout(Some(Duration::from_secs(5)));
    let answer = journal.connection().client().send_request(subject.to_owned(), request).await.unwrap();
    if answer.payload.is_empty() { Value::Null } else { serde_json::from_slice(&answer.payload).unwrap() }
}

pub fn headers(entry: &Entry) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", entry.id.to_string());
    headers
}

pub fn expect(headers: &mut HeaderMap, expected: Expected) {
    headers.insert("Nats-Expected-Last-Subject-Sequence", expected.sequence().to_string());
}

/// One event as the journal sends it.
pub async fn append(journal: &JetStream, place: &Place, expected: Expected, entry: &Entry) -> Value {
    let mut headers = headers(entry);
    expect(&mut headers, expected);
    ask(journal, &place.subject, headers, entry.payload.clone()).await
}

/// An atomic batch whose messages carry the expectation as `expects` says.
pub async fn append_batch(
    journal: &JetStream,
    place: &Place,
    expected: Expected,
    entries: &[Entry],
    expects: impl Fn(usize) -> bool,
) -> Value {
    let batch = unique("batch");
    let mut last = Value::Null;
    for (index, entry) in entries.iter().enumerate() {
        let mut headers = headers(entry);
        headers.insert("Nats-Batch-Id", batch.as_str());
        headers.insert("Nats-Batch-Sequence", (index + 1).to_string());
        if expects(index) {
            expect(&mut headers, expected);
        }
        if index + 1 == entries.len() {
            headers.insert("Nats-Batch-Commit", "1");
        }
        last = ask(journal, &place.subject, headers, entry.payload.clone()).await;
    }
    last
}

/// The server's code for its refusal, 0 for none.
pub fn code(answer: &Value) -> u64 {
    answer["error"]["err_code"].as_u64().unwrap_or(0)
}

pub fn is_duplicate(answer: &Value) -> bool {
    answer["duplicate"] == true
}
