//! What the body of a record of a known kind looks like: one JSON Schema per kind, compiled in.
//!
//! The contract is open. A field no schema knows travels on untouched, and a kind without a schema is taken as
//! it comes; but a known field must have its type. The record's key is not part of the body: each schema names,
//! as `x-malote-key`, the column or member of a flat file that the key is taken from.

/// The schema of one kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSchema {
    /// The kind, as it is written in a record.
    pub kind: &'static str,
    /// Where a flat file carries the record's key, such as `sku`.
    pub key_column: &'static str,
    /// The JSON Schema (draft 2020-12) of the body.
    pub json: &'static str,
}

macro_rules! schema {
    ($kind:literal, $key:literal) => {
        RecordSchema {
            kind: $kind,
            key_column: $key,
            json: include_str!(concat!("../records/", $kind, ".schema.json")),
        }
    };
}

/// Every kind that has a schema.
pub const RECORD_SCHEMAS: &[RecordSchema] = &[
    schema!("product", "sku"),
    schema!("price", "sku"),
    schema!("stock", "sku"),
    schema!("customer", "id"),
    schema!("tender", "code"),
    schema!("operator", "login"),
];

/// The schema of `kind`, when it has one.
pub fn record_schema(kind: &str) -> Option<&'static RecordSchema> {
    RECORD_SCHEMAS.iter().find(|schema| schema.kind == kind)
}

#[cfg(test)]
mod tests;
