//! Whether a record fits its kind: known kinds have a JSON Schema, unknown kinds only have to be JSON objects.

use std::collections::BTreeMap;

use jsonschema::Validator;
use malote_proto::records::RECORD_SCHEMAS;
use serde_json::Value;

/// The compiled schemas of the known kinds.
#[derive(Debug)]
pub(crate) struct Schemas(BTreeMap<&'static str, Validator>);

/// Why the schemas compiled into the hub cannot be used: a mistake of ours.
#[derive(Debug, thiserror::Error)]
#[error("the record schema of kind {kind} does not compile: {reason}")]
pub struct SchemaError {
    kind: &'static str,
    reason: String,
}

impl Schemas {
    /// Compiles them.
    pub(crate) fn compile() -> Result<Self, SchemaError> {
        let mut schemas = BTreeMap::new();
        for schema in RECORD_SCHEMAS {
            let failed = |reason: String| SchemaError { kind: schema.kind, reason };
            let json: Value = serde_json::from_str(schema.json).map_err(|error| failed(error.to_string()))?;
            let validator = jsonschema::validator_for(&json).map_err(|error| failed(error.to_string()))?;
            schemas.insert(schema.kind, validator);
        }
        Ok(Self(schemas))
    }

    /// Why a body does not fit its kind, for people; `None` when it does.
    pub(crate) fn refusal(&self, kind: &str, body: &str) -> Option<String> {
        let value: Value = match serde_json::from_str(body) {
            Ok(value) => value,
            Err(error) => return Some(format!("the body is not JSON: {error}")),
        };
        if !value.is_object() {
            return Some("the body is not a JSON object".into());
        }
        let validator = self.0.get(kind)?;
        if validator.is_valid(&value) {
            return None;
        }
        let reasons: Vec<String> = validator
            .iter_errors(&value)
            .take(3)
            .map(|error| {
                let field = error.instance_path().to_string();
                // Masked: a refusal is printed and logged, and the value may be a person's.
                let text: String = error.masked().to_string().chars().take(200).collect();
                if field.is_empty() { text } else { format!("{}: {text}", field.trim_start_matches('/')) }
            })
            .collect();
        Some(reasons.join("; "))
    }
}
