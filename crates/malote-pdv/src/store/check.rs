//! What a record must be for the till to take it. The hub has checked it against its schema; this is the last look
//! at what the till itself relies on, cheap enough for a million records.

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, Visitor};

/// More brackets than any sensible record has; only then is the nesting looked at.
const BRACKETS_PLAIN: usize = 64;

/// What is asked of a kind's bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    Product,
    Price,
    Any,
}

#[derive(serde::Deserialize)]
struct Product {
    #[serde(rename = "description")]
    _description: Text,
}

#[derive(serde::Deserialize)]
struct Price {
    #[serde(rename = "price_cents")]
    _price_cents: Cents,
}

struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl Visitor<'_> for Seen {
            type Value = Text;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Text, E> {
                Ok(Text)
            }
        }
        deserializer.deserialize_str(Seen)
    }
}

struct Cents;

impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cents = u64::deserialize(deserializer)?;
        i64::try_from(cents).map_err(|_| D::Error::custom("more cents than any price has"))?;
        Ok(Self)
    }
}

impl Check {
    pub(super) fn of(kind: &str) -> Self {
        match kind {
            "product" => Self::Product,
            "price" => Self::Price,
            _ => Self::Any,
        }
    }

    /// The body as text, or why it cannot be taken, for people.
    pub(super) fn body(self, body: &[u8]) -> Result<&str, String> {
        let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err("the body is not a JSON object".to_owned());
        }
        let read = match self {
            Self::Product => serde_json::from_str::<Product>(text).map(drop),
            Self::Price => serde_json::from_str::<Price>(text).map(drop),
            Self::Any => serde_json::from_str::<IgnoredAny>(text).map(drop),
        };
        read.map_err(|error| shortened(&error.to_string()))?;
        let brackets = body.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
        if brackets > BRACKETS_PLAIN {
            // SQLite's JSON functions refuse what is nested too deep; so does this reading, much earlier.
            serde_json::from_str::<serde_json::Value>(text).map_err(|error| shortened(&error.to_string()))?;
        }
        Ok(text)
    }
}

/// Text from outside, cut to what a report has room for and without characters that could forge a log line.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_till_relies_on_is_looked_at() {
        for (check, good) in [
            (Check::Product, r#"{"description":"Caf\u00e9","x":[1,{"y":null}]}"#),
            (Check::Product, " {\"description\":\"\"} "),
            (Check::Price, r#"{"price_cents":0}"#),
            (Check::Price, r#"{"price_cents":9223372036854775807,"promo_price_cents":1}"#),
            (Check::Any, r#"{"anything":true}"#),
            (Check::Any, "{}"),
        ] {
            assert_eq!(check.body(good.as_bytes()), Ok(good));
        }
        for (check, bad) in [
            (Check::Product, r#"{"description":7}"#),
            (Check::Product, r#"{}"#),
            (Check::Product, r#"["Café"]"#),
            (Check::Price, r#"{"price_cents":-1}"#),
            (Check::Price, r#"{"price_cents":1.5}"#),
            (Check::Price, r#"{"price_cents":"100"}"#),
            (Check::Price, r#"{"price_cents":9223372036854775808}"#),
            (Check::Any, "7"),
            (Check::Any, "{"),
            (Check::Any, "{} {}"),
            (Check::Any, ""),
        ] {
            assert!(check.body(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Check::Any.body(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_deep_body_is_refused_before_sqlite_meets_it() {
        let deep = format!("{{\"description\":\"\",\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(Check::Product.body(deep.as_bytes()).is_err());
        let wide = format!("{{\"description\":\"\",\"x\":[{}[]]}}", "[],".repeat(5000));
        assert!(Check::Product.body(wide.as_bytes()).is_ok());
    }
}
