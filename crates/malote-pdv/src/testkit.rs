//! Lots and notices made by hand, for the tests.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use malote_domain::lots::Mode;
use malote_domain::registry::PdvAddress;
use malote_domain::{Actor, CommandId, Ctx, Digest, Kind, LotId, PdvId, Scope, StoreId};
use malote_journal::chunk::Packer;
use malote_journal::notice::{self, LotNotice, Notice};
use malote_journal::{Entry, Stored, subjects};
use uuid::Uuid;

use crate::store::now;

/// A record of a lot: kind, key, body; no body deletes.
pub(crate) type Line = (&'static str, String, Option<String>);

/// A lot as the hub would have it.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) notice: LotNotice,
    pub(crate) chunks: BTreeMap<u32, Bytes>,
}

pub(crate) fn address() -> PdvAddress {
    PdvAddress { store: StoreId::parse("330").unwrap(), pdv: PdvId::parse("1").unwrap() }
}

pub(crate) fn price(key: &str, cents: u64) -> Line {
    ("price", key.to_owned(), Some(format!("{{\"price_cents\":{cents}}}")))
}

pub(crate) fn product(key: &str, description: &str) -> Line {
    ("product", key.to_owned(), Some(serde_json::json!({ "description": description }).to_string()))
}

pub(crate) fn delete(kind: &'static str, key: &str) -> Line {
    (kind, key.to_owned(), None)
}

pub(crate) fn delta(scope: &str, version: u64, lines: &[Line]) -> Made {
    lot(scope, Mode::Delta, version, lines, usize::MAX)
}

pub(crate) fn full(scope: &str, version: u64, lines: &[Line]) -> Made {
    lot(scope, Mode::Full, version, lines, usize::MAX)
}

/// A lot of chunks of so many records.
pub(crate) fn lot(scope: &str, mode: Mode, version: u64, lines: &[Line], chunk_records: usize) -> Made {
    let id = LotId::new(Uuid::now_v7());
    let mut packer = Packer::default();
    let mut notice = LotNotice {
        lot: id,
        scope: Scope::parse(scope).unwrap(),
        mode,
        kinds: lines.iter().map(|(kind, _, _)| Kind::parse(kind).unwrap()).collect(),
        chunks: 0,
        records: lines.len() as u64,
        bytes: 0,
        digest: Digest::of(b""),
        version,
        snapshot: false,
    };
    let mut chunks = BTreeMap::new();
    let mut digests = Vec::new();
    let mut in_chunk = 0;
    for (index, (kind, key, body)) in lines.iter().enumerate() {
        packer.push(&Kind::parse(kind).unwrap(), key.clone(), body.clone().map(Bytes::from));
        in_chunk += 1;
        if packer.is_full() || in_chunk == chunk_records || index + 1 == lines.len() {
            let packed = packer.pack().unwrap();
            notice.bytes += packed.bytes();
            digests.push(packed.digest());
            chunks.insert(notice.chunks, packed.message(id, notice.chunks));
            notice.chunks += 1;
            in_chunk = 0;
        }
    }
    notice.digest = Digest::of_list(&digests);
    Made { notice, chunks }
}

pub(crate) fn entry(notice: &Notice) -> Entry {
    let command = CommandId::new(Uuid::now_v7());
    notice::encode(notice, &Ctx::new(now(), Actor::new("test"), command).meta(0))
}

/// A notice as the store's stream holds it.
pub(crate) fn stored(sequence: u64, notice: &Notice) -> Stored {
    let entry = entry(notice);
    Stored {
        sequence,
        subject: subjects::lot_notice(&address().store),
        id: Some(entry.id.to_string()),
        payload: entry.payload,
    }
}

/// Polls a future so often, then drops it wherever it is: a kill at that await.
pub(crate) async fn killed_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match Pin::as_mut(&mut future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
