//! The `malote` program as a library: arguments in, two outputs and an exit code out.
//!
//! [`parse`] and [`run`] are the whole program but for signals and the process itself, so tests run it in theirs.
//! [`Up`] starts broker and hub together; [`send_file`] and [`follow`] are the steps of `malote lot send`. All that
//! is said goes through [`Shell`]; all that goes wrong through `error.rs`, the only file that knows exit codes.

mod bench;
pub mod catalogue;
mod cli;
mod demo;
mod error;
mod logs;
mod lots;
mod output;
mod pdvs;
mod stores;
mod table;
mod trace;
mod up;

pub use cli::{Cli, parse};
pub use error::Exit;
pub use logs::start_logs;
pub use lots::follow::{Followed, Waiting, follow};
pub use lots::send::{FileToSend, Progress, SendError, SentFile, Step, send_file};
pub use output::Shell;
pub use stores::{StoreRow, StoresError, read_stores};
pub use up::{Up, UpError, UpOptions};

use cli::Command;
use error::Failure;

/// Runs a command and says what became of it.
pub async fn run(cli: Cli, shell: &mut Shell) -> Exit {
    let json = cli.global.json;
    match run_command(cli, shell).await {
        Ok(exit) => exit,
        Err(failure) => {
            let mut said = shell.tell(failure.text());
            if json {
                said = said.and(shell.json(&failure.json()));
            }
            if let Err(error) = said {
                tracing::error!(%error, "an error cannot be written");
            }
            failure.exit
        }
    }
}

async fn run_command(cli: Cli, shell: &mut Shell) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Up(args) => up::up(&args, global.json, shell).await.map(|()| Exit::Fine),
        Command::Hub(args) => up::hub(&args, global.json, shell).await.map(|()| Exit::Fine),
        Command::Lot(command) => lots::run(command, &global, shell).await,
        Command::Store(command) => stores::run(command, &global, shell).await,
        Command::Pdv(command) => pdvs::run(command, &global, shell).await,
        Command::Demo(args) => Ok(demo::run(&args, global.json, shell).await.map(|()| Exit::Fine)?),
        Command::Bench(args) => Ok(bench::run(&args, global.json, shell).await.map(|()| Exit::Fine)?),
        Command::Trace(args) => trace::run(&args, &global, shell).await,
    }
}
