//! A closed lot on its way to the tills: how many have it, and who is still waited for.

use std::io;
use std::time::Duration;

use malote_client::{Arrival, ArrivalQuery, ArrivalState, Client, ClientError, LotId, LotState, LotView};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::send::{Progress, SendError, Step};

const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_LOOK: Duration = Duration::from_secs(2);
/// A hub that has just started takes every till for offline until it hears of it.
const GRACE: Duration = Duration::from_secs(3);
const PAGE_ROWS: u32 = 1_000;
/// Most tills that are kept by name.
const NAMED_MAX: usize = 100;

/// How far a lot came.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The lot as it was last seen.
    pub view: LotView,
    /// Who does not have it.
    pub waiting: Waiting,
    /// It waits for its hour, so no till is expected to have it yet.
    pub is_ahead: bool,
}

/// Tills that do not have a lot yet.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Those that are online, failed ones included.
    pub online: u64,
    /// Those that get it when they are back.
    pub offline: u64,
    /// The first of them.
    pub named: Vec<Arrival>,
}

/// Follows a lot until every till that is online has it, `wait` is over or `stop` fires.
///
/// # Errors
/// When the hub does not answer, or progress cannot be told.
pub async fn follow(
    client: &Client,
    lot: LotId,
    wait: Duration,
    progress: &mut dyn Progress,
    stop: &CancellationToken,
) -> Result<Followed, SendError> {
    let begun = Instant::now();
    let deadline = begun + wait;
    let mut look = FIRST_LOOK;
    let mut seen = None;
    loop {
        let view = client.lot(lot).await?;
        if seen != Some((view.state, view.totals)) {
            seen = Some((view.state, view.totals));
            look = FIRST_LOOK;
            progress.step(&Step::arrival(&view))?;
        }
        let last = Instant::now() >= deadline || stop.is_cancelled();
        match view.state {
            LotState::Aborted | LotState::Recalled => {
                return done(view, Waiting::default(), progress);
            }
            LotState::Closed | LotState::Releasing if view.activate_at.is_some() => {
                let waiting = Waiting::default();
                tell_done(&view, &waiting, progress)?;
                return Ok(Followed { view, waiting, is_ahead: true });
            }
            // The tables that are asked are a moment behind the close that was confirmed.
            LotState::Open | LotState::Closed | LotState::Releasing if !last => {}
            LotState::Open | LotState::Closed | LotState::Releasing | LotState::Released => {
                if view.totals.settled() >= view.totals.pdvs && view.state == LotState::Released {
                    return done(view, Waiting::default(), progress);
                }
                let grace = begun.elapsed() < GRACE && !last;
                if !grace {
                    let waiting = waiting(client, lot, !last).await?;
                    if last || waiting.online == 0 {
                        return done(view, waiting, progress);
                    }
                }
            }
        }
        // Whatever ends the wait first is seen on the next round.
        let pause = timeout_at(deadline, async {
            tokio::select! {
                () = sleep(look) => {}
                () = stop.cancelled() => {}
            }
        });
        let _ = pause.await;
        look = (look * 3 / 2).min(LONGEST_LOOK);
    }
}

fn done(view: LotView, waiting: Waiting, progress: &mut dyn Progress) -> Result<Followed, SendError> {
    tell_done(&view, &waiting, progress)?;
    Ok(Followed { view, waiting, is_ahead: false })
}

fn tell_done(view: &LotView, waiting: &Waiting, progress: &mut dyn Progress) -> io::Result<()> {
    let totals = &view.totals;
    progress.step(&Step::Done {
        lot: &view.lot,
        settled: totals.settled(),
        pdvs: totals.pdvs,
        troubled: totals.failed + totals.applied_with_errors,
        waiting_online: waiting.online,
        waiting_offline: waiting.offline,
    })
}

/// Who does not have it. Whoever only asks whether to go on waiting needs to know of one till that is online.
async fn waiting(client: &Client, lot: LotId, one_is_enough: bool) -> Result<Waiting, ClientError> {
    let mut waiting = Waiting::default();
    for state in [ArrivalState::Failed, ArrivalState::Pending] {
        let mut query =
            ArrivalQuery { state: Some(state), limit: Some(PAGE_ROWS), ..ArrivalQuery::default() };
        loop {
            let page = client.arrival(lot, &query).await?;
            for row in page.rows {
                if row.online {
                    waiting.online += 1;
                } else {
                    waiting.offline += 1;
                }
                if waiting.named.len() < NAMED_MAX {
                    waiting.named.push(row);
                }
            }
            query.after = page.after;
            if one_is_enough && waiting.online > 0 {
                return Ok(waiting);
            }
            if query.after.is_none() {
                break;
            }
        }
    }
    Ok(waiting)
}
