//! Refusals and failures as RFC 9457 problems: the only file that knows status codes.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use malote_domain::Rejection;
use malote_projections::DbError;
use serde_json::{Value, json};

use crate::app::WaitError;
use crate::lots::LotsError;
use crate::registry::RegistryError;

/// What a request that came to nothing is answered.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    more: Option<(&'static str, Value)>,
}

impl Problem {
    /// The request itself makes no sense.
    pub(crate) fn bad_request(code: &'static str, detail: impl ToString) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, detail: detail.to_string(), more: None }
    }

    /// There is no such thing.
    pub(crate) fn not_found(code: &'static str, detail: impl ToString) -> Self {
        Self { status: StatusCode::NOT_FOUND, code, detail: detail.to_string(), more: None }
    }

    pub(crate) const fn status(status: StatusCode, code: &'static str, detail: String) -> Self {
        Self { status, code, detail, more: None }
    }

    fn unavailable(detail: impl ToString) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "unavailable",
            detail: format!(
                "{}; nothing is lost, ask again with the same Idempotency-Key",
                detail.to_string()
            ),
            more: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:malote:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("problem"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        if let Some((name, value)) = self.more {
            body[name] = value;
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE || self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<LotsError> for Problem {
    fn from(error: LotsError) -> Self {
        let detail = error.to_string();
        let of = |status, code| Self { status, code, detail: detail.clone(), more: None };
        match error {
            LotsError::Refused(refused) if refused.is_unknown() => of(StatusCode::NOT_FOUND, refused.code()),
            LotsError::Refused(refused) => of(StatusCode::CONFLICT, refused.code()),
            LotsError::UnknownScope(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "lots.unknown_scope"),
            LotsError::KindNotDeclared(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "lots.kind_not_declared"),
            LotsError::TooManyOpen { .. } => of(StatusCode::TOO_MANY_REQUESTS, "lots.too_many_open"),
            LotsError::ChangedOnlyFull => of(StatusCode::UNPROCESSABLE_ENTITY, "lots.changed_only_full"),
            LotsError::NotTaken(_) => of(StatusCode::CONFLICT, "idempotency_key.used"),
            LotsError::ChangedMeanwhile(_) => of(StatusCode::CONFLICT, "lots.changed_meanwhile"),
            LotsError::Closing => of(StatusCode::CONFLICT, "lots.closing"),
            LotsError::TooMuch(_) => of(StatusCode::PAYLOAD_TOO_LARGE, "lots.too_much"),
            LotsError::BodyTooLarge { .. } => of(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large"),
            LotsError::BodyBroken => of(StatusCode::REQUEST_TIMEOUT, "body.broken"),
            LotsError::Strict(refusal) => Self {
                more: Some(("refusal", json!(refusal))),
                ..of(StatusCode::UNPROCESSABLE_ENTITY, "lots.strict")
            },
            LotsError::Unavailable { .. } => Self::unavailable(detail),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let detail = error.to_string();
        let of = |status, code| Self { status, code, detail: detail.clone(), more: None };
        match error {
            RegistryError::Refused(refused) => of(StatusCode::UNPROCESSABLE_ENTITY, refused.code()),
            RegistryError::Zone(_) => of(StatusCode::UNPROCESSABLE_ENTITY, "registry.zone"),
            RegistryError::UnknownStore(_) => of(StatusCode::NOT_FOUND, "registry.unknown_store"),
            RegistryError::NotTaken(_) => of(StatusCode::CONFLICT, "idempotency_key.used"),
            RegistryError::Unavailable(_) => Self::unavailable(detail),
        }
    }
}

impl From<DbError> for Problem {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "a query failed");
        Self::unavailable("the read models do not answer")
    }
}

impl From<WaitError> for Problem {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Behind { .. } => Self::unavailable(error),
            WaitError::Db(error) => error.into(),
        }
    }
}
