//! The log of this process, to stderr.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::pdvs;

/// Names what is logged, as `info` or `malote_hub=debug,info`; it goes before `-v`.
const LOG_VARIABLE: &str = "MALOTE_LOG";

/// Starts the log as the arguments ask for. Once in a process.
pub fn start_logs(cli: &Cli) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(level(cli)));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let log = log.with_ansi(stderr().is_terminal());
    if cli.global.log_json { log.json().init() } else { log.init() }
}

/// What stays is worth a line for each of its steps; a command that ends says itself what it does.
fn level(cli: &Cli) -> &'static str {
    let stays = match &cli.command {
        Command::Up(_) | Command::Hub(_) | Command::Pdv(pdvs::Command::Run(_)) => 1,
        Command::Lot(_)
        | Command::Store(_)
        | Command::Pdv(_)
        | Command::Trace(_)
        | Command::Demo(_)
        | Command::Bench(_) => 0,
    };
    match cli.global.verbose + stays {
        0 => "warn,async_nats=error",
        1 => "info,async_nats=warn",
        2 => "debug,hyper=info,h2=info,sqlx=info",
        _ => "trace",
    }
}
