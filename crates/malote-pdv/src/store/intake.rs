//! Taking notices in: from the store's stream into the list of lots, together with the cursor.
//!
//! Once a notice is taken in, its lot is the till's own affair: it is done or still open in the `lot` table, so the
//! cursor never waits for a lot that cannot be had.

use std::collections::{BTreeSet, HashMap};

use malote_domain::lots::Mode;
use malote_domain::pdvs::Event;
use malote_domain::{CommandId, Cursor, EventId, GroupId, LotId, Meta, Scope};
use malote_journal::Stored;
use malote_journal::notice::{self, LotNotice, Notice};
use sqlx::SqliteConnection;

use super::check::shortened;
use super::outbox::report;
use super::{Store, StoreError, digest, failed, now, signed, unsigned};

/// Notices that cannot be read are kept this far back.
const UNREAD_KEPT: i64 = 1_000;
const TAKING_IN: &str = "taking notices in";

/// What a page of notices brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Lots to do.
    pub(crate) lots: u64,
    /// Lots that a later full lot replaces.
    pub(crate) superseded: u64,
    /// Notices that this version cannot read.
    pub(crate) unread: u64,
}

/// A lot that is still open.
struct Open {
    id: i64,
    lot: LotId,
    notice: u64,
    scope: i64,
    full: bool,
    kinds: String,
    version: i64,
    cause: (EventId, CommandId),
}

impl Store {
    /// Takes a page of notices in and moves the cursor behind it, all or nothing. When the cursor is no longer
    /// where the page was read from, nothing happens.
    pub(crate) async fn take_in(
        &self,
        stream: &str,
        from: Option<Cursor>,
        page: &[Stored],
    ) -> Result<Found, StoreError> {
        let mut found = Found::default();
        let Some(last) = page.last() else { return Ok(found) };
        let mut tx = self.begin().await?;
        if stored_cursor(&mut tx, stream).await? != from {
            return Ok(found);
        }
        for stored in page {
            match notice::decode(stored) {
                Ok((Notice::Lot(lot), meta)) => match self.refusal(&lot) {
                    None => {
                        found.lots += u64::from(self.lot(&mut tx, stored, &lot, &meta).await?);
                        if lot.snapshot {
                            self.spare(&mut tx, lot.lot).await?;
                        }
                    }
                    Some(reason) => {
                        found.unread += 1;
                        unread(&mut tx, stored, reason).await?;
                    }
                },
                Ok((Notice::Groups(groups), _)) => set_groups(&mut tx, &groups).await?,
                Err(error) => {
                    found.unread += 1;
                    unread(&mut tx, stored, &error.to_string()).await?;
                }
            }
        }
        found.superseded = self.supersede(&mut tx).await?;
        set_cursor(&mut tx, stream, Some(last.cursor())).await?;
        tx.commit().await.map_err(failed(TAKING_IN))?;
        Ok(found)
    }

    /// Why a lot is none for this till, whatever its notice says.
    fn refusal(&self, lot: &LotNotice) -> Option<&'static str> {
        match &lot.scope {
            Scope::Store(store) if *store != self.address.store => Some("a lot of another store"),
            Scope::All | Scope::Group(_) | Scope::Store(_) if i64::try_from(lot.version).is_err() => {
                Some("a version that no release has")
            }
            Scope::All | Scope::Group(_) | Scope::Store(_) => None,
        }
    }

    /// Writes a lot down. One that was done with the same version stays done: its notice came again.
    async fn lot(
        &self,
        conn: &mut SqliteConnection,
        stored: &Stored,
        lot: &LotNotice,
        meta: &Meta,
    ) -> Result<bool, StoreError> {
        let scope = self.scope_id(conn, &lot.scope).await?;
        let kinds: Vec<&str> = lot.kinds.iter().map(malote_domain::Kind::as_str).collect();
        let open: bool = sqlx::query_scalar(
            "INSERT INTO lot (lot, notice, notice_hash, cause, correlation, scope, full, kinds, version, chunks, \
                              records, bytes, digest, state, seen_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting', ?) \
             ON CONFLICT (lot) DO UPDATE SET notice = excluded.notice, notice_hash = excluded.notice_hash, \
                 cause = excluded.cause, correlation = excluded.correlation, \
                 state = iif(lot.version = excluded.version, lot.state, 'waiting'), \
                 next_try_at = iif(lot.version = excluded.version, lot.next_try_at, 0), \
                 version = excluded.version \
             RETURNING state IN ('waiting', 'failed')",
        )
        .bind(lot.lot.to_string())
        .bind(signed(stored.sequence))
        .bind(stored.hash().as_bytes().as_slice())
        .bind(meta.id.to_string())
        .bind(meta.correlation.to_string())
        .bind(scope)
        .bind(lot.mode == Mode::Full)
        .bind(kinds.join(" "))
        .bind(signed(lot.version))
        .bind(lot.chunks)
        .bind(signed(lot.records))
        .bind(signed(lot.bytes))
        .bind(lot.digest.as_bytes().as_slice())
        .bind(now().micros())
        .fetch_one(conn)
        .await
        .map_err(failed(TAKING_IN))?;
        Ok(open)
    }

    /// The number of a scope. Until the hub has said which groups the store is in, every group counts that a lot
    /// came for, since lots are only released to a group's members; from then on only what the hub said counts.
    async fn scope_id(&self, conn: &mut SqliteConnection, scope: &Scope) -> Result<i64, StoreError> {
        let is_group = matches!(scope, Scope::Group(_));
        sqlx::query(
            "INSERT INTO scope (name, rank, counts) \
             SELECT ?, ?, NOT (? AND groups_known) FROM identity WHERE true ON CONFLICT (name) DO NOTHING",
        )
        .bind(scope.to_string())
        .bind(scope.rank())
        .bind(is_group)
        .execute(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
        sqlx::query_scalar("SELECT id FROM scope WHERE name = ?")
            .bind(scope.to_string())
            .fetch_one(conn)
            .await
            .map_err(failed(TAKING_IN))
    }

    /// A snapshot repeats what was released before it: a till that has applied all of that does not need it.
    async fn spare(&self, conn: &mut SqliteConnection, snapshot: LotId) -> Result<(), StoreError> {
        let open = open_lots(conn).await?;
        let Some(own) = open.iter().find(|lot| lot.lot == snapshot) else { return Ok(()) };
        let lacks = |lot: &&Open| lot.scope == own.scope && lot.version <= own.version && lot.id != own.id;
        if open.iter().any(|lot| lacks(&lot)) || !knows(conn, own.scope, own.id).await? {
            return Ok(());
        }
        sqlx::query("UPDATE lot SET state = 'applied', done_at = ?, reason = NULL WHERE id = ?")
            .bind(now().micros())
            .bind(own.id)
            .execute(&mut *conn)
            .await
            .map_err(failed(TAKING_IN))?;
        let event = Event::LotApplied {
            lot: own.lot,
            notice: own.notice,
            upserted: 0,
            deleted: 0,
            quarantined: 0,
            problems: vec![],
            took_ms: 0,
        };
        report(conn, self, &event, own.cause).await
    }

    /// Marks the open lots that later full lots of their scope replace kind by kind, and reports them.
    async fn supersede(&self, conn: &mut SqliteConnection) -> Result<u64, StoreError> {
        let open = open_lots(conn).await?;
        // The greatest full lot of each scope and kind, applied or not.
        let mut full: HashMap<(i64, String), (i64, LotId)> = HashMap::new();
        let floors: Vec<(i64, String, i64, String)> = sqlx::query_as(
            "SELECT f.scope, k.name, f.version, f.lot FROM floor f JOIN kind k ON k.id = f.kind",
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
        for (scope, kind, version, lot) in floors {
            full.insert((scope, kind), (version, lot_id(&lot)?));
        }
        for lot in open.iter().filter(|lot| lot.full) {
            for kind in lot.kinds.split_ascii_whitespace() {
                let entry = full.entry((lot.scope, kind.to_owned())).or_insert((lot.version, lot.lot));
                if entry.0 < lot.version {
                    *entry = (lot.version, lot.lot);
                }
            }
        }
        let mut count = 0;
        for lot in &open {
            let covers: Option<Vec<_>> = lot
                .kinds
                .split_ascii_whitespace()
                .map(|kind| {
                    full.get(&(lot.scope, kind.to_owned())).filter(|(version, _)| *version > lot.version)
                })
                .collect();
            // A lot without kinds is covered by nothing.
            let Some((_, by)) = covers.and_then(|covers| covers.into_iter().max().copied()) else { continue };
            self.superseded(conn, lot, by).await?;
            count += 1;
        }
        Ok(count)
    }

    async fn superseded(&self, conn: &mut SqliteConnection, lot: &Open, by: LotId) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE lot SET state = 'superseded', superseded_by = ?, done_at = ?, reason = NULL WHERE id = ?",
        )
        .bind(by.to_string())
        .bind(now().micros())
        .bind(lot.id)
        .execute(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
        sqlx::query("DELETE FROM chunk WHERE lot = ?")
            .bind(lot.id)
            .execute(&mut *conn)
            .await
            .map_err(failed(TAKING_IN))?;
        let event = Event::LotSuperseded { lot: lot.lot, notice: lot.notice, by };
        report(conn, self, &event, lot.cause).await
    }

    /// The newest logged notice before a sequence.
    pub(crate) async fn logged_before(&self, sequence: u64) -> Result<Option<Cursor>, StoreError> {
        let row: Option<(i64, Vec<u8>)> = sqlx::query_as(
            "SELECT notice, notice_hash FROM lot WHERE notice < ? ORDER BY notice DESC LIMIT 1",
        )
        .bind(signed(sequence))
        .fetch_optional(&self.read)
        .await
        .map_err(failed("reading the log of notices"))?;
        row.map(|(notice, hash)| {
            Ok(Cursor { sequence: unsigned(notice, "notice")?, hash: digest(&hash, "notice")? })
        })
        .transpose()
    }

    /// Puts the cursor back to the last message that the stream and this till have in common, and remembers that
    /// the stream was cut.
    pub(crate) async fn step_back(
        &self,
        stream: &str,
        from: Cursor,
        to: Option<Cursor>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if stored_cursor(&mut tx, stream).await? != Some(from) {
            return Ok(());
        }
        set_cursor(&mut tx, stream, to).await?;
        sqlx::query("UPDATE identity SET truncations = truncations + 1, truncated_at = ?")
            .bind(now().micros())
            .execute(&mut *tx)
            .await
            .map_err(failed("stepping back"))?;
        tx.commit().await.map_err(failed("stepping back"))
    }
}

/// Whether this till has had another lot of the scope: one that has had none has nothing that could be repeated.
async fn knows(conn: &mut SqliteConnection, scope: i64, except: i64) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM lot WHERE scope = ? AND id <> ?)")
        .bind(scope)
        .bind(except)
        .fetch_one(conn)
        .await
        .map_err(failed(TAKING_IN))
}

async fn open_lots(conn: &mut SqliteConnection) -> Result<Vec<Open>, StoreError> {
    type Row = (i64, String, i64, i64, bool, String, i64, String, String);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, lot, notice, scope, full, kinds, version, cause, correlation \
           FROM lot WHERE state IN ('waiting', 'failed') ORDER BY notice",
    )
    .fetch_all(conn)
    .await
    .map_err(failed(TAKING_IN))?;
    rows.into_iter()
        .map(|(id, lot, notice, scope, full, kinds, version, cause, correlation)| {
            Ok(Open {
                id,
                lot: lot_id(&lot)?,
                notice: unsigned(notice, "notice")?,
                scope,
                full,
                kinds,
                version,
                cause: cause_ids(&cause, &correlation)?,
            })
        })
        .collect()
}

/// The groups that the store is in from now on.
async fn set_groups(conn: &mut SqliteConnection, groups: &BTreeSet<GroupId>) -> Result<(), StoreError> {
    sqlx::query("UPDATE identity SET groups_known = 1")
        .execute(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
    sqlx::query("UPDATE scope SET counts = 0 WHERE rank = 1")
        .execute(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
    for group in groups {
        let scope = Scope::Group(group.clone());
        sqlx::query(
            "INSERT INTO scope (name, rank, counts) VALUES (?, 1, 1) ON CONFLICT (name) DO UPDATE SET counts = 1",
        )
        .bind(scope.to_string())
        .execute(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
    }
    Ok(())
}

async fn unread(conn: &mut SqliteConnection, stored: &Stored, reason: &str) -> Result<(), StoreError> {
    tracing::warn!(sequence = stored.sequence, subject = %stored.subject, reason, "a notice was passed over");
    sqlx::query("INSERT OR REPLACE INTO unread (notice, subject, reason) VALUES (?, ?, ?)")
        .bind(signed(stored.sequence))
        .bind(shortened(&stored.subject))
        .bind(reason)
        .execute(&mut *conn)
        .await
        .map_err(failed(TAKING_IN))?;
    sqlx::query(
        "DELETE FROM unread WHERE notice < (SELECT notice FROM unread ORDER BY notice DESC LIMIT 1 OFFSET ?)",
    )
    .bind(UNREAD_KEPT)
    .execute(conn)
    .await
    .map_err(failed(TAKING_IN))?;
    Ok(())
}

pub(super) async fn stored_cursor(
    conn: &mut SqliteConnection,
    stream: &str,
) -> Result<Option<Cursor>, StoreError> {
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT sequence, hash FROM cursor WHERE stream = ?")
        .bind(stream)
        .fetch_optional(conn)
        .await
        .map_err(failed("reading the cursor"))?;
    row.map(|(sequence, hash)| {
        Ok(Cursor { sequence: unsigned(sequence, "cursor")?, hash: digest(&hash, "cursor")? })
    })
    .transpose()
}

async fn set_cursor(
    conn: &mut SqliteConnection,
    stream: &str,
    cursor: Option<Cursor>,
) -> Result<(), StoreError> {
    let query = match cursor {
        None => sqlx::query("DELETE FROM cursor WHERE stream = ?").bind(stream),
        Some(cursor) => sqlx::query(
            "INSERT INTO cursor (stream, sequence, hash) VALUES (?, ?, ?) \
             ON CONFLICT (stream) DO UPDATE SET sequence = excluded.sequence, hash = excluded.hash",
        )
        .bind(stream)
        .bind(signed(cursor.sequence))
        .bind(cursor.hash.as_bytes().to_vec()),
    };
    query.execute(conn).await.map_err(failed("moving the cursor"))?;
    Ok(())
}

pub(super) fn lot_id(text: &str) -> Result<LotId, StoreError> {
    LotId::parse(text).map_err(|_| StoreError::Value { what: "lot" })
}

pub(super) fn cause_ids(cause: &str, correlation: &str) -> Result<(EventId, CommandId), StoreError> {
    match (EventId::parse(cause), CommandId::parse(correlation)) {
        (Ok(cause), Ok(correlation)) => Ok((cause, correlation)),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(StoreError::Value { what: "notice" }),
    }
}
