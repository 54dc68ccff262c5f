//! Stores, groups and tills over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use malote_domain::registry::{Cnpj, Name, PdvAddress, StoreDetails};
use malote_domain::{GroupId, PdvId, StoreId, Timestamp};
use malote_journal::wire::Beat;
use malote_journal::{Reader, notice, subjects};
use malote_projections::registry::PdvView;
use serde::Deserialize;
use serde_json::{Value, json};

use super::command;
use super::problem::Problem;
use crate::app::App;
use crate::registry::{NewStore, RegistryError};
use crate::{beats, clock};

#[derive(Deserialize)]
pub(crate) struct PageQuery {
    after: Option<String>,
    limit: Option<u32>,
}

fn bad_name(error: impl ToString) -> Problem {
    Problem::bad_request("name", error)
}

fn store_id(text: &str) -> Result<StoreId, Problem> {
    StoreId::parse(text).map_err(bad_name)
}

/// `GET /v1/stores`
pub(crate) async fn stores(
    State(app): State<Arc<App>>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let after = page.after.as_deref().map(store_id).transpose()?;
    let stores = app.db.stores(after.as_ref(), page.limit.unwrap_or(200)).await?;
    let next = stores.last().map(|store| store.store.clone());
    Ok(Json(json!({ "stores": stores, "after": next })))
}

/// `GET /v1/stores/{store}`
pub(crate) async fn store(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
) -> Result<Json<Value>, Problem> {
    let store = store_id(&store)?;
    let view = app.db.store(&store).await?;
    let view = view.ok_or_else(|| Problem::from(RegistryError::UnknownStore(store)))?;
    Ok(Json(json!(view)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreBody {
    name: String,
    cnpj: Option<String>,
    zone: String,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    pdvs: BTreeSet<String>,
}

/// `PUT /v1/stores/{store}`: registers it, or says anew what is known of it; groups that are new are made.
pub(crate) async fn put_store(
    State(app): State<Arc<App>>,
    Path(store): Path<String>,
    headers: HeaderMap,
    body: Result<Json<StoreBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::bad_request("body.json", error.body_text()))?;
    let refused = |error| Problem::from(RegistryError::Refused(error));
    let new = NewStore {
        store: store_id(&store)?,
        details: StoreDetails {
            name: Name::parse(&body.name).map_err(refused)?,
            cnpj: body
                .cnpj
                .as_deref()
                .filter(|cnpj| !cnpj.is_empty())
                .map(Cnpj::parse)
                .transpose()
                .map_err(refused)?,
            zone: body.zone,
            groups: body
                .groups
                .iter()
                .map(|g| GroupId::parse(g))
                .collect::<Result<_, _>>()
                .map_err(bad_name)?,
        },
        pdvs: body.pdvs.iter().map(|pdv| PdvId::parse(pdv)).collect::<Result<_, _>>().map_err(bad_name)?,
    };
    let at = app.register_store(command(&headers)?, new).await?;
    app.registry_at(at).await?;
    Ok(Json(json!({ "store": store, "position": at })))
}

/// `PUT /v1/stores/{store}/pdvs/{pdv}`
pub(crate) async fn put_pdv(
    State(app): State<Arc<App>>,
    Path((store, pdv)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let address = PdvAddress { store: store_id(&store)?, pdv: PdvId::parse(&pdv).map_err(bad_name)? };
    let at = app.register_pdv(command(&headers)?, &address).await?;
    app.registry_at(at).await?;
    Ok((StatusCode::OK, Json(json!({ "store": store, "pdv": pdv, "position": at }))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupBody {
    name: String,
}

/// `PUT /v1/groups/{group}`
pub(crate) async fn put_group(
    State(app): State<Arc<App>>,
    Path(group): Path<String>,
    headers: HeaderMap,
    body: Result<Json<GroupBody>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(body) = body.map_err(|error| Problem::bad_request("body.json", error.body_text()))?;
    let id = GroupId::parse(&group).map_err(bad_name)?;
    let name = Name::parse(&body.name).map_err(|error| Problem::from(RegistryError::Refused(error)))?;
    let at = app.register_group(command(&headers)?, &id, Some(name)).await?;
    app.registry_at(at).await?;
    Ok(Json(json!({ "group": group, "position": at })))
}

/// `GET /v1/groups`
pub(crate) async fn groups(
    State(app): State<Arc<App>>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let groups = app.db.groups(page.after.as_deref(), page.limit.unwrap_or(200)).await?;
    let next = groups.last().map(|group| group.group.clone());
    Ok(Json(json!({ "groups": groups, "after": next })))
}

/// `GET /v1/pdvs`: every till with its distance, in notices and seconds.
pub(crate) async fn pdvs(
    State(app): State<Arc<App>>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let after = page.after.as_deref().map(store_id).transpose()?;
    let stores = app.db.stores(after.as_ref(), page.limit.unwrap_or(100)).await?;
    let next = stores.last().map(|store| store.store.clone());
    let mut rows = Vec::new();
    for store in &stores {
        let id = store_id(&store.store)?;
        let stream = Reader::new(app.journal.clone(), subjects::store_stream(&id));
        // A store without a till has no stream.
        let last = if store.pdvs.is_empty() { None } else { stream.last_sequence().await.ok() };
        let mut ages = BTreeMap::new();
        for pdv in &store.pdvs {
            let beat = PdvId::parse(&pdv.pdv)
                .ok()
                .and_then(|pdv| app.beats.of(&PdvAddress { store: id.clone(), pdv }));
            let notice = pdv.notice.max(beat.as_ref().map(|(_, beat)| beat.notice)).unwrap_or(0);
            if last.is_some_and(|last| last > notice) && !ages.contains_key(&notice) {
                ages.insert(notice, waiting_since(&stream, notice + 1).await);
            }
            rows.push(distance(&store.store, pdv, beat, notice, last, ages.get(&notice).copied().flatten()));
        }
    }
    Ok(Json(json!({ "pdvs": rows, "after": next })))
}

/// When a notice was sent.
async fn waiting_since(stream: &Reader, sequence: u64) -> Option<Timestamp> {
    let stored = stream.at(sequence).await.ok()??;
    notice::decode(&stored).ok().map(|(_, meta)| meta.occurred_at)
}

fn distance(
    store: &str,
    pdv: &PdvView,
    beat: Option<(Timestamp, Beat)>,
    notice: u64,
    last: Option<u64>,
    waiting_since: Option<Timestamp>,
) -> Value {
    let now = clock::now();
    let seconds_since = |at: Timestamp| (now.micros() - at.micros()).max(0) / 1_000_000;
    let seen = beat.as_ref().map(|(at, _)| *at);
    json!({
        "store": store,
        "pdv": pdv.pdv,
        "online": seen.is_some_and(|at| beats::is_online(at, now)),
        "notice": notice,
        "notices_behind": last.map(|last| last.saturating_sub(notice)),
        "seconds_behind": waiting_since.map_or(0, seconds_since),
        "seconds_silent": seen.map(seconds_since),
        "seen_at": seen.map(|at| at.to_string()).or_else(|| pdv.seen_at.clone()),
        "version": beat.map(|(_, beat)| beat.version),
    })
}
