//! Chunks: the messages that carry a lot's records, packed by the hub and unpacked by tills.

use std::collections::BTreeMap;

use bytes::Bytes;
use malote_domain::{Digest, Kind, LotId};
use malote_proto::lots::v1 as wire;
use prost::Message;

use crate::wire::{DecodeError, counts_from_wire, counts_to_wire, lot_id};

/// Largest record, key and body together, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// A chunk is sent once it holds this many bytes of records before compression.
pub const CHUNK_BYTES_TARGET: usize = 512 * 1024;
/// Nothing larger than this is ever unpacked, whatever a message claims.
const CHUNK_BYTES_MAX: usize = CHUNK_BYTES_TARGET + 2 * RECORD_BYTES_MAX;
/// zstd's fastest ordinary level: measured here, level 3 makes chunks 8 % smaller for twice the time.
const ZSTD_LEVEL: i32 = 1;

/// Why a chunk cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// It is not what was sent.
    #[error("chunk {number} does not match its own digest")]
    Digest {
        /// Which.
        number: u32,
    },
    /// It claims to be larger than any chunk is.
    #[error("chunk {number} claims {bytes} bytes, and no chunk has more than {CHUNK_BYTES_MAX}")]
    TooLarge {
        /// Which.
        number: u32,
        /// What it claims.
        bytes: u32,
    },
    /// It does not decompress.
    #[error("chunk {number} does not decompress")]
    Zstd {
        /// Which.
        number: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not a chunk.
    #[error("not a chunk")]
    Decode(#[from] DecodeError),
    /// A record points to a kind that is not named.
    #[error("chunk {number} holds a record of an unnamed kind")]
    Kind {
        /// Which.
        number: u32,
    },
}

/// Collects records until there are enough for a chunk.
#[derive(Debug, Default)]
pub struct Packer {
    kinds: Vec<Kind>,
    records: wire::Records,
    counts: Vec<u64>,
    bytes: usize,
}

/// A full chunk, waiting for its number.
#[derive(Debug)]
pub struct Packed {
    records: BTreeMap<Kind, u64>,
    compressed: Bytes,
    digest: Digest,
    plain_bytes: u32,
}

impl Packer {
    /// Adds a record; no body deletes.
    pub fn push(&mut self, kind: &Kind, key: String, body: Option<Bytes>) {
        let index = self.kinds.iter().position(|known| known == kind).unwrap_or_else(|| {
            self.kinds.push(kind.clone());
            self.records.kinds.push(kind.to_string());
            self.counts.push(0);
            self.kinds.len() - 1
        });
        self.counts[index] += 1;
        self.bytes += key.len() + body.as_ref().map_or(0, Bytes::len) + 12;
        // A lot declares at most 32 kinds.
        let kind = u32::try_from(index).unwrap_or(u32::MAX);
        self.records.records.push(wire::Record { kind, key, body });
    }

    /// Whether it is time to pack.
    pub const fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES_TARGET
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.records.records.is_empty()
    }

    /// Packs what was collected and starts anew.
    ///
    /// # Errors
    /// When zstd fails, which it does only without memory.
    pub fn pack(&mut self) -> std::io::Result<Packed> {
        let plain = self.records.encode_to_vec();
        let compressed = Bytes::from(zstd::bulk::compress(&plain, ZSTD_LEVEL)?);
        let records = self.kinds.drain(..).zip(self.counts.drain(..)).collect();
        self.records.kinds.clear();
        self.records.records.clear();
        self.bytes = 0;
        Ok(Packed {
            records,
            digest: Digest::of(&compressed),
            compressed,
            plain_bytes: u32::try_from(plain.len()).unwrap_or(u32::MAX),
        })
    }
}

impl Packed {
    /// Records of each kind.
    pub const fn records(&self) -> &BTreeMap<Kind, u64> {
        &self.records
    }

    /// Its digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its bytes as stored.
    pub fn bytes(&self) -> u64 {
        self.compressed.len() as u64
    }

    /// The message, as chunk `number` of a lot.
    pub fn message(&self, lot: LotId, number: u32) -> Bytes {
        wire::LotChunk {
            lot: lot.uuid().as_bytes().to_vec().into(),
            number,
            records: counts_to_wire(&self.records),
            compressed: self.compressed.clone(),
            digest: self.digest.as_bytes().to_vec().into(),
            plain_bytes: self.plain_bytes,
            end: false,
        }
        .encode_to_vec()
        .into()
    }
}

/// The message after a lot's last chunk: it takes that number, so that no chunk can be added behind a close.
pub fn end_message(lot: LotId, number: u32) -> Bytes {
    wire::LotChunk {
        lot: lot.uuid().as_bytes().to_vec().into(),
        number,
        end: true,
        ..wire::LotChunk::default()
    }
    .encode_to_vec()
    .into()
}

/// A chunk as it was stored, checked against its own digest.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Its lot.
    pub lot: LotId,
    /// Its number.
    pub number: u32,
    /// Records of each kind.
    pub records: BTreeMap<Kind, u64>,
    /// Its digest.
    pub digest: Digest,
    /// Whether it is the message after the last chunk.
    pub end: bool,
    compressed: Bytes,
    plain_bytes: u32,
}

impl Chunk {
    /// Reads a chunk's message.
    ///
    /// # Errors
    /// When it is none, or not what was sent.
    pub fn decode(payload: Bytes) -> Result<Self, ChunkError> {
        let chunk = wire::LotChunk::decode(payload).map_err(DecodeError::from)?;
        let number = chunk.number;
        let digest = Digest::of(&chunk.compressed);
        if !chunk.end && chunk.digest != digest.as_bytes().as_slice() {
            return Err(ChunkError::Digest { number });
        }
        if chunk.plain_bytes as usize > CHUNK_BYTES_MAX {
            return Err(ChunkError::TooLarge { number, bytes: chunk.plain_bytes });
        }
        Ok(Self {
            lot: lot_id(&chunk.lot)?,
            number,
            records: counts_from_wire(chunk.records)?,
            digest,
            end: chunk.end,
            compressed: chunk.compressed,
            plain_bytes: chunk.plain_bytes,
        })
    }

    /// Its bytes as stored.
    pub fn bytes(&self) -> u64 {
        self.compressed.len() as u64
    }

    /// Its records.
    ///
    /// # Errors
    /// When it does not unpack.
    pub fn unpack(&self) -> Result<Unpacked, ChunkError> {
        let number = self.number;
        let plain = zstd::bulk::decompress(&self.compressed, self.plain_bytes as usize)
            .map_err(|source| ChunkError::Zstd { number, source })?;
        let message = wire::Records::decode(Bytes::from(plain)).map_err(DecodeError::from)?;
        let kinds = message.kinds.iter().map(|kind| Kind::parse(kind)).collect::<Result<Vec<_>, _>>();
        let kinds = kinds.map_err(DecodeError::from)?;
        if message.records.iter().any(|record| record.kind as usize >= kinds.len()) {
            return Err(ChunkError::Kind { number });
        }
        Ok(Unpacked { kinds, records: message.records })
    }
}

/// The records of a chunk.
#[derive(Clone, Debug)]
pub struct Unpacked {
    kinds: Vec<Kind>,
    records: Vec<wire::Record>,
}

/// One record of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its kind.
    pub kind: &'a Kind,
    /// Its key.
    pub key: &'a str,
    /// Its JSON text; none deletes.
    pub body: Option<&'a [u8]>,
}

impl Unpacked {
    /// The records in the order they were sent.
    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.records.iter().map(|record| RecordRef {
            kind: &self.kinds[record.kind as usize],
            key: &record.key,
            body: record.body.as_deref(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lot() -> LotId {
        LotId::parse("0197f0aa-0000-7000-8000-000000000001").unwrap()
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            records in proptest::collection::vec(("[a-c]", "[^\\x00-\\x1f]{1,20}", proptest::option::of(".{0,80}")), 1..60)
        ) {
            let mut packer = Packer::default();
            for (kind, key, body) in &records {
                packer.push(&Kind::parse(kind).unwrap(), key.clone(), body.clone().map(Bytes::from));
            }
            let packed = packer.pack().unwrap();
            prop_assert!(packer.is_empty());
            let chunk = Chunk::decode(packed.message(lot(), 3)).unwrap();
            prop_assert_eq!((chunk.lot, chunk.number, chunk.end), (lot(), 3, false));
            prop_assert_eq!(chunk.records.values().sum::<u64>(), records.len() as u64);
            let unpacked = chunk.unpack().unwrap();
            let got: Vec<_> = unpacked
                .iter()
                .map(|r| (r.kind.to_string(), r.key.to_owned(), r.body.map(|b| String::from_utf8(b.to_vec()).unwrap())))
                .collect();
            prop_assert_eq!(got, records);
        }
    }

    fn packed() -> Packed {
        let mut packer = Packer::default();
        packer.push(
            &Kind::parse("price").unwrap(),
            "1".into(),
            Some(Bytes::from_static(b"{\"price_cents\":100}")),
        );
        packer.pack().unwrap()
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let message = packed().message(lot(), 0);
        let mut wire = wire::LotChunk::decode(message).unwrap();
        let mut bytes = wire.compressed.to_vec();
        bytes[5] ^= 1;
        wire.compressed = bytes.into();
        let result = Chunk::decode(wire.encode_to_vec().into());
        assert!(matches!(result, Err(ChunkError::Digest { number: 0 })), "{result:?}");
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let bomb = Bytes::from(zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap());
        let mut wire = wire::LotChunk::decode(packed().message(lot(), 0)).unwrap();
        wire.digest = Digest::of(&bomb).as_bytes().to_vec().into();
        wire.compressed = bomb;
        wire.plain_bytes = 64 << 20;
        assert!(matches!(Chunk::decode(wire.encode_to_vec().into()), Err(ChunkError::TooLarge { .. })));
        // One that lies about its size runs into the limit that it claimed.
        wire.plain_bytes = 1000;
        let chunk = Chunk::decode(wire.encode_to_vec().into()).unwrap();
        assert!(matches!(chunk.unpack(), Err(ChunkError::Zstd { .. })));
    }

    #[test]
    fn the_end_is_told_from_a_chunk() {
        let end = Chunk::decode(end_message(lot(), 7)).unwrap();
        assert!(end.end);
        assert_eq!(end.number, 7);
    }
}
