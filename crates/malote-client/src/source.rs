//! Reads the records of a lot from a flat file, CSV or NDJSON, and writes them as the lines the hub takes.
//!
//! A [`Source`] never holds more than a block of the file. What makes the file as a whole unreadable (a missing
//! column, a quote left open, bytes that are not UTF-8) is a [`SourceError`] with the line and the remedy, and
//! [`Source::check`] finds all of it before a lot is opened. What is wrong with a single record is not judged
//! here: its line goes to the hub as it is, which refuses it by line number and key, so there is one judge.

mod csv_records;
mod error;
mod input;
mod json;
mod kinds;
mod ndjson_records;
mod rows;

#[cfg(test)]
mod tests;

pub use error::{SourceError, SourceFault};

use csv_records::CsvRecords;
use input::Input;
use kinds::Kind;
use ndjson_records::NdjsonRecords;
use std::fmt;
use std::path::{Path, PathBuf};

/// The most one record's key and body, as JSON, may take together; the hub's own limit.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;

/// What to do with a record that does not say it itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Op {
    /// Store the record, whether it was known or not.
    #[default]
    Upsert,
    /// Forget the record.
    Delete,
}

/// How a file is to be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceOptions {
    /// The kinds of record each row or object holds, such as `product` and `price`.
    pub kinds: Vec<String>,
    /// The column that carries the key; the kind's schema names one when this is absent.
    pub key: Option<String>,
    /// What separates the columns of a CSV file; found from the header when absent.
    pub delimiter: Option<u8>,
    /// What to do with the records of rows that have no `op` of their own.
    pub op: Op,
}

/// Whole lines of NDJSON, ready to be sent, and how far the file has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Whole lines, each with its line end.
    pub bytes: Vec<u8>,
    /// Records read from the file so far, this block's included.
    pub records: u64,
    /// Lines read from the file so far.
    pub lines: u64,
    /// Bytes read from the file so far.
    pub bytes_read: u64,
    /// Size of the file when it was opened.
    pub bytes_total: u64,
}

/// What a whole file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Records in the file.
    pub records: u64,
    /// Lines in the file.
    pub lines: u64,
}

/// Something the person who sends the file should know, though nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Columns that no schema knows and that travel as text in the bodies of `kind`.
    UnknownColumns {
        /// The kind that takes them.
        kind: String,
        /// Their names.
        columns: Vec<String>,
    },
    /// The delimiter that was found, when it is not a comma.
    Delimiter(u8),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownColumns { kind, columns } => {
                write!(f, "no schema knows {}: sent as text with each {kind}", error::listed(columns))
            }
            Self::Delimiter(delimiter) => {
                write!(f, "columns are separated by {}", error::shown_delimiter(*delimiter))
            }
        }
    }
}

/// A file being read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    options: SourceOptions,
    records: u64,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Csv(CsvRecords),
    Ndjson(NdjsonRecords),
}

impl Source {
    /// Opens the file and reads as much of it as tells its format, delimiter and columns.
    pub fn open(path: impl AsRef<Path>, options: SourceOptions) -> Result<Self, SourceError> {
        let path = path.as_ref().to_path_buf();
        match Reader::open(&path, &options) {
            Ok(reader) => Ok(Self { path, options, records: 0, reader }),
            Err(fault) => Err(SourceError { path, fault }),
        }
    }

    /// Reads the whole file once, from its beginning and apart from this reader, and says what it holds.
    ///
    /// It does all that [`next_block`](Self::next_block) does except keep the lines, so a file that passes here
    /// can fail there only when somebody changes it in between.
    pub fn check(&self) -> Result<Totals, SourceError> {
        let mut source = Self::open(&self.path, self.options.clone())?;
        let mut lines = Vec::new();
        while source.fill(&mut lines)? {
            lines.clear();
        }
        Ok(Totals { records: source.records, lines: source.reader.input().line() })
    }

    /// The next whole lines: at least `target_bytes` of them unless the file ends first, and `None` at its end.
    pub fn next_block(&mut self, target_bytes: usize) -> Result<Option<Block>, SourceError> {
        let mut bytes = Vec::new();
        while self.fill(&mut bytes)? && bytes.len() < target_bytes {}
        if bytes.is_empty() {
            return Ok(None);
        }
        let input = self.reader.input();
        Ok(Some(Block {
            bytes,
            records: self.records,
            lines: input.line(),
            bytes_read: input.bytes_read(),
            bytes_total: input.bytes_total(),
        }))
    }

    /// What is worth telling about the file.
    pub fn notes(&self) -> &[Note] {
        match &self.reader {
            Reader::Csv(csv) => csv.notes(),
            Reader::Ndjson(_) => &[],
        }
    }

    fn fill(&mut self, out: &mut Vec<u8>) -> Result<bool, SourceError> {
        let read = match &mut self.reader {
            Reader::Csv(csv) => csv.next_row(out),
            Reader::Ndjson(ndjson) => ndjson.next_object(out),
        };
        let added = read.map_err(|fault| SourceError { path: self.path.clone(), fault })?;
        self.records += added;
        Ok(added > 0)
    }
}

impl Reader {
    fn open(path: &Path, options: &SourceOptions) -> Result<Self, SourceFault> {
        let mut input = Input::open(path)?;
        if is_ndjson(path, &mut input)? {
            return Ok(Self::Ndjson(NdjsonRecords::new(input, options.clone())));
        }
        Ok(Self::Csv(CsvRecords::open(input, Kind::resolve(options)?, options)?))
    }

    fn input(&self) -> &Input {
        match self {
            Self::Csv(csv) => csv.input(),
            Self::Ndjson(ndjson) => ndjson.input(),
        }
    }
}

fn is_ndjson(path: &Path, input: &mut Input) -> Result<bool, SourceFault> {
    let named = path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
        ["ndjson", "jsonl", "json"].iter().any(|e| extension.eq_ignore_ascii_case(e))
    });
    Ok(named || input.peek_line()?.is_some_and(|line| line.trim_start().starts_with(['{', '['])))
}
