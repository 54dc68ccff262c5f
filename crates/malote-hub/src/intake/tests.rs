use super::*;

struct Fixture {
    schemas: Schemas,
    kinds: BTreeSet<Kind>,
    default: Kind,
}

impl Fixture {
    fn new() -> Self {
        let kinds = ["product", "price", "loyalty"].map(|kind| Kind::parse(kind).unwrap());
        Self { schemas: Schemas::compile().unwrap(), default: kinds[0].clone(), kinds: BTreeSet::from(kinds) }
    }

    fn read(&self, line: &str) -> Result<Record, Refusal> {
        let rules = Rules { schemas: &self.schemas, kinds: &self.kinds, default_kind: Some(&self.default) };
        rules.read(&Cut::Line(7, Bytes::copy_from_slice(line.as_bytes())))
    }

    #[track_caller]
    fn refuses(&self, line: &str, code: &str) -> Refusal {
        let refusal = self.read(line).expect_err(line);
        assert_eq!(refusal.code, code, "{refusal:?}");
        refusal
    }
}

#[test]
fn a_record_is_taken_with_its_body_as_it_came() {
    let record = Fixture::new().read(r#"{"key":"1","body":{"description":"Café",  "brand":"X"}}"#).unwrap();
    assert_eq!((record.kind.as_str(), record.key.as_str()), ("product", "1"));
    assert_eq!(record.body.as_deref(), Some(r#"{"description":"Café",  "brand":"X"}"#.as_bytes()));
}

#[test]
fn a_delete_needs_no_body() {
    let record = Fixture::new().read(r#"{"kind":"price","key":"1","op":"delete"}"#).unwrap();
    assert!(record.body.is_none());
}

#[test]
fn refusals_name_line_key_and_remedy() {
    let fixture = Fixture::new();
    let refusal = fixture
        .refuses(r#"{"line":12,"kind":"price","key":"789","body":{"price_cents":"abc"}}"#, "record.schema");
    assert_eq!((refusal.line, refusal.key.as_deref()), (12, Some("789")));
    assert!(refusal.reason.contains("price_cents"), "{refusal:?}");
    assert_eq!(fixture.refuses("{oops", "record.not_json").line, 7);
    fixture.refuses(r#"{"kind":"tender","key":"1","body":{}}"#, "record.kind_not_declared");
    fixture.refuses(r#"{"key":"","body":{"description":""}}"#, "record.key");
    fixture.refuses(r#"{"key":"a\nb","body":{"description":""}}"#, "record.key");
    fixture.refuses(r#"{"key":"1"}"#, "record.body_missing");
    fixture.refuses(r#"{"key":"1","body":[1]}"#, "record.schema");
    fixture.refuses(r#"{"key":"1","body":{"description":1}}"#, "record.schema");
    fixture.refuses(r#"{"key":"1","bodi":{}}"#, "record.not_json");
    fixture.refuses(r#"{"kind":"price","key":"1","body":{"price_cents":-1}}"#, "record.schema");
}

#[test]
fn an_unknown_kind_only_has_to_be_an_object() {
    let fixture = Fixture::new();
    assert!(fixture.read(r#"{"kind":"loyalty","key":"1","body":{"points":"many"}}"#).is_ok());
    fixture.refuses(r#"{"kind":"loyalty","key":"1","body":3}"#, "record.schema");
}

#[test]
fn a_record_over_64_kib_is_refused() {
    let fixture = Fixture::new();
    let body = format!(r#"{{"kind":"loyalty","key":"1","body":{{"x":"{}"}}}}"#, "y".repeat(RECORD_BYTES_MAX));
    fixture.refuses(&body, "record.too_large");
}

fn cut_all(body: &[u8], pieces: &[usize]) -> Vec<(u64, Option<Vec<u8>>)> {
    let mut lines = Lines::default();
    let mut cuts = Vec::new();
    let mut rest = body;
    for piece in pieces.iter().copied().chain([usize::MAX]) {
        let (head, tail) = rest.split_at(piece.min(rest.len()));
        cuts.extend(lines.push(head));
        rest = tail;
    }
    cuts.extend(lines.finish());
    cuts.into_iter()
        .map(|cut| match cut {
            Cut::Line(number, bytes) => (number, Some(bytes.to_vec())),
            Cut::TooLong(number) => (number, None),
        })
        .collect()
}

#[test]
fn lines_are_the_same_however_the_body_arrives() {
    let body = b"one\n\ntwo\r\n   \nthree";
    let expected =
        [(1, b"one".to_vec()), (3, b"two\r".to_vec()), (5, b"three".to_vec())].map(|(n, l)| (n, Some(l)));
    for piece in 1..body.len() + 1 {
        assert_eq!(cut_all(body, &vec![piece; body.len()]), expected, "pieces of {piece}");
    }
}

#[test]
fn a_line_without_end_is_refused_once_and_the_next_is_taken() {
    let mut body = vec![b'x'; LINE_BYTES_MAX * 3];
    body.extend_from_slice(b"\nok\n");
    for piece in [1_000, LINE_BYTES_MAX, body.len()] {
        let count = body.len() / piece + 1;
        assert_eq!(
            cut_all(&body, &vec![piece; count]),
            [(1, None), (2, Some(b"ok".to_vec()))],
            "pieces of {piece}"
        );
    }
}
