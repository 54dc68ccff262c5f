//! Lots over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use malote_domain::ids::IdError;
use malote_domain::lots::{AbortReason, Activation, Declared, Mode, Terms};
use malote_domain::registry::PdvAddress;
use malote_domain::{Digest, Kind, LotId, PdvId, Scope, StoreId, Timestamp};
use malote_projections::lots::{ArrivalFilter, ArrivalState, LotFilter, LotState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::command;
use super::problem::Problem;
use crate::app::App;
use crate::filling::Taking;
use crate::zones;

/// Lease of a lot whose opening names none, in seconds.
const LEASE_SECONDS: u32 = 900;

type Body400<T> = Result<Json<T>, JsonRejection>;

fn json_of<T>(body: Body400<T>) -> Result<T, Problem> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(Problem::status(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", error.body_text()))
        }
        Err(error) => Err(Problem::bad_request("body.json", error.body_text())),
    }
}

fn lot_of(text: &str) -> Result<LotId, Problem> {
    LotId::parse(text).map_err(|error| Problem::not_found("lots.unknown", error))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Open {
    scope: String,
    kinds: BTreeSet<String>,
    #[serde(default)]
    mode: ModeText,
    #[serde(default)]
    strict: bool,
    lease_seconds: Option<u32>,
    /// An instant with its offset, or an hour of each store's own clock without one.
    activate_at: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ModeText {
    #[default]
    Delta,
    Full,
}

fn activation(text: &str) -> Result<Activation, Problem> {
    if let Ok(at) = Timestamp::parse(text) {
        return Ok(Activation::Instant(at));
    }
    zones::parse_local(text).map(Activation::Local).ok_or_else(|| {
        Problem::bad_request(
            "lots.activate_at",
            format!("activate_at '{text}' is neither an instant (2026-11-25T06:00:00-03:00) nor an hour of each store's clock (2026-11-25T06:00:00)"),
        )
    })
}

fn terms(open: &Open) -> Result<Terms, Problem> {
    let bad = |error: IdError| Problem::bad_request("name", error);
    Ok(Terms {
        scope: Scope::parse(&open.scope).map_err(bad)?,
        kinds: open.kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<_, _>>().map_err(bad)?,
        mode: match open.mode {
            ModeText::Delta => Mode::Delta,
            ModeText::Full => Mode::Full,
        },
        strict: open.strict,
        lease_seconds: open.lease_seconds.unwrap_or(LEASE_SECONDS),
        activate_at: open.activate_at.as_deref().map(activation).transpose()?,
        as_of: None,
    })
}

/// `POST /v1/lots`
pub(crate) async fn open(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body400<Open>,
) -> Result<Response, Problem> {
    let terms = terms(&json_of(body)?)?;
    let lot = app.open_lot(command(&headers)?, terms).await?;
    let location = format!("/v1/lots/{lot}");
    let body = Json(json!({ "lot": lot.to_string(), "state": "open" }));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordsQuery {
    kind: Option<String>,
    #[serde(default)]
    changed_only: bool,
}

/// `POST /v1/lots/{lot}/records`: NDJSON, taken in as it arrives.
pub(crate) async fn records(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
    Query(query): Query<RecordsQuery>,
    body: Body,
) -> Result<Response, Problem> {
    let lot = lot_of(&lot)?;
    let kind =
        query.kind.as_deref().map(Kind::parse).transpose().map_err(|e| Problem::bad_request("name", e))?;
    let Ok(_permit) = app.fills.try_acquire() else {
        let detail = "too many senders at once; try again".to_owned();
        return Err(Problem::status(StatusCode::TOO_MANY_REQUESTS, "lots.too_many_senders", detail));
    };
    let taking = Taking { kind, changed_only: query.changed_only };
    let taken = app.fill_lot(lot, &taking, body.into_data_stream()).await?;
    Ok(Json(taken).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    chunks: Option<u32>,
    records: Option<BTreeMap<String, u64>>,
    digest: Option<String>,
}

/// `POST /v1/lots/{lot}/close`
pub(crate) async fn close(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Problem> {
    let lot = lot_of(&lot)?;
    let close: Close = if body.is_empty() {
        Close::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| Problem::bad_request("body.json", error))?
    };
    let bad = |error: IdError| Problem::bad_request("name", error);
    let declared = Declared {
        chunks: close.chunks,
        records: close
            .records
            .map(|records| records.into_iter().map(|(kind, n)| Ok((Kind::parse(&kind)?, n))).collect())
            .transpose()
            .map_err(bad)?,
        digest: close
            .digest
            .map(|text| {
                Digest::parse(&text)
                    .ok_or_else(|| Problem::bad_request("digest", "a digest is 64 hexadecimal digits"))
            })
            .transpose()?,
    };
    let (terms, manifest) = app.close_lot(lot, command(&headers)?.follow_up("close"), declared).await?;
    let records: BTreeMap<_, _> = manifest.records.iter().map(|(kind, n)| (kind.to_string(), n)).collect();
    Ok(Json(json!({
        "lot": lot.to_string(),
        "state": "closed",
        "scope": terms.scope.to_string(),
        "chunks": manifest.chunks,
        "records": records,
        "bytes": manifest.bytes,
        "digest": manifest.digest.map(|digest| digest.to_string()),
    })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    scope: String,
    kinds: Option<BTreeSet<String>>,
}

/// `POST /v1/snapshots`: what a scope holds now, as one full lot for tills that are new.
pub(crate) async fn snapshot(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body400<Snapshot>,
) -> Result<Json<Value>, Problem> {
    let bad = |error: IdError| Problem::bad_request("name", error);
    let body = json_of(body)?;
    let scope = Scope::parse(&body.scope).map_err(bad)?;
    let kinds = body
        .kinds
        .map(|kinds| kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<_, _>>())
        .transpose()
        .map_err(bad)?;
    let lot = app.snapshot(command(&headers)?, scope, kinds).await?;
    Ok(Json(json!({ "lot": lot.to_string(), "state": "closed" })))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reason {
    reason: Option<String>,
}

fn reason_of(body: &[u8], default: &str) -> Result<String, Problem> {
    let reason: Reason = if body.is_empty() {
        Reason::default()
    } else {
        serde_json::from_slice(body).map_err(|error| Problem::bad_request("body.json", error))?
    };
    let text = reason.reason.unwrap_or_else(|| default.to_owned());
    if text.chars().count() > 500 || text.chars().any(char::is_control) {
        return Err(Problem::bad_request("reason", "a reason is one line of at most 500 characters"));
    }
    Ok(text)
}

/// `POST /v1/lots/{lot}/abort`
pub(crate) async fn abort(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Problem> {
    let lot = lot_of(&lot)?;
    let reason = AbortReason::Owner(reason_of(&body, "aborted by its sender")?);
    app.abort_lot(lot, command(&headers)?.follow_up("abort"), reason).await?;
    Ok(Json(json!({ "lot": lot.to_string(), "state": "aborted" })))
}

/// `POST /v1/lots/{lot}/recall`
pub(crate) async fn recall(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Json<Value>, Problem> {
    let lot = lot_of(&lot)?;
    app.recall_lot(lot, command(&headers)?.follow_up("recall"), reason_of(&body, "recalled by its sender")?)
        .await?;
    Ok(Json(json!({ "lot": lot.to_string(), "state": "recalled" })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    state: Option<String>,
    scope: Option<String>,
    before: Option<u64>,
    limit: Option<u32>,
}

/// `GET /v1/lots`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let filter = LotFilter {
        state: query
            .state
            .as_deref()
            .map(|text| {
                LotState::parse(text).ok_or_else(|| {
                    Problem::bad_request(
                        "state",
                        "state is open, closed, releasing, released, aborted or recalled",
                    )
                })
            })
            .transpose()?,
        scope: query
            .scope
            .as_deref()
            .map(Scope::parse)
            .transpose()
            .map_err(|e| Problem::bad_request("name", e))?,
    };
    let lots = app.db.lots(&filter, query.before, query.limit.unwrap_or(50)).await?;
    let next = lots.last().map(|lot| lot.opened_seq);
    Ok(Json(json!({ "lots": lots, "before": next })))
}

/// Gives the tables, which may be a few milliseconds behind what a sender was just told, a moment to catch up. With
/// the broker away they answer what they have.
async fn soon(app: &App) {
    let _ = tokio::time::timeout(Duration::from_secs(1), app.lots_caught_up()).await;
}

/// `GET /v1/lots/{lot}`
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
) -> Result<Json<Value>, Problem> {
    let lot = lot_of(&lot)?;
    soon(&app).await;
    let view = app.db.lot(lot).await?.ok_or_else(|| {
        Problem::not_found("lots.unknown", "there is no such lot; `malote lot ls` lists those there are")
    })?;
    Ok(Json(json!(view)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArrivalQuery {
    store: Option<String>,
    state: Option<String>,
    /// `<store>.<pdv>` of the last row of the page before.
    after: Option<String>,
    limit: Option<u32>,
}

fn address_of(text: &str) -> Result<PdvAddress, Problem> {
    let bad = || Problem::bad_request("after", "a till is written <store>.<pdv>");
    let (store, pdv) = text.split_once('.').ok_or_else(bad)?;
    Ok(PdvAddress {
        store: StoreId::parse(store).map_err(|_| bad())?,
        pdv: PdvId::parse(pdv).map_err(|_| bad())?,
    })
}

/// `GET /v1/lots/{lot}/arrival`: till by till, with what each downloads right now.
pub(crate) async fn arrival(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
    Query(query): Query<ArrivalQuery>,
) -> Result<Json<Value>, Problem> {
    let lot = lot_of(&lot)?;
    let filter = ArrivalFilter {
        store: query
            .store
            .as_deref()
            .map(StoreId::parse)
            .transpose()
            .map_err(|e| Problem::bad_request("name", e))?,
        state: query
            .state
            .as_deref()
            .map(|text| {
                ArrivalState::parse(text).ok_or_else(|| {
                    Problem::bad_request(
                        "state",
                        "state is pending, released, applied, applied_with_errors, failed or superseded",
                    )
                })
            })
            .transpose()?,
    };
    let after = query.after.as_deref().map(address_of).transpose()?;
    soon(&app).await;
    let rows = app.db.lot_arrival(lot, &filter, after.as_ref(), query.limit.unwrap_or(200)).await?;
    let next = rows.last().map(|row| format!("{}.{}", row.store, row.pdv));
    let rows: Vec<Value> =
        rows.iter().map(|row| with_beat(&app, &row.store, &row.pdv, lot, json!(row))).collect();
    Ok(Json(json!({ "arrival": rows, "after": next })))
}

/// Adds what a till's last sign of life says: whether it is online and how far its download of the lot is.
fn with_beat(app: &App, store: &str, pdv: &str, lot: LotId, mut row: Value) -> Value {
    let address = StoreId::parse(store).and_then(|store| Ok(PdvAddress { store, pdv: PdvId::parse(pdv)? }));
    let beat = address.ok().and_then(|address| app.beats.of(&address));
    let now = crate::clock::now();
    row["online"] = json!(beat.as_ref().is_some_and(|(at, _)| crate::beats::is_online(*at, now)));
    if let Some((_, beat)) = beat
        && let Some(download) = beat.download.filter(|download| download.lot == lot)
    {
        row["downloading"] = json!({ "chunks_done": download.chunks_done, "chunks": download.chunks });
    }
    row
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProblemsQuery {
    /// `<store>.<pdv>.<n>` of the last row of the page before.
    after: Option<String>,
    limit: Option<u32>,
}

/// `GET /v1/lots/{lot}/problems`: records that tills have set aside.
pub(crate) async fn problems(
    State(app): State<Arc<App>>,
    Path(lot): Path<String>,
    Query(query): Query<ProblemsQuery>,
) -> Result<Json<Value>, Problem> {
    let lot = lot_of(&lot)?;
    let after = query
        .after
        .as_deref()
        .map(|text| {
            let bad = || Problem::bad_request("after", "write <store>.<pdv>.<n>");
            let (address, n) = text.rsplit_once('.').ok_or_else(bad)?;
            Ok::<_, Problem>((address_of(address)?, n.parse::<u64>().map_err(|_| bad())?))
        })
        .transpose()?;
    let rows = app
        .db
        .lot_problems(lot, after.as_ref().map(|(address, n)| (address, *n)), query.limit.unwrap_or(200))
        .await?;
    let next = rows.last().map(|row| format!("{}.{}.{}", row.store, row.pdv, row.n));
    Ok(Json(json!({ "problems": rows, "after": next })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceQuery {
    kind: String,
    key: String,
    store: Option<String>,
    after: Option<String>,
    limit: Option<u32>,
}

/// `GET /v1/trace?kind=&key=`: where one record is, and why not where it is not.
pub(crate) async fn trace(
    State(app): State<Arc<App>>,
    Query(query): Query<TraceQuery>,
) -> Result<Json<Value>, Problem> {
    let bad = |error: IdError| Problem::bad_request("name", error);
    let kind = Kind::parse(&query.kind).map_err(bad)?;
    let store = query.store.as_deref().map(StoreId::parse).transpose().map_err(bad)?;
    let after = query.after.as_deref().map(address_of).transpose()?;
    let trace =
        app.db.trace(&kind, &query.key, store.as_ref(), after.as_ref(), query.limit.unwrap_or(200)).await?;
    let next = trace.places.last().map(|place| format!("{}.{}", place.store, place.pdv));
    Ok(Json(
        json!({ "kind": query.kind, "key": query.key, "sent": trace.sent, "places": trace.places, "after": next }),
    ))
}
