//! Developer automation: `cargo xtask test`, `cargo xtask tidy`, `cargo xtask ci`.
//!
//! It depends on no crate of the workspace, so that it still builds when they do not. Start reading at [`ci`], which
//! calls the others in turn.

mod cargo;
mod ci;
mod suite;
mod tidy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test [FILTER…]   the whole test suite, or the tests whose names contain a FILTER
cargo xtask tidy             what the compiler does not check: crate edges, file length, links, streams
cargo xtask ci               everything a change must pass: format, lints, tidy, licences, tests";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test", filters @ ..] => suite::command(filters).map_err(|error| chain(&error)),
        ["tidy"] => tidy::command(&root()).map_err(|error| chain(&error)),
        ["ci"] => ci::command(&root()).map_err(|error| chain(&error)),
        [] | ["help" | "--help" | "-h"] => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        other => {
            complain(&format!("xtask does not know `{}`; it knows:\n{USAGE}", other.join(" ")));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&format!("error: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// The repository: two folders above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// One line for a person: the error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

/// Writes a line of result. A reader that went away (`| head`) is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line that is not a result: progress, a hint, an error.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
