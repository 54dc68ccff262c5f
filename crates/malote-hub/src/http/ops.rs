//! What monitoring asks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;

/// Whether the process lives.
pub(crate) async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// Whether the hub can do its work: the broker answers a question end to end, the tables answer, nothing is lost.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let mut problems = Vec::new();
    let journal = malote_journal::Reader::new(app.journal.clone(), malote_journal::subjects::LOTS);
    if let Err(error) = journal.last_sequence().await {
        problems.push(error.to_string());
    }
    if let Err(error) = app.db.parked_count().await {
        problems.push(error.to_string());
    }
    for (stream, last) in app.health.truncations() {
        problems.push(format!("stream {stream} lost its tail and ends at {last}; restart with --heal"));
    }
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": problems.is_empty(), "problems": problems }))).into_response()
}

/// Metrics in the OpenMetrics text format.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.text()).into_response()
}
