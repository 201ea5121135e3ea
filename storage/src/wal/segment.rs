//! A segment: its number, its header block, and a walk over its frames.
//!
//! The first block of a segment belongs to its header; it is written by the first flush into the
//! segment, together with that flush's frames.
//!
//! ```text
//! at   bytes  field
//!   0    4    magic "QSEG"
//!   4    1    version 1
//!   5    1    replica
//!   6    2    zero
//!   8    4    shard
//!  12    1    kind of the last record before this segment, 0 = there is none
//!  13    3    zero
//!  16    8    cluster
//!  24    8    segment_bytes
//!  32    8    created_ns
//!  40    8    segment       number of this segment
//!  48    8    oldest        the oldest segment that was still needed when this one was begun
//!  56    8    number        of the last frame before this segment
//!  64    8    flush         that writes this header
//!  72    8    promised      in force before the first frame of this segment
//!  80    8    chosen_upto   known before the first frame of this segment
//!  88    8    previous ballot
//!  96    8    previous slot
//! 104    4    previous crc  of the last frame before this segment
//! 108   16    zero
//! 124    4    crc32 of bytes 0..124
//! 128   ..    zero up to the end of the block; not checked
//! ```
//!
//! The header is what lets a log begin in the middle: once older segments are recycled, promise,
//! watermark and chain continue from here. As long as they exist it repeats what they say, so a rotten
//! header loses nothing. `oldest` is the proof that older segments may be missing: a segment is
//! recycled only after a header that says so is durable.

use std::fmt;

use thiserror::Error;

use super::frame::{COUNT_MAX, Frame, FrameError, HEADER_BYTES, Header, MAGIC as FRAME_MAGIC};
use super::record::{Kind, Name};
use crate::bytes::{is_zero, put, round_up, u8_at, u16_at, u32_at, u64_at};
use crate::superblock::{Identity, Seal};
use crate::{ALIGN_BYTES, BLOCK_BYTES};

const MAGIC: u32 = u32::from_le_bytes(*b"QSEG");
const VERSION: u8 = 1;
const CRC_AT: usize = 124;
const HEADER_END: usize = 128;

/// Position of a segment in the log, from 1; also its file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNumber(pub u64);

impl SegmentNumber {
    /// The segment that formatting creates.
    pub const FIRST: Self = Self(1);

    /// No log gets here; keeps arithmetic on numbers from overflowing.
    pub(crate) const MAX: Self = Self(1 << 48);

    /// Whether a log can have this segment.
    pub(crate) fn is_possible(self) -> bool {
        (Self::FIRST..Self::MAX).contains(&self)
    }

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(
            self.0
                .checked_add(1)
                .expect("2^64 segments cannot be written"),
        )
    }

    /// Name of the segment's file: `wal-0000000000000001`.
    #[must_use]
    pub fn file_name(self) -> String {
        self.to_string()
    }

    /// The segment that a file of this name is; `None` for every other name, temporary ones included.
    #[must_use]
    pub fn from_file_name(name: &str) -> Option<Self> {
        let digits = name.strip_prefix("wal-")?;
        let number = Self(u64::from_str_radix(digits, 16).ok()?);
        (number.is_possible() && number.to_string() == name).then_some(number)
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wal-{:016x}", self.0)
    }
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub identity: Identity,
    pub segment: SegmentNumber,
    /// The oldest segment that was still needed.
    pub oldest: SegmentNumber,
    /// The flush that wrote this header.
    pub flush: u64,
    /// Where the chain stands before the first frame of this segment.
    pub before: Chain,
}

/// A point in the chain of frames: what the frames up to it add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Number of the last frame; 0 before the first.
    pub number: u64,
    /// Checksum of the last frame.
    pub crc: u32,
    /// The last record.
    pub last: Option<Name>,
    pub promised: u64,
    pub chosen_upto: u64,
}

/// Why a block is not the header of this segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SegmentHeaderError {
    #[error("blank")]
    Blank,
    #[error("{bytes} bytes cannot hold a header")]
    Short { bytes: usize },
    #[error("magic {found:08x}, must be {MAGIC:08x}")]
    Magic { found: u32 },
    #[error("checksum {computed:08x} computed, {stored:08x} stored")]
    Crc { computed: u32, stored: u32 },
    #[error("segment version {found}, {VERSION} supported")]
    Version { found: u8 },
    #[error("impossible {field}: {found}")]
    Field { field: &'static str, found: u64 },
}

impl Chain {
    /// Goes to another point of the chain; promise and watermark never go back.
    pub(crate) fn move_to(&mut self, point: &Self) {
        *self = Self {
            promised: self.promised.max(point.promised),
            chosen_upto: self.chosen_upto.max(point.chosen_upto),
            ..*point
        };
    }

    /// This chain with one more frame.
    #[must_use]
    pub(crate) fn with(mut self, name: Name, crc: u32) -> Self {
        self.number = self
            .number
            .checked_add(1)
            .expect("2^64 frames cannot be written");
        self.crc = crc;
        self.last = Some(name);
        match name.kind {
            Kind::Promise | Kind::Accepted => self.promised = self.promised.max(name.ballot),
            Kind::Chosen => self.chosen_upto = self.chosen_upto.max(name.slot),
            Kind::Clean => {}
        }
        self
    }
}

impl SegmentHeader {
    /// Writes the header to the front of a cleared block.
    pub(crate) fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..HEADER_END];
        let Chain {
            number,
            crc,
            last,
            promised,
            chosen_upto,
        } = self.before;
        let (kind, slot, ballot) =
            last.map_or((0, 0, 0), |name| (name.kind as u8, name.slot, name.ballot));
        put(out, 0, &MAGIC.to_le_bytes());
        put(out, 4, &[VERSION, self.identity.replica, 0, 0]);
        put(out, 8, &self.identity.shard.to_le_bytes());
        put(out, 12, &[kind, 0, 0, 0]);
        put(out, 16, &self.identity.cluster.to_le_bytes());
        put(out, 24, &self.identity.segment_bytes.to_le_bytes());
        put(out, 32, &self.identity.created_ns.to_le_bytes());
        put(out, 40, &self.segment.0.to_le_bytes());
        put(out, 48, &self.oldest.0.to_le_bytes());
        put(out, 56, &number.to_le_bytes());
        put(out, 64, &self.flush.to_le_bytes());
        put(out, 72, &promised.to_le_bytes());
        put(out, 80, &chosen_upto.to_le_bytes());
        put(out, 88, &ballot.to_le_bytes());
        put(out, 96, &slot.to_le_bytes());
        put(out, 104, &crc.to_le_bytes());
        let header_crc = crc32fast::hash(&out[..CRC_AT]);
        put(out, CRC_AT, &header_crc.to_le_bytes());
    }

    /// Reads the header of any segment of any log.
    ///
    /// # Errors
    /// Why it is not a header.
    pub fn decode(segment_bytes: &[u8]) -> Result<Self, SegmentHeaderError> {
        let Some(block) = segment_bytes.get(..HEADER_END) else {
            return Err(SegmentHeaderError::Short {
                bytes: segment_bytes.len(),
            });
        };
        let magic = u32_at(block, 0);
        if magic != MAGIC {
            return Err(match block.iter().all(|&byte| byte == 0) {
                true => SegmentHeaderError::Blank,
                false => SegmentHeaderError::Magic { found: magic },
            });
        }
        let (computed, stored) = (crc32fast::hash(&block[..CRC_AT]), u32_at(block, CRC_AT));
        if computed != stored {
            return Err(SegmentHeaderError::Crc { computed, stored });
        }
        if u8_at(block, 4) != VERSION {
            return Err(SegmentHeaderError::Version {
                found: u8_at(block, 4),
            });
        }
        let impossible = |field, found| Err(SegmentHeaderError::Field { field, found });
        let last = match (u8_at(block, 12), u16_at(block, 6)) {
            (0, 0) => None,
            (kind, 0) => match Kind::from_byte(kind) {
                Some(kind) => Some(Name {
                    kind,
                    slot: u64_at(block, 96),
                    ballot: u64_at(block, 88),
                }),
                None => return impossible("kind", u64::from(kind)),
            },
            (_, found) => return impossible("reserved field", u64::from(found)),
        };
        let header = Self {
            identity: Identity {
                cluster: u64_at(block, 16),
                shard: u32_at(block, 8),
                replica: u8_at(block, 5),
                segment_bytes: u64_at(block, 24),
                created_ns: u64_at(block, 32),
            },
            segment: SegmentNumber(u64_at(block, 40)),
            oldest: SegmentNumber(u64_at(block, 48)),
            flush: u64_at(block, 64),
            before: Chain {
                number: u64_at(block, 56),
                crc: u32_at(block, 104),
                last,
                promised: u64_at(block, 72),
                chosen_upto: u64_at(block, 80),
            },
        };
        if header.oldest.0 == 0 || header.oldest > header.segment {
            return impossible("oldest segment", header.oldest.0);
        }
        if !(1..COUNT_MAX).contains(&header.flush) {
            return impossible("flush", header.flush);
        }
        if header.before.number >= COUNT_MAX {
            return impossible("number", header.before.number);
        }
        Ok(header)
    }
}

/// One thing found while walking a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Where it starts.
    pub offset: u32,
    /// A frame, or why there is none up to the next one (or up to the end).
    pub frame: Result<Frame<'a>, FrameError>,
}

/// Walks the frames of a segment, for people: padding is skipped, every other stretch that is not a
/// frame of this segment is one item with the reason. Does not check the chain: that is recovery's.
pub fn frames<'a>(
    segment_bytes: &'a [u8],
    segment: SegmentNumber,
    seal: Seal,
) -> impl Iterator<Item = Found<'a>> {
    let mut offset = BLOCK_BYTES as usize;
    std::iter::from_fn(move || {
        let walk = Walk {
            bytes: segment_bytes,
            segment,
            seal,
            zero_from: segment_bytes.len(),
        };
        let found = walk.next_from(offset)?;
        offset = match &found.frame {
            Ok(frame) => found.offset as usize + frame.header.frame_bytes(),
            Err(_) => walk
                .seek(found.offset as usize + ALIGN_BYTES as usize, |_| true)
                .map_or(segment_bytes.len(), |header| header.offset as usize),
        };
        Some(found)
    })
}

// A search may end where the zeros begin: no header lies in them.
const _: () = assert!(FRAME_MAGIC != 0);

/// Reads at offsets of one segment.
#[derive(Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) segment: SegmentNumber,
    pub(crate) seal: Seal,
    /// From here on there are only zeros, so no header; the length of `bytes` if that is not known.
    pub(crate) zero_from: usize,
}

impl<'a> Walk<'a> {
    /// The bytes from `offset` on, none beyond the end.
    pub(crate) fn tail(&self, offset: usize) -> &'a [u8] {
        self.bytes.get(offset..).unwrap_or(&[])
    }

    /// The header at `offset`, if it belongs there.
    pub(crate) fn header(&self, offset: usize) -> Result<Header, FrameError> {
        let bytes = self.tail(offset);
        let short = |needed| FrameError::Short {
            bytes: bytes.len(),
            needed,
        };
        let place = u32::try_from(offset).map_err(|_| short(HEADER_BYTES))?;
        let header = Header::parse_at(bytes, self.segment, place, self.seal)?;
        match header.frame_bytes() <= bytes.len() {
            true => Ok(header),
            false => Err(short(header.frame_bytes())),
        }
    }

    /// The payload behind a header that was found at its own offset.
    pub(crate) fn frame(&self, header: Header) -> Result<Frame<'a>, FrameError> {
        Frame::with_header(self.tail(header.offset as usize), header, self.seal)
    }

    /// The first header from `offset` on that belongs where it lies and is `wanted`; frames that are
    /// not wanted are stepped over by their length.
    pub(crate) fn seek(&self, offset: usize, wanted: impl Fn(&Header) -> bool) -> Option<Header> {
        let mut at = round_up(offset, ALIGN_BYTES);
        while at + HEADER_BYTES <= self.bytes.len() && at < self.zero_from {
            if u32_at(self.bytes, at) != FRAME_MAGIC {
                at += ALIGN_BYTES as usize;
                continue;
            }
            match self.header(at) {
                Ok(header) if wanted(&header) => return Some(header),
                Ok(header) => at += header.frame_bytes(),
                Err(_) => at += ALIGN_BYTES as usize,
            }
        }
        None
    }

    fn next_from(&self, offset: usize) -> Option<Found<'a>> {
        let block = round_up(offset, BLOCK_BYTES);
        let (at, header) = match self.header(offset) {
            Err(FrameError::Blank | FrameError::Short { .. }) if offset < block => {
                (block, self.header(block))
            }
            header => (offset, header),
        };
        let rest = self.tail(at);
        if rest.is_empty() || (header.is_err() && is_zero(rest)) {
            return None;
        }
        Some(Found {
            offset: u32::try_from(at).ok()?,
            frame: header.and_then(|header| self.frame(header)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: Identity {
                cluster: 7,
                shard: 2,
                replica: 3,
                segment_bytes: 64 << 10,
                created_ns: 5,
            },
            segment: SegmentNumber(4),
            oldest: SegmentNumber(2),
            flush: 17,
            before: Chain {
                number: 99,
                crc: 0xFEED,
                last: Some(Name {
                    kind: Kind::Accepted,
                    slot: 40,
                    ballot: 0x102,
                }),
                promised: 0x103,
                chosen_upto: 38,
            },
        }
    }

    #[test]
    fn file_names_are_read_back_and_others_are_not_segments() {
        assert_eq!(SegmentNumber(0x1A).file_name(), "wal-000000000000001a");
        let parse = SegmentNumber::from_file_name;
        assert_eq!(parse("wal-000000000000001a"), Some(SegmentNumber(0x1A)));
        for name in [
            "wal-1a",
            "wal-000000000000001A",
            "wal-0000000000000000",
            "wal-ffffffffffffffff",
            "wal-000000000000001a.tmp",
            "wal-+00000000000001a",
            "superblock",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_header_decodes_to_what_was_encoded_and_every_flip_is_refused() {
        let mut block = vec![0; BLOCK_BYTES as usize];
        header().encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Ok(header()));
        for bit in 0..HEADER_END * 8 {
            let mut bad = block.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err());
        }
        for length in 0..HEADER_END {
            assert!(SegmentHeader::decode(&block[..length]).is_err());
        }
        assert_eq!(
            SegmentHeader::decode(&[0; 4096]),
            Err(SegmentHeaderError::Blank)
        );
    }
}
