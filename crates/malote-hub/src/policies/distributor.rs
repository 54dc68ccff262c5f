//! From a closed lot to one notice per target store.
//!
//! `Closed` → who is in the scope now → `Released{stores}` → one notice each, in each store's own stream. A store
//! that comes later is given what was released for its scopes before. Notices are the same however often they are
//! made, and tills take each lot in once, so a hub killed anywhere here only repeats itself.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::{TryStreamExt, stream};
use malote_domain::lots::{self, Activation, Command, Lot, Manifest, Mode, State, Terms};
use malote_domain::registry::{PdvAddress, StoreEvent};
use malote_domain::{
    Actor, CommandId, Ctx, Cursor, Digest, EventId, Fact, GroupId, Kind, LotId, Meta, Read, Recorded, Scope,
    StoreId, Timestamp,
};
use malote_journal::execute::load;
use malote_journal::notice::{self, LotNotice, Notice};
use malote_journal::{ExecuteError, Page, Reader, Wake, execute, subjects, wire};
use malote_projections::Projection;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::{clock, zones};

/// Name of the cursor.
const POLICY: &str = "distributor";
/// How often to look without being woken.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Notices on their way at once.
const NOTICES_IN_FLIGHT: usize = 64;
/// Lots read at once for a store that is new.
const SEED_LOTS: u32 = 500;

type Failure = Box<dyn Error + Send + Sync>;

/// Distributes until told to stop.
pub(crate) async fn run(app: Arc<App>, stop: CancellationToken) {
    let lots = Reader::new(app.journal.clone(), subjects::LOTS);
    let registry = Reader::new(app.journal.clone(), subjects::REGISTRY);
    let connection = app.journal.connection();
    let (Ok(mut lots_wake), Ok(mut registry_wake)) =
        (Wake::on(connection, "lots.>".into()).await, Wake::on(connection, "registry.>".into()).await)
    else {
        tracing::error!("lots cannot be listened to");
        return;
    };
    let mut streams = Streams::default();
    while !stop.is_cancelled() {
        if let Err(error) = step(&app, &registry, &lots, &mut streams).await {
            app.metrics.distributor_failures.inc();
            tracing::warn!(%error, "lots are not being distributed");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for (wake, stream) in [(&mut lots_wake, subjects::LOTS), (&mut registry_wake, subjects::REGISTRY)] {
            if let Ok(Some(cursor)) = app.db.policy_cursor(POLICY, stream).await {
                wake.reached(cursor.sequence);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = lots_wake.wait(LOOK_EVERY) => {}
            () = registry_wake.wait(LOOK_EVERY) => {}
            () = app.release_soon.notified() => {}
        }
    }
}

/// Stores whose stream is known to be there.
#[derive(Default)]
pub(crate) struct Streams {
    loaded: bool,
    stores: BTreeSet<StoreId>,
}

/// Acts on everything new in REGISTRY and LOTS.
async fn step(app: &App, registry: &Reader, lots: &Reader, streams: &mut Streams) -> Result<(), Failure> {
    if !streams.loaded {
        start(app, streams).await?;
        streams.loaded = true;
    }
    loop {
        // Stores first: a lot released now finds the streams of all stores known now.
        let stores = next(app, registry).await?;
        for read in &stores {
            if let Read::Fact(fact) = read {
                registered(app, fact, streams).await?;
            }
        }
        save(app, registry, stores.last()).await?;
        let released = next(app, lots).await?;
        for read in &released {
            if let Read::Fact(fact) = read
                && let Fact::Lot(lot, event) = &fact.event
            {
                happened(app, *lot, event, fact, &streams.stores).await?;
            }
        }
        save(app, lots, released.last()).await?;
        if stores.is_empty() && released.is_empty() {
            return Ok(());
        }
    }
}

/// What a hub that starts looks at: streams there should be, leases of open lots, lots that wait for their hour.
async fn start(app: &App, streams: &mut Streams) -> Result<(), Failure> {
    for store in app.db.stores_with_pdvs().await? {
        app.streams.of_store(&store).ensure(app.journal.connection()).await?;
        streams.stores.insert(store);
    }
    for lot in app.db.unfinished_lots().await? {
        let (state, _) = load::<Lot, _>(&app.journal, &lot).await?;
        match state {
            State::Open(terms) => {
                super::timers::schedule_lease(&app.journal, lot, terms.lease_seconds).await?;
            }
            State::Closed { complete: false, .. } => advance(app, lot).await?,
            State::Closed { .. } | State::Absent | State::Aborted(_) | State::Recalled => {}
        }
    }
    Ok(())
}

async fn next(app: &App, reader: &Reader) -> Result<Vec<Read>, Failure> {
    let cursor = app.db.policy_cursor(POLICY, reader.stream()).await?;
    match reader.after(cursor, 500).await? {
        Page::Messages(messages) => Ok(messages.iter().map(wire::read).collect()),
        Page::Truncated { last } => {
            app.health.truncated(reader.stream(), last);
            Err(format!("stream {} lost its tail; start the hub with --heal", reader.stream()).into())
        }
    }
}

async fn save(app: &App, reader: &Reader, last: Option<&Read>) -> Result<(), Failure> {
    if let Some(last) = last {
        app.db.set_policy_cursor(POLICY, reader.stream(), Some(last.cursor())).await?;
    }
    Ok(())
}

/// A lot's life goes on.
async fn happened(
    app: &App,
    lot: LotId,
    event: &lots::Event,
    fact: &Recorded<Fact>,
    streams: &BTreeSet<StoreId>,
) -> Result<(), Failure> {
    match event {
        lots::Event::Closed(_) => {
            app.sessions.leave(lot);
            advance(app, lot).await
        }
        lots::Event::Released { stores, .. } => {
            let (state, _) = load::<Lot, _>(&app.journal, &lot).await?;
            let Some((terms, manifest)) = closed(state) else {
                // Recalled after this wave: these stores were sent it all the same.
                return announce_recalled(app, lot, stores, fact, streams).await;
            };
            let there = stores.iter().filter(|store| streams.contains(*store));
            announce(app, &notice_of(lot, &terms, &manifest, fact.sequence), there, &fact.meta).await
        }
        // Whatever hub it was that ended the lot: what this one remembers of its filling is of no use any more.
        lots::Event::Aborted(_) | lots::Event::Recalled { .. } => {
            app.sessions.leave(lot);
            Ok(())
        }
        lots::Event::Opened(_) => Ok(()),
    }
}

fn closed(state: State) -> Option<(Terms, Manifest)> {
    match state {
        State::Closed { terms, manifest, .. } => Some((terms, manifest)),
        State::Absent | State::Open(_) | State::Aborted(_) | State::Recalled => None,
    }
}

/// The notices of a wave whose lot was recalled before they were all sent: the terms come from its history.
async fn announce_recalled(
    app: &App,
    lot: LotId,
    stores: &[StoreId],
    fact: &Recorded<Fact>,
    streams: &BTreeSet<StoreId>,
) -> Result<(), Failure> {
    use malote_journal::Journal;
    use malote_journal::wire::Wire;

    let mut state = State::default();
    for stored in app.journal.load(subjects::LOTS, &subjects::lot_any_scope(lot)).await? {
        let (event, meta) = Lot::decode(&stored)?;
        if let lots::Event::Recalled { .. } = event {
            break;
        }
        <Lot as malote_domain::Decider>::evolve(&mut state, &event, &meta);
    }
    let Some((terms, manifest)) = closed(state) else { return Ok(()) };
    let there = stores.iter().filter(|store| streams.contains(*store));
    announce(app, &notice_of(lot, &terms, &manifest, fact.sequence), there, &fact.meta).await
}

fn notice_of(lot: LotId, terms: &Terms, manifest: &Manifest, version: u64) -> LotNotice {
    LotNotice {
        lot,
        scope: terms.scope.clone(),
        mode: terms.mode,
        kinds: kinds_of(terms.mode, &terms.kinds, &manifest.records),
        chunks: manifest.chunks,
        records: manifest.records.values().sum(),
        bytes: manifest.bytes,
        digest: manifest.digest.unwrap_or_else(|| Digest::of(b"")),
        version: terms.as_of.unwrap_or(version),
        snapshot: terms.as_of.is_some(),
    }
}

/// What a notice names: the kinds that a full lot replaces, the kinds that a delta really holds.
fn kinds_of(mode: Mode, declared: &BTreeSet<Kind>, records: &BTreeMap<Kind, u64>) -> BTreeSet<Kind> {
    match mode {
        Mode::Full => declared.clone(),
        Mode::Delta => {
            records.iter().filter(|(_, count)| **count > 0).map(|(kind, _)| kind.clone()).collect()
        }
    }
}

/// Tells stores of a lot.
async fn announce<'a>(
    app: &App,
    notice: &LotNotice,
    stores: impl Iterator<Item = &'a StoreId>,
    cause: &Meta,
) -> Result<(), Failure> {
    let notice = Notice::Lot(notice.clone());
    let lot = match &notice {
        Notice::Lot(notice) => EventId::new(notice.lot.uuid()),
        Notice::Groups(_) => cause.id,
    };
    stream::iter(stores.cloned().map(Ok::<_, Failure>))
        .try_for_each_concurrent(NOTICES_IN_FLIGHT, |store| {
            let notice = &notice;
            async move { publish(app, &store, notice, notice::notice_id(&store, lot), cause).await }
        })
        .await
}

async fn publish(
    app: &App,
    store: &StoreId,
    notice: &Notice,
    id: EventId,
    cause: &Meta,
) -> Result<(), Failure> {
    let meta = Meta {
        id,
        occurred_at: clock::now(),
        actor: Actor::new("distributor"),
        command: CommandId::new(id.uuid()),
        causation: Some(cause.id),
        correlation: cause.correlation,
    };
    let entry = notice::encode(notice, &meta);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id.to_string());
    headers.insert("Malote-Type", entry.message_type);
    let subject = match notice {
        Notice::Lot(_) => subjects::lot_notice(store),
        Notice::Groups(_) => subjects::groups_notice(store),
    };
    app.journal.publish(&subject, headers, entry.payload).await?;
    app.metrics.notices.inc();
    Ok(())
}

/// Releases a closed lot to the stores whose hour has come, and sees to the others' hour.
pub(crate) async fn advance(app: &App, lot: LotId) -> Result<(), Failure> {
    let (state, last) = load::<Lot, _>(&app.journal, &lot).await?;
    let State::Closed { terms, complete: false, .. } = state else {
        return Ok(());
    };
    let members = app.db.members(&terms.scope).await?;
    let due = due(terms.activate_at.as_ref(), members, clock::now());
    let command = CommandId::new(lot.uuid()).follow_up(&format!("release {}", last.sequence()));
    let ctx = Ctx::new(clock::now(), Actor::new("distributor"), command);
    if let Some(next) = due.next {
        super::timers::schedule_activation(&app.journal, lot, next).await?;
    }
    if due.now.is_empty() && due.next.is_some() {
        return Ok(());
    }
    let release = Command::Release { stores: due.now, last: due.next.is_none() };
    match execute::<Lot, _>(&app.journal, &lot, release, &ctx).await {
        Ok(_) => Ok(()),
        // Recalled in the meantime.
        Err(ExecuteError::Rejected(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Who gets a lot now, and when to look again for the others.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    now: Vec<StoreId>,
    next: Option<Timestamp>,
}

fn due(activation: Option<&Activation>, members: Vec<(StoreId, String)>, now: Timestamp) -> Due {
    let hour = |zone: &str| match activation {
        None => now,
        Some(Activation::Instant(at)) => *at,
        // The hour and the zones were checked at the door; a zone that is gone since is not waited for.
        Some(Activation::Local(local)) => zones::instant(local, zone).unwrap_or(now),
    };
    let mut due = Due { now: vec![], next: None };
    for (store, zone) in members {
        let at = hour(&zone);
        if at <= now {
            due.now.push(store);
        } else {
            due.next = Some(due.next.map_or(at, |next| next.min(at)));
        }
    }
    if due.now.is_empty() && due.next.is_none() {
        // Nobody there yet: stores that come before the hour are looked for when it has come.
        due.next = Some(hour("UTC")).filter(|at| *at > now);
    }
    due
}

/// Something new of stores: a first till makes the store's stream, a new group brings its lots.
async fn registered(app: &App, fact: &Recorded<Fact>, streams: &mut Streams) -> Result<(), Failure> {
    match &fact.event {
        Fact::Pdv(PdvAddress { store, .. }, _) if !streams.stores.contains(store) => {
            app.streams.of_store(store).ensure(app.journal.connection()).await?;
            wait_for_registry(app, fact.cursor()).await?;
            let groups = groups_of(app, store).await?;
            let known = Notice::Groups(groups.clone());
            publish(app, store, &known, notice::notice_id(store, fact.meta.id), &fact.meta).await?;
            let mut scopes = vec![Scope::All, Scope::Store(store.clone())];
            scopes.extend(groups.into_iter().map(Scope::Group));
            seed(app, store, &scopes, &fact.meta).await?;
            streams.stores.insert(store.clone());
            tracing::info!(%store, "the store has a stream");
            Ok(())
        }
        Fact::Store(store, StoreEvent::Registered(details) | StoreEvent::Changed(details))
            if streams.stores.contains(store) =>
        {
            let known = Notice::Groups(details.groups.clone());
            publish(app, store, &known, notice::notice_id(store, fact.meta.id), &fact.meta).await?;
            let scopes: Vec<_> = details.groups.iter().cloned().map(Scope::Group).collect();
            seed(app, store, &scopes, &fact.meta).await
        }
        Fact::Pdv(..) | Fact::Store(..) | Fact::Group(..) | Fact::Lot(..) | Fact::Till(..) => Ok(()),
    }
}

async fn groups_of(app: &App, store: &StoreId) -> Result<BTreeSet<GroupId>, Failure> {
    let known = app.db.store(store).await?;
    let groups = known.map(|store| store.groups).unwrap_or_default();
    Ok(groups.iter().map(|group| GroupId::parse(group)).collect::<Result<_, _>>()?)
}

/// The tables about stores are read only once they hold this event.
async fn wait_for_registry(app: &App, cursor: Cursor) -> Result<(), Failure> {
    app.wait_for(Projection::Registry, subjects::REGISTRY, cursor.sequence).await?;
    Ok(())
}

/// Gives a store the lots that were released for some scopes before it was in them.
async fn seed(app: &App, store: &StoreId, scopes: &[Scope], cause: &Meta) -> Result<(), Failure> {
    // Lots that this policy has distributed without this store must be in the tables before they are read there.
    if let Some(cursor) = app.db.policy_cursor(POLICY, subjects::LOTS).await? {
        app.wait_for(Projection::Lots, subjects::LOTS, cursor.sequence).await?;
    }
    let mut after = None;
    loop {
        let lots = app.db.released_for(scopes, after, SEED_LOTS).await?;
        let Some(last) = lots.last() else { return Ok(()) };
        after = Some(last.version);
        let notices = lots.iter().map(seed_notice).collect::<Result<Vec<_>, Failure>>()?;
        stream::iter(notices.into_iter().map(Ok::<_, Failure>))
            .try_for_each_concurrent(NOTICES_IN_FLIGHT, |notice| async move {
                let id = notice::notice_id(store, EventId::new(notice.lot.uuid()));
                publish(app, store, &Notice::Lot(notice), id, cause).await
            })
            .await?;
    }
}

fn seed_notice(lot: &malote_projections::lots::ReleasedLot) -> Result<LotNotice, Failure> {
    let mode = if lot.mode == "full" { Mode::Full } else { Mode::Delta };
    let counts = lot.kinds.iter().map(|(kind, count)| Ok((Kind::parse(kind)?, *count)));
    let counts: BTreeMap<Kind, u64> = counts.collect::<Result<_, Failure>>()?;
    Ok(LotNotice {
        lot: LotId::parse(&lot.lot)?,
        scope: Scope::parse(&lot.scope)?,
        mode,
        kinds: kinds_of(mode, &counts.keys().cloned().collect(), &counts),
        chunks: u32::try_from(lot.chunks)?,
        records: lot.records,
        bytes: lot.bytes,
        digest: lot.digest.as_deref().and_then(Digest::parse).ok_or("a released lot without a digest")?,
        version: lot.as_of.unwrap_or(lot.version),
        snapshot: lot.as_of.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn members() -> Vec<(StoreId, String)> {
        [("1", "America/Sao_Paulo"), ("2", "America/Manaus")]
            .map(|(store, zone)| (StoreId::parse(store).unwrap(), zone.to_owned()))
            .to_vec()
    }

    fn names(due: &Due) -> Vec<&str> {
        due.now.iter().map(StoreId::as_str).collect()
    }

    #[test]
    fn without_an_hour_everybody_is_due() {
        let due = due(None, members(), at("2026-11-22T00:00:00Z"));
        assert_eq!((names(&due), due.next), (vec!["1", "2"], None));
    }

    #[test]
    fn an_instant_is_the_same_everywhere() {
        let hour = Activation::Instant(at("2026-11-25T09:00:00Z"));
        let before = due(Some(&hour), members(), at("2026-11-25T08:59:59Z"));
        assert_eq!((names(&before), before.next), (vec![], Some(at("2026-11-25T09:00:00Z"))));
        let after = due(Some(&hour), members(), at("2026-11-25T09:00:00Z"));
        assert_eq!((names(&after), after.next), (vec!["1", "2"], None));
    }

    #[test]
    fn a_local_hour_comes_zone_by_zone() {
        let hour = Activation::Local("2026-11-25T06:00:00".into());
        let first = due(Some(&hour), members(), at("2026-11-25T09:00:00Z"));
        assert_eq!((names(&first), first.next), (vec!["1"], Some(at("2026-11-25T10:00:00Z"))));
        let second = due(Some(&hour), members(), at("2026-11-25T10:00:00Z"));
        assert_eq!((names(&second), second.next), (vec!["1", "2"], None));
    }

    #[test]
    fn a_scope_without_stores_waits_for_its_hour_too() {
        let hour = Activation::Instant(at("2026-11-25T09:00:00Z"));
        let before = due(Some(&hour), vec![], at("2026-11-22T00:00:00Z"));
        assert_eq!(before.next, Some(at("2026-11-25T09:00:00Z")));
        let without = due(None, vec![], at("2026-11-22T00:00:00Z"));
        assert_eq!((without.now.len(), without.next), (0, None));
    }
}
