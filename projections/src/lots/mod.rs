//! Lots: what each is, whom it was sent to, and what became of it at each till.
//!
//! The life of a lot comes from `LOTS` ([`life`]), its outcomes from `PDVS` ([`outcomes`]). The two streams are
//! read apart, so an outcome may be known before its lot is.

mod arrival;
mod life;
mod outcomes;
mod queries;
mod states;
#[cfg(test)]
mod tests;

use malote_domain::{Cursor, Fact, Recorded};
use sqlx::AnyConnection;

pub use arrival::{Arrival, ArrivalFilter, Problem};
pub use queries::{LotFilter, LotView, OpenLot, OpenLots, ReleasedLot, ReleasedStore, Totals};
pub use states::{ArrivalState, LotState};

use crate::db::DbError;
use crate::runner::misplaced;

pub(crate) const NAME: &str = "lots";
pub(crate) const VERSION: u32 = 1;
pub(crate) const SCHEMA: &str = include_str!("schema.sql");
/// The stream of the lots' lives.
pub const LOTS: &str = "LOTS";
/// The stream of what tills report.
pub const PDVS: &str = "PDVS";

/// The rows that a batch touches.
pub(crate) struct Fold {
    life: life::Fold,
    outcomes: outcomes::Fold,
}

impl Fold {
    pub(crate) async fn load(conn: &mut AnyConnection, facts: &[&Recorded<Fact>]) -> Result<Self, DbError> {
        Ok(Self {
            life: life::Fold::load(conn, facts).await?,
            outcomes: outcomes::Fold::load(conn, facts).await?,
        })
    }

    pub(crate) fn take(&mut self, fact: &Recorded<Fact>) -> Result<(), String> {
        match &fact.event {
            Fact::Lot(lot, event) => self.life.take(fact, *lot, event),
            Fact::Till(till, event) => self.outcomes.take(fact, till, event),
            Fact::Store(..) | Fact::Group(..) | Fact::Pdv(..) => Err(misplaced(&fact.event)),
        }
    }

    pub(crate) async fn write(self, conn: &mut AnyConnection) -> Result<(), DbError> {
        self.life.write(conn).await?;
        self.outcomes.write(conn).await
    }
}

/// Takes out what came of a stream after a place.
pub(crate) async fn rewind(
    conn: &mut AnyConnection,
    stream: &str,
    to: Option<Cursor>,
) -> Result<(), DbError> {
    let to = to.map_or(0, |cursor| cursor.sequence);
    match stream {
        LOTS => life::rewind(conn, to).await,
        PDVS => outcomes::rewind(conn, to).await,
        _ => Ok(()),
    }
}
