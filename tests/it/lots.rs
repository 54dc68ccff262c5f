use serde_json::{Value, json};

use malote_tests::{Stack, price, until};

fn code(body: &Value) -> &str {
    body["code"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lot_goes_from_open_to_one_notice_per_store() {
    let stack = Stack::start().await;
    stack.store("330", &["sul"], &["1", "2"]).await;
    stack.store("331", &[], &["1"]).await;
    let all = stack.lot("all", &[("1", 100), ("2", 200)]).await;
    let sul = stack.lot("group-sul", &[("1", 90)]).await;
    let own = stack.lot("store-331", &[("1", 80)]).await;
    stack.until_notices("330", &[&all, &sul]).await;
    stack.until_notices("331", &[&all, &own]).await;
    stack.until_state(&all, "released").await;
    let (_, body) = stack.get(&format!("/v1/lots/{all}")).await;
    assert_eq!(body["totals"]["stores"], 2, "{body}");
    assert_eq!(body["totals"]["pdvs"], 3, "{body}");
    assert_eq!(body["totals"]["pending"], 3, "{body}");
    assert_eq!(body["kinds"]["price"], 2, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_comes_later_is_told_of_what_was_released_before() {
    let stack = Stack::start().await;
    stack.store("1", &["sul"], &["1"]).await;
    let all = stack.lot("all", &[("1", 100)]).await;
    let sul = stack.lot("group-sul", &[("1", 90)]).await;
    stack.until_notices("1", &[&all, &sul]).await;
    // Registered without a till there is no stream; the first till makes it.
    stack.store("2", &[], &[]).await;
    assert!(stack.notices("2").await.is_empty());
    let (status, body) = stack.put("/v1/stores/2/pdvs/7", json!({})).await;
    assert_eq!(status, 200, "{body}");
    stack.until_notices("2", &[&all]).await;
    // Joining a group brings the group's lots.
    stack.store("2", &["sul"], &["7"]).await;
    stack.until_notices("2", &[&all, &sul]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_refused_with_reasons_and_the_good_ones_taken() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.open("all").await;
    let body = format!(
        "{}{{\"line\":7,\"kind\":\"price\",\"key\":\"2\",\"body\":{{}}}}\n{{oops\n{}",
        price("1", 100),
        price("3", 300)
    );
    let (status, taken) = stack.send(&lot, "", body).await;
    assert_eq!(status, 200);
    assert_eq!((taken["accepted"].as_u64(), taken["refused"].as_u64()), (Some(2), Some(2)), "{taken}");
    assert_eq!(taken["records"], json!({ "price": 2 }));
    assert_eq!(taken["refusals"][0]["line"], 7);
    assert_eq!(taken["refusals"][0]["key"], "2");
    assert_eq!(taken["refusals"][1]["line"], 3);
    // A repeated key is counted, also across requests.
    let (_, taken) = stack.send(&lot, "?kind=price", price("1", 110)).await;
    assert_eq!((taken["accepted"].as_u64(), taken["repeated"].as_u64()), (Some(1), Some(1)), "{taken}");
    let (status, closed) =
        stack.post(&format!("/v1/lots/{lot}/close"), json!({ "records": { "price": 3 } })).await;
    assert_eq!(status, 200, "{closed}");
    assert_eq!(closed["chunks"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_lot_is_aborted_by_one_bad_record() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.open_with(json!({ "scope": "all", "kinds": ["price"], "strict": true })).await;
    let (status, body) =
        stack.send(&lot, "", format!("{}{{\"key\":\"2\",\"body\":{{}}}}\n", price("1", 100))).await;
    assert_eq!((status, code(&body)), (422, "lots.strict"), "{body}");
    assert_eq!(body["refusal"]["key"], "2");
    stack.until_state(&lot, "aborted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_is_refused_with_what_differs_and_the_lot_stays_open() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.open("all").await;
    let close = format!("/v1/lots/{lot}/close");
    let (status, body) = stack.post(&close, json!({})).await;
    assert_eq!((status, code(&body)), (409, "lots.empty"));
    stack.send(&lot, "", price("1", 100)).await;
    let (status, body) = stack.post(&close, json!({ "records": { "price": 2 } })).await;
    assert_eq!((status, code(&body)), (409, "lots.records_differ"));
    assert!(body["detail"].as_str().unwrap().contains("1 records of kind price"), "{body}");
    let (status, body) = stack.post(&close, json!({ "digest": "0".repeat(64) })).await;
    assert_eq!((status, code(&body)), (409, "lots.digest_differs"));
    let (_, taken) = stack.send(&lot, "", price("2", 200)).await;
    assert_eq!(taken["accepted"], 1, "a refused close leaves the lot open");
    let (status, body) = stack.post_with_key(&close, "close-1", json!({ "records": { "price": 2 } })).await;
    assert_eq!(status, 200, "{body}");
    let (status, again) = stack.post_with_key(&close, "close-1", json!({ "records": { "price": 2 } })).await;
    assert_eq!((status, &again), (200, &body), "the same command closes once and answers the same");
    for (path, body) in [("close", json!({})), ("abort", json!({}))] {
        let (status, body) = stack.post(&format!("/v1/lots/{lot}/{path}"), body).await;
        assert_eq!((status, code(&body)), (409, "lots.closed"), "{path}");
    }
    let (status, body) = stack.send(&lot, "", price("3", 300)).await;
    assert_eq!((status, code(&body)), (409, "lots.closed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_twice_with_one_key_opens_one_lot() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let terms = json!({ "scope": "all", "kinds": ["price"] });
    let (status, first) = stack.post_with_key("/v1/lots", "night run 7", terms.clone()).await;
    assert_eq!(status, 201);
    let (_, second) = stack.post_with_key("/v1/lots", "night run 7", terms).await;
    assert_eq!(first["lot"], second["lot"]);
    let other = json!({ "scope": "store-1", "kinds": ["price"] });
    let (status, body) = stack.post_with_key("/v1/lots", "night run 7", other).await;
    assert_eq!((status, code(&body)), (409, "lots.opened_differently"), "{body}");
    // One key for all of a run's requests is one key per operation.
    let lot = first["lot"].as_str().unwrap();
    stack.send(lot, "", price("1", 100)).await;
    let (status, body) =
        stack.post_with_key(&format!("/v1/lots/{lot}/close"), "night run 7", json!({})).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("closed")), "{body}");
    // A key of one store does not register another.
    stack
        .raw(|client, url| {
            client
                .put(url + "/v1/stores/8")
                .header("idempotency-key", "k")
                .json(&json!({ "name": "A", "zone": "UTC" }))
        })
        .await;
    let (status, body) = stack
        .raw(|client, url| {
            client
                .put(url + "/v1/stores/8")
                .header("idempotency-key", "k")
                .json(&json!({ "name": "B", "zone": "UTC" }))
        })
        .await;
    assert_eq!((status, code(&body)), (409, "idempotency_key.used"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_say_what_is_wrong() {
    let stack = Stack::with(|mut config| {
        config.limits.open_lots_max = 1;
        config.limits.records_body_bytes_max = 100_000;
        config
    })
    .await;
    stack.store("1", &[], &["1"]).await;
    for (terms, status, wanted) in [
        (json!({ "scope": "store-9", "kinds": ["price"] }), 422, "lots.unknown_scope"),
        (json!({ "scope": "group-x", "kinds": ["price"] }), 422, "lots.unknown_scope"),
        (json!({ "scope": "everyone", "kinds": ["price"] }), 400, "name"),
        (json!({ "scope": "store-a.b", "kinds": ["price"] }), 400, "name"),
        (json!({ "scope": "all", "kinds": [] }), 409, "lots.kinds"),
        (json!({ "scope": "all", "kinds": ["price"], "lease_seconds": 1 }), 409, "lots.lease"),
        (json!({ "scope": "all", "kinds": ["price"], "activate_at": "soon" }), 400, "lots.activate_at"),
        (json!({ "scope": "all", "kinds": ["price"], "moed": "full" }), 400, "body.json"),
        (json!({ "kinds": ["price"] }), 400, "body.json"),
    ] {
        let (got, body) = stack.post("/v1/lots", terms.clone()).await;
        assert_eq!((got, code(&body)), (status, wanted), "{terms} {body}");
    }
    let unknown = "0197f0aa-0000-7000-8000-000000000001";
    for path in ["close", "abort", "recall"] {
        let (status, body) = stack.post(&format!("/v1/lots/{unknown}/{path}"), json!({})).await;
        assert_eq!((status, code(&body)), (404, "lots.unknown"), "{path} {body}");
    }
    assert_eq!(stack.send(unknown, "", price("1", 1)).await.0, 404);
    assert_eq!(stack.get("/v1/lots/not-a-lot").await.0, 404);
    for path in ["/v1/lots?limit=many", "/v1/trace?kind=price", "/v1/lots?wrong=1"] {
        let (status, body) = stack.get(path).await;
        assert_eq!((status, code(&body)), (400, "request"), "{path} {body}");
    }
    assert_eq!(code(&stack.get("/nothing/here").await.1), "route");
    assert_eq!(stack.raw(|client, url| client.delete(url + "/v1/lots")).await.1["status"], 405);
    let lot = stack.open("all").await;
    let (status, body) = stack.send(&lot, "?kind=tender", price("1", 1)).await;
    assert_eq!((status, code(&body)), (422, "lots.kind_not_declared"));
    let (status, body) = stack.send(&lot, "", price("1", 1).repeat(3_000)).await;
    assert_eq!((status, code(&body)), (413, "body.too_large"));
    until("the open lot to be counted", async || {
        let (status, body) = stack.post("/v1/lots", json!({ "scope": "all", "kinds": ["price"] })).await;
        ((status, code(&body)) == (429, "lots.too_many_open")).then_some(()).ok_or(body.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused() {
    let stack = Stack::start().await;
    let (status, _) =
        stack.raw(|client, url| client.get(url + "/v1/lots").header("host", "evil.example")).await;
    assert_eq!(status, 403);
    let (status, _) =
        stack.raw(|client, url| client.post(url + "/v1/lots").header("origin", "https://evil.example")).await;
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_aborts_the_lot() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.open_with(json!({ "scope": "all", "kinds": ["price"], "lease_seconds": 5 })).await;
    stack.until_state(&lot, "aborted").await;
    let (_, body) = stack.get(&format!("/v1/lots/{lot}")).await;
    assert!(body["reason"].as_str().unwrap().contains("lease"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lot_waits_for_its_hour_and_can_be_recalled_until_then() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let at = |seconds: i64| {
        (time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds))
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap()
    };
    let later = |hour: String| json!({ "scope": "all", "kinds": ["price"], "activate_at": hour });
    let soon = stack.open_with(later(at(4))).await;
    let never = stack.open_with(later(at(3_600))).await;
    for lot in [&soon, &never] {
        stack.send(lot, "", price("1", 100)).await;
        let (status, body) = stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) =
        stack.post(&format!("/v1/lots/{never}/recall"), json!({ "reason": "wrong file" })).await;
    assert_eq!(status, 200, "{body}");
    stack.until_notices("1", &[&soon]).await;
    stack.until_state(&never, "recalled").await;
    let (status, body) = stack.post(&format!("/v1/lots/{soon}/recall"), json!({})).await;
    assert_eq!((status, code(&body)), (409, "lots.released"));
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_records_are_left_out_when_asked() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let first = stack.lot("all", &[("1", 100), ("2", 200)]).await;
    stack.until_notices("1", &[&first]).await;
    until("the catalogue to hold the first lot", async || {
        let (_, body) = stack.get("/v1/trace?kind=price&key=2").await;
        (body["sent"][0]["lot"] == first.as_str()).then_some(()).ok_or(body.to_string())
    })
    .await;
    let lot = stack.open("all").await;
    let lines = price("1", 100) + &price("2", 250) + &price("3", 300);
    let (_, taken) = stack.send(&lot, "?changed_only=true", lines).await;
    assert_eq!((taken["accepted"].as_u64(), taken["unchanged"].as_u64()), (Some(2), Some(1)), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_is_only_what_the_tills_still_have_when_the_lot_goes_out() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let first = stack.lot("all", &[("1", 100)]).await;
    stack.until_state(&first, "released").await;
    let lot = stack.open("all").await;
    let (_, taken) = stack.send(&lot, "?changed_only=true", price("1", 100)).await;
    assert_eq!(taken["unchanged"], 1, "{taken}");
    stack.send(&lot, "?changed_only=true", price("2", 200)).await;
    // Somebody else's lot changes what was left out: closing now would let it stand.
    let other = stack.lot("all", &[("1", 150)]).await;
    let (status, body) = stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
    assert_eq!((status, code(&body)), (409, "lots.changed_meanwhile"), "{body}");
    assert!(body["detail"].as_str().unwrap().contains(&other), "{body}");
    // Left out of a full lot, a record would be removed.
    let full = stack.open_with(json!({ "scope": "all", "kinds": ["price"], "mode": "full" })).await;
    let (status, body) = stack.send(&full, "?changed_only=true", price("1", 150)).await;
    assert_eq!((status, code(&body)), (422, "lots.changed_only_full"), "{body}");
    // While another lot is open nothing is left out.
    stack.until_state(&other, "released").await;
    let third = stack.open("all").await;
    let (_, taken) = stack.send(&third, "?changed_only=true", price("1", 150)).await;
    assert_eq!((taken["accepted"].as_u64(), taken["unchanged"].as_u64()), (Some(1), Some(0)), "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_killed_with_a_lot_open_goes_on_with_it() {
    let mut stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.open("all").await;
    stack.send(&lot, "", price("1", 100)).await;
    stack.kill_hub();
    stack.start_hub().await;
    let (_, taken) = stack.send(&lot, "", price("1", 110) + &price("2", 200)).await;
    assert_eq!(
        (taken["accepted"].as_u64(), taken["repeated"].as_u64()),
        (Some(2), Some(1)),
        "keys are known again: {taken}"
    );
    let (status, body) =
        stack.post(&format!("/v1/lots/{lot}/close"), json!({ "records": { "price": 3 }, "chunks": 2 })).await;
    assert_eq!(status, 200, "{body}");
    stack.until_notices("1", &[&lot]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_holds_what_the_scope_holds() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    stack.lot("all", &[("1", 100), ("2", 200), ("3", 300)]).await;
    let lot = stack.open("all").await;
    stack
        .send(&lot, "?kind=price", price("2", 250) + "{\"kind\":\"price\",\"key\":\"3\",\"op\":\"delete\"}\n")
        .await;
    stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
    stack.until_state(&lot, "released").await;
    let (status, body) = stack.post("/v1/snapshots", json!({ "scope": "all" })).await;
    assert_eq!(status, 200, "{body}");
    let snapshot = body["lot"].as_str().unwrap().to_owned();
    stack.until_state(&snapshot, "released").await;
    let (_, view) = stack.get(&format!("/v1/lots/{snapshot}")).await;
    assert_eq!((view["mode"].as_str(), view["records"].as_u64()), (Some("full"), Some(2)), "{view}");
    assert!(view["as_of"].as_u64() < view["version"].as_u64(), "{view}");
    // A scope that holds nothing has nothing to repeat.
    let (status, body) = stack.post("/v1/snapshots", json!({ "scope": "store-1" })).await;
    assert_eq!((status, code(&body)), (409, "lots.kinds"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_killed_half_way_tells_every_store_once() {
    let mut stack = Stack::start().await;
    let stores: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
    for store in &stores {
        stack.store(store, &[], &["1"]).await;
    }
    let mut lots = Vec::new();
    for round in 0..8_u64 {
        let lot = stack.open("all").await;
        stack.send(&lot, "", price("1", round)).await;
        let (status, body) = stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
        assert_eq!(status, 200, "{body}");
        // Killed later and later: before the release, between release and notices, among the notices, after them.
        for _ in 0..round * 12 {
            tokio::task::yield_now().await;
            std::hint::black_box(stack.broker().pid());
        }
        stack.kill_hub();
        stack.start_hub().await;
        lots.push(lot);
    }
    let lots: Vec<&String> = lots.iter().collect();
    for store in &stores {
        stack.until_notices(store, &lots).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_killed_during_a_release_only_delays_it() {
    let stack = Stack::start().await;
    let stores: Vec<String> = (0..10).map(|n| format!("s{n}")).collect();
    for store in &stores {
        stack.store(store, &[], &["1"]).await;
    }
    let mut lots = Vec::new();
    for round in 0..4 {
        lots.push(stack.lot("all", &[("1", round)]).await);
        stack.broker().kill().await.unwrap();
        stack.broker().ready().await.unwrap();
    }
    let lots: Vec<&String> = lots.iter().collect();
    for store in &stores {
        until(&format!("store {store} to be told of every lot"), async || {
            // A notice whose answer was lost may stand there twice; a till takes each lot in once.
            let mut told = stack.notices(store).await;
            told.dedup();
            (told.iter().collect::<Vec<_>>() == lots).then_some(()).ok_or(format!("{told:?}"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_share_the_work_and_do_none_of_it_twice() {
    let stack = Stack::start().await;
    let folder = tempfile::tempdir().unwrap();
    let other = malote_hub::Hub::start(malote_tests::config(&folder, stack.broker())).await.unwrap();
    stack.store("1", &[], &["1"]).await;
    let mut lots = Vec::new();
    for n in 0..10 {
        lots.push(stack.lot("all", &[("1", n)]).await);
    }
    stack.until_notices("1", &lots.iter().collect::<Vec<_>>()).await;
    // Two senders through two hubs fill one lot: no chunk is lost, no number is taken twice.
    let lot = stack.open("all").await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/lots/{lot}/records", other.address());
    let mut sum = 0;
    for round in 0..5 {
        let here: String = (0..50).map(|n| price(&format!("h{round}-{n}"), n)).collect();
        let there: String = (0..70).map(|n| price(&format!("t{round}-{n}"), n)).collect();
        let (here, there) = tokio::join!(stack.send(&lot, "", here), async {
            let answer = client.post(&url).body(there).send().await.unwrap();
            answer.json::<Value>().await.unwrap()
        });
        sum += here.1["accepted"].as_u64().unwrap() + there["accepted"].as_u64().unwrap();
    }
    assert_eq!(sum, 600);
    let (status, body) =
        stack.post(&format!("/v1/lots/{lot}/close"), json!({ "records": { "price": 600 } })).await;
    assert_eq!((status, body["chunks"].as_u64()), (200, Some(10)), "{body}");
    // The other hub may believe the lot open: what it is given now is refused, not lost.
    let answer = client.post(&url).body(price("late", 1)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 409);
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_killed_during_sending_loses_nothing_confirmed() {
    let stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.open("all").await;
    let mut confirmed = 0;
    for round in 0..6_u64 {
        if round % 2 == 1 {
            stack.broker().kill().await.unwrap();
        }
        let lines: String = (0..2_000).map(|n| price(&format!("{round}-{n}"), n)).collect();
        until("the records to be taken", async || {
            let (status, taken) = stack.send(&lot, "", lines.clone()).await;
            (status == 200).then_some(()).ok_or(taken.to_string())
        })
        .await;
        confirmed += 2_000;
    }
    let mut found = 0;
    until("the lot to close", async || {
        let (status, body) = stack.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
        found = body["records"]["price"].as_u64().unwrap_or(0);
        (status == 200 || code(&body) == "lots.closed").then_some(()).ok_or(body.to_string())
    })
    .await;
    stack.until_notices("1", &[&lot]).await;
    // A request that was not confirmed and was sent again may have left some of its records in the lot twice.
    assert!(found >= confirmed, "{found} of {confirmed}");
}
