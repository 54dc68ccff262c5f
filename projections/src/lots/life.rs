//! From opened to released: the rows of `LOTS`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use malote_domain::lots::{Activation, Event, Manifest, Mode, Terms};
use malote_domain::{Fact, LotId, Recorded, StoreId};
use sqlx::AnyConnection;

use super::states::LotState;
use crate::db::DbError;
use crate::sql::{self, Binds, Columns, Rows, position};

/// A row of `lot`.
#[derive(Clone)]
struct LotRow {
    scope: String,
    mode: &'static str,
    strict: bool,
    state: LotState,
    opened_at: i64,
    opened_by: String,
    closed_at: Option<i64>,
    released_at: Option<i64>,
    activate_at: Option<String>,
    lease_seconds: i64,
    chunks: i64,
    records: i64,
    bytes: i64,
    digest: Option<String>,
    reason: Option<String>,
    as_of: Option<i64>,
    version: Option<i64>,
    stores: i64,
    correlation: String,
    opened_seq: i64,
    closed_seq: Option<i64>,
    complete_seq: Option<i64>,
    ended_seq: Option<i64>,
}

const COLUMNS: usize = 24;
const INSERT: Rows = Rows {
    before: "INSERT INTO lot (lot, scope, mode, strict, state, opened_at, opened_by, closed_at, released_at, \
             activate_at, lease_seconds, chunks, records, bytes, digest, reason, as_of, version, stores, \
             correlation, opened_seq, closed_seq, complete_seq, ended_seq) VALUES",
    columns: COLUMNS,
    after: "ON CONFLICT (lot) DO UPDATE SET state = excluded.state, closed_at = excluded.closed_at, \
            released_at = excluded.released_at, chunks = excluded.chunks, records = excluded.records, \
            bytes = excluded.bytes, digest = excluded.digest, reason = excluded.reason, \
            version = excluded.version, closed_seq = excluded.closed_seq, \
            complete_seq = excluded.complete_seq, ended_seq = excluded.ended_seq",
    doing: "writing lots",
};
const SELECT: Rows = Rows {
    before: "SELECT * FROM lot WHERE (lot) IN (VALUES",
    columns: 1,
    after: ")",
    doing: "reading lots",
};

/// The lots of a batch, as they were and as they become.
pub(super) struct Fold {
    lots: HashMap<LotId, LotRow>,
    touched: BTreeSet<LotId>,
    kinds: BTreeMap<(LotId, String), i64>,
    stores: BTreeMap<(LotId, StoreId), (i64, i64)>,
}

impl Fold {
    pub(super) async fn load(conn: &mut AnyConnection, facts: &[&Recorded<Fact>]) -> Result<Self, DbError> {
        let ids: BTreeSet<LotId> = facts
            .iter()
            .filter_map(|fact| match &fact.event {
                Fact::Lot(lot, _) => Some(*lot),
                Fact::Store(..) | Fact::Group(..) | Fact::Pdv(..) | Fact::Till(..) => None,
            })
            .collect();
        let ids: Vec<LotId> = ids.into_iter().collect();
        let mut lots = HashMap::new();
        for row in SELECT.read(conn, &ids, |binds, lot| binds.text(&lot.to_string())).await? {
            let row = Columns(&row);
            lots.insert(row.parse("lot", |text| LotId::parse(text).ok())?, LotRow::read(&row)?);
        }
        Ok(Self { lots, touched: BTreeSet::new(), kinds: BTreeMap::new(), stores: BTreeMap::new() })
    }

    pub(super) fn take(&mut self, fact: &Recorded<Fact>, lot: LotId, event: &Event) -> Result<(), String> {
        let seq = position(fact.sequence);
        let at = fact.meta.occurred_at.micros();
        if let Event::Opened(terms) = event {
            // What is known already is a fact delivered again: later facts have moved the row on since.
            if let std::collections::hash_map::Entry::Vacant(entry) = self.lots.entry(lot) {
                entry.insert(LotRow::opened(fact, terms));
                self.kinds.extend(terms.kinds.iter().map(|kind| ((lot, kind.as_str().to_owned()), 0)));
                self.touched.insert(lot);
            }
            return Ok(());
        }
        let row = self.lots.get_mut(&lot).ok_or("the lot was never opened")?;
        match event {
            Event::Opened(_) => {}
            Event::Closed(manifest) => {
                let sums = Sums::of(manifest)?;
                (row.closed_at, row.closed_seq) = (Some(at), Some(seq));
                (row.chunks, row.records, row.bytes) = (i64::from(manifest.chunks), sums.records, sums.bytes);
                row.digest = manifest.digest.map(|digest| digest.to_string());
                self.kinds.extend(sums.kinds.into_iter().map(|(kind, count)| ((lot, kind), count)));
            }
            Event::Aborted(reason) => {
                row.reason = Some(reason.to_string());
                row.ended_seq = Some(seq);
            }
            Event::Recalled { reason } => {
                row.reason = Some(reason.clone());
                row.ended_seq = Some(seq);
            }
            Event::Released { stores, last } => {
                if row.version.is_none_or(|version| version > seq) {
                    (row.version, row.released_at) = (Some(seq), Some(at));
                }
                if *last {
                    row.complete_seq = Some(seq);
                }
                for store in stores {
                    self.stores.entry((lot, store.clone())).or_insert((seq, at));
                }
            }
        }
        row.state = row.state_now();
        self.touched.insert(lot);
        Ok(())
    }

    pub(super) async fn write(self, conn: &mut AnyConnection) -> Result<(), DbError> {
        const KIND: Rows = Rows {
            before: "INSERT INTO lot_kind (lot, kind, records) VALUES",
            columns: 3,
            after: "ON CONFLICT (lot, kind) DO UPDATE SET records = excluded.records",
            doing: "writing a lot's kinds",
        };
        const STORE: Rows = Rows {
            before: "INSERT INTO lot_store (lot, store, version, released_at) VALUES",
            columns: 4,
            after: "ON CONFLICT (lot, store) DO NOTHING",
            doing: "writing a lot's stores",
        };
        let rows: Vec<(String, &LotRow)> = self
            .touched
            .iter()
            .filter_map(|lot| self.lots.get(lot).map(|row| (lot.to_string(), row)))
            .collect();
        INSERT.write(conn, &rows, |binds, (lot, row)| row.bind(lot, binds)).await?;
        let kinds: Vec<_> = self.kinds.into_iter().collect();
        KIND.write(conn, &kinds, |binds, ((lot, kind), records)| {
            binds.text(&lot.to_string()).text(kind).int(*records)
        })
        .await?;
        let mut released: Vec<LotId> = self.stores.keys().map(|(lot, _)| *lot).collect();
        released.dedup();
        let stores: Vec<_> = self.stores.into_iter().collect();
        STORE
            .write(conn, &stores, |binds, ((lot, store), (seq, at))| {
                binds.text(&lot.to_string()).text(store.as_str()).int(*seq).int(*at)
            })
            .await?;
        COUNT.write(conn, &released, |binds, lot| binds.text(&lot.to_string())).await?;
        Ok(())
    }
}

/// Counted anew and not added up, so that a wave delivered twice counts once.
const COUNT: Rows = Rows {
    before: "UPDATE lot SET stores = (SELECT COUNT(*) FROM lot_store s WHERE s.lot = lot.lot) \
             WHERE (lot) IN (VALUES",
    columns: 1,
    after: ")",
    doing: "counting a lot's stores",
};

/// A manifest in the numbers of the tables.
struct Sums {
    records: i64,
    bytes: i64,
    kinds: Vec<(String, i64)>,
}

impl Sums {
    fn of(manifest: &Manifest) -> Result<Self, String> {
        let number = |count: u64| i64::try_from(count).map_err(|_| format!("{count} is no count of a lot"));
        let mut kinds = Vec::with_capacity(manifest.records.len());
        let mut records: i64 = 0;
        for (kind, count) in &manifest.records {
            let count = number(*count)?;
            records = records.checked_add(count).ok_or("the lot's records are too many to count")?;
            kinds.push((kind.as_str().to_owned(), count));
        }
        Ok(Self { records, bytes: number(manifest.bytes)?, kinds })
    }
}

impl LotRow {
    fn opened(fact: &Recorded<Fact>, terms: &Terms) -> Self {
        Self {
            scope: terms.scope.to_string(),
            mode: match terms.mode {
                Mode::Delta => "delta",
                Mode::Full => "full",
            },
            strict: terms.strict,
            state: LotState::Open,
            opened_at: fact.meta.occurred_at.micros(),
            opened_by: fact.meta.actor.as_str().to_owned(),
            closed_at: None,
            released_at: None,
            activate_at: terms.activate_at.as_ref().map(|activation| match activation {
                Activation::Instant(at) => at.to_string(),
                Activation::Local(hour) => hour.clone(),
            }),
            lease_seconds: i64::from(terms.lease_seconds),
            chunks: 0,
            records: 0,
            bytes: 0,
            digest: None,
            reason: None,
            as_of: terms.as_of.map(position),
            version: None,
            stores: 0,
            correlation: fact.meta.correlation.to_string(),
            opened_seq: position(fact.sequence),
            closed_seq: None,
            complete_seq: None,
            ended_seq: None,
        }
    }

    /// The state that follows from what has happened, in whatever order it was delivered.
    fn state_now(&self) -> LotState {
        match (self.ended_seq, self.closed_seq, self.complete_seq, self.version) {
            (Some(_), Some(_), ..) => LotState::Recalled,
            (Some(_), None, ..) => LotState::Aborted,
            (None, _, Some(_), _) => LotState::Released,
            (None, _, None, Some(_)) => LotState::Releasing,
            (None, Some(_), None, None) => LotState::Closed,
            (None, None, None, None) => LotState::Open,
        }
    }

    fn read(row: &Columns<'_>) -> Result<Self, DbError> {
        Ok(Self {
            scope: row.text("scope")?,
            mode: row.parse("mode", |text| ["delta", "full"].into_iter().find(|mode| *mode == text))?,
            strict: row.flag("strict")?,
            state: row.parse("state", LotState::parse)?,
            opened_at: row.int("opened_at")?,
            opened_by: row.text("opened_by")?,
            closed_at: row.opt_int("closed_at")?,
            released_at: row.opt_int("released_at")?,
            activate_at: row.opt_text("activate_at")?,
            lease_seconds: row.int("lease_seconds")?,
            chunks: row.int("chunks")?,
            records: row.int("records")?,
            bytes: row.int("bytes")?,
            digest: row.opt_text("digest")?,
            reason: row.opt_text("reason")?,
            as_of: row.opt_int("as_of")?,
            version: row.opt_int("version")?,
            stores: row.int("stores")?,
            correlation: row.text("correlation")?,
            opened_seq: row.int("opened_seq")?,
            closed_seq: row.opt_int("closed_seq")?,
            complete_seq: row.opt_int("complete_seq")?,
            ended_seq: row.opt_int("ended_seq")?,
        })
    }

    fn bind<'b>(&self, lot: &str, binds: &'b mut Binds) -> &'b mut Binds {
        binds.text(lot).text(&self.scope).text(self.mode).int(i64::from(self.strict));
        binds.text(self.state.as_str()).int(self.opened_at).text(&self.opened_by);
        binds.opt_int(self.closed_at).opt_int(self.released_at).opt_text(self.activate_at.as_deref());
        binds.int(self.lease_seconds).int(self.chunks).int(self.records).int(self.bytes);
        binds.opt_text(self.digest.as_deref()).opt_text(self.reason.as_deref());
        binds.opt_int(self.as_of).opt_int(self.version).int(self.stores).text(&self.correlation);
        binds.int(self.opened_seq).opt_int(self.closed_seq).opt_int(self.complete_seq);
        binds.opt_int(self.ended_seq)
    }
}

/// Takes out what came after a place of `LOTS`.
pub(super) async fn rewind(conn: &mut AnyConnection, to: u64) -> Result<(), DbError> {
    let undo = [
        "DELETE FROM lot WHERE opened_seq > $1",
        "DELETE FROM lot_store WHERE version > $1",
        "UPDATE lot_kind SET records = 0 WHERE lot IN (SELECT lot FROM lot WHERE closed_seq > $1)",
        "UPDATE lot SET closed_seq = NULL, closed_at = NULL, chunks = 0, records = 0, bytes = 0, digest = NULL \
         WHERE closed_seq > $1",
        "UPDATE lot SET version = NULL, released_at = NULL WHERE version > $1",
        "UPDATE lot SET complete_seq = NULL WHERE complete_seq > $1",
        "UPDATE lot SET ended_seq = NULL, reason = NULL WHERE ended_seq > $1",
    ];
    // What a lot was before follows from the facts that stay.
    let settle = [
        "DELETE FROM lot_kind WHERE NOT EXISTS (SELECT 1 FROM lot l WHERE l.lot = lot_kind.lot)",
        "UPDATE lot SET stores = (SELECT COUNT(*) FROM lot_store s WHERE s.lot = lot.lot), state = CASE \
         WHEN ended_seq IS NOT NULL AND closed_seq IS NOT NULL THEN 'recalled' \
         WHEN ended_seq IS NOT NULL THEN 'aborted' \
         WHEN complete_seq IS NOT NULL THEN 'released' \
         WHEN version IS NOT NULL THEN 'releasing' \
         WHEN closed_seq IS NOT NULL THEN 'closed' ELSE 'open' END",
    ];
    sql::undo_after(conn, to, &undo, &settle, "setting lots back").await
}
