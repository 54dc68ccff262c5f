//! What every workspace member has: the shared lints, a description, a first page. And no scenario is left out.

use super::Finding;
use super::repo::{Repo, numbered};

/// Manifests that leave the workspace's lints, or do not say what the crate is.
pub(super) fn manifests(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in repo.packages.iter().map(|package| &package.manifest) {
        // Cargo has read it already, so one that does not parse here is not the one on disk.
        let manifest: toml::Table = toml::from_str(repo.text(path)).unwrap_or_default();
        let lints =
            manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if lints != Some(true) {
            let mend = "add `workspace = true` under `[lints]`";
            findings.push(Finding::new(path, 1, "the workspace's lints are not in force", mend));
        }
        let description = manifest
            .get("package")
            .and_then(|package| package.get("description"))
            .and_then(toml::Value::as_str);
        if description.is_none_or(|description| description.trim().is_empty()) {
            let mend = "say in one line of `description` what the crate is";
            findings.push(Finding::new(path, 1, "the crate does not say what it is", mend));
        }
    }
    findings
}

/// Libraries and programs whose first line is not a `//!` page.
pub(super) fn first_lines(repo: &Repo) -> Vec<Finding> {
    let roots = repo.packages.iter().flat_map(|package| &package.roots);
    roots
        .filter(|root| !repo.text(root).starts_with("//!"))
        .map(|root| {
            let mend = "start it with `//!`: what it is, what it never does, where to start reading";
            Finding::new(root, 1, "the first line is no crate documentation", mend)
        })
        .collect()
}

const SCENARIOS: &str = "tests/it/";

/// Files of the integration program that it never declares, so that their tests would silently not run.
pub(super) fn scenarios(repo: &Repo) -> Vec<Finding> {
    let main = repo.text("tests/it/main.rs");
    let mut findings = Vec::new();
    for (path, _) in repo.texts() {
        let Some(module) = path.strip_prefix(SCENARIOS).and_then(module) else { continue };
        let declaration = format!("mod {module};");
        let declares = |line: &str| {
            line.trim().trim_start_matches("pub ").trim_start_matches("pub(crate) ") == declaration
        };
        if module != "main" && !numbered(main).any(|(_, line)| declares(line)) {
            let mend = format!("add `{declaration}` to tests/it/main.rs");
            findings.push(Finding::new(path, 1, "its tests do not run: no module declares it", mend));
        }
    }
    findings
}

/// `lots` for `lots.rs` and for `lots/mod.rs`; files further down are their parent's to declare.
fn module(path: &str) -> Option<&str> {
    let name = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs"))?;
    (!name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::repo::Package;
    use super::*;

    fn member(manifest: &str, library: &str) -> Repo {
        let mut repo = Repo::of(&[("a/Cargo.toml", manifest), ("a/src/lib.rs", library)]);
        repo.packages = vec![Package {
            name: "a".to_owned(),
            manifest: "a/Cargo.toml".to_owned(),
            roots: vec!["a/src/lib.rs".to_owned()],
            ..Package::default()
        }];
        repo
    }

    #[test]
    fn a_member_with_all_of_it_passes() {
        let repo = member("[package]\ndescription = \"a\"\n[lints]\nworkspace = true\n", "//! What it is.\n");
        assert_eq!(manifests(&repo), []);
        assert_eq!(first_lines(&repo), []);
    }

    #[test]
    fn missing_lints_and_description_are_found() {
        assert_eq!(manifests(&member("[package]\nname = \"a\"\n", "")).len(), 2);
        assert_eq!(
            manifests(&member("[package]\ndescription = \" \"\n[lints]\nworkspace = false\n", "")).len(),
            2
        );
    }

    #[test]
    fn a_library_without_a_first_page_is_found() {
        assert_eq!(first_lines(&member("", "use std::fmt;\n//! Too late.\n")).len(), 1);
    }

    #[test]
    fn a_scenario_that_is_not_declared_is_found() {
        let repo = Repo::of(&[
            ("tests/it/main.rs", "//! All.\n// mod sales;\nmod lots;\nmod stack;\n"),
            ("tests/it/lots.rs", ""),
            ("tests/it/sales.rs", ""),
            ("tests/it/stack/mod.rs", ""),
            ("tests/it/stack/broker.rs", ""),
            ("tests/it/offline/mod.rs", ""),
        ]);
        let paths: Vec<String> = scenarios(&repo).into_iter().map(|finding| finding.path).collect();
        assert_eq!(paths, ["tests/it/sales.rs", "tests/it/offline/mod.rs"]);
    }
}
