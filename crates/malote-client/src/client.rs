//! The hub's HTTP API, one method a question.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStream;
use malote_domain::{LotId, PdvId, StoreId};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::ClientError;
use crate::retry::Tries;
use crate::sender::LotSender;
use crate::views::{
    Arrival, ArrivalState, Closed, Declared, GroupView, LotState, LotView, NewLot, NewStore, PdvDistance,
    Problem, Refusal, StoreView, Taken, Trace,
};

/// How long a call is tried before the client gives up, unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The longest that one try of a call may take; the hub answers within seconds or says that it cannot.
const TRY_DEADLINE: Duration = Duration::from_secs(30);
/// The longest that one try of a snapshot may take: it holds all that its scope holds.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(600);
const SHOWN_CHARS: usize = 200;

/// A hub, as the back office sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Arc<str>,
    patience: Duration,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// What to ask for the next page after; none at the end.
    pub after: Option<String>,
}

/// How records are to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordsQuery {
    /// The kind of records that name none; needed when the lot has several kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Leave out records that are what was sent last time. Not for a full lot: it would take them away.
    pub changed_only: bool,
}

/// Which tills to tell of, and from where on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArrivalQuery {
    /// Only those of this store.
    pub store: Option<String>,
    /// Only those in this state; `pending` takes in the released ones that have not reported.
    pub state: Option<ArrivalState>,
    /// What the page before said.
    pub after: Option<String>,
    /// The most rows to answer with, up to 1,000; the hub has a custom when absent.
    pub limit: Option<u32>,
}

/// One question to the hub, as it is asked however often.
struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    /// What makes a command the same command when it is asked again.
    key: Option<String>,
    body: Option<serde_json::Value>,
    deadline: Duration,
}

impl Call {
    fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: path.into(),
            query: vec![],
            key: None,
            body: None,
            deadline: TRY_DEADLINE,
        }
    }

    fn command(method: Method, path: impl Into<String>, body: impl Serialize) -> Result<Self, ClientError> {
        let path = path.into();
        let body = serde_json::to_value(body).map_err(|source| ClientError::Record {
            kind: "body of a request to".to_owned(),
            key: path.clone(),
            source,
        })?;
        let key = Some(Uuid::now_v7().to_string());
        Ok(Self { method, path, query: vec![], key, body: Some(body), deadline: TRY_DEADLINE })
    }

    fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// Why one try came to nothing, and whether another one may help.
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    /// The hub has not begun to do what was asked.
    pub(crate) before_start: bool,
    /// The pause that the hub asks for.
    pub(crate) pause: Option<Duration>,
}

impl Client {
    /// A client of the hub at `url`, such as `http://127.0.0.1:8480`. Nothing is asked yet.
    ///
    /// # Errors
    /// When that is no such address.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { url: url.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
        if parsed.scheme() != "http" || !parsed.has_host() || parsed.query().is_some() {
            return Err(wrong());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_DEADLINE)
            // A hub is reached as it is named: a proxy of the environment knows nothing of this machine's loopback.
            .no_proxy()
            .user_agent(concat!("malote-client/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ClientError::Unreachable {
                url: url.to_owned(),
                waited: Duration::ZERO,
                source,
            })?;
        Ok(Self { http, url: url.trim_end_matches('/').into(), patience: PATIENCE })
    }

    /// The same client, which asks for so long before it gives up; zero asks once.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The hub's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens a lot.
    ///
    /// # Errors
    /// When the hub refuses the terms or does not answer; the same holds for all that follow.
    pub async fn open_lot(&self, lot: &NewLot) -> Result<LotId, ClientError> {
        self.new_lot(Call::command(Method::POST, "/v1/lots", lot)?).await
    }

    /// Makes a lot of what a scope holds now, for tills that are new; of all its kinds when none are named.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn snapshot(&self, scope: &str, kinds: &[String]) -> Result<LotId, ClientError> {
        let kinds = Some(kinds).filter(|kinds| !kinds.is_empty());
        let mut call = Call::command(
            Method::POST,
            "/v1/snapshots",
            serde_json::json!({ "scope": scope, "kinds": kinds }),
        )?;
        call.deadline = SNAPSHOT_DEADLINE;
        self.new_lot(call).await
    }

    async fn new_lot(&self, call: Call) -> Result<LotId, ClientError> {
        #[derive(Deserialize)]
        struct New {
            lot: String,
        }
        let url = format!("{}{}", self.url, call.path);
        let new: New = self.call(call).await?;
        LotId::parse(&new.lot).map_err(|error| {
            let found = new.lot.clone();
            ClientError::Broken { url, found, source: Some(Box::new(error)) }
        })
    }

    /// Opens a lot to be filled step by step.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn send_lot(&self, lot: NewLot) -> Result<LotSender, ClientError> {
        let id = self.open_lot(&lot).await?;
        Ok(LotSender::new(self.clone(), id, lot))
    }

    /// Sends records, NDJSON as it comes, as one request. It is not sent again: when it fails, what was taken of it
    /// is in the lot. [`LotSender`] knows what to do then.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn send_records<S>(
        &self,
        lot: LotId,
        records: S,
        query: &RecordsQuery,
    ) -> Result<Taken, ClientError>
    where
        S: TryStream + Send + 'static,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        Bytes: From<S::Ok>,
    {
        let body = Body::wrap_stream(records);
        self.try_records(lot, body, query, None).await.map_err(|failed| failed.error)
    }

    /// One try of sending records.
    pub(crate) async fn try_records(
        &self,
        lot: LotId,
        body: Body,
        query: &RecordsQuery,
        deadline: Option<Duration>,
    ) -> Result<Taken, Failed> {
        let request = self.http.post(format!("{}/v1/lots/{lot}/records", self.url));
        let mut request =
            request.header(header::CONTENT_TYPE, "application/x-ndjson").query(query).body(body);
        if let Some(deadline) = deadline {
            request = request.timeout(deadline);
        }
        self.ask(request).await
    }

    /// Closes a lot when what is in it is what its sender declares.
    ///
    /// # Errors
    /// See [`Client::open_lot`]; a refused lot stays open.
    pub async fn close_lot(&self, lot: LotId, declared: &Declared) -> Result<Closed, ClientError> {
        self.call(Call::command(Method::POST, format!("/v1/lots/{lot}/close"), declared)?).await
    }

    /// Gives an open lot up.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn abort_lot(&self, lot: LotId, reason: &str) -> Result<(), ClientError> {
        self.end_lot(lot, "abort", reason).await
    }

    /// Takes a closed lot back from the stores that do not have it yet.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn recall_lot(&self, lot: LotId, reason: &str) -> Result<(), ClientError> {
        self.end_lot(lot, "recall", reason).await
    }

    async fn end_lot(&self, lot: LotId, how: &str, reason: &str) -> Result<(), ClientError> {
        let body = serde_json::json!({ "reason": reason });
        let call = Call::command(Method::POST, format!("/v1/lots/{lot}/{how}"), body)?;
        let _: serde_json::Value = self.call(call).await?;
        Ok(())
    }

    /// A lot and the sum of what became of it.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn lot(&self, lot: LotId) -> Result<LotView, ClientError> {
        self.call(Call::get(format!("/v1/lots/{lot}"))).await
    }

    /// Lots, newest first; the next page is before the last one's `opened_seq`.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn lots(
        &self,
        state: Option<LotState>,
        scope: Option<&str>,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<LotView>, ClientError> {
        #[derive(Deserialize)]
        struct Lots {
            lots: Vec<LotView>,
        }
        let call = Call::get("/v1/lots").with("state", state.map(LotState::as_str)).with("scope", scope);
        let found: Lots = self.call(call.with("before", before).with("limit", Some(limit))).await?;
        Ok(found.lots)
    }

    /// What became of a lot, till by till.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn arrival(&self, lot: LotId, query: &ArrivalQuery) -> Result<Page<Arrival>, ClientError> {
        #[derive(Deserialize)]
        struct Rows {
            arrival: Vec<Arrival>,
            after: Option<String>,
        }
        let call = Call::get(format!("/v1/lots/{lot}/arrival")).with("store", query.store.as_ref());
        let call = call.with("state", query.state.map(ArrivalState::as_str));
        let call = call.with("after", query.after.as_ref()).with("limit", query.limit);
        let found: Rows = self.call(call).await?;
        Ok(Page { rows: found.arrival, after: found.after })
    }

    /// The records of a lot that tills have set aside.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn problems(&self, lot: LotId, after: Option<&str>) -> Result<Page<Problem>, ClientError> {
        #[derive(Deserialize)]
        struct Rows {
            problems: Vec<Problem>,
            after: Option<String>,
        }
        let found: Rows =
            self.call(Call::get(format!("/v1/lots/{lot}/problems")).with("after", after)).await?;
        Ok(Page { rows: found.problems, after: found.after })
    }

    /// Where one record is, and why not where it is not.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn trace(
        &self,
        kind: &str,
        key: &str,
        store: Option<&StoreId>,
        after: Option<&str>,
    ) -> Result<Trace, ClientError> {
        let call = Call::get("/v1/trace").with("kind", Some(kind)).with("key", Some(key));
        self.call(call.with("store", store).with("after", after)).await
    }

    /// Registers a store with its groups and tills, or says anew what is known of it.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn put_store(&self, store: &StoreId, details: &NewStore) -> Result<(), ClientError> {
        let call = Call::command(Method::PUT, format!("/v1/stores/{store}"), details)?;
        let _: serde_json::Value = self.call(call).await?;
        Ok(())
    }

    /// One store.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn store(&self, store: &StoreId) -> Result<StoreView, ClientError> {
        self.call(Call::get(format!("/v1/stores/{store}"))).await
    }

    /// Stores by id.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn stores(&self, after: Option<&str>) -> Result<Page<StoreView>, ClientError> {
        #[derive(Deserialize)]
        struct Rows {
            stores: Vec<StoreView>,
            after: Option<String>,
        }
        let found: Rows = self.call(Call::get("/v1/stores").with("after", after)).await?;
        Ok(Page { rows: found.stores, after: found.after })
    }

    /// Registers a till of a registered store.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn put_pdv(&self, store: &StoreId, pdv: &PdvId) -> Result<(), ClientError> {
        let call = Call::command(Method::PUT, format!("/v1/stores/{store}/pdvs/{pdv}"), ())?;
        let _: serde_json::Value = self.call(call).await?;
        Ok(())
    }

    /// Tills with their distance, by store.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn pdvs(&self, after: Option<&str>) -> Result<Page<PdvDistance>, ClientError> {
        #[derive(Deserialize)]
        struct Rows {
            pdvs: Vec<PdvDistance>,
            after: Option<String>,
        }
        let found: Rows = self.call(Call::get("/v1/pdvs").with("after", after)).await?;
        Ok(Page { rows: found.pdvs, after: found.after })
    }

    /// Names a group.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn put_group(&self, group: &str, name: &str) -> Result<(), ClientError> {
        let body = serde_json::json!({ "name": name });
        let call = Call::command(Method::PUT, format!("/v1/groups/{group}"), body)?;
        let _: serde_json::Value = self.call(call).await?;
        Ok(())
    }

    /// Groups by id.
    ///
    /// # Errors
    /// See [`Client::open_lot`].
    pub async fn groups(&self, after: Option<&str>) -> Result<Page<GroupView>, ClientError> {
        #[derive(Deserialize)]
        struct Rows {
            groups: Vec<GroupView>,
            after: Option<String>,
        }
        let found: Rows = self.call(Call::get("/v1/groups").with("after", after)).await?;
        Ok(Page { rows: found.groups, after: found.after })
    }

    /// Asks, and asks again while nobody answers: every call is either a question or a command with its key.
    async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let mut tries = self.tries();
        loop {
            let mut request = self.http.request(call.method.clone(), format!("{}{}", self.url, call.path));
            request = request.query(&call.query).timeout(call.deadline);
            if let Some(key) = &call.key {
                request = request.header("idempotency-key", key);
            }
            if let Some(body) = &call.body {
                request = request.json(body);
            }
            match self.ask(request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) if failed.error.is_passing() && tries.again(failed.pause).await => {}
                Err(failed) => return Err(failed.after(&tries)),
            }
        }
    }

    pub(crate) fn tries(&self) -> Tries {
        Tries::new(self.patience)
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failed> {
        let response = request.send().await.map_err(|source| {
            let before_start = source.is_connect();
            let url = self.url.to_string();
            Failed {
                error: ClientError::Unreachable { url, waited: Duration::ZERO, source },
                before_start,
                pause: None,
            }
        })?;
        let url = response.url().to_string();
        let status = response.status();
        let pause = retry_after(&response);
        let bytes = response.bytes().await.map_err(|source| Failed {
            error: ClientError::Unreachable { url: self.url.to_string(), waited: Duration::ZERO, source },
            before_start: false,
            pause: None,
        })?;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| Failed {
                error: ClientError::Broken { url, found: shown(&bytes), source: Some(Box::new(error)) },
                before_start: false,
                pause: None,
            });
        }
        let error = self.problem(url, status, &bytes);
        Err(Failed { error, before_start: status == StatusCode::TOO_MANY_REQUESTS, pause })
    }

    /// What an answer that is no success means.
    fn problem(&self, url: String, status: StatusCode, bytes: &[u8]) -> ClientError {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
            detail: String,
            refusal: Option<Box<Refusal>>,
        }
        match (status, serde_json::from_slice::<Problem>(bytes)) {
            (StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS, Ok(problem)) => {
                let url = self.url.to_string();
                ClientError::Unavailable { url, detail: problem.detail, waited: Duration::ZERO }
            }
            (_, Ok(Problem { code, detail, refusal })) => {
                ClientError::Refused { status: status.as_u16(), code, detail, refusal }
            }
            (_, Err(_)) => {
                ClientError::Broken { url, found: format!("{status}: {}", shown(bytes)), source: None }
            }
        }
    }
}

impl Failed {
    /// The error, saying how long it was tried.
    pub(crate) fn after(self, tries: &Tries) -> ClientError {
        let mut error = self.error;
        if let ClientError::Unavailable { waited, .. } | ClientError::Unreachable { waited, .. } = &mut error
        {
            *waited = tries.waited();
        }
        error
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
