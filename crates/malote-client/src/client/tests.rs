//! The client against a hub that answers as it is told.

use super::*;
use std::collections::VecDeque;
use std::sync::Mutex;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode as Status;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const LOT: &str = "0193f2a0-0000-7000-8000-000000000001";

/// What a request was, as far as the tests look.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    line: String,
    key: Option<String>,
    body: String,
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<(u16, Value)>>,
    asked: Mutex<Vec<Asked>>,
}

struct Fake {
    client: Client,
    script: Arc<Script>,
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let key = parts.headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.asked.lock().unwrap().push(Asked { line: format!("{} {}", parts.method, parts.uri), key, body });
    let (status, body) = script.answers.lock().unwrap().pop_front().expect("an answer for every request");
    (Status::from_u16(status).unwrap(), axum::Json(body)).into_response()
}

async fn fake(answers: impl IntoIterator<Item = (u16, Value)>) -> Fake {
    let script = Arc::new(Script { answers: Mutex::new(answers.into_iter().collect()), ..Script::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Fake { client: Client::new(&url).unwrap().with_patience(Duration::from_secs(5)), script }
}

impl Fake {
    fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().unwrap().clone()
    }

    /// Waits for the requests that nobody waits for.
    async fn asked_at_least(&self, count: usize) -> Vec<Asked> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while self.asked().len() < count && tokio::time::Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        self.asked()
    }
}

fn problem(status: u16, code: &str, detail: &str) -> (u16, Value) {
    (status, json!({ "status": status, "code": code, "detail": detail, "title": "-" }))
}

fn opened() -> (u16, Value) {
    (201, json!({ "lot": LOT, "state": "open" }))
}

fn taken(accepted: u64, chunks: u32) -> (u16, Value) {
    let taken = Taken { accepted, chunks, ..Taken::default() };
    (200, serde_json::to_value(taken).unwrap())
}

fn closed() -> (u16, Value) {
    let body = json!({ "lot": LOT, "state": "closed", "scope": "all", "chunks": 1, "records": { "price": 2 },
                       "bytes": 10, "digest": null });
    (200, body)
}

#[tokio::test]
async fn a_command_is_the_same_command_when_it_is_asked_again() {
    let hub =
        fake([problem(503, "unavailable", "later"), problem(429, "lots.too_many_open", "later"), opened()])
            .await;
    let lot = hub.client.open_lot(&NewLot::delta("all", ["price"])).await.unwrap();
    assert_eq!(lot.to_string(), LOT);
    let asked = hub.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|it| *it == asked[0]), "{asked:#?}");
    assert_eq!(asked[0].line, "POST /v1/lots");
    assert_eq!(Uuid::parse_str(asked[0].key.as_deref().unwrap()).unwrap().get_version_num(), 7);
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(body, json!({ "scope": "all", "kinds": ["price"], "mode": "delta", "strict": false }));
}

#[tokio::test]
async fn another_command_has_another_key() {
    let hub = fake([opened(), opened()]).await;
    for _ in 0..2 {
        hub.client.open_lot(&NewLot::delta("all", ["price"])).await.unwrap();
    }
    let asked = hub.asked();
    assert_ne!(asked[0].key, asked[1].key);
}

#[tokio::test]
async fn a_refusal_is_final_and_says_what_the_hub_said() {
    let hub = fake([problem(409, "lots.closed", "the lot is closed")]).await;
    let error = hub.client.abort_lot(LotId::parse(LOT).unwrap(), "no").await.unwrap_err();
    assert_eq!(error.to_string(), "the hub says no: the lot is closed");
    assert!(
        matches!(error, ClientError::Refused { status: 409, ref code, .. } if code == "lots.closed"),
        "{error:?}"
    );
    assert_eq!(hub.asked().len(), 1);
}

#[tokio::test]
async fn patience_ends() {
    let answers =
        std::iter::repeat_with(|| problem(503, "unavailable", "the broker does not answer")).take(100);
    let hub = fake(answers).await;
    let client = hub.client.clone().with_patience(Duration::from_millis(400));
    let error = client.lots(None, None, None, 1).await.unwrap_err();
    assert!(matches!(error, ClientError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("the broker does not answer"), "{error}");
    assert!((2..=8).contains(&hub.asked().len()), "{}", hub.asked().len());
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(&url).unwrap().with_patience(Duration::from_millis(200));
    let error = client.open_lot(&NewLot::delta("all", ["price"])).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn something_else_than_a_hub_is_told_from_one() {
    let hub = fake([(200, json!("hello")), (404, json!({ "error": "no such page" }))]).await;
    for found in ["hello", "404 Not Found"] {
        let error = hub.client.lot(LotId::parse(LOT).unwrap()).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
        assert!(error.to_string().contains(found), "{error}");
    }
}

#[test]
fn only_http_addresses_are_hubs() {
    for url in ["", "127.0.0.1:8480", "https://hub:1", "ftp://hub", "http://", "http://hub/?a=b"] {
        assert!(matches!(Client::new(url), Err(ClientError::Address { .. })), "{url}");
    }
    assert_eq!(Client::new("http://hub:8480/").unwrap().url(), "http://hub:8480");
}

#[tokio::test]
async fn a_sender_opens_fills_and_closes() {
    let hub = fake([opened(), taken(2, 1), closed()]).await;
    let mut lot = hub.client.send_lot(NewLot::delta("all", ["price"])).await.unwrap();
    lot.upsert("price", "1", &json!({ "price_cents": 5 })).await.unwrap();
    lot.delete("price", "2").await.unwrap();
    let closed = lot.close().await.unwrap();
    assert_eq!(closed.records["price"], 2);
    let asked = hub.asked();
    assert_eq!(asked[1].line, format!("POST /v1/lots/{LOT}/records?changed_only=false"));
    let lines = "{\"kind\":\"price\",\"key\":\"1\",\"body\":{\"price_cents\":5}}\n\
                 {\"kind\":\"price\",\"key\":\"2\",\"op\":\"delete\"}\n";
    assert_eq!(asked[1].body, lines);
    assert_eq!(asked[1].key, None);
    assert_eq!(asked[2].line, format!("POST /v1/lots/{LOT}/close"));
    assert_eq!(
        serde_json::from_str::<Value>(&asked[2].body).unwrap(),
        json!({ "chunks": 1, "records": { "price": 2 } })
    );
    assert_eq!(hub.asked_at_least(3).await.len(), 3, "a closed lot is not given up");
}

#[tokio::test]
async fn records_are_sent_again_and_then_not_counted_on() {
    let hub = fake([opened(), problem(503, "unavailable", "later"), taken(1, 2), closed()]).await;
    let mut lot = hub.client.send_lot(NewLot::delta("all", ["price"])).await.unwrap();
    lot.delete("price", "2").await.unwrap();
    lot.close().await.unwrap();
    let asked = hub.asked();
    assert_eq!(asked[1].body, asked[2].body);
    // The first try may have been taken in part, so only the hub knows how many records there are.
    assert_eq!(serde_json::from_str::<Value>(&asked[3].body).unwrap(), json!({ "chunks": 2 }));
}

#[tokio::test]
async fn lots_of_several_kinds_are_declared_by_their_chunks() {
    let hub = fake([opened(), taken(2, 1), closed()]).await;
    let mut lot = hub.client.send_lot(NewLot::delta("all", ["price", "product"])).await.unwrap();
    lot.delete("price", "2").await.unwrap();
    lot.close().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&hub.asked()[2].body).unwrap(), json!({ "chunks": 1 }));
}

#[tokio::test]
async fn a_dropped_sender_gives_its_lot_up() {
    let hub = fake([opened(), (200, json!({}))]).await;
    drop(hub.client.send_lot(NewLot::delta("all", ["price"])).await.unwrap());
    let asked = hub.asked_at_least(2).await;
    assert_eq!(asked[1].line, format!("POST /v1/lots/{LOT}/abort"));
    assert_eq!(asked[1].body, "{\"reason\":\"its sender gave up\"}");
}

#[tokio::test]
async fn much_goes_in_several_requests() {
    let hub = fake([opened(), taken(1, 4), taken(1, 8), closed()]).await;
    let mut lot = hub.client.send_lot(NewLot::delta("all", ["note"])).await.unwrap();
    let text = "x".repeat(5 * 1024 * 1024);
    for _ in 0..3 {
        lot.upsert("note", "1", &json!({ "text": text })).await.unwrap();
    }
    assert_eq!((lot.taken().accepted, lot.taken().chunks), (1, 4));
    lot.close().await.unwrap();
    let asked = hub.asked();
    let lines: Vec<usize> = asked[1..3].iter().map(|it| it.body.lines().count()).collect();
    assert_eq!(lines, [2, 1]);
}

#[tokio::test]
async fn a_strict_lot_names_the_record_that_ended_it() {
    let refusal = json!({ "line": 7, "kind": "price", "key": "9", "code": "record.schema", "reason": "no" });
    let body = json!({ "code": "lots.strict", "detail": "line 7", "refusal": refusal });
    let hub = fake([opened(), (422, body), (200, json!({}))]).await;
    let mut lot = hub.client.send_lot(NewLot::delta("all", ["price"])).await.unwrap();
    lot.delete("price", "9").await.unwrap();
    let error = lot.flush().await.unwrap_err();
    assert_eq!(error.code(), Some("lots.strict"));
    let ClientError::Refused { refusal: Some(refusal), .. } = error else { panic!("{error:?}") };
    assert_eq!((refusal.line, refusal.key.as_deref()), (7, Some("9")));
}
