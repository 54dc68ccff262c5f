//! `malote` on the command line: reads the arguments, listens for signals, leaves the rest to the library.

use std::io::{IsTerminal, stderr, stdout};
use std::process::ExitCode;

use malote::{Exit, Shell};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = match malote::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(said) => {
            // Help and version are no mistakes, and clap knows where each belongs. A closed pipe is none either.
            let _ = said.print();
            return ExitCode::from(if said.use_stderr() { Exit::Usage.code() } else { Exit::Fine.code() });
        }
    };
    malote::start_logs(&cli);
    let stop = CancellationToken::new();
    let mut shell = Shell::new(stdout(), stderr(), stderr().is_terminal(), stop.clone());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the system gives no threads");
            return ExitCode::from(Exit::Failed.code());
        }
    };
    let exit = runtime.block_on(async {
        tokio::spawn(listen(stop));
        malote::run(cli, &mut shell).await
    });
    // A read of a file or a terminal that is still under way must not hold the end up.
    runtime.shutdown_background();
    ExitCode::from(exit.code())
}

/// The first signal asks for an end, a second one does not ask.
async fn listen(stop: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be listened to: they end the program without giving anything up");
        return;
    };
    for first in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if first {
            stop.cancel();
        }
    }
    #[expect(clippy::exit, reason = "who asks twice does not want to wait for anything")]
    std::process::exit(Exit::Interrupted.code().into());
}
