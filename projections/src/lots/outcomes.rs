//! What became of each lot at each till: the rows of `PDVS`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use malote_domain::pdvs::{Event, NAMED_PROBLEMS_MAX, Quarantined};
use malote_domain::registry::PdvAddress;
use malote_domain::{Fact, LotId, PdvId, Recorded, StoreId};
use sqlx::AnyConnection;

use super::states::ArrivalState;
use crate::db::DbError;
use crate::sql::{self, Binds, Columns, Rows, position};

type Key = (LotId, PdvAddress);

/// A row of `lot_pdv`.
struct Outcome {
    state: ArrivalState,
    upserted: i64,
    deleted: i64,
    quarantined: i64,
    reason: Option<String>,
    attempt: i64,
    next_try_at: Option<i64>,
    at: i64,
    took_ms: Option<i64>,
    notice: i64,
    seq: i64,
    problems: Vec<Quarantined>,
}

/// The outcomes of a batch.
pub(super) struct Fold {
    /// State and message of the rows as they are in the tables.
    before: HashMap<Key, (ArrivalState, i64)>,
    after: BTreeMap<Key, Outcome>,
    seen: BTreeMap<PdvAddress, (i64, i64, i64)>,
}

fn lot_of(event: &Event) -> LotId {
    match event {
        Event::LotApplied { lot, .. } | Event::LotSuperseded { lot, .. } | Event::LotFailed { lot, .. } => {
            *lot
        }
    }
}

impl Fold {
    pub(super) async fn load(conn: &mut AnyConnection, facts: &[&Recorded<Fact>]) -> Result<Self, DbError> {
        const KNOWN: Rows = Rows {
            before: "SELECT lot, store, pdv, state, seq FROM lot_pdv WHERE (lot, store, pdv) IN (VALUES",
            columns: 3,
            after: ")",
            doing: "reading outcomes",
        };
        let keys: BTreeSet<Key> = facts
            .iter()
            .filter_map(|fact| match &fact.event {
                Fact::Till(till, event) => Some((lot_of(event), till.clone())),
                Fact::Lot(..) | Fact::Store(..) | Fact::Group(..) | Fact::Pdv(..) => None,
            })
            .collect();
        let keys: Vec<Key> = keys.into_iter().collect();
        let mut before = HashMap::new();
        for row in KNOWN.read(conn, &keys, bind_key).await? {
            let row = Columns(&row);
            let lot = row.parse("lot", |text| LotId::parse(text).ok())?;
            let store = row.parse("store", |text| StoreId::parse(text).ok())?;
            let pdv = row.parse("pdv", |text| PdvId::parse(text).ok())?;
            let known = (row.parse("state", ArrivalState::parse)?, row.int("seq")?);
            before.insert((lot, PdvAddress { store, pdv }), known);
        }
        Ok(Self { before, after: BTreeMap::new(), seen: BTreeMap::new() })
    }

    pub(super) fn take(
        &mut self,
        fact: &Recorded<Fact>,
        till: &PdvAddress,
        event: &Event,
    ) -> Result<(), String> {
        let outcome = Outcome::of(fact, event)?;
        let seen = self.seen.entry(till.clone()).or_insert((0, 0, 0));
        *seen = (seen.0.max(outcome.notice), outcome.at, outcome.seq);
        let key = (lot_of(event), till.clone());
        let known = self.after.get(&key).map(|row| (row.state, row.seq));
        // A report delivered again does not set the row back, and a late failure does not undo what is done.
        let stale = known.or_else(|| self.before.get(&key).copied()).is_some_and(|(state, seq)| {
            seq > outcome.seq || (outcome.state == ArrivalState::Failed && state != ArrivalState::Failed)
        });
        if !stale {
            self.after.insert(key, outcome);
        }
        Ok(())
    }

    pub(super) async fn write(self, conn: &mut AnyConnection) -> Result<(), DbError> {
        const OUTCOME: Rows = Rows {
            before: "INSERT INTO lot_pdv (lot, store, pdv, state, upserted, deleted, quarantined, reason, attempt, \
                     next_try_at, at, took_ms, notice, seq) VALUES",
            columns: 14,
            after: "ON CONFLICT (lot, store, pdv) DO UPDATE SET state = excluded.state, \
                    upserted = excluded.upserted, deleted = excluded.deleted, \
                    quarantined = excluded.quarantined, reason = excluded.reason, attempt = excluded.attempt, \
                    next_try_at = excluded.next_try_at, at = excluded.at, took_ms = excluded.took_ms, \
                    notice = excluded.notice, seq = excluded.seq",
            doing: "writing outcomes",
        };
        const FORGET: Rows = Rows {
            before: "DELETE FROM lot_problem WHERE (lot, store, pdv) IN (VALUES",
            columns: 3,
            after: ")",
            doing: "writing quarantined records",
        };
        const PROBLEM: Rows = Rows {
            before: "INSERT INTO lot_problem (lot, store, pdv, n, kind, rec_key, reason) VALUES",
            columns: 7,
            after: "",
            doing: "writing quarantined records",
        };
        const SEEN: Rows = Rows {
            before: "INSERT INTO pdv_seen (store, pdv, notice, at, seq) VALUES",
            columns: 5,
            after: "ON CONFLICT (store, pdv) DO UPDATE SET notice = CASE WHEN excluded.notice > pdv_seen.notice \
                    THEN excluded.notice ELSE pdv_seen.notice END, at = excluded.at, seq = excluded.seq \
                    WHERE excluded.seq >= pdv_seen.seq",
            doing: "writing what tills have seen",
        };
        const TOTAL: Rows = Rows {
            before: "INSERT INTO lot_total (lot, state, pdvs) VALUES",
            columns: 3,
            after: "ON CONFLICT (lot, state) DO UPDATE SET pdvs = lot_total.pdvs + excluded.pdvs",
            doing: "counting outcomes",
        };
        // Who starts from nothing has no row for a state that nobody is in any more, so none is left behind.
        const NOBODY: Rows = Rows {
            before: "DELETE FROM lot_total WHERE pdvs = 0 AND (lot, state) IN (VALUES",
            columns: 2,
            after: ")",
            doing: "counting outcomes",
        };
        let mut totals: BTreeMap<(LotId, &'static str), i64> = BTreeMap::new();
        for (key, row) in &self.after {
            if let Some((state, _)) = self.before.get(key) {
                *totals.entry((key.0, state.as_str())).or_default() -= 1;
            }
            *totals.entry((key.0, row.state.as_str())).or_default() += 1;
        }
        let totals: Vec<_> = totals.into_iter().filter(|(_, change)| *change != 0).collect();
        let rows: Vec<(Key, Outcome)> = self.after.into_iter().collect();
        OUTCOME.write(conn, &rows, |binds, (key, row)| row.bind(key, binds)).await?;
        let known: Vec<Key> = rows
            .iter()
            .filter(|(key, _)| self.before.contains_key(key))
            .map(|(key, _)| key.clone())
            .collect();
        FORGET.write(conn, &known, bind_key).await?;
        let problems: Vec<_> = rows
            .iter()
            .flat_map(|(key, row)| (0_i64..).zip(&row.problems).map(move |(n, problem)| (key, n, problem)))
            .collect();
        PROBLEM
            .write(conn, &problems, |binds, (key, n, problem)| {
                bind_key(binds, key);
                binds.int(*n).text(problem.kind.as_str()).text(&problem.key).text(&problem.reason)
            })
            .await?;
        let seen: Vec<_> = self.seen.into_iter().collect();
        SEEN.write(conn, &seen, |binds, (till, (notice, at, seq))| {
            binds.text(till.store.as_str()).text(till.pdv.as_str()).int(*notice).int(*at).int(*seq)
        })
        .await?;
        TOTAL
            .write(conn, &totals, |binds, ((lot, state), change)| {
                binds.text(&lot.to_string()).text(state).int(*change)
            })
            .await?;
        let fewer: Vec<_> = totals.iter().filter(|(_, change)| *change < 0).map(|(at, _)| *at).collect();
        NOBODY.write(conn, &fewer, |binds, (lot, state)| binds.text(&lot.to_string()).text(state)).await?;
        Ok(())
    }
}

fn bind_key<'b>(binds: &'b mut Binds, (lot, till): &Key) -> &'b mut Binds {
    binds.text(&lot.to_string()).text(till.store.as_str()).text(till.pdv.as_str())
}

impl Outcome {
    fn of(fact: &Recorded<Fact>, event: &Event) -> Result<Self, String> {
        let number = |count: u64| i64::try_from(count).map_err(|_| format!("{count} is no count of a till"));
        let blank = |state, notice| {
            Ok::<_, String>(Self {
                state,
                upserted: 0,
                deleted: 0,
                quarantined: 0,
                reason: None,
                attempt: 0,
                next_try_at: None,
                at: fact.meta.occurred_at.micros(),
                took_ms: None,
                notice: number(notice)?,
                seq: position(fact.sequence),
                problems: vec![],
            })
        };
        match event {
            Event::LotApplied { lot: _, notice, upserted, deleted, quarantined, problems, took_ms } => {
                let clean = *quarantined == 0 && problems.is_empty();
                let state = if clean { ArrivalState::Applied } else { ArrivalState::AppliedWithErrors };
                Ok(Self {
                    upserted: number(*upserted)?,
                    deleted: number(*deleted)?,
                    quarantined: number(*quarantined)?,
                    took_ms: Some(number(*took_ms)?),
                    problems: problems.iter().take(NAMED_PROBLEMS_MAX).cloned().collect(),
                    ..blank(state, *notice)?
                })
            }
            Event::LotSuperseded { lot: _, notice, by } => Ok(Self {
                reason: Some(format!("replaced by lot {by}")),
                ..blank(ArrivalState::Superseded, *notice)?
            }),
            Event::LotFailed { lot: _, notice, reason, attempt, next_try_at } => Ok(Self {
                reason: Some(reason.clone()),
                attempt: i64::from(*attempt),
                next_try_at: Some(next_try_at.micros()),
                ..blank(ArrivalState::Failed, *notice)?
            }),
        }
    }

    fn bind<'b>(&self, key: &Key, binds: &'b mut Binds) -> &'b mut Binds {
        bind_key(binds, key);
        binds.text(self.state.as_str()).int(self.upserted).int(self.deleted).int(self.quarantined);
        binds.opt_text(self.reason.as_deref()).int(self.attempt).opt_int(self.next_try_at).int(self.at);
        binds.opt_int(self.took_ms).int(self.notice).int(self.seq)
    }
}

/// Takes out what tills reported after a place of `PDVS`. They send it again: a till that finds the hub behind
/// sends everything since.
pub(super) async fn rewind(conn: &mut AnyConnection, to: u64) -> Result<(), DbError> {
    let undo = [
        "DELETE FROM lot_problem WHERE EXISTS (SELECT 1 FROM lot_pdv p WHERE p.lot = lot_problem.lot \
         AND p.store = lot_problem.store AND p.pdv = lot_problem.pdv AND p.seq > $1)",
        "DELETE FROM lot_pdv WHERE seq > $1",
        "DELETE FROM pdv_seen WHERE seq > $1",
    ];
    let settle = [
        "DELETE FROM lot_total",
        "INSERT INTO lot_total (lot, state, pdvs) SELECT lot, state, COUNT(*) FROM lot_pdv GROUP BY lot, state",
        "INSERT INTO pdv_seen (store, pdv, notice, at, seq) \
         SELECT store, pdv, MAX(notice), MAX(at), MAX(seq) FROM lot_pdv p WHERE NOT EXISTS \
         (SELECT 1 FROM pdv_seen n WHERE n.store = p.store AND n.pdv = p.pdv) GROUP BY store, pdv",
    ];
    sql::undo_after(conn, to, &undo, &settle, "setting outcomes back").await
}
