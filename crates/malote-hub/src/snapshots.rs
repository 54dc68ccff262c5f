//! Snapshots: what a scope holds now, as one full lot. A new till then needs that lot and what came after it, not the
//! whole history; a till that has the history does not need it at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use malote_domain::lots::{AbortReason, Declared, Mode, Terms};
use malote_domain::{CommandId, Kind, LotId, Scope};
use malote_journal::subjects;
use malote_projections::Projection;

use crate::app::App;
use crate::filling::Writer;
use crate::intake::Record;
use crate::lots::LotsError;

/// Records read at once.
const PAGE: u32 = 1_000;
/// Lease of a snapshot in seconds: nobody but the hub fills it.
const LEASE_SECONDS: u32 = 600;

impl App {
    /// Makes a snapshot of a scope's kinds, or of all that it holds.
    pub(crate) async fn snapshot(
        self: &Arc<Self>,
        command: CommandId,
        scope: Scope,
        kinds: Option<BTreeSet<Kind>>,
    ) -> Result<LotId, LotsError> {
        // Everything released up to here is in the catalogue; everything released later has a greater version.
        let as_of = self.lots_caught_up().await.map_err(|error| LotsError::unavailable(&error))?;
        self.wait_for(Projection::Catalogue, subjects::LOTS, as_of)
            .await
            .map_err(|error| LotsError::unavailable(&error))?;
        let held = self.db.catalogue_kinds(&scope).await?;
        let kinds = match kinds {
            Some(kinds) => kinds.intersection(&held).cloned().collect(),
            None => held,
        };
        let terms = Terms {
            scope: scope.clone(),
            kinds,
            mode: Mode::Full,
            strict: false,
            lease_seconds: LEASE_SECONDS,
            activate_at: None,
            as_of: Some(as_of),
        };
        let lot = self.open_lot(command, terms.clone()).await?;
        let filled = self.fill_snapshot(lot, &terms).await;
        let closed = match filled {
            Ok(()) => self.close_lot(lot, command.follow_up("close"), Declared::default()).await.map(|_| lot),
            Err(error) => Err(error),
        };
        if let Err(error) = &closed {
            let reason = AbortReason::Owner(format!("the snapshot could not be made: {error}"));
            // The lease ends what cannot be ended now.
            let _ = self.abort_lot(lot, command.follow_up("abort"), reason).await;
        }
        closed
    }

    async fn fill_snapshot(self: &Arc<Self>, lot: LotId, terms: &Terms) -> Result<(), LotsError> {
        let session = self.sessions.enter(lot, terms.clone());
        let mut writer = Writer::new(Arc::clone(self), session);
        for kind in &terms.kinds {
            let mut after: Option<String> = None;
            loop {
                let page = self.db.snapshot_page(&terms.scope, kind, after.as_deref(), PAGE).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key.clone());
                let records = page
                    .into_iter()
                    .map(|record| Record {
                        kind: kind.clone(),
                        key: record.key,
                        body: record.body.map(Bytes::from),
                    })
                    .collect();
                writer.put(records).await?;
            }
        }
        writer.finish().await.map(|_| ())
    }
}
