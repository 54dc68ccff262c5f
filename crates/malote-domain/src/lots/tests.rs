use super::*;
use crate::Actor;

fn ctx(key: &str) -> Ctx {
    Ctx::new(Timestamp::from_micros(1_000_000), Actor::new("test"), CommandId::from_key(key).unwrap())
}

fn kind(text: &str) -> Kind {
    Kind::parse(text).unwrap()
}

fn store(text: &str) -> StoreId {
    StoreId::parse(text).unwrap()
}

fn terms() -> Terms {
    Terms {
        scope: Scope::All,
        kinds: BTreeSet::from([kind("product"), kind("price")]),
        mode: Mode::Delta,
        strict: false,
        lease_seconds: 900,
        activate_at: None,
        as_of: None,
    }
}

fn full() -> Terms {
    Terms { mode: Mode::Full, ..terms() }
}

fn manifest(products: u64, prices: u64) -> Manifest {
    let mut records = BTreeMap::new();
    if products > 0 {
        records.insert(kind("product"), products);
    }
    if prices > 0 {
        records.insert(kind("price"), prices);
    }
    Manifest { chunks: 2, records, bytes: 10, digest: Some(Digest::of(b"lot")) }
}

fn counts(list: &[(&str, u64)]) -> Declared {
    Declared { records: Some(list.iter().map(|(k, n)| (kind(k), *n)).collect()), ..Declared::default() }
}

struct Given(State);

fn given(events: &[Event]) -> Given {
    let mut state = State::default();
    for event in events {
        Lot::evolve(&mut state, event, &ctx("closer").meta(0));
    }
    Given(state)
}

impl Given {
    #[track_caller]
    fn emits(&self, command: Command, events: &[Event]) {
        assert_eq!(Lot::decide(&self.0, command, &ctx("now")), Ok(events.to_vec()));
    }

    #[track_caller]
    fn refuses(&self, command: Command, why: &Refused) {
        assert_eq!(Lot::decide(&self.0, command, &ctx("now")).as_ref(), Err(why));
    }
}

fn close(declared: Declared, found: Manifest) -> Command {
    Command::Close { declared, found }
}

fn owner() -> AbortReason {
    AbortReason::Owner("wrong file".into())
}

fn opened() -> Event {
    Event::Opened(terms())
}

fn closed() -> Event {
    Event::Closed(manifest(3, 2))
}

fn released(stores: &[&str], last: bool) -> Event {
    Event::Released { stores: stores.iter().map(|s| store(s)).collect(), last }
}

fn release(stores: &[&str], last: bool) -> Command {
    Command::Release { stores: stores.iter().map(|s| store(s)).collect(), last }
}

fn recall() -> Command {
    Command::Recall { reason: "wrong prices".into() }
}

#[test]
fn opening_opens() {
    given(&[]).emits(Command::Open(terms()), &[opened()]);
}

#[test]
fn opening_twice_adds_nothing() {
    given(&[opened()]).emits(Command::Open(terms()), &[]);
    given(&[opened(), closed()]).emits(Command::Open(terms()), &[]);
}

#[test]
fn opening_again_with_other_terms_is_refused() {
    given(&[opened()]).refuses(Command::Open(full()), &Refused::OpenedDifferently);
}

#[test]
fn a_lot_declares_its_kinds_and_a_lease_in_range() {
    given(&[]).refuses(Command::Open(Terms { kinds: BTreeSet::new(), ..terms() }), &Refused::Kinds);
    let many = (0..=KINDS_MAX).map(|n| kind(&format!("k{n}"))).collect();
    given(&[]).refuses(Command::Open(Terms { kinds: many, ..terms() }), &Refused::Kinds);
    for lease_seconds in [0, 4, 7 * 24 * 3600 + 1] {
        given(&[]).refuses(Command::Open(Terms { lease_seconds, ..terms() }), &Refused::Lease);
    }
}

#[test]
fn activation_is_within_a_year() {
    let far = Activation::Instant(Timestamp::from_micros(1_000_000).plus_seconds(ACTIVATION_SECONDS_MAX + 1));
    given(&[]).refuses(Command::Open(Terms { activate_at: Some(far), ..terms() }), &Refused::Activation);
}

#[test]
fn closing_records_what_was_found() {
    given(&[opened()]).emits(close(Declared::default(), manifest(3, 2)), &[closed()]);
    given(&[opened()]).emits(close(counts(&[("product", 3), ("price", 2)]), manifest(3, 2)), &[closed()]);
}

#[test]
fn closing_twice_by_the_same_command_adds_nothing() {
    let state = given(&[opened(), closed()]).0;
    let again = Lot::decide(&state, close(Declared::default(), Manifest::default()), &ctx("closer"));
    assert_eq!(again, Ok(vec![]));
}

#[test]
fn closing_an_empty_unknown_closed_or_aborted_lot_is_refused() {
    let command = || close(Declared::default(), manifest(3, 2));
    given(&[opened()]).refuses(close(Declared::default(), Manifest::default()), &Refused::Empty);
    given(&[]).refuses(command(), &Refused::Unknown);
    given(&[opened(), closed()]).refuses(command(), &Refused::Closed);
    given(&[opened(), Event::Aborted(owner())]).refuses(command(), &Refused::Aborted(owner()));
}

#[test]
fn closing_with_other_counts_is_refused_with_what_differs() {
    let differs = |k: &str, declared, found| Refused::Records { kind: kind(k), declared, found };
    given(&[opened()])
        .refuses(close(counts(&[("product", 4), ("price", 2)]), manifest(3, 2)), &differs("product", 4, 3));
    given(&[opened()]).refuses(close(counts(&[("product", 3)]), manifest(3, 2)), &differs("price", 0, 2));
    given(&[opened()]).refuses(
        close(Declared { chunks: Some(3), ..Declared::default() }, manifest(3, 2)),
        &Refused::Chunks { declared: 3, found: 2 },
    );
}

#[test]
fn closing_with_another_digest_is_refused() {
    let declared = Digest::of(b"other");
    given(&[opened()]).refuses(
        close(Declared { digest: Some(declared), ..Declared::default() }, manifest(3, 2)),
        &Refused::DigestDiffers { declared, found: Digest::of(b"lot") },
    );
}

#[test]
fn closing_with_an_undeclared_kind_is_refused() {
    let only_prices = Terms { kinds: BTreeSet::from([kind("price")]), ..terms() };
    given(&[Event::Opened(only_prices)])
        .refuses(close(Declared::default(), manifest(3, 2)), &Refused::KindNotDeclared(kind("product")));
}

#[test]
fn a_full_lot_does_not_wipe_a_kind_by_accident() {
    given(&[Event::Opened(full())])
        .refuses(close(Declared::default(), manifest(3, 0)), &Refused::WouldWipe(kind("price")));
    given(&[Event::Opened(full())]).emits(
        close(counts(&[("product", 3), ("price", 0)]), manifest(3, 0)),
        &[Event::Closed(manifest(3, 0))],
    );
}

#[test]
fn aborting_gives_up_an_open_lot_only() {
    given(&[opened()]).emits(Command::Abort(owner()), &[Event::Aborted(owner())]);
    given(&[opened(), Event::Aborted(AbortReason::LeaseExpired)]).emits(Command::Abort(owner()), &[]);
    given(&[opened(), closed()]).refuses(Command::Abort(owner()), &Refused::Closed);
    given(&[]).refuses(Command::Abort(owner()), &Refused::Unknown);
}

#[test]
fn an_expired_lease_leaves_a_closed_lot_alone() {
    given(&[opened(), closed()]).refuses(Command::Abort(AbortReason::LeaseExpired), &Refused::Closed);
}

#[test]
fn releasing_names_each_store_once() {
    given(&[opened(), closed()]).emits(release(&["1", "2"], true), &[released(&["1", "2"], true)]);
    given(&[opened(), closed(), released(&["1"], false)])
        .emits(release(&["1", "2"], true), &[released(&["2"], true)]);
    given(&[opened(), closed(), released(&["1", "2"], true)]).emits(release(&["1", "2", "3"], true), &[]);
    given(&[opened(), closed()]).emits(release(&[], true), &[released(&[], true)]);
}

#[test]
fn a_large_audience_goes_in_waves_that_fit_a_message() {
    let names: Vec<String> = (0..WAVE_STORES_MAX + 1).map(|n| n.to_string()).collect();
    let stores: Vec<_> = names.iter().map(String::as_str).collect();
    let state = given(&[opened(), closed()]).0;
    let events = Lot::decide(&state, release(&stores, true), &ctx("now")).unwrap();
    let sizes: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::Released { stores, last } => (stores.len(), *last),
            Event::Opened(_) | Event::Closed(_) | Event::Aborted(_) | Event::Recalled { .. } => {
                panic!("{event:?}")
            }
        })
        .collect();
    assert_eq!(sizes, [(WAVE_STORES_MAX, false), (1, true)]);
}

#[test]
fn only_a_closed_lot_is_released() {
    given(&[]).refuses(release(&["1"], true), &Refused::Unknown);
    given(&[opened()]).refuses(release(&["1"], true), &Refused::Open);
    given(&[opened(), Event::Aborted(owner())]).refuses(release(&["1"], true), &Refused::Aborted(owner()));
    given(&[opened(), closed(), Event::Recalled { reason: "x".into() }])
        .refuses(release(&["1"], true), &Refused::Recalled);
}

#[test]
fn recalling_works_until_the_last_wave() {
    let recalled = Event::Recalled { reason: "wrong prices".into() };
    given(&[opened(), closed()]).emits(recall(), std::slice::from_ref(&recalled));
    given(&[opened(), closed(), released(&["1"], false)]).emits(recall(), std::slice::from_ref(&recalled));
    given(&[opened(), closed(), recalled]).emits(recall(), &[]);
    given(&[opened(), closed(), released(&["1"], true)]).refuses(recall(), &Refused::Released);
    given(&[opened()]).refuses(recall(), &Refused::Open);
    given(&[]).refuses(recall(), &Refused::Unknown);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn any_command() -> impl Strategy<Value = Command> {
        prop_oneof![
            Just(Command::Open(terms())),
            Just(Command::Open(full())),
            (0..3_u64, 0..3_u64).prop_map(|(a, b)| close(Declared::default(), manifest(a, b))),
            Just(Command::Abort(owner())),
            Just(Command::Abort(AbortReason::LeaseExpired)),
            (proptest::collection::btree_set("[1-4]", 0..4), any::<bool>()).prop_map(|(names, last)| {
                Command::Release { stores: names.iter().map(|s| store(s)).collect(), last }
            }),
            Just(recall()),
        ]
    }

    proptest! {
        /// Whatever is asked in whatever order: a lot closes at most once, nothing follows an abort, no store is
        /// released twice, nothing is released after a recall or before a close, and the replayed state is the live one.
        #[test]
        fn no_order_of_commands_breaks_a_lots_life(commands in proptest::collection::vec(any_command(), 0..24)) {
            let mut state = State::default();
            let mut log = Vec::new();
            for (n, command) in commands.into_iter().enumerate() {
                let ctx = ctx(&format!("c{n}"));
                if let Ok(events) = Lot::decide(&state, command, &ctx) {
                    for (index, event) in events.into_iter().enumerate() {
                        Lot::evolve(&mut state, &event, &ctx.meta(index));
                        log.push((event, ctx.meta(index)));
                    }
                }
            }
            let mut replayed = State::default();
            for (event, meta) in &log {
                Lot::evolve(&mut replayed, event, meta);
            }
            prop_assert_eq!(replayed, state);

            let at = |wanted: fn(&Event) -> bool| log.iter().position(|(event, _)| wanted(event));
            let closes = log.iter().filter(|(event, _)| matches!(event, Event::Closed(_))).count();
            prop_assert!(closes <= 1);
            if let Some(aborted) = at(|event| matches!(event, Event::Aborted(_))) {
                prop_assert_eq!(aborted, log.len() - 1);
            }
            if let Some(recalled) = at(|event| matches!(event, Event::Recalled { .. })) {
                prop_assert_eq!(recalled, log.len() - 1);
            }
            let mut seen = BTreeSet::new();
            for (n, (event, _)) in log.iter().enumerate() {
                if let Event::Released { stores, .. } = event {
                    prop_assert!(at(|event| matches!(event, Event::Closed(_))).is_some_and(|closed| closed < n));
                    for store in stores {
                        prop_assert!(seen.insert(store.clone()), "{} released twice", store);
                    }
                }
            }
        }
    }
}
