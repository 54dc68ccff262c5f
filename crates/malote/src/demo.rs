//! `malote demo`: all of malote in one process, with lots that go right, late and wrong.
//!
//! After each step every till is asked for every record it shows, and all of it is compared with what was worked
//! out apart; a demo whose tills show something else ends with an error. So it is a test as well, and is run as one.

mod chain;
mod expected;
mod story;
mod summary;
#[cfg(test)]
mod tests;
mod till;

use std::io;
use std::path::PathBuf;

use crate::catalogue::WriteCatalogueError;
use crate::output::Shell;
use crate::up::UpError;
use chain::Chain;
use expected::Difference;
use summary::Summary;

/// What `demo` takes.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// End after the last step instead of staying up
    #[arg(long)]
    exit: bool,
    /// Directory with a products.csv and a stores.csv to take instead of the made-up catalogue
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// New directory for all that is kept; without it, a temporary one that goes away at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Products to make up
    #[arg(long, value_name = "N", default_value_t = 20_000, hide = true,
          value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    products: u32,
}

/// Why the demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The directory.
    #[error("cannot use {} for the demo; give a directory that is new or empty with --dir", dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The made-up catalogue.
    #[error(transparent)]
    Catalogue(#[from] WriteCatalogueError),
    /// The products' file.
    #[error(transparent)]
    Source(#[from] malote_client::source::SourceError),
    /// The stores' file.
    #[error("cannot use {} as the stores of the demo: {reason}; its rows are a store and its number of tills", path.display())]
    Stores {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Too small a catalogue.
    #[error("{found} products are too few for the demo; give a file of 100 or more")]
    TooFew {
        /// How many.
        found: usize,
    },
    /// Broker or hub.
    #[error(transparent)]
    Up(#[from] UpError),
    /// A till does not start.
    #[error("a till does not start")]
    Start(#[from] malote_pdv::StartError),
    /// The hub says no.
    #[error(transparent)]
    Client(#[from] malote_client::ClientError),
    /// A name of ours.
    #[error(transparent)]
    Id(#[from] malote_domain::ids::IdError),
    /// Lines of ours.
    #[error("a record of the demo is no JSON; report it")]
    Line(#[from] serde_json::Error),
    /// A till does not answer.
    #[error("{till} does not answer as it should")]
    Till {
        /// Which.
        till: String,
        /// What it did.
        #[source]
        source: reqwest::Error,
    },
    /// A till that should run does not.
    #[error("{till} does not run")]
    TillStopped {
        /// Which.
        till: String,
    },
    /// A till takes too long.
    #[error("{till} did not {what} within {seconds} s; run with -vv and see what it says")]
    Late {
        /// Which.
        till: String,
        /// What it should have done.
        what: &'static str,
        /// In what time.
        seconds: u64,
    },
    /// A lot did not go in.
    #[error("{till} could not apply lot {lot}: {reason}")]
    LotFailed {
        /// Which.
        till: String,
        /// Which lot.
        lot: String,
        /// What it says.
        reason: String,
    },
    /// Records were set aside that are sound.
    #[error("{till} set {records} sound records aside; this is a defect, report it")]
    Quarantined {
        /// Which.
        till: String,
        /// How many.
        records: u64,
    },
    /// A till shows something else than it must.
    #[error("{till} shows something else than was sent: {difference}; this is a defect, report it")]
    Differs {
        /// Which.
        till: String,
        /// What.
        difference: Difference,
    },
    /// Something else is not as it must be.
    #[error("{what}: expected {expected}, found {found}; this is a defect, report it")]
    Wrong {
        /// What.
        what: &'static str,
        /// As it must be.
        expected: String,
        /// As it is.
        found: String,
    },
    /// It was told to stop.
    #[error("interrupted before the end")]
    Interrupted,
    /// What there is to say cannot be written.
    #[error("what there is to say cannot be written")]
    Write(#[from] io::Error),
}

/// Runs the demo; when all went as it must, stays up until told to stop unless told to end.
pub(crate) async fn run(args: &Args, json: bool, shell: &mut Shell) -> Result<(), DemoError> {
    let stop = shell.stop().clone();
    let kept = Kept::of(args)?;
    let chain = tokio::select! {
        chain = Chain::start(args, kept.path(), shell) => chain?,
        () = stop.cancelled() => return Err(DemoError::Interrupted),
    };
    let mut chain = chain;
    let told = tokio::select! {
        summary = story::tell(&mut chain, shell) => summary.and_then(|summary| finish(args, json, &chain, &summary, shell)),
        () = stop.cancelled() => Err(DemoError::Interrupted),
    };
    if told.is_ok() && !args.exit {
        stop.cancelled().await;
        shell.tell("stopping")?;
    }
    chain.stop().await;
    told
}

fn finish(
    args: &Args,
    json: bool,
    chain: &Chain,
    summary: &Summary,
    shell: &mut Shell,
) -> Result<(), DemoError> {
    if json {
        shell.json(summary)?;
    } else {
        summary.lines().try_for_each(|line| shell.data(line))?;
    }
    if !args.exit {
        summary::try_next(chain, shell)?;
    }
    Ok(())
}

/// Where all is kept.
enum Kept {
    Until(tempfile::TempDir),
    For(PathBuf),
}

impl Kept {
    fn of(args: &Args) -> Result<Self, DemoError> {
        let Some(dir) = &args.dir else {
            let made = tempfile::tempdir();
            return made
                .map(Self::Until)
                .map_err(|source| DemoError::Dir { dir: std::env::temp_dir(), source });
        };
        let unusable = |source| DemoError::Dir { dir: dir.clone(), source };
        std::fs::create_dir_all(dir).map_err(unusable)?;
        // What an earlier demo left there would count at the tills of this one.
        match std::fs::read_dir(dir).map_err(unusable)?.next() {
            None => Ok(Self::For(dir.canonicalize().map_err(unusable)?)),
            Some(_) => Err(unusable(io::ErrorKind::DirectoryNotEmpty.into())),
        }
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Self::Until(dir) => dir.path(),
            Self::For(dir) => dir,
        }
    }
}
