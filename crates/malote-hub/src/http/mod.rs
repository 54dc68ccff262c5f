//! The door: HTTP/JSON under `/v1`, and what monitoring asks for.

mod lots;
mod ops;
pub(crate) mod problem;
mod registry;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use malote_domain::CommandId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::clock;
use problem::Problem;

/// Largest JSON body, records apart.
const JSON_BYTES_MAX: usize = 1024 * 1024;

pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/lots", post(lots::open).get(lots::list))
        .route("/v1/lots/{lot}", get(lots::show))
        .route("/v1/lots/{lot}/records", post(lots::records).layer(DefaultBodyLimit::disable()))
        .route("/v1/lots/{lot}/close", post(lots::close))
        .route("/v1/lots/{lot}/abort", post(lots::abort))
        .route("/v1/lots/{lot}/recall", post(lots::recall))
        .route("/v1/lots/{lot}/arrival", get(lots::arrival))
        .route("/v1/lots/{lot}/problems", get(lots::problems))
        .route("/v1/snapshots", post(lots::snapshot))
        .route("/v1/trace", get(lots::trace))
        .route("/v1/stores", get(registry::stores))
        .route("/v1/stores/{store}", get(registry::store).put(registry::put_store))
        .route("/v1/stores/{store}/pdvs/{pdv}", put(registry::put_pdv))
        .route("/v1/groups", get(registry::groups))
        .route("/v1/groups/{group}", put(registry::put_group))
        .route("/v1/pdvs", get(registry::pdvs))
        .route("/healthz", get(ops::healthz))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics))
        .fallback(async || {
            Problem::not_found("route", "there is nothing at this address; see /v1/lots and /v1/stores")
        })
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX))
        .layer(middleware::from_fn(as_problem))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), count))
        .layer(middleware::from_fn(only_local))
        .with_state(app)
}

/// Serves until told to stop, then lets the requests that are under way end.
pub(crate) async fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken) {
    let served =
        axum::serve(listener, router(app)).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = served.await {
        tracing::error!(%error, "HTTP is not being served any more");
    }
}

async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().to_string();
    let response = next.run(request).await;
    let labels = vec![
        ("route".to_owned(), route),
        ("method".to_owned(), method),
        ("status".to_owned(), response.status().as_str().to_owned()),
    ];
    app.metrics.requests.get_or_create(&labels).inc();
    response
}

/// Words a refusal of the router or an extractor as what all refusals are.
async fn as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let worded = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes().starts_with(b"application/problem+json")
            || kind.as_bytes().starts_with(b"application/json")
    });
    let status = response.status();
    if worded || !status.is_client_error() {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), 4 * 1024).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = if text.is_empty() { status.canonical_reason().unwrap_or("refused") } else { &text };
    Problem::status(status, "request", detail.to_owned()).into_response()
}

/// Without tokens only this machine is served, and pages that a browser on it shows are not this machine: their
/// requests name another host, or another origin.
async fn only_local(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
    let origin_host = origin.map(|origin| origin.rsplit("://").next().unwrap_or(origin));
    if !is_local(host) || origin_host.is_some_and(|host| !is_local(host)) {
        let detail = "this hub has no tokens yet and serves this machine only".to_owned();
        return Problem::status(StatusCode::FORBIDDEN, "not_local", detail).into_response();
    }
    next.run(request).await
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The command id of a request: its Idempotency-Key, or a new one.
fn command(headers: &HeaderMap) -> Result<CommandId, Problem> {
    match headers.get("idempotency-key") {
        None => Ok(clock::command()),
        Some(key) => {
            let key = key
                .to_str()
                .map_err(|_| Problem::bad_request("idempotency_key", "an Idempotency-Key is ASCII text"))?;
            CommandId::from_key(key).map_err(|error| Problem::bad_request("idempotency_key", error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1:8080", "127.8.9.1", "[::1]:80", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.1:80", "", "127.0.0.1.evil.example:80", "null"]
        {
            assert!(!is_local(host), "{host}");
        }
    }
}
