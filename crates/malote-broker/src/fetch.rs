//! A private copy of nats-server in the user's cache, fetched with apt when it is not there yet.
//!
//! Debian's current release ships an older server, a later suite ships one that is new enough. apt can download a single
//! package of another suite without root and without touching the system, when its lists, cache, state and sources are
//! all its own: then only the mirror and its keys come from the system.

use crate::{
    apt,
    find::{ProbeError, version_of},
    lock::lock_within,
    version::ServerVersion,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// The Debian suite that has a new enough server.
const SUITE: &str = "forky";
const PACKAGE: &str = "nats-server";
const IN_PACKAGE: [&str; 2] = ["usr/sbin/nats-server", "usr/bin/nats-server"];
const TOOL_DEADLINE: Duration = Duration::from_secs(600);
/// Longer than a fetch, so that whoever waits for another's fetch outlives it.
const LOCK_PATIENCE: Duration = Duration::from_secs(1300);
const WORK_PREFIX: &str = "fetch-";

/// The system's own hooks after an update clean the system's own cache, which is none of our business.
const APT_CONFIGURATION: &str = "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n\
    #clear APT::Update::Post-Invoke-Success;\nAPT::Sandbox::User \"root\";\nAPT::Update::Error-Mode \"any\";\n\
    Acquire::Retries \"3\";\n";

/// Why no nats-server could be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The cache could not be written or read.
    #[error("the cache {path} cannot be used: make it writable or point XDG_CACHE_HOME elsewhere", path = path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has been fetching for too long.
    #[error("another process has held {path} for {} s: end it and try again", LOCK_PATIENCE.as_secs(), path = path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
    },
    /// apt's list of sources could not be read.
    #[error("apt's sources under {path} cannot be read", path = path.display())]
    Sources {
        /// apt's directory of settings.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no Debian archive to fetch from.
    #[error("apt's sources under {path} name no Debian archive to fetch from", path = path.display())]
    NoDebian {
        /// apt's directory of settings.
        path: PathBuf,
    },
    /// A tool could not be started.
    #[error("{tool} cannot be run: only a system with Debian's apt can fetch")]
    Tool {
        /// The tool.
        tool: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A tool did not end in time.
    #[error("{tool} did not end within {} s: look at the network or the mirror and try again", TOOL_DEADLINE.as_secs())]
    ToolHangs {
        /// The tool.
        tool: &'static str,
    },
    /// A tool failed.
    #[error("{tool} failed ({status}), saying: {said}")]
    ToolFailed {
        /// The tool.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        said: String,
    },
    /// The package has no server in it.
    #[error("Debian's package has no nats-server where malote looks for it")]
    NotInPackage,
    /// The fetched program does not run here.
    #[error("the fetched nats-server does not run on this system")]
    Broken(#[source] ProbeError),
    /// The suite's server is too old.
    #[error("this mirror's {SUITE} suite has nats-server {found}, older than {min}", min = ServerVersion::MIN)]
    TooOld {
        /// The version it has.
        found: ServerVersion,
    },
}

/// The newest usable server in `cache`, put there first if there is none.
pub(crate) async fn cached_or_fetched(cache: &Path, apt: &Path) -> Result<PathBuf, FetchError> {
    let unusable = |source| FetchError::Cache { path: cache.to_owned(), source };
    if let Some(program) = cached(cache).await {
        return Ok(program);
    }
    fs::create_dir_all(cache).map_err(unusable)?;
    let path = cache.join("fetch.lock");
    let Some(_lock) = lock_within(&path, LOCK_PATIENCE).await.map_err(unusable)? else {
        return Err(FetchError::Busy { path });
    };
    // Whoever held the lock before us may have fetched it.
    if let Some(program) = cached(cache).await {
        return Ok(program);
    }
    remove_leftovers(cache).map_err(unusable)?;
    fetch(cache, apt).await
}

/// Looks for `nats-server-<version>` files and takes the newest that still runs.
async fn cached(cache: &Path) -> Option<PathBuf> {
    let mut found: Vec<(ServerVersion, PathBuf)> = fs::read_dir(cache)
        .ok()?
        .filter_map(Result::ok)
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.strip_prefix("nats-server-")?.parse().ok()?, entry.path()))
        })
        .filter(|(version, _)| *version >= ServerVersion::MIN)
        .collect();
    found.sort();
    while let Some((_, program)) = found.pop() {
        if version_of(&program).await.is_ok_and(|version| version >= ServerVersion::MIN) {
            return Some(program);
        }
    }
    None
}

/// A fetch that was killed leaves its work behind; nobody else is fetching while we hold the lock.
fn remove_leftovers(cache: &Path) -> io::Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

async fn fetch(cache: &Path, apt: &Path) -> Result<PathBuf, FetchError> {
    let unusable = |source| FetchError::Cache { path: cache.to_owned(), source };
    let mirror = apt::debian_mirror(apt)
        .map_err(|source| FetchError::Sources { path: apt.to_owned(), source })?
        .ok_or_else(|| FetchError::NoDebian { path: apt.to_owned() })?;
    // Inside the cache, so that the last step is a rename within one file system.
    let work = tempfile::Builder::new().prefix(WORK_PREFIX).tempdir_in(cache).map_err(unusable)?;
    let work = work.path();
    prepare(work, &mirror).map_err(unusable)?;

    tracing::info!(
        mirror = mirror.uri,
        suite = SUITE,
        "fetching a private nats-server: reading the list of packages"
    );
    run("apt-get", apt_get(work).arg("update")).await?;
    tracing::info!("fetching a private nats-server: downloading the package");
    run("apt-get", apt_get(work).args(["download", PACKAGE])).await?;
    let package = only_package(work).map_err(unusable)?.ok_or(FetchError::NotInPackage)?;
    run("dpkg-deb", Command::new("dpkg-deb").arg("--extract").arg(package).arg(work.join("root"))).await?;

    let program = IN_PACKAGE.map(|path| work.join("root").join(path)).into_iter().find(|path| path.is_file());
    let program = program.ok_or(FetchError::NotInPackage)?;
    let found = version_of(&program).await.map_err(FetchError::Broken)?;
    if found < ServerVersion::MIN {
        return Err(FetchError::TooOld { found });
    }
    let kept = cache.join(format!("nats-server-{found}"));
    fs::rename(program, &kept).map_err(unusable)?;
    tracing::info!(program = %kept.display(), version = %found, "fetched a private nats-server");
    Ok(kept)
}

fn prepare(work: &Path, mirror: &apt::Mirror) -> io::Result<()> {
    for folder in ["sources", "lists/partial", "cache/archives/partial", "state"] {
        fs::create_dir_all(work.join(folder))?;
    }
    fs::write(work.join("sources/debian.sources"), mirror.source(SUITE))?;
    fs::write(work.join("status"), "")?;
    fs::write(work.join("apt.conf"), APT_CONFIGURATION)
}

/// apt-get with nothing of its own but the system's keys, proxies and programs.
fn apt_get(work: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.current_dir(work).arg("--quiet").arg("--config-file").arg(work.join("apt.conf"));
    for (setting, path) in [
        ("Dir::Etc::sourceparts", "sources"),
        ("Dir::State", "state"),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        command.arg("--option").arg(format!("{setting}={}", work.join(path).display()));
    }
    for setting in ["Dir::Etc::sourcelist", "Dir::Etc::preferences", "Dir::Etc::preferencesparts"] {
        command.arg("--option").arg(format!("{setting}=/dev/null"));
    }
    command
}

async fn run(tool: &'static str, command: &mut Command) -> Result<(), FetchError> {
    let ending = command.env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(TOOL_DEADLINE, ending)
        .await
        .map_err(|_| FetchError::ToolHangs { tool })?
        .map_err(|source| FetchError::Tool { tool, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = said.lines().rev().take(6).collect();
    let said = lines.into_iter().rev().collect::<Vec<_>>().join("; ");
    Err(FetchError::ToolFailed { tool, status: output.status, said })
}

fn only_package(work: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
