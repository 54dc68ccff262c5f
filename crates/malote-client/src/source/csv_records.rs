//! Rows of a CSV file as records: one record per row and kind.

use super::input::Input;
use super::json::{write_display, write_string};
use super::kinds::{Kind, Shape, field_for, is_unknown};
use super::rows::Row;
use super::{MAX_RECORD_BYTES, Note, Op, SourceFault, SourceOptions};

const OP_COLUMN: &str = "op";
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

#[derive(Debug)]
pub(super) struct CsvRecords {
    input: Input,
    delimiter: u8,
    columns: usize,
    op_column: Option<usize>,
    default_op: Op,
    plans: Vec<Plan>,
    row: Row,
    notes: Vec<Note>,
}

/// How one kind's record is made from a row.
#[derive(Debug)]
struct Plan {
    kind: String,
    // `,"kind":"product","key":`, the same in every line.
    head: Vec<u8>,
    key_column: usize,
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    column: usize,
    // `"description":`, the same in every line.
    name: Vec<u8>,
    shape: Shape,
    required: bool,
}

impl CsvRecords {
    pub fn open(mut input: Input, kinds: Vec<Kind>, options: &SourceOptions) -> Result<Self, SourceFault> {
        let delimiter = delimiter(&mut input, &kinds, options.delimiter)?;
        let mut row = Row::default();
        row.read(&mut input, delimiter)?;
        let header = header(&row)?;
        if !input.skip_blank_lines()? {
            return Err(SourceFault::HeaderOnly);
        }
        let position = |name: &str| header.iter().position(|column| column == name);
        let op_column = position(OP_COLUMN);
        let mut plans = Vec::with_capacity(kinds.len());
        for (at, kind) in kinds.iter().enumerate() {
            // Rows that may all be deletions need no body, and so no column but the key's.
            let needs_body = options.op == Op::Upsert && op_column.is_none();
            let mut needed = kind.required().filter(|_| needs_body).chain([kind.key_column.as_str()]);
            if let Some(missing) = needed.find(|name| position(name).is_none()) {
                return Err(SourceFault::MissingColumn {
                    column: missing.to_owned(),
                    kind: kind.name.clone(),
                    columns: header,
                });
            }
            let key_column = position(&kind.key_column).unwrap_or_default();
            plans.push(Plan::new(&kinds, at, &header, key_column));
        }
        let notes = notes(&kinds, &header, delimiter, options);
        let default_op = options.op;
        Ok(Self { input, delimiter, columns: header.len(), op_column, default_op, plans, row, notes })
    }

    pub fn input(&self) -> &Input {
        &self.input
    }

    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Appends the records of the next row and says how many they are: none at the end of the file.
    pub fn next_row(&mut self, out: &mut Vec<u8>) -> Result<u64, SourceFault> {
        let Some(line) = self.row.read(&mut self.input, self.delimiter)? else { return Ok(0) };
        if self.row.len() != self.columns {
            return Err(SourceFault::Ragged {
                line,
                expected: self.columns,
                found: self.row.len(),
                delimiter: self.delimiter,
            });
        }
        let op = self.op_column.map(|column| self.row.cell(column).trim()).unwrap_or_default();
        let deletes = op == "delete" || (op.is_empty() && self.default_op == Op::Delete);
        let mut written = 0;
        for plan in &self.plans {
            out.extend_from_slice(b"{\"line\":");
            write_display(out, line);
            out.extend_from_slice(&plan.head);
            write_string(out, self.row.cell(plan.key_column));
            if deletes {
                out.extend_from_slice(b",\"op\":\"delete\"}\n");
            } else {
                if !op.is_empty() && op != "upsert" {
                    // Not an operation there is; the hub will say so of this one record.
                    out.extend_from_slice(b",\"op\":");
                    write_string(out, op);
                }
                out.extend_from_slice(b",\"body\":");
                plan.write_body(out, &self.row, line)?;
                out.extend_from_slice(b"}\n");
            }
            written += 1;
        }
        Ok(written)
    }
}

impl Plan {
    fn new(kinds: &[Kind], at: usize, header: &[String], key_column: usize) -> Self {
        let kind = kinds[at].name.clone();
        let mut head = b",\"kind\":".to_vec();
        write_string(&mut head, &kind);
        head.extend_from_slice(b",\"key\":");
        let mut cells = Vec::new();
        for (column, title) in header.iter().enumerate() {
            let Some(field) = field_for(kinds, at, title).filter(|_| title != OP_COLUMN) else { continue };
            let mut name = Vec::new();
            write_string(&mut name, title);
            name.push(b':');
            cells.push(Cell { column, name, shape: field.shape, required: field.required });
        }
        Self { kind, head, key_column, cells }
    }

    fn write_body(&self, out: &mut Vec<u8>, row: &Row, line: u64) -> Result<(), SourceFault> {
        let from = out.len();
        out.push(b'{');
        for cell in &self.cells {
            let text = row.cell(cell.column);
            if text.is_empty() && !(cell.required && cell.shape == Shape::Text) {
                continue;
            }
            if out.len() > from + 1 {
                out.push(b',');
            }
            out.extend_from_slice(&cell.name);
            write_value(out, cell.shape, text);
        }
        out.push(b'}');
        let key = row.cell(self.key_column);
        let bytes = key.len() + out.len() - from;
        if bytes > MAX_RECORD_BYTES {
            let key = key.chars().take(80).collect();
            return Err(SourceFault::RecordTooLarge { line, kind: self.kind.clone(), key, bytes });
        }
        Ok(())
    }
}

/// Writes a cell in its field's type, or as text when it is not of that type: the hub then refuses that record
/// and says why.
fn write_value(out: &mut Vec<u8>, shape: Shape, text: &str) {
    let plain = text.trim();
    match shape {
        Shape::Text => return write_string(out, text),
        Shape::Integer => {
            if let Ok(value) = plain.parse::<i64>() {
                return write_display(out, value);
            }
        }
        Shape::Number => {
            if serde_json::from_str::<serde_json::Number>(plain).is_ok() {
                return out.extend_from_slice(plain.as_bytes());
            }
        }
        Shape::Boolean => {
            if let Some(value) = boolean(plain) {
                return write_display(out, value);
            }
        }
    }
    write_string(out, text);
}

/// What people and spreadsheets write for yes and no.
fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.to_lowercase() == *word);
    if is(&["true", "1", "yes", "y", "sim", "s", "verdadeiro"]) {
        return Some(true);
    }
    is(&["false", "0", "no", "n", "não", "nao", "falso"]).then_some(false)
}

fn header(row: &Row) -> Result<Vec<String>, SourceFault> {
    let names: Vec<String> = (0..row.len()).map(|column| row.cell(column).trim().to_owned()).collect();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(SourceFault::UnnamedColumn { position: at + 1 });
        }
        if let Some(first) = names[..at].iter().position(|earlier| earlier == name) {
            let name = name.clone();
            return Err(SourceFault::DuplicateColumn { name, first: first + 1, second: at + 1 });
        }
    }
    Ok(names)
}

fn notes(kinds: &[Kind], header: &[String], delimiter: u8, options: &SourceOptions) -> Vec<Note> {
    let mut notes = Vec::new();
    if options.delimiter.is_none() && delimiter != b',' {
        notes.push(Note::Delimiter(delimiter));
    }
    let unknown = header.iter().filter(|name| *name != OP_COLUMN && is_unknown(kinds, name));
    let columns: Vec<String> = unknown.cloned().collect();
    if let (false, Some(kind)) = (columns.is_empty(), kinds.first()) {
        notes.push(Note::UnknownColumns { kind: kind.name.clone(), columns });
    }
    notes
}

/// The delimiter asked for, or the one the header shows.
fn delimiter(input: &mut Input, kinds: &[Kind], given: Option<u8>) -> Result<u8, SourceFault> {
    let header = input.peek_line()?.unwrap_or_default();
    let header = header.trim_end_matches(['\r', '\n']);
    if header.contains('\r') {
        return Err(SourceFault::CarriageReturns);
    }
    // Every second piece between quotes is outside them.
    let outside: String = header.split('"').step_by(2).collect();
    let has = |delimiter: u8| outside.as_bytes().contains(&delimiter);
    let found: Vec<u8> = DELIMITERS.into_iter().filter(|candidate| has(*candidate)).collect();
    if let Some(given) = given {
        if !given.is_ascii() || given == b'"' || given == b'\n' || given == b'\r' {
            return Err(SourceFault::BadDelimiter { delimiter: given });
        }
        return match found.first() {
            Some(found) if !has(given) => Err(SourceFault::WrongDelimiter { given, found: *found }),
            Some(_) | None => Ok(given),
        };
    }
    if found.len() < 2 {
        return Ok(found.first().copied().unwrap_or(b','));
    }
    // Several could be it: the right one is the one that brings out every key column.
    let brings_out_keys = |delimiter: &&u8| {
        kinds.iter().all(|kind| {
            let mut names = header.split(char::from(**delimiter)).map(|name| name.trim().trim_matches('"'));
            names.any(|name| name == kind.key_column)
        })
    };
    let fitting: Vec<u8> = found.iter().filter(brings_out_keys).copied().collect();
    match fitting.as_slice() {
        [one] => Ok(*one),
        _ => Err(SourceFault::AmbiguousDelimiter { found }),
    }
}
