//! What is said of a lot on its way, and how the command ends.

use super::*;
use follow::Waiting;
use malote_client::{Arrival, ArrivalState, LotView, Taken, Totals};
use send::{Progress, Step};
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is written to stdout and stderr.
fn said(act: impl FnOnce(&mut Shell)) -> (String, String) {
    let (out, err) = (Buffer::default(), Buffer::default());
    act(&mut Shell::new(out.clone(), err.clone(), false, CancellationToken::new()));
    let text = |buffer: Buffer| String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    (text(out), text(err))
}

fn view(state: &str, totals: Totals) -> LotView {
    serde_json::from_value(json!({
        "lot": "01900000-0000-7000-8000-000000000000", "scope": "all", "mode": "delta", "strict": false,
        "state": state, "opened_at": "-", "opened_by": "-", "lease_seconds": 900, "chunks": 1, "records": 2,
        "bytes": 3, "correlation": "-", "opened_seq": 1, "kinds": { "price": 2 }, "totals": totals,
    }))
    .unwrap()
}

fn followed(state: &str, totals: Totals, waiting: Waiting) -> Followed {
    Followed { view: view(state, totals), waiting, is_ahead: false }
}

fn till(pdv: &str) -> Arrival {
    serde_json::from_value(json!({
        "store": "001", "pdv": pdv, "state": ArrivalState::Released, "upserted": 0, "deleted": 0,
        "quarantined": 0, "attempt": 0,
    }))
    .unwrap()
}

#[test]
fn a_lot_has_arrived_when_nobody_who_could_have_it_is_without() {
    let all = Totals { pdvs: 3, applied: 3, ..Totals::default() };
    let away = Totals { pdvs: 3, applied: 2, pending: 1, ..Totals::default() };
    let offline = Waiting { offline: 1, ..Waiting::default() };
    let online = Waiting { online: 1, ..Waiting::default() };
    for (state, totals, waiting, exit) in [
        ("released", all, Waiting::default(), Exit::Fine),
        ("released", away, offline.clone(), Exit::Fine),
        ("released", Totals::default(), Waiting::default(), Exit::Fine),
        ("released", Totals { superseded: 3, applied: 0, ..all }, Waiting::default(), Exit::Fine),
        ("released", away, online, Exit::Failed),
        ("released", Totals { failed: 1, pending: 0, ..away }, offline, Exit::Failed),
        ("released", Totals { applied_with_errors: 1, applied: 2, ..all }, Waiting::default(), Exit::Failed),
        ("recalled", all, Waiting::default(), Exit::Failed),
    ] {
        assert_eq!(arrived(&followed(state, totals, waiting)), exit, "{state} {totals:?}");
    }
}

#[test]
fn who_is_waited_for_is_named_and_only_the_first_of_many() {
    let named: Vec<Arrival> = (0..12).map(|n| till(&n.to_string())).collect();
    let totals = Totals { pdvs: 20, applied: 6, failed: 1, pending: 13, ..Totals::default() };
    let followed = followed("released", totals, Waiting { online: 2, offline: 12, named });
    let (out, err) = said(|shell| say_followed(&followed, shell).unwrap());
    assert_eq!(out, "");
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(
        lines[..4],
        [
            "6 of 20 tills have it",
            "  could not apply it, trying on: 1",
            "  offline, to get it when back: 12",
            "  online and yet to report: 1",
        ]
    );
    assert_eq!(
        lines[4],
        "  waiting: 001.0, 001.1, 001.2, 001.3, 001.4, 001.5, 001.6, 001.7, 001.8, 001.9 and 4 more"
    );
    assert!(lines[5].starts_with("hint: `malote lot status 0190"), "{lines:?}");
}

#[test]
fn refusals_are_shown_up_to_a_number_and_counted_beyond() {
    let refusals: Vec<Refusal> = (0..30)
        .map(|n| Refusal {
            line: n + 2,
            kind: Some("price".into()),
            key: Some(format!("k{n}\u{1b}[31m")),
            code: if n < 25 { "record.schema" } else { "record.key" }.into(),
            reason: "no".into(),
        })
        .collect();
    let taken = Taken { accepted: 1, refused: 5_000, chunks: 1, refusals, ..Taken::default() };
    let (_, err) = said(|shell| {
        let mut console = Console::new(shell, false, "a.csv".into());
        console.step(&Step::Sent { lot: "-", took_ms: 1, taken: &taken }).unwrap();
    });
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines.len(), 23, "{err}");
    assert_eq!(lines[0], "a.csv:2: price 'k0 [31m' refused: no");
    assert_eq!(lines[20], "and 4980 more refused; of those named: 5 record.key, 25 record.schema");
    assert!(lines[21].contains("--refused"), "{err}");
    assert_eq!(lines[22], "1 record sent in 1 ms: 1 chunk of 0 bytes; 5000 refused");
}

#[test]
fn programs_get_a_line_for_each_step() {
    let view = view("releasing", Totals { pdvs: 2, applied: 1, pending: 1, ..Totals::default() });
    let (out, err) = said(|shell| {
        let mut console = Console::new(shell, true, "a.csv".into());
        console.step(&Step::arrival(&view)).unwrap();
        console.step(&Step::NothingChanged { lot: "L" }).unwrap();
    });
    assert_eq!(err, "");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["step"], &lines[0]["state"]), (&json!("arrival"), &json!("releasing")));
    assert_eq!(lines[0]["totals"]["applied"], 1);
    assert_eq!(lines[1], json!({ "step": "nothing_changed", "lot": "L" }));
}

#[test]
fn refused_records_are_written_as_csv_that_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused.csv");
    let refusal = Refusal {
        line: 7,
        kind: None,
        key: Some("a,\"b\"".into()),
        code: "record.key".into(),
        reason: "no;\nnever".into(),
    };
    write_refused(&path, &[refusal]).unwrap();
    let mut reader = csv::Reader::from_path(path).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows, [vec!["7", "", "a,\"b\"", "record.key", "no;\nnever"]]);
}

#[test]
fn delimiters_and_counts_are_typed_as_one_would() {
    assert_eq!(delimiter(";"), Ok(b';'));
    assert_eq!(delimiter("\\t"), Ok(b'\t'));
    assert_eq!(delimiter("\t"), Ok(b'\t'));
    assert!(delimiter("").is_err() && delimiter("é").is_err());
    assert_eq!(kind_count("price=3"), Ok(("price".to_owned(), 3)));
    for wrong in ["price", "price=", "price=-1", "=3", "a b=3"] {
        assert!(kind_count(wrong).is_err(), "{wrong}");
    }
}
