//! What happens in the demo, step by step, and what must be so after each.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use malote_client::source::{Source, SourceOptions};
use malote_client::{NewLot, PlaceState, Taken, Totals};
use malote_domain::{LotId, StoreId};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::DemoError;
use super::chain::{Chain, GROUP};
use super::expected::Expected;
use super::summary::{Step, Summary};
use crate::output::Shell;
use crate::table::counted;

const KINDS: [&str; 2] = ["product", "price"];
const BLOCK_BYTES: usize = 1024 * 1024;
/// Every so many prices change while a store is offline.
const CHANGED_EVERY: usize = 40;
/// Records of the lot with bad ones, and every how many of them one is bad.
const MIXED: usize = 1_000;
const BAD_EVERY: usize = 100;
const REFUSALS_SHOWN: usize = 3;
/// Tills that are asked for all they have at the same time.
const CHECKED_AT_ONCE: usize = 4;
/// Longest wait for the hub's tables.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The demo while it is going on.
struct Story<'a> {
    chain: &'a mut Chain,
    shell: &'a mut Shell,
    expected: Expected,
    summary: Summary,
    /// Keys of all products, in order.
    keys: Vec<String>,
}

/// Plays all steps.
pub(super) async fn tell(chain: &mut Chain, shell: &mut Shell) -> Result<Summary, DemoError> {
    let begun = Instant::now();
    let summary = Summary::new(chain.stores.len(), chain.tills.len());
    let mut story = Story { chain, shell, expected: Expected::default(), summary, keys: vec![] };
    story.open().await?;
    story.whole_catalogue().await?;
    story.offline().await?;
    story.own_prices().await?;
    story.bad_records().await?;
    story.last_look().await?;
    let mut summary = story.summary;
    summary.end(begun.elapsed());
    Ok(summary)
}

impl Story<'_> {
    async fn open(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        for till in &mut self.chain.tills {
            till.start().await?;
        }
        for till in &self.chain.tills {
            till.registered().await?;
        }
        let tills = counted(self.chain.tills.len() as u64, "till");
        self.done(Step::new(format!("{tills} of {} stores open", self.chain.stores.len()), begun))
    }

    async fn whole_catalogue(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        let kinds = KINDS.map(ToOwned::to_owned);
        let options = SourceOptions { kinds: kinds.to_vec(), ..SourceOptions::default() };
        let mut source = Source::open(&self.chain.products, options)?;
        let mut sender = self.chain.client.send_lot(NewLot::full("all", kinds)).await?;
        while let Some(block) = source.next_block(BLOCK_BYTES)? {
            self.expected.send("all", &block.bytes)?;
            sender.send(&block.bytes).await?;
        }
        let lot = sender.lot();
        let closed = sender.finish().await?;
        self.keys = self.expected.keys("price");
        if self.keys.len() < BAD_EVERY {
            return Err(DemoError::TooFew { found: self.keys.len() });
        }
        self.applied(lot, None).await?;
        let mut step = Step::new("a full lot: every product and price, to every store", begun);
        step.records = closed.records.values().sum();
        step.note(format!(
            "{} chunks, {} bytes a record on the way to a till",
            closed.chunks,
            closed.bytes / step.records.max(1)
        ));
        self.check(&mut step, &KINDS, None).await?;
        self.done(step)
    }

    async fn offline(&mut self) -> Result<(), DemoError> {
        let away = self.chain.offline_store();
        for till in self.chain.tills.iter_mut().filter(|till| till.store == away) {
            till.stop().await;
        }
        let begun = Instant::now();
        let keys = self.keys.iter().step_by(CHANGED_EVERY);
        let lines = lines(keys.enumerate().map(|(n, key)| price(n, key, 1_990 + n % 500)));
        let (lot, taken) = self.send(NewLot::delta("all", ["price"]), &lines).await?;
        self.expected.send("all", &lines)?;
        self.applied(lot, Some(&away)).await?;
        let tills = self.chain.tills.len() as u64;
        let missing = self.chain.tills_of(&away).count() as u64;
        let there = |totals: &Totals| totals.applied == tills - missing;
        let totals =
            self.hub_says(lot, "tills that have the lot, says the hub", tills - missing, there).await?;
        equal("tills that the hub says the lot is pending at", missing, totals.pending)?;
        let mut step = Step::new(format!("new prices while store {away} is offline"), begun);
        step.records = taken.accepted;
        step.note(format!("{} of {tills} tills have them; the hub says who has not", tills - missing));
        self.check(&mut step, &["price"], Some(&away)).await?;
        self.done(step)?;

        let begun = Instant::now();
        for till in self.chain.tills.iter_mut().filter(|till| till.store == away) {
            till.start().await?;
        }
        self.applied(lot, None).await?;
        self.hub_says(lot, "tills that have the lot, says the hub", tills, |totals| totals.applied == tills)
            .await?;
        let mut step = Step::new(format!("store {away} comes back and catches up by itself"), begun);
        self.check(&mut step, &["price"], None).await?;
        self.done(step)
    }

    async fn own_prices(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        let own = self.chain.own_prices_store();
        let (group, store) = (format!("group-{GROUP}"), format!("store-{own}"));
        let product = self.keys[self.keys.len() / 2].clone();
        // For everybody last: a wider scope never covers a narrower one, however late it comes.
        for (scope, cents) in [(&group, 890), (&store, 790), (&"all".to_owned(), 990)] {
            let lines = lines([price(0, &product, cents)].into_iter());
            let (lot, taken) = self.send(NewLot::delta(scope, ["price"]), &lines).await?;
            equal("records taken", 1, taken.accepted)?;
            self.expected.send(scope, &lines)?;
            for till in self.chain.tills.iter().filter(|till| till.scopes.contains(scope)) {
                till.applied(lot).await?;
            }
        }
        let mut step =
            Step::new(format!("a price for group {GROUP}, one for store {own}, one for all"), begun);
        step.records = 3;
        let mut seen = Vec::new();
        for till in &self.chain.tills {
            let record = till.record("price", &product).await?;
            let cents = serde_json::from_str::<Value>(record.body.get())?["price_cents"].clone();
            let scope = till.scopes.iter().rev().find(|scope| **scope == store || **scope == group);
            let (must, from) = match scope {
                Some(scope) if *scope == store => (790, scope.as_str()),
                Some(scope) => (890, scope.as_str()),
                None => (990, "all"),
            };
            equal("price of a product with several", json!(must), cents)?;
            equal("scope of that price", from, record.scope.as_str())?;
            seen.push(format!("{} {must}", till.store));
        }
        seen.dedup();
        step.note(format!("product {product} costs, by store: {}", seen.join(", ")));
        self.trace(&product, &own).await?;
        self.check(&mut step, &["price"], None).await?;
        self.done(step)
    }

    /// The hub knows where the record is, and whose price counts there.
    async fn trace(&self, product: &str, own: &StoreId) -> Result<(), DemoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let trace = self.chain.client.trace("price", product, None, None).await?;
            let there = trace.places.iter().filter(|place| place.state == PlaceState::Applied).count();
            if there == self.chain.tills.len() {
                let scope = |store: &StoreId| {
                    let place = trace.places.iter().find(|place| place.store == store.as_str());
                    place.and_then(|place| place.scope.clone()).unwrap_or_default()
                };
                return equal("scope that counts, says the hub", format!("store-{own}"), scope(own));
            }
            if Instant::now() >= deadline {
                return equal("tills that have the record, says the hub", self.chain.tills.len(), there);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn bad_records(&mut self) -> Result<(), DemoError> {
        let begun = Instant::now();
        let keys: Vec<_> = self.keys.iter().take(MIXED).cloned().collect();
        let is_bad = |n: usize| n % BAD_EVERY == BAD_EVERY / 2;
        let line = |n: usize, key: &String| {
            if is_bad(n) { bad(n, key) } else { price(n, key, 2_990 + n % 700) }
        };
        let all = lines(keys.iter().enumerate().map(|(n, key)| line(n, key)));
        let good = lines(keys.iter().enumerate().filter(|(n, _)| !is_bad(*n)).map(|(n, key)| line(n, key)));
        let bad = (0..keys.len()).filter(|n| is_bad(*n)).count() as u64;
        let (lot, taken) = self.send(NewLot::delta("all", ["price"]), &all).await?;
        equal("records refused", bad, taken.refused)?;
        equal("refusals named", bad, taken.refusals.len() as u64)?;
        equal("records taken", keys.len() as u64 - bad, taken.accepted)?;
        self.expected.send("all", &good)?;
        self.applied(lot, None).await?;
        let mut step = Step::new("a lot with bad records: those refused by name, the others applied", begun);
        (step.records, step.refused) = (taken.accepted, taken.refused);
        for refusal in taken.refusals.iter().take(REFUSALS_SHOWN) {
            let key = refusal.key.as_deref().unwrap_or("?");
            step.note(format!("refused line {}, key '{key}': {}", refusal.line, refusal.reason));
        }
        self.check(&mut step, &["price"], None).await?;
        self.done(step)
    }

    async fn last_look(&mut self) -> Result<(), DemoError> {
        let mut step = Step::new("a last look at everything", Instant::now());
        self.check(&mut step, &KINDS, None).await?;
        step.note(
            "every till shows exactly what was sent to it, and as many records as any other".to_owned(),
        );
        self.done(step)
    }

    async fn send(&self, lot: NewLot, lines: &[u8]) -> Result<(LotId, Taken), DemoError> {
        let mut sender = self.chain.client.send_lot(lot).await?;
        sender.send(lines).await?;
        sender.finish().await?;
        Ok((sender.lot(), sender.taken().clone()))
    }

    /// Waits until each till has applied a lot, but for those of a store that is away.
    async fn applied(&self, lot: LotId, away: Option<&StoreId>) -> Result<(), DemoError> {
        for till in self.chain.tills.iter().filter(|till| Some(&till.store) != away) {
            till.applied(lot).await?;
        }
        Ok(())
    }

    /// Waits until the hub's own tables say so.
    async fn hub_says(
        &self,
        lot: LotId,
        what: &'static str,
        expected: u64,
        so: impl Fn(&Totals) -> bool,
    ) -> Result<Totals, DemoError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let totals = self.chain.client.lot(lot).await?.totals;
            if so(&totals) {
                return Ok(totals);
            }
            if Instant::now() >= deadline {
                equal(what, expected, totals.applied)?;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks each till for all records of these kinds; the step has ended when that begins.
    async fn check(&self, step: &mut Step, kinds: &[&str], away: Option<&StoreId>) -> Result<(), DemoError> {
        step.took();
        let begun = Instant::now();
        for kind in kinds {
            let tills = self.chain.tills.iter().filter(|till| Some(&till.store) != away);
            let checks = tills.map(|till| till.check(&self.expected, kind));
            let counts: Vec<u64> = stream::iter(checks).buffered(CHECKED_AT_ONCE).try_collect().await?;
            equal("records at each till", self.keys.len() as u64, counts.iter().copied().min().unwrap_or(0))?;
            equal("records at each till", self.keys.len() as u64, counts.iter().copied().max().unwrap_or(0))?;
            step.checked += counts.iter().sum::<u64>();
        }
        step.check_took(begun.elapsed());
        Ok(())
    }

    fn done(&mut self, mut step: Step) -> Result<(), DemoError> {
        step.took();
        for line in step.lines(self.summary.steps.len() + 1) {
            self.shell.tell(line)?;
        }
        self.summary.steps.push(step);
        Ok(())
    }
}

fn equal<T: PartialEq + ToString>(what: &'static str, expected: T, found: T) -> Result<(), DemoError> {
    if expected == found {
        return Ok(());
    }
    Err(DemoError::Wrong { what, expected: expected.to_string(), found: found.to_string() })
}

fn lines(records: impl Iterator<Item = String>) -> Vec<u8> {
    records.flat_map(|record| (record + "\n").into_bytes()).collect()
}

fn price(n: usize, key: &str, cents: usize) -> String {
    json!({ "line": n + 1, "kind": "price", "key": key, "body": { "price_cents": cents } }).to_string()
}

/// Each in another way: what back offices really send.
fn bad(n: usize, key: &str) -> String {
    let body = match n / BAD_EVERY % 4 {
        0 => json!({ "price_cents": -1 }),
        1 => json!({ "price_cents": "12,99" }),
        2 => json!({ "cents": 1_299 }),
        _ => json!({ "price_cents": 1_299, "valid_from": "31/12/2026" }),
    };
    json!({ "line": n + 1, "kind": "price", "key": key, "body": body }).to_string()
}
