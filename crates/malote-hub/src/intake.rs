//! Records as they come in: NDJSON lines parsed, checked against their kind, and told apart from what cannot be taken.
//!
//! Pure of I/O: bytes in, records and refusals out. A bad line never stops the good ones behind it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use malote_domain::{Kind, RecordKey};
use malote_journal::chunk::RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::validate::Schemas;

/// Longest line: the largest record and its envelope.
const LINE_BYTES_MAX: usize = RECORD_BYTES_MAX + 4 * 1024;
/// Most refusals that one answer names; the count is always exact.
pub(crate) const REFUSALS_NAMED_MAX: usize = 1_000;

/// One record, checked.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) key: String,
    /// JSON text; none deletes.
    pub(crate) body: Option<Bytes>,
}

/// A record that is not taken.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its line: the sender's own number when the record carries one, else its place in the request.
    pub(crate) line: u64,
    /// Its kind, when it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// Its key, when it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// For machines.
    pub(crate) code: &'static str,
    /// For people: what is wrong and what to do.
    pub(crate) reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    line: Option<u64>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    op: Op,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Op {
    #[default]
    Upsert,
    Delete,
}

/// What the lines of one request are read with.
pub(crate) struct Rules<'a> {
    pub(crate) schemas: &'a Schemas,
    /// Kinds that the lot declared.
    pub(crate) kinds: &'a BTreeSet<Kind>,
    /// The kind of lines that do not name one.
    pub(crate) default_kind: Option<&'a Kind>,
}

/// Cuts a body into lines as it arrives, holding at most one unfinished line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    unfinished: BytesMut,
    /// The line being read is too long and is being skipped.
    skipping: bool,
    number: u64,
}

/// One line of a body.
#[derive(Debug)]
pub(crate) enum Cut {
    /// A whole line.
    Line(u64, Bytes),
    /// A line longer than any record.
    TooLong(u64),
}

impl Lines {
    /// Takes the next bytes in and gives the lines that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Cut> {
        let mut cuts = Vec::new();
        let Some(end) = memchr_last(bytes) else {
            self.hold(bytes, &mut cuts);
            return cuts;
        };
        let (whole, rest) = bytes.split_at(end + 1);
        let skipped = std::mem::take(&mut self.skipping);
        let mut block = std::mem::take(&mut self.unfinished);
        block.extend_from_slice(whole);
        let block = block.freeze();
        let mut start = 0;
        for (index, stop) in newlines(&block).enumerate() {
            let line = block.slice(start..stop);
            start = stop + 1;
            if index == 0 && skipped {
                // The end of a line that was refused when it grew too long.
                continue;
            }
            self.number += 1;
            if line.len() > LINE_BYTES_MAX {
                cuts.push(Cut::TooLong(self.number));
            } else if !line.iter().all(u8::is_ascii_whitespace) {
                cuts.push(Cut::Line(self.number, line));
            }
        }
        self.hold(rest, &mut cuts);
        cuts
    }

    /// The last line, when the body does not end with a line feed.
    pub(crate) fn finish(&mut self) -> Option<Cut> {
        if self.skipping || self.unfinished.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        self.number += 1;
        Some(Cut::Line(self.number, std::mem::take(&mut self.unfinished).freeze()))
    }

    fn hold(&mut self, bytes: &[u8], cuts: &mut Vec<Cut>) {
        if self.skipping {
            return;
        }
        self.unfinished.extend_from_slice(bytes);
        if self.unfinished.len() > LINE_BYTES_MAX {
            self.unfinished.clear();
            self.skipping = true;
            self.number += 1;
            cuts.push(Cut::TooLong(self.number));
        }
    }
}

fn memchr_last(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|byte| *byte == b'\n')
}

fn newlines(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index)
}

impl Rules<'_> {
    /// Reads one line.
    pub(crate) fn read(&self, cut: &Cut) -> Result<Record, Refusal> {
        match cut {
            Cut::Line(number, bytes) => self.parse(*number, bytes),
            Cut::TooLong(number) => Err(too_large(*number, None, None)),
        }
    }

    fn parse(&self, number: u64, bytes: &Bytes) -> Result<Record, Refusal> {
        let refuse = |line, code, reason: String| Refusal { line, kind: None, key: None, code, reason };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| refuse(number, "record.not_utf8", format!("{error}; send UTF-8")))?;
        let line: Line<'_> = serde_json::from_str(text).map_err(|error| {
            refuse(
                own_number(text).unwrap_or(number),
                "record.not_json",
                format!("{error}; send one JSON object a line: {{\"kind\":…,\"key\":…,\"body\":{{…}}}}"),
            )
        })?;
        let number = line.line.unwrap_or(number);
        let refuse = |kind: Option<&str>, code, reason: String| Refusal {
            line: number,
            kind: kind.map(|kind| kind.chars().take(64).collect()),
            key: Some(line.key.chars().take(80).collect()),
            code,
            reason,
        };
        let named = line.kind.as_deref();
        let kind = match (named, self.default_kind) {
            (Some(named), _) => self.kinds.iter().find(|kind| kind.as_str() == named).ok_or_else(|| {
                let declared: Vec<_> = self.kinds.iter().map(Kind::as_str).collect();
                let reason = format!("the lot declared {}; open it with this kind too", declared.join(", "));
                refuse(Some(named), "record.kind_not_declared", reason)
            })?,
            (None, Some(default)) => default,
            (None, None) => {
                return Err(refuse(
                    None,
                    "record.kind_missing",
                    "name the record's kind, or give ?kind=".into(),
                ));
            }
        };
        if !RecordKey::is_valid(&line.key) {
            let reason = "a key is 1 to 256 bytes of text without control characters".into();
            return Err(refuse(Some(kind.as_str()), "record.key", reason));
        }
        let body = match (line.op, line.body) {
            (Op::Delete, _) => None,
            (Op::Upsert, Some(body)) => Some(body.get()),
            (Op::Upsert, None) => {
                let reason = "give a body, or \"op\":\"delete\"".into();
                return Err(refuse(Some(kind.as_str()), "record.body_missing", reason));
            }
        };
        if line.key.len() + body.map_or(0, str::len) > RECORD_BYTES_MAX {
            return Err(too_large(number, Some(kind.as_str()), Some(&line.key)));
        }
        if let Some(body) = body
            && let Some(reason) = self.schemas.refusal(kind.as_str(), body)
        {
            return Err(refuse(Some(kind.as_str()), "record.schema", reason));
        }
        Ok(Record {
            kind: kind.clone(),
            key: line.key.as_ref().to_owned(),
            body: body.map(|body| bytes.slice_ref(body.as_bytes())),
        })
    }
}

/// The line number that a record carries, when at least that can be read.
fn own_number(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        line: Option<u64>,
    }
    serde_json::from_str::<Numbered>(text).ok()?.line
}

fn too_large(line: u64, kind: Option<&str>, key: Option<&str>) -> Refusal {
    Refusal {
        line,
        kind: kind.map(ToOwned::to_owned),
        key: key.map(|key| key.chars().take(80).collect()),
        code: "record.too_large",
        reason: format!(
            "a record has at most {RECORD_BYTES_MAX} bytes; send large parts, such as images, by another way"
        ),
    }
}

#[cfg(test)]
mod tests;
