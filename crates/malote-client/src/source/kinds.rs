//! The kinds of record a file holds: where each keeps its key, and which columns it takes as what.

use super::{SourceFault, SourceOptions};
use malote_proto::records::{RECORD_SCHEMAS, RecordSchema, record_schema};
use serde_json::Value;
use std::collections::HashMap;

/// How a cell of text becomes a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Integer,
    Number,
    Boolean,
}

/// One field that a kind's schema knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub shape: Shape,
    pub required: bool,
}

#[derive(Debug)]
pub(super) struct Kind {
    pub name: String,
    pub key_column: String,
    // `None` for a kind without a schema, which takes every column as text.
    fields: Option<HashMap<String, Field>>,
}

impl Kind {
    pub fn resolve(options: &SourceOptions) -> Result<Vec<Self>, SourceFault> {
        if options.kinds.is_empty() {
            return Err(SourceFault::NoKind);
        }
        options.kinds.iter().map(|name| Self::new(name, options.key.as_deref())).collect()
    }

    fn new(name: &str, key: Option<&str>) -> Result<Self, SourceFault> {
        let schema = record_schema(name);
        let Some(key_column) = key.or(schema.map(|schema| schema.key_column)) else {
            return Err(SourceFault::NoKey { kind: name.to_owned() });
        };
        Ok(Self {
            name: name.to_owned(),
            key_column: key_column.to_owned(),
            fields: schema.map(known_fields),
        })
    }

    /// The fields without which the hub refuses a body.
    pub fn required(&self) -> impl Iterator<Item = &str> {
        let fields = self.fields.iter().flatten();
        fields.filter(|(_, field)| field.required).map(|(name, _)| name.as_str())
    }

    fn field(&self, column: &str) -> Option<Field> {
        match &self.fields {
            Some(fields) => fields.get(column).copied(),
            None => Some(Field { shape: Shape::Text, required: false }),
        }
    }
}

/// What the kind at `at` makes of a column, or `None` when the column is not for it.
///
/// A column goes to the kinds that know it. One that nobody knows goes to the first kind as text, so nothing
/// is lost on the way.
pub(super) fn field_for(kinds: &[Kind], at: usize, column: &str) -> Option<Field> {
    let kind = kinds.get(at)?;
    if column == kind.key_column {
        return None;
    }
    if let Some(field) = kind.field(column) {
        return Some(field);
    }
    (at == 0 && is_unknown(kinds, column)).then_some(Field { shape: Shape::Text, required: false })
}

/// Whether no kind has a use of its own for a column.
pub(super) fn is_unknown(kinds: &[Kind], column: &str) -> bool {
    kinds.iter().all(|kind| column != kind.key_column && kind.field(column).is_none())
}

/// The kinds that have a schema.
pub(super) fn known() -> Vec<String> {
    RECORD_SCHEMAS.iter().map(|schema| schema.kind.to_owned()).collect()
}

fn known_fields(schema: &RecordSchema) -> HashMap<String, Field> {
    // The schemas are compiled in, and a test of the contract holds each to be JSON.
    let json: Value = serde_json::from_str(schema.json).unwrap_or_default();
    let required =
        |name: &str| json["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let properties = json["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, property)| {
            let shape = match property["type"].as_str() {
                Some("integer") => Shape::Integer,
                Some("number") => Shape::Number,
                Some("boolean") => Shape::Boolean,
                Some(_) | None => Shape::Text,
            };
            (name.clone(), Field { shape, required: required(name) })
        })
        .collect()
}

/// The name that `wanted` was most likely written as, if one is near.
pub(super) fn nearest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let tolerated = wanted.chars().count().div_ceil(3);
    let near = names.iter().map(|name| (edits(&wanted, &name.to_lowercase()), name));
    near.filter(|(edits, _)| *edits <= tolerated)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name.as_str())
}

/// How many letters must be added, removed or changed to make one word the other (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, candidate) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *candidate);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
