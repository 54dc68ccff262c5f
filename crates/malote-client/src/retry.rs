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
        let Some(pause) = self.next_pause(self.waited(), named) else { return false };
        tokio::time::sleep(pause).await;
        true
    }

    fn next_pause(&mut self, waited: Duration, named: Option<Duration>) -> Option<Duration> {
        let pause = named.unwrap_or_default().max(jittered(self.pause));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        (waited + pause < self.patience).then_some(pause)
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

    #[test]
    fn pauses_grow_and_end_at_the_deadline() {
        let mut tries = Tries::new(Duration::from_secs(20));
        let mut waited = Duration::ZERO;
        let mut pauses = Vec::new();
        while let Some(pause) = tries.next_pause(waited, None) {
            waited += pause;
            pauses.push(pause);
        }
        for (n, pause) in pauses.iter().enumerate() {
            let most = (FIRST_PAUSE * 2_u32.pow(n.min(10).try_into().unwrap())).min(LONGEST_PAUSE);
            assert!((most / 2..=most).contains(pause), "pause {n}: {pause:?}");
        }
        assert!(waited > Duration::from_secs(16) && waited < Duration::from_secs(20), "{waited:?}");
    }

    #[test]
    fn a_pause_that_the_hub_names_is_kept() {
        let mut tries = Tries::new(Duration::from_secs(20));
        let named = Some(Duration::from_secs(7));
        assert_eq!(tries.next_pause(Duration::ZERO, named), named);
        assert_eq!(tries.next_pause(Duration::from_secs(13), named), None, "beyond the deadline");
    }

    #[test]
    fn no_patience_means_one_try() {
        assert_eq!(Tries::new(Duration::ZERO).next_pause(Duration::ZERO, None), None);
    }
}
