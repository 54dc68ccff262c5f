//! A lot on its way: filled in requests of a good size, closed, or given up.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use malote_domain::LotId;
use reqwest::Body;
use serde::Serialize;

use crate::client::{Client, RecordsQuery};
use crate::error::ClientError;
use crate::views::{Closed, Declared, NewLot, Taken};

/// Records are sent once so many bytes of them are there: enough for a request to be worth it, little enough to be
/// kept for a second try and for its outcome to be known soon.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// The longest that the hub may take to check and store one request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(120);
/// Most refusals that a sender keeps by name; they are counted exactly.
pub const REFUSALS_KEPT_MAX: usize = 100_000;

/// An open lot and what has been sent to it. Dropped before it is closed, it gives the lot up; should even that be
/// cut off, the hub does so when the lot's lease ends.
#[derive(Debug)]
pub struct LotSender {
    client: Client,
    lot: LotId,
    terms: NewLot,
    query: RecordsQuery,
    waiting: BytesMut,
    taken: Taken,
    /// A request was sent again after it may have been taken in part: then the lot holds more records than were
    /// counted, the later of each key winning.
    sent_again: bool,
    ended: bool,
}

#[derive(Serialize)]
struct Line<'a, B> {
    kind: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a B>,
}

impl LotSender {
    pub(crate) fn new(client: Client, lot: LotId, terms: NewLot) -> Self {
        Self {
            client,
            lot,
            terms,
            query: RecordsQuery::default(),
            waiting: BytesMut::new(),
            taken: Taken::default(),
            sent_again: false,
            ended: false,
        }
    }

    /// Leaves out, from now on, records that are what was sent last time. Not for a full lot, which would take them
    /// away from the tills.
    pub fn changed_only(&mut self) {
        self.query.changed_only = true;
    }

    /// The lot's id.
    pub const fn lot(&self) -> LotId {
        self.lot
    }

    /// What has become of the records that the hub has answered for.
    pub const fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Adds a record, new or not. Like all that adds, it sends when enough has come together.
    ///
    /// # Errors
    /// When it cannot be written as JSON, the hub refuses the lot, or nobody answers for long.
    pub async fn upsert<B: Serialize>(&mut self, kind: &str, key: &str, body: &B) -> Result<(), ClientError> {
        self.line(&Line { kind, key, op: None, body: Some(body) }).await
    }

    /// Adds that a record is to be forgotten.
    ///
    /// # Errors
    /// See [`LotSender::upsert`].
    pub async fn delete(&mut self, kind: &str, key: &str) -> Result<(), ClientError> {
        self.line::<()>(&Line { kind, key, op: Some("delete"), body: None }).await
    }

    async fn line<B: Serialize>(&mut self, line: &Line<'_, B>) -> Result<(), ClientError> {
        let failed = |source| {
            let (kind, key) = (line.kind.to_owned(), line.key.to_owned());
            ClientError::Record { kind, key, source }
        };
        let mut bytes = serde_json::to_vec(line).map_err(failed)?;
        bytes.push(b'\n');
        self.send(&bytes).await
    }

    /// Adds whole lines of NDJSON.
    ///
    /// # Errors
    /// See [`LotSender::upsert`].
    pub async fn send(&mut self, lines: &[u8]) -> Result<(), ClientError> {
        self.waiting.extend_from_slice(lines);
        if self.waiting.len() >= REQUEST_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what has come together, and returns when it is durable. The same lines are sent again when the hub did
    /// not answer for them: a lot may hold a record twice, the last one wins.
    ///
    /// # Errors
    /// See [`LotSender::upsert`].
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let lines = self.waiting.split().freeze();
        let mut tries = self.client.tries();
        loop {
            let body = Body::from(lines.clone());
            match self.client.try_records(self.lot, body, &self.query, Some(REQUEST_DEADLINE)).await {
                Ok(taken) => {
                    self.add(taken);
                    return Ok(());
                }
                Err(failed) if failed.error.is_passing() && tries.again(failed.pause).await => {
                    self.sent_again |= !failed.before_start;
                }
                Err(failed) => return Err(failed.after(&tries)),
            }
        }
    }

    fn add(&mut self, taken: Taken) {
        self.taken.accepted += taken.accepted;
        self.taken.refused += taken.refused;
        self.taken.repeated += taken.repeated;
        self.taken.unchanged += taken.unchanged;
        let room = REFUSALS_KEPT_MAX.saturating_sub(self.taken.refusals.len());
        self.taken.refusals.extend(taken.refusals.into_iter().take(room));
        // The hub leaves these at zero when nothing of a request was taken.
        self.taken.chunks = self.taken.chunks.max(taken.chunks);
        self.taken.stored_bytes = self.taken.stored_bytes.max(taken.stored_bytes);
        self.taken.body_bytes += taken.body_bytes;
    }

    /// What the hub is told to find in the lot, as far as that is known here.
    fn declared(&self) -> Declared {
        let [kind] = self.terms.kinds.as_slice() else {
            // The hub counts what it takes over all kinds together.
            return Declared { chunks: Some(self.taken.chunks), ..Declared::default() };
        };
        let records = BTreeMap::from([(kind.clone(), self.taken.accepted)]);
        Declared {
            chunks: Some(self.taken.chunks),
            records: (!self.sent_again).then_some(records),
            digest: None,
        }
    }

    /// Sends the rest and closes the lot, when the hub finds in it what was sent.
    ///
    /// # Errors
    /// See [`LotSender::upsert`]; a lot that is not closed is given up.
    pub async fn close(mut self) -> Result<Closed, ClientError> {
        self.finish().await
    }

    /// As [`LotSender::close`], for who still wants to know [what was taken](LotSender::taken) or to give the lot
    /// up in words of their own.
    ///
    /// # Errors
    /// See [`LotSender::upsert`]; the lot is given up when this is dropped.
    pub async fn finish(&mut self) -> Result<Closed, ClientError> {
        self.flush().await?;
        let closed = self.client.close_lot(self.lot, &self.declared()).await?;
        self.ended = true;
        Ok(closed)
    }

    /// Gives the lot up and returns when the hub knows.
    ///
    /// # Errors
    /// When the hub does not answer; it gives the lot up by itself when the lease ends.
    pub async fn abort(mut self, reason: &str) -> Result<(), ClientError> {
        self.ended = true;
        self.client.abort_lot(self.lot, reason).await
    }
}

impl Drop for LotSender {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // Without a runtime nothing can be told any more, and the lease ends the lot.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (client, lot) = (self.client.clone(), self.lot);
            runtime.spawn(async move { client.abort_lot(lot, "its sender gave up").await });
        }
    }
}
