//! The command line as its users meet it: good files, bad files, lots that are not where one thinks they are.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use malote::{Exit, Shell};
use malote_hub::{Config, Hub};
use malote_journal::{Reader, subjects};
use malote_tests::{Stack, config, until};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// What a command said.
#[derive(Debug)]
struct Said {
    exit: Exit,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn exits(self, exit: Exit) -> Self {
        assert_eq!(self.exit, exit, "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.err.contains(text), "no '{text}' in {self:#?}");
        }
        self
    }

    /// The lines of `--json` that are this step.
    fn steps(&self, step: &str) -> Vec<Value> {
        let lines = self.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["step"] == step).collect()
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

async fn malote_at(hub: &str, args: &[&str], stop: CancellationToken) -> Said {
    let args = ["malote", "--hub", hub].into_iter().chain(args.iter().copied());
    let (out, err) = (Buffer::default(), Buffer::default());
    let mut shell = Shell::new(out.clone(), err.clone(), false, stop);
    let exit = Box::pin(malote::run(malote::parse(args).unwrap(), &mut shell)).await;
    Said { exit, out: out.text(), err: err.text() }
}

/// A hub, and a folder with the files that tests write.
struct Desk {
    stack: Stack,
    hub: String,
}

impl Desk {
    async fn new() -> Self {
        let stack = Stack::start().await;
        let hub = format!("http://{}", stack.hub().address());
        Self { stack, hub }
    }

    async fn malote(&self, args: &[&str]) -> Said {
        malote_at(&self.hub, args, CancellationToken::new()).await
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.stack.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Sends a file and does not wait for tills.
    async fn send(&self, file: &str, more: &[&str]) -> Said {
        let args = ["lot", "send", file, "--no-wait"];
        self.malote(&[&args, more].concat()).await
    }

    /// An open lot of prices, and no sender to it.
    async fn open(&self) -> String {
        self.stack.open_with(serde_json::json!({ "scope": "all", "kinds": ["price"] })).await
    }

    /// Waits until so many lots are in a state: the tables are a moment behind what was confirmed.
    async fn until_lots(&self, state: &str, count: usize) {
        until(&format!("{count} lots to be {state}"), async || {
            let said = self.malote(&["lot", "ls", "--state", state, "--json"]).await.exits(Exit::Fine);
            (said.out.lines().count() == count).then_some(()).ok_or(said.out)
        })
        .await;
    }
}

const PRICES: &str = "sku,price_cents\n1,100\n2,200\n";

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_open_no_lot() {
    let desk = Desk::new().await;
    let big = format!("sku,price_cents,note\n1,100,{}\n", "x".repeat(70 * 1024));
    // Name, content, more arguments, what is said.
    type Case<'a> = (&'a str, &'a [u8], &'a [&'a str], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("column.csv", b"sku,price\n1,100\n", &[], &["column.csv", "'price_cents'", "'price'"]),
        ("key.csv", b"code,price_cents\n1,100\n", &[], &["'sku'", "--key COLUMN"]),
        ("delimiter.csv", b"sku;price_cents\n1;100\n", &["--delimiter", ","], &["';'", "--delimiter"]),
        ("latin1.csv", b"sku,price_cents\n1,100\n2\xE7,200\n", &[], &["line 3", "0xE7", "iconv -f latin1"]),
        ("quote.csv", b"sku,price_cents\n\"1,100\n2,200\n", &[], &["line 2", "quote"]),
        ("ragged.csv", b"sku,price_cents\n1,100\n2\n", &[], &["line 3", "expected 2 columns", "got 1"]),
        ("header.csv", b"sku,price_cents\n", &[], &["no rows"]),
        ("empty.csv", b"", &[], &["is empty"]),
        ("big.csv", big.as_bytes(), &[], &["line 2", "key '1'", "65536"]),
        ("bad.ndjson", b"{\"sku\":\"1\",\"price_cents\":1}\n{\"sku\":\n", &[], &["line 2", "not JSON"]),
        ("list.ndjson", b"[1]\n", &[], &["line 1", "not an object"]),
    ];
    for (name, text, more, says) in cases {
        let file = desk.file(name, text);
        let said = desk.send(&file, &[&["--kind", "price"], *more].concat()).await;
        said.exits(Exit::Usage).says(says).says(&["error: "]);
    }
    let said = desk.send("no-such-file.csv", &["--kind", "price"]).await;
    said.exits(Exit::Usage).says(&["no-such-file.csv", "cannot be opened", "No such file"]);
    // A lot that the tables know after all these was the first of all.
    let file = desk.file("good.csv", PRICES);
    desk.send(&file, &["--kind", "price"]).await.exits(Exit::Fine);
    desk.until_lots("released", 1).await;
    let said = desk.malote(&["lot", "ls"]).await.exits(Exit::Fine);
    assert_eq!(said.out.lines().count(), 2, "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_as_spreadsheets_write_them_are_taken() {
    let desk = Desk::new().await;
    for (name, text) in [
        ("excel.csv", "\u{feff}sku;price_cents\r\n1;100\r\n\"2\";200\r\n"),
        ("last.csv", "sku,price_cents\n1,100\n2,200"),
        ("tabs.csv", "sku\tprice_cents\n1\t100\n2\t200\n"),
        ("some.ndjson", "{\"sku\":\"1\",\"price_cents\":100}\r\n\r\n{\"sku\":\"2\",\"price_cents\":200}\n"),
    ] {
        let said = desk.send(&desk.file(name, text), &["--kind", "price", "--json"]).await.exits(Exit::Fine);
        assert_eq!(said.steps("sent")[0]["accepted"], 2, "{said:#?}");
        assert_eq!(said.steps("closed")[0]["records"]["price"], 2, "{said:#?}");
        let steps: Vec<Value> = said
            .out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].clone())
            .collect();
        assert_eq!(steps, ["checked", "opened", "sent", "closed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_is_named_and_the_others_go_in() {
    let desk = Desk::new().await;
    let file = desk.file("prices.csv", "sku,price_cents\n1,100\n2,-5\n1,300\n3,x\n");
    let refused = desk.stack.folder.path().join("refused.csv");
    let said = desk.send(&file, &["--kind", "price", "--refused", refused.to_str().unwrap()]).await;
    let said = said
        .exits(Exit::Failed)
        .says(&["prices.csv:3: price '2' refused", "prices.csv:5: price '3' refused"]);
    let said = said.says(&["2 records sent", "2 refused", "1 with a key that came before"]);
    let lot = said.out.trim();
    let (_, view) = desk.stack.get(&format!("/v1/lots/{lot}")).await;
    assert_eq!(view["kinds"]["price"], 2, "{view}");
    let written = std::fs::read_to_string(refused).unwrap();
    let lines: Vec<&str> = written.lines().collect();
    assert_eq!(lines.len(), 3, "{written}");
    assert_eq!(lines[0], "line,kind,key,code,reason");
    assert!(lines[1].starts_with("3,price,2,record.schema,"), "{written}");

    let said = desk.send(&file, &["--kind", "price", "--strict"]).await;
    said.exits(Exit::Failed).says(&["prices.csv:3: price '2' refused", "error: ", "strict", "hint: "]);
    let nothing = desk.file("nothing.csv", "sku,price_cents\n1,-1\n");
    let said = desk.send(&nothing, &["--kind", "price"]).await;
    said.exits(Exit::Failed).says(&["none of the 1 records was taken", "given up"]);
    desk.until_lots("aborted", 2).await;
    desk.until_lots("open", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_and_scopes_that_nobody_knows() {
    let desk = Desk::new().await;
    let file = desk.file("notes.csv", "id,text\n1,a\n2,b\n");
    desk.send(&file, &["--kind", "note"]).await.exits(Exit::Usage).says(&["'note'", "--key COLUMN"]);
    let said = desk.send(&file, &["--kind", "note", "--key", "id", "--json"]).await.exits(Exit::Fine);
    assert_eq!(said.steps("closed")[0]["records"]["note"], 2);
    for scope in ["store-777", "group-sul"] {
        let said = desk.send(&file, &["--kind", "note", "--key", "id", "--scope", scope]).await;
        said.exits(Exit::Usage).says(&[scope, "not known", "store import"]);
    }
    let past = ["--kind", "note", "--key", "id", "--activate-at", "amanhã"];
    desk.send(&file, &past).await.exits(Exit::Usage).says(&["amanhã"]);
    let said = desk.send(&file, &["--kind", "note", "--key", "id", "--mode", "full", "--changed-only"]).await;
    said.exits(Exit::Usage).says(&["--changed-only", "full"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_needs_no_lot() {
    let desk = Desk::new().await;
    desk.stack.store("001", &[], &["1"]).await;
    let file = desk.file("prices.csv", PRICES);
    let first = desk.send(&file, &["--kind", "price"]).await.exits(Exit::Fine);
    desk.stack.until_state(first.out.trim(), "released").await;
    until("the catalogue to hold the records", async || {
        let said = desk.send(&file, &["--kind", "price", "--changed-only", "--json"]).await;
        let unchanged = said.steps("sent")[0]["unchanged"].clone();
        (unchanged == 2 && said.steps("nothing_changed").len() == 1).then_some(()).ok_or(format!("{said:?}"))
    })
    .await;
    desk.until_lots("open", 0).await;
    let more = desk.file("more.csv", "sku,price_cents\n1,100\n2,250\n");
    let said = desk.send(&more, &["--kind", "price", "--changed-only", "--json"]).await.exits(Exit::Fine);
    assert_eq!(said.steps("closed")[0]["records"]["price"], 1, "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lots_that_cannot_be_closed_say_why() {
    let desk = Desk::new().await;
    let unknown = "01900000-0000-7000-8000-000000000000";
    let said = desk.malote(&["lot", "close", unknown]).await;
    said.exits(Exit::Usage).says(&["no such lot"]);

    let empty = desk.open().await;
    desk.malote(&["lot", "close", &empty]).await.exits(Exit::Failed).says(&["empty"]);

    let lot = desk.open().await;
    let (status, _) = desk.stack.send(&lot, "", malote_tests::price("1", 5)).await;
    assert_eq!(status, 200);
    let said = desk.malote(&["lot", "close", &lot, "--records", "price=2"]).await;
    said.exits(Exit::Failed).says(&["price", "2", "1"]);
    let said = desk.malote(&["lot", "close", &lot, "--chunks", "7"]).await;
    said.exits(Exit::Failed).says(&["7"]);
    let said = desk.malote(&["lot", "close", &lot, "--digest", &"0".repeat(64)]).await;
    said.exits(Exit::Failed).says(&["digest"]);
    desk.malote(&["lot", "close", &lot, "--digest", "beef"]).await.exits(Exit::Usage).says(&["64"]);
    desk.until_lots("open", 2).await;
    desk.malote(&["lot", "close", &lot, "--records", "price=1", "--chunks", "1"]).await.exits(Exit::Fine);
    desk.malote(&["lot", "close", &lot]).await.exits(Exit::Failed).says(&["closed"]);
    desk.malote(&["lot", "abort", &lot]).await.exits(Exit::Failed).says(&["closed"]);

    desk.malote(&["lot", "abort", &empty, "--reason", "a mistake"]).await.exits(Exit::Fine);
    desk.malote(&["lot", "close", &empty]).await.exits(Exit::Failed).says(&["aborted", "a mistake"]);
    desk.until_lots("aborted", 1).await;
    let said = desk.malote(&["lot", "status", &empty]).await.exits(Exit::Fine);
    assert!(said.out.contains("aborted") && said.out.contains("a mistake"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_hub_it_says_how_to_get_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prices.csv");
    std::fs::write(&file, PRICES).unwrap();
    // Nothing can listen on port 1 here, and the pause between tries is short.
    let args = ["lot", "send", file.to_str().unwrap(), "--kind", "price", "--patience", "300ms"];
    let said = malote_at("http://127.0.0.1:1", &args, CancellationToken::new()).await;
    said.exits(Exit::Unreachable).says(&["http://127.0.0.1:1", "Connection refused", "malote up"]);
    let said = malote_at("127.0.0.1:1", &["lot", "ls"], CancellationToken::new()).await;
    said.exits(Exit::Usage).says(&["'127.0.0.1:1'", "MALOTE_HUB"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_come_in_by_the_file() {
    let desk = Desk::new().await;
    let wrong = desk.file("wrong.csv", "store,pdvs\n001,2\nloja 2,1\n001,1\n");
    let said = desk.malote(&["store", "import", &wrong]).await;
    said.exits(Exit::Usage).says(&[
        "line 3",
        "loja 2",
        "line 4",
        "line 2 already",
        "no store was registered",
    ]);
    let said = desk.malote(&["store", "ls", "--json"]).await.exits(Exit::Fine);
    assert_eq!(said.out, "", "nothing was registered");

    let many: String = (1..=40).map(|n| format!("{n:03},Sul,sul;litoral,2\n")).collect();
    let file = desk.file("stores.csv", format!("store,name,groups,pdvs\n{many}"));
    desk.malote(&["store", "import", &file]).await.exits(Exit::Fine).says(&["40 stores registered"]);
    let said = desk.malote(&["store", "ls"]).await.exits(Exit::Fine);
    assert_eq!(said.out.lines().count(), 41);
    let said = desk.malote(&["store", "show", "017", "--json"]).await.exits(Exit::Fine);
    let store: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&store["pdvs"][1]["pdv"], &store["groups"][1]), (&"02".into(), &"sul".into()), "{store}");

    let zones = desk.file("zones.csv", "store,zone\n001,America/Manaus\n041,America/Atlantida\n042,\n");
    let said = desk.malote(&["store", "import", &zones]).await.exits(Exit::Failed);
    said.says(&["zones.csv:3: store 041", "America/Atlantida", "2 of 3 stores registered", "lines 2, 4"]);

    desk.malote(&["pdv", "add", "042", "caixa-1"]).await.exits(Exit::Fine);
    desk.malote(&["pdv", "add", "999", "1"]).await.exits(Exit::Usage).says(&["'999'"]);
    let said = desk.malote(&["pdv", "ls", "--store", "042"]).await.exits(Exit::Fine);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("042.caixa-1  no"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lot_is_followed_to_the_tills_that_are_online() {
    let desk = Desk::new().await;
    desk.stack.store("001", &[], &["1", "2"]).await;
    let mut till = desk.stack.till("001", "1").await;
    until("the till to be heard of", async || {
        let said = desk.malote(&["pdv", "ls", "--json"]).await;
        said.out.contains("\"online\":true").then_some(()).ok_or(said.out)
    })
    .await;
    let file = desk.file("prices.csv", PRICES);
    let said =
        desk.malote(&["lot", "send", &file, "--kind", "price", "--wait", "60s"]).await.exits(Exit::Fine);
    let said = said.says(&["1 of 2 tills have it", "offline, to get it when back: 1", "waiting: 001.2"]);
    assert_eq!(till.price("2").await, Some(200));
    let lot = said.out.trim().to_owned();
    let said = desk.malote(&["lot", "status", &lot]).await.exits(Exit::Fine);
    assert!(
        said.out.contains("2: 1 applied, 0 with errors, 0 failed, 0 superseded, 1 pending"),
        "{}",
        said.out
    );
    let said = desk.malote(&["lot", "trace", "--kind", "price", "--key", "2"]).await.exits(Exit::Fine);
    assert!(said.out.contains("001.1  applied") && said.out.contains("001.2  pending"), "{}", said.out);
    till.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_interrupts_a_send_leaves_nothing_open() {
    let desk = Desk::new().await;
    let rows: String = (0..200_000).map(|n| format!("{n},100\n")).collect();
    let file = desk.file("many.csv", format!("sku,price_cents\n{rows}"));
    let stop = CancellationToken::new();
    let interrupt = async {
        desk.until_lots("open", 1).await;
        stop.cancel();
    };
    let args = ["lot", "send", &file, "--kind", "price"];
    let (said, ()) = tokio::join!(malote_at(&desk.hub, &args, stop.clone()), interrupt);
    said.exits(Exit::Interrupted).says(&["interrupted", "given up"]);
    desk.until_lots("aborted", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_restarts_in_the_middle_costs_only_time() {
    let mut desk = Desk::new().await;
    let address = desk.stack.hub().address();
    let rows: String = (0..300_000).map(|n| format!("{n},100\n")).collect();
    let file = desk.file("many.csv", format!("sku,price_cents\n{rows}"));
    let records = desk.stack.journal().await;
    let hub = desk.hub.clone();
    let restart = async {
        until("the first records to be durable", async || {
            let reader = Reader::new(records.clone(), subjects::LOTDATA);
            let last = reader.last_sequence().await.map_err(|error| error.to_string())?;
            (last > 0).then_some(()).ok_or_else(|| "none".to_owned())
        })
        .await;
        desk.stack.kill_hub();
        let again = Config { listen: address, ..config(&desk.stack.folder, desk.stack.broker()) };
        let mut hub = None;
        until("the hub to be back at its address", async || {
            hub = Some(Hub::start(again.clone()).await.map_err(|error| error.to_string())?);
            Ok(())
        })
        .await;
        hub.unwrap()
    };
    let args = ["lot", "send", &file, "--kind", "price", "--no-wait", "--json", "--patience", "60s"];
    let (said, hub) = tokio::join!(malote_at(&hub, &args, CancellationToken::new()), restart);
    let said = said.exits(Exit::Fine);
    let closed = &said.steps("closed")[0]["records"]["price"];
    assert!(closed.as_u64().unwrap() >= 300_000, "{closed}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_and_hub_come_up_as_one_and_again_with_what_they_had() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("a 100% folder?#1");
    for round in 0..2 {
        let (out, err, stop) = (Buffer::default(), Buffer::default(), CancellationToken::new());
        let args = ["malote", "up", "--dir", dir.to_str().unwrap(), "--listen", "127.0.0.1:0", "--json"];
        let mut shell = Shell::new(out.clone(), err.clone(), false, stop.clone());
        let cli = malote::parse(args).unwrap();
        let work = async {
            until("it to be up", async || {
                let up = err.text().contains("malote is up");
                up.then_some(()).ok_or_else(|| err.text())
            })
            .await;
            let up: Value = serde_json::from_str(out.text().lines().next().unwrap()).unwrap();
            let hub = up["hub"].as_str().unwrap();
            let said = malote_at(hub, &["store", "ls"], CancellationToken::new()).await.exits(Exit::Fine);
            assert_eq!(said.out.contains("Cuiabá"), round > 0, "{said:#?}");
            let add = ["store", "add", "001", "--name", "Cuiabá", "--zone", "America/Cuiaba"];
            malote_at(hub, &add, CancellationToken::new()).await.exits(Exit::Fine);
            stop.cancel();
        };
        let (exit, ()) = tokio::join!(Box::pin(malote::run(cli, &mut shell)), work);
        assert_eq!(exit, Exit::Fine, "{}", err.text());
    }
    assert!(dir.join("hub.db").is_file(), "the database is where it was said to be");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_a_lot_of_all_there_is() {
    let desk = Desk::new().await;
    desk.stack.store("001", &[], &["1"]).await;
    let file = desk.file("prices.csv", PRICES);
    let first = desk.send(&file, &["--kind", "price"]).await.exits(Exit::Fine);
    desk.stack.until_state(first.out.trim(), "released").await;
    let said = desk.malote(&["lot", "snapshot"]).await.exits(Exit::Fine);
    desk.stack.until_state(said.out.trim(), "released").await;
    let said = desk.malote(&["lot", "status", said.out.trim()]).await.exits(Exit::Fine);
    assert!(said.out.contains("all, all there is") && said.out.contains("2 price"), "{}", said.out);
}
