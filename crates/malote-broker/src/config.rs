//! The durable configuration: what `malote` runs itself and tells production to run.

use crate::ports::Ports;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// How to run one nats-server.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Everything the server keeps: its configuration, its log and its streams. Made if missing.
    pub dir: PathBuf,
    /// The server's name. It identifies the node to JetStream, so it must not change over the life of `dir`.
    pub name: String,
    /// The client port on 127.0.0.1; a free one when none is given, the same at every start of this `dir` while it is free.
    pub port: Option<u16>,
    /// Acknowledge only what is synced to disk. The default, and what the hub insists on.
    pub sync_always: bool,
    /// The most that streams may hold on disk together.
    pub max_file_store_bytes: u64,
    /// More of nats-server's configuration, appended as it is: accounts, permissions, leaf nodes.
    pub extra: String,
    /// The program to run, whatever its version; [`nats_server`](crate::nats_server) finds one when none is given.
    pub program: Option<PathBuf>,
}

impl BrokerOptions {
    /// Durable, on any free port.
    pub fn new(dir: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            name: name.into(),
            port: None,
            sync_always: true,
            max_file_store_bytes: 100 << 30,
            extra: String::new(),
            program: None,
        }
    }
}

/// The other nodes of a node's cluster.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    pub(crate) cluster: String,
    /// The cluster ports of all nodes; a server ignores the route to itself.
    pub(crate) ports: Vec<u16>,
}

pub(crate) const LOG: &str = "nats-server.log";
pub(crate) const STORE: &str = "jetstream";

/// The configuration file of one node. `dir` is absolute, for the server resolves paths against its working directory.
pub(crate) fn configuration(
    options: &BrokerOptions,
    dir: &Path,
    ports: Ports,
    routes: Option<&Routes>,
) -> String {
    let sync = if options.sync_always { "always" } else { "2m" };
    let mut text = format!(
        r#"# Written by malote at every start: changes made here are lost.
server_name: {name}
listen: "127.0.0.1:{client}"
http: "127.0.0.1:{monitor}"    # never public: it tells everything
log_file: {log}
logfile_size_limit: 16MB
logfile_max_num: 3
ports_file_dir: {dir}

# Lots are chunked, so that no message needs more.
max_payload: 1MB
max_control_line: 4KB
max_connections: 10000
max_pending: 64MB
write_deadline: "10s"
ping_interval: "20s"
ping_max: 3

jetstream {{
  store_dir: {store}
  max_memory_store: 64MB
  max_file_store: {max_file_store}
  sync_interval: {sync}    # always: an acknowledgement means synced to disk
  strict: true
  max_buffered_msgs: 10000
  max_buffered_size: 64MB
  limits {{ default_max_consumers: 5000, duplicate_window: "10m", max_ack_pending: 10000 }}
}}
"#,
        name = quoted(&options.name),
        client = ports.client,
        monitor = ports.monitor,
        log = quoted_path(&dir.join(LOG)),
        dir = quoted_path(dir),
        store = quoted_path(&dir.join(STORE)),
        max_file_store = options.max_file_store_bytes,
    );
    if let Some(routes) = routes {
        let urls: Vec<_> = routes.ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\ncluster {{\n  name: {}\n  listen: \"127.0.0.1:{}\"\n  routes: [{}]\n}}\n",
            quoted(&routes.cluster),
            ports.cluster,
            urls.join(", ")
        );
    }
    if !options.extra.is_empty() {
        let _ = write!(text, "\n{}\n", options.extra);
    }
    text
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A string as nats-server's configuration reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
