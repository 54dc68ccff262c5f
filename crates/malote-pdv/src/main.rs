//! `malote-pdv`: the agent beside the till, by itself.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use malote_pdv::cli::{RunArgs, run};
use tracing_subscriber::EnvFilter;

/// malote's agent beside the till
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Write the log as JSON lines
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keep this till's catalogue, until told to stop
    Run(RunArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_env("MALOTE_LOG").unwrap_or_else(|_| EnvFilter::new("info,async_nats=warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if cli.log_json {
        log.json().init();
    } else {
        log.init();
    }
    // One thread: a till has other things to do with its processor, and SQLite has threads of its own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return ExitCode::FAILURE;
        }
    };
    let Command::Run(args) = cli.command;
    match runtime.block_on(run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            let mut text = Vec::new();
            while let Some(error) = source {
                text.push(error.to_string());
                source = error.source();
            }
            text.dedup();
            tracing::error!("{}", text.join(": "));
            ExitCode::FAILURE
        }
    }
}
