//! Following the store's stream: notices in, lots down, records applied.
//!
//! A step takes in every notice there is, then does the lots that are open, oldest first. It may be dropped at any
//! await: whatever it had committed stays, and the next step goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use malote_domain::{Cursor, Timestamp};
use malote_journal::wire::Download;
use malote_journal::{LoadError, Page, ReadError, Reader, Wake, subjects};
use uuid::Uuid;

use crate::shared::{Shared, chain};
use crate::store::{ApplyError, StoreError, Work, chunk_of, now};

/// Notices read at once.
const PAGE: usize = 256;
/// Chunks asked for at once.
const IN_FLIGHT: usize = 8;
/// Chunks staged in one transaction: what a kill may cost to fetch again.
const STAGED_AT_ONCE: usize = 8;
/// A lot of so few chunks and bytes is applied from memory, without being staged.
const HELD_CHUNKS: u32 = 8;
const HELD_BYTES: u64 = 1024 * 1024;
/// The slow look, for wake-ups that were missed.
const SLOW_LOOK: Duration = Duration::from_secs(8);
/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why a step ended early; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The broker's leader.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a lot did not come in.
#[derive(Debug, thiserror::Error)]
enum LotError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// The replica's reading side.
#[derive(Debug)]
pub(crate) struct Replica<'a> {
    shared: &'a Shared,
    notices: Reader,
    data: Reader,
}

impl<'a> Replica<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        Self {
            shared,
            notices: Reader::new(shared.journal.clone(), shared.stream()),
            data: Reader::new(shared.journal.clone(), subjects::LOTDATA),
        }
    }

    /// Follows the stream until dropped.
    pub(crate) async fn run(&self) {
        let mut wake = self.wake().await;
        let mut failures = 0;
        loop {
            let mut wait = spread(SLOW_LOOK);
            if self.shared.connection().is_online() {
                match self.step().await {
                    Ok(next) => {
                        failures = 0;
                        self.trouble(None);
                        if let Some(next) = next {
                            let micros = u64::try_from(next.micros() - now().micros()).unwrap_or(0);
                            wait = wait.min(Duration::from_micros(micros));
                        }
                    }
                    Err(error) => {
                        wait = backoff(failures).min(SLOW_LOOK);
                        failures += 1;
                        self.trouble(Some(chain(&error)));
                    }
                }
            }
            if let Ok(Some(cursor)) = self.shared.store.cursor(self.notices.stream()).await {
                wake.reached(cursor.sequence);
            }
            wake.wait(wait).await;
        }
    }

    async fn wake(&self) -> Wake {
        loop {
            let subject = subjects::store_notices(&self.shared.address().store);
            match Wake::on(self.shared.connection(), subject).await {
                Ok(wake) => return wake,
                Err(error) => tracing::warn!(error = chain(&error), "no wake-ups yet"),
            }
            tokio::time::sleep(PAUSE_MIN).await;
        }
    }

    /// Notes what stands in the way, once.
    fn trouble(&self, trouble: Option<String>) {
        self.shared.activity.send_if_modified(|activity| {
            let changed = activity.trouble != trouble;
            if changed && let Some(trouble) = &trouble {
                tracing::warn!(trouble, "the catalogue does not move on; trying again");
            }
            activity.trouble = trouble;
            changed
        });
    }

    /// Takes in what there is and does what can be done now. Answers when something open can be tried next.
    pub(crate) async fn step(&self) -> Result<Option<Timestamp>, StepError> {
        loop {
            let (registered, at_head) = match self.intake().await {
                Ok(at_head) => (true, at_head),
                Err(StepError::Read(ReadError::NoStream { .. })) => (false, true),
                Err(error) => return Err(error),
            };
            self.shared.activity.send_if_modified(|activity| {
                let before = (activity.registered, activity.at_head);
                (activity.registered, activity.at_head) = (Some(registered), registered && at_head);
                before != (activity.registered, activity.at_head)
            });
            match self.shared.store.next_work().await? {
                Ok(work) => self.attend(&work).await?,
                Err(next) if at_head => return Ok(next),
                Err(_) => {}
            }
        }
    }

    /// Takes in the notices after the cursor, as many full pages as there are, so that lots that later ones replace
    /// are known before any is fetched. Answers whether there were no more.
    async fn intake(&self) -> Result<bool, StepError> {
        let stream = self.notices.stream();
        loop {
            let cursor = self.shared.store.cursor(stream).await?;
            match self.notices.after(cursor, PAGE).await? {
                Page::Messages(page) if page.is_empty() => return Ok(true),
                Page::Messages(page) => {
                    let found = self.shared.store.take_in(stream, cursor, &page).await?;
                    if found.superseded > 0 {
                        self.shared.reports.notify_one();
                    }
                    tracing::debug!(?found, notices = page.len(), "notices taken in");
                    if page.len() < PAGE {
                        // Most likely the last ones: their lots come first, then one more look.
                        return Ok(false);
                    }
                }
                Page::Truncated { last } => {
                    if let Some(cursor) = cursor {
                        self.heal(cursor, last).await?;
                    }
                }
            }
        }
    }

    /// The stream lost its tail. Goes back to the last notice that it and this till have in common; what comes
    /// after is read again, and applying again changes nothing.
    async fn heal(&self, cursor: Cursor, last: u64) -> Result<(), StepError> {
        let mut before = last.saturating_add(1);
        let common = loop {
            let Some(logged) = self.shared.store.logged_before(before).await? else { break None };
            let there = self.notices.at(logged.sequence).await?;
            if there.is_some_and(|stored| stored.cursor() == logged) {
                break Some(logged);
            }
            before = logged.sequence;
        };
        self.shared.store.step_back(self.notices.stream(), cursor, common).await?;
        tracing::error!(
            stream = self.notices.stream(),
            cursor = cursor.sequence,
            last,
            common = common.map_or(0, |common| common.sequence),
            "the store's stream lost messages that this till had read; reading again from the last common one"
        );
        Ok(())
    }

    /// Brings one lot in. Whatever is wrong with it is written down and reported, and holds no other lot up.
    async fn attend(&self, work: &Work) -> Result<(), StepError> {
        let done = self.bring_in(work).await;
        self.shared.activity.send_modify(|activity| {
            activity.download = None;
            activity.applied += u64::from(done.is_ok());
        });
        let error = match done {
            Ok(()) => {
                self.shared.reports.notify_one();
                return Ok(());
            }
            Err(error) => error,
        };
        if !self.shared.connection().is_online() {
            // Being offline says nothing of the lot: it is tried when the broker is back.
            return match error {
                LotError::Read(error) => Err(error.into()),
                LotError::Load(error) => Err(error.into()),
                LotError::Apply(error) => self.postpone(work, &LotError::Apply(error)).await,
            };
        }
        self.postpone(work, &error).await
    }

    async fn postpone(&self, work: &Work, error: &LotError) -> Result<(), StepError> {
        let reason = chain(error);
        let pause = backoff(work.attempts);
        let next = Timestamp::from_micros(
            now().micros().saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)),
        );
        let staged_at_fault = match error {
            LotError::Apply(
                ApplyError::Chunk(_)
                | ApplyError::Digest
                | ApplyError::Foreign { .. }
                | ApplyError::Missing { .. },
            ) => true,
            LotError::Apply(ApplyError::Store(_)) | LotError::Read(_) | LotError::Load(_) => false,
        };
        tracing::warn!(lot = %work.lot, reason, pause_ms = pause.as_millis(), "a lot could not be applied");
        self.shared.store.postpone(work, &reason, next, staged_at_fault).await?;
        self.shared.reports.notify_one();
        Ok(())
    }

    async fn bring_in(&self, work: &Work) -> Result<(), LotError> {
        let held = self.download(work).await?;
        let applied = self.shared.store.apply(work, &held).await?;
        if let Some(applied) = applied {
            tracing::info!(lot = %work.lot, scope = %work.scope, notice = work.notice, ?applied, "lot applied");
        }
        Ok(())
    }

    /// Fetches the chunks that are not here. A small lot's are answered, a large one's are staged.
    async fn download(&self, work: &Work) -> Result<BTreeMap<u32, Bytes>, LotError> {
        let hold = work.chunks <= HELD_CHUNKS && work.bytes <= HELD_BYTES;
        let here = if hold {
            BTreeSet::new()
        } else {
            self.shared.store.staged(work).await.map_err(ApplyError::Store)?
        };
        let mut done = u32::try_from(here.len()).unwrap_or(u32::MAX);
        let missing = (0..work.chunks).filter(|number| !here.contains(number));
        let mut coming =
            stream::iter(missing.map(|number| self.fetch(work, number))).buffer_unordered(IN_FLIGHT);
        let mut held = BTreeMap::new();
        let mut batch = Vec::new();
        let mut result = Ok(());
        while let Some(fetched) = coming.next().await {
            match fetched {
                Ok((number, payload)) if hold => {
                    held.insert(number, payload);
                }
                Ok(chunk) => batch.push(chunk),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            done += 1;
            self.progress(work, done);
            if batch.len() == STAGED_AT_ONCE {
                self.shared.store.stage(work, &batch).await.map_err(ApplyError::Store)?;
                batch.clear();
            }
        }
        // What came before the failure need not come again.
        if !batch.is_empty() {
            self.shared.store.stage(work, &batch).await.map_err(ApplyError::Store)?;
        }
        result.map(|()| held)
    }

    fn progress(&self, work: &Work, chunks_done: u32) {
        let download = Download { lot: work.lot, chunks_done, chunks: work.chunks };
        self.shared.activity.send_modify(|activity| activity.download = Some(download));
    }

    async fn fetch(&self, work: &Work, number: u32) -> Result<(u32, Bytes), LotError> {
        let subject = subjects::chunk(&work.scope, work.lot, number);
        let stored = match self.data.last_of(&subject).await? {
            Some(stored) => Some(stored),
            // A replica that lags behind may not have it yet: only the leader's word counts.
            None => self.shared.journal.leader_last(subjects::LOTDATA, &subject).await?,
        };
        let missing = ApplyError::Missing { number, chunks: work.chunks };
        let payload = stored.ok_or(missing)?.payload;
        chunk_of(work, number, payload.clone())?;
        Ok((number, payload))
    }
}

/// The pause after so many failures: doubling, up to five minutes, spread.
fn backoff(failures: u32) -> Duration {
    spread(PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX))
}

/// Between three quarters of a time and the whole, so that tills that failed together do not come back together.
fn spread(time: Duration) -> Duration {
    let (random, _) = Uuid::new_v4().as_u64_pair();
    time.mul_f64(0.75 + 0.25 * f64::from(u16::try_from(random >> 48).unwrap_or(0)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        for (failures, longest) in [(0, 1), (1, 2), (5, 32), (9, 300), (1000, 300)] {
            let longest = Duration::from_secs(longest);
            let pause = backoff(failures);
            assert!(pause <= longest && pause >= longest.mul_f64(0.74), "{failures}: {pause:?}");
        }
    }
}
