use super::{RECORD_SCHEMAS, RecordSchema, record_schema};
use jsonschema::Validator;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn records_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("records")
}

fn examples(kind: &str, sort: &str) -> Vec<Value> {
    let path = records_folder().join("examples").join(format!("{kind}.{sort}.ndjson"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(!lines.is_empty(), "{} holds no example", path.display());
    lines
}

fn parsed(schema: &RecordSchema) -> Value {
    serde_json::from_str(schema.json).unwrap_or_else(|e| panic!("{}: {e}", schema.kind))
}

fn validator(schema: &RecordSchema) -> Validator {
    jsonschema::draft202012::new(&parsed(schema)).unwrap_or_else(|e| panic!("{}: {e}", schema.kind))
}

#[test]
fn each_schema_is_a_valid_schema_and_is_titled_and_keyed_as_the_code_says() {
    for schema in RECORD_SCHEMAS {
        let json = parsed(schema);
        jsonschema::draft202012::meta::validate(&json).unwrap_or_else(|e| panic!("{}: {e}", schema.kind));
        assert_eq!(json["title"], schema.kind);
        assert_eq!(json["x-malote-key"], schema.key_column, "{}", schema.kind);
        assert_eq!(json["$id"], format!("urn:malote:record:{}:1", schema.kind));
        assert_eq!(json["additionalProperties"], true, "{}: the contract is open", schema.kind);
    }
}

#[test]
fn every_schema_file_is_compiled_in() {
    let mut files: Vec<String> = std::fs::read_dir(records_folder())
        .expect("the folder of schemas")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".schema.json")?.to_owned()))
        .collect();
    files.sort();
    let mut kinds: Vec<&str> = RECORD_SCHEMAS.iter().map(|schema| schema.kind).collect();
    kinds.sort_unstable();
    assert_eq!(files, kinds);
    assert!(kinds.iter().all(|kind| record_schema(kind).is_some_and(|schema| schema.kind == *kind)));
    assert_eq!(record_schema("prices"), None);
}

#[test]
fn properties_have_one_plain_type_a_bound_and_are_not_the_key() {
    for schema in RECORD_SCHEMAS {
        let json = parsed(schema);
        let properties = json["properties"].as_object().expect("properties");
        assert!(!properties.contains_key(schema.key_column), "{}: the key is outside the body", schema.kind);
        for required in json["required"].as_array().expect("required") {
            assert!(
                properties.contains_key(required.as_str().expect("a name")),
                "{}: {required}",
                schema.kind
            );
        }
        for (name, property) in properties {
            let bounds: &[&str] = match property["type"].as_str() {
                Some("string") => &["maxLength", "enum", "pattern"],
                Some("integer") => &["maximum"],
                Some("boolean") => &["type"],
                other => panic!("{}.{name} has type {other:?}, which a flat file cannot carry", schema.kind),
            };
            assert!(
                bounds.iter().any(|bound| property.get(bound).is_some()),
                "{}.{name} has no bound",
                schema.kind
            );
            let counted = ["_cents", "_thousandths", "_permille"].iter().any(|unit| name.ends_with(unit));
            assert!(!counted || property["type"] == "integer", "{}.{name}", schema.kind);
        }
    }
}

#[test]
fn good_examples_pass() {
    for schema in RECORD_SCHEMAS {
        let validator = validator(schema);
        for example in examples(schema.kind, "good") {
            let found: Vec<String> = validator.iter_errors(&example["body"]).map(|e| e.to_string()).collect();
            assert!(found.is_empty(), "{} {example}: {found:?}", schema.kind);
        }
    }
}

#[test]
fn bad_examples_are_refused_for_the_reason_they_name() {
    for schema in RECORD_SCHEMAS {
        let validator = validator(schema);
        for example in examples(schema.kind, "bad") {
            let reason = example["reason"].as_str().expect("a bad example names its reason");
            let found: Vec<String> = validator
                .iter_errors(&example["body"])
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect();
            assert!(
                found.iter().any(|message| message.starts_with(reason)),
                "{} {example}: {found:?}",
                schema.kind
            );
        }
    }
}
