//! What can be wrong with a file as a whole, said with the line and the remedy.

use super::input::MAX_LINE_BYTES;
use super::{MAX_RECORD_BYTES, kinds};
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A file that cannot be read as records, and why.
#[derive(Debug)]
pub struct SourceError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: SourceFault,
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)
    }
}

impl Error for SourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it is, and its fields are in the message"
)]
pub enum SourceFault {
    #[error("cannot be opened; check the name and your right to read it")]
    Open(#[source] io::Error),
    #[error("cannot be read to its end; check the disk it is on and try again")]
    Read(#[source] io::Error),
    #[error("is not a plain file; write the records to a file first, it is read twice")]
    NotAFile,
    #[error("is empty; write a header and rows (CSV) or one object per line (NDJSON)")]
    Empty,
    #[error("has a header but no rows; check what wrote it")]
    HeaderOnly,
    #[error("is UTF-16; convert it first: iconv -f utf-16 -t utf-8 FILE > NEW")]
    Utf16,
    #[error(
        "line {line}, byte {byte}: 0x{value:02X} is not UTF-8; if the file is Latin-1, convert it first: \
         iconv -f latin1 -t utf-8 FILE > NEW"
    )]
    NotUtf8 { line: u64, byte: usize, value: u8 },
    #[error("line {line}: longer than {MAX_LINE_BYTES} bytes; check that its lines end in LF or CRLF")]
    LineTooLong { line: u64 },
    #[error("lines end in CR alone; convert them first: tr '\\r' '\\n' < FILE > NEW")]
    CarriageReturns,
    #[error(
        "line {line}: the quote opened here is not closed; close it, or write a quote inside quotes twice"
    )]
    OpenQuote { line: u64 },
    #[error(
        "line {line}, byte {byte}: text after the closing quote of a cell that began on line {opened}; \
         write a quote inside quotes twice"
    )]
    TextAfterQuote { line: u64, byte: usize, opened: u64 },
    #[error(
        "line {line}: expected {expected} columns as in the header, got {found}; put cells that contain {} in \
         quotes",
        shown_delimiter(*delimiter)
    )]
    Ragged { line: u64, expected: usize, found: usize, delimiter: u8 },
    #[error(
        "the header has no {} but has {}; say --delimiter {}",
        shown_delimiter(*given),
        shown_delimiter(*found),
        typed_delimiter(*found)
    )]
    WrongDelimiter { given: u8, found: u8 },
    #[error("the header could be separated by {}; say which with --delimiter", listed_delimiters(found))]
    AmbiguousDelimiter { found: Vec<u8> },
    #[error("{} cannot separate columns; use ';', ',', '|' or a tab", shown_delimiter(*delimiter))]
    BadDelimiter { delimiter: u8 },
    #[error("column {position} has no name; name it in the header, or remove it")]
    UnnamedColumn { position: usize },
    #[error("columns {first} and {second} are both called '{name}'; rename or remove one of them")]
    DuplicateColumn { name: String, first: usize, second: usize },
    #[error(
        "no column '{column}', which {kind} needs{}; the columns are {}",
        did_you_mean(column, columns),
        listed(columns)
    )]
    MissingColumn { column: String, kind: String, columns: Vec<String> },
    #[error(
        "line {line}: no member '{member}', which {kind} needs for its key{}; the members are {}",
        did_you_mean(member, members),
        listed(members)
    )]
    MissingMember { line: u64, member: String, kind: String, members: Vec<String> },
    #[error("what kind of records are these? say so, for instance --kind product")]
    NoKind,
    #[error("there is no schema for '{kind}'{}, so say which column is the key: --key COLUMN",
        did_you_mean(kind, &kinds::known()))]
    NoKey { kind: String },
    #[error(
        "line {line}: the record names no kind, and there are several ({}); add \"kind\" to it",
        listed(kinds)
    )]
    AnyOfKinds { line: u64, kinds: Vec<String> },
    #[error(
        "line {line}, column {column}: not JSON ({reason}); write one whole object per line, as jq -c does"
    )]
    NotJson { line: u64, column: usize, reason: String },
    #[error("line {line}: {found}, not an object; write one whole object per line, as jq -c '.[]' does")]
    NotAnObject { line: u64, found: &'static str },
    #[error(
        "line {line}: the {kind} with key '{key}' takes {bytes} bytes, the limit is {MAX_RECORD_BYTES}; \
         shorten it or send large fields another way"
    )]
    RecordTooLarge { line: u64, kind: String, key: String, bytes: usize },
}

/// Names as a list of quoted words, cut off where nobody would read on.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 30;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| format!("'{name}'")).collect();
    if names.len() > SHOWN {
        text.push(format!("{} more", names.len() - SHOWN));
    }
    text.join(", ")
}

/// A delimiter as one would name it.
pub(super) fn shown_delimiter(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "a tab".to_owned(),
        visible if visible.is_ascii_graphic() => format!("'{}'", char::from(visible)),
        other => format!("byte 0x{other:02X}"),
    }
}

/// A delimiter as one would type it in a shell.
fn typed_delimiter(delimiter: u8) -> String {
    if delimiter == b'\t' { "$'\\t'".to_owned() } else { shown_delimiter(delimiter) }
}

fn listed_delimiters(found: &[u8]) -> String {
    let shown: Vec<String> = found.iter().map(|delimiter| shown_delimiter(*delimiter)).collect();
    shown.join(" or ")
}

fn did_you_mean(wanted: &str, names: &[String]) -> String {
    kinds::nearest(wanted, names).map_or_else(String::new, |name| format!(" (is '{name}' what you mean?)"))
}
