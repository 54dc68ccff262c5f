//! Records on their way into a lot: read and checked as they arrive, packed and written beside that.
//!
//! Two tasks, so that the next records are checked while a chunk is compressed and synced. What the answer counts as
//! accepted is durable; a request that fails may leave some of its records in the lot, and sending them again is
//! harmless, for the last one of a key wins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use malote_domain::lots::{AbortReason, Mode};
use malote_domain::{Kind, LotId};
use malote_journal::chunk::Packer;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::app::App;
use crate::clock;
use crate::intake::{Cut, Lines, REFUSALS_NAMED_MAX, Record, Refusal, Rules};
use crate::lots::LotsError;
use crate::policies::timers;
use crate::sessions::{FillError, Session};

/// Most records looked up at once to find the unchanged ones.
const LOOKUP_RECORDS: usize = 400;
/// Longest silence of a sender in the middle of a body.
const BODY_SILENCE: Duration = Duration::from_secs(60);
/// Blocks of checked records that wait to be packed: each is what one read of the body brought.
const BLOCKS_WAITING: usize = 8;

/// What became of the records of one request.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Taken {
    /// Records in the lot now because of this request.
    pub(crate) accepted: u64,
    /// The same, kind by kind: what a close may declare.
    pub(crate) records: BTreeMap<String, u64>,
    /// Records not taken.
    pub(crate) refused: u64,
    /// Records whose key was in the lot before: the last one wins.
    pub(crate) repeated: u64,
    /// Records left out because they are what was sent last time.
    pub(crate) unchanged: u64,
    /// The first of the refusals.
    pub(crate) refusals: Vec<Refusal>,
    /// Chunks in the lot so far.
    pub(crate) chunks: u32,
    /// Bytes that these records came in.
    pub(crate) body_bytes: u64,
    /// Bytes of all chunks as stored.
    pub(crate) stored_bytes: u64,
}

/// How the records of one request are taken.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    /// The kind of records that do not name one.
    pub(crate) kind: Option<Kind>,
    /// Leave out what is what was sent last time.
    pub(crate) changed_only: bool,
}

/// What a writer has made durable.
#[derive(Debug, Default)]
pub(crate) struct Written {
    accepted: u64,
    records: BTreeMap<String, u64>,
    repeated: u64,
    chunks: u32,
    stored_bytes: u64,
}

impl App {
    /// Takes records in as they arrive. What the answer counts as accepted is durable.
    pub(crate) async fn fill_lot<E>(
        self: &Arc<Self>,
        lot: LotId,
        taking: &Taking,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin + Send,
    ) -> Result<Taken, LotsError> {
        let session = self.session(lot).await?;
        if let Some(kind) = taking.kind.as_ref().filter(|kind| !session.terms.kinds.contains(*kind)) {
            return Err(LotsError::KindNotDeclared(kind.clone()));
        }
        if taking.changed_only && session.terms.mode == Mode::Full {
            return Err(LotsError::ChangedOnlyFull);
        }
        let changed_only = taking.changed_only && self.begin_changed_only(&session).await?;
        let default_kind = taking.kind.as_ref().or_else(|| only(&session.terms.kinds));
        let rules = Rules { schemas: &self.schemas, kinds: &session.terms.kinds, default_kind };
        let writer = Writer::new(Arc::clone(self), Arc::clone(&session));
        writer.renew().await?;
        let (checked, incoming) = mpsc::channel(BLOCKS_WAITING);
        let writing = AbortOnDropHandle::new(tokio::spawn(writer.run(incoming)));
        let mut checking = Checking { app: self, session: &session, changed_only, taken: Taken::default() };
        let mut lines = Lines::default();
        // Until the body ends, or the writer gives up; it says why below.
        while !checked.is_closed() {
            let bytes = match tokio::time::timeout(BODY_SILENCE, body.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(None) => {
                    let records = checking.check(&rules, lines.finish().into_iter().collect()).await?;
                    let _ = checked.send(records).await;
                    break;
                }
                Ok(Some(Err(_))) | Err(_) => return Err(LotsError::BodyBroken),
            };
            checking.taken.body_bytes += bytes.len() as u64;
            if checking.taken.body_bytes > self.limits.records_body_bytes_max {
                return Err(LotsError::BodyTooLarge { limit: self.limits.records_body_bytes_max });
            }
            let records = checking.check(&rules, lines.push(&bytes)).await?;
            let _ = checked.send(records).await;
        }
        drop(checked);
        let written = match writing.await {
            Ok(written) => written?,
            Err(died) => return Err(LotsError::unavailable(&died)),
        };
        self.metrics.records_accepted.inc_by(written.accepted);
        Ok(checking.taken.with(written))
    }
}

impl Taken {
    fn with(self, written: Written) -> Self {
        let Written { accepted, records, repeated, chunks, stored_bytes } = written;
        Self { accepted, records, repeated, chunks, stored_bytes, ..self }
    }
}

fn only(kinds: &BTreeSet<Kind>) -> Option<&Kind> {
    if kinds.len() == 1 { kinds.first() } else { None }
}

/// One request's records being checked.
struct Checking<'a> {
    app: &'a App,
    session: &'a Session,
    changed_only: bool,
    taken: Taken,
}

impl Checking<'_> {
    /// The records of some lines that are to be taken.
    async fn check(&mut self, rules: &Rules<'_>, cuts: Vec<Cut>) -> Result<Vec<Record>, LotsError> {
        let mut records = Vec::with_capacity(cuts.len());
        for cut in cuts {
            match rules.read(&cut) {
                Ok(record) => records.push(record),
                Err(refusal) => self.refuse(refusal).await?,
            }
        }
        if self.changed_only { self.changed(records).await } else { Ok(records) }
    }

    async fn refuse(&mut self, refusal: Refusal) -> Result<(), LotsError> {
        self.taken.refused += 1;
        self.app.metrics.records_refused.inc();
        if self.session.terms.strict {
            let reason = format!("line {}: {}", refusal.line, refusal.reason);
            self.app.abort_lot(self.session.lot, clock::command(), AbortReason::Strict(reason)).await?;
            return Err(LotsError::Strict(Box::new(refusal)));
        }
        if self.taken.refusals.len() < REFUSALS_NAMED_MAX {
            self.taken.refusals.push(refusal);
        }
        Ok(())
    }

    /// The records that are not what was sent last time.
    async fn changed(&mut self, records: Vec<Record>) -> Result<Vec<Record>, LotsError> {
        let mut changed = Vec::with_capacity(records.len());
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let some: Vec<Record> = records.by_ref().take(LOOKUP_RECORDS).collect();
            let keys: Vec<_> = some
                .iter()
                .map(|r| (r.kind.as_str(), r.key.as_str(), crate::projector::content_hash(r.body.as_deref())))
                .collect();
            let unchanged = self.app.db.unchanged(&self.session.terms.scope, &keys).await?;
            for (index, record) in some.into_iter().enumerate() {
                if unchanged.contains(&index) {
                    self.taken.unchanged += 1;
                } else {
                    changed.push(record);
                }
            }
        }
        Ok(changed)
    }
}

/// Packs checked records and makes them durable.
pub(crate) struct Writer {
    app: Arc<App>,
    session: Arc<Session>,
    packer: Packer,
    /// Hashes of the keys in the packer: noted in the lot's session once their chunk is durable.
    keys: Vec<u64>,
    written: Written,
}

impl Writer {
    pub(crate) fn new(app: Arc<App>, session: Arc<Session>) -> Self {
        Self { app, session, packer: Packer::default(), keys: vec![], written: Written::default() }
    }

    async fn run(mut self, mut incoming: mpsc::Receiver<Vec<Record>>) -> Result<Written, LotsError> {
        while let Some(records) = incoming.recv().await {
            self.put(records).await?;
        }
        self.finish().await
    }

    /// Adds checked records.
    pub(crate) async fn put(&mut self, records: Vec<Record>) -> Result<(), LotsError> {
        for record in records {
            self.keys.push(self.session.key_hash(&record.kind, &record.key));
            self.packer.push(&record.kind, record.key, record.body);
            if self.packer.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LotsError> {
        let packed = self.packer.pack().map_err(FillError::from)?;
        let mut progress = self.session.progress.lock().await;
        self.session.catch_up_once(&self.app.journal, &mut progress).await?;
        self.session.add(&self.app.journal, &mut progress, &packed).await?;
        for (kind, count) in packed.records() {
            *self.written.records.entry(kind.to_string()).or_default() += count;
        }
        let repeated = progress.repeated;
        for key in self.keys.drain(..) {
            progress.note_key(key);
            self.written.accepted += 1;
        }
        self.written.repeated += progress.repeated - repeated;
        let found = progress.manifest();
        self.written.chunks = found.chunks;
        self.written.stored_bytes = found.bytes;
        let due = progress.lease_due(self.session.terms.lease_seconds, clock::now());
        drop(progress);
        self.app.metrics.chunks.inc();
        if due { self.renew().await } else { Ok(()) }
    }

    /// Starts the lot's lease anew: its sender gives signs of life.
    async fn renew(&self) -> Result<(), LotsError> {
        timers::schedule_lease(&self.app.journal, self.session.lot, self.session.terms.lease_seconds)
            .await
            .map_err(|error| LotsError::unavailable(&error))?;
        self.session.progress.lock().await.renewed_at = clock::now();
        Ok(())
    }

    /// Makes the rest durable, and tells what is.
    pub(crate) async fn finish(mut self) -> Result<Written, LotsError> {
        if !self.packer.is_empty() {
            self.flush().await?;
        }
        Ok(self.written)
    }
}
