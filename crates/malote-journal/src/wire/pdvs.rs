//! What tills report, on the wire. There is no decider: the till is the only writer of its facts.

use malote_domain::pdvs::{Event, Quarantined};
use malote_domain::{Kind, LotId, Meta, Timestamp};
use malote_proto::pdvs::v1 as wire;
use malote_proto::pdvs::v1::pdvs_event::Event as WireEvent;
use prost::Message;

use super::{DecodeError, encoded, lot_id, meta_from_wire, meta_to_wire, uuid_bytes};
use crate::journal::Entry;

/// A till's report as it is appended.
pub fn encode_report(event: &Event, meta: &Meta) -> Entry {
    let (name, event) = match event {
        Event::LotApplied { lot, notice, upserted, deleted, quarantined, problems, took_ms } => (
            "malote.pdvs.v1.LotApplied",
            WireEvent::LotApplied(wire::LotApplied {
                lot: uuid_bytes(lot.uuid()),
                notice: *notice,
                upserted: *upserted,
                deleted: *deleted,
                quarantined: *quarantined,
                problems: problems
                    .iter()
                    .map(|problem| wire::Quarantined {
                        kind: problem.kind.to_string(),
                        key: problem.key.clone(),
                        reason: problem.reason.clone(),
                    })
                    .collect(),
                took_ms: *took_ms,
            }),
        ),
        Event::LotSuperseded { lot, notice, by } => (
            "malote.pdvs.v1.LotSuperseded",
            WireEvent::LotSuperseded(wire::LotSuperseded {
                lot: uuid_bytes(lot.uuid()),
                notice: *notice,
                by: uuid_bytes(by.uuid()),
            }),
        ),
        Event::LotFailed { lot, notice, reason, attempt, next_try_at } => (
            "malote.pdvs.v1.LotFailed",
            WireEvent::LotFailed(wire::LotFailed {
                lot: uuid_bytes(lot.uuid()),
                notice: *notice,
                reason: reason.clone(),
                attempt: *attempt,
                next_try_at_micros: next_try_at.micros(),
            }),
        ),
    };
    encoded(meta, name, &wire::PdvsEvent { meta: Some(meta_to_wire(meta)), event: Some(event) })
}

/// A till's report as it was stored.
///
/// # Errors
/// When it is not one that this version knows.
pub fn decode_report(payload: &bytes::Bytes) -> Result<(Event, Meta), DecodeError> {
    let message = wire::PdvsEvent::decode(payload.clone())?;
    let meta = meta_from_wire(message.meta)?;
    let event = match message.event.ok_or(DecodeError::Unknown)? {
        WireEvent::LotApplied(event) => Event::LotApplied {
            lot: lot_id(&event.lot)?,
            notice: event.notice,
            upserted: event.upserted,
            deleted: event.deleted,
            quarantined: event.quarantined,
            problems: event
                .problems
                .into_iter()
                .map(|problem| {
                    Ok(Quarantined {
                        kind: Kind::parse(&problem.kind)?,
                        key: problem.key,
                        reason: problem.reason,
                    })
                })
                .collect::<Result<_, DecodeError>>()?,
            took_ms: event.took_ms,
        },
        WireEvent::LotSuperseded(event) => {
            Event::LotSuperseded { lot: lot_id(&event.lot)?, notice: event.notice, by: lot_id(&event.by)? }
        }
        WireEvent::LotFailed(event) => Event::LotFailed {
            lot: lot_id(&event.lot)?,
            notice: event.notice,
            reason: event.reason,
            attempt: event.attempt,
            next_try_at: Timestamp::from_micros(event.next_try_at_micros),
        },
    };
    Ok((event, meta))
}

/// A till's sign of life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Sequence of the last notice it has taken in.
    pub notice: u64,
    /// When that was so.
    pub at: Timestamp,
    /// What it is downloading.
    pub download: Option<Download>,
    /// Its agent's version.
    pub version: String,
}

/// A lot on its way down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download {
    /// The lot.
    pub lot: LotId,
    /// Chunks that are there.
    pub chunks_done: u32,
    /// Chunks in all.
    pub chunks: u32,
}

/// A sign of life as it is sent.
pub fn encode_beat(beat: &Beat) -> bytes::Bytes {
    wire::Beat {
        notice: beat.notice,
        at_micros: beat.at.micros(),
        download: beat.download.map(|download| wire::Download {
            lot: uuid_bytes(download.lot.uuid()),
            chunks_done: download.chunks_done,
            chunks: download.chunks,
        }),
        version: beat.version.clone(),
    }
    .encode_to_vec()
    .into()
}

/// A sign of life as it came.
///
/// # Errors
/// When it is not one.
pub fn decode_beat(payload: &bytes::Bytes) -> Result<Beat, DecodeError> {
    let beat = wire::Beat::decode(payload.clone())?;
    Ok(Beat {
        notice: beat.notice,
        at: Timestamp::from_micros(beat.at_micros),
        download: beat
            .download
            .map(|download| {
                Ok::<_, DecodeError>(Download {
                    lot: lot_id(&download.lot)?,
                    chunks_done: download.chunks_done,
                    chunks: download.chunks,
                })
            })
            .transpose()?,
        version: beat.version.chars().take(64).collect(),
    })
}
