use super::{keyed, lines};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Cells with everything in them that CSV, JSON or a reader of lines could trip over.
fn cell() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just(",".to_owned()),
        Just("\\".to_owned()),
        "\\PC{0,6}",
        "[a-z]{1,4}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
}

fn written(rows: &[Vec<String>], crlf: bool) -> Vec<u8> {
    let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
    let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
    writer.write_record(["id", "a", "b"]).expect("a header");
    for row in rows {
        writer.write_record(row).expect("a row");
    }
    writer.into_inner().expect("a file")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the `csv` crate writes, and reads back, is what the records hold, on the lines counted by hand.
    #[test]
    fn any_cell_comes_out_as_it_went_in(
        rows in prop::collection::vec(prop::collection::vec(cell(), 3..=3), 1..12),
        crlf in any::<bool>(),
    ) {
        let file = written(&rows, crlf);
        let oracle: Vec<Vec<String>> = csv::Reader::from_reader(file.as_slice())
            .records()
            .map(|record| record.expect("a row").iter().map(str::to_owned).collect())
            .collect();
        prop_assert_eq!(&oracle, &rows);

        let records = lines("p.csv", &file, keyed("motor", "id"));
        prop_assert_eq!(records.len(), rows.len());
        let mut line = 2;
        for (record, row) in records.iter().zip(&rows) {
            let record: Value = serde_json::from_str(record).expect("JSON");
            let mut body = Map::new();
            for (name, cell) in ["a", "b"].into_iter().zip(&row[1..]) {
                if !cell.is_empty() {
                    body.insert(name.to_owned(), Value::from(cell.as_str()));
                }
            }
            prop_assert_eq!(&record["key"], &Value::from(row[0].as_str()));
            prop_assert_eq!(&record["body"], &Value::Object(body));
            prop_assert_eq!(&record["line"], &Value::from(line));
            line += 1 + row.concat().matches('\n').count();
        }
    }

    /// No file makes the reader panic, run on for ever or write a line that is not JSON.
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), ndjson in any::<bool>()) {
        let name = if ndjson { "p.ndjson" } else { "p.csv" };
        let mut file = if ndjson { Vec::new() } else { b"id,a\n".to_vec() };
        file.extend(bytes);
        let sample = super::sample(name, file);
        if let Err(error) = super::read(&sample, keyed("motor", "id")) {
            prop_assert!(error.to_string().contains("; "), "a remedy: {error}");
        }
    }
}
