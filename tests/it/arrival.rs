//! From the back office's request to what a till shows.

use std::collections::BTreeMap;

use malote_journal::chunk::Chunk;
use malote_journal::{Reader, subjects};
use malote_tests::{Stack, price, until};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

/// Waits until every till of a lot has reported, and answers its totals.
async fn arrived(stack: &Stack, lot: &str) -> Value {
    let mut totals = Value::Null;
    until("every till to report", async || {
        let (_, view) = stack.get(&format!("/v1/lots/{lot}")).await;
        totals = view["totals"].clone();
        (view["state"] == "released" && totals["pending"] == 0).then_some(()).ok_or(view.to_string())
    })
    .await;
    totals
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lot_reaches_every_till_it_is_for_and_the_back_office_sees_it() {
    let stack = Stack::start().await;
    stack.store("330", &["sul"], &["1", "2"]).await;
    stack.store("331", &[], &["1"]).await;
    let tills = [stack.till("330", "1").await, stack.till("330", "2").await, stack.till("331", "1").await];
    let all = stack.lot("all", &[("1", 100), ("2", 200)]).await;
    for till in &tills {
        till.until_price("2", Some(200)).await;
    }
    let totals = arrived(&stack, &all).await;
    assert_eq!((totals["applied"].as_u64(), totals["pdvs"].as_u64()), (Some(3), Some(3)), "{totals}");
    // Scopes overlay: store over group over all, and a delete uncovers what is below.
    let sul = stack.lot("group-sul", &[("1", 90)]).await;
    let own = stack.lot("store-330", &[("1", 80)]).await;
    tills[0].until_price("1", Some(80)).await;
    arrived(&stack, &sul).await;
    assert_eq!(tills[2].price("1").await, Some(100));
    let lot = stack.open("store-330").await;
    stack.send(&lot, "", "{\"kind\":\"price\",\"key\":\"1\",\"op\":\"delete\"}\n").await;
    stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
    tills[0].until_price("1", Some(90)).await;
    // One record traced through everything.
    let mut trace = Value::Null;
    until("the hub's catalogue to hold all four lots", async || {
        trace = stack.get("/v1/trace?kind=price&key=1").await.1;
        let deleted = trace["sent"].as_array().unwrap().iter().any(|sent| sent["deleted"] == true);
        deleted.then_some(()).ok_or(trace.to_string())
    })
    .await;
    let place = |store: &str| {
        trace["places"].as_array().unwrap().iter().find(|p| p["store"] == store).unwrap().clone()
    };
    assert_eq!(place("330")["scope"], "group-sul", "{trace}");
    assert_eq!(place("331")["lot"], all.as_str(), "{trace}");
    assert_eq!(place("331")["state"], "applied", "{trace}");
    let (_, lots) = stack.get("/v1/lots?limit=10").await;
    assert_eq!(lots["lots"].as_array().unwrap().len(), 4, "{lots}");
    assert!(lots.to_string().contains(&own));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lot_leaves_exactly_its_records() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let till = stack.till("1", "1").await;
    stack.lot("all", &[("1", 100), ("2", 200), ("3", 300)]).await;
    till.until_price("3", Some(300)).await;
    let full = stack.open_with(json!({ "scope": "all", "kinds": ["price"], "mode": "full" })).await;
    stack.send(&full, "", price("2", 250) + &price("4", 400)).await;
    stack.post(&format!("/v1/lots/{full}/close"), json!({})).await;
    till.until_price("4", Some(400)).await;
    let keys: Vec<String> = till.records("price").await.into_keys().collect();
    assert_eq!(keys, ["2", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_that_was_away_catches_up_and_shows_its_distance_until_then() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1", "2"]).await;
    let mut away = stack.till("1", "1").await;
    let here = stack.till("1", "2").await;
    let first = stack.lot("all", &[("1", 100)]).await;
    arrived(&stack, &first).await;
    away.stop().await;
    let mut last = String::new();
    for n in 0..30 {
        last = stack.lot("all", &[("1", 200 + n)]).await;
    }
    here.until_price("1", Some(229)).await;
    let (_, pdvs) = stack.get("/v1/pdvs").await;
    let till = |pdv: &str| pdvs["pdvs"].as_array().unwrap().iter().find(|p| p["pdv"] == pdv).unwrap().clone();
    assert_eq!(till("1")["notices_behind"], 30, "{pdvs}");
    assert!(till("1")["seconds_behind"].as_i64().is_some(), "{pdvs}");
    let (_, view) = stack.get(&format!("/v1/lots/{last}/arrival?state=pending")).await;
    assert_eq!(view["arrival"][0]["pdv"], "1", "{view}");
    away.start_again().await;
    away.until_price("1", Some(229)).await;
    arrived(&stack, &last).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_goes_on_without_hub_and_broker_and_after_them() {
    let mut stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let mut till = stack.till("1", "1").await;
    stack.lot("all", &[("1", 100)]).await;
    till.until_price("1", Some(100)).await;
    stack.kill_hub();
    stack.broker().suspend().await.unwrap();
    assert_eq!(till.price("1").await, Some(100), "offline is a normal state");
    // Even started offline it shows what it has.
    till.kill();
    till.start_again().await;
    assert_eq!(till.price("1").await, Some(100));
    let (_, status) = till.get("/status").await;
    assert_eq!(status["online"], false, "{status}");
    stack.broker().start_again().await.unwrap();
    stack.start_hub().await;
    stack.lot("all", &[("1", 110)]).await;
    till.until_price("1", Some(110)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_till_gets_there_without_having_seen_history() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let old = stack.till("1", "1").await;
    for n in 0..20_u64 {
        stack.lot("all", &[("1", n), (&format!("k{n}"), n)]).await;
    }
    old.until_price("1", Some(19)).await;
    let (status, body) = stack.post("/v1/snapshots", json!({ "scope": "all" })).await;
    assert_eq!(status, 200, "{body}");
    let snapshot = body["lot"].as_str().unwrap().to_owned();
    stack.lot("all", &[("1", 77)]).await;
    old.until_price("1", Some(77)).await;
    // A till of this store, and the first till of a store that did not exist then.
    stack.put("/v1/stores/1/pdvs/2", json!({})).await;
    stack.store("2", &[], &["1"]).await;
    let beside = stack.till("1", "2").await;
    let elsewhere = stack.till("2", "1").await;
    let wanted = old.records("price").await;
    assert_eq!(wanted.len(), 21);
    for till in [&beside, &elsewhere] {
        till.until_price("1", Some(77)).await;
        until("the new till to have everything", async || {
            let have = till.records("price").await;
            (have == wanted).then_some(()).ok_or(format!("{have:?}"))
        })
        .await;
    }
    // The snapshot spared them the lots before it, and the till that had those did not need the snapshot.
    let mut view = Value::Null;
    until("the store that came later to report", async || {
        view = stack.get(&format!("/v1/lots/{snapshot}/arrival?state=applied")).await.1;
        (view["arrival"].as_array().unwrap().len() == 3).then_some(()).ok_or(view.to_string())
    })
    .await;
    let upserted = |store: &str, pdv: &str| {
        let rows = view["arrival"].as_array().unwrap();
        rows.iter().find(|row| row["store"] == store && row["pdv"] == pdv).unwrap()["upserted"]
            .as_u64()
            .unwrap()
    };
    assert_eq!((upserted("1", "1"), upserted("1", "2"), upserted("2", "1")), (0, 21, 21), "{view}");
    let (_, lots) = stack.get("/v1/lots?limit=100").await;
    let first = lots["lots"].as_array().unwrap().last().unwrap()["lot"].as_str().unwrap().to_owned();
    let mut totals = Value::Null;
    until("all of them to have reported the first lot", async || {
        totals = arrived(&stack, &first).await;
        (totals["pdvs"] == 3).then_some(()).ok_or(totals.to_string())
    })
    .await;
    let counts = ["stores", "pdvs", "applied", "superseded"].map(|count| totals[count].as_u64().unwrap());
    assert_eq!(counts, [2, 3, 1, 2], "the tills that came later did not need it: {totals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_killed_during_a_download_only_delays_it() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1", "2", "3"]).await;
    let lot = stack.open("all").await;
    // Some megabytes that do not compress, so that the download takes several chunks.
    let mut noise = 1_u64;
    for part in 0..8 {
        let lines: String = (0..2_000)
            .map(|n| {
                let words: String = (0..8)
                    .map(|_| {
                        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        format!("{noise:016x}")
                    })
                    .collect();
                format!("{{\"kind\":\"product\",\"key\":\"{part}-{n}\",\"body\":{{\"description\":\"{words}\"}}}}\n")
            })
            .collect();
        let (status, taken) = stack.send(&lot, "", lines).await;
        assert_eq!((status, taken["accepted"].as_u64()), (200, Some(2_000)), "{taken}");
    }
    let mut tills = vec![stack.till("1", "1").await, stack.till("1", "2").await, stack.till("1", "3").await];
    let (status, body) = stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
    assert_eq!(status, 200, "{body}");
    for till in &mut tills {
        stack.broker().kill().await.unwrap();
        till.kill();
        stack.broker().ready().await.unwrap();
        till.start_again().await;
    }
    for till in &tills {
        until("the till to have all of the lot", async || {
            let (_, status) = till.get("/lots").await;
            let done = status["lots"][0]["state"] == "applied";
            // All of it or nothing, at whatever moment one looks.
            let count = till.records("product").await.len();
            assert!(count == 0 || count == 16_000, "{count}");
            (done && count == 16_000).then_some(()).ok_or(format!("{count} {status}"))
        })
        .await;
    }
    let totals = arrived(&stack, &lot).await;
    assert_eq!(totals["applied"], 3, "{totals}");
}

/// What two senders do, request by request: key and price; none deletes.
type Requests = Vec<Vec<(u8, Option<u16>)>>;

fn requests() -> impl Strategy<Value = Requests> {
    let record = (0..12_u8, proptest::option::weighted(0.85, any::<u16>()));
    proptest::collection::vec(proptest::collection::vec(record, 1..20), 1..6)
}

fn lines(request: &[(u8, Option<u16>)]) -> String {
    request
        .iter()
        .map(|(key, cents)| match cents {
            Some(cents) => price(&format!("k{key}"), u64::from(*cents)),
            None => format!("{{\"kind\":\"price\",\"key\":\"k{key}\",\"op\":\"delete\"}}\n"),
        })
        .collect()
}

/// The records of a lot as its chunks tell them, the last of a key winning.
async fn fold(stack: &Stack, lot: &str) -> BTreeMap<String, Value> {
    let data = Reader::new(stack.journal().await, subjects::LOTDATA);
    let mut records = BTreeMap::new();
    for n in 0.. {
        let subject = format!("lotdata.all.{lot}.{n}");
        let chunk = Chunk::decode(data.last_of(&subject).await.unwrap().unwrap().payload).unwrap();
        if chunk.end {
            break;
        }
        for record in chunk.unpack().unwrap().iter() {
            match record.body {
                Some(body) => records.insert(record.key.to_owned(), serde_json::from_slice(body).unwrap()),
                None => records.remove(record.key),
            };
        }
    }
    records
}

/// Any interleaving of two senders, cut into any requests and so into any chunks, equals the fold.
#[test]
fn whatever_two_senders_do_the_till_shows_the_fold() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (stack, till) = runtime.block_on(async {
        let stack = Stack::start().await;
        stack.store("1", &[], &["1"]).await;
        let till = stack.till("1", "1").await;
        (stack, till)
    });
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let case = |(one, two): (Requests, Requests)| {
        runtime.block_on(async {
            let terms = json!({ "scope": "all", "kinds": ["price"], "mode": "full" });
            let lot = stack.open_with(terms).await;
            let send = async |requests: Requests| {
                for request in requests {
                    let (status, taken) = stack.send(&lot, "", lines(&request)).await;
                    assert_eq!(
                        (status, taken["accepted"].as_u64()),
                        (200, Some(request.len() as u64)),
                        "{taken}"
                    );
                }
            };
            tokio::join!(send(one), send(two));
            let (status, body) = stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
            assert_eq!(status, 200, "{body}");
            arrived(&stack, &lot).await;
            assert_eq!(till.records("price").await, fold(&stack, &lot).await);
        });
        Ok(())
    };
    runner.run(&(requests(), requests()), case).unwrap();
}
