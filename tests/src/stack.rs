//! A broker, a hub and tills in a folder of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use malote_broker::{Broker, BrokerOptions, Cluster};
use malote_domain::{PdvId, StoreId};
use malote_hub::{Config, Hub, Limits};
use malote_journal::connection::Patience;
use malote_journal::notice::{self, Notice};
use malote_journal::{Connection, JetStream, Reader, subjects};
use malote_pdv::Agent;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A broker and a hub in a temporary folder.
pub struct Stack {
    /// The folder.
    pub folder: TempDir,
    /// The broker, or the first of its nodes.
    pub nodes: Nodes,
    hub: Option<Hub>,
    client: reqwest::Client,
}

/// One broker or three.
pub enum Nodes {
    /// One node.
    One(Broker),
    /// A cluster, with every stream on each node.
    Cluster(Cluster),
}

impl Nodes {
    /// Where clients connect.
    pub fn url(&self) -> String {
        match self {
            Self::One(broker) => broker.url().to_owned(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        match self {
            Self::One(_) => panic!("one node is no cluster"),
            Self::Cluster(cluster) => cluster,
        }
    }
}

/// A hub's configuration over a broker.
pub fn config(folder: &TempDir, broker: &Broker) -> Config {
    of(folder, broker.url().to_owned(), broker, None)
}

fn of(folder: &TempDir, nats: String, monitored: &Broker, replicas: Option<u32>) -> Config {
    Config {
        nats,
        monitor: Some(monitored.monitor_url().to_owned()),
        database: format!("sqlite:{}", folder.path().join("hub.db").display()),
        listen: "127.0.0.1:0".parse().unwrap(),
        streams: None,
        replicas,
        allow_unsafe_broker: false,
        heal: false,
        limits: Limits::STANDARD,
    }
}

impl Stack {
    /// Over one node.
    pub async fn start() -> Self {
        Self::with(|config| config).await
    }

    /// Over one node, the hub set up otherwise.
    pub async fn with(change: impl FnOnce(Config) -> Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker =
            Broker::start(BrokerOptions::new(folder.path().join("broker"), "hub-test")).await.unwrap();
        let hub = Hub::start(change(config(&folder, &broker))).await.unwrap();
        Self { folder, nodes: Nodes::One(broker), hub: Some(hub), client: client() }
    }

    /// Over three nodes.
    pub async fn over_three() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(folder.path().join("cluster"), 3).await.unwrap();
        let config = of(&folder, cluster.url(), cluster.node(0), Some(3));
        let hub = Hub::start(config).await.unwrap();
        Self { folder, nodes: Nodes::Cluster(cluster), hub: Some(hub), client: client() }
    }

    /// The broker that a hub of its own would be set up with.
    pub fn broker(&self) -> &Broker {
        match &self.nodes {
            Nodes::One(broker) => broker,
            Nodes::Cluster(cluster) => cluster.node(0),
        }
    }

    /// Starts the agent of a registered till, in a folder of its own; the same till again goes on there.
    pub async fn till(&self, store: &str, pdv: &str) -> Till {
        Till::start(&self.nodes.url(), self.folder.path(), store, pdv).await
    }

    /// The hub.
    pub fn hub(&self) -> &Hub {
        self.hub.as_ref().unwrap()
    }

    /// Stops the hub cleanly.
    pub async fn stop_hub(&mut self) {
        self.hub.take().unwrap().stop().await;
    }

    /// The hub dies without a chance to finish anything.
    pub fn kill_hub(&mut self) {
        drop(self.hub.take());
    }

    /// Starts the hub again, on the same tables.
    pub async fn start_hub(&mut self) {
        self.hub = Some(Hub::start(config(&self.folder, self.broker())).await.unwrap());
    }

    /// Starts the hub again, told to go on with what the broker has left.
    pub async fn heal_hub(&mut self) {
        let config = Config { heal: true, ..config(&self.folder, self.broker()) };
        self.hub = Some(Hub::start(config).await.unwrap());
    }

    /// Puts a broker that knows nothing in the broker's place, at its address.
    pub async fn forget_everything(&mut self) {
        let port = self.broker().url().rsplit(':').next().unwrap().parse().unwrap();
        self.broker().stop().await.unwrap();
        let options = BrokerOptions {
            port: Some(port),
            ..BrokerOptions::new(self.folder.path().join("broker-after"), "hub-test")
        };
        self.nodes = Nodes::One(Broker::start(options).await.unwrap());
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.hub().address())
    }

    /// Asks the hub.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(self.url(path))).await
    }

    /// Posts JSON to the hub.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(self.url(path)).json(&body)).await
    }

    /// The same with an Idempotency-Key.
    pub async fn post_with_key(&self, path: &str, key: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(self.url(path)).header("idempotency-key", key).json(&body)).await
    }

    /// Puts JSON to the hub.
    pub async fn put(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.put(self.url(path)).json(&body)).await
    }

    /// Sends records into a lot.
    pub async fn send(&self, lot: &str, query: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        answer(self.client.post(self.url(&format!("/v1/lots/{lot}/records{query}"))).body(body)).await
    }

    /// A request made by hand.
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

    /// Opens a lot on these terms.
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

    /// A connection of its own to the broker.
    pub async fn journal(&self) -> JetStream {
        JetStream::new(Connection::connect(&self.nodes.url(), "test", Patience::None).await.unwrap())
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

    /// Waits until a store has been told of exactly these lots.
    pub async fn until_notices(&self, store: &str, lots: &[&String]) {
        let wanted: Vec<String> = lots.iter().map(|lot| (*lot).clone()).collect();
        until(&format!("store {store} to be told of {wanted:?}"), async || {
            let told = self.notices(store).await;
            (told == wanted).then_some(()).ok_or(format!("{told:?}"))
        })
        .await;
    }

    /// Waits until a lot is in a state.
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

/// The line of a price.
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

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A till's agent.
pub struct Till {
    agent: Option<Agent>,
    config: malote_pdv::Config,
    client: reqwest::Client,
}

impl Till {
    async fn start(nats: &str, folder: &std::path::Path, store: &str, pdv: &str) -> Self {
        let config = malote_pdv::Config {
            store: StoreId::parse(store).unwrap(),
            pdv: PdvId::parse(pdv).unwrap(),
            dir: folder.join(format!("till-{store}-{pdv}")),
            nats: nats.to_owned(),
            listen: Some("127.0.0.1:0".parse().unwrap()),
        };
        let agent = Agent::start(config.clone()).await.unwrap();
        Self { agent: Some(agent), config, client: client() }
    }

    /// The agent dies without a chance to finish anything.
    pub fn kill(&mut self) {
        drop(self.agent.take());
    }

    /// The agent ends cleanly.
    pub async fn stop(&mut self) {
        self.agent.take().unwrap().stop().await;
    }

    /// The agent starts again in its folder, as soon as the one before has let go of it.
    pub async fn start_again(&mut self) {
        until("the till's folder to be free", async || match Agent::start(self.config.clone()).await {
            Ok(agent) => {
                self.agent = Some(agent);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        })
        .await;
    }

    /// Asks the till's own API.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let address = self.agent.as_ref().unwrap().http_addr().unwrap();
        answer(self.client.get(format!("http://{address}{path}"))).await
    }

    /// The effective price of a key in cents, if there is one.
    pub async fn price(&self, key: &str) -> Option<u64> {
        let (status, record) = self.get(&format!("/records/price/{key}")).await;
        (status == 200).then(|| record["body"]["price_cents"].as_u64().unwrap())
    }

    /// Waits until the till shows this price.
    pub async fn until_price(&self, key: &str, cents: Option<u64>) {
        until(&format!("price {key} to be {cents:?}"), async || {
            let shown = self.price(key).await;
            (shown == cents).then_some(()).ok_or(format!("{shown:?}"))
        })
        .await;
    }

    /// All effective records of a kind: key and body.
    pub async fn records(&self, kind: &str) -> BTreeMap<String, Value> {
        let mut records = BTreeMap::new();
        let mut after = String::new();
        loop {
            let (status, page) = self.get(&format!("/records/{kind}?limit=1000&after={after}")).await;
            assert_eq!(status, 200, "{page}");
            let rows = page["records"].as_array().unwrap();
            let Some(last) = rows.last() else { return records };
            last["key"].as_str().unwrap().clone_into(&mut after);
            for row in rows {
                records.insert(row["key"].as_str().unwrap().to_owned(), row["body"].clone());
            }
        }
    }
}
