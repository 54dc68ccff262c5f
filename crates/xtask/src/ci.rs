//! `cargo xtask ci`: what a change must pass before it lands, cheapest first, stopping at the first failure.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::suite::{self, SuiteError};
use crate::tidy::{self, TidyError};
use crate::{cargo, complain};

/// The step that refused the change, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CiError {
    #[error("ci stopped at {step}: {next}")]
    Step { step: &'static str, next: &'static str },
    #[error("ci stopped at {step}: cargo did not start; is it on the PATH")]
    Start { step: &'static str, source: std::io::Error },
    #[error("ci stopped at {step}: `cargo {step}` is not installed; {install}")]
    Missing { step: &'static str, install: &'static str },
    #[error("ci stopped at tidy")]
    Tidy(#[source] TidyError),
    #[error("ci stopped at test")]
    Test(#[source] SuiteError),
}

/// Everything in turn.
pub(crate) fn command(root: &Path) -> Result<(), CiError> {
    timed("fmt", || {
        installed("fmt", "`rustup component add rustfmt`, or your system's package rustfmt, brings it")?;
        cargo_step("fmt", &["fmt", "--all", "--check"], "run `cargo fmt --all` and commit what it changes")
    })?;
    timed("clippy", || {
        installed(
            "clippy",
            "`rustup component add clippy`, or your system's package rust-clippy, brings it",
        )?;
        let arguments = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
        cargo_step(
            "clippy",
            &arguments,
            "mend what is listed above; if Cargo.lock is old, commit the new one",
        )
    })?;
    timed("tidy", || tidy::command(root).map_err(CiError::Tidy))?;
    let deny = cargo::has_subcommand("deny");
    if deny {
        timed("deny", || {
            let arguments = ["deny", "--locked", "check", "bans", "licenses", "sources"];
            cargo_step("deny", &arguments, "choose another crate, or allow it in deny.toml and say why there")
        })?;
    } else {
        complain(
            "ci: deny SKIPPED, so bans, licences and sources of dependencies were not checked: cargo-deny is not \
             installed; `cargo install --locked cargo-deny` brings it",
        );
    }
    let report = timed("test", || {
        let flags = ["--locked"];
        suite::run(&flags, &[]).map_err(CiError::Test)
    })?;
    if !deny {
        complain("ci: remember that deny was SKIPPED, see above");
    }
    report.close();
    report.verdict().map_err(CiError::Test)
}

/// Runs a step between a line that names it and one with its time.
fn timed<T>(step: &str, run: impl FnOnce() -> Result<T, CiError>) -> Result<T, CiError> {
    complain(&format!("ci: {step}"));
    let start = Instant::now();
    let outcome = run();
    complain(&format!("ci: {step} took {}", seconds(start.elapsed())));
    outcome
}

fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

fn installed(step: &'static str, install: &'static str) -> Result<(), CiError> {
    if cargo::has_subcommand(step) { Ok(()) } else { Err(CiError::Missing { step, install }) }
}

fn cargo_step(step: &'static str, arguments: &[&str], next: &'static str) -> Result<(), CiError> {
    finish(step, cargo::cargo().args(arguments), next)
}

fn finish(step: &'static str, command: &mut Command, next: &'static str) -> Result<(), CiError> {
    let status = command.stdin(Stdio::null()).status().map_err(|source| CiError::Start { step, source })?;
    if status.success() { Ok(()) } else { Err(CiError::Step { step, next }) }
}
