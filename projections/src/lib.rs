//! malote's read side: events of the streams folded into SQL tables, and the questions that are asked of them.
//!
//! [`Db`] opens the database. The process that reads the streams hands batches of [`malote_domain::Read`] to
//! [`Db::apply`], which folds them and its own checkpoint into the tables in one transaction, so every event
//! counts exactly once whatever is delivered again. Each domain has a folder with its tables (`schema.sql`),
//! its fold (`mod.rs`) and its questions (`queries.rs`). Start reading at [`runner`].

pub mod catalogue;
pub mod db;
pub mod lots;
pub mod policies;
pub mod registry;
pub mod runner;
mod sql;
#[cfg(test)]
mod testing;

pub use catalogue::{CatalogueLoad, CatalogueLot, CatalogueRow};
pub use db::{Db, DbError, OpenError};
pub use runner::{Applied, ApplyError, Parked};

/// Most rows that one question answers with; greater limits are cut to it.
pub const PAGE_MAX: u32 = 1_000;

/// A set of tables built from streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Stores, groups and tills, from the stream `REGISTRY`.
    Registry,
    /// Lots and what became of them at each till, from the streams `LOTS` and `PDVS`.
    Lots,
    /// What the back office has sent, record by record, from `LOTS` and the chunks of its lots.
    Catalogue,
}

impl Projection {
    /// All of them, in the order in which they are best caught up.
    pub const ALL: [Self; 3] = [Self::Registry, Self::Lots, Self::Catalogue];

    /// Its name in checkpoints, metrics and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registry => registry::NAME,
            Self::Lots => lots::NAME,
            Self::Catalogue => catalogue::NAME,
        }
    }

    /// The version of its tables; tables of another version are built again from the streams.
    pub const fn version(self) -> u32 {
        match self {
            Self::Registry => registry::VERSION,
            Self::Lots => lots::VERSION,
            Self::Catalogue => catalogue::VERSION,
        }
    }

    /// The statements that make its tables.
    pub const fn schema(self) -> &'static str {
        match self {
            Self::Registry => registry::SCHEMA,
            Self::Lots => lots::SCHEMA,
            Self::Catalogue => catalogue::SCHEMA,
        }
    }
}

impl std::fmt::Display for Projection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
