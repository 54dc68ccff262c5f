//! Lines of an NDJSON file as records: envelopes pass as they are, plain objects are put into one.

use super::input::Input;
use super::json::{write_display, write_string};
use super::kinds::{Kind, field_for};
use super::{MAX_RECORD_BYTES, Op, SourceFault, SourceOptions};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

#[derive(Debug)]
pub(super) struct NdjsonRecords {
    input: Input,
    options: SourceOptions,
    // Found at the first plain object: envelopes bring their own kind and key, and a file of nothing else may
    // hold kinds that have no schema and no key column.
    kinds: Vec<Kind>,
}

impl NdjsonRecords {
    pub fn new(input: Input, options: SourceOptions) -> Self {
        Self { input, options, kinds: Vec::new() }
    }

    pub fn input(&self) -> &Input {
        &self.input
    }

    /// Appends the records of the next object and says how many they are: none at the end of the file.
    pub fn next_object(&mut self, out: &mut Vec<u8>) -> Result<u64, SourceFault> {
        if !self.input.skip_blank_lines()? {
            return Ok(0);
        }
        let line = self.input.line() + 1;
        let Some(text) = self.input.next_line()? else { return Ok(0) };
        let object = Object::parse(text.trim_end_matches(['\r', '\n']), line)?;
        let deletes = match object.get("op") {
            Some(op) => op == "\"delete\"",
            None => self.options.op == Op::Delete,
        };
        let mut writer = Writer { out, line, object: &object, deletes };
        if object.is_envelope() {
            writer.envelope(&self.options.kinds)?;
            return Ok(1);
        }
        if self.kinds.is_empty() {
            self.kinds = Kind::resolve(&self.options)?;
        }
        let mut written = 0;
        for at in 0..self.kinds.len() {
            writer.plain(&self.kinds, at)?;
            written += 1;
        }
        Ok(written)
    }
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    line: u64,
    object: &'a Object<'a>,
    deletes: bool,
}

impl Writer<'_> {
    fn envelope(&mut self, kinds: &[String]) -> Result<(), SourceFault> {
        self.begin();
        if self.object.get("kind").is_none() {
            let kind = match kinds {
                [] => return Err(SourceFault::NoKind),
                [kind] => kind,
                several => {
                    return Err(SourceFault::AnyOfKinds { line: self.line, kinds: several.to_vec() });
                }
            };
            self.member("kind");
            write_string(self.out, kind);
        }
        for (name, value) in &self.object.0 {
            // The line is the file's own, whatever wrote the envelope before; a deletion carries no body.
            if name == "line" || (name == "body" && self.deletes) {
                continue;
            }
            if name == "body" {
                let kind = self.object.get("kind").or(kinds.first().map(String::as_str)).unwrap_or_default();
                self.check_size(value.get().len(), kind, self.object.get("key").unwrap_or_default())?;
            }
            self.member(name);
            self.out.extend_from_slice(value.get().as_bytes());
        }
        if self.deletes && self.object.get("op").is_none() {
            self.out.extend_from_slice(b",\"op\":\"delete\"");
        }
        self.out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn plain(&mut self, kinds: &[Kind], at: usize) -> Result<(), SourceFault> {
        let kind = &kinds[at];
        let Some(key) = self.object.get(&kind.key_column) else {
            return Err(SourceFault::MissingMember {
                line: self.line,
                member: kind.key_column.clone(),
                kind: kind.name.clone(),
                members: self.object.0.iter().map(|(name, _)| name.to_string()).collect(),
            });
        };
        self.begin();
        self.member("kind");
        write_string(self.out, &kind.name);
        self.member("key");
        if key.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
            // Keys are text, and many systems number their products.
            write_string(self.out, key);
        } else {
            self.out.extend_from_slice(key.as_bytes());
        }
        if self.deletes {
            self.out.extend_from_slice(b",\"op\":\"delete\"}\n");
            return Ok(());
        }
        if let Some(op) = self.object.get("op").filter(|op| *op != "\"upsert\"") {
            // Not an operation there is; the hub will say so of this one record.
            self.member("op");
            self.out.extend_from_slice(op.as_bytes());
        }
        self.member("body");
        let from = self.out.len();
        self.out.push(b'{');
        for (name, value) in &self.object.0 {
            if name == "op" || field_for(kinds, at, name).is_none() {
                continue;
            }
            if self.out.len() > from + 1 {
                self.out.push(b',');
            }
            write_string(self.out, name);
            self.out.push(b':');
            self.out.extend_from_slice(value.get().as_bytes());
        }
        self.out.push(b'}');
        self.check_size(self.out.len() - from, &kind.name, key)?;
        self.out.extend_from_slice(b"}\n");
        Ok(())
    }

    fn begin(&mut self) {
        self.out.extend_from_slice(b"{\"line\":");
        write_display(self.out, self.line);
    }

    fn member(&mut self, name: &str) {
        self.out.push(b',');
        write_string(self.out, name);
        self.out.push(b':');
    }

    fn check_size(&self, body_bytes: usize, kind: &str, key: &str) -> Result<(), SourceFault> {
        let (kind, key) = (kind.trim_matches('"'), key.trim_matches('"'));
        let bytes = key.len() + body_bytes;
        if bytes <= MAX_RECORD_BYTES {
            return Ok(());
        }
        let key = key.chars().take(80).collect();
        Err(SourceFault::RecordTooLarge { line: self.line, kind: kind.to_owned(), key, bytes })
    }
}

/// An object whose members are known by name, in order, and whose values are left as they were written.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    fn parse(text: &'a str, line: u64) -> Result<Self, SourceFault> {
        let not_json = |error: &serde_json::Error| {
            let full = error.to_string();
            let reason = full.split(" at line ").next().unwrap_or_default().to_owned();
            SourceFault::NotJson { line, column: error.column(), reason }
        };
        let found = match text.trim_start().as_bytes().first() {
            Some(b'{') => return serde_json::from_str(text).map_err(|error| not_json(&error)),
            Some(b'[') => "an array",
            Some(b'"') => "a string",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            Some(_) | None => "a number",
        };
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| not_json(&error))?;
        Err(SourceFault::NotAnObject { line, found })
    }

    /// The JSON text of a member.
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| value.get())
    }

    /// Whether this is a record already, rather than something to make one of.
    fn is_envelope(&self) -> bool {
        let has = |name| self.get(name).is_some();
        has("key") && (has("body") || self.get("op") == Some("\"delete\""))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Object(members))
    }
}

/// A member's name, borrowed from the line unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
