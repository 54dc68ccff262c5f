use malote_broker::{Broker, BrokerOptions};
use malote_hub::{Hub, PreflightError, StartError};

use malote_tests::{Stack, config, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_durable_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        BrokerOptions { sync_always: false, ..BrokerOptions::new(folder.path().join("broker"), "lazy") };
    let broker = Broker::start(options).await.unwrap();
    let refused = Hub::start(config(&folder, &broker)).await.err().unwrap();
    assert!(matches!(refused, StartError::Preflight(PreflightError::NotDurable)), "{refused}");
    let mut unsafe_config = config(&folder, &broker);
    unsafe_config.allow_unsafe_broker = true;
    Hub::start(unsafe_config).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_shown_to_be_durable_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerOptions::new(folder.path().join("broker"), "silent")).await.unwrap();
    let mut elsewhere = config(&folder, &broker);
    elsewhere.monitor = Some("http://127.0.0.1:1".into());
    let refused = Hub::start(elsewhere).await.err().unwrap();
    assert!(matches!(refused, StartError::Preflight(PreflightError::Unproven { .. })), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_the_hub_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerOptions::new(folder.path().join("broker"), "gone")).await.unwrap();
    let config = config(&folder, &broker);
    broker.stop().await.unwrap();
    let refused = Hub::start(config.clone()).await.err().unwrap();
    assert!(matches!(refused, StartError::Connect(_)), "{refused}");
    assert!(refused.to_string().contains(&config.nats), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_could_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerOptions::new(folder.path().join("broker"), "open")).await.unwrap();
    let mut open = config(&folder, &broker);
    open.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(Hub::start(open).await.err().unwrap(), StartError::NotLoopback(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_differs_from_its_file_is_refused() {
    let mut stack = Stack::start().await;
    stack.stop_hub().await;
    let streams = stack.folder.path().join("streams");
    std::fs::create_dir(&streams).unwrap();
    let text = include_str!("../../streams/lots.toml").replace("max_consumers = 100", "max_consumers = 7");
    std::fs::write(streams.join("lots.toml"), text).unwrap();
    let mut other = config(&stack.folder, stack.broker());
    other.streams = Some(streams);
    let refused = Hub::start(other).await.err().unwrap().to_string();
    assert!(refused.contains("max_consumers: the file says 7, the broker has 100"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgot_is_noticed_and_healed_only_when_told() {
    let mut stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let lot = stack.lot("all", &[("1", 100)]).await;
    stack.until_state(&lot, "released").await;
    stack.stop_hub().await;
    // Another broker in its place: as after a restore from before the lot.
    let fresh = Broker::start(BrokerOptions::new(stack.folder.path().join("fresh"), "fresh")).await.unwrap();
    let mut behind = config(&stack.folder, &fresh);
    let refused = Hub::start(behind.clone()).await.err().unwrap();
    assert!(matches!(refused, StartError::Behind { .. }), "{refused}");
    behind.heal = true;
    let healed = Hub::start(behind).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/lots", healed.address());
    until("the tables to say what the stream says", async || {
        let lots: serde_json::Value = client.get(&url).send().await.unwrap().json().await.unwrap();
        let one = lots["lots"].as_array().unwrap().len() == 1 && lots["lots"][0]["state"] == "aborted";
        let says = lots["lots"][0]["reason"].as_str().is_some_and(|reason| reason.contains("3 positions"));
        (one && says).then_some(()).ok_or(lots.to_string())
    })
    .await;
    healed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_ask_for_is_there() {
    let stack = Stack::start().await;
    assert_eq!(stack.get("/healthz").await.0, 200);
    let (status, ready) = stack.get("/readyz").await;
    assert_eq!((status, ready["ready"].as_bool()), (200, Some(true)), "{ready}");
    let (status, metrics) = stack.get("/metrics").await;
    let text = metrics.as_str().unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("malote_lots_opened_total 0"), "{text}");
    assert!(text.contains("malote_http_requests_total{"), "{text}");
    stack.broker().suspend().await.unwrap();
    let (status, ready) = stack.get("/readyz").await;
    assert_eq!((status, ready["ready"].as_bool()), (503, Some(false)), "{ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tills_take_new_prices_from_a_broker_that_forgot() {
    let mut stack = Stack::start().await;
    stack.store("1", &[], &["1"]).await;
    let mut till = stack.till("1", "1").await;
    for cents in 100..110 {
        stack.lot("all", &[("1", cents), ("2", cents)]).await;
    }
    till.until_price("2", Some(109)).await;
    till.stop().await;
    // The broker starts from nothing, at the same address; its hub goes on with it.
    stack.stop_hub().await;
    stack.forget_everything().await;
    stack.heal_hub().await;
    stack.store("1", &[], &["1"]).await;
    stack.lot("all", &[("1", 55)]).await;
    till.start_again().await;
    till.until_price("1", Some(55)).await;
    assert_eq!(till.price("2").await, Some(109), "what was not sent again stays");
}
