//! A file as a run of UTF-8 lines, read through one buffer of bounded size.

use super::SourceFault;
use memchr::memchr;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// No line may be longer; without a limit, a file without line ends would be read into memory whole.
pub(super) const MAX_LINE_BYTES: usize = 1024 * 1024;

const BUFFER_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Input {
    file: File,
    buffer: Vec<u8>,
    // The part of the buffer that was read from the file and not yet handed out.
    start: usize,
    end: usize,
    file_ended: bool,
    line: u64,
    bytes_read: u64,
    bytes_total: u64,
}

impl Input {
    /// Opens a file, refuses UTF-16, and passes over a byte order mark and blank lines at the beginning.
    pub fn open(path: &Path) -> Result<Self, SourceFault> {
        // Asked before the file is opened: opening a pipe waits for somebody to write to it.
        let metadata = std::fs::metadata(path).map_err(SourceFault::Open)?;
        if !metadata.is_file() {
            return Err(SourceFault::NotAFile);
        }
        let file = File::open(path).map_err(SourceFault::Open)?;
        let mut input = Self {
            file,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            file_ended: false,
            line: 0,
            bytes_read: 0,
            bytes_total: metadata.len(),
        };
        while input.end < 4 && !input.file_ended {
            input.read_more()?;
        }
        match input.unread() {
            // Without a mark, a zero among the first two bytes gives ASCII text in UTF-16 away.
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => return Err(SourceFault::Utf16),
            [0xEF, 0xBB, 0xBF, ..] => input.consume(3),
            _ => {}
        }
        if !input.skip_blank_lines()? {
            return Err(SourceFault::Empty);
        }
        Ok(input)
    }

    /// Lines handed out so far, which is also the number of the line last handed out.
    pub fn line(&self) -> u64 {
        self.line
    }

    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// Passes over empty lines and says whether anything comes after them.
    pub fn skip_blank_lines(&mut self) -> Result<bool, SourceFault> {
        loop {
            let blank = match self.unread() {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] | [b'\r'] if !self.file_ended => {
                    self.read_more()?;
                    continue;
                }
                [] | [b'\r'] => return Ok(false),
                _ => return Ok(true),
            };
            self.line += 1;
            self.consume(blank);
        }
    }

    /// The next line with its line end, or `None` at the end of the file.
    pub fn next_line(&mut self) -> Result<Option<&str>, SourceFault> {
        let Some(length) = self.line_length()? else { return Ok(None) };
        let from = self.start;
        self.consume(length);
        self.line += 1;
        text(&self.buffer[from..from + length], self.line).map(Some)
    }

    /// What the next call of `next_line` will answer.
    pub fn peek_line(&mut self) -> Result<Option<&str>, SourceFault> {
        let Some(length) = self.line_length()? else { return Ok(None) };
        text(&self.buffer[self.start..self.start + length], self.line + 1).map(Some)
    }

    fn line_length(&mut self) -> Result<Option<usize>, SourceFault> {
        let mut searched = 0;
        loop {
            let unread = self.unread();
            let found = memchr(b'\n', &unread[searched..]).map(|at| searched + at + 1);
            searched = unread.len();
            match found {
                Some(length) if length <= MAX_LINE_BYTES => return Ok(Some(length)),
                None if searched <= MAX_LINE_BYTES && !self.file_ended => self.read_more()?,
                None if searched <= MAX_LINE_BYTES => return Ok((searched > 0).then_some(searched)),
                Some(_) | None => return Err(SourceFault::LineTooLong { line: self.line + 1 }),
            }
        }
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        // A usize always fits here; the fallback only spares a panic that cannot happen.
        self.bytes_read = self.bytes_read.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }

    fn read_more(&mut self) -> Result<(), SourceFault> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.file.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.file_ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(SourceFault::Read(error)),
            }
            return Ok(());
        }
    }
}

fn text(bytes: &[u8], line: u64) -> Result<&str, SourceFault> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        SourceFault::NotUtf8 { line, byte: at + 1, value: bytes[at] }
    })
}
