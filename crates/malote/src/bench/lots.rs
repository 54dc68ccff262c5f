//! `malote bench lots`: a full lot from the back office's file to the tills, and one price.
//!
//! One run has these phases, each on a broker, a hub and tills of its own, freshly started: one till connected; all
//! tills connected; and with `--tenfold` one till again, for a lot ten times as large. Between them the floor is
//! measured, so that what else the machine did meanwhile shows in both. Times run from before the lot is opened, and
//! include reading the file; a till has applied the lot when its report of that is heard (see `reports`).

mod results;

use std::path::{Path, PathBuf};
use std::time::Duration;

use malote_client::{LotSender, NewLot};
use malote_domain::LotId;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::results::Results;
use super::floor::Order;
use super::input::Input;
use super::machine::{Machine, load};
use super::site::{Site, Used};
use super::{BenchError, floor};
use crate::output::Shell;

/// Longest wait for a lot to be everywhere; beyond that something is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(600);
/// Prices sent before the clock counts: caches and statements are warm in a shop that is open.
const WARM_UP: usize = 10;

/// What `bench lots` takes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Directory with a products.csv; without it, 92,331 products are made up
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Kinds of record to make of each product
    #[arg(long, value_delimiter = ',', default_value = "product")]
    kinds: Vec<String>,
    /// Tills connected in the second phase
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=200))]
    pdvs: u16,
    /// Lots of one price, one after the other
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How often each of the first two phases is run; the one of median time counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=50))]
    repeat: u16,
    /// Also send a lot ten times as large to one till
    #[arg(long)]
    tenfold: bool,
    /// Directory to work in, removed afterwards; a new one among the temporary files when absent
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The floor, measured once.
#[derive(Clone, Copy, Debug)]
struct Floor {
    as_sent: Duration,
    by_key: Duration,
}

/// What one phase measured.
#[derive(Clone, Debug)]
struct Phase {
    lot: Lot,
    /// Lots of one price.
    prices: Vec<Price>,
    /// At the end of the phase.
    used: Used,
    machine: Machine,
}

/// How one lot of one price went, from asking for its close.
#[derive(Clone, Copy, Debug)]
struct Price {
    /// The close was acknowledged.
    closed: Duration,
    /// All tills had applied it.
    applied: Duration,
    /// Of the slowest till: from its notice seen to all written, just before the commit.
    till_took: Duration,
}

/// How one large lot went; times from before it was opened.
#[derive(Clone, Copy, Debug)]
struct Lot {
    records: u64,
    /// The hub had all records.
    sent: Duration,
    /// The close was acknowledged.
    closed: Duration,
    first_applied: Duration,
    last_applied: Duration,
    /// Of the slowest till: from its notice seen to all written, just before the commit.
    till_took: Duration,
    /// The hub's own catalogue had it.
    tables: Duration,
    /// Bytes of the requests' bodies.
    body_bytes: u64,
    /// Bytes of the chunks in the stream.
    stored_bytes: u64,
    /// For this lot only, until the last till had it.
    used: Used,
}

/// Runs the bench.
pub(super) async fn run(args: &Args, shell: &mut Shell) -> Result<Results, BenchError> {
    let load_before = load();
    let made = match &args.dir {
        Some(dir) => std::fs::create_dir_all(dir).and_then(|()| tempfile::tempdir_in(dir)),
        None => tempfile::tempdir(),
    };
    let dir = || args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let work = made.map_err(|source| BenchError::Dir { dir: dir(), source })?;
    let input = Input::find(args.data.as_deref(), work.path(), &args.kinds)?;
    let rows = input.rows()?;
    let mut say = |what: String| shell.tell(what).map_err(BenchError::Write);
    let floor = async |number: usize| {
        let load = async |order| {
            let name = format!("floor-{number}-{order:?}.db");
            floor::load(work.path(), &name, &rows, order).await.map_err(BenchError::Floor)
        };
        Ok::<_, BenchError>(Floor { as_sent: load(Order::AsSent).await?, by_key: load(Order::ByKey).await? })
    };
    let rounds = usize::from(args.rounds);
    let mut floors = vec![floor(1).await?];
    let mut one = Vec::new();
    for number in 1..=args.repeat {
        say(format!("one till connected ({number} of {})", args.repeat))?;
        one.push(phase(work.path(), &input, 1, rounds).await?);
    }
    floors.push(floor(2).await?);
    let mut all = Vec::new();
    for number in 1..=args.repeat {
        say(format!("{} tills connected ({number} of {})", args.pdvs, args.repeat))?;
        all.push(phase(work.path(), &input, usize::from(args.pdvs), rounds.div_ceil(4)).await?);
    }
    floors.push(floor(3).await?);
    let mut tenfold = None;
    if args.tenfold {
        say("one till connected, a lot ten times as large".to_owned())?;
        let input = input.tenfold(work.path())?;
        tenfold = Some(phase(work.path(), &input, 1, 0).await?);
    }
    Ok(Results::new(args, &input, load_before, &floors, &one, &all, tenfold.as_ref()))
}

/// A phase in a task of its own: what waits in the program's main task is woken across threads, which costs time.
async fn phase(work: &Path, input: &Input, tills: usize, rounds: usize) -> Result<Phase, BenchError> {
    let (dir, input) = (work.join("site"), input.clone());
    AbortOnDropHandle::new(tokio::spawn(async move { measure(&dir, &input, tills, rounds).await })).await?
}

/// Starts everything afresh in `dir`, sends the lot, then prices one by one.
async fn measure(dir: &Path, input: &Input, tills: usize, rounds: usize) -> Result<Phase, BenchError> {
    let mut site = Site::start(dir, tills).await?;
    let lot = whole_catalogue(&mut site, input, tills).await?;
    let mut prices = Vec::with_capacity(rounds);
    let warm_up = if rounds == 0 { 0 } else { WARM_UP };
    for round in 0..warm_up + rounds {
        let took = one_price(&mut site, tills, round).await?;
        if round >= warm_up {
            prices.push(took);
        }
    }
    let (used, machine) = (site.used()?, Machine::look(site.monitor()).await?);
    site.end().await?;
    Ok(Phase { lot, prices, used, machine })
}

async fn whole_catalogue(site: &mut Site, input: &Input, tills: usize) -> Result<Lot, BenchError> {
    let before = site.used()?;
    let begun = Instant::now();
    let mut sender = site.client.send_lot(NewLot::full("all", input.kinds.clone())).await?;
    let id = sender.lot();
    let mut source = input.open()?;
    while let Some(lines) = Input::next(&mut source)? {
        sender.send(&lines).await?;
    }
    sender.flush().await?;
    let sent = begun.elapsed();
    let closed = sender.finish().await?;
    let closed_after = begun.elapsed();
    let applied = site.reports.applied(id, tills, PATIENCE).await?;
    let used = site.used()?.since(before);
    let records = closed.records.values().sum();
    if let Some(other) = applied.iter().find(|applied| applied.upserted != records) {
        return Err(BenchError::Records { sent: records, found: other.upserted });
    }
    let after = |applied: Option<&super::reports::Applied>| {
        applied.map_or(Duration::ZERO, |applied| applied.at.duration_since(begun))
    };
    let (first_applied, last_applied) = (after(applied.first()), after(applied.last()));
    in_tables(site, input, id).await?;
    Ok(Lot {
        records,
        sent,
        closed: closed_after,
        first_applied,
        last_applied,
        till_took: applied.iter().map(|applied| applied.took).max().unwrap_or_default(),
        tables: begun.elapsed(),
        body_bytes: sender.taken().body_bytes,
        stored_bytes: closed.bytes,
        used,
    })
}

/// Waits until the hub's own catalogue has the lot: the most memory it ever takes is told only then.
async fn in_tables(site: &Site, input: &Input, lot: LotId) -> Result<(), BenchError> {
    let (kind, key) = input.last_record()?;
    let deadline = Instant::now() + PATIENCE;
    let lot = lot.to_string();
    while Instant::now() < deadline {
        let trace = site.client.trace(&kind, &key, None, None).await?;
        if trace.sent.iter().any(|sent| sent.lot == lot) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(BenchError::Tables { seconds: PATIENCE.as_secs() })
}

/// One price, from asking for the close to the last till's having it.
async fn one_price(site: &mut Site, tills: usize, round: usize) -> Result<Price, BenchError> {
    let mut sender: LotSender = site.client.send_lot(NewLot::delta("all", ["price"])).await?;
    sender.upsert("price", "bench", &serde_json::json!({ "price_cents": 100 + round })).await?;
    sender.flush().await?;
    let id = sender.lot();
    let begun = Instant::now();
    sender.finish().await?;
    let closed = begun.elapsed();
    let applied = site.reports.applied(id, tills, PATIENCE).await?;
    Ok(Price {
        closed,
        applied: applied.last().map_or(Duration::ZERO, |applied| applied.at.duration_since(begun)),
        till_took: applied.iter().map(|applied| applied.took).max().unwrap_or_default(),
    })
}
