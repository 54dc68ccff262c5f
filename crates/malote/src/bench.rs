//! `malote bench`: how fast and how small, measured on this machine beside the floor of this machine.
//!
//! A figure by itself says more about the machine than about the program, so each bench measures in one run what
//! the program does and what the machine does at best, and their ratio is what is worth comparing.

mod floor;
mod input;
mod lots;
mod machine;
mod process;
mod reports;
mod site;

use std::io;
use std::path::PathBuf;

use clap::Subcommand;

use crate::output::Shell;
use process::ProcessError;
use reports::ReportsError;

/// What `bench` takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// How long a lot takes from the back office to the tills, and what it costs
    Lots(lots::Args),
}

/// Why a bench could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchError {
    /// The directory to work in.
    #[error("cannot work in {dir}; check that it can be made and written and has room, or give another with --dir", dir = dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The records to send.
    #[error(transparent)]
    Input(#[from] input::InputError),
    /// No broker.
    #[error(transparent)]
    Broker(#[from] malote_broker::StartError),
    /// The broker does not stop.
    #[error(transparent)]
    Control(#[from] malote_broker::ControlError),
    /// The broker does not tell of itself.
    #[error(transparent)]
    Facts(#[from] malote_broker::FactsError),
    /// The hub.
    #[error(transparent)]
    Client(#[from] malote_client::ClientError),
    /// A part as a process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The tills.
    #[error(transparent)]
    Reports(#[from] ReportsError),
    /// A name of ours.
    #[error(transparent)]
    Id(#[from] malote_domain::ids::IdError),
    /// The floor.
    #[error("the bare table could not be filled")]
    Floor(#[source] sqlx::Error),
    /// A till that took something else than was sent.
    #[error("a till took {found} records of a lot of {sent}; that is no measurement but a defect, report it")]
    Records {
        /// How many were sent.
        sent: u64,
        /// How many a till took.
        found: u64,
    },
    /// The hub did not take all in.
    #[error("the hub's tables did not take the lot in within {seconds} s")]
    Tables {
        /// How long that was waited for.
        seconds: u64,
    },
    /// It was told to stop.
    #[error("interrupted; nothing was measured to the end")]
    Interrupted,
    /// Neither what goes on nor the result can be written.
    #[error("the result cannot be written")]
    Write(#[source] io::Error),
    /// The bench's own task broke.
    #[error("the bench broke; report it")]
    Broke(#[from] tokio::task::JoinError),
}

/// Runs a bench and writes its result as data.
pub(crate) async fn run(args: &Args, json: bool, shell: &mut Shell) -> Result<(), BenchError> {
    let What::Lots(args) = &args.what;
    let stop = shell.stop().clone();
    let results = tokio::select! {
        results = lots::run(args, shell) => results?,
        () = stop.cancelled() => return Err(BenchError::Interrupted),
    };
    let said = if json {
        shell.json(&results)
    } else {
        results.text().lines().try_for_each(|line| shell.data(line))
    };
    said.map_err(BenchError::Write)
}
