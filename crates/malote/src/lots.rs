//! `malote lot`: send lots of records, and see what became of them.

mod console;
pub(crate) mod follow;
pub(crate) mod send;
mod status;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use malote_client::source::{Op, SourceOptions};
use malote_client::{ClientError, Declared, Kind, LotId, LotState, Mode, NewLot, Refusal, Scope};
use serde_json::json;

use crate::cli::{Global, duration};
use crate::error::{Exit, Failure};
use crate::output::Shell;
use crate::trace::{self, TraceArgs};
use console::Console;
use follow::{Followed, follow};
use send::{FileToSend, SendError, SentFile, send_file, write_refused};

const TILLS_NAMED: usize = 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send a CSV or NDJSON file as one lot, and follow it to the tills
    Send(Box<SendArgs>),
    /// List lots, the newest first
    Ls {
        /// Only those in this state: open, closed, releasing, released, aborted or recalled
        #[arg(long, value_parser = lot_state)]
        state: Option<LotState>,
        /// Only those for this scope
        #[arg(long)]
        scope: Option<Scope>,
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show a lot and what became of it at each till
    Status(status::StatusArgs),
    /// Close an open lot when it holds what you say
    Close {
        /// The lot
        lot: LotId,
        /// Records of a kind that must be in it, as price=100; may be repeated, for all kinds of the lot
        #[arg(long = "records", value_name = "KIND=N", value_parser = kind_count)]
        records: Vec<(String, u64)>,
        /// Chunks that must be in it
        #[arg(long)]
        chunks: Option<u32>,
        /// The digest that it must have
        #[arg(long)]
        digest: Option<String>,
    },
    /// Give an open lot up: no till sees anything of it
    Abort {
        /// The lot
        lot: LotId,
        /// Why
        #[arg(long, default_value = "aborted on the command line")]
        reason: String,
    },
    /// Take a closed lot back from the stores that do not have it yet
    Recall {
        /// The lot
        lot: LotId,
        /// Why
        #[arg(long, default_value = "recalled on the command line")]
        reason: String,
    },
    /// Make one lot of all that a scope holds now, so that new tills need no older ones
    Snapshot {
        /// What to make it of: all, group-<group> or store-<store>
        #[arg(long, default_value = "all")]
        scope: Scope,
        /// Only these kinds
        #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
        kinds: Vec<Kind>,
    },
    /// Where one record is, and why not where it is not
    Trace(TraceArgs),
}

/// What `malote lot send` takes.
#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    /// The file: .csv, or .ndjson with one object a line
    file: PathBuf,
    /// The kinds of record that each row holds, such as product or product,price
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',', required = true)]
    kinds: Vec<Kind>,
    /// Whom it is for: all, group-<group> or store-<store>
    #[arg(long, default_value = "all")]
    scope: Scope,
    /// delta: add, change and delete; full: afterwards the scope holds exactly this file's records of these kinds
    #[arg(long, value_enum, default_value_t = ModeArg::Delta)]
    mode: ModeArg,
    /// Take all records or, when one is refused, none
    #[arg(long)]
    strict: bool,
    /// Leave out records that are what was sent last time
    #[arg(long)]
    changed_only: bool,
    /// When tills get it: 2026-11-25T06:00:00-03:00, or without an offset an hour of each store's own clock
    #[arg(long, value_name = "TIME")]
    activate_at: Option<String>,
    /// How long the hub waits for a sign of this sender before it gives the lot up
    #[arg(long, value_name = "TIME", value_parser = duration)]
    lease: Option<Duration>,
    /// Delete the records of all rows that do not say otherwise
    #[arg(long)]
    delete: bool,
    /// The column that carries the key
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// What separates the columns [default: found from the header]
    #[arg(long, value_name = "C", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Write the records that were refused to this CSV file
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
    /// How long to wait for the tills that are online
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60s")]
    wait: Duration,
    /// Do not wait for any till
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Delta,
    Full,
}

fn lot_state(text: &str) -> Result<LotState, String> {
    LotState::parse(text).ok_or_else(|| {
        let words: Vec<&str> = LotState::ALL.iter().map(|state| state.as_str()).collect();
        format!("a lot is {}", words.join(", "))
    })
}

fn kind_count(text: &str) -> Result<(String, u64), String> {
    let wrong = || format!("'{text}' is not KIND=N, such as price=100");
    let (kind, count) = text.split_once('=').ok_or_else(wrong)?;
    let kind = Kind::parse(kind).map_err(|error| error.to_string())?;
    Ok((kind.to_string(), count.parse().map_err(|_| wrong())?))
}

fn delimiter(text: &str) -> Result<u8, String> {
    match (text, text.as_bytes()) {
        ("\\t" | "tab", _) => Ok(b'\t'),
        (_, [one]) => Ok(*one),
        _ => Err(format!("'{text}' is not one character, such as ';' or \\t")),
    }
}

pub(crate) async fn run(command: Command, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    match command {
        Command::Send(args) => run_send(&args, global, shell).await,
        Command::Ls { state, scope, limit } => {
            status::list(state, scope.as_ref(), limit, global, shell).await
        }
        Command::Status(args) => status::status(&args, global, shell).await,
        Command::Close { lot, records, chunks, digest } => {
            let records: BTreeMap<String, u64> = records.into_iter().collect();
            let records = Some(records).filter(|records| !records.is_empty());
            let closed = global.client()?.close_lot(lot, &Declared { chunks, records, digest }).await?;
            if global.json {
                shell.json(&closed)?;
            } else {
                shell.tell(format!("lot {lot} is closed"))?;
            }
            Ok(Exit::Fine)
        }
        Command::Abort { lot, reason } => {
            global.client()?.abort_lot(lot, &reason).await?;
            ended(lot, "aborted", global.json, shell)
        }
        Command::Recall { lot, reason } => {
            global.client()?.recall_lot(lot, &reason).await?;
            ended(lot, "recalled", global.json, shell)
        }
        Command::Snapshot { scope, kinds } => {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            let lot = global.client()?.snapshot(&scope.to_string(), &kinds).await?;
            if global.json {
                shell.json(&json!({ "lot": lot.to_string(), "state": "closed" }))?;
            } else {
                shell.data(lot.to_string())?;
            }
            Ok(Exit::Fine)
        }
        Command::Trace(args) => trace::run(&args, global, shell).await,
    }
}

fn ended(lot: LotId, state: &str, json: bool, shell: &mut Shell) -> Result<Exit, Failure> {
    if json {
        shell.json(&json!({ "lot": lot.to_string(), "state": state }))?;
    } else {
        shell.tell(format!("lot {lot} is {state}"))?;
    }
    Ok(Exit::Fine)
}

impl SendArgs {
    fn file(&self) -> Result<FileToSend, Failure> {
        if self.changed_only && matches!(self.mode, ModeArg::Full) {
            return Err(Failure::usage(
                "--changed-only cannot go with --mode full: a full lot takes away from the tills what it does not hold",
            ));
        }
        let kinds: Vec<String> = self.kinds.iter().map(ToString::to_string).collect();
        let lease_seconds = self.lease.map(|lease| u32::try_from(lease.as_secs()).unwrap_or(u32::MAX));
        Ok(FileToSend {
            path: self.file.clone(),
            source: SourceOptions {
                kinds: kinds.clone(),
                key: self.key.clone(),
                delimiter: self.delimiter,
                op: if self.delete { Op::Delete } else { Op::Upsert },
            },
            lot: NewLot {
                scope: self.scope.to_string(),
                kinds,
                mode: match self.mode {
                    ModeArg::Delta => Mode::Delta,
                    ModeArg::Full => Mode::Full,
                },
                strict: self.strict,
                lease_seconds,
                activate_at: self.activate_at.clone(),
            },
            changed_only: self.changed_only,
        })
    }
}

async fn run_send(args: &SendArgs, global: &Global, shell: &mut Shell) -> Result<Exit, Failure> {
    let client = global.client()?;
    let file = args.file()?;
    let stop = shell.stop().clone();
    let mut console = Console::new(shell, global.json, file.path.display().to_string());
    let sent = send_file(&client, &file, &mut console, &stop).await;
    if let Some(path) = &args.refused {
        write_refused(path, refusals(&sent)).map_err(|error| {
            Failure::usage(format!("the refused records cannot be written to {}: {error}", path.display()))
        })?;
    }
    if let (Err(SendError::Client(_)), false) = (&sent, global.json) {
        console.refusals(refusals(&sent))?;
    }
    let sent = sent?;
    let refused = if sent.taken.refused > 0 { Exit::Failed } else { Exit::Fine };
    if sent.closed.is_none() {
        return Ok(refused);
    }
    if !global.json {
        console.shell().data(sent.lot.to_string())?;
    }
    if args.no_wait {
        return Ok(refused);
    }
    let followed = follow(&client, sent.lot, args.wait, &mut console, &stop).await?;
    if !global.json {
        say_followed(&followed, console.shell())?;
    }
    let arrived = if stop.is_cancelled() { Exit::Interrupted } else { arrived(&followed) };
    Ok(if arrived == Exit::Fine { refused } else { arrived })
}

/// The records that were refused, as far as they are named.
fn refusals(sent: &Result<SentFile, SendError>) -> &[Refusal] {
    match sent {
        Ok(sent) => &sent.taken.refusals,
        Err(SendError::Nothing { refusals, .. }) => refusals,
        Err(SendError::Client(ClientError::Refused { refusal: Some(one), .. })) => std::slice::from_ref(one),
        Err(
            SendError::Client(_)
            | SendError::Source(_)
            | SendError::Progress(_)
            | SendError::Interrupted { .. }
            | SendError::Reader,
        ) => &[],
    }
}

/// Whether every till that could have the lot has all of it.
fn arrived(followed: &Followed) -> Exit {
    let totals = &followed.view.totals;
    let ended = matches!(followed.view.state, LotState::Aborted | LotState::Recalled);
    let troubled = totals.failed + totals.applied_with_errors + followed.waiting.online > 0;
    if ended || troubled { Exit::Failed } else { Exit::Fine }
}

fn say_followed(followed: &Followed, shell: &mut Shell) -> io::Result<()> {
    let Followed { view, waiting, is_ahead } = followed;
    let totals = &view.totals;
    if *is_ahead {
        let hour = view.activate_at.as_deref().unwrap_or("its hour");
        return shell.tell(format!("it waits for {hour}; `malote lot status {}` follows it", view.lot));
    }
    if totals.pdvs == 0 && view.state == LotState::Released {
        return shell.tell(format!("no till is registered in {}: tills get it when they are", view.scope));
    }
    shell.tell(format!("{} of {} tills have it", totals.settled(), totals.pdvs))?;
    for (count, what) in [
        (totals.applied_with_errors, "have it without some records"),
        (totals.failed, "could not apply it, trying on"),
        (waiting.offline, "offline, to get it when back"),
        (waiting.online.saturating_sub(totals.failed), "online and yet to report"),
    ] {
        if count > 0 {
            shell.tell(format!("  {what}: {count}"))?;
        }
    }
    let names: Vec<String> =
        waiting.named.iter().take(TILLS_NAMED).map(|row| format!("{}.{}", row.store, row.pdv)).collect();
    if !names.is_empty() {
        let more = (waiting.online + waiting.offline).saturating_sub(names.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        shell.tell(format!("  waiting: {}{more}", names.join(", ")))?;
    }
    if totals.applied_with_errors + totals.failed > 0 {
        shell.tell(format!("hint: `malote lot status {}` says which and why", view.lot))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
