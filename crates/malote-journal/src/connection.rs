//! One connection to the broker, which knows when it was made anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// How long one request to the broker may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait between two attempts to connect again.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address cannot be read.
    #[error("'{url}' is not a NATS address; write it as nats://host:4222, several separated by commas")]
    Address {
        /// What was given.
        url: String,
    },
    /// Nobody answers there, or not as a broker that lets us in.
    #[error("no NATS broker answers at {url}; start one with `malote up`, or check --nats")]
    Unreachable {
        /// What was given.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
}

/// Why a question to the broker has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No answer in time, or no connection.
    #[error("the broker did not answer '{subject}'")]
    NoAnswer {
        /// What was asked.
        subject: String,
        /// Why.
        #[source]
        source: async_nats::client::RequestError,
    },
    /// Nobody listens there: JetStream is off, the stream has no leader now, or the permission is missing.
    #[error("nobody answers '{subject}': no such stream, no leader now, or no permission")]
    NobodyThere {
        /// What was asked.
        subject: String,
    },
    /// An answer that cannot be read.
    #[error("the broker's answer to '{subject}' cannot be read")]
    Garbled {
        /// What was asked.
        subject: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A connection that mends itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    connects: watch::Receiver<u64>,
    online: Arc<AtomicBool>,
}

/// Whether a connection must succeed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Fail when nobody answers: the hub.
    None,
    /// Come back at once and go on trying behind: a till, for which offline is a normal state.
    Forever,
}

impl Connection {
    /// Connects as `name` to the broker at `url` (several addresses separated by commas).
    ///
    /// # Errors
    /// When the address is unreadable, or nobody answers and patience is [`Patience::None`].
    pub async fn connect(url: &str, name: &str, patience: Patience) -> Result<Self, ConnectError> {
        let addresses = url
            .split(',')
            .map(|part| part.trim().parse::<ServerAddr>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| ConnectError::Address { url: url.to_owned() })?;
        let (connected, connects) = watch::channel(0_u64);
        let online = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&online);
        let mut options = ConnectOptions::new()
            .name(name)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .connection_timeout(Duration::from_secs(3))
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(|attempt| {
                let millis = 20_u64.saturating_mul(1 << attempt.min(10));
                Duration::from_millis(millis).min(RECONNECT_DELAY_MAX)
            })
            .event_callback(move |event| {
                match &event {
                    Event::Connected => {
                        seen.store(true, Ordering::Relaxed);
                        connected.send_modify(|count| *count += 1);
                        tracing::debug!("connected to the broker");
                    }
                    Event::Disconnected | Event::Closed => {
                        seen.store(false, Ordering::Relaxed);
                        tracing::debug!("connection to the broker lost");
                    }
                    // Permission errors arrive only here.
                    Event::ServerError(error) => tracing::warn!(%error, "the broker reports an error"),
                    Event::ClientError(error) => tracing::debug!(%error, "connection trouble"),
                    Event::SlowConsumer(id) => tracing::warn!(id, "messages were dropped before being read"),
                    Event::LameDuckMode | Event::Draining => tracing::info!(%event, "the broker is leaving"),
                }
                async {}
            });
        if patience == Patience::Forever {
            options = options.retry_on_initial_connect();
        }
        let client = options
            .connect(addresses)
            .await
            .map_err(|source| ConnectError::Unreachable { url: url.to_owned(), source })?;
        if patience == Patience::None {
            online.store(true, Ordering::Relaxed);
        }
        Ok(Self { client, connects, online })
    }

    /// Whether the broker was there when last heard of.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Relaxed)
    }

    /// Counts the times the connection was made; changes when it is made anew.
    pub fn connects(&self) -> watch::Receiver<u64> {
        self.connects.clone()
    }

    /// The NATS client itself.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Asks a JetStream API subject with a JSON body and reads the JSON answer.
    ///
    /// # Errors
    /// When nobody answers in time, or not with the JSON expected.
    pub async fn ask<T: DeserializeOwned>(&self, subject: &str, body: Bytes) -> Result<T, RequestError> {
        let answer = self.client.request(subject.to_owned(), body).await.map_err(|source| {
            if source.kind() == async_nats::client::RequestErrorKind::NoResponders {
                RequestError::NobodyThere { subject: subject.to_owned() }
            } else {
                RequestError::NoAnswer { subject: subject.to_owned(), source }
            }
        })?;
        serde_json::from_slice(&answer.payload)
            .map_err(|source| RequestError::Garbled { subject: subject.to_owned(), source })
    }

    /// Sends what is queued and closes.
    pub async fn close(&self) {
        // A broker that is gone cannot be said goodbye to.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.client.flush()).await;
        let _ = self.client.drain().await;
    }
}
