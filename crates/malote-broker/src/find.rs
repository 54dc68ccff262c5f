//! Where the nats-server program is: named by the user, on the PATH, in the user's cache, or fetched into it.

use crate::{
    fetch::{self, FetchError},
    version::{BadVersion, ServerVersion},
};
use std::{
    env, fmt, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{process::Command, time::timeout};

/// The variable that names a nats-server, before anything else is looked at.
const NAMED_BY: &str = "MALOTE_NATS_SERVER";
/// Debian installs nats-server here, which is not on an ordinary user's PATH.
const SYSTEM_PROGRAMS: &str = "/usr/sbin";
const PROBE_DEADLINE: Duration = Duration::from_secs(20);

/// Finds a nats-server of at least [`ServerVersion::MIN`], fetching a private copy when there is none.
///
/// Looks at `MALOTE_NATS_SERVER`, then the PATH, then `malote/` in the user's cache. What is named by the variable is
/// used or refused, never replaced by another.
pub async fn nats_server() -> Result<PathBuf, FindError> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")));
    let mut folders: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    folders.push(PathBuf::from(SYSTEM_PROGRAMS));
    let finder = Finder {
        named: env::var_os(NAMED_BY).filter(|value| !value.is_empty()).map(PathBuf::from),
        folders,
        cache: cache.map(|cache| cache.join("malote")),
        apt: PathBuf::from("/etc/apt"),
    };
    finder.find().await
}

/// Why no usable nats-server was found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The program named by the user could not be used.
    #[error(
        "MALOTE_NATS_SERVER names {path}, which is no working nats-server: \
         set it to a nats-server >= {min}, or unset it to let malote find or fetch one", path = path.display(), min = ServerVersion::MIN
    )]
    Named {
        /// What the variable holds.
        path: PathBuf,
        /// What went wrong when it was asked for its version.
        source: ProbeError,
    },
    /// The program named by the user is too old.
    #[error(
        "MALOTE_NATS_SERVER names {path}, which is nats-server {found}: malote needs >= {min}, for older ones can lose \
         acknowledged messages; set it to a newer one, or unset it to let malote find or fetch one",
        path = path.display(), min = ServerVersion::MIN
    )]
    NamedTooOld {
        /// What the variable holds.
        path: PathBuf,
        /// Its version.
        found: ServerVersion,
    },
    /// There is no home directory, hence nowhere to keep a private copy.
    #[error(
        "no nats-server >= {min} on the PATH{seen}, and no cache directory to fetch one into: set MALOTE_NATS_SERVER to \
         a nats-server >= {min}, or HOME or XDG_CACHE_HOME to a directory", min = ServerVersion::MIN
    )]
    NoCache {
        /// What the PATH has instead.
        seen: Seen,
    },
    /// None is installed and none could be fetched.
    #[error(
        "no nats-server >= {min} on the PATH{seen}, and none could be fetched: install one, or set MALOTE_NATS_SERVER to \
         a nats-server >= {min}", min = ServerVersion::MIN
    )]
    Fetch {
        /// What the PATH has instead.
        seen: Seen,
        /// Why none could be fetched.
        source: FetchError,
    },
}

/// The too old nats-servers passed over on the way, for the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(Vec<(PathBuf, ServerVersion)>);

impl fmt::Display for Seen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, version) in &self.0 {
            write!(out, " (passed over {}, which is {version})", path.display())?;
        }
        Ok(())
    }
}

/// Why a program did not tell a nats-server version.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It could not be run at all.
    #[error("it cannot be run")]
    Run(#[from] io::Error),
    /// It did not answer in time.
    #[error("`--version` gave no answer in {} s", PROBE_DEADLINE.as_secs())]
    Silent,
    /// It answered something else.
    #[error("its answer to `--version` is not nats-server's")]
    Other(#[from] BadVersion),
}

/// Asks a program for its nats-server version.
pub(crate) async fn version_of(program: &Path) -> Result<ServerVersion, ProbeError> {
    let answer = Command::new(program).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(PROBE_DEADLINE, answer).await.map_err(|_| ProbeError::Silent)??;
    Ok(ServerVersion::from_output(&String::from_utf8_lossy(&output.stdout))?)
}

/// Everything the search depends on, so that tests can search somewhere else than on this machine.
pub(crate) struct Finder {
    pub(crate) named: Option<PathBuf>,
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) apt: PathBuf,
}

impl Finder {
    pub(crate) async fn find(&self) -> Result<PathBuf, FindError> {
        if let Some(named) = &self.named {
            return usable_as_named(named).await;
        }
        let mut seen = Seen::default();
        for program in self.on_path() {
            match version_of(&program).await {
                Ok(version) if version >= ServerVersion::MIN => return Ok(program),
                Ok(version) => seen.0.push((program, version)),
                Err(error) => tracing::debug!(program = %program.display(), %error, "passed over"),
            }
        }
        let Some(cache) = &self.cache else { return Err(FindError::NoCache { seen }) };
        match fetch::cached_or_fetched(cache, &self.apt).await {
            Ok(program) => Ok(program),
            Err(source) => Err(FindError::Fetch { seen, source }),
        }
    }

    fn on_path(&self) -> Vec<PathBuf> {
        let mut programs: Vec<PathBuf> = Vec::new();
        for folder in self.folders.iter().filter(|folder| folder.is_absolute()) {
            let program = folder.join("nats-server");
            if program.is_file() && !programs.contains(&program) {
                programs.push(program);
            }
        }
        programs
    }
}

async fn usable_as_named(named: &Path) -> Result<PathBuf, FindError> {
    match version_of(named).await {
        Ok(version) if version >= ServerVersion::MIN => Ok(named.to_owned()),
        Ok(found) => Err(FindError::NamedTooOld { path: named.to_owned(), found }),
        Err(source) => Err(FindError::Named { path: named.to_owned(), source }),
    }
}
