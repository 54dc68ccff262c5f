//! What each till must have, worked out apart from everything that is being shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Records by kind and key, with their bodies as sent.
type Records = BTreeMap<(String, String), String>;

/// All that was sent, by scope.
#[derive(Debug, Default)]
pub(super) struct Expected {
    scopes: BTreeMap<String, Records>,
}

#[derive(Deserialize)]
struct Line<'a> {
    kind: &'a str,
    key: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Expected {
    /// Notes lines that were sent to a scope.
    pub(super) fn send(&mut self, scope: &str, lines: &[u8]) -> serde_json::Result<()> {
        let records = self.scopes.entry(scope.to_owned()).or_default();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let Line { kind, key, body } = serde_json::from_slice(line)?;
            records.insert((kind.to_owned(), key), body.get().to_owned());
        }
        Ok(())
    }

    /// The records of a kind that count where these scopes do, the widest named first, in the order of their keys.
    pub(super) fn of<'a>(&'a self, scopes: &[String], kind: &str) -> BTreeMap<&'a str, &'a str> {
        let mut seen = BTreeMap::new();
        for records in scopes.iter().filter_map(|scope| self.scopes.get(scope)) {
            let first = (kind.to_owned(), String::new());
            let of_kind = records.range(first..).take_while(|((of, _), _)| of == kind);
            seen.extend(of_kind.map(|((_, key), body)| (key.as_str(), body.as_str())));
        }
        seen
    }

    /// Keys sent to everybody, of one kind.
    pub(super) fn keys(&self, kind: &str) -> Vec<String> {
        self.of(&["all".to_owned()], kind).into_keys().map(ToOwned::to_owned).collect()
    }
}

/// How a till differs from what it must have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(super) kind: String,
    pub(super) key: String,
    pub(super) found: Option<String>,
    pub(super) expected: Option<String>,
}

/// Follows a till's records, in the order of their keys, beside the expected ones.
pub(super) struct Comparison<'a> {
    kind: &'a str,
    expected: std::collections::btree_map::IntoIter<&'a str, &'a str>,
    pub(super) equal: u64,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(expected: &'a Expected, scopes: &[String], kind: &'a str) -> Self {
        Self { kind, expected: expected.of(scopes, kind).into_iter(), equal: 0 }
    }

    /// The till's next record.
    pub(super) fn next(&mut self, key: &str, body: &str) -> Result<(), Difference> {
        let expected = self.expected.next();
        if expected == Some((key, body)) {
            self.equal += 1;
            return Ok(());
        }
        let difference = |key: &str, found: Option<&str>, expected: Option<&str>| Difference {
            kind: self.kind.to_owned(),
            key: key.to_owned(),
            found: found.map(ToOwned::to_owned),
            expected: expected.map(ToOwned::to_owned),
        };
        Err(match expected {
            Some((missing, expected)) if missing < key => difference(missing, None, Some(expected)),
            Some((same, expected)) if same == key => difference(key, Some(body), Some(expected)),
            Some(_) | None => difference(key, Some(body), None),
        })
    }

    /// After the till's last record: how many were equal.
    pub(super) fn end(mut self) -> Result<u64, Difference> {
        match self.expected.next() {
            None => Ok(self.equal),
            Some((key, body)) => Err(Difference {
                kind: self.kind.to_owned(),
                key: key.to_owned(),
                found: None,
                expected: Some(body.to_owned()),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(key: &str, cents: u32) -> String {
        format!("{{\"line\":1,\"kind\":\"price\",\"key\":\"{key}\",\"body\":{{\"price_cents\":{cents}}}}}\n")
    }

    fn expected() -> Expected {
        let mut expected = Expected::default();
        expected.send("all", (price("b", 1) + &price("a", 1) + &price("c", 1)).as_bytes()).unwrap();
        expected.send("group-g", (price("b", 2) + &price("a", 2)).as_bytes()).unwrap();
        expected.send("store-1", price("a", 3).as_bytes()).unwrap();
        expected
    }

    fn scopes(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let expected = expected();
        let bodies = |names: &[&str]| expected.of(&scopes(names), "price").into_values().collect::<String>();
        assert_eq!(bodies(&["all"]).matches(":1").count(), 3);
        let store = bodies(&["all", "group-g", "store-1"]);
        assert_eq!(store, r#"{"price_cents":3}{"price_cents":2}{"price_cents":1}"#);
        assert!(expected.of(&scopes(&["all"]), "product").is_empty());
    }

    fn compare(found: &[(&str, u32)]) -> Result<u64, Difference> {
        let expected = expected();
        let scopes = scopes(&["all", "group-g", "store-1"]);
        let mut comparison = Comparison::new(&expected, &scopes, "price");
        for (key, cents) in found {
            comparison.next(key, &format!("{{\"price_cents\":{cents}}}"))?;
        }
        comparison.end()
    }

    #[test]
    fn every_difference_is_found() {
        assert_eq!(compare(&[("a", 3), ("b", 2), ("c", 1)]), Ok(3));
        let of = |found: &[(&str, u32)]| {
            let Difference { key, found, expected, .. } = compare(found).unwrap_err();
            (key, found.is_some(), expected.is_some())
        };
        assert_eq!(of(&[("a", 1), ("b", 2), ("c", 1)]), ("a".into(), true, true), "another body");
        assert_eq!(of(&[("a", 3), ("c", 1)]), ("b".into(), false, true), "one is missing");
        assert_eq!(of(&[("a", 3), ("b", 2)]), ("c".into(), false, true), "the last is missing");
        assert_eq!(
            of(&[("a", 3), ("aa", 1), ("b", 2), ("c", 1)]),
            ("aa".into(), true, false),
            "one too many"
        );
        assert_eq!(
            of(&[("a", 3), ("b", 2), ("c", 1), ("d", 1)]),
            ("d".into(), true, false),
            "one at the end"
        );
    }
}
