//! What senders ask for: open, close, abort, recall. Filling is in `filling.rs`.

use std::sync::Arc;

use malote_domain::lots::{AbortReason, Command, Declared, Event, Lot, Manifest, Refused, State, Terms};
use malote_domain::{Actor, CommandId, Ctx, Decider, Kind, LotId, Scope};
use malote_journal::execute::load;
use malote_journal::journal::AppendError;
use malote_journal::wire::Wire;
use malote_journal::{ExecuteError, execute, subjects};
use malote_projections::lots::{LotFilter, LotState};
use malote_projections::{DbError, Projection};

use crate::app::App;
use crate::clock;
use crate::intake::Refusal;
use crate::policies::timers;
use crate::sessions::{FillError, Progress, Session};

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
    pub(crate) async fn session(&self, lot: LotId) -> Result<Arc<Session>, LotsError> {
        let (state, _) = load::<Lot, _>(&self.journal, &lot).await?;
        match state {
            State::Open(terms) => Ok(self.sessions.enter(lot, terms)),
            State::Absent => Err(Refused::Unknown.into()),
            State::Closed { .. } => Err(Refused::Closed.into()),
            State::Aborted(reason) => Err(Refused::Aborted(reason).into()),
            State::Recalled => Err(Refused::Recalled.into()),
        }
    }

    /// Whether unchanged records may be left out: what they are compared with must be what the tills have until
    /// this lot reaches them. While another lot for the scope is under way, everything is sent.
    pub(crate) async fn begin_changed_only(&self, session: &Session) -> Result<bool, LotsError> {
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
