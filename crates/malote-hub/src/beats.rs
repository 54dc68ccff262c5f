//! Signs of life of tills: plain messages, kept in memory only, the newest of each till.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use malote_domain::registry::PdvAddress;
use malote_domain::{PdvId, StoreId, Timestamp};
use malote_journal::subjects;
use malote_journal::wire::{Beat, decode_beat};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock;

/// Most tills remembered: the largest chains have fewer.
const TILLS_MAX: usize = 200_000;
/// A till counts as online this long after its last sign.
pub(crate) const ONLINE_SECONDS: i64 = 60;

/// The newest sign of each till.
#[derive(Debug, Default)]
pub(crate) struct Beats(Mutex<BTreeMap<PdvAddress, (Timestamp, Beat)>>);

impl Beats {
    /// The newest sign of a till, and when the hub got it.
    pub(crate) fn of(&self, address: &PdvAddress) -> Option<(Timestamp, Beat)> {
        self.lock().get(address).cloned()
    }

    /// Tills that are online.
    pub(crate) fn online(&self, now: Timestamp) -> usize {
        self.lock().values().filter(|(at, _)| is_online(*at, now)).count()
    }

    fn note(&self, address: PdvAddress, beat: Beat) {
        let mut beats = self.lock();
        if beats.len() < TILLS_MAX || beats.contains_key(&address) {
            beats.insert(address, (clock::now(), beat));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PdvAddress, (Timestamp, Beat)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a till heard of at `at` counts as online.
pub(crate) fn is_online(at: Timestamp, now: Timestamp) -> bool {
    at.plus_seconds(ONLINE_SECONDS) > now
}

fn address(subject: &str) -> Option<PdvAddress> {
    let mut tokens = subject.split('.').skip(1);
    let store = StoreId::parse(tokens.next()?).ok()?;
    let pdv = PdvId::parse(tokens.next()?).ok()?;
    Some(PdvAddress { store, pdv })
}

/// Listens until told to stop.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let Ok(mut beats) = app.journal.connection().client().subscribe(subjects::BEATS).await else {
        tracing::error!("signs of life cannot be listened to");
        return;
    };
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = beats.next() => message,
        };
        let Some(message) = message else { return };
        if let (Some(address), Ok(beat)) = (address(&message.subject), decode_beat(&message.payload)) {
            app.beats.note(address, beat);
        }
    }
}
