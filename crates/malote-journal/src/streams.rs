//! The streams, as their files say: created when missing, compared when there, refused when they differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use malote_domain::StoreId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::connection::{Connection, RequestError};
use crate::jetstream::ApiError;

/// The files of `streams/`, compiled in: the hub needs no folder beside it.
const FILES: &[(&str, &str)] = &[
    ("lots.toml", include_str!("../../../streams/lots.toml")),
    ("lotdata.toml", include_str!("../../../streams/lotdata.toml")),
    ("pdvs.toml", include_str!("../../../streams/pdvs.toml")),
    ("registry.toml", include_str!("../../../streams/registry.toml")),
    ("timers.toml", include_str!("../../../streams/timers.toml")),
    ("store.toml", include_str!("../../../streams/store.toml")),
];

/// Settings that no stream of malote's has: they lose events, or bring in others' or change them.
const FOREIGN: &[&str] = &["persist_mode", "mirror", "sources", "subject_transform"];

/// One stream, as its file says. Whatever is not a field here is what every malote stream has: file storage,
/// limits retention, refusal of new messages when full (where nothing is scheduled), direct reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamFile {
    /// What it is for.
    pub description: String,
    /// Its name; `{store}` stands for a store in the template of the stores' streams.
    pub name: String,
    /// Its subjects.
    pub subjects: Vec<String>,
    /// Copies in a cluster.
    pub replicas: u32,
    /// Most messages; none for no limit.
    pub max_messages: Option<i64>,
    /// Most bytes, reserved at the broker; none for no limit but the broker's own.
    pub max_bytes: Option<i64>,
    /// Largest message in bytes.
    pub max_message_bytes: i32,
    /// Most consumers: the broker's own default refuses the 1,001st.
    pub max_consumers: i32,
    /// How long a repeated message id is recognised, in seconds. Never what correctness rests on.
    pub duplicate_window_seconds: u32,
    /// Whether several messages may be appended as one.
    pub atomic_batches: bool,
    /// Whether messages may be scheduled. The broker then allows purging: never for events.
    pub schedules: bool,
    /// Whether the hub may purge it: only of what can be made again.
    pub purgeable: bool,
}

/// Why the streams are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that says nothing sensible.
    #[error("{file} is not a stream file")]
    Parse {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: toml::de::Error,
    },
    /// The broker did not answer.
    #[error(
        "the broker does not answer about stream {stream}; is JetStream on, and may this user manage streams?"
    )]
    Request {
        /// Which.
        stream: String,
        /// Why.
        #[source]
        source: RequestError,
    },
    /// The broker does not want it.
    #[error("the broker refuses stream {stream}: {reason}")]
    Refused {
        /// Which.
        stream: String,
        /// Why, as the broker says.
        reason: String,
    },
    /// The stream is there and is another.
    #[error("stream {stream} differs from its file: {}; change the file, or the stream by hand, so that they agree",
        .differences.join("; "))]
    Drift {
        /// Which.
        stream: String,
        /// What differs, field by field.
        differences: Vec<String>,
    },
}

/// All streams.
#[derive(Clone, Debug)]
pub struct Streams {
    fixed: Vec<StreamFile>,
    store: StreamFile,
}

#[derive(Deserialize)]
struct InfoAnswer {
    config: Option<BTreeMap<String, Value>>,
    error: Option<ApiError>,
}

impl Streams {
    /// The streams as compiled in, with files of the same name in `folder` in their place, and so many replicas.
    ///
    /// # Errors
    /// When a file cannot be read or makes no sense.
    pub fn load(folder: Option<&Path>, replicas: Option<u32>) -> Result<Self, StreamsError> {
        let mut fixed = Vec::new();
        let mut store = None;
        for (name, compiled_in) in FILES {
            let path = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
            let text = match &path {
                Some(path) => std::fs::read_to_string(path)
                    .map_err(|source| StreamsError::Read { path: path.clone(), source })?,
                None => (*compiled_in).to_owned(),
            };
            let mut file: StreamFile = toml::from_str(&text).map_err(|source| StreamsError::Parse {
                file: path.map_or_else(|| (*name).to_owned(), |path| path.display().to_string()),
                source,
            })?;
            file.replicas = replicas.unwrap_or(file.replicas);
            if file.name.contains("{store}") {
                store = Some(file);
            } else {
                fixed.push(file);
            }
        }
        let store = store.ok_or_else(|| StreamsError::Refused {
            stream: "STORE-{store}".into(),
            reason: "store.toml must name its stream with {store} in it".into(),
        })?;
        Ok(Self { fixed, store })
    }

    /// The streams that are there once.
    pub fn fixed(&self) -> &[StreamFile] {
        &self.fixed
    }

    /// The stream of one store.
    pub fn of_store(&self, store: &StoreId) -> StreamFile {
        let named = |text: &String| text.replace("{store}", store.as_str());
        StreamFile {
            name: named(&self.store.name),
            subjects: self.store.subjects.iter().map(named).collect(),
            ..self.store.clone()
        }
    }
}

impl StreamFile {
    /// The configuration as the broker is told.
    fn config(&self) -> Value {
        json!({
            "name": self.name,
            "description": self.description,
            "subjects": self.subjects,
            "retention": "limits",
            "storage": "file",
            // The broker takes no schedules where it would have to refuse new messages. What a full stream of timers
            // drops is made again from the lots.
            "discard": if self.schedules { "old" } else { "new" },
            "num_replicas": self.replicas,
            "max_msgs": self.max_messages.unwrap_or(-1),
            "max_msgs_per_subject": -1,
            "max_bytes": self.max_bytes.unwrap_or(-1),
            "max_age": 0,
            "max_msg_size": self.max_message_bytes,
            "max_consumers": self.max_consumers,
            "duplicate_window": u64::from(self.duplicate_window_seconds) * 1_000_000_000,
            "allow_direct": true,
            "allow_atomic": self.atomic_batches,
            "allow_msg_schedules": self.schedules,
            // Scheduled messages are removed when they fire.
            "deny_delete": !self.schedules,
            "deny_purge": !(self.schedules || self.purgeable),
            "allow_rollup_hdrs": self.schedules,
            "allow_msg_ttl": false,
            "allow_msg_counter": false,
            "no_ack": false,
            "sealed": false,
        })
    }

    /// What differs between this file and what the broker has.
    fn differences(&self, actual: &BTreeMap<String, Value>) -> Vec<String> {
        let Value::Object(wanted) = self.config() else {
            return vec![];
        };
        wanted
            .iter()
            .filter(|(field, _)| *field != "description")
            .filter_map(|(field, want)| {
                // The broker leaves out what is false or zero.
                let have = actual.get(field).cloned().unwrap_or_else(|| match want {
                    Value::Bool(_) => json!(false),
                    Value::Number(_) => json!(0),
                    Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => Value::Null,
                });
                (have != *want).then(|| format!("{field}: the file says {want}, the broker has {have}"))
            })
            .chain(FOREIGN.iter().filter_map(|field| {
                let have = actual.get(*field).filter(|have| !have.is_null() && **have != json!("default"))?;
                Some(format!("{field}: no stream of malote's has it, the broker has {have}"))
            }))
            .collect()
    }

    /// Makes the stream, or checks that the one there is as the file says.
    ///
    /// # Errors
    /// When it cannot be made, or is another.
    pub async fn ensure(&self, connection: &Connection) -> Result<(), StreamsError> {
        let failed = |source| StreamsError::Request { stream: self.name.clone(), source };
        let subject = format!("$JS.API.STREAM.INFO.{}", self.name);
        let info: InfoAnswer = connection.ask(&subject, bytes::Bytes::new()).await.map_err(failed)?;
        if let Some(actual) = info.config {
            let differences = self.differences(&actual);
            if differences.is_empty() {
                return Ok(());
            }
            return Err(StreamsError::Drift { stream: self.name.clone(), differences });
        }
        if let Some(error) = info.error
            && error.err_code != 10059
        {
            return Err(StreamsError::Refused { stream: self.name.clone(), reason: error.description });
        }
        let subject = format!("$JS.API.STREAM.CREATE.{}", self.name);
        let answer: InfoAnswer =
            connection.ask(&subject, self.config().to_string().into()).await.map_err(failed)?;
        match answer.error {
            None => Ok(()),
            Some(error) => {
                Err(StreamsError::Refused { stream: self.name.clone(), reason: error.description })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_parses_and_covers_the_subjects_in_use() {
        let streams = Streams::load(None, None).unwrap();
        let store = StoreId::parse("330").unwrap();
        let lot = malote_domain::LotId::parse("0197f0aa-0000-7000-8000-000000000001").unwrap();
        let address = malote_domain::registry::PdvAddress {
            store: store.clone(),
            pdv: malote_domain::PdvId::parse("1").unwrap(),
        };
        let scope = malote_domain::Scope::Store(store.clone());
        use crate::subjects;
        for (stream, subject) in [
            (subjects::LOTS, subjects::lot(&scope, lot)),
            (subjects::LOTDATA, subjects::chunk(&scope, lot, 3)),
            (subjects::PDVS, subjects::till(&address)),
            (subjects::REGISTRY, subjects::store(&store)),
            (subjects::REGISTRY, subjects::pdv(&address)),
            (subjects::TIMERS, subjects::lease_timer(lot)),
            (subjects::TIMERS, subjects::lease_fired(lot)),
        ] {
            let file = streams.fixed().iter().find(|file| file.name == stream).unwrap();
            assert!(
                file.subjects.iter().any(|filter| crate::memory::matches(filter, &subject)),
                "{stream} does not take {subject}"
            );
        }
        let own = streams.of_store(&store);
        assert_eq!(own.name, subjects::store_stream(&store));
        assert!(
            own.subjects.iter().any(|filter| crate::memory::matches(filter, &subjects::lot_notice(&store)))
        );
    }

    #[test]
    fn events_are_never_deletable() {
        for file in Streams::load(None, None).unwrap().fixed() {
            let may_lose = ["TIMERS", "LOTDATA"].contains(&file.name.as_str());
            assert_eq!(file.schedules || file.purgeable, may_lose, "{}", file.name);
        }
    }

    #[test]
    fn differences_are_named_field_by_field() {
        let file = Streams::load(None, None).unwrap().fixed()[0].clone();
        let Value::Object(config) = file.config() else { panic!("an object") };
        let mut actual: BTreeMap<String, Value> = config.into_iter().collect();
        assert!(file.differences(&actual).is_empty());
        actual.insert("num_replicas".into(), json!(5));
        actual.insert("persist_mode".into(), json!("async"));
        let found = file.differences(&actual).join("\n");
        assert!(found.contains("num_replicas: the file says 1, the broker has 5"), "{found}");
        assert!(found.contains("persist_mode"), "{found}");
    }

    #[test]
    fn an_unknown_field_in_a_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{}\nmax_agee = 3\n", FILES[0].1);
        std::fs::write(folder.path().join("lots.toml"), text).unwrap();
        assert!(matches!(Streams::load(Some(folder.path()), None), Err(StreamsError::Parse { .. })));
    }
}
