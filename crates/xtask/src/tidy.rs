//! `cargo xtask tidy`: rules of the house that the compiler does not check.
//!
//! Every check is a pure function from the [`Repo`] as it was read to the [`Finding`]s in it, so that each is tested on
//! a few lines of text. This crate's tests run all of them on the real repository too.

mod docs;
mod edges;
mod members;
mod repo;
mod text;

use std::fmt;
use std::path::Path;

use repo::{ReadError, Repo};

use crate::say;

/// Why the repository is not tidy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TidyError {
    #[error("the repository could not be read")]
    Read(#[source] ReadError),
    #[error("{0} to mend, listed above")]
    Untidy(usize),
}

/// One thing to mend.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    wrong: String,
    mend: String,
}

impl Finding {
    fn new(path: &str, line: usize, wrong: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line, wrong: wrong.into(), mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.wrong, self.mend)
    }
}

/// Reads the repository, prints what is to mend, and fails when anything is.
pub(crate) fn command(root: &Path) -> Result<(), TidyError> {
    let findings = check(&Repo::read(root).map_err(TidyError::Read)?);
    for finding in &findings {
        say(&finding.to_string());
    }
    if findings.is_empty() { Ok(()) } else { Err(TidyError::Untidy(findings.len())) }
}

fn check(repo: &Repo) -> Vec<Finding> {
    let checks = [
        edges::between_members,
        edges::to_other_crates,
        members::manifests,
        members::first_lines,
        members::scenarios,
        text::length,
        text::white_space,
        text::unfinished,
        text::machine_paths,
        text::registry_hosts,
        docs::links,
        docs::decisions,
        docs::streams,
    ];
    let mut findings: Vec<Finding> = checks.iter().flat_map(|check| check(repo)).collect();
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let repo = Repo::read(&crate::root()).unwrap();
        assert!(repo.packages.iter().any(|package| package.name == "xtask"));
        assert!(repo.files.iter().any(|file| file.path == "crates/xtask/src/tidy.rs" && file.text.is_some()));
        let findings: Vec<String> = check(&repo).iter().map(ToString::to_string).collect();
        assert!(findings.is_empty(), "`cargo xtask tidy` finds:\n{}", findings.join("\n"));
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let finding = Finding::new("a.rs", 7, "a tab", "use spaces");
        assert_eq!(finding.to_string(), "a.rs:7: a tab; use spaces");
    }
}
