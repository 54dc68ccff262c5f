//! malote's hub: commands in, notices out, queries answered.
//!
//! Entry points: [`Hub::start`] puts the parts together; [`lots`] is what senders ask for; [`policies`] is what
//! follows from events; [`projector`] feeds the read models; [`http`] is the door. Nothing here writes a read model
//! except through `malote-projections`, and nothing decides except through `malote-domain`.

mod app;
mod beats;
mod clock;
mod filling;
mod heal;
mod http;
mod intake;
mod lots;
mod metrics;
mod policies;
mod preflight;
mod projector;
mod registry;
mod sessions;
mod snapshots;
mod validate;
mod zones;

pub use app::{Config, Hub, Limits, StartError};
pub use heal::HealError;
pub use preflight::PreflightError;
