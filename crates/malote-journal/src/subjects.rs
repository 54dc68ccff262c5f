//! Every subject that malote uses, in one place. Tokens are parsed before they get here, so none can hold a dot,
//! a wildcard or a space.

use malote_domain::registry::PdvAddress;
use malote_domain::{GroupId, LotId, Scope, StoreId};

/// Stream of the lots' life cycle.
pub const LOTS: &str = "LOTS";
/// Stream of the lots' chunks.
pub const LOTDATA: &str = "LOTDATA";
/// Stream of what tills report.
pub const PDVS: &str = "PDVS";
/// Stream of stores, groups and tills.
pub const REGISTRY: &str = "REGISTRY";
/// Stream of scheduled messages.
pub const TIMERS: &str = "TIMERS";

/// A store's own stream of notices.
pub fn store_stream(store: &StoreId) -> String {
    format!("STORE-{store}")
}

/// A lot's life.
pub fn lot(scope: &Scope, lot: LotId) -> String {
    format!("lots.{scope}.{lot}")
}

/// The lives of all lots for a scope.
pub fn lots_of(scope: &Scope) -> String {
    format!("lots.{scope}.*")
}

/// A lot's life when its scope is not known.
pub fn lot_any_scope(lot: LotId) -> String {
    format!("lots.*.{lot}")
}

/// One chunk of a lot.
pub fn chunk(scope: &Scope, lot: LotId, number: u32) -> String {
    format!("lotdata.{scope}.{lot}.{number}")
}

/// All chunks of a lot.
pub fn chunks(scope: &Scope, lot: LotId) -> String {
    format!("lotdata.{scope}.{lot}.*")
}

/// A store's notices about lots.
pub fn lot_notice(store: &StoreId) -> String {
    format!("stores.{store}.lot")
}

/// A store's notices about its groups.
pub fn groups_notice(store: &StoreId) -> String {
    format!("stores.{store}.groups")
}

/// All notices of a store.
pub fn store_notices(store: &StoreId) -> String {
    format!("stores.{store}.>")
}

/// What a till reports.
pub fn till(address: &PdvAddress) -> String {
    format!("pdvs.{}.{}", address.store, address.pdv)
}

/// A till's signs of life: plain messages, not stored.
pub fn beat(address: &PdvAddress) -> String {
    format!("beats.{}.{}", address.store, address.pdv)
}

/// All signs of life.
pub const BEATS: &str = "beats.*.*";

/// A store's registration.
pub fn store(store: &StoreId) -> String {
    format!("registry.store.{store}")
}

/// A group's registration.
pub fn group(group: &GroupId) -> String {
    format!("registry.group.{group}")
}

/// A till's registration.
pub fn pdv(address: &PdvAddress) -> String {
    format!("registry.pdv.{}.{}", address.store, address.pdv)
}

/// The schedule of a lot's lease.
pub fn lease_timer(lot: LotId) -> String {
    format!("timers.at.lease.{lot}")
}

/// What arrives when a lot's lease has run out.
pub fn lease_fired(lot: LotId) -> String {
    format!("timers.fired.lease.{lot}")
}

/// The schedule of a lot's next wave.
pub fn activation_timer(lot: LotId) -> String {
    format!("timers.at.activate.{lot}")
}

/// What arrives when the next wave's hour has come.
pub fn activation_fired(lot: LotId) -> String {
    format!("timers.fired.activate.{lot}")
}

/// Everything that arrives when its hour has come.
pub const TIMERS_FIRED: &str = "timers.fired.>";
