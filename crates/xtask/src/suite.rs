//! `cargo xtask test`: the whole suite through `cargo test`, and one closing line over all its programs.
//!
//! Cargo prints a result per test program, dozens of them; a person and a CI want one. The output passes through as it
//! comes, the results are read from it on the way.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::Stdio;

use crate::{cargo, complain, say};

/// Why the suite is not known to be sound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuiteError {
    #[error(
        "`{flag}` is no filter; `cargo xtask test` takes only parts of test names, `cargo test` takes flags"
    )]
    Flag { flag: String },
    #[error(
        "no C compiler is on the PATH, and SQLite, zstd and BLAKE3 are built with one; install it (Debian: \
         `apt-get install gcc libc6-dev`, Fedora: `dnf install gcc`, macOS: `xcode-select --install`), or set CC"
    )]
    NoCompiler,
    #[error("cargo did not start; is it on the PATH")]
    Start(#[source] std::io::Error),
    #[error("the output of cargo test was lost half way; run it again")]
    Output(#[source] std::io::Error),
    #[error("{failed} failed; run one with `cargo xtask test NAME`")]
    Failed { failed: usize },
    #[error("cargo test failed, but no test did: a program did not build or crashed; look for `error` above")]
    Broken,
    #[error("no test ran; no test's name contains what was asked for")]
    NothingRan,
}

/// What all test programs added up to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    passed: usize,
    failed: usize,
    skipped: usize,
    failures: Vec<String>,
    cargo_failed: bool,
}

/// Runs the suite, or what `filters` choose of it, and says how it went.
pub(crate) fn command(filters: &[&str]) -> Result<(), SuiteError> {
    if let Some(flag) = filters.iter().find(|filter| filter.starts_with('-')) {
        return Err(SuiteError::Flag { flag: (*flag).to_owned() });
    }
    let report = run(&[], filters)?;
    report.close();
    report.verdict()
}

/// Runs `cargo test` over the workspace, its output passing through, and adds up the results.
pub(crate) fn run(cargo_flags: &[&str], filters: &[&str]) -> Result<Report, SuiteError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !compiler_known(std::env::var_os("CC").as_ref(), &path) {
        return Err(SuiteError::NoCompiler);
    }
    let mut child = cargo::cargo()
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(cargo_flags)
        .arg("--")
        .args(filters)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(SuiteError::Start)?;
    let mut report = match child.stdout.take() {
        Some(output) => pass_through(output, &mut std::io::stdout()).map_err(SuiteError::Output)?,
        None => Report::default(),
    };
    report.cargo_failed = !child.wait().map_err(SuiteError::Output)?.success();
    Ok(report)
}

/// The linker that built this program was a C compiler as a rule, but it may be gone since, or lld.
fn compiler_known(chosen: Option<&OsString>, path: &OsString) -> bool {
    chosen.is_some() || cargo::on_path(&["cc", "gcc", "clang", "cc.exe", "cl.exe"], path)
}

/// Copies `output` line by line, as bytes (a test may print any), and reads the results in it.
fn pass_through(output: impl Read, to: &mut impl Write) -> std::io::Result<Report> {
    let mut report = Report::default();
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        // Nobody reading any more must not end the tests: their exit code still counts.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        report.take_in(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(report)
}

impl Report {
    fn take_in(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.skipped += count(result, "ignored");
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        }
    }

    /// The failed tests by name, which thousands of lines may have carried away, and the closing line.
    pub(crate) fn close(&self) {
        for name in &self.failures {
            complain(&format!("failed: {name}"));
        }
        say(&self.to_string());
    }

    /// Sound only when cargo says so, nothing failed and something ran.
    pub(crate) fn verdict(&self) -> Result<(), SuiteError> {
        match (self.failed, self.cargo_failed, self.passed) {
            (0, true, _) => Err(SuiteError::Broken),
            (0, false, 0) => Err(SuiteError::NothingRan),
            (0, false, _) => Ok(()),
            (failed, _, _) => Err(SuiteError::Failed { failed }),
        }
    }
}

/// The number before `word` in a result such as `ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(result: &str, word: &str) -> usize {
    let words: Vec<&str> = result.split([' ', ';']).collect();
    let at = words.iter().position(|found| *found == word).unwrap_or(0);
    at.checked_sub(1).and_then(|before| words.get(before)).and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_PROGRAMS: &str = "\
running 3 tests
test lots::closing_twice_adds_nothing ... ok
test lots::an_empty_lot_is_refused ... FAILED
test slow ... ignored

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s

running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s
";

    fn read(output: &str) -> Report {
        pass_through(output.as_bytes(), &mut Vec::new()).unwrap()
    }

    #[test]
    fn results_add_up_over_all_programs() {
        let report = read(TWO_PROGRAMS);
        assert_eq!(report.to_string(), "3 passed, 1 failed, 1 skipped");
        assert_eq!(report.failures, ["lots::an_empty_lot_is_refused"]);
    }

    #[test]
    fn output_passes_through_byte_for_byte() {
        let output = [TWO_PROGRAMS.as_bytes(), b"not \xff text and no newline"].concat();
        let mut copy = Vec::new();
        pass_through(output.as_slice(), &mut copy).unwrap();
        assert_eq!(copy, output);
    }

    #[test]
    fn nothing_skipped_leaves_the_plain_line() {
        let report = read("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured\n");
        assert_eq!(report.to_string(), "12 passed, 0 failed");
    }

    #[test]
    fn a_failed_test_is_a_failure() {
        assert!(matches!(read(TWO_PROGRAMS).verdict(), Err(SuiteError::Failed { failed: 1 })));
    }

    #[test]
    fn a_program_that_crashed_is_a_failure_though_no_test_failed() {
        let mut report = read("test result: ok. 2 passed; 0 failed; 0 ignored\n");
        assert!(report.verdict().is_ok());
        report.cargo_failed = true;
        assert!(matches!(report.verdict(), Err(SuiteError::Broken)));
    }

    #[test]
    fn a_run_of_no_test_is_a_failure() {
        let report = read("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out\n");
        assert!(matches!(report.verdict(), Err(SuiteError::NothingRan)));
    }

    #[test]
    fn a_flag_is_refused_as_a_filter() {
        assert!(
            matches!(command(&["lots", "--nocapture"]), Err(SuiteError::Flag { flag }) if flag == "--nocapture")
        );
    }

    #[test]
    fn a_machine_without_a_compiler_is_told_so() {
        assert!(!compiler_known(None, &OsString::from("no-such-folder")));
        assert!(compiler_known(Some(&OsString::from("my-cc")), &OsString::from("no-such-folder")));
    }
}
