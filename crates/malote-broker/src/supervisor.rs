//! Keeps one server running: starts it again when it dies or cannot write any more, and does what it is told.

use crate::{
    broker::{BrokerState, ControlError},
    config::STORE,
    monitor::{Depth, Health, Monitor},
    server::{Launch, Running},
};
use rustix::process::Signal;
use std::{path::Path, pin::pin, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

const HEALTH_EVERY: Duration = Duration::from_secs(2);
/// With less than this free, a restarted server would only fail to write again.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// The test of giving up need not take as long as giving up.
const BACKOFF_FIRST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 100 });
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// In a row: about 25 seconds of trying.
const RESTARTS_MAX: u32 = 8;
/// A server that ran this long did not die of its start.
const STEADY: Duration = Duration::from_secs(30);

/// What the broker's handle asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Kill it; it comes back by itself.
    Kill,
    /// Freeze it where it is.
    Pause,
    Resume,
    /// Stop it cleanly and keep it down.
    Suspend,
    /// Kill it and keep it down.
    Crash,
    StartAgain,
    /// Stop it cleanly, for good.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) order: Order,
    pub(crate) done: oneshot::Sender<Result<(), ControlError>>,
}

/// What the handle can see.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) state: BrokerState,
    pub(crate) restarts: u64,
}

pub(crate) struct Supervisor {
    pub(crate) launch: Launch,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) status: watch::Sender<Status>,
    /// Starts that ended badly, in a row.
    pub(crate) failures: u32,
}

enum Step {
    Up(Running),
    Restart {
        reason: String,
    },
    Down,
    /// Whoever asked for it hears when everything is let go.
    Over(Option<oneshot::Sender<Result<(), ControlError>>>),
}

impl Supervisor {
    /// Runs until told to stop; dropping the future kills the server.
    pub(crate) async fn run(mut self, running: Running) {
        let mut step = Step::Up(running);
        let asked = loop {
            step = match step {
                Step::Up(running) => self.up(running).await,
                Step::Restart { reason } => self.restart(reason).await,
                Step::Down => self.down().await,
                Step::Over(asked) => break asked,
            };
        };
        self.publish(BrokerState::Stopped);
        // The lock of the directory goes with it.
        drop(self);
        if let Some(asked) = asked {
            answer(asked, Ok(()));
        }
    }

    async fn up(&mut self, mut running: Running) -> Step {
        self.publish(BrokerState::Running { pid: running.pid() });
        let since = Instant::now();
        let mut fault = pin!(write_error(&self.launch.monitor, &self.launch.dir));
        let reason = loop {
            let command = tokio::select! {
                ending = running.ended() => break format!("it ended by itself ({ending})"),
                text = &mut fault => {
                    running.stop().await;
                    break format!("it cannot write to its streams: {text}");
                }
                command = self.commands.recv() => command,
            };
            let Some(Command { order, done }) = command else {
                running.stop().await;
                return Step::Over(None);
            };
            match order {
                Order::Pause => {
                    let sent = running.signal(Signal::STOP).map_err(ControlError::Signal);
                    running.frozen().await;
                    answer(done, sent);
                }
                Order::Resume => answer(done, running.signal(Signal::CONT).map_err(ControlError::Signal)),
                Order::StartAgain => answer(done, Ok(())),
                Order::Kill => {
                    running.kill().await;
                    let reason = "it was killed as told".to_owned();
                    self.publish(BrokerState::Restarting { reason: reason.clone() });
                    // Not a fault, so the restart neither waits nor counts.
                    self.failures = 0;
                    answer(done, Ok(()));
                    return Step::Restart { reason };
                }
                Order::Crash | Order::Suspend => {
                    if order == Order::Crash {
                        running.kill().await;
                    } else {
                        running.stop().await;
                    }
                    self.publish(BrokerState::Suspended);
                    answer(done, Ok(()));
                    return Step::Down;
                }
                Order::Stop => {
                    running.stop().await;
                    return Step::Over(Some(done));
                }
            }
        };
        self.failures = if since.elapsed() < STEADY { self.failures + 1 } else { 1 };
        Step::Restart { reason }
    }

    async fn restart(&mut self, reason: String) -> Step {
        let dir = self.launch.dir.display();
        if self.failures > RESTARTS_MAX {
            tracing::error!(%dir, reason, "nats-server failed {RESTARTS_MAX} times in a row and is left down");
            self.publish(BrokerState::Failed { reason });
            return Step::Down;
        }
        tracing::warn!(%dir, reason, failures = self.failures, "nats-server is started again");
        self.publish(BrokerState::Restarting { reason });
        let pause = backoff(self.failures);
        let mut starting = pin!(async {
            sleep(pause).await;
            self.launch.start().await
        });
        loop {
            let Command { order, done } = tokio::select! {
                started = &mut starting => match started {
                    Ok(running) => {
                        self.status.send_modify(|status| status.restarts += 1);
                        return Step::Up(running);
                    }
                    Err(error) => {
                        self.failures += 1;
                        return Step::Restart { reason: error.to_string() };
                    }
                },
                command = self.commands.recv() => match command {
                    Some(command) => command,
                    None => return Step::Over(None),
                },
            };
            match order {
                Order::StartAgain => answer(done, Ok(())),
                Order::Kill | Order::Pause | Order::Resume => answer(done, Err(ControlError::NotRunning)),
                Order::Stop => return Step::Over(Some(done)),
                Order::Suspend | Order::Crash => {
                    self.publish(BrokerState::Suspended);
                    answer(done, Ok(()));
                    return Step::Down;
                }
            }
        }
    }

    async fn down(&mut self) -> Step {
        while let Some(Command { order, done }) = self.commands.recv().await {
            match order {
                Order::StartAgain => {
                    let reason = "it was told to start again".to_owned();
                    self.failures = 0;
                    self.publish(BrokerState::Restarting { reason: reason.clone() });
                    answer(done, Ok(()));
                    return Step::Restart { reason };
                }
                Order::Suspend | Order::Crash => answer(done, Ok(())),
                Order::Kill | Order::Pause | Order::Resume => answer(done, Err(ControlError::NotRunning)),
                Order::Stop => return Step::Over(Some(done)),
            }
        }
        Step::Over(None)
    }

    fn publish(&self, state: BrokerState) {
        self.status.send_modify(|status| status.state = state);
    }
}

fn answer(done: oneshot::Sender<Result<(), ControlError>>, result: Result<(), ControlError>) {
    // Whoever asked may have stopped waiting.
    let _ = done.send(result);
}

fn backoff(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => BACKOFF_FIRST.saturating_mul(1 << doublings.min(20)).min(BACKOFF_MAX),
    }
}

/// Watches the server's health; returns its words once it cannot write any more and a restart would help.
async fn write_error(monitor: &Monitor, dir: &Path) -> String {
    let mut ticks = interval(HEALTH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        ticks.tick().await;
        let health = monitor.health(Depth::Everything).await;
        if !health.is_write_error() {
            continue;
        }
        let free = free_bytes(&dir.join(STORE));
        match health {
            Health::Unwell(text) if free >= FREE_BYTES_MIN => return text,
            Health::Unwell(text) if !told => {
                told = true;
                tracing::error!(dir = %dir.display(), free, text, "nats-server cannot write: free some disk space");
            }
            Health::Unwell(_) | Health::Silent(_) | Health::Well => {}
        }
    }
}

/// Where the system does not tell, a restart is tried.
fn free_bytes(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(u64::MAX, |system| system.f_bavail.saturating_mul(system.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound() {
        assert_eq!(backoff(0), Duration::ZERO);
        assert_eq!(
            (backoff(1), backoff(2), backoff(5)),
            (BACKOFF_FIRST, BACKOFF_FIRST * 2, BACKOFF_FIRST * 16)
        );
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
