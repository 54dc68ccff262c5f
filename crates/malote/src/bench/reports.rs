//! When tills have applied a lot: what they say themselves, heard over the broker.
//!
//! A till reports a lot only after it has committed it, and a large one only after it has folded its log back into
//! its database; the report is read from its outbox and published, and reaches us as a plain message. So each time
//! taken here is later than the commit by that way, never earlier, and nobody is asked anything while measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use malote_domain::registry::PdvAddress;
use malote_domain::{LotId, PdvId, StoreId, pdvs};
use malote_journal::connection::Patience;
use malote_journal::wire::{decode_beat, decode_report};
use malote_journal::{ConnectError, Connection, subjects};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// Reports of every till.
const REPORTS: &str = "pdvs.*.*";
/// More than is ever heard between two looks.
const QUEUE: usize = 4_096;

/// Why it is not known what tills did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportsError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection cannot be listened on.
    #[error("the reports of tills cannot be listened to: {0}")]
    Subscribe(String),
    /// Tills said nothing.
    #[error("{missing} of {expected} tills have not {what} within {} s{failed}", within.as_secs())]
    Silent {
        /// How many.
        missing: usize,
        /// Of how many.
        expected: usize,
        /// What they should have done.
        what: &'static str,
        /// In what time.
        within: Duration,
        /// What one of them said of a failure, if one did.
        failed: String,
    },
}

/// That a till has applied a lot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applied {
    /// When that was heard.
    pub(super) at: Instant,
    /// Records that it took.
    pub(super) upserted: u64,
    /// From its notice seen to all written, just before the commit, by the till's own clock.
    pub(super) took: Duration,
}

/// Something that a till said.
#[derive(Debug)]
enum Said {
    Beat { notice: u64 },
    Applied { lot: LotId, applied: Applied },
    Failed { lot: LotId, reason: String },
}

/// Listens from its start on.
#[derive(Debug)]
pub(super) struct Reports {
    heard: mpsc::Receiver<(PdvAddress, Said)>,
    connection: Connection,
    _listening: AbortOnDropHandle<()>,
}

impl Reports {
    /// Begins to listen at the broker.
    pub(super) async fn listen(broker: &str) -> Result<Self, ReportsError> {
        let connection = Connection::connect(broker, "malote bench", Patience::None).await?;
        let failed = |error: &dyn std::error::Error| ReportsError::Subscribe(error.to_string());
        let client = connection.client();
        let mut beats = client.subscribe(subjects::BEATS).await.map_err(|error| failed(&error))?;
        let mut reports = client.subscribe(REPORTS).await.map_err(|error| failed(&error))?;
        client.flush().await.map_err(|error| failed(&error))?;
        let (saying, heard) = mpsc::channel(QUEUE);
        let listening = tokio::spawn(async move {
            loop {
                let (message, read): (_, fn(&bytes::Bytes) -> Option<Said>) = tokio::select! {
                    message = reports.next() => (message, report),
                    message = beats.next() => (message, beat),
                };
                let Some(message) = message else { return };
                if let (Some(address), Some(said)) = (address(&message.subject), read(&message.payload))
                    && saying.send((address, said)).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { heard, connection, _listening: AbortOnDropHandle::new(listening) })
    }

    /// The connection to the broker.
    pub(super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Waits until each till is connected and has taken in the first notice of its store.
    pub(super) async fn connected(&mut self, tills: usize, within: Duration) -> Result<(), ReportsError> {
        let deadline = Instant::now() + within;
        let mut ready = BTreeSet::new();
        while ready.len() < tills {
            match timeout_at(deadline, self.heard.recv()).await {
                Ok(Some((address, Said::Beat { notice }))) if notice > 0 => drop(ready.insert(address)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let missing = tills - ready.len();
                    let (what, failed) = ("connected", String::new());
                    return Err(ReportsError::Silent { missing, expected: tills, what, within, failed });
                }
            }
        }
        Ok(())
    }

    /// Waits until each till has applied a lot; in the order in which that was heard.
    pub(super) async fn applied(
        &mut self,
        wanted: LotId,
        tills: usize,
        within: Duration,
    ) -> Result<Vec<Applied>, ReportsError> {
        let deadline = Instant::now() + within;
        let mut done: BTreeMap<PdvAddress, Applied> = BTreeMap::new();
        let mut failed = String::new();
        while done.len() < tills {
            match timeout_at(deadline, self.heard.recv()).await {
                Ok(Some((address, Said::Applied { lot, applied }))) if lot == wanted => {
                    done.entry(address).or_insert(applied);
                }
                Ok(Some((address, Said::Failed { lot, reason }))) if lot == wanted => {
                    failed = format!("; till {} of store {} says: {reason}", address.pdv, address.store);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let missing = tills - done.len();
                    let what = "applied the lot";
                    return Err(ReportsError::Silent { missing, expected: tills, what, within, failed });
                }
            }
        }
        let mut done: Vec<_> = done.into_values().collect();
        done.sort_by_key(|applied| applied.at);
        Ok(done)
    }
}

fn report(payload: &bytes::Bytes) -> Option<Said> {
    let at = Instant::now();
    match decode_report(payload).ok()?.0 {
        pdvs::Event::LotApplied { lot, upserted, took_ms, .. } => {
            let took = Duration::from_millis(took_ms);
            Some(Said::Applied { lot, applied: Applied { at, upserted, took } })
        }
        pdvs::Event::LotFailed { lot, reason, .. } => Some(Said::Failed { lot, reason }),
        pdvs::Event::LotSuperseded { .. } => None,
    }
}

fn beat(payload: &bytes::Bytes) -> Option<Said> {
    Some(Said::Beat { notice: decode_beat(payload).ok()?.notice })
}

fn address(subject: &str) -> Option<PdvAddress> {
    let mut tokens = subject.split('.').skip(1);
    let store = StoreId::parse(tokens.next()?).ok()?;
    let pdv = PdvId::parse(tokens.next()?).ok()?;
    Some(PdvAddress { store, pdv })
}
