//! The repository as the checks see it: its files as text, and what cargo says of its members.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::cargo;

/// Why the repository could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{path} could not be read; check its permissions")]
    File { path: PathBuf, source: std::io::Error },
    #[error("cargo metadata did not start; is cargo on the PATH")]
    Start(#[source] std::io::Error),
    #[error("cargo metadata failed; mend the manifest it names: {0}")]
    Metadata(String),
    #[error(
        "cargo metadata answered something other than JSON; is this cargo older than the project's rust-version"
    )]
    Json(#[source] serde_json::Error),
}

/// What the checks look at.
#[derive(Debug, Default)]
pub(super) struct Repo {
    pub(super) packages: Vec<Package>,
    pub(super) files: Vec<File>,
}

/// A workspace member.
#[derive(Debug, Default)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest: String,
    pub(super) dependencies: Vec<Dependency>,
    /// The first file of its library, its programs and its test programs.
    pub(super) roots: Vec<String>,
}

/// A direct dependency of a member.
#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) for_tests: bool,
}

/// A file, with `/` in its path on every system, and no text when it is not UTF-8.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: Option<String>,
}

impl Repo {
    /// Reads what is in the folder rather than what git tracks: a new file counts before it is added, and git may be
    /// missing. What `.gitignore` names is left out.
    pub(super) fn read(root: &Path) -> Result<Repo, ReadError> {
        let ignore_file = root.join(".gitignore");
        let ignored = Ignored::parse(&std::fs::read_to_string(&ignore_file).unwrap_or_default());
        let mut files = Vec::new();
        walk(root, "", &ignored, &mut files)?;
        Ok(Repo { packages: packages(&metadata(root)?), files })
    }

    /// The text of the file at `path`, empty when there is none.
    pub(super) fn text(&self, path: &str) -> &str {
        self.files
            .iter()
            .find(|file| file.path == path)
            .and_then(|file| file.text.as_deref())
            .unwrap_or_default()
    }

    /// Every file that is text, with its path.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    /// All files and all folders that hold one.
    pub(super) fn paths(&self) -> BTreeSet<&str> {
        self.files.iter().flat_map(|file| with_folders(&file.path)).collect()
    }

    /// A repository of these files, for tests.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Repo {
        let file =
            |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: Some((*text).to_owned()) };
        Repo { packages: Vec::new(), files: files.iter().map(file).collect() }
    }
}

/// Lines of a text with their numbers, from 1.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.split('\n'))
}

fn with_folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

/// The part of git's ignore rules that this repository uses: `/path` from the root, and `*.end` anywhere.
#[derive(Debug)]
struct Ignored {
    paths: BTreeSet<String>,
    ends: Vec<String>,
}

impl Ignored {
    fn parse(text: &str) -> Ignored {
        let anchored = text.lines().filter_map(|line| line.strip_prefix('/'));
        Ignored {
            paths: anchored
                .map(|path| path.trim_end_matches('/').to_owned())
                .chain([".git".to_owned()])
                .collect(),
            ends: text.lines().filter_map(|line| line.strip_prefix('*')).map(str::to_owned).collect(),
        }
    }

    fn covers(&self, path: &str) -> bool {
        self.paths.contains(path) || self.ends.iter().any(|end| path.ends_with(end.as_str()))
    }
}

fn walk(root: &Path, folder: &str, ignored: &Ignored, files: &mut Vec<File>) -> Result<(), ReadError> {
    let here = root.join(folder);
    let failed = |source| ReadError::File { path: here.clone(), source };
    let mut entries =
        std::fs::read_dir(&here).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = entry.file_type().map_err(failed)?;
        if ignored.covers(&path) || kind.is_symlink() {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, ignored, files)?;
        } else {
            match std::fs::read(entry.path()) {
                Ok(bytes) => files.push(File { path, text: String::from_utf8(bytes).ok() }),
                // Another build or editor took its temporary file away between the listing and now.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ReadError::File { path: entry.path(), source }),
            }
        }
    }
    Ok(())
}

fn metadata(root: &Path) -> Result<Value, ReadError> {
    let output = cargo::cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .map_err(ReadError::Start)?;
    if !output.status.success() {
        return Err(ReadError::Metadata(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    serde_json::from_slice(&output.stdout).map_err(ReadError::Json)
}

/// The members in cargo's answer.
fn packages(metadata: &Value) -> Vec<Package> {
    let root = string(metadata, "workspace_root");
    let relative =
        |path: &str| path.strip_prefix(&root).unwrap_or(path).replace('\\', "/").trim_matches('/').to_owned();
    let dependency = |value: &Value| Dependency {
        name: string(value, "name"),
        for_tests: value.get("kind").and_then(Value::as_str) == Some("dev"),
    };
    let is_root = |target: &&Value| list(target, "kind").iter().any(|kind| *kind != "custom-build");
    let package = |value: &Value| Package {
        name: string(value, "name"),
        manifest: relative(&string(value, "manifest_path")),
        dependencies: list(value, "dependencies").iter().map(dependency).collect(),
        roots: list(value, "targets")
            .iter()
            .filter(is_root)
            .map(|target| relative(&string(target, "src_path")))
            .collect(),
    };
    list(metadata, "packages").iter().map(package).collect()
}

fn string(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_ignores_is_left_out() {
        let ignored = Ignored::parse("/target\n/data/\n*.snap.new\n");
        for path in [".git", "target", "data", "tests/it/a.snap.new"] {
            assert!(ignored.covers(path), "{path}");
        }
        for path in ["crates/target", "tests/it/a.snap", ".gitignore"] {
            assert!(!ignored.covers(path), "{path}");
        }
    }

    #[test]
    fn members_are_read_from_cargos_answer() {
        let answer = serde_json::json!({
            "workspace_root": "/x",
            "packages": [{
                "name": "malote-proto",
                "manifest_path": "/x/proto/Cargo.toml",
                "dependencies": [{"name": "prost", "kind": null}, {"name": "tempfile", "kind": "dev"}],
                "targets": [
                    {"kind": ["lib"], "src_path": "/x/proto/src/lib.rs"},
                    {"kind": ["custom-build"], "src_path": "/x/proto/build.rs"}
                ]
            }]
        });
        let packages = packages(&answer);
        let [package] = packages.as_slice() else { panic!("one package: {packages:?}") };
        assert_eq!((package.name.as_str(), package.manifest.as_str()), ("malote-proto", "proto/Cargo.toml"));
        assert_eq!(package.roots, ["proto/src/lib.rs"]);
        let dependencies: Vec<_> =
            package.dependencies.iter().map(|it| (it.name.as_str(), it.for_tests)).collect();
        assert_eq!(dependencies, [("prost", false), ("tempfile", true)]);
    }

    #[test]
    fn a_folder_is_a_path_when_it_holds_a_file() {
        let repo = Repo::of(&[("docs/decisions/README.md", "")]);
        let paths: Vec<&str> = repo.paths().into_iter().collect();
        assert_eq!(paths, ["docs", "docs/decisions", "docs/decisions/README.md"]);
    }
}
