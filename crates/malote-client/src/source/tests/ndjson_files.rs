use super::{deleting, keyed, kinds, lines, refusal};

#[test]
fn plain_objects_give_up_their_key_and_are_split_by_kind() {
    let ndjson = "{\"sku\":\"1\",\"description\":\"Caf\\u00e9\",\"price_cents\":5,\"x\":[1, {\"y\":null}]}\n";
    assert_eq!(
        lines("p.ndjson", ndjson, kinds(&["product", "price"])),
        [
            r#"{"line":1,"kind":"product","key":"1","body":{"description":"Caf\u00e9","x":[1, {"y":null}]}}"#,
            r#"{"line":1,"kind":"price","key":"1","body":{"price_cents":5}}"#,
        ]
    );
}

#[test]
fn keys_that_are_numbers_become_text_and_others_are_left_to_the_hub() {
    let ndjson = "{\"sku\":12,\"price_cents\":5}\n\r\n{\"sku\":null,\"price_cents\":5}\r\n";
    assert_eq!(
        lines("p.txt", ndjson, kinds(&["price"])),
        [
            r#"{"line":1,"kind":"price","key":"12","body":{"price_cents":5}}"#,
            r#"{"line":3,"kind":"price","key":null,"body":{"price_cents":5}}"#,
        ]
    );
}

#[test]
fn plain_objects_may_say_what_to_do() {
    let ndjson = concat!(
        "{\"sku\":\"1\",\"op\":\"delete\"}\n",
        "{\"sku\":\"2\",\"op\":\"upsert\",\"price_cents\":5}\n",
        "{\"sku\":\"3\",\"op\":\"remove\",\"price_cents\":5}\n"
    );
    assert_eq!(
        lines("p.jsonl", ndjson, kinds(&["price"])),
        [
            r#"{"line":1,"kind":"price","key":"1","op":"delete"}"#,
            r#"{"line":2,"kind":"price","key":"2","body":{"price_cents":5}}"#,
            r#"{"line":3,"kind":"price","key":"3","op":"remove","body":{"price_cents":5}}"#,
        ]
    );
    assert_eq!(
        lines("p.jsonl", "{\"sku\":\"1\",\"price_cents\":5}", deleting(kinds(&["price"]))),
        [r#"{"line":1,"kind":"price","key":"1","op":"delete"}"#]
    );
}

#[test]
fn envelopes_pass_and_are_given_their_line() {
    let ndjson = concat!(
        "\u{feff}{\"kind\":\"price\",\"key\":\"1\",\"body\":{\"price_cents\":5}}\n",
        "\n",
        "{\"line\":99,\"key\":\"2\",\"body\":{ \"a\": 1e30 }, \"more\":true}\n",
        "{\"key\":\"3\",\"op\":\"delete\",\"body\":{}}\n"
    );
    assert_eq!(
        lines("p.ndjson", ndjson, kinds(&["stock"])),
        [
            r#"{"line":1,"kind":"price","key":"1","body":{"price_cents":5}}"#,
            r#"{"line":3,"kind":"stock","key":"2","body":{ "a": 1e30 },"more":true}"#,
            r#"{"line":4,"kind":"stock","key":"3","op":"delete"}"#,
        ]
    );
    assert_eq!(
        lines("p.ndjson", "{\"key\":\"1\",\"body\":{}}", deleting(kinds(&["stock"]))),
        [r#"{"line":1,"kind":"stock","key":"1","op":"delete"}"#]
    );
}

#[test]
fn envelopes_that_name_their_kind_need_no_other() {
    let ndjson = "{\"kind\":\"motor\",\"key\":\"1\",\"body\":{}}\n";
    let expected = [r#"{"line":1,"kind":"motor","key":"1","body":{}}"#];
    assert_eq!(lines("p.ndjson", ndjson, kinds(&[])), expected);
    assert_eq!(lines("p.ndjson", ndjson, kinds(&["motor", "axle"])), expected);
}

#[test]
fn a_member_called_key_alone_makes_no_envelope() {
    let expected = [r#"{"line":1,"kind":"motor","key":"1","body":{"fuel":"gas"}}"#];
    assert_eq!(lines("p.ndjson", "{\"key\":\"1\",\"fuel\":\"gas\"}", keyed("motor", "key")), expected);
}

#[test]
fn what_is_not_one_object_a_line_is_refused() {
    let price = || kinds(&["price"]);
    for (ndjson, message) in [
        (
            "{\"sku\":\"1\",\"price_cents\":5}\n{\"sku\":\"1\",,}\n",
            "line 2, column 12: not JSON (key must be a string); write one whole object per line, as jq -c does",
        ),
        (
            "{\n  \"sku\":\"1\"\n}\n",
            "line 1, column 1: not JSON (EOF while parsing an object); write one whole object per line, as jq -c does",
        ),
        (
            "{\"sku\":\"1\"} {\"sku\":\"2\"}\n",
            "line 1, column 13: not JSON (trailing characters); write one whole object per line, as jq -c does",
        ),
        (
            "[{\"sku\":\"1\"}]\n",
            "line 1: an array, not an object; write one whole object per line, as jq -c '.[]' does",
        ),
        ("\n7\n", "line 2: a number, not an object; write one whole object per line, as jq -c '.[]' does"),
        (
            "sku,price\n1,2\n",
            "line 1, column 1: not JSON (expected value); write one whole object per line, as jq -c does",
        ),
    ] {
        assert_eq!(refusal("p.ndjson", ndjson, price()), format!("p.ndjson: {message}"));
    }
}

#[test]
fn objects_without_what_a_record_needs_are_refused() {
    assert_eq!(
        refusal("p.ndjson", "{\"Sku\":\"1\",\"price_cents\":5}", kinds(&["price"])),
        "p.ndjson: line 1: no member 'sku', which price needs for its key (is 'Sku' what you mean?); \
         the members are 'Sku', 'price_cents'"
    );
    assert_eq!(
        refusal("p.ndjson", "{\"key\":\"1\",\"body\":{}}", kinds(&["price", "stock"])),
        "p.ndjson: line 1: the record names no kind, and there are several ('price', 'stock'); add \"kind\" to it"
    );
    for ndjson in ["{\"key\":\"1\",\"body\":{}}", "{\"sku\":\"1\"}"] {
        assert_eq!(
            refusal("p.ndjson", ndjson, kinds(&[])),
            "p.ndjson: what kind of records are these? say so, for instance --kind product"
        );
    }
}

#[test]
fn records_over_the_limit_are_refused_with_line_and_key() {
    let text = "x".repeat(65_536);
    for line in [
        format!("{{\"sku\":\"A7\",\"note\":\"{text}\"}}"),
        format!("{{\"key\":\"A7\",\"kind\":\"price\",\"body\":{{\"note\":\"{text}\"}}}}"),
    ] {
        assert_eq!(
            refusal("p.ndjson", format!("\n{line}"), kinds(&["price"])),
            "p.ndjson: line 2: the price with key 'A7' takes 65549 bytes, the limit is 65536; \
             shorten it or send large fields another way"
        );
    }
}
