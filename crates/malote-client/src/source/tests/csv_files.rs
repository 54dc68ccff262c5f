use super::{deleting, keyed, kinds, lines, sample, separated};
use crate::source::{Note, Source};

#[test]
fn a_row_becomes_one_record_per_kind_and_each_column_goes_where_it_is_known() {
    let csv = "sku,description,price_cents,active\n1,Café,1290,true\n2,,5,\n";
    assert_eq!(
        lines("p.csv", csv, kinds(&["product", "price"])),
        [
            r#"{"line":2,"kind":"product","key":"1","body":{"description":"Café","active":true}}"#,
            r#"{"line":2,"kind":"price","key":"1","body":{"price_cents":1290,"active":true}}"#,
            r#"{"line":3,"kind":"product","key":"2","body":{"description":""}}"#,
            r#"{"line":3,"kind":"price","key":"2","body":{"price_cents":5}}"#,
        ]
    );
}

#[test]
fn kinds_with_keys_of_their_own_take_them_from_their_own_columns() {
    let csv = "id,name,code,description\n7,Ana,01,Dinheiro\n";
    assert_eq!(
        lines("p.csv", csv, kinds(&["customer", "tender"])),
        [
            r#"{"line":2,"kind":"customer","key":"7","body":{"name":"Ana"}}"#,
            r#"{"line":2,"kind":"tender","key":"01","body":{"description":"Dinheiro"}}"#,
        ]
    );
}

#[test]
fn columns_no_schema_knows_go_to_the_first_kind_as_text_and_are_noted() {
    let file = sample("p.csv", "sku;shelf;description;price_cents;7\n1;12;Bala;5;x\n");
    let mut source = Source::open(&file.path, kinds(&["product", "price"])).expect("a source");
    let block = source.next_block(usize::MAX).expect("a block").expect("lines");
    assert_eq!(
        String::from_utf8(block.bytes).expect("UTF-8"),
        concat!(
            r#"{"line":2,"kind":"product","key":"1","body":{"shelf":"12","description":"Bala","7":"x"}}"#,
            "\n",
            r#"{"line":2,"kind":"price","key":"1","body":{"price_cents":5}}"#,
            "\n"
        )
    );
    assert_eq!((block.records, block.lines, block.bytes_read), (2, 2, block.bytes_total));
    assert_eq!(source.next_block(1).expect("the end"), None);
    let columns = vec!["shelf".to_owned(), "7".to_owned()];
    assert_eq!(
        source.notes(),
        [Note::Delimiter(b';'), Note::UnknownColumns { kind: "product".to_owned(), columns }]
    );
    let told: Vec<String> = source.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["columns are separated by ';'", "no schema knows 'shelf', '7': sent as text with each product"]
    );
}

#[test]
fn cells_take_the_type_of_their_field_and_those_that_do_not_fit_travel_as_text() {
    for (cell, json) in [
        ("0", "0"),
        (" 0012 ", "12"),
        ("+5", "5"),
        ("-3", "-3"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "\"9223372036854775808\""),
        ("abc", "\"abc\""),
        ("12.5", "\"12.5\""),
        ("\"12,50\"", "\"12,50\""),
        ("1e3", "\"1e3\""),
        (" ", "\" \""),
    ] {
        let expected = format!(r#"{{"line":2,"kind":"price","key":"1","body":{{"price_cents":{json}}}}}"#);
        assert_eq!(lines("p.csv", format!("sku,price_cents\n1,{cell}\n"), kinds(&["price"])), [expected]);
    }
    for (cell, json) in [
        ("true", "true"),
        ("SIM", "true"),
        ("1", "true"),
        ("Não", "false"),
        ("0", "false"),
        ("false", "false"),
        ("maybe", "\"maybe\""),
    ] {
        let csv = format!("sku,price_cents,active\n1,2,{cell}\n");
        let expected =
            format!(r#"{{"line":2,"kind":"price","key":"1","body":{{"price_cents":2,"active":{json}}}}}"#);
        assert_eq!(lines("p.csv", csv, kinds(&["price"])), [expected]);
    }
}

#[test]
fn a_text_field_stays_text_however_much_it_looks_like_a_number() {
    let csv = "sku,description,gtin\n0001,007,00012345\n";
    let expected =
        r#"{"line":2,"kind":"product","key":"0001","body":{"description":"007","gtin":"00012345"}}"#;
    assert_eq!(lines("p.csv", csv, kinds(&["product"])), [expected]);
}

#[test]
fn an_empty_required_number_is_left_to_the_hub() {
    let expected = r#"{"line":2,"kind":"price","key":"1","body":{}}"#;
    assert_eq!(lines("p.csv", "sku,price_cents\n1,\n", kinds(&["price"])), [expected]);
}

#[test]
fn a_kind_without_a_schema_takes_every_column_as_text() {
    let expected = r#"{"line":2,"kind":"motor","key":"V8","body":{"fuel":"gas","year":"1970"}}"#;
    assert_eq!(lines("p.csv", "fuel,id,year,none\ngas,V8,1970,\n", keyed("motor", "id")), [expected]);
}

#[test]
fn the_key_column_can_be_named() {
    let expected = r#"{"line":2,"kind":"price","key":"A1","body":{"price_cents":5}}"#;
    assert_eq!(lines("p.csv", "codigo,price_cents\nA1,5\n", keyed("price", "codigo")), [expected]);
}

#[test]
fn an_op_column_deletes_and_what_it_does_not_know_is_left_to_the_hub() {
    let csv = "op,sku,price_cents\nupsert,1,5\ndelete,2,5\n,3,5\nremove,4,5\n";
    assert_eq!(
        lines("p.csv", csv, kinds(&["price"])),
        [
            r#"{"line":2,"kind":"price","key":"1","body":{"price_cents":5}}"#,
            r#"{"line":3,"kind":"price","key":"2","op":"delete"}"#,
            r#"{"line":4,"kind":"price","key":"3","body":{"price_cents":5}}"#,
            r#"{"line":5,"kind":"price","key":"4","op":"remove","body":{"price_cents":5}}"#,
        ]
    );
}

#[test]
fn a_file_of_deletions_needs_no_column_but_the_key() {
    let csv = "sku\n1\n2\n";
    assert_eq!(
        lines("p.csv", csv, deleting(kinds(&["product"]))),
        [
            r#"{"line":2,"kind":"product","key":"1","op":"delete"}"#,
            r#"{"line":3,"kind":"product","key":"2","op":"delete"}"#
        ]
    );
    let csv = "sku,op\n1,delete\n";
    let expected = [r#"{"line":2,"kind":"price","key":"1","op":"delete"}"#];
    assert_eq!(lines("p.csv", csv, kinds(&["price"])), expected);
    let csv = "sku,price_cents,op\n1,5,upsert\n";
    let expected = [r#"{"line":2,"kind":"price","key":"1","body":{"price_cents":5}}"#];
    assert_eq!(lines("p.csv", csv, deleting(kinds(&["price"]))), expected);
}

#[test]
fn the_line_is_the_one_an_editor_shows_whatever_ends_lines_and_rows() {
    let rows =
        ["\u{feff}", "sku,description", "1,\"two", "", "lines\"", "", "2,\"say \"\"oi\"\"\"", "3,5\" pipe"];
    for end in ["\n", "\r\n"] {
        let csv = rows.join(end);
        let escaped = end.escape_default().to_string();
        assert_eq!(
            lines("p.csv", csv, kinds(&["product"])),
            [
                format!(
                    r#"{{"line":3,"kind":"product","key":"1","body":{{"description":"two{escaped}{escaped}lines"}}}}"#
                ),
                r#"{"line":7,"kind":"product","key":"2","body":{"description":"say \"oi\""}}"#.to_owned(),
                r#"{"line":8,"kind":"product","key":"3","body":{"description":"5\" pipe"}}"#.to_owned(),
            ]
        );
    }
}

#[test]
fn control_characters_and_backslashes_survive() {
    let csv = "sku,description\n1,a\\b\u{1}\tc\u{0}\n";
    let expected = r#"{"line":2,"kind":"product","key":"1","body":{"description":"a\\b\u0001\tc\u0000"}}"#;
    assert_eq!(lines("p.csv", csv, kinds(&["product"])), [expected]);
}

#[test]
fn the_delimiter_is_found_or_told() {
    let expected = [r#"{"line":2,"kind":"product","key":"1","body":{"description":"a"}}"#];
    for delimiter in [',', ';', '\t', '|'] {
        let csv = format!("sku{delimiter}description\n1{delimiter}a\n");
        assert_eq!(lines("p.csv", csv, kinds(&["product"])), expected, "{delimiter:?}");
    }
    // A second candidate in the header does not matter when only one brings out the key.
    let csv = "\"sku\";description;\"a,b\";c|d\n1;a;;\n";
    assert_eq!(lines("p.csv", csv, kinds(&["product"])), expected);
    let csv = "sku:description\n1:a\n";
    assert_eq!(lines("p.csv", csv, separated(b':', kinds(&["product"]))), expected);
}

#[test]
fn blocks_hold_about_what_was_asked_for_and_together_every_line_once() {
    // Far more than the reader's buffer, so that lines fall across its end.
    let rows = 100_000;
    let mut csv = "sku,price_cents\n".to_owned();
    for sku in 0..rows {
        csv.push_str(&format!("{sku},5\n"));
    }
    let file = sample("p.csv", csv);
    let mut source = Source::open(&file.path, kinds(&["price"])).expect("a source");
    let (mut sku, mut last) = (0, 0);
    while let Some(block) = source.next_block(4096).expect("a block") {
        assert!(block.bytes.len() < 4096 + 200, "{}", block.bytes.len());
        assert!(block.bytes_read > last, "progress");
        last = block.bytes_read;
        for line in String::from_utf8(block.bytes).expect("UTF-8").lines() {
            let number = sku + 2;
            assert_eq!(
                line,
                format!(r#"{{"line":{number},"kind":"price","key":"{sku}","body":{{"price_cents":5}}}}"#)
            );
            sku += 1;
        }
        assert_eq!((block.records, block.lines), (sku, sku + 1));
    }
    assert_eq!(sku, rows);
}
