//! Feeds the read models: streams in, tables out, each from its own cursor.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use malote_domain::lots::{self, Lot, Mode, Terms};
use malote_domain::{Cursor, Digest, Fact, LotId, Read};
use malote_journal::chunk::Chunk;
use malote_journal::{Page, Reader, Wake, subjects, wire};
use malote_projections::{ApplyError, CatalogueLot, CatalogueRow, Projection};
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// Messages taken in at once.
const BATCH: usize = 1_000;
/// Rows written at once: short transactions let others write in between.
const ROWS: usize = 2_000;
/// How often to look without being woken.
const LOOK_EVERY: Duration = Duration::from_secs(5);

type Failure = Box<dyn Error + Send + Sync>;

/// Which streams feed which tables.
pub(crate) const FEEDS: [(Projection, &str, &str); 4] = [
    (Projection::Registry, subjects::REGISTRY, "registry.>"),
    (Projection::Lots, subjects::LOTS, "lots.>"),
    (Projection::Lots, subjects::PDVS, "pdvs.>"),
    (Projection::Catalogue, subjects::LOTS, "lots.>"),
];

/// Feeds one projection from one stream until told to stop.
pub(crate) async fn run(
    app: Arc<App>,
    feed: (Projection, &'static str, &'static str),
    stop: CancellationToken,
) {
    let (projection, stream, subject) = feed;
    let reader = Reader::new(app.journal.clone(), stream);
    let Ok(mut wake) = Wake::on(app.journal.connection(), subject.to_owned()).await else {
        tracing::error!(%projection, stream, "the stream cannot be listened to");
        return;
    };
    while !stop.is_cancelled() {
        if let Err(error) = step(&app, projection, &reader, &stop).await {
            tracing::warn!(%projection, stream, error, "the projection is not moving");
        }
        if let Ok(Some(cursor)) = app.db.cursor(projection, stream).await {
            wake.reached(cursor.sequence);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.wait(LOOK_EVERY) => {}
        }
    }
}

/// Takes in everything new.
async fn step(
    app: &App,
    projection: Projection,
    reader: &Reader,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let stream = reader.stream();
    while !stop.is_cancelled() {
        let cursor = app.db.cursor(projection, stream).await?;
        let messages = match reader.after(cursor, BATCH).await? {
            Page::Messages(messages) => messages,
            Page::Truncated { last } => {
                app.health.truncated(stream, last);
                return Err(format!("stream {stream} lost its tail; start the hub with --heal").into());
            }
        };
        if messages.is_empty() {
            return Ok(());
        }
        let batch: Vec<Read> = messages.iter().map(wire::read).collect();
        let count = batch.len() as u64;
        let taken_in = if projection == Projection::Catalogue {
            catalogue(app, cursor, &batch).await
        } else {
            app.db.apply(projection, stream, cursor, &batch).await.map(|_| ()).map_err(Into::into)
        };
        match taken_in {
            Ok(()) => {}
            Err(error) => match error.downcast_ref::<ApplyError>() {
                // Another hub on the same database was quicker: go on from where it is.
                Some(ApplyError::Moved { .. }) => continue,
                _ => return Err(error),
            },
        }
        if let Some(last) = batch.last() {
            app.db.record_head(stream, last.cursor().sequence, last.cursor().hash).await?;
        }
        let label = vec![
            ("projection".to_owned(), projection.name().to_owned()),
            ("stream".to_owned(), stream.to_owned()),
        ];
        app.metrics.applied.get_or_create(&label).inc_by(count);
        app.moved.send_modify(|count| *count += 1);
    }
    Ok(())
}

/// Takes the records of released lots into the catalogue, lot by lot.
async fn catalogue(app: &App, from: Option<Cursor>, batch: &[Read]) -> Result<(), Failure> {
    let mut place = from;
    let mut done = 0;
    for (index, read) in batch.iter().enumerate() {
        let Read::Fact(fact) = read else { continue };
        let Fact::Lot(lot, lots::Event::Released { .. }) = &fact.event else { continue };
        // Only the first wave: the records are the same in each.
        let Some(terms) = first_release(app, *lot, fact.sequence).await? else { continue };
        let before = &batch[done..index];
        if !before.is_empty() {
            place = app.db.apply(Projection::Catalogue, subjects::LOTS, place, before).await?.cursor;
        }
        load_lot(app, *lot, &terms, fact.sequence, place, fact.cursor()).await?;
        place = Some(fact.cursor());
        done = index + 1;
    }
    if done < batch.len() {
        app.db.apply(Projection::Catalogue, subjects::LOTS, place, &batch[done..]).await?;
    }
    Ok(())
}

/// The terms of a lot whose first wave this is.
async fn first_release(app: &App, lot: LotId, sequence: u64) -> Result<Option<Terms>, Failure> {
    use malote_journal::Journal;
    use malote_journal::wire::Wire;

    let mut terms = None;
    for stored in app.journal.load(subjects::LOTS, &subjects::lot_any_scope(lot)).await? {
        match Lot::decode(&stored)?.0 {
            lots::Event::Opened(opened) => terms = Some(opened),
            lots::Event::Released { .. } if stored.sequence < sequence => return Ok(None),
            lots::Event::Released { .. }
            | lots::Event::Closed(_)
            | lots::Event::Aborted(_)
            | lots::Event::Recalled { .. } => {}
        }
    }
    Ok(terms)
}

async fn load_lot(
    app: &App,
    lot: LotId,
    terms: &Terms,
    version: u64,
    place: Option<Cursor>,
    cursor: Cursor,
) -> Result<(), Failure> {
    let about = CatalogueLot {
        lot,
        scope: terms.scope.clone(),
        version: terms.as_of.unwrap_or(version),
        full: terms.mode == Mode::Full,
        kinds: terms.kinds.clone(),
    };
    let mut rows = app.db.begin_catalogue(about, place).await?;
    let chunks = Reader::new(app.journal.clone(), subjects::LOTDATA);
    for number in 0.. {
        let subject = subjects::chunk(&terms.scope, lot, number);
        let Some(stored) = chunks.last_of(&subject).await? else {
            // Purged: what it held was replaced by a later full lot.
            break;
        };
        let chunk = Chunk::decode(stored.payload)?;
        if chunk.end {
            break;
        }
        let unpacked = chunk.unpack()?;
        let records: Vec<_> = unpacked.iter().collect();
        for some in records.chunks(ROWS) {
            let some: Vec<CatalogueRow<'_>> = some
                .iter()
                .map(|record| CatalogueRow {
                    kind: record.kind.as_str(),
                    key: record.key,
                    body: record.body.and_then(|body| std::str::from_utf8(body).ok()),
                    hash: content_hash(record.body),
                })
                .collect();
            rows.add(&some).await?;
        }
    }
    rows.commit(cursor).await?;
    Ok(())
}

/// By what a record is known to be the one sent before: its body's digest, cut; a delete has its own.
pub(crate) fn content_hash(body: Option<&[u8]>) -> [u8; 16] {
    let digest = body.map_or_else(|| Digest::of_parts(&[b"deleted"]), Digest::of);
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest.as_bytes()[..16]);
    hash
}

/// Streams that feed anything.
pub(crate) fn streams() -> BTreeSet<&'static str> {
    FEEDS.iter().map(|(_, stream, _)| *stream).collect()
}
