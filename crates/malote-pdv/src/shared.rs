//! What the agent's tasks have in common.

use malote_domain::Timestamp;
use malote_domain::registry::PdvAddress;
use malote_journal::wire::Download;
use malote_journal::{Connection, JetStream, subjects};
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::store::{Store, StoreError, now};

/// This agent's version.
pub(crate) const AGENT: &str = env!("CARGO_PKG_VERSION");

/// The database, the connection, and what each task tells the others.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) journal: JetStream,
    pub(crate) activity: watch::Sender<Activity>,
    /// There are reports to send.
    pub(crate) reports: Notify,
}

/// What goes on now. What must outlive the process is in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Whether the broker is there, and since when that is so.
    pub(crate) online: bool,
    pub(crate) since: Timestamp,
    /// Whether the store has a stream; unknown until looked.
    pub(crate) registered: Option<bool>,
    /// Whether all notices had been read when last looked.
    pub(crate) at_head: bool,
    /// The lot on its way down.
    pub(crate) download: Option<Download>,
    /// Lots applied since the start.
    pub(crate) applied: u64,
    /// What the replica stumbled over last.
    pub(crate) trouble: Option<String>,
    /// Another till reports under this one's name.
    pub(crate) identity_conflict: bool,
}

/// How the agent is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The store.
    pub store: String,
    /// The till.
    pub pdv: String,
    /// The agent's version.
    pub version: &'static str,
    /// Whether the broker is there.
    pub online: bool,
    /// Since when that is so.
    pub since: String,
    /// Whether the hub has a stream for this store; unknown until looked.
    pub registered: Option<bool>,
    /// Sequence of the last notice read.
    pub cursor: u64,
    /// Sequence up to which notices are done.
    pub done: u64,
    /// Notices read and not done; unknown while there may be others to read.
    pub notices_behind: Option<u64>,
    /// Lots that wait.
    pub lots_waiting: u64,
    /// Lots that failed and are tried again.
    pub lots_failed: u64,
    /// The lot on its way down.
    pub downloading: Option<Downloading>,
    /// The last lot applied.
    pub last_applied: Option<String>,
    /// When.
    pub last_applied_at: Option<String>,
    /// Lots applied since the start of the agent.
    pub applied_since_start: u64,
    /// Reports that the hub does not have yet.
    pub outbox_unsent: u64,
    /// Records set aside.
    pub quarantined: u64,
    /// Notices passed over because this version cannot read them.
    pub unread: u64,
    /// How often the store's stream was found cut. Anything but 0 means that the broker lost messages.
    pub truncations: u64,
    /// When that was last.
    pub truncated_at: Option<String>,
    /// Another till reports under this one's name; nothing is reported until that ends.
    pub identity_conflict: bool,
    /// What the replica stumbled over last; gone once it goes on.
    pub trouble: Option<String>,
}

/// A lot on its way down.
#[derive(Clone, Debug, Serialize)]
pub struct Downloading {
    /// The lot.
    pub lot: String,
    /// Chunks that are here.
    pub chunks_done: u32,
    /// Chunks in all.
    pub chunks: u32,
}

impl Shared {
    pub(crate) fn new(store: Store, connection: Connection) -> Self {
        let activity = Activity {
            online: false,
            since: now(),
            registered: None,
            at_head: false,
            download: None,
            applied: 0,
            trouble: None,
            identity_conflict: false,
        };
        Self {
            store,
            journal: JetStream::new(connection),
            activity: watch::Sender::new(activity),
            reports: Notify::new(),
        }
    }

    pub(crate) const fn connection(&self) -> &Connection {
        self.journal.connection()
    }

    pub(crate) const fn address(&self) -> &PdvAddress {
        self.store.address()
    }

    /// Name of the store's stream.
    pub(crate) fn stream(&self) -> String {
        subjects::store_stream(&self.address().store)
    }

    pub(crate) async fn status(&self) -> Result<Status, StoreError> {
        let stream = self.stream();
        let counts = self.store.counts().await?;
        let cursor = self.store.cursor(&stream).await?.map_or(0, |cursor| cursor.sequence);
        let done = self.store.position(&stream).await?;
        let activity = self.activity.borrow().clone();
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let at = |micros: i64| Timestamp::from_micros(micros).to_string();
        Ok(Status {
            store: self.address().store.to_string(),
            pdv: self.address().pdv.to_string(),
            version: AGENT,
            online: activity.online,
            since: activity.since.to_string(),
            registered: activity.registered,
            cursor,
            done,
            notices_behind: (activity.online && activity.at_head).then(|| cursor.saturating_sub(done)),
            lots_waiting: number(counts.waiting),
            lots_failed: number(counts.failed),
            downloading: activity.download.map(|download| Downloading {
                lot: download.lot.to_string(),
                chunks_done: download.chunks_done,
                chunks: download.chunks,
            }),
            last_applied: counts.last_applied,
            last_applied_at: counts.last_applied_at.map(at),
            applied_since_start: activity.applied,
            outbox_unsent: number(counts.unsent),
            quarantined: number(counts.quarantined),
            unread: number(counts.unread),
            truncations: number(counts.truncations),
            truncated_at: counts.truncated_at.map(at),
            identity_conflict: activity.identity_conflict,
            trouble: activity.trouble,
        })
    }
}

/// An error and what lies under it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
