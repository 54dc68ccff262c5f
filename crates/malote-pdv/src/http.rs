//! What the till software asks, over HTTP on this machine only.
//!
//! A page in a browser on the till must not get at it: requests must name this machine as their host, which a
//! rebound name does not, and a request that says which site it comes from must come from this machine.

use std::sync::{Arc, Weak};

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use malote_domain::{Kind, RecordKey};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::shared::{Shared, Status, chain};
use crate::store::{LotRow, Record, StoreError};

/// Most records or lots in one answer.
const LIMIT_MAX: usize = 1_000;
const LIMIT_DEFAULT: usize = 100;

/// Answers until told to stop.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, stopping: CancellationToken) {
    let served =
        axum::serve(listener, router(&shared)).with_graceful_shutdown(stopping.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the till's HTTP ended");
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/records/{kind}/{key}", get(record))
        .route("/records/{kind}", get(records))
        .route("/lots", get(lots))
        .route("/status", get(status))
        .route("/healthz", get(healthz))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "nothing is at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here")
        })
        .layer(middleware::from_fn(local_only))
        .with_state(Arc::downgrade(shared))
}

/// The agent, while there is one. A connection that is kept open must not keep the agent: its directory would stay
/// locked.
struct Alive(Arc<Shared>);

impl FromRequestParts<Weak<Shared>> for Alive {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, agent: &Weak<Shared>) -> Result<Self, Problem> {
        let gone = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping");
        agent.upgrade().map(Self).ok_or_else(gone)
    }
}

/// A refusal as RFC 9457 wants it.
#[derive(Debug, Serialize)]
struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        Self { title, status: status.as_u16(), detail: detail.into() }
    }

    fn bad(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = chain(&error), "a question went unanswered");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(self)).into_response()
    }
}

async fn local_only(request: Request, next: Next) -> Response {
    if let Err(problem) = is_local(request.headers()) {
        return problem.into_response();
    }
    let mut response = next.run(request).await;
    let no_store = header::HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
}

fn is_local(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !names_this_machine(host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "ask for localhost or 127.0.0.1, not for another name of this machine",
        ));
    }
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let local_origin = origin.is_none_or(|origin| {
        ["http://", "https://"]
            .iter()
            .any(|scheme| origin.strip_prefix(scheme).is_some_and(names_this_machine))
    });
    if !local_origin {
        return Err(Problem::new(StatusCode::FORBIDDEN, "pages of other sites may not ask here"));
    }
    Ok(())
}

/// Whether `host` or `host:port` is this machine.
fn names_this_machine(authority: &str) -> bool {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        authority
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
    })
}

async fn record(
    Alive(shared): Alive,
    Path((kind, key)): Path<(String, String)>,
) -> Result<Json<Record>, Problem> {
    let kind = Kind::parse(&kind).map_err(Problem::bad)?;
    let key = RecordKey::parse(&key).map_err(Problem::bad)?;
    match shared.store.record(kind.as_str(), key.as_str()).await? {
        Some(record) => Ok(Json(record)),
        None => Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no {kind} '{}'", key.as_str()))),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordsQuery {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: String,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Records {
    records: Vec<Record>,
    /// What to give as `after` for the next page; none on the last one.
    next: Option<String>,
}

async fn records(
    Alive(shared): Alive,
    Path(kind): Path<String>,
    query: Result<Query<RecordsQuery>, QueryRejection>,
) -> Result<Json<Records>, Problem> {
    let Query(query) = query?;
    let kind = Kind::parse(&kind).map_err(Problem::bad)?;
    let limit = limit(query.limit)?;
    let (records, more) = shared.store.records(kind.as_str(), &query.prefix, &query.after, limit).await?;
    let next = if more { records.last().map(|record| record.key.clone()) } else { None };
    Ok(Json(Records { records, next }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LotsQuery {
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Lots {
    lots: Vec<LotRow>,
}

async fn lots(
    Alive(shared): Alive,
    query: Result<Query<LotsQuery>, QueryRejection>,
) -> Result<Json<Lots>, Problem> {
    let Query(query) = query?;
    let limit = limit(query.limit)?;
    Ok(Json(Lots { lots: shared.store.lots(limit).await? }))
}

fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::bad(format!("limit is 1 to {LIMIT_MAX}, not {limit}"))),
    }
}

async fn status(Alive(shared): Alive) -> Result<Json<Status>, Problem> {
    Ok(Json(shared.status().await?))
}

async fn healthz(Alive(shared): Alive) -> Result<&'static str, Problem> {
    shared.store.counts().await?;
    Ok("ok\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_answered() {
        for good in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]", "[::1]:9"] {
            assert!(names_this_machine(good), "{good}");
        }
        for bad in [
            "",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:x",
            "evil.example",
            "127.0.0.1@e",
        ] {
            assert!(!names_this_machine(bad), "{bad}");
        }
        let mut headers = HeaderMap::new();
        assert!(is_local(&headers).is_err(), "a request without a host");
        headers.insert(header::HOST, header::HeaderValue::from_static("127.0.0.1:80"));
        assert!(is_local(&headers).is_ok());
        headers.insert(header::ORIGIN, header::HeaderValue::from_static("http://evil.example"));
        assert!(is_local(&headers).is_err(), "another site's page");
        headers.insert(header::ORIGIN, header::HeaderValue::from_static("null"));
        assert!(is_local(&headers).is_err(), "a sandboxed page");
        headers.insert(header::ORIGIN, header::HeaderValue::from_static("http://localhost:3000"));
        assert!(is_local(&headers).is_ok());
    }
}
