use super::{keyed, kinds, refusal, sample, separated};
use crate::source::{Source, SourceFault};
use std::error::Error;

#[track_caller]
fn refused(csv: impl AsRef<[u8]>, message: &str) {
    assert_eq!(refusal("p.csv", csv, kinds(&["price"])), format!("p.csv: {message}"));
}

#[test]
fn a_file_that_is_not_there_or_not_a_file_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = Source::open(folder.path().join("none.csv"), kinds(&["price"])).expect_err("no file");
    assert!(
        error.to_string().ends_with("none.csv: cannot be opened; check the name and your right to read it")
    );
    assert!(
        error.source().is_some_and(|source| source.is::<std::io::Error>()),
        "the system's own word comes along"
    );
    let error = Source::open(folder.path(), kinds(&["price"])).expect_err("a folder");
    assert!(matches!(error.fault, SourceFault::NotAFile), "{error}");
}

#[test]
fn a_file_without_records_is_refused() {
    let message = "is empty; write a header and rows (CSV) or one object per line (NDJSON)";
    for empty in ["", "\u{feff}", "\n\r\n\n", "\r"] {
        refused(empty, message);
        assert_eq!(refusal("p.ndjson", empty, kinds(&["price"])), format!("p.ndjson: {message}"));
    }
    for header in ["sku,price_cents", "sku,price_cents\r\n\r\n"] {
        refused(header, "has a header but no rows; check what wrote it");
    }
}

#[test]
fn encodings_other_than_utf_8_are_refused_with_the_place_and_the_remedy() {
    let utf16 = "is UTF-16; convert it first: iconv -f utf-16 -t utf-8 FILE > NEW";
    let little: Vec<u8> = "sku,price_cents\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "sku,price_cents\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    refused(&little, utf16);
    refused(&big, utf16);
    refused([b"\xFF\xFE", little.as_slice()].concat(), utf16);
    refused([b"\xFE\xFF", big.as_slice()].concat(), utf16);
    refused(
        b"sku,price_cents,name\n1,5,a\n2,5,Caf\xE9\n",
        "line 3, byte 8: 0xE9 is not UTF-8; if the file is Latin-1, convert it first: \
         iconv -f latin1 -t utf-8 FILE > NEW",
    );
    // A character that the file ends in the middle of.
    refused(
        b"sku,price_cents\n1,\xC3",
        "line 2, byte 3: 0xC3 is not UTF-8; if the file is Latin-1, convert it \
         first: iconv -f latin1 -t utf-8 FILE > NEW",
    );
}

#[test]
fn quotes_that_do_not_close_are_refused_where_they_were_opened() {
    let open = "the quote opened here is not closed; close it, or write a quote inside quotes twice";
    refused("sku,price_cents\n1,5\n2,\"5\n3,5\n4,5\n", &format!("line 3: {open}"));
    refused("sku,price_cents\n1,\"", &format!("line 2: {open}"));
    refused("sku,\"price_cents\n1,5\n", &format!("line 1: {open}"));
    // A long file must not be held in memory to find that out.
    let long = format!("sku,price_cents\n\"1,5\n{}", "2,5\n".repeat(400_000));
    refused(&long, &format!("line 2: {open}"));
    refused(format!("{long}\""), &format!("line 2: {open}"));
    refused(
        "sku,price_cents,name\n1,5,\"a\nb\" c\n",
        "line 3, byte 3: text after the closing quote of a cell that began on line 2; write a quote inside quotes \
         twice",
    );
}

#[test]
fn ragged_rows_are_refused_by_the_line_they_begin_on() {
    let remedy = "put cells that contain ',' in quotes";
    refused(
        "sku,price_cents\n1,5\n2,5,6\n",
        &format!("line 3: expected 2 columns as in the header, got 3; {remedy}"),
    );
    refused("sku,price_cents\n1\n", &format!("line 2: expected 2 columns as in the header, got 1; {remedy}"));
    refused(
        "sku,price_cents\n\"1\n\n\"\n",
        &format!("line 2: expected 2 columns as in the header, got 1; {remedy}"),
    );
}

#[test]
fn headers_that_name_a_column_twice_or_not_at_all_are_refused() {
    refused(
        "sku,price_cents, sku\n1,5,1\n",
        "columns 1 and 3 are both called 'sku'; rename or remove one of them",
    );
    refused("sku,price_cents,\n1,5,\n", "column 3 has no name; name it in the header, or remove it");
}

#[test]
fn a_missing_column_is_named_with_those_there_are() {
    refused(
        "SKU,price_cents\n1,5\n",
        "no column 'sku', which price needs (is 'SKU' what you mean?); the columns are 'SKU', 'price_cents'",
    );
    refused(
        "sku,price_cent\n1,5\n",
        "no column 'price_cents', which price needs (is 'price_cent' what you mean?); \
         the columns are 'sku', 'price_cent'",
    );
    refused("sku,valor\n1,5\n", "no column 'price_cents', which price needs; the columns are 'sku', 'valor'");
    assert_eq!(
        refusal("p.csv", "sku,price_cents\n1,5\n", keyed("price", "codigo")),
        "p.csv: no column 'codigo', which price needs; the columns are 'sku', 'price_cents'"
    );
}

#[test]
fn delimiters_that_do_not_fit_are_refused() {
    let csv = "sku;price_cents\n1;5\n";
    assert_eq!(
        refusal("p.csv", csv, separated(b',', kinds(&["price"]))),
        "p.csv: the header has no ',' but has ';'; say --delimiter ';'"
    );
    assert_eq!(
        refusal("p.csv", "sku\tprice_cents\n1\t5\n", separated(b';', kinds(&["price"]))),
        "p.csv: the header has no ';' but has a tab; say --delimiter $'\\t'"
    );
    // Both bring out the key, or none does.
    for header in ["sku,price_cents;sku", "codigo,valor;nome"] {
        refused(
            format!("{header}\n1,5\n"),
            "the header could be separated by ',' or ';'; say which with --delimiter",
        );
    }
    for bad in [b'"', b'\n', b'\r', 0xE7] {
        let message = refusal("p.csv", csv, separated(bad, kinds(&["price"])));
        assert!(message.contains("cannot separate columns"), "{message}");
    }
}

#[test]
fn line_ends_that_are_none_are_refused() {
    refused(
        "sku,price_cents\r1,5\r2,5\r",
        "lines end in CR alone; convert them first: tr '\\r' '\\n' < FILE > NEW",
    );
    refused(
        format!("sku,price_cents\n1,{}", "5".repeat(2 * 1024 * 1024)),
        "line 2: longer than 1048576 bytes; check that its lines end in LF or CRLF",
    );
}

#[test]
fn kinds_must_be_said_and_have_a_key() {
    let csv = "sku,price_cents\n1,5\n";
    assert_eq!(
        refusal("p.csv", csv, kinds(&[])),
        "p.csv: what kind of records are these? say so, for instance --kind product"
    );
    assert_eq!(
        refusal("p.csv", csv, kinds(&["prices"])),
        "p.csv: there is no schema for 'prices' (is 'price' what you mean?), so say which column is the key: \
         --key COLUMN"
    );
}

#[test]
fn a_record_over_the_limit_is_refused_with_line_and_key_and_one_at_the_limit_is_not() {
    // The key takes 2 bytes, and {"price_cents":5,"name":""} takes 27.
    let fits = "x".repeat(65_536 - 29);
    let file = sample("p.csv", format!("sku,price_cents,name\nA7,5,{fits}\n"));
    super::read(&file, kinds(&["price"])).unwrap_or_else(|error| panic!("{error}"));
    refused(
        format!("sku,price_cents,name\nA7,5,{fits}x\n"),
        "line 2: the price with key 'A7' takes 65537 bytes, the limit is 65536; shorten it or send large fields \
         another way",
    );
}

#[test]
fn a_fault_far_into_the_file_is_found_by_the_check_before_anything_is_read() {
    let mut csv = "sku,price_cents\n".to_owned();
    csv.push_str(&"1,5\n".repeat(50_000));
    csv.push_str("1,5,6\n");
    let file = sample("p.csv", csv);
    let source = Source::open(&file.path, kinds(&["price"])).expect("a header that is right");
    let error = source.check().expect_err("a ragged row");
    assert!(
        matches!(error.fault, SourceFault::Ragged { line: 50_002, expected: 2, found: 3, .. }),
        "{error}"
    );
}
