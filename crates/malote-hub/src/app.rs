//! The hub's parts, put together and taken apart again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use malote_journal::connection::Patience;
use malote_journal::streams::{StreamFile, Streams, StreamsError};
use malote_journal::{ConnectError, Connection, JetStream, Page, ReadError, Reader, subjects};
use malote_projections::{Db, DbError, OpenError, Projection};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::beats::{self, Beats};
use crate::heal::{self, HealError};
use crate::metrics::Metrics;
use crate::policies::{distributor, timers};
use crate::preflight::{self, PreflightError};
use crate::projector;
use crate::sessions::Sessions;
use crate::validate::{SchemaError, Schemas};
use crate::{clock, http};

/// How long a broker may take to answer about its streams when the hub starts.
const ENSURE_WITHIN: Duration = Duration::from_secs(20);

/// How a hub is set up. Every field is given: there are no hidden defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The broker: `nats://host:4222`, several separated by commas.
    pub nats: String,
    /// The broker's monitor; by custom its host, port 8222.
    pub monitor: Option<String>,
    /// The read models: `sqlite:/path/hub.db`.
    pub database: String,
    /// Where to serve HTTP. Loopback only, for there are no tokens yet.
    pub listen: SocketAddr,
    /// Stream files that replace the compiled-in ones of the same name.
    pub streams: Option<PathBuf>,
    /// Copies of each stream; none for what the files say.
    pub replicas: Option<u32>,
    /// Serve although the broker is not shown to keep what it acknowledges.
    pub allow_unsafe_broker: bool,
    /// Accept that streams have lost their tails: read them again from what is left.
    pub heal: bool,
    /// Limits.
    pub limits: Limits,
}

/// What the hub refuses to go beyond.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lots open at once.
    pub open_lots_max: u64,
    /// Bytes of one request of records.
    pub records_body_bytes_max: u64,
    /// Requests of records at once.
    pub fills_max: usize,
}

impl Limits {
    /// Limits for a hub of one retail network.
    pub const STANDARD: Self =
        Self { open_lots_max: 10_000, records_body_bytes_max: 4 * 1024 * 1024 * 1024, fills_max: 64 };
}

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address that others could reach.
    #[error("the hub has no tokens yet and serves loopback addresses only; {0} is not one")]
    NotLoopback(SocketAddr),
    /// No broker.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A broker not to be trusted.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Streams that are not as they should be.
    #[error(transparent)]
    Streams(#[from] StreamsError),
    /// A database that cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A stream cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The broker has lost events that this hub has seen.
    #[error(
        "stream {stream} ends at {now}, and this hub has seen it at {seen}: the broker lost events or is another one. Restore it, or start with --heal to go on with what is left"
    )]
    Behind {
        /// Which stream.
        stream: String,
        /// Its last sequence now.
        now: u64,
        /// The last one this hub has taken in.
        seen: u64,
    },
    /// The positions that were lost cannot be passed over.
    #[error(transparent)]
    Heal(#[from] HealError),
    /// The address is taken, or not ours.
    #[error("cannot listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A mistake of ours.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// Waiting for a read model took too long.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// It is behind.
    #[error("the {projection} tables have not caught up with position {sequence} yet; try again")]
    Behind { projection: Projection, sequence: u64 },
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What all parts of a hub share.
pub(crate) struct App {
    pub(crate) journal: JetStream,
    pub(crate) db: Db,
    pub(crate) streams: Streams,
    pub(crate) schemas: Schemas,
    pub(crate) sessions: Sessions,
    pub(crate) beats: Beats,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) limits: Limits,
    /// Bounds the requests of records at once.
    pub(crate) fills: tokio::sync::Semaphore,
    /// Wakes the distributor without a round trip through the broker.
    pub(crate) release_soon: Notify,
    /// Changes whenever a read model has moved.
    pub(crate) moved: watch::Sender<u64>,
}

/// What an operator must know.
#[derive(Debug, Default)]
pub(crate) struct Health {
    truncated: Mutex<BTreeMap<String, u64>>,
}

impl Health {
    /// Notes that a stream lost its tail.
    pub(crate) fn truncated(&self, stream: &str, last: u64) {
        let mut truncated = self.truncated.lock().unwrap_or_else(PoisonError::into_inner);
        if truncated.insert(stream.to_owned(), last).is_none() {
            tracing::error!(stream, last, "the stream lost its tail: the broker forgot what it acknowledged");
        }
    }

    /// Streams that have lost their tail, with their last sequence.
    pub(crate) fn truncations(&self) -> BTreeMap<String, u64> {
        self.truncated.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl App {
    /// Waits until a projection has taken in a position.
    pub(crate) async fn wait_for(
        &self,
        projection: Projection,
        stream: &str,
        sequence: u64,
    ) -> Result<(), WaitError> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let mut moved = self.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let cursor = self.db.cursor(projection, stream).await?;
            if cursor.is_some_and(|cursor| cursor.sequence >= sequence) {
                return Ok(());
            }
            let waited = tokio::time::timeout_at(deadline, async {
                tokio::select! {
                    _ = moved.changed() => {}
                    // Another hub may share the database and move it on.
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
            });
            if waited.await.is_err() {
                return Err(WaitError::Behind { projection, sequence });
            }
        }
    }
}

impl App {
    /// Waits until the tables of lots hold what the stream holds now, and tells how far that is.
    pub(crate) async fn lots_caught_up(&self) -> Result<u64, WaitError> {
        let reader = Reader::new(self.journal.clone(), subjects::LOTS);
        // A broker that does not answer now has nothing newer to wait for.
        let last = reader.last_sequence().await.unwrap_or(0);
        if last > 0 {
            self.wait_for(Projection::Lots, subjects::LOTS, last).await?;
        }
        Ok(last)
    }
}

/// A running hub. Dropping it is like killing it: whatever it was doing is left undone, and done by the next one.
pub struct Hub {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    app: Arc<App>,
}

impl Hub {
    /// Starts a hub: proves the broker, makes or verifies the streams, opens the read models, serves.
    ///
    /// # Errors
    /// When any of that cannot be done; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if !config.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(config.listen));
        }
        let connection = Connection::connect(&config.nats, "malote-hub", Patience::None).await?;
        let monitor = config.monitor.clone().unwrap_or_else(|| preflight::monitor_of(&config.nats));
        match preflight::check(&connection, &monitor).await {
            Ok(()) => {}
            Err(error) if config.allow_unsafe_broker => {
                tracing::error!(%error, "serving all the same, as told: acknowledged sales may be lost in a power cut");
            }
            Err(error) => return Err(error.into()),
        }
        let streams = Streams::load(config.streams.as_deref(), config.replicas)?;
        for stream in streams.fixed() {
            ensure(stream, &connection).await?;
        }
        let journal = JetStream::new(connection);
        let db = Db::open(&config.database).await?;
        check_heads(&db, &journal, config.heal).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let address =
            listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
        let app = Arc::new(App {
            journal,
            db,
            streams,
            schemas: Schemas::compile()?,
            sessions: Sessions::default(),
            beats: Beats::default(),
            metrics: Metrics::new(),
            health: Health::default(),
            limits: config.limits,
            fills: tokio::sync::Semaphore::new(config.limits.fills_max),
            release_soon: Notify::new(),
            moved: watch::Sender::new(0),
        });
        let mut hub = Self { address, stop: CancellationToken::new(), tasks: JoinSet::new(), app };
        hub.run(listener);
        tracing::info!(%address, "hub ready");
        Ok(hub)
    }

    fn run(&mut self, listener: TcpListener) {
        let (app, stop) = (&self.app, &self.stop);
        for feed in projector::FEEDS {
            self.tasks.spawn(projector::run(Arc::clone(app), feed, stop.clone()));
        }
        self.tasks.spawn(distributor::run(Arc::clone(app), stop.clone()));
        self.tasks.spawn(timers::run(Arc::clone(app), stop.clone()));
        self.tasks.spawn(beats::run(Arc::clone(app), stop.clone()));
        self.tasks.spawn(gauges(Arc::clone(app), stop.clone()));
        self.tasks.spawn(http::serve(listener, Arc::clone(app), stop.clone()));
    }

    /// Where it serves HTTP.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: finishes what it is doing, then closes its database and connection.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(10), ended).await.is_err() {
            tracing::warn!("some work did not end in time; it is done again at the next start");
        }
        self.app.db.close().await;
        self.app.journal.connection().close().await;
        tracing::info!("hub stopped");
    }
}

/// Makes or verifies a stream; a cluster that has just come up may need a moment to answer.
async fn ensure(stream: &StreamFile, connection: &Connection) -> Result<(), StreamsError> {
    let deadline = tokio::time::Instant::now() + ENSURE_WITHIN;
    loop {
        match stream.ensure(connection).await {
            Err(error @ StreamsError::Request { .. }) if tokio::time::Instant::now() < deadline => {
                tracing::info!(%error, "the broker is not ready; asking again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            done => return done,
        }
    }
}

/// Refuses to go on behind a broker that has forgotten, or accepts what is left when told to.
async fn check_heads(db: &Db, journal: &JetStream, heal: bool) -> Result<(), StartError> {
    let mut behind = Vec::new();
    for stream in projector::streams() {
        let Some(head) = db.head(stream).await? else { continue };
        let reader = Reader::new(journal.clone(), stream);
        if let Page::Truncated { last } = reader.after(Some(head), 1).await? {
            behind.push((stream, last, head.sequence));
        }
    }
    let Some((stream, now, seen)) = behind.first().copied() else { return Ok(()) };
    if !heal {
        return Err(StartError::Behind { stream: stream.to_owned(), now, seen });
    }
    for (stream, now, seen) in behind {
        tracing::error!(
            stream,
            now,
            seen,
            "the stream lost its tail; its tables are made again from what is left"
        );
        if stream == subjects::LOTS {
            heal::pass_over(journal, seen.saturating_sub(now)).await?;
        }
        for (projection, feed, _) in projector::FEEDS.iter().filter(|(_, feed, _)| *feed == stream) {
            db.rewind(*projection, feed, None).await?;
        }
        db.forget_policy_cursors(stream).await?;
    }
    db.forget_heads().await?;
    Ok(())
}

/// Keeps the gauges true.
async fn gauges(app: Arc<App>, stop: CancellationToken) {
    loop {
        if let Ok(open) = app.db.open_lots(0).await {
            app.metrics.open_lots.set(i64::try_from(open.count).unwrap_or(i64::MAX));
        }
        if let Ok(parked) = app.db.parked_count().await {
            app.metrics.parked.set(i64::try_from(parked).unwrap_or(i64::MAX));
        }
        app.metrics.pdvs_online.set(i64::try_from(app.beats.online(clock::now())).unwrap_or(i64::MAX));
        app.metrics.broker_online.set(i64::from(app.journal.connection().is_online()));
        for (projection, stream, _) in projector::FEEDS {
            let last = Reader::new(app.journal.clone(), stream).last_sequence().await;
            let cursor = app.db.cursor(projection, stream).await;
            if let (Ok(last), Ok(cursor)) = (last, cursor) {
                let lag = last.saturating_sub(cursor.map_or(0, |cursor| cursor.sequence));
                let label = vec![
                    ("projection".to_owned(), projection.name().to_owned()),
                    ("stream".to_owned(), stream.to_owned()),
                ];
                app.metrics.lag.get_or_create(&label).set(i64::try_from(lag).unwrap_or(i64::MAX));
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(2)) => {}
        }
    }
}
