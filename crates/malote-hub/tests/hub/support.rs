//! A broker and a hub in a folder of their own.

use std::time::Duration;

use malote_broker::{Broker, BrokerOptions};
use malote_domain::StoreId;
use malote_hub::{Config, Hub, Limits};
use malote_journal::connection::Patience;
use malote_journal::notice::{self, Notice};
use malote_journal::{Connection, JetStream, Reader, subjects};
use serde_json::{Value, json};
use tempfile::TempDir;

pub struct Stack {
    pub folder: TempDir,
    pub broker: Broker,
    hub: Option<Hub>,
    client: reqwest::Client,
}

pub fn config(folder: &TempDir, broker: &Broker) -> Config {
    Config {
        nats: broker.url().to_owned(),
        monitor: Some(broker.monitor_url().to_owned()),
        database: format!("sqlite:{}", folder.path().join("hub.db").display()),
        listen: "127.0.0.1:0".parse().unwrap(),
        streams: None,
        replicas: None,
        allow_unsafe_broker: false,
        heal: false,
        limits: Limits::STANDARD,
    }
}

impl Stack {
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    pub async fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker =
            Broker::start(BrokerOptions::new(folder.path().join("broker"), "hub-test")).await.unwrap();
        let hub = Hub::start(change(config(&folder, &broker))).await.unwrap();
        Self {
            folder,
            broker,
            hub: Some(hub),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    pub async fn stop_hub(&mut self) {
        self.hub.take().unwrap().stop().await;
    }

    /// The hub dies without a chance to finish anything.
    pub fn kill_hub(&mut self) {
        drop(self.hub.take());
    }

    pub async fn start_hub(&mut self) {
        self.hub = Some(Hub::start(config(&self.folder, &self.broker)).await.unwrap());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.hub().address())
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(self.url(path)).json(&body)).await
    }

    pub async fn post_with_key(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(self.url(path)).header("idempotency-key", key).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.put(self.url(path)).json(&body)).await
    }

    pub async fn send(&self, lot: &str, query: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answer(self.client.post(self.url(&format!("/v1/lots/{lot}/records{query}"))).body(body)).await
    }

    pub async fn raw(
        &self,
        build: impl FnOnce(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> (u16, Value) {
        answer(build(&self.client, self.url(""))).await
    }

    /// Registers a store with its tills.
    pub async fn store(&self, store: &str, groups: &[&str], pdvs: &[&str]) {
        let body = json!({ "name": format!("Loja {store}"), "zone": "America/Sao_Paulo", "groups": groups, "pdvs": pdvs });
        let (status, body) = self.put(&format!("/v1/stores/{store}"), body).await;
        assert_eq!(status, 200, "{body}");
    }

    /// Opens a lot of products and prices.
    pub async fn open(&self, scope: &str) -> String {
        self.open_with(json!({ "scope": scope, "kinds": ["product", "price"] })).await
    }

    pub async fn open_with(&self, terms: Value) -> String {
        let (status, body) = self.post("/v1/lots", terms).await;
        assert_eq!(status, 201, "{body}");
        body["lot"].as_str().unwrap().to_owned()
    }

    /// Sends one lot of prices, whole.
    pub async fn lot(&self, scope: &str, prices: &[(&str, u64)]) -> String {
        let lot = self.open(scope).await;
        let lines: String = prices.iter().map(|(key, cents)| price(key, *cents)).collect();
        let (status, taken) = self.send(&lot, "", lines).await;
        assert_eq!((status, taken["accepted"].as_u64()), (200, Some(prices.len() as u64)), "{taken}");
        let (status, body) = self.post(&format!("/v1/lots/{lot}/close"), json!({})).await;
        assert_eq!(status, 200, "{body}");
        lot
    }

    pub async fn journal(&self) -> JetStream {
        JetStream::new(Connection::connect(self.broker.url(), "test", Patience::None).await.unwrap())
    }

    /// The lots that a store's stream tells of, in its order; none while there is no stream.
    pub async fn notices(&self, store: &str) -> Vec<String> {
        let reader =
            Reader::new(self.journal().await, subjects::store_stream(&StoreId::parse(store).unwrap()));
        let messages = reader.from_start(1_000).await.unwrap_or_default();
        messages
            .iter()
            .filter_map(|stored| match notice::decode(stored).unwrap().0 {
                Notice::Lot(lot) => Some(lot.lot.to_string()),
                Notice::Groups(_) => None,
            })
            .collect()
    }

    pub async fn until_notices(&self, store: &str, lots: &[&String]) {
        let wanted: Vec<String> = lots.iter().map(|lot| (*lot).clone()).collect();
        until(&format!("store {store} to be told of {wanted:?}"), async || {
            let told = self.notices(store).await;
            (told == wanted).then_some(()).ok_or(format!("{told:?}"))
        })
        .await;
    }

    pub async fn until_state(&self, lot: &str, state: &str) {
        until(&format!("lot {lot} to be {state}"), async || {
            let (_, body) = self.get(&format!("/v1/lots/{lot}")).await;
            (body["state"] == state).then_some(()).ok_or(body.to_string())
        })
        .await;
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub fn price(key: &str, cents: u64) -> String {
    format!("{{\"kind\":\"price\",\"key\":\"{key}\",\"body\":{{\"price_cents\":{cents}}}}}\n")
}

/// Waits for a condition, with a deadline that no working hub comes near.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> Result<(), String>) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let now = condition().await;
        match now {
            Ok(()) => return,
            Err(state) => assert!(tokio::time::Instant::now() < deadline, "waited for {what}; last: {state}"),
        }
        tokio::task::yield_now().await;
    }
}
