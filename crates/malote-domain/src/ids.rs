//! Names and ids, each its own type. What comes from outside is parsed here, once.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Longest token (store, PDV, group, kind) in bytes.
pub const TOKEN_BYTES_MAX: usize = 64;
/// Longest record key in bytes.
pub const KEY_BYTES_MAX: usize = 256;

/// A name from outside that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 1 to 64 of the characters that a subject may hold.
    #[error("{what} '{text}' is not 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'")]
    Token {
        /// What was being read.
        what: &'static str,
        /// The text, shortened.
        text: String,
    },
    /// A record key that is empty, too long or holds control characters.
    #[error("key '{text}' is not 1 to 256 bytes of text without control characters")]
    Key {
        /// The text, shortened.
        text: String,
    },
    /// A scope that is not `all`, `group-<g>` or `store-<s>`.
    #[error("scope '{text}' is not 'all', 'group-<group>' or 'store-<store>'")]
    Scope {
        /// The text, shortened.
        text: String,
    },
    /// Not a UUID.
    #[error("{what} '{text}' is not a UUID")]
    Uuid {
        /// What was being read.
        what: &'static str,
        /// The text, shortened.
        text: String,
    },
    /// An idempotency key that is empty or too long.
    #[error("an idempotency key has 1 to 255 characters")]
    CommandKey,
}

/// Text for an error message: bounded, and without control characters that could forge a log line.
fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn is_token(text: &str) -> bool {
    (1..=TOKEN_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Parses the name.
            ///
            /// # Errors
            /// When it is not 1 to 64 of `A-Z a-z 0-9 _ -`.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                if is_token(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(IdError::Token { what: $what, text: shown(text) })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

token!(
    /// A store (*loja*).
    StoreId,
    "store"
);
token!(
    /// A till (*PDV*), unique within its store.
    PdvId,
    "PDV"
);
token!(
    /// A set of stores.
    GroupId,
    "group"
);
token!(
    /// A kind of record: `product`, `price`, … An open set.
    Kind,
    "kind"
);

/// The back office's own key of a record: any text of up to 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(String);

impl RecordKey {
    /// Parses a key.
    ///
    /// # Errors
    /// When it is empty, longer than 256 bytes or holds control characters.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if Self::is_valid(text) { Ok(Self(text.to_owned())) } else { Err(IdError::Key { text: shown(text) }) }
    }

    /// Whether the text can be a key; for loops that must not copy.
    pub fn is_valid(text: &str) -> bool {
        (1..=KEY_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whom a lot is for (*compartilhamento*).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Every store.
    All,
    /// The stores of a group.
    Group(GroupId),
    /// One store.
    Store(StoreId),
}

impl Scope {
    /// Parses `all`, `group-<g>` or `store-<s>`.
    ///
    /// # Errors
    /// When it is none of these, or the name in it is not a token.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(group) = text.strip_prefix("group-") {
            return Ok(Self::Group(GroupId::parse(group)?));
        }
        if let Some(store) = text.strip_prefix("store-") {
            return Ok(Self::Store(StoreId::parse(store)?));
        }
        Err(IdError::Scope { text: shown(text) })
    }

    /// Its weight where scopes overlay: a store's own record covers a group's, a group's covers everybody's.
    pub const fn rank(&self) -> u8 {
        match self {
            Self::All => 0,
            Self::Group(_) => 1,
            Self::Store(_) => 2,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Group(group) => write!(f, "group-{group}"),
            Self::Store(store) => write!(f, "store-{store}"),
        }
    }
}

impl FromStr for Scope {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID inside.
            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// Parses a UUID.
            ///
            /// # Errors
            /// When the text is not one.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| IdError::Uuid { what: $what, text: shown(text) })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }
    };
}

uuid_id!(
    /// A lot (*lote*): derived from the command that opens it, so that opening twice gives one lot.
    LotId,
    "lot"
);
uuid_id!(
    /// An event, derived from its command and its place among that command's events.
    EventId,
    "event"
);
uuid_id!(
    /// A command: random, made by who asks; the `Idempotency-Key` at the door.
    CommandId,
    "command"
);

impl CommandId {
    /// Reads an idempotency key: a UUID as it is, any other text of 1 to 255 bytes by its hash.
    ///
    /// # Errors
    /// When the text is empty or longer.
    pub fn from_key(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || text.len() > 255 {
            return Err(IdError::CommandKey);
        }
        Ok(Uuid::parse_str(text)
            .map_or_else(|_| Self(Uuid::new_v8(first_16(blake3::hash(text.as_bytes())))), Self))
    }

    /// The id of this command's event number `index`. A retried command therefore makes the same ids, and who
    /// does not know the command cannot guess them.
    pub fn event(self, index: usize) -> EventId {
        EventId(self.derive(b"event", &(index as u64).to_le_bytes()))
    }

    /// The lot that this command opens.
    pub fn lot(self) -> LotId {
        LotId(self.derive(b"lot", b""))
    }

    /// Another command that follows from this one for a given purpose, the same each time.
    #[must_use]
    pub fn follow_up(self, purpose: &str) -> Self {
        Self(self.derive(b"command", purpose.as_bytes()))
    }

    /// A UUIDv7 that keeps the command's own time when it has one, so that ids still sort by time.
    fn derive(self, domain: &[u8], data: &[u8]) -> Uuid {
        let mut hasher = blake3::Hasher::new();
        hasher.update(domain);
        hasher.update(self.0.as_bytes());
        hasher.update(data);
        let mut bytes = first_16(hasher.finalize());
        if self.0.get_version_num() == 7 {
            bytes[..6].copy_from_slice(&self.0.as_bytes()[..6]);
            bytes[6] = 0x70 | (bytes[6] & 0x0f);
            bytes[8] = 0x80 | (bytes[8] & 0x3f);
            return Uuid::from_bytes(bytes);
        }
        Uuid::new_v8(bytes)
    }
}

fn first_16(hash: blake3::Hash) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes
}

/// Who asked: a person, a token or a part of malote, as text of up to 128 bytes for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// An actor's name; longer text is cut, control characters are replaced.
    pub fn new(text: &str) -> Self {
        let mut name = shown(text);
        while name.len() > 128 {
            name.pop();
        }
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_hold_what_a_subject_may_hold() {
        for good in ["330", "a", "Loja_01-b", &"x".repeat(64)] {
            assert!(StoreId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "a b", "*", ">", "ã", "a/b", "..", &"x".repeat(65), "a\n"] {
            assert!(StoreId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_any_text_without_control_characters() {
        assert!(RecordKey::parse("Café 500 g / cx 12").is_ok());
        for bad in ["", "a\tb", "a\0", &"x".repeat(257)] {
            assert!(RecordKey::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_print_as_they_parse() {
        for text in ["all", "group-sul", "store-330"] {
            assert_eq!(Scope::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "everyone", "group-", "store-a.b", "All"] {
            assert!(Scope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn event_ids_repeat_for_a_repeated_command_and_differ_otherwise() {
        let command = CommandId::from_key("0197f0aa-0000-7000-8000-000000000001").unwrap();
        let other = CommandId::from_key("0197f0aa-0000-7000-8000-000000000002").unwrap();
        assert_eq!(command.event(0), command.event(0));
        assert_ne!(command.event(0), command.event(1));
        assert_ne!(command.event(0), other.event(0));
        assert_eq!(command.lot().uuid().get_version_num(), 7);
        assert_eq!(command.lot().to_string()[..8], command.to_string()[..8], "keeps the command's time");
    }

    #[test]
    fn idempotency_keys_may_be_any_text() {
        assert_eq!(CommandId::from_key("price run 7").unwrap(), CommandId::from_key("price run 7").unwrap());
        assert!(CommandId::from_key("").is_err());
        assert!(CommandId::from_key(&"k".repeat(256)).is_err());
    }

    #[test]
    fn messages_about_hostile_names_stay_on_one_line() {
        let error = StoreId::parse("a\nERROR forged").unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
    }
}
