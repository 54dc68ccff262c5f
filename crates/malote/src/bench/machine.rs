//! What a measurement was taken on: without it a figure says nothing.

use std::fs;

use malote_broker::{FactsError, facts};
use serde::Serialize;

/// The machine, and the one program on it that is not ours.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    nats_server: String,
}

impl Machine {
    /// Looks around; `monitor` is that of the broker that is measured with.
    pub(super) async fn look(monitor: &str) -> Result<Self, FactsError> {
        let cpu = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let memory = line_of("/proc/meminfo", "MemTotal");
        let memory_kb = memory.and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mb: memory_kb.unwrap_or(0) / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            nats_server: facts(monitor).await?.version.to_string(),
        })
    }

    /// In one line, for people.
    pub(super) fn line(&self) -> String {
        let Self { cpu, cores, memory_mb, kernel, nats_server } = self;
        format!("{cores} cores of {cpu}, {memory_mb} MB, Linux {kernel}, nats-server {nats_server}")
    }
}

/// The system's load over the last minute.
pub(super) fn load() -> Option<f64> {
    read("/proc/loadavg").split(' ').next()?.parse().ok()
}

/// What stands behind the colon of the first line that begins with `name`.
fn line_of(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
