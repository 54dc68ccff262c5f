//! Why a call came to nothing.

use std::time::Duration;

use crate::views::Refusal;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address of the hub is not one.
    #[error("'{url}' is not the address of a hub; write it as http://127.0.0.1:8480")]
    Address {
        /// What was given.
        url: String,
    },
    /// The hub says no.
    #[error("the hub says no: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// For machines: `lots.closed`, `registry.zone` …
        code: String,
        /// For people: what is wrong and what to do.
        detail: String,
        /// The record that made the hub give a strict lot up.
        refusal: Option<Box<Refusal>>,
    },
    /// The hub is there and cannot answer now: what it stands on does not answer it.
    #[error("the hub at {url} cannot do this now, and could not for {} s: {detail}", waited.as_secs())]
    Unavailable {
        /// The hub.
        url: String,
        /// What it says about it.
        detail: String,
        /// How long it was asked.
        waited: Duration,
    },
    /// Nobody answers.
    #[error("no hub answers at {url}, asked for {:.1} s; is it running there?", waited.as_secs_f64())]
    Unreachable {
        /// The hub.
        url: String,
        /// How long it was asked.
        waited: Duration,
        /// What happened the last time.
        source: reqwest::Error,
    },
    /// Something answers, and not as a hub does.
    #[error("{url} does not answer as a hub does ({found}); is it one, and as new as this program?")]
    Broken {
        /// What was asked.
        url: String,
        /// What came, shortened.
        found: String,
        /// What about it cannot be read.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A record that cannot be written as JSON.
    #[error("the {kind} with key '{key}' cannot be written as JSON")]
    Record {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The hub's code for a refusal: `lots.closed`, `registry.zone` …
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Address { .. }
            | Self::Unavailable { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Record { .. } => None,
        }
    }

    /// Whether the same call may succeed later without anything else being done.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Unreachable { .. })
    }
}
