//! Splits CSV (RFC 4180) into rows.
//!
//! Written here rather than taken from the `csv` crate, which is this module's oracle in the tests: that crate
//! takes a quote left open as the rest of the file, takes text after a closing quote, and counts a row after
//! CRLF or a blank line from the line before it, and here each of these must be refused or named by its line.

use super::SourceFault;
use super::input::{Input, MAX_LINE_BYTES};
use memchr::memchr;

/// One row at a time: its cells, unquoted, in one string that is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Row {
    text: String,
    ends: Vec<usize>,
    // The line on which the quote that is open now was opened.
    open_since: Option<u64>,
}

impl Row {
    /// Reads the next row and says on which line it begins; `None` at the end of the file.
    pub fn read(&mut self, input: &mut Input, delimiter: u8) -> Result<Option<u64>, SourceFault> {
        self.text.clear();
        self.ends.clear();
        self.open_since = None;
        if !input.skip_blank_lines()? {
            return Ok(None);
        }
        let first = input.line() + 1;
        let mut number = first;
        while let Some(line) = input.next_line()? {
            if self.take_line(line, number, delimiter)? {
                return Ok(Some(first));
            }
            number += 1;
        }
        Err(SourceFault::OpenQuote { line: self.open_since.unwrap_or(first) })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The cell at `column`, or nothing when the row is shorter.
    pub fn cell(&self, column: usize) -> &str {
        let from = column.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        let cell = from.zip(self.ends.get(column)).and_then(|(from, to)| self.text.get(from..*to));
        cell.unwrap_or_default()
    }

    /// Takes one line of the file and says whether the row is complete.
    fn take_line(&mut self, line: &str, number: u64, delimiter: u8) -> Result<bool, SourceFault> {
        let unended = line.strip_suffix('\n').unwrap_or(line);
        let content = unended.strip_suffix('\r').unwrap_or(unended);
        let mut at = 0;
        loop {
            if let Some(opened) = self.open_since {
                // Inside quotes a line end is text like any other.
                let rest = &line[at..];
                let Some(quote) = memchr(b'"', rest.as_bytes()) else {
                    self.text.push_str(rest);
                    if self.text.len() > MAX_LINE_BYTES {
                        return Err(SourceFault::OpenQuote { line: opened });
                    }
                    return Ok(false);
                };
                self.text.push_str(&rest[..quote]);
                at += quote + 1;
                match content.as_bytes().get(at) {
                    Some(b'"') => {
                        self.text.push('"');
                        at += 1;
                        continue;
                    }
                    None => self.open_since = None,
                    Some(byte) if *byte == delimiter => self.open_since = None,
                    Some(_) => {
                        return Err(SourceFault::TextAfterQuote { line: number, byte: at + 1, opened });
                    }
                }
            } else if content.as_bytes().get(at) == Some(&b'"') {
                self.open_since = Some(number);
                at += 1;
                continue;
            } else {
                let rest = &content[at..];
                let length = memchr(delimiter, rest.as_bytes()).unwrap_or(rest.len());
                self.text.push_str(&rest[..length]);
                at += length;
            }
            self.ends.push(self.text.len());
            if at == content.len() {
                return Ok(true);
            }
            at += 1;
        }
    }
}
