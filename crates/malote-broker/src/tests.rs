//! Against a real nats-server, found or fetched as everywhere.

use crate::{
    Broker, BrokerOptions, BrokerState, Cluster, ClusterError, ControlError, FetchError, FindError,
    ServerVersion, StartError, facts, fetch,
    find::Finder,
    monitor::{Depth, Monitor},
};
use async_nats::jetstream::{self, stream};
use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const DEADLINE: Duration = Duration::from_secs(60);
/// Makes [`parent_to_be_killed`] be that parent, in the directory it names.
const PARENT_DIR: &str = "MALOTE_BROKER_TEST_PARENT";

fn options(dir: &TempDir) -> BrokerOptions {
    BrokerOptions::new(dir.path().join("broker"), "test")
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A zombie whose parent has not looked yet is as dead as one that is gone.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).is_some_and(|state| state != 'Z')
}

async fn stream(url: &str, replicas: usize) -> (jetstream::Context, stream::Stream) {
    let client = async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .connect(url.split(',').collect::<Vec<_>>())
        .await
        .unwrap();
    let context = jetstream::new(client);
    let config = stream::Config {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        num_replicas: replicas,
        ..Default::default()
    };
    let stream = context.get_or_create_stream(config).await.unwrap();
    (context, stream)
}

/// Publishes until one is acknowledged: a broker that comes back does not answer at once.
async fn publish(context: &jetstream::Context, count: usize) {
    for n in 0..count {
        eventually("a publish is acknowledged", async || {
            match context.publish(format!("s.{n}"), "x".into()).await {
                Ok(ack) => ack.await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
    }
}

#[tokio::test]
async fn it_starts_durable_and_stops_clean() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let pid = broker.pid().unwrap();
    let found = facts(broker.monitor_url()).await.unwrap();
    assert!(found.version >= ServerVersion::MIN && found.sync_always, "{found:?}");

    broker.stop().await.unwrap();
    assert_eq!((broker.state(), broker.pid(), lives(pid)), (BrokerState::Stopped, None, false));
    broker.stop().await.unwrap();
    assert!(matches!(broker.kill().await, Err(ControlError::Stopped)));
    let log = fs::read_to_string(dir.path().join("broker/nats-server.log")).unwrap();
    assert!(log.contains("Server Exiting"), "{log}");

    let again = Broker::start(BrokerOptions { sync_always: false, ..options(&dir) }).await.unwrap();
    assert_eq!(again.url(), broker.url(), "a directory keeps its ports");
    assert!(!facts(again.monitor_url()).await.unwrap().sync_always);
}

#[tokio::test]
async fn killed_it_comes_back_on_the_same_port_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let (url, first) = (broker.url().to_owned(), broker.pid().unwrap());
    let (context, stream) = stream(&url, 1).await;
    publish(&context, 50).await;

    broker.kill().await.unwrap();
    assert!(!lives(first));
    broker.ready().await.unwrap();
    assert_eq!((broker.url(), broker.restarts()), (url.as_str(), 1));
    assert_ne!(broker.pid().unwrap(), first);
    publish(&context, 1).await;
    assert!(stream.get_info().await.unwrap().state.messages >= 51);

    // And when somebody else kills it.
    assert!(
        Command::new("kill").args(["-9", &broker.pid().unwrap().to_string()]).status().unwrap().success()
    );
    eventually("a second restart", async || broker.restarts() == 2).await;
    publish(&context, 1).await;
    assert!(stream.get_info().await.unwrap().state.messages >= 52);
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn suspended_or_crashed_it_stays_down_until_told() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let address = broker.url().trim_start_matches("nats://").to_owned();
    for restarts in 1..=2 {
        if restarts == 1 {
            broker.suspend().await.unwrap();
        } else {
            broker.crash().await.unwrap();
        }
        assert_eq!((broker.state(), broker.pid()), (BrokerState::Suspended, None));
        assert!(TcpStream::connect(&address).is_err());
        assert!(matches!(broker.kill().await, Err(ControlError::NotRunning)));
        assert!(matches!(broker.ready().await, Err(ControlError::StaysDown { .. })));
        broker.start_again().await.unwrap();
        assert_eq!(broker.restarts(), restarts);
        assert!(TcpStream::connect(&address).is_ok());
    }
}

#[tokio::test]
async fn paused_it_answers_nothing_and_resumed_everything() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let says_hello = || {
        let stream = TcpStream::connect(broker.url().trim_start_matches("nats://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO ")
    };
    assert!(says_hello());
    broker.pause().await.unwrap();
    assert!(!says_hello());
    broker.resume().await.unwrap();
    eventually("it answers again", async || says_hello()).await;
    broker.pause().await.unwrap();
    broker.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_or_port_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let error = Broker::start(options(&dir)).await.unwrap_err();
    assert!(matches!(&error, StartError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("is in use by a running broker"), "{error}");

    let port = broker.url().rsplit(':').next().unwrap().parse().unwrap();
    let other = BrokerOptions { port: Some(port), ..BrokerOptions::new(dir.path().join("other"), "other") };
    assert!(
        matches!(Broker::start(other).await, Err(StartError::PortTaken { port: taken }) if taken == port)
    );
}

#[tokio::test]
async fn a_bad_configuration_is_told_in_the_servers_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let error = Broker::start(BrokerOptions { extra: "no_such_setting: 1".into(), ..options(&dir) })
        .await
        .unwrap_err();
    assert!(matches!(&error, StartError::Died { .. }), "{error}");
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_any_more_is_given_up_and_can_be_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let config = dir.path().join("broker/nats-server.conf");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, "no_such_setting: 1").unwrap();
    broker.kill().await.unwrap();
    eventually("it is given up", async || matches!(broker.state(), BrokerState::Failed { .. })).await;
    let BrokerState::Failed { reason } = broker.state() else { panic!("{:?}", broker.state()) };
    assert!(reason.contains("no_such_setting"), "{reason}");
    fs::write(&config, good).unwrap();
    broker.start_again().await.unwrap();
    assert!(broker.pid().is_some());
}

#[tokio::test]
async fn dropped_it_leaves_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(options(&dir)).await.unwrap();
    let pid = broker.pid().unwrap();
    drop(broker);
    eventually("the server is gone", async || !lives(pid)).await;
}

/// The other side of [`a_killed_parent_takes_the_server_with_it`], which runs it in a process of its own.
#[tokio::test]
async fn parent_to_be_killed() {
    let Some(dir) = env::var_os(PARENT_DIR).map(PathBuf::from) else { return };
    let broker = Broker::start(BrokerOptions::new(dir.join("broker"), "test")).await.unwrap();
    println!("\nbroker {}", broker.pid().unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_parent_takes_the_server_with_it() {
    for paused in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let mut parent = Command::new(env::current_exe().unwrap())
            .args(["--exact", "tests::parent_to_be_killed", "--nocapture"])
            .env(PARENT_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let pid: u32 = lines
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("broker ")?.parse().ok())
            .expect("a process id");
        assert!(lives(pid));
        if paused {
            assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        eventually("the server is gone too", async || !lives(pid)).await;
        // Nobody holds the directory any more.
        Broker::start(options(&dir)).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_cannot_write_comes_back_by_a_restart_once_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path()) else { return };
    let broker = Broker::start(BrokerOptions::new(dir.path().join("broker"), "test")).await.unwrap();
    let (context, stream) = stream(broker.url(), 1).await;
    publish(&context, 10).await;

    let ballast = dir.path().join("ballast");
    // Takes what is left, all but some pages.
    let _ = Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .arg(format!("of={}", ballast.display()))
        .output()
        .unwrap();
    let monitor = Monitor::new(broker.monitor_url().rsplit(':').next().unwrap().parse().unwrap()).unwrap();
    eventually("writes fail", async || {
        // Not awaited: a stream that cannot write does not answer.
        context.publish("s.big", vec![0; 100_000].into()).await.unwrap();
        monitor.health(Depth::Everything).await.is_write_error()
    })
    .await;
    assert_eq!(broker.restarts(), 0, "a restart is no use while the disk is full");
    fs::remove_file(ballast).unwrap();
    eventually("the server is started again", async || broker.restarts() > 0).await;
    publish(&context, 1).await;
    assert!(stream.get_info().await.unwrap().state.messages >= 11);
    broker.stop().await.unwrap();
    drop(disk);
}

/// A file system of its own, small enough to fill.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"]).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at.to_owned()));
        }
        println!("skipped: a small file system can only be mounted by root");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_cluster_survives_the_loss_of_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(dir.path(), 3).await.unwrap();
    assert_eq!(cluster.urls().len(), 3);
    let (context, stream) = stream(&cluster.url(), 3).await;
    publish(&context, 20).await;

    cluster.kill_node(0).await.unwrap();
    assert_eq!(cluster.node(0).pid(), None);
    publish(&context, 20).await;
    assert_eq!(cluster.node(0).pid(), None);
    cluster.start_node(0).await.unwrap();
    assert!(cluster.node(0).pid().is_some());
    assert!(stream.get_info().await.unwrap().state.messages >= 40);
    assert!(matches!(Cluster::start(dir.path(), 3).await, Err(ClusterError::InUse { .. })));
    cluster.stop().await.unwrap();
}

/// A program that says it is this version. Written by another process: one that this process wrote could not be run
/// while another thread's new child still holds the file.
fn pretender(dir: &Path, name: &str, version: &str) -> PathBuf {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let script = format!("#!/bin/sh\necho 'nats-server: v{version}'\n");
    let write = r#"printf %s "$2" > "$1" && chmod +x "$1""#;
    assert!(Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(script).status().unwrap().success());
    path
}

fn finder(dir: &Path) -> Finder {
    Finder { named: None, folders: Vec::new(), cache: Some(dir.join("cache")), apt: dir.join("apt") }
}

#[tokio::test]
async fn a_named_server_is_used_or_refused_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (new, old) = (pretender(dir.path(), "new", "2.15.0"), pretender(dir.path(), "old", "2.14.5"));
    let other = pretender(dir.path(), "good/nats-server", "2.15.1");
    let named = async |path: &Path| {
        let folders = vec![other.parent().unwrap().to_owned()];
        Finder { named: Some(path.to_owned()), folders, ..finder(dir.path()) }.find().await
    };
    assert_eq!(named(&new).await.unwrap(), new);
    let error = named(&old).await.unwrap_err();
    assert!(matches!(error, FindError::NamedTooOld { .. }));
    assert!(error.to_string().contains("which is nats-server 2.14.5: malote needs >= 2.15.0"), "{error}");
    assert!(matches!(named(&dir.path().join("missing")).await, Err(FindError::Named { .. })));
}

#[tokio::test]
async fn an_old_server_on_the_path_is_passed_over_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let old = pretender(dir.path(), "old/nats-server", "2.10.29");
    let finder = Finder { folders: vec![old.parent().unwrap().to_owned()], ..finder(dir.path()) };
    let error = finder.find().await.unwrap_err();
    assert!(matches!(&error, FindError::Fetch { source: FetchError::NoDebian { .. }, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&format!("passed over {}, which is 2.10.29", old.display())), "{text}");
    assert!(text.contains("set MALOTE_NATS_SERVER"), "{text}");

    let cached = pretender(dir.path(), "cache/nats-server-2.15.3", "2.15.3");
    pretender(dir.path(), "cache/nats-server-2.15.2", "2.15.2");
    pretender(dir.path(), "cache/nats-server-2.15.9", "2.14.0");
    assert_eq!(finder.find().await.unwrap(), cached, "the newest in the cache that is what its name says");

    let new = pretender(dir.path(), "new/nats-server", "2.16.0");
    let folders = vec![old.parent().unwrap().to_owned(), new.parent().unwrap().to_owned()];
    assert_eq!(Finder { folders, ..finder }.find().await.unwrap(), new);
}

#[tokio::test]
async fn two_fetches_at_once_into_an_empty_cache_end_with_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("a cache");
    let apt = Path::new("/etc/apt");
    if !crate::apt::debian_mirror(apt).is_ok_and(|mirror| mirror.is_some()) {
        println!("skipped: this system has no Debian archive to fetch from");
        return;
    }
    let (one, two) =
        tokio::join!(fetch::cached_or_fetched(&cache, apt), fetch::cached_or_fetched(&cache, apt));
    let program = one.unwrap();
    assert_eq!(program, two.unwrap());
    let mut left: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["fetch.lock".into(), program.file_name().unwrap().to_owned()]);
    let broker = Broker::start(BrokerOptions { program: Some(program), ..options(&dir) }).await.unwrap();
    broker.stop().await.unwrap();
}
