//! Which crate may depend on which. The table is the architecture: a new edge is a decision, not an accident.

use super::Finding;
use super::repo::{Package, Repo, numbered};

/// What a member may use of ours.
enum Ours {
    /// These and no others.
    Only(&'static [&'static str]),
    /// Whatever it needs: it puts the parts together.
    All,
}

const MAY_USE: &[(&str, Ours)] = &[
    ("malote-domain", Ours::Only(&[])),
    ("malote-proto", Ours::Only(&[])),
    ("malote-broker", Ours::Only(&[])),
    ("malote-render", Ours::Only(&[])),
    ("xtask", Ours::Only(&[])),
    ("malote-journal", Ours::Only(&["malote-domain", "malote-proto"])),
    ("malote-projections", Ours::Only(&["malote-domain"])),
    (
        "malote-hub",
        Ours::Only(&[
            "malote-domain",
            "malote-journal",
            "malote-projections",
            "malote-proto",
            "malote-render",
        ]),
    ),
    ("malote-pdv", Ours::Only(&["malote-domain", "malote-journal", "malote-projections", "malote-proto"])),
    (
        "malote-audit",
        Ours::Only(&[
            "malote-domain",
            "malote-journal",
            "malote-projections",
            "malote-proto",
            "malote-render",
        ]),
    ),
    ("malote-client", Ours::Only(&["malote-domain", "malote-proto"])),
    ("malote", Ours::All),
    ("malote-tests", Ours::All),
];

/// Starts a broker for whoever tests against one, so any member's tests may use it.
const FOR_ANY_TEST: &str = "malote-broker";

/// (member, crates it must never see, why). Tests count too: what they need belongs where it is allowed.
const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "malote-domain",
        &["tokio", "sqlx", "async-nats", "serde", "prost", "axum"],
        "its decisions are pure, and the same in the hub, on a till and in the audit",
    ),
    ("malote-journal", &["sqlx", "axum"], "it is the write side over JetStream and nothing else"),
    ("malote-projections", &["async-nats", "axum"], "SQL is built and tested without a broker"),
    ("malote-client", &["sqlx", "async-nats"], "a back office's program stays small"),
];

/// Edges between members that the table above does not have.
pub(super) fn between_members(repo: &Repo) -> Vec<Finding> {
    let ours = |name: &str| repo.packages.iter().any(|package| package.name == name);
    let mut findings = Vec::new();
    for package in &repo.packages {
        let manifest = &package.manifest;
        let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == package.name) else {
            let wrong = format!("{} is in no row of the table of edges", package.name);
            findings.push(Finding::new(
                manifest,
                1,
                wrong,
                "add it to MAY_USE in crates/xtask/src/tidy/edges.rs",
            ));
            continue;
        };
        let Ours::Only(allowed) = may_use else { continue };
        for dependency in package.dependencies.iter().filter(|dependency| ours(&dependency.name)) {
            let name = dependency.name.as_str();
            if allowed.contains(&name) || (dependency.for_tests && name == FOR_ANY_TEST) {
                continue;
            }
            let wrong = format!("{} must not depend on {name}", package.name);
            let mend = format!("it may use {}; move the code to where both may see it", spoken(allowed));
            findings.push(Finding::new(manifest, line_of(repo, package, name), wrong, mend));
        }
    }
    findings
}

/// Crates of others that would undo what a member is for.
pub(super) fn to_other_crates(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (member, never, why) in NEVER {
        for package in repo.packages.iter().filter(|package| package.name == *member) {
            for dependency in package.dependencies.iter().filter(|it| never.contains(&it.name.as_str())) {
                let wrong = format!("{member} must not see {}: {why}", dependency.name);
                let mend = "move what needs it to a crate that may have it";
                findings.push(Finding::new(
                    &package.manifest,
                    line_of(repo, package, &dependency.name),
                    wrong,
                    mend,
                ));
            }
        }
    }
    findings
}

fn spoken(allowed: &[&str]) -> String {
    if allowed.is_empty() { "no crate of ours".to_owned() } else { format!("only {}", allowed.join(", ")) }
}

/// Where a manifest names a dependency (`name = …` or `name.workspace = …`); its first line when it does so otherwise.
fn line_of(repo: &Repo, package: &Package, dependency: &str) -> usize {
    let names_it = |line: &str| {
        line.trim_start().strip_prefix(dependency).is_some_and(|rest| rest.starts_with([' ', '=', '.']))
    };
    numbered(repo.text(&package.manifest)).find(|(_, line)| names_it(line)).map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::super::repo::Dependency;
    use super::*;

    fn member(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let dependency =
            |(name, for_tests): &(&str, bool)| Dependency { name: (*name).to_owned(), for_tests: *for_tests };
        Package {
            name: name.to_owned(),
            manifest: format!("{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(dependency).collect(),
            roots: Vec::new(),
        }
    }

    fn workspace(packages: Vec<Package>) -> Repo {
        Repo { packages, ..Repo::default() }
    }

    #[test]
    fn a_forbidden_edge_is_found_at_its_line() {
        let mut repo = Repo::of(&[(
            "malote-pdv/Cargo.toml",
            "[package]\n[dependencies]\nmalote-hub = { workspace = true }\n",
        )]);
        repo.packages = vec![member("malote-hub", &[]), member("malote-pdv", &[("malote-hub", false)])];
        let findings = between_members(&repo);
        let [finding] = findings.as_slice() else { panic!("one finding: {findings:?}") };
        assert_eq!((finding.path.as_str(), finding.line), ("malote-pdv/Cargo.toml", 3));
        assert_eq!(finding.wrong, "malote-pdv must not depend on malote-hub");
        assert!(finding.mend.contains("malote-journal"), "{finding}");
    }

    #[test]
    fn allowed_edges_and_the_broker_in_tests_pass() {
        let repo = workspace(vec![
            member("malote-broker", &[]),
            member("malote-domain", &[]),
            member("malote-journal", &[("malote-domain", false), ("malote-broker", true)]),
            member("malote-tests", &[("malote-broker", false), ("malote-journal", false)]),
        ]);
        assert_eq!(between_members(&repo), []);
    }

    #[test]
    fn the_broker_outside_tests_and_others_in_tests_are_found() {
        let repo = workspace(vec![
            member("malote-broker", &[]),
            member("malote-hub", &[("malote-broker", false)]),
            member("malote-domain", &[("malote-hub", true)]),
        ]);
        assert_eq!(between_members(&repo).len(), 2);
    }

    #[test]
    fn a_member_without_a_row_is_found() {
        assert_eq!(between_members(&workspace(vec![member("malote-new", &[])])).len(), 1);
    }

    #[test]
    fn a_crate_that_a_member_must_never_see_is_found_in_tests_too() {
        let repo = workspace(vec![
            member("malote-domain", &[("tokio", true), ("thiserror", false)]),
            member("malote-journal", &[("sqlx", false), ("tokio", false)]),
        ]);
        let wrong: Vec<String> = to_other_crates(&repo).into_iter().map(|finding| finding.wrong).collect();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("malote-domain must not see tokio"));
        assert!(wrong[1].starts_with("malote-journal must not see sqlx"));
    }

    #[test]
    fn a_longer_name_is_not_the_line_of_a_shorter_one() {
        let repo = Repo::of(&[("a/Cargo.toml", "serde_json = \"1\"\nserde.workspace = true\n")]);
        assert_eq!(line_of(&repo, &member("a", &[]), "serde"), 2);
    }
}
