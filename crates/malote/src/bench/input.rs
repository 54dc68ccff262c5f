//! The records that are sent: a file of the user's, or the made-up catalogue, once or ten times over.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use malote_client::source::{Source, SourceError, SourceOptions};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::floor::Row;
use crate::catalogue::{self, WriteCatalogueError};

/// As many as the real catalogue that the targets were set with.
const GENERATED: usize = 92_331;
const FILE: &str = "products.csv";
const BLOCK_BYTES: usize = 1024 * 1024;

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    /// The file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The made-up catalogue.
    #[error(transparent)]
    Catalogue(#[from] WriteCatalogueError),
    /// Lines that cannot be read back.
    #[error("{path} became lines that are no records; report it", path = path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The file cannot be made larger.
    #[error("{path} cannot be written ten times over: its first column must be sku, and the disk have room", path = path.display())]
    Tenfold {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A file and what of it is sent.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) path: PathBuf,
    pub(super) kinds: Vec<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    kind: &'a str,
    key: String,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl Input {
    /// The catalogue in `data`, or the made-up one written to `work`.
    pub(super) fn find(data: Option<&Path>, work: &Path, kinds: &[String]) -> Result<Self, InputError> {
        let path = match data {
            Some(data) => data.join(FILE),
            None => {
                let path = work.join(FILE);
                catalogue::write_csv(&path, GENERATED)?;
                path
            }
        };
        Ok(Self { path, kinds: kinds.to_vec() })
    }

    /// The same products ten times, under keys of their own, written to `work`.
    pub(super) fn tenfold(&self, work: &Path) -> Result<Self, InputError> {
        let path = work.join("tenfold.csv");
        let failed = |source| InputError::Tenfold { path: self.path.clone(), source };
        write_tenfold(&self.path, &path).map_err(failed)?;
        Ok(Self { path, kinds: self.kinds.clone() })
    }

    /// Opens the file to be sent.
    pub(super) fn open(&self) -> Result<Source, InputError> {
        Ok(Source::open(&self.path, SourceOptions { kinds: self.kinds.clone(), ..SourceOptions::default() })?)
    }

    /// The next lines to send.
    pub(super) fn next(source: &mut Source) -> Result<Option<Vec<u8>>, InputError> {
        Ok(source.next_block(BLOCK_BYTES)?.map(|block| block.bytes))
    }

    /// All records, as they would be sent, kind by kind.
    pub(super) fn rows(&self) -> Result<Vec<Vec<Row>>, InputError> {
        let mut rows: Vec<Vec<Row>> = self.kinds.iter().map(|_| Vec::new()).collect();
        self.each_line(|Line { kind, key, body }| {
            let at = self.kinds.iter().position(|known| known == kind).unwrap_or(0);
            rows[at].push(Row { key, body: body.map(|body| body.get().to_owned()) });
        })?;
        Ok(rows)
    }

    /// Kind and key of the record sent last.
    pub(super) fn last_record(&self) -> Result<(String, String), InputError> {
        let mut last = (String::new(), String::new());
        self.each_line(|Line { kind, key, .. }| last = (kind.to_owned(), key))?;
        Ok(last)
    }

    fn each_line(&self, mut take: impl FnMut(Line<'_>)) -> Result<(), InputError> {
        let failed = |source| InputError::Line { path: self.path.clone(), source };
        let mut source = self.open()?;
        while let Some(block) = Self::next(&mut source)? {
            for line in block.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                take(serde_json::from_slice(line).map_err(failed)?);
            }
        }
        Ok(())
    }
}

fn write_tenfold(from: &Path, to: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(to)?);
    for round in 0..10 {
        let mut lines = BufReader::new(File::open(from)?).lines();
        let header = lines.next().transpose()?.unwrap_or_default();
        if !header.starts_with("sku,") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if round == 0 {
            writeln!(out, "{header}")?;
        }
        for line in lines {
            writeln!(out, "{round}{}", line?)?;
        }
    }
    out.into_inner()?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ten_times_over_every_key_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        catalogue::write_csv(&path, 30).unwrap();
        let kinds = ["product".to_owned(), "price".to_owned()];
        let input = Input::find(Some(dir.path()), dir.path(), &kinds).unwrap();
        assert_eq!(input.rows().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [30, 30]);
        let rows = input.tenfold(dir.path()).unwrap().rows().unwrap();
        for rows in rows {
            let keys: BTreeSet<_> = rows.iter().map(|row| &row.key).collect();
            assert_eq!((rows.len(), keys.len()), (300, 300));
        }
    }
}
