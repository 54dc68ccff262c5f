//! What senders ask for: open, fill, close, abort, recall.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use malote_domain::lots::{
    AbortReason, Command, Declared, Event, Lot, Manifest, Mode, Refused, State, Terms,
};
use malote_domain::{Actor, CommandId, Ctx, Decider, Kind, LotId, Scope};
use malote_journal::chunk::Packer;
use malote_journal::execute::load;
use malote_journal::journal::AppendError;
use malote_journal::wire::Wire;
use malote_journal::{ExecuteError, execute, subjects};
use malote_projections::lots::{LotFilter, LotState};
use malote_projections::{DbError, Projection};
use serde::Serialize;

use crate::app::App;
use crate::clock;
use crate::intake::{Cut, Lines, REFUSALS_NAMED_MAX, Record, Refusal, Rules};
use crate::policies::timers;
use crate::sessions::{FillError, Progress, Session};

/// Most records looked up at once to find the unchanged ones.
const LOOKUP_RECORDS: usize = 400;
/// Longest silence of a sender in the middle of a body.
const BODY_SILENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a sender's request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LotsError {
    /// The lot says no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody is in the scope.
    #[error("scope '{0}' is not known: register its store or group first (`malote store import`)")]
    UnknownScope(Scope),
    /// Too many lots are open.
    #[error("{open} lots are open, and at most {limit} may be; close or abort some")]
    TooManyOpen {
        /// How many are.
        open: u64,
        /// How many may be.
        limit: u64,
    },
    /// The default kind is not one of the lot's.
    #[error("the lot did not declare kind '{0}'")]
    KindNotDeclared(Kind),
    /// A strict lot with a bad record: it is aborted.
    #[error("the lot is strict and line {} was refused ({}); it is aborted", .0.line, .0.reason)]
    Strict(Box<Refusal>),
    /// The lot is being closed by somebody else.
    #[error("the lot is being closed; no more records can be added")]
    Closing,
    /// A body that grew beyond the limit.
    #[error("a request has at most {limit} bytes; send the rest in another request to the same lot")]
    BodyTooLarge {
        /// The limit.
        limit: u64,
    },
    /// The body stopped coming.
    #[error("the body ended early or fell silent; what was not confirmed must be sent again")]
    BodyBroken,
    /// More than a lot takes.
    #[error("{0}")]
    TooMuch(String),
    /// Records were to be left out of a lot that replaces everything.
    #[error(
        "a full lot replaces everything, so records left out as unchanged would be removed; send all of them, or a delta"
    )]
    ChangedOnlyFull,
    /// The journal refuses the command, and will again: its id was used for another one.
    #[error("{0}")]
    NotTaken(String),
    /// Unchanged records were left out, and what they were compared with is not what the tills have any more.
    #[error(
        "lot {0} for the same scope went out while this one left unchanged records out; abort this one and send it again"
    )]
    ChangedMeanwhile(String),
    /// Something behind the hub does not answer.
    #[error("{what}")]
    Unavailable {
        /// What happened, for people.
        what: String,
    },
}

impl From<ExecuteError<Refused>> for LotsError {
    fn from(error: ExecuteError<Refused>) -> Self {
        match error {
            ExecuteError::Rejected(refused) => Self::Refused(refused),
            ExecuteError::Append(AppendError::Refused { reason, .. }) => Self::NotTaken(reason),
            ExecuteError::Contended
            | ExecuteError::Load(_)
            | ExecuteError::Append(_)
            | ExecuteError::Unreadable { .. } => Self::unavailable(&error),
        }
    }
}

impl From<FillError> for LotsError {
    fn from(error: FillError) -> Self {
        match error {
            FillError::Ended => Self::Closing,
            FillError::TooManyChunks => Self::TooMuch(error.to_string()),
            FillError::Append(_) | FillError::Load(_) | FillError::Chunk(_) | FillError::Pack(_) => {
                Self::unavailable(&error)
            }
        }
    }
}

impl From<DbError> for LotsError {
    fn from(error: DbError) -> Self {
        Self::unavailable(&error)
    }
}

impl LotsError {
    pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(error, "a request could not be served");
        Self::Unavailable { what: error.to_string() }
    }
}

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

impl App {
    pub(crate) fn ctx(&self, command: CommandId) -> Ctx {
        Ctx::new(clock::now(), Actor::new("back office"), command)
    }

    /// Opens a lot; the same command opens the same lot.
    pub(crate) async fn open_lot(&self, command: CommandId, terms: Terms) -> Result<LotId, LotsError> {
        if !self.db.scope_exists(&terms.scope).await? {
            return Err(LotsError::UnknownScope(terms.scope));
        }
        let open = self.db.open_lots(0).await?.count;
        if open >= self.limits.open_lots_max {
            return Err(LotsError::TooManyOpen { open, limit: self.limits.open_lots_max });
        }
        let lot = command.lot();
        let done =
            execute::<Lot, _>(&self.journal, &lot, Command::Open(terms.clone()), &self.ctx(command)).await?;
        if let State::Open(terms) = done.state {
            timers::schedule_lease(&self.journal, lot, terms.lease_seconds)
                .await
                .map_err(|e| LotsError::unavailable(&e))?;
            self.sessions.enter(lot, terms);
        }
        self.metrics.lots_opened.inc();
        tracing::info!(%lot, scope = %terms.scope, "lot opened");
        Ok(lot)
    }

    /// The session of a lot that must be open.
    async fn session(&self, lot: LotId) -> Result<Arc<Session>, LotsError> {
        let (state, _) = load::<Lot, _>(&self.journal, &lot).await?;
        match state {
            State::Open(terms) => Ok(self.sessions.enter(lot, terms)),
            State::Absent => Err(Refused::Unknown.into()),
            State::Closed { .. } => Err(Refused::Closed.into()),
            State::Aborted(reason) => Err(Refused::Aborted(reason).into()),
            State::Recalled => Err(Refused::Recalled.into()),
        }
    }

    /// Takes records in as they arrive. What the answer counts as accepted is durable.
    pub(crate) async fn fill_lot<E>(
        &self,
        lot: LotId,
        taking: &Taking,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin + Send,
    ) -> Result<Taken, LotsError> {
        let session = self.session(lot).await?;
        if let Some(kind) = taking.kind.as_ref().filter(|kind| !session.terms.kinds.contains(*kind)) {
            return Err(LotsError::KindNotDeclared(kind.clone()));
        }
        let default_kind = taking.kind.as_ref().or_else(|| only(&session.terms.kinds));
        let rules = Rules { schemas: &self.schemas, kinds: &session.terms.kinds, default_kind };
        if taking.changed_only && session.terms.mode == Mode::Full {
            return Err(LotsError::ChangedOnlyFull);
        }
        let changed_only = taking.changed_only && self.begin_changed_only(&session).await?;
        let mut filling = Filling::new(self, &session, changed_only);
        filling.renew(true).await?;
        let mut lines = Lines::default();
        loop {
            let bytes = match tokio::time::timeout(BODY_SILENCE, body.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return Err(LotsError::BodyBroken),
            };
            filling.taken.body_bytes += bytes.len() as u64;
            if filling.taken.body_bytes > self.limits.records_body_bytes_max {
                return Err(LotsError::BodyTooLarge { limit: self.limits.records_body_bytes_max });
            }
            filling.take(&rules, lines.push(&bytes)).await?;
        }
        filling.take(&rules, lines.finish().into_iter().collect()).await?;
        filling.finish().await
    }

    /// Whether unchanged records may be left out: what they are compared with must be what the tills have until
    /// this lot reaches them. While another lot for the scope is under way, everything is sent.
    async fn begin_changed_only(&self, session: &Session) -> Result<bool, LotsError> {
        let mut progress = session.progress.lock().await;
        if progress.unchanged_since.is_some() {
            return Ok(true);
        }
        let since = self.lots_caught_up().await.map_err(|error| LotsError::unavailable(&error))?;
        self.wait_for(Projection::Catalogue, subjects::LOTS, since)
            .await
            .map_err(|error| LotsError::unavailable(&error))?;
        for state in [LotState::Open, LotState::Closed, LotState::Releasing] {
            let filter = LotFilter { state: Some(state), scope: Some(session.terms.scope.clone()) };
            let lots = self.db.lots(&filter, None, 2).await?;
            if lots.iter().any(|lot| lot.lot != session.lot.to_string()) {
                tracing::info!(lot = %session.lot, "another lot for the scope is under way; all records are sent");
                return Ok(false);
            }
        }
        progress.unchanged_since = Some(since);
        Ok(true)
    }

    /// Refuses a close when another lot for the scope went out since unchanged records were told apart.
    async fn check_unchanged(&self, session: &Session, progress: &Progress) -> Result<(), LotsError> {
        let Some(since) = progress.unchanged_since else { return Ok(()) };
        let own = subjects::lot(&session.terms.scope, session.lot);
        let others = subjects::lots_of(&session.terms.scope);
        let mut from = since + 1;
        while let Some(stored) = self
            .journal
            .leader_next(subjects::LOTS, &others, from)
            .await
            .map_err(|error| LotsError::unavailable(&error))?
        {
            from = stored.sequence + 1;
            let went_out = matches!(Lot::decode(&stored), Ok((Event::Closed(_) | Event::Released { .. }, _)));
            if stored.subject != own && went_out {
                let lot = stored.subject.rsplit('.').next().unwrap_or_default().to_owned();
                return Err(LotsError::ChangedMeanwhile(lot));
            }
        }
        Ok(())
    }

    /// Closes a lot when what is in it is what its sender believes.
    pub(crate) async fn close_lot(
        &self,
        lot: LotId,
        command: CommandId,
        declared: Declared,
    ) -> Result<(Terms, Manifest), LotsError> {
        let ctx = self.ctx(command);
        let session = match load::<Lot, _>(&self.journal, &lot).await?.0 {
            State::Closed { by, terms, manifest, .. } if by == command => return Ok((terms, manifest)),
            State::Open(terms) => self.sessions.enter(lot, terms),
            other @ (State::Absent | State::Closed { .. } | State::Aborted(_) | State::Recalled) => {
                // The decider words the refusal.
                Lot::decide(&other, Command::Close { declared, found: Manifest::default() }, &ctx)?;
                return Err(Refused::Closed.into());
            }
        };
        let mut progress = session.progress.lock().await;
        let found = loop {
            session.catch_up(&self.journal, &mut progress).await?;
            let found = progress.manifest();
            let close = Command::Close { declared: declared.clone(), found: found.clone() };
            self.check_unchanged(&session, &progress).await?;
            // Asked before the end is put behind the last chunk: a refused lot stays open for more.
            Lot::decide(&State::Open(session.terms.clone()), close, &ctx)?;
            if session.end(&self.journal, &mut progress).await? {
                break found;
            }
        };
        let close = Command::Close { declared, found: found.clone() };
        execute::<Lot, _>(&self.journal, &lot, close, &ctx).await?;
        drop(progress);
        self.sessions.leave(lot);
        self.release_soon.notify_one();
        timers::cancel_lease(&self.journal, lot).await;
        self.metrics.lots_closed.inc();
        tracing::info!(%lot, chunks = found.chunks, bytes = found.bytes, "lot closed");
        Ok((session.terms.clone(), found))
    }

    /// Gives an open lot up.
    pub(crate) async fn abort_lot(
        &self,
        lot: LotId,
        command: CommandId,
        reason: AbortReason,
    ) -> Result<(), LotsError> {
        execute::<Lot, _>(&self.journal, &lot, Command::Abort(reason.clone()), &self.ctx(command)).await?;
        self.sessions.leave(lot);
        timers::cancel_lease(&self.journal, lot).await;
        tracing::info!(%lot, %reason, "lot aborted");
        Ok(())
    }

    /// Takes a closed lot back from the stores that do not have it yet.
    pub(crate) async fn recall_lot(
        &self,
        lot: LotId,
        command: CommandId,
        reason: String,
    ) -> Result<(), LotsError> {
        execute::<Lot, _>(&self.journal, &lot, Command::Recall { reason }, &self.ctx(command)).await?;
        tracing::info!(%lot, "lot recalled");
        Ok(())
    }
}

fn only(kinds: &BTreeSet<Kind>) -> Option<&Kind> {
    if kinds.len() == 1 { kinds.first() } else { None }
}

/// One request's records on their way into a lot.
pub(crate) struct Filling<'a> {
    app: &'a App,
    session: &'a Session,
    changed_only: bool,
    packer: Packer,
    /// Keys in the packer: noted in the lot's session once their chunk is durable.
    keys: Vec<(Kind, String)>,
    taken: Taken,
}

impl<'a> Filling<'a> {
    pub(crate) fn new(app: &'a App, session: &'a Session, changed_only: bool) -> Self {
        Self { app, session, changed_only, packer: Packer::default(), keys: vec![], taken: Taken::default() }
    }

    async fn take(&mut self, rules: &Rules<'_>, cuts: Vec<Cut>) -> Result<(), LotsError> {
        let mut records = Vec::with_capacity(cuts.len());
        for cut in cuts {
            match rules.read(&cut) {
                Ok(record) => records.push(record),
                Err(refusal) => self.refuse(refusal).await?,
            }
        }
        if self.changed_only {
            records = self.changed(records).await?;
        }
        self.put(records).await
    }

    /// Adds checked records.
    pub(crate) async fn put(&mut self, records: Vec<Record>) -> Result<(), LotsError> {
        for record in records {
            self.keys.push((record.kind.clone(), record.key.clone()));
            self.packer.push(&record.kind, record.key, record.body);
            if self.packer.is_full() {
                self.flush().await?;
            }
        }
        Ok(())
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

    async fn flush(&mut self) -> Result<(), LotsError> {
        let packed = self.packer.pack().map_err(FillError::from)?;
        let mut progress = self.session.progress.lock().await;
        self.session.catch_up_once(&self.app.journal, &mut progress).await?;
        self.session.add(&self.app.journal, &mut progress, &packed).await?;
        for (kind, count) in packed.records() {
            *self.taken.records.entry(kind.to_string()).or_default() += count;
        }
        let repeated = progress.repeated;
        for (kind, key) in self.keys.drain(..) {
            progress.note_key(&kind, &key);
            self.taken.accepted += 1;
        }
        self.taken.repeated += progress.repeated - repeated;
        let found = progress.manifest();
        self.taken.chunks = found.chunks;
        self.taken.stored_bytes = found.bytes;
        let due = progress.lease_due(self.session.terms.lease_seconds, clock::now());
        drop(progress);
        self.app.metrics.chunks.inc();
        self.renew(due).await
    }

    async fn renew(&self, due: bool) -> Result<(), LotsError> {
        if due {
            timers::schedule_lease(&self.app.journal, self.session.lot, self.session.terms.lease_seconds)
                .await
                .map_err(|error| LotsError::unavailable(&error))?;
            self.session.progress.lock().await.renewed_at = clock::now();
        }
        Ok(())
    }

    /// Makes the rest durable, and tells what became of all of it.
    pub(crate) async fn finish(mut self) -> Result<Taken, LotsError> {
        if !self.packer.is_empty() {
            self.flush().await?;
        }
        self.app.metrics.records_accepted.inc_by(self.taken.accepted);
        Ok(self.taken)
    }
}
