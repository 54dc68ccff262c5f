//! A part of malote as a process of its own, so that its memory and processor time are its own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

/// Linux counts processor time in hundredths of a second, whatever its timer does.
const TICKS_PER_SECOND: f64 = 100.0;
const LOG_LINES_SHOWN: usize = 12;

/// Why a part does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// It cannot be started.
    #[error("cannot start {name}; is this program still where it was started from?")]
    Start {
        /// Which part.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended by itself ({status}); the end of its log:\n{log}")]
    Ended {
        /// Which part.
        name: String,
        /// How.
        status: String,
        /// Its last lines.
        log: String,
    },
    /// The system does not tell of it.
    #[error("the system does not tell what {name} uses; this needs Linux with /proc")]
    Usage {
        /// Which part.
        name: String,
    },
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// The most memory it ever had resident, program text included, in millions of bytes.
    pub(super) rss_mb: f64,
    /// Processor time, its own and the system's for it.
    pub(super) cpu_s: f64,
}

/// A running part; dropping it kills it, which loses nothing that was acknowledged.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts this very program with other arguments, its output in a file in `dir`.
    pub(super) fn start(name: &str, dir: &Path, args: &[OsString]) -> Result<Self, ProcessError> {
        let failed = |source| ProcessError::Start { name: name.to_owned(), source };
        let log = dir.join(format!("{}.log", name.replace(['/', ' '], "-")));
        let out = File::create(&log).map_err(failed)?;
        let child = Command::new(std::env::current_exe().map_err(failed)?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Fails when it has ended.
    pub(super) fn running(&mut self) -> Result<(), ProcessError> {
        let status = match self.child.try_wait() {
            Ok(None) => return Ok(()),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let log = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
        Err(ProcessError::Ended { name: self.name.clone(), status, log })
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Result<Usage, ProcessError> {
        let unknown = || ProcessError::Usage { name: self.name.clone() };
        self.child.id().and_then(usage).ok_or_else(unknown)
    }
}

/// What a process has used so far, as far as the system tells.
pub(super) fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse(&status, &stat)
}

fn parse(status: &str, stat: &str) -> Option<Usage> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kb: u32 = peak.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // The program's name stands in brackets and may hold anything, so the fields are counted from behind it: user
    // time is the 12th and system time the 13th.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some(Usage {
        rss_mb: f64::from(peak_kb) * 1_024.0 / 1_000_000.0,
        cpu_s: (f64::from(user) + f64::from(system)) / TICKS_PER_SECOND,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_past_a_strange_program_name() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t    15625 kB\nVmRSS:\t 1 kB\n";
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 10 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse(status, stat), Some(Usage { rss_mb: 16.0, cpu_s: 2.0 }));
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.rss_mb > 1.0, "{usage:?}");
    }
}
