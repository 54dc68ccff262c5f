//! How often and how long to ask again.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// Pauses between the tries of one call: each twice the one before, up to a deadline.
#[derive(Debug)]
pub(crate) struct Tries {
    begun: Instant,
    patience: Duration,
    pause: Duration,
}

impl Tries {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { begun: Instant::now(), patience, pause: FIRST_PAUSE }
    }

    /// How long the call has been tried.
    pub(crate) fn waited(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits until the next try is due; `false` when it would be after the deadline. A hub that names a pause is
    /// given it.
    pub(crate) async fn again(&mut self, named: Option<Duration>) -> bool {
        let pause = named.unwrap_or_default().max(jittered(self.pause));
        if self.waited() + pause >= self.patience {
            return false;
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        tokio::time::sleep(pause).await;
        true
    }
}

/// Half to all of it, so that many clients do not come back at the same moment.
fn jittered(pause: Duration) -> Duration {
    let [random, ..] = Uuid::new_v4().into_bytes();
    pause / 2 + pause / 2 * u32::from(random) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end_at_the_deadline() {
        let mut tries = Tries::new(Duration::from_secs(20));
        let mut count = 0;
        while tries.again(None).await {
            count += 1;
        }
        // Five pauses up to three seconds, then one every 1.5 to 3 s.
        assert!((9..=18).contains(&count), "{count}");
        assert!(tries.waited() < Duration::from_secs(20));
        assert!(tries.waited() > Duration::from_secs(16));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_the_hub_names_is_kept() {
        let mut tries = Tries::new(Duration::from_secs(20));
        assert!(tries.again(Some(Duration::from_secs(7))).await);
        assert_eq!(tries.waited().as_secs(), 7);
        assert!(!tries.again(Some(Duration::from_secs(30))).await, "beyond the deadline");
    }

    #[tokio::test(start_paused = true)]
    async fn no_patience_means_one_try() {
        assert!(!Tries::new(Duration::ZERO).again(None).await);
    }
}
