//! Stores, groups of stores, and tills.

use std::collections::BTreeSet;

use crate::ctx::{Ctx, Meta};
use crate::decider::{Decider, Rejection};
use crate::ids::{GroupId, PdvId, StoreId};

/// Longest name of a store, group or till, in characters.
pub const NAME_CHARS_MAX: usize = 100;
/// Most groups that one store may be in.
pub const GROUPS_MAX: usize = 32;

/// A name for people: 1 to 100 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Parses a name; spaces around it are dropped.
    ///
    /// # Errors
    /// When nothing is left, it is too long or holds control characters.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars == 0 || chars > NAME_CHARS_MAX || text.chars().any(char::is_control) {
            return Err(Refused::Name);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A Brazilian company number (CNPJ) whose two check digits are right; kept as its 14 characters.
///
/// Since July 2026 the first twelve may also be capital letters; the check digits weigh each character by its
/// ASCII code less 48, modulo 11 (Receita Federal, IN RFB 2.229/2024), which for digits is the old rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cnpj(String);

impl Cnpj {
    /// Parses `12.345.678/0001-95` or the bare 14 characters.
    ///
    /// # Errors
    /// When it has other characters, another length or wrong check digits.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let refused = || Refused::Cnpj { text: text.chars().take(32).filter(|c| !c.is_control()).collect() };
        let bare: String = text.trim().chars().filter(|c| !matches!(c, '.' | '/' | '-')).collect();
        let bytes = bare.as_bytes();
        let shape = bytes.len() == 14
            && bytes[..12].iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
            && bytes[12..].iter().all(u8::is_ascii_digit);
        if !shape || bytes.iter().all(|b| *b == bytes[0]) {
            return Err(refused());
        }
        let right = check_digit(&bytes[..12]) == bytes[12] && check_digit(&bytes[..13]) == bytes[13];
        if right { Ok(Self(bare)) } else { Err(refused()) }
    }

    /// The 14 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_digit(bytes: &[u8]) -> u8 {
    let sum: u32 =
        bytes.iter().rev().zip((2..=9).cycle()).map(|(byte, weight)| u32::from(byte - b'0') * weight).sum();
    match u8::try_from(sum % 11) {
        Ok(rest) if rest >= 2 => b'0' + 11 - rest,
        Ok(_) | Err(_) => b'0',
    }
}

/// What is known of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDetails {
    /// Its name.
    pub name: Name,
    /// Its company number, if given.
    pub cnpj: Option<Cnpj>,
    /// Its time zone, an IANA name that the edge has checked.
    pub zone: String,
    /// The groups it is in.
    pub groups: BTreeSet<GroupId>,
}

/// The rule book of one store.
pub struct Store;

/// What may be asked of a store.
#[derive(Clone, Debug)]
pub enum StoreCommand {
    /// Say what is known of it, new or not.
    Register(StoreDetails),
}

/// What may happen to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// It exists.
    Registered(StoreDetails),
    /// Something known of it changed.
    Changed(StoreDetails),
}

/// Why a registration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name that cannot be used.
    #[error("a name has 1 to 100 characters and no control characters")]
    Name,
    /// A CNPJ that is not one.
    #[error("'{text}' is not a CNPJ: 14 characters whose last two are its check digits")]
    Cnpj {
        /// What was given.
        text: String,
    },
    /// Too many groups.
    #[error("a store is in at most {GROUPS_MAX} groups")]
    Groups,
}

impl Rejection for Refused {
    fn code(&self) -> &'static str {
        match self {
            Self::Name => "registry.name",
            Self::Cnpj { .. } => "registry.cnpj",
            Self::Groups => "registry.groups",
        }
    }
}

impl Decider for Store {
    type Id = StoreId;
    type Command = StoreCommand;
    type Event = StoreEvent;
    type Rejection = Refused;
    type State = Option<StoreDetails>;

    fn decide(state: &Self::State, command: StoreCommand, _: &Ctx) -> Result<Vec<StoreEvent>, Refused> {
        let StoreCommand::Register(details) = command;
        if details.groups.len() > GROUPS_MAX {
            return Err(Refused::Groups);
        }
        Ok(match state {
            None => vec![StoreEvent::Registered(details)],
            Some(known) if *known == details => vec![],
            Some(_) => vec![StoreEvent::Changed(details)],
        })
    }

    fn evolve(state: &mut Self::State, event: &StoreEvent, _: &Meta) {
        match event {
            StoreEvent::Registered(details) | StoreEvent::Changed(details) => *state = Some(details.clone()),
        }
    }
}

/// The rule book of one group.
pub struct Group;

/// What may be asked of a group.
#[derive(Clone, Debug)]
pub enum GroupCommand {
    /// Name it, new or not.
    Register {
        /// Its name.
        name: Name,
    },
}

/// What may happen to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// It exists under this name.
    Registered {
        /// Its name.
        name: Name,
    },
}

impl Decider for Group {
    type Id = GroupId;
    type Command = GroupCommand;
    type Event = GroupEvent;
    type Rejection = Refused;
    type State = Option<Name>;

    fn decide(state: &Self::State, command: GroupCommand, _: &Ctx) -> Result<Vec<GroupEvent>, Refused> {
        let GroupCommand::Register { name } = command;
        Ok(if state.as_ref() == Some(&name) { vec![] } else { vec![GroupEvent::Registered { name }] })
    }

    fn evolve(state: &mut Self::State, event: &GroupEvent, _: &Meta) {
        let GroupEvent::Registered { name } = event;
        *state = Some(name.clone());
    }
}

/// Names one till.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PdvAddress {
    /// Its store.
    pub store: StoreId,
    /// Its own name there.
    pub pdv: PdvId,
}

/// The rule book of one till.
pub struct Pdv;

/// What may be asked of a till's registration.
#[derive(Clone, Debug)]
pub enum PdvCommand {
    /// Say that it exists.
    Register,
}

/// What may happen to a till's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PdvEvent {
    /// It exists.
    Registered,
}

impl Decider for Pdv {
    type Id = PdvAddress;
    type Command = PdvCommand;
    type Event = PdvEvent;
    type Rejection = Refused;
    type State = bool;

    fn decide(state: &bool, _: PdvCommand, _: &Ctx) -> Result<Vec<PdvEvent>, Refused> {
        Ok(if *state { vec![] } else { vec![PdvEvent::Registered] })
    }

    fn evolve(state: &mut bool, event: &PdvEvent, _: &Meta) {
        match event {
            PdvEvent::Registered => *state = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, CommandId, Timestamp};

    fn ctx() -> Ctx {
        Ctx::new(Timestamp::from_micros(1), Actor::new("test"), CommandId::from_key("k").unwrap())
    }

    fn details(name: &str) -> StoreDetails {
        StoreDetails {
            name: Name::parse(name).unwrap(),
            cnpj: None,
            zone: "America/Sao_Paulo".into(),
            groups: BTreeSet::new(),
        }
    }

    #[test]
    fn a_cnpj_is_its_check_digits() {
        // 11.222.333/0001-81 is the number of textbooks; 12.ABC.345/01DE-35 is the tax office's own example.
        for good in ["11.222.333/0001-81", "11222333000181", "12.ABC.345/01DE-35"] {
            assert!(Cnpj::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "11.222.333/0001-82",
            "11.222.333/0001-18",
            "00000000000000",
            "1122233300018",
            "",
            "12.abc.345/01de-35",
        ] {
            assert!(Cnpj::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn registering_again_adds_only_what_changed() {
        let mut state = None;
        let first = Store::decide(&state, StoreCommand::Register(details("Centro")), &ctx()).unwrap();
        assert_eq!(first, [StoreEvent::Registered(details("Centro"))]);
        Store::evolve(&mut state, &first[0], &ctx().meta(0));
        assert_eq!(Store::decide(&state, StoreCommand::Register(details("Centro")), &ctx()), Ok(vec![]));
        assert_eq!(
            Store::decide(&state, StoreCommand::Register(details("Norte")), &ctx()),
            Ok(vec![StoreEvent::Changed(details("Norte"))])
        );
    }

    #[test]
    fn a_store_is_in_a_bounded_number_of_groups() {
        let mut crowded = details("Centro");
        crowded.groups = (0..=GROUPS_MAX).map(|n| GroupId::parse(&format!("g{n}")).unwrap()).collect();
        assert_eq!(Store::decide(&None, StoreCommand::Register(crowded), &ctx()), Err(Refused::Groups));
    }

    #[test]
    fn a_till_is_registered_once() {
        assert_eq!(Pdv::decide(&false, PdvCommand::Register, &ctx()), Ok(vec![PdvEvent::Registered]));
        assert_eq!(Pdv::decide(&true, PdvCommand::Register, &ctx()), Ok(vec![]));
    }

    #[test]
    fn a_group_is_named_once_and_renamed_when_it_changes() {
        let name = Name::parse("Sul").unwrap();
        let register = GroupCommand::Register { name: name.clone() };
        assert_eq!(Group::decide(&None, register.clone(), &ctx()).unwrap().len(), 1);
        assert!(Group::decide(&Some(name), register, &ctx()).unwrap().is_empty());
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(Name::parse("  Loja Três Corações ").unwrap().as_str(), "Loja Três Corações");
        for bad in ["", "   ", "a\nb", &"x".repeat(101)] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
