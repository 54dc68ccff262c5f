mod csv_files;
mod faults;
mod ndjson_files;
mod properties;

use super::{Op, Source, SourceError, SourceOptions};
use std::path::PathBuf;
use tempfile::TempDir;

/// A file in a folder of its own, which goes away with it.
struct Sample {
    _folder: TempDir,
    path: PathBuf,
}

fn sample(name: &str, content: impl AsRef<[u8]>) -> Sample {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("a file");
    Sample { _folder: folder, path }
}

fn kinds(kinds: &[&str]) -> SourceOptions {
    SourceOptions { kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(), ..SourceOptions::default() }
}

fn keyed(kind: &str, key: &str) -> SourceOptions {
    SourceOptions { key: Some(key.to_owned()), ..kinds(&[kind]) }
}

/// All lines of a file, read in the smallest blocks there are, after the check that must agree with them.
fn read(sample: &Sample, options: SourceOptions) -> Result<Vec<String>, SourceError> {
    let mut source = Source::open(&sample.path, options)?;
    let totals = source.check()?;
    let mut lines = Vec::new();
    let mut reached = (0, 0);
    while let Some(block) = source.next_block(1)? {
        let text = String::from_utf8(block.bytes).expect("UTF-8");
        assert!(text.ends_with('\n'), "whole lines only: {text:?}");
        lines.extend(text.lines().map(str::to_owned));
        assert_eq!(block.records, u64::try_from(lines.len()).expect("a count"));
        assert!(block.bytes_read <= block.bytes_total);
        reached = (block.records, block.lines);
    }
    assert!(totals.records == reached.0 && totals.lines >= reached.1, "{totals:?} {reached:?}");
    for line in &lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    Ok(lines)
}

#[track_caller]
fn lines(name: &str, content: impl AsRef<[u8]>, options: SourceOptions) -> Vec<String> {
    read(&sample(name, content), options).unwrap_or_else(|error| panic!("{error}"))
}

/// What is said about a file that must not be taken, without the folder it is in.
#[track_caller]
fn refusal(name: &str, content: impl AsRef<[u8]>, options: SourceOptions) -> String {
    let sample = sample(name, content);
    let message = read(&sample, options).expect_err("this file must be refused").to_string();
    let folder = format!("{}/", sample.path.parent().expect("a folder").display());
    message.strip_prefix(&folder).expect("the message begins with the file").to_owned()
}

fn deleting(options: SourceOptions) -> SourceOptions {
    SourceOptions { op: Op::Delete, ..options }
}

fn separated(delimiter: u8, options: SourceOptions) -> SourceOptions {
    SourceOptions { delimiter: Some(delimiter), ..options }
}
