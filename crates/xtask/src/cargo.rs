//! Running cargo and asking what is installed.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// The cargo that runs this program, so that a chosen toolchain stays chosen.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        // Nothing is built twice there, and nobody reads colours in a log.
        command.env("CARGO_INCREMENTAL", "0").env("CARGO_TERM_COLOR", "never");
    }
    command
}

/// Whether `cargo SUBCOMMAND` is there: rustfmt, clippy and cargo-deny are separate installs.
pub(crate) fn has_subcommand(subcommand: &str) -> bool {
    cargo()
        .args([subcommand, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether one of `programs` is in a folder of `path`, a value like that of `PATH`.
pub(crate) fn on_path(programs: &[&str], path: &OsString) -> bool {
    std::env::split_paths(path).any(|folder| programs.iter().any(|program| is_file(&folder.join(program))))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_only_where_the_path_leads() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = std::env::join_paths([here.join("src"), here.join("no-such-folder")]).unwrap();
        assert!(on_path(&["no-such-program", "main.rs"], &path));
        assert!(!on_path(&["no-such-program", "tidy"], &path), "a folder is not a program");
    }

    #[test]
    fn a_subcommand_nobody_installed_is_missing() {
        assert!(!has_subcommand("no-such-subcommand"));
    }
}
