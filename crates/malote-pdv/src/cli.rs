//! `malote-pdv run`, and `malote pdv run` of the large program.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use malote_domain::{PdvId, StoreId};
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::{Agent, Config, StartError};

/// What `run` takes.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The store
    #[arg(long)]
    store: StoreId,
    /// The till, a name of its own within the store
    #[arg(long)]
    pdv: PdvId,
    /// Directory of its database, for this till alone; made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The broker: nats://host:4222, several separated by commas. It need not be there
    #[arg(long, value_name = "URL")]
    nats: String,
    /// Where the till software asks, on this machine only; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4780")]
    listen: SocketAddr,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Signals cannot be received.
    #[error("cannot wait for a signal to stop")]
    Signal(#[source] std::io::Error),
    /// A part of it ended by itself.
    #[error("a part of the agent ended by itself; start it again, and report what its log says")]
    Ended,
}

/// Runs an agent until it is told to stop.
///
/// # Errors
/// When it does not start, or a part of it ends.
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signal)?;
    let mut agent = Agent::start(Config {
        store: args.store,
        pdv: args.pdv,
        dir: args.dir,
        nats: args.nats,
        listen: Some(args.listen),
    })
    .await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = agent.ended() => return Err(RunError::Ended),
    }
    tracing::info!("stopping");
    agent.stop().await;
    Ok(())
}
