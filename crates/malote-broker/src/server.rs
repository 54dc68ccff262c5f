//! One nats-server process: started on a leash, waited for until it is ready, ended.

use crate::{
    config::LOG,
    find::FindError,
    monitor::{Depth, Health, Monitor},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// Recovery of many streams takes its time; a server that dies is noticed at once whatever this says.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(120);
/// Looks, 2 ms apart, for a server to be frozen.
const FROZEN_LOOKS: u32 = 500;
/// A clean stop takes some 10 ms per durable consumer.
const STOP_DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);
const STDERR: &str = "nats-server.stderr";
const STDERR_BYTES_MAX: u64 = 1 << 20;
const TAIL_BYTES: u64 = 2048;

/// The server ends when its parent does, however that ends: a subshell reads a pipe whose only writer is the parent.
/// The end of the pipe without a line means that the parent was killed; a line means that the server is known to be
/// dead, for then its process id may already be another's. A frozen server has to go on to be able to end; and the
/// system hangs up on a group with a frozen process when its parent dies, which must not reach the subshell.
const LEASH: &str = r#"exec 3<&0
(trap '' HUP; read -r known <&3 || { kill -TERM $$; kill -CONT $$; }) >/dev/null 2>&1 &
exec "$@" 3<&- </dev/null"#;

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no program to run.
    #[error("there is no nats-server to run")]
    Find(#[from] FindError),
    /// The directory cannot be used.
    #[error("the broker's directory {path} cannot be used: it must be writable and its name text", path = path.display())]
    Dir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another broker runs in the directory.
    #[error("{path} is in use by a running broker: stop that one, or give this one another directory", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The port asked for is taken.
    #[error("port {port} of 127.0.0.1 is taken: stop what listens there, or ask for another port or none")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// No port is free.
    #[error("no free port found on 127.0.0.1: ask for one by number")]
    NoPort,
    /// The process could not be started.
    #[error("{program} could not be started", program = program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The client for the monitor could not be made.
    #[error("no HTTP client for the server's monitor")]
    Monitor(#[source] reqwest::Error),
    /// The server ended before it was ready.
    #[error("nats-server ended at its start ({status}); the end of its log in {dir}:\n{log}", dir = dir.display())]
    Died {
        /// The broker's directory.
        dir: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it logged.
        log: String,
    },
    /// The server was not ready in time and was killed.
    #[error("nats-server was not ready within {} s ({health}); the end of its log in {dir}:\n{log}",
        START_DEADLINE.as_secs(), dir = dir.display())]
    NotReady {
        /// The broker's directory.
        dir: PathBuf,
        /// What its monitor answered last.
        health: String,
        /// The end of what it logged.
        log: String,
    },
}

/// Everything needed to start the same server again.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) dir: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) monitor: Monitor,
    pub(crate) ready_when: Depth,
    /// Held while the directory is in use. The server has a copy, so it is also held by a server that outlives us.
    pub(crate) lock: File,
}

/// A server that answers. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Running {
    // Before the leash: what the leash tells has to be true.
    child: Child,
    pid: Pid,
    _leash: Leash,
}

#[derive(Debug)]
struct Leash(PipeWriter);

impl Drop for Leash {
    fn drop(&mut self) {
        // The subshell is gone already when somebody killed the whole process group.
        let _ = self.0.write_all(b"known\n");
    }
}

impl Launch {
    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(&self) -> Result<Running, StartError> {
        let mut running =
            self.spawn().map_err(|source| StartError::Spawn { program: self.program.clone(), source })?;
        let deadline = Instant::now() + START_DEADLINE;
        let ports_file = format!("_{}.ports", running.pid.as_raw_pid());
        loop {
            if let Some(status) = running.child.try_wait().ok().flatten() {
                return Err(StartError::Died { dir: self.dir.clone(), status, log: self.log_tail() });
            }
            // The server writes this file once it listens; it carries the process id, so no other server on the same
            // port can be taken for ours.
            let listens = self.ports_files().iter().any(|path| path.to_string_lossy().ends_with(&ports_file));
            let health = if listens {
                self.monitor.health(self.ready_when).await
            } else {
                Health::Silent("it does not listen yet".to_owned())
            };
            match health {
                Health::Well => return Ok(running),
                Health::Unwell(text) | Health::Silent(text) if Instant::now() >= deadline => {
                    return Err(StartError::NotReady {
                        dir: self.dir.clone(),
                        health: text,
                        log: self.log_tail(),
                    });
                }
                Health::Unwell(_) | Health::Silent(_) => sleep(POLL).await,
            }
        }
    }

    fn spawn(&self) -> io::Result<Running> {
        for stale in self.ports_files() {
            fs::remove_file(stale)?;
        }
        let (reader, writer) = io::pipe()?;
        let child = Command::new("sh")
            .args(["-c", LEASH, "sh"])
            .arg(&self.program)
            .arg("--config")
            .arg(&self.config)
            .current_dir(&self.dir)
            .stdin(reader)
            // The server writes nothing there; this is how it comes to share the lock.
            .stdout(self.lock.try_clone()?)
            .stderr(Stdio::from(self.stderr_file()?))
            // An interrupt typed at the terminal is for us: we end the server after what still needs it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(Running { child, pid, _leash: Leash(writer) })
    }

    fn ports_files(&self) -> Vec<PathBuf> {
        let entries =
            fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "ports")).collect()
    }

    /// Goes with the log: what the server says before it has one, and the Go runtime's last words.
    fn stderr_file(&self) -> io::Result<File> {
        let file = OpenOptions::new().create(true).append(true).open(self.dir.join(STDERR))?;
        if file.metadata()?.len() > STDERR_BYTES_MAX {
            file.set_len(0)?;
        }
        Ok(file)
    }

    /// The end of what the server said, for a message.
    pub(crate) fn log_tail(&self) -> String {
        let tails = [STDERR, LOG].map(|file| tail(&self.dir.join(file)).unwrap_or_default());
        tails.iter().map(|tail| tail.trim()).filter(|tail| !tail.is_empty()).collect::<Vec<_>>().join("\n")
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The first line is cut off unless the file began here.
    let whole = if start == 0 { text.as_str() } else { text.split_once('\n').map_or("", |(_, rest)| rest) };
    Ok(whole.to_owned())
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    /// Waits for the process to end, and reaps it.
    pub(crate) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("cannot be waited for: {error}"),
        }
    }

    /// Sends a signal. The process cannot have been reaped, for only [`Running::ended`] does that.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid, signal)?)
    }

    /// Waits until no thread of a server that was told to freeze runs any more: the signal is not obeyed at once by all
    /// of them. Where the system does not tell, that is not waited for.
    pub(crate) async fn frozen(&self) {
        let tasks = format!("/proc/{}/task", self.pid());
        let still_runs = || {
            let threads = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
            threads.into_iter().any(|thread| {
                std::fs::read_to_string(thread.path().join("stat"))
                    .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T')))
            })
        };
        for _ in 0..FROZEN_LOOKS {
            if !still_runs() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn kill(mut self) {
        // Fails only when it has ended already, which is what is wanted.
        let _ = self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Lets the server end by itself, and kills it when that takes too long.
    pub(crate) async fn stop(mut self) {
        let asked = self.signal(Signal::TERM).and_then(|()| self.signal(Signal::CONT));
        if asked.is_ok() && timeout(STOP_DEADLINE, self.ended()).await.is_ok() {
            return;
        }
        tracing::warn!(pid = self.pid(), "nats-server does not end by itself: killed");
        self.kill().await;
    }
}
