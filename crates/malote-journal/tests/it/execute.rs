//! A command comes to the same however often, and by however many, it is run.

use std::collections::BTreeSet;
use std::sync::Arc;

use malote_domain::lots::{self, AbortReason, Declared, Lot, Manifest, Mode, Terms};
use malote_domain::registry::{Name, Store, StoreCommand, StoreDetails, StoreEvent};
use malote_domain::{Ctx, Decider, Digest, Kind, Scope, StoreId};
use malote_journal::execute::load;
use malote_journal::wire::Wire;
use malote_journal::{AppendError, ExecuteError, Executed, Expected, Journal, execute};
use tokio::task::JoinSet;

use crate::fixture::{by_every_journal, ctx, unique};

by_every_journal!(
    a_command_run_again_comes_to_the_same,
    a_command_id_is_good_for_one_command,
    a_rejection_writes_nothing,
    several_events_of_a_command_stay_together,
    racing_commands_are_each_decided_once,
    a_lot_opened_by_many_is_opened_once,
    a_lot_is_closed_or_aborted_by_one,
);

fn store() -> StoreId {
    StoreId::parse(&unique("S")).unwrap()
}

pub fn details(name: &str) -> StoreDetails {
    StoreDetails {
        name: Name::parse(name).unwrap(),
        cnpj: None,
        zone: "America/Sao_Paulo".into(),
        groups: BTreeSet::new(),
    }
}

async fn register<J: Journal>(
    journal: &J,
    store: &StoreId,
    name: &str,
    ctx: &Ctx,
) -> Result<Executed<Store>, ExecuteError<<Store as Decider>::Rejection>> {
    execute::<Store, J>(journal, store, StoreCommand::Register(details(name)), ctx).await
}

/// The events of an entity with the commands that made them, from the journal itself.
async fn history<D: Wire>(journal: &impl Journal, id: &D::Id) -> Vec<(D::Event, malote_domain::CommandId)> {
    let stored = journal.load(D::STREAM, &D::filter(id)).await.unwrap();
    stored
        .iter()
        .map(|stored| {
            let (event, meta) = D::decode(stored).unwrap();
            assert_eq!(stored.id, Some(meta.id.to_string()));
            (event, meta.command)
        })
        .collect()
}

async fn a_command_run_again_comes_to_the_same<J: Journal>(journal: Arc<J>, _: &'static str) {
    let store = store();
    let (first, second) = (ctx(), ctx());
    let done = register(&*journal, &store, "Centro", &first).await.unwrap();
    assert_eq!(done.events, [StoreEvent::Registered(details("Centro"))]);
    let again = register(&*journal, &store, "Centro", &first).await.unwrap();
    assert_eq!((again.events, again.last), (done.events.clone(), done.last));

    let changed = register(&*journal, &store, "Norte", &second).await.unwrap();
    assert_eq!(changed.events, [StoreEvent::Changed(details("Norte"))]);
    // A late repeat of the first does not undo the second.
    let late = register(&*journal, &store, "Centro", &first).await.unwrap();
    assert_eq!((late.events, late.last), (done.events, changed.last));
    assert_eq!(late.state, Some(details("Norte")));
    assert_eq!(history::<Store>(&*journal, &store).await.len(), 2);
    // Said anew, by a command of its own, it does.
    let anew = register(&*journal, &store, "Centro", &ctx()).await.unwrap();
    assert_eq!(anew.state, Some(details("Centro")));
}

async fn a_command_id_is_good_for_one_command<J: Journal>(journal: Arc<J>, _: &'static str) {
    let (store, ctx) = (store(), ctx());
    register(&*journal, &store, "Centro", &ctx).await.unwrap();
    let result = register(&*journal, &store, "Norte", &ctx).await.map(|done| done.events);
    let refused = matches!(&result, Err(ExecuteError::Append(AppendError::Refused { reason, .. })) if reason.contains("another command"));
    assert!(refused, "{result:?}");
    assert_eq!(load::<Store, _>(&*journal, &store).await.unwrap().0, Some(details("Centro")));
}

async fn a_rejection_writes_nothing<J: Journal>(journal: Arc<J>, _: &'static str) {
    let ctx = ctx();
    let (lot, abort) = (ctx.command.lot(), lots::Command::Abort(AbortReason::LeaseExpired));
    let result = execute::<Lot, _>(&*journal, &lot, abort, &ctx).await.map(|done| done.events);
    assert!(matches!(result, Err(ExecuteError::Rejected(lots::Refused::Unknown))), "{result:?}");
    let (state, last) = load::<Lot, _>(&*journal, &lot).await.unwrap();
    assert_eq!((state, last), (lots::State::Absent, Expected::Empty));
}

fn terms() -> Terms {
    Terms {
        scope: Scope::All,
        kinds: BTreeSet::from([Kind::parse("price").unwrap()]),
        mode: Mode::Delta,
        strict: false,
        lease_seconds: 900,
        activate_at: None,
        as_of: None,
    }
}

fn close() -> lots::Command {
    let found = Manifest {
        chunks: 1,
        records: [(Kind::parse("price").unwrap(), 3)].into(),
        bytes: 100,
        digest: Some(Digest::of(b"chunks")),
    };
    lots::Command::Close { declared: Declared::default(), found }
}

async fn several_events_of_a_command_stay_together<J: Journal>(journal: Arc<J>, _: &'static str) {
    let open = ctx();
    let lot = open.command.lot();
    execute::<Lot, _>(&*journal, &lot, lots::Command::Open(terms()), &open).await.unwrap();
    execute::<Lot, _>(&*journal, &lot, close(), &ctx()).await.unwrap();
    // More stores than fit in one event: the release is two.
    let stores: Vec<_> =
        (0..=lots::WAVE_STORES_MAX).map(|n| StoreId::parse(&format!("{n}")).unwrap()).collect();
    let (release, run) = (lots::Command::Release { stores, last: true }, ctx());
    let done = execute::<Lot, _>(&*journal, &lot, release.clone(), &run).await.unwrap();
    assert_eq!(done.events.len(), 2);
    let again = execute::<Lot, _>(&*journal, &lot, release, &run).await.unwrap();
    assert_eq!((again.events, again.last), (done.events, done.last));
    assert_eq!(history::<Lot>(&*journal, &lot).await.len(), 4);
}

/// Runs a command as its sender would: again when others were quicker too often.
async fn insist<J: Journal>(journal: &J, store: &StoreId, name: &str, ctx: &Ctx) -> Executed<Store> {
    for _ in 0..20 {
        match register(journal, store, name, ctx).await {
            Err(ExecuteError::Contended) => {}
            other => return other.unwrap(),
        }
    }
    panic!("contended for ever");
}

async fn racing_commands_are_each_decided_once<J: Journal + 'static>(journal: Arc<J>, _: &'static str) {
    let store = store();
    let mut tasks = JoinSet::new();
    let commands: Vec<_> = (0..16).map(|n| (format!("Loja {n}"), ctx())).collect();
    // Each is run by two at once, as by a sender that gave up waiting and asked again.
    for (name, ctx) in commands.iter().chain(&commands).cloned() {
        let (journal, store) = (Arc::clone(&journal), store.clone());
        tasks.spawn(async move { (ctx.command, insist(&*journal, &store, &name, &ctx).await.events) });
    }
    let answers = tasks.join_all().await;
    let history = history::<Store>(&*journal, &store).await;
    assert_eq!(history.len(), commands.len());
    for (command, events) in answers {
        let made: Vec<_> =
            history.iter().filter(|(_, by)| *by == command).map(|(event, _)| event.clone()).collect();
        assert_eq!((made.len(), made), (1, events));
    }
    let firsts = history.iter().filter(|(event, _)| matches!(event, StoreEvent::Registered(_)));
    assert_eq!(firsts.count(), 1, "{history:?}");
}

async fn a_lot_opened_by_many_is_opened_once<J: Journal + 'static>(journal: Arc<J>, _: &'static str) {
    let ctx = ctx();
    let lot = ctx.command.lot();
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (journal, ctx) = (Arc::clone(&journal), ctx.clone());
        tasks.spawn(async move {
            execute::<Lot, _>(&*journal, &lot, lots::Command::Open(terms()), &ctx).await.unwrap().last
        });
    }
    let ends: BTreeSet<_> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(history::<Lot>(&*journal, &lot).await, [(lots::Event::Opened(terms()), ctx.command)]);
}

async fn a_lot_is_closed_or_aborted_by_one<J: Journal + 'static>(journal: Arc<J>, _: &'static str) {
    let open = ctx();
    let lot = open.command.lot();
    execute::<Lot, _>(&*journal, &lot, lots::Command::Open(terms()), &open).await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let journal = Arc::clone(&journal);
        let command = if n % 2 == 0 { close() } else { lots::Command::Abort(AbortReason::LeaseExpired) };
        tasks.spawn(async move { execute::<Lot, _>(&*journal, &lot, command, &ctx()).await });
    }
    let results = tasks.join_all().await;
    let history = history::<Lot>(&*journal, &lot).await;
    assert_eq!(history.len(), 2, "{history:?}");
    let closed = matches!(history[1].0, lots::Event::Closed(_));
    let made: usize =
        results.iter().filter_map(|result| result.as_ref().ok()).map(|done| done.events.len()).sum();
    assert_eq!(made, 1, "one command made the event");
    for result in results {
        match result {
            Ok(done) => assert!(!closed || !done.events.is_empty(), "a close by another is no close of ours"),
            Err(ExecuteError::Rejected(lots::Refused::Closed)) => assert!(closed),
            Err(ExecuteError::Rejected(lots::Refused::Aborted(_))) => assert!(!closed),
            Err(error) => panic!("{error:?}"),
        }
    }
}
