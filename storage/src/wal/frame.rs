//! One frame: a header of 96 bytes and a payload, sealed to its place.
//!
//! ```text
//! at  bytes  field             meaning
//!  0    4    magic             "QFRM"
//!  4    1    version           2
//!  5    1    kind              1 promise, 2 accepted, 3 chosen, 4 clean
//!  6    1    previous kind     kind of the frame before, 0 = there is none
//!  7    1    zero
//!  8    4    payload length    bytes behind the header, without padding
//! 12    4    offset            of this frame in its segment
//! 16    8    segment           number of the segment this frame was written for
//! 24    8    number            1, 2, 3 ... over the whole log
//! 32    8    flush             frames written by one flush share it; grows from flush to flush
//! 40    8    ballot            promise, accepted; else 0
//! 48    8    slot              accepted: slot; chosen: watermark; else 0
//! 56    8    previous ballot   the frame before's
//! 64    8    previous slot     the frame before's
//! 72    8    promised          the promise in force, this record included
//! 80    4    previous crc      `crc` of the frame before, 0 = there is none
//! 84    4    index             how many frames of the same flush lie before this one
//! 88    4    header crc        crc32 of bytes 0..88, started at the seal
//! 92    4    crc               crc32 of bytes 0..88 and the payload, started at the seal
//! 96   ..    payload           zero-padded to a multiple of 16
//! ```
//!
//! Integers are little-endian. Frames start on multiples of 16, so a payload of 16-byte words can be
//! read where it lies.
//!
//! When may a field be trusted: nothing before `header crc` holds; then every header field, so a
//! frame whose payload is rotten still names its record and its length; the payload only if `crc`
//! holds. Segment and offset lie under both checksums: a block that was written to the wrong place,
//! or that stayed from the segment's earlier use, is valid only where it does not belong, and is told
//! apart from rot ([`FrameError::Stale`], [`FrameError::Misplaced`]).
//!
//! `crc` leaves `header crc` out. A crc32 that is fed its own value ends in one fixed state, whatever
//! came before: with those four bytes in it, `crc` would depend on the payload alone, and the chain of
//! `previous crc` could not tell frames of equal payloads apart. Version 1 had that mistake.

use thiserror::Error;

use super::record::{Kind, Name, Record};
use super::segment::{Chain, SegmentNumber};
use crate::ALIGN_BYTES;
use crate::bytes::{put, round_up, u8_at, u32_at, u64_at};
use crate::planted::{Bug, planted};
use crate::superblock::Seal;

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"QFRM");
const VERSION: u8 = 2;
const HEADER_CRC_AT: usize = 88;
const CRC_AT: usize = 92;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 96;
/// Bound of frame and flush numbers: no log gets here; keeps arithmetic on them from overflowing.
pub(crate) const COUNT_MAX: u64 = 1 << 56;
/// Bound of the frames of one flush: it lies in one segment of at most 2^30 bytes.
const INDEX_MAX: u32 = 1 << 24;
/// Copy and checksum go through the payload together in pieces that stay in the first-level cache.
const PIECE_BYTES: usize = 8 << 10;

const _: () = assert!(HEADER_BYTES.is_multiple_of(ALIGN_BYTES as usize));
const _: () = assert!(CRC_AT + 4 == HEADER_BYTES);

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub segment: SegmentNumber,
    /// Of this frame in its segment.
    pub offset: u32,
    /// Position in the chain of all frames, from 1.
    pub number: u64,
    /// The flush that wrote it.
    pub flush: u64,
    /// Frames of the same flush before this one.
    pub index: u32,
    /// The record, without its payload.
    pub name: Name,
    /// The record before; `None` in the first frame of a log.
    pub previous: Option<Name>,
    pub previous_crc: u32,
    /// The promise in force after this record.
    pub promised: u64,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Over header and payload; what the next frame repeats.
    pub crc: u32,
}

/// A frame whose checksums hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: Header,
    pub payload: &'a [u8],
}

/// Why bytes are not a frame of this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Nothing was written here.
    #[error("blank")]
    Blank,
    #[error("{bytes} bytes left, a frame needs {needed}")]
    Short { bytes: usize, needed: usize },
    #[error("magic {found:08x}, must be {MAGIC:08x}")]
    Magic { found: u32 },
    #[error("header checksum {computed:08x} computed, {stored:08x} stored")]
    HeaderCrc { computed: u32, stored: u32 },
    #[error("frame version {found}, {VERSION} supported")]
    Version { found: u8 },
    /// From the segment's life before it was recycled.
    #[error("stale: written for {found}, lies in {expected}")]
    Stale {
        found: SegmentNumber,
        expected: SegmentNumber,
    },
    #[error("misplaced: written for {found} at {found_offset}, lies in {expected} at {offset}")]
    Misplaced {
        found: SegmentNumber,
        found_offset: u32,
        expected: SegmentNumber,
        offset: u32,
    },
    /// The checksum holds over a field that no writer writes.
    #[error("impossible {field}: {found}")]
    Field { field: &'static str, found: u64 },
    #[error("checksum {computed:08x} computed, {stored:08x} stored")]
    Crc { computed: u32, stored: u32 },
}

/// Bytes that a frame with this payload takes up, padding included.
#[must_use]
pub fn frame_bytes(payload_bytes: usize) -> usize {
    round_up(HEADER_BYTES + payload_bytes, ALIGN_BYTES)
}

impl Header {
    /// Reads the header of a frame that may lie anywhere; says nothing about the payload.
    ///
    /// # Errors
    /// Why it is not a header.
    pub fn parse(bytes: &[u8], seal: Seal) -> Result<Self, FrameError> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err(FrameError::Short {
                bytes: bytes.len(),
                needed: HEADER_BYTES,
            });
        };
        let magic = u32_at(bytes, 0);
        if magic != MAGIC {
            return Err(match bytes.iter().all(|&byte| byte == 0) {
                true => FrameError::Blank,
                false => FrameError::Magic { found: magic },
            });
        }
        let (computed, stored) = (
            fields_hasher(seal, bytes).finalize(),
            u32_at(bytes, HEADER_CRC_AT),
        );
        if computed != stored {
            return Err(FrameError::HeaderCrc { computed, stored });
        }
        if u8_at(bytes, 4) != VERSION {
            return Err(FrameError::Version {
                found: u8_at(bytes, 4),
            });
        }
        let header = Self {
            segment: SegmentNumber(u64_at(bytes, 16)),
            offset: u32_at(bytes, 12),
            number: u64_at(bytes, 24),
            flush: u64_at(bytes, 32),
            index: u32_at(bytes, 84),
            name: name(u8_at(bytes, 5), u64_at(bytes, 48), u64_at(bytes, 40))?,
            previous: match u8_at(bytes, 6) {
                0 => None,
                kind => Some(name(kind, u64_at(bytes, 64), u64_at(bytes, 56))?),
            },
            previous_crc: u32_at(bytes, 80),
            promised: u64_at(bytes, 72),
            payload_bytes: u32_at(bytes, 8),
            crc: u32_at(bytes, CRC_AT),
        };
        header.check_fields()?;
        Ok(header)
    }

    /// Reads the header of a frame that must belong to this place.
    ///
    /// # Errors
    /// Why it is not the header of a frame of this place.
    pub fn parse_at(
        bytes: &[u8],
        segment: SegmentNumber,
        offset: u32,
        seal: Seal,
    ) -> Result<Self, FrameError> {
        let header = Self::parse(bytes, seal)?;
        if header.segment < segment {
            return Err(FrameError::Stale {
                found: header.segment,
                expected: segment,
            });
        }
        if header.segment != segment || header.offset != offset {
            return Err(FrameError::Misplaced {
                found: header.segment,
                found_offset: header.offset,
                expected: segment,
                offset,
            });
        }
        Ok(header)
    }

    /// Number of the first frame of this frame's flush. Everything before it was durable when this
    /// frame was written.
    #[must_use]
    pub fn flush_first(&self) -> u64 {
        self.number - u64::from(self.index)
    }

    /// What the frame says of the chain before it; nothing of promise and watermark.
    pub(crate) fn before(&self) -> Chain {
        Chain {
            number: self.number - 1,
            crc: self.previous_crc,
            last: self.previous,
            promised: 0,
            chosen_upto: 0,
        }
    }

    /// Bytes of the frame, padding included.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes as usize)
    }

    /// A checksum says that the bytes are what was written; these bounds keep arithmetic on them
    /// safe even if something else wrote them.
    fn check_fields(&self) -> Result<(), FrameError> {
        let impossible = |field, found| Err(FrameError::Field { field, found });
        if self.index >= INDEX_MAX {
            return impossible("index", u64::from(self.index));
        }
        if self.number <= u64::from(self.index) || self.number >= COUNT_MAX {
            return impossible("number", self.number);
        }
        if !(1..COUNT_MAX).contains(&self.flush) {
            return impossible("flush", self.flush);
        }
        if self.payload_bytes >= 1 << 30 {
            return impossible("payload length", u64::from(self.payload_bytes));
        }
        match self.name.kind {
            Kind::Accepted if self.name.slot == 0 => impossible("slot", 0),
            Kind::Promise | Kind::Chosen | Kind::Clean if self.payload_bytes != 0 => {
                impossible("payload length", u64::from(self.payload_bytes))
            }
            Kind::Accepted | Kind::Promise | Kind::Chosen | Kind::Clean => Ok(()),
        }
    }

    /// Writes the frame to the front of `out` and returns its checksum; copies the payload once.
    /// The padding is the caller's (it clears the buffer's gaps).
    pub(crate) fn encode(&self, payload: &[u8], seal: Seal, out: &mut [u8]) -> u32 {
        assert_eq!(payload.len(), self.payload_bytes as usize);
        let (header, rest) = out.split_at_mut(HEADER_BYTES);
        self.put_fields(header);
        let mut hasher = fields_hasher(seal, header);
        let header_crc = hasher.clone().finalize();
        put(header, HEADER_CRC_AT, &header_crc.to_le_bytes());
        for (from, to) in payload
            .chunks(PIECE_BYTES)
            .zip(rest.chunks_mut(PIECE_BYTES))
        {
            to[..from.len()].copy_from_slice(from);
            hasher.update(&to[..from.len()]);
        }
        let crc = hasher.finalize();
        put(header, CRC_AT, &crc.to_le_bytes());
        crc
    }

    fn put_fields(&self, out: &mut [u8]) {
        put(out, 0, &MAGIC.to_le_bytes());
        put(
            out,
            4,
            &[
                VERSION,
                self.name.kind as u8,
                self.previous.map_or(0, |name| name.kind as u8),
                0,
            ],
        );
        put(out, 8, &self.payload_bytes.to_le_bytes());
        put(out, 12, &self.offset.to_le_bytes());
        put(out, 16, &self.segment.0.to_le_bytes());
        put(out, 24, &self.number.to_le_bytes());
        put(out, 32, &self.flush.to_le_bytes());
        put(out, 40, &self.name.ballot.to_le_bytes());
        put(out, 48, &self.name.slot.to_le_bytes());
        let (slot, ballot) = self
            .previous
            .map_or((0, 0), |name| (name.slot, name.ballot));
        put(out, 56, &ballot.to_le_bytes());
        put(out, 64, &slot.to_le_bytes());
        put(out, 72, &self.promised.to_le_bytes());
        put(out, 80, &self.previous_crc.to_le_bytes());
        put(out, 84, &self.index.to_le_bytes());
    }
}

impl<'a> Frame<'a> {
    /// Reads the frame at the front of `bytes`, which must belong to this place.
    ///
    /// # Errors
    /// Why it is not a frame of this place.
    pub fn decode(
        bytes: &'a [u8],
        segment: SegmentNumber,
        offset: u32,
        seal: Seal,
    ) -> Result<Self, FrameError> {
        let header = Header::parse_at(bytes, segment, offset, seal)?;
        Self::with_header(bytes, header, seal)
    }

    /// Checks the payload behind a header that was read from the front of `bytes`.
    pub(crate) fn with_header(
        bytes: &'a [u8],
        header: Header,
        seal: Seal,
    ) -> Result<Self, FrameError> {
        let needed = HEADER_BYTES + header.payload_bytes as usize;
        let Some(whole) = bytes.get(..needed) else {
            return Err(FrameError::Short {
                bytes: bytes.len(),
                needed,
            });
        };
        let mut hasher = fields_hasher(seal, whole);
        hasher.update(&whole[HEADER_BYTES..]);
        let computed = hasher.finalize();
        if computed != header.crc && !planted(Bug::ChecksumIgnored) {
            return Err(FrameError::Crc {
                computed,
                stored: header.crc,
            });
        }
        Ok(Self {
            header,
            payload: &whole[HEADER_BYTES..],
        })
    }

    /// The record, its payload where it lies.
    #[must_use]
    pub fn record(&self) -> Record<&'a [u8]> {
        let Name { kind, slot, ballot } = self.header.name;
        match kind {
            Kind::Promise => Record::Promise { ballot },
            Kind::Accepted => Record::Accepted {
                ballot,
                slot,
                payload: self.payload,
            },
            Kind::Chosen => Record::Chosen { upto: slot },
            Kind::Clean => Record::Clean,
        }
    }
}

impl Seal {
    /// Writes both checksums of a whole frame (header and payload, without padding): for tools and
    /// tests that make frames which no log would write.
    ///
    /// # Panics
    /// If `frame` is shorter than a header.
    pub fn stamp(self, frame: &mut [u8]) {
        let mut hasher = fields_hasher(self, frame);
        let header_crc = hasher.clone().finalize();
        put(frame, HEADER_CRC_AT, &header_crc.to_le_bytes());
        hasher.update(&frame[HEADER_BYTES..]);
        put(frame, CRC_AT, &hasher.finalize().to_le_bytes());
    }
}

fn name(kind: u8, slot: u64, ballot: u64) -> Result<Name, FrameError> {
    let kind = Kind::from_byte(kind).ok_or(FrameError::Field {
        field: "kind",
        found: u64::from(kind),
    })?;
    Ok(Name { kind, slot, ballot })
}

/// Where both checksums of a frame begin: the header's fields. As it is, it gives the header's; after
/// the payload, the frame's. Neither checksum is under a checksum.
fn fields_hasher(seal: Seal, frame: &[u8]) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new_with_initial(seal.0);
    hasher.update(&frame[..HEADER_CRC_AT]);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal(0x1234_5678);

    fn header() -> Header {
        Header {
            segment: SegmentNumber(3),
            offset: 8192,
            number: 9,
            flush: 4,
            index: 2,
            name: Name {
                kind: Kind::Accepted,
                slot: 6,
                ballot: 0x201,
            },
            previous: Some(Name {
                kind: Kind::Chosen,
                slot: 5,
                ballot: 0,
            }),
            previous_crc: 0xABCD,
            promised: 0x301,
            payload_bytes: 20_000,
            crc: 0,
        }
    }

    fn encoded() -> (Header, Vec<u8>) {
        let payload: Vec<u8> = (0..20_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut out = vec![0; frame_bytes(payload.len())];
        let mut header = header();
        header.crc = header.encode(&payload, SEAL, &mut out);
        (header, out)
    }

    #[test]
    fn decodes_what_it_encodes() {
        let (header, bytes) = encoded();
        let frame = Frame::decode(&bytes, SegmentNumber(3), 8192, SEAL).unwrap();
        assert_eq!(frame.header, header);
        assert_eq!(frame.header.flush_first(), 7);
        let Record::Accepted {
            ballot,
            slot,
            payload,
        } = frame.record()
        else {
            panic!("another kind");
        };
        assert_eq!((ballot, slot, payload.len()), (0x201, 6, 20_000));
        assert_eq!(payload[300], 44);
    }

    /// The checksum of a frame of this payload under a changed header.
    fn crc_of(payload: &[u8], seal: Seal, change: impl FnOnce(&mut Header)) -> u32 {
        let mut header = header();
        header.payload_bytes = u32::try_from(payload.len()).unwrap();
        change(&mut header);
        header.encode(payload, seal, &mut vec![0; frame_bytes(payload.len())])
    }

    #[test]
    fn frames_that_differ_in_one_header_field_alone_differ_in_crc() {
        type Change = fn(&mut Header);
        let changes: [(&str, Change); 13] = [
            ("as it is", |_| {}),
            ("segment", |header| header.segment.0 += 1),
            ("offset", |header| header.offset += 16),
            ("number", |header| header.number += 1),
            ("flush", |header| header.flush += 1),
            ("index", |header| header.index += 1),
            ("slot", |header| header.name.slot += 1),
            ("ballot", |header| header.name.ballot += 1),
            ("kind", |header| header.name.kind = Kind::Promise),
            ("promised", |header| header.promised += 1),
            ("previous crc", |header| header.previous_crc += 1),
            ("no previous", |header| header.previous = None),
            ("previous slot", |header| {
                header.previous.as_mut().unwrap().slot += 1;
            }),
        ];
        for payload in [&[][..], &[7; 33], &[9; 3 * PIECE_BYTES]] {
            let mut seen = std::collections::BTreeMap::new();
            for (field, change) in changes {
                if let Some(same) = seen.insert(crc_of(payload, SEAL, change), field) {
                    panic!("{field} and {same}: one crc, {} bytes", payload.len());
                }
            }
            let resealed = crc_of(payload, Seal(SEAL.0 + 1), |_| {});
            assert!(!seen.contains_key(&resealed), "another seal, the same crc");
        }
    }

    #[test]
    fn a_stamped_frame_has_the_checksums_that_encoding_gives_it() {
        let (header, bytes) = encoded();
        let mut stamped = bytes[..HEADER_BYTES + 20_000].to_vec();
        stamped[HEADER_CRC_AT..HEADER_BYTES].fill(0);
        SEAL.stamp(&mut stamped);
        assert_eq!(stamped, bytes[..stamped.len()]);
        assert_eq!(u32_at(&stamped, CRC_AT), header.crc);
    }

    #[test]
    fn a_frame_of_another_version_is_refused_with_both_values() {
        let (_, mut bytes) = encoded();
        bytes[4] = 1;
        SEAL.stamp(&mut bytes[..HEADER_BYTES + 20_000]);
        let error = Header::parse(&bytes, SEAL).unwrap_err();
        assert_eq!(error.to_string(), "frame version 1, 2 supported");
    }

    #[test]
    fn is_valid_only_in_its_place_under_its_seal() {
        let (_, bytes) = encoded();
        let decode = |segment, offset, seal| {
            Frame::decode(&bytes, SegmentNumber(segment), offset, seal).unwrap_err()
        };
        assert!(matches!(decode(4, 8192, SEAL), FrameError::Stale { .. }));
        assert!(matches!(
            decode(2, 8192, SEAL),
            FrameError::Misplaced { .. }
        ));
        assert!(matches!(
            decode(3, 4096, SEAL),
            FrameError::Misplaced { .. }
        ));
        assert!(matches!(
            decode(3, 8192, Seal(1)),
            FrameError::HeaderCrc { .. }
        ));
    }

    #[test]
    fn a_rotten_payload_leaves_the_header_readable() {
        let (header, mut bytes) = encoded();
        bytes[HEADER_BYTES + 777] ^= 4;
        assert_eq!(
            Header::parse_at(&bytes, SegmentNumber(3), 8192, SEAL),
            Ok(header)
        );
        assert!(matches!(
            Frame::decode(&bytes, SegmentNumber(3), 8192, SEAL),
            Err(FrameError::Crc { .. })
        ));
    }

    #[test]
    fn every_flipped_header_bit_and_every_truncation_is_refused() {
        let (_, bytes) = encoded();
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::decode(&bad, SegmentNumber(3), 8192, SEAL).is_err());
        }
        for length in 0..HEADER_BYTES + 20_000 {
            assert!(Frame::decode(&bytes[..length], SegmentNumber(3), 8192, SEAL).is_err());
        }
    }

    #[test]
    fn fields_that_no_writer_writes_are_refused_though_the_checksum_holds() {
        let refused = |change: fn(&mut Header)| {
            let mut header = header();
            header.payload_bytes = 0;
            change(&mut header);
            let mut out = [0; HEADER_BYTES];
            header.encode(&[], SEAL, &mut out);
            matches!(
                Header::parse(&out, SEAL).unwrap_err(),
                FrameError::Field { .. }
            )
        };
        assert!(refused(|header| header.index = 9));
        assert!(refused(|header| header.index = INDEX_MAX));
        assert!(refused(|header| header.number = u64::MAX));
        assert!(refused(|header| header.flush = 0));
        assert!(refused(|header| header.flush = u64::MAX));
        assert!(refused(|header| header.name.slot = 0));
    }
}
