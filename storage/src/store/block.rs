//! One block: 4,096 bytes that say where they belong, and rows of one section.
//!
//! ```text
//! at   bytes  field
//!  0     4    crc32 of bytes 4..4096, started at the binding
//!  4     2    kind of the file
//!  6     2    section
//!  8     8    number of the file
//! 16     4    index of the block in its file, from 0
//! 20     2    used: bytes of the payload that hold rows
//! 22    10    zero
//! 32  4,064   payload: whole rows, then zeros
//! ```
//!
//! When may a field be trusted: none before the checksum holds; then all of them, and the place that
//! they name is compared with the place that was read. So a block that rotted, was written to the wrong
//! place, or was never written, is told apart from the right one before a row of it is looked at.
//! Rows never straddle blocks: row `r` of a section lies in its block `r / rows_per_block`.

use thiserror::Error;

use super::name::{Binding, FileId, FileKind};
use crate::BLOCK_BYTES;
use crate::bytes::{is_zero, put, u16_at, u32_at, u64_at};

/// Bytes of a block's header.
pub const PAYLOAD_AT: usize = 32;
/// Bytes of a block that hold rows.
pub const PAYLOAD_BYTES: usize = BLOCK_BYTES as usize - PAYLOAD_AT;

/// What the rows of a block are. A file's sections lie one behind the other in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Section {
    /// The last block of every file; see [`super::Footer`].
    Footer = 0,
    /// Accounts as of the checkpoint, opaque but for their first 16 bytes, the id.
    AccountRows = 1,
    /// Ids of accounts that left the shard.
    Gone = 2,
    /// Fingerprint and row of every account row, then of every id that left.
    AccountIndex = 3,
    /// What took effect, in order; opaque.
    HistoryRows = 4,
    /// What history rows share; opaque.
    Contexts = 5,
    /// Fingerprint and row of every history row, by bucket.
    Buckets = 6,
    /// Where each bucket begins, and where the last one ends.
    Offsets = 7,
    /// Bytes of the caller.
    Side = 8,
    /// Bits of the fingerprints of all history rows; see `store/filter.rs`.
    Filter = 9,
}

impl Section {
    /// Every section, in the order of their codes.
    pub const ALL: [Self; 10] = [
        Self::Footer,
        Self::AccountRows,
        Self::Gone,
        Self::AccountIndex,
        Self::HistoryRows,
        Self::Contexts,
        Self::Buckets,
        Self::Offsets,
        Self::Side,
        Self::Filter,
    ];

    /// The section of a stored code; `None` if there is no such section.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.code() == code)
    }

    /// As stored.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The sections of a file of this kind, without the footer, in file order.
    #[must_use]
    pub fn of(kind: FileKind) -> &'static [Self] {
        match kind {
            FileKind::Accounts => &[Self::AccountRows, Self::Gone, Self::AccountIndex],
            FileKind::History => &[
                Self::HistoryRows,
                Self::Contexts,
                Self::Buckets,
                Self::Offsets,
                Self::Filter,
            ],
            FileKind::Side => &[Self::Side],
        }
    }

    /// Bytes of one row; of a footer 1, its length varies.
    #[must_use]
    pub fn row_bytes(self) -> usize {
        match self {
            Self::Footer | Self::Side => 1,
            Self::AccountRows => ACCOUNT_ROW_BYTES,
            Self::Gone => ID_BYTES,
            Self::AccountIndex | Self::Buckets => ENTRY_BYTES,
            Self::HistoryRows => HISTORY_ROW_BYTES,
            Self::Contexts => CONTEXT_BYTES,
            Self::Offsets => OFFSET_BYTES,
            Self::Filter => FILTER_ROW_BYTES,
        }
    }

    /// Rows that one block holds.
    #[must_use]
    pub fn rows_per_block(self) -> usize {
        PAYLOAD_BYTES / self.row_bytes()
    }
}

/// Bytes of an account's row.
pub const ACCOUNT_ROW_BYTES: usize = 160;
/// Bytes of an account's id, the first of its row.
pub const ID_BYTES: usize = 16;
/// Bytes of a history row.
pub const HISTORY_ROW_BYTES: usize = 96;
/// Bytes of a context.
pub const CONTEXT_BYTES: usize = 48;
/// Bytes of a fingerprint and a row number.
pub(crate) const ENTRY_BYTES: usize = 12;
/// Bytes of where a bucket begins.
pub(crate) const OFFSET_BYTES: usize = 4;

/// Bytes of a filter's row: 256 bits.
pub(crate) const FILTER_ROW_BYTES: usize = 32;

/// One block of one data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    pub file: FileId,
    /// From 0.
    pub block: u32,
}

impl BlockRef {
    /// Where the block begins in its file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::from(self.block) * u64::from(BLOCK_BYTES)
    }
}

/// A block whose checksum holds, at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    pub section: Section,
    /// The checksum.
    pub crc: u32,
    /// The rows, without the padding.
    pub rows: &'a [u8],
}

/// Why bytes are not the block of this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The device gave no bytes: the file is absent or too short, or the read failed.
    #[error("unreadable")]
    Unreadable,
    /// The file has no such block, or the store no such file.
    #[error("no such block")]
    Absent,
    #[error("{found} bytes, a block has {BLOCK_BYTES}")]
    Length { found: usize },
    /// Nothing was written here.
    #[error("blank")]
    Blank,
    #[error("checksum {computed:08x} computed, {stored:08x} stored")]
    Crc { computed: u32, stored: u32 },
    #[error("written for a file of kind {found}, lies in one of kind {expected}")]
    Kind { found: u16, expected: u16 },
    #[error("written for file number {found}, lies in {expected}")]
    Number { found: u64, expected: u64 },
    #[error("written as block {found}, lies at {expected}")]
    Index { found: u32, expected: u32 },
    #[error("section {found}, must be {expected}")]
    Section { found: u16, expected: u16 },
    #[error("{found} bytes used, must be {expected}")]
    Used { found: u16, expected: u16 },
    /// The checksum holds over bytes that no writer writes.
    #[error("impossible {field}: {found}")]
    Field { field: &'static str, found: u64 },
}

/// Completes a block whose payload is in place: header and checksum. Returns the checksum.
///
/// # Panics
/// If `block` is not a block, or more is used than fits.
pub(crate) fn seal(
    block: &mut [u8],
    binding_crc: u32,
    place: BlockRef,
    section: Section,
    used: usize,
) -> u32 {
    assert_eq!(block.len(), BLOCK_BYTES as usize);
    assert!(used <= PAYLOAD_BYTES && used.is_multiple_of(section.row_bytes()));
    let used = u16::try_from(used).expect("at most 4,064");
    put(block, 4, &place.file.kind.code().to_le_bytes());
    put(block, 6, &section.code().to_le_bytes());
    put(block, 8, &place.file.number.to_le_bytes());
    put(block, 16, &place.block.to_le_bytes());
    put(block, 20, &used.to_le_bytes());
    block[22..PAYLOAD_AT].fill(0);
    let crc = crc_of(block, binding_crc);
    put(block, 0, &crc.to_le_bytes());
    crc
}

/// Reads the block that must lie at `place`.
///
/// # Errors
/// Why it is not that block.
pub fn decode<'a>(
    bytes: &'a [u8],
    binding: &Binding,
    place: BlockRef,
) -> Result<Block<'a>, BlockError> {
    if bytes.len() != BLOCK_BYTES as usize {
        return Err(BlockError::Length { found: bytes.len() });
    }
    let (computed, stored) = (crc_of(bytes, binding.crc()), u32_at(bytes, 0));
    if computed != stored {
        return Err(match is_zero(bytes) {
            true => BlockError::Blank,
            false => BlockError::Crc { computed, stored },
        });
    }
    check_place(bytes, place)?;
    let (code, used) = (u16_at(bytes, 6), usize::from(u16_at(bytes, 20)));
    let field = |field, found| BlockError::Field { field, found };
    let section = Section::from_code(code).ok_or_else(|| field("section", u64::from(code)))?;
    if used > PAYLOAD_BYTES || !used.is_multiple_of(section.row_bytes()) {
        return Err(field("used bytes", used as u64));
    }
    let (rows, padding) = bytes[PAYLOAD_AT..].split_at(used);
    if !is_zero(&bytes[22..PAYLOAD_AT]) || !is_zero(padding) {
        return Err(field("padding", 1));
    }
    Ok(Block {
        section,
        crc: stored,
        rows,
    })
}

fn check_place(bytes: &[u8], place: BlockRef) -> Result<(), BlockError> {
    let (found, expected) = (u16_at(bytes, 4), place.file.kind.code());
    if found != expected {
        return Err(BlockError::Kind { found, expected });
    }
    let (found, expected) = (u64_at(bytes, 8), place.file.number);
    if found != expected {
        return Err(BlockError::Number { found, expected });
    }
    let (found, expected) = (u32_at(bytes, 16), place.block);
    if found != expected {
        return Err(BlockError::Index { found, expected });
    }
    Ok(())
}

fn crc_of(block: &[u8], binding_crc: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(binding_crc);
    hasher.update(&block[4..]);
    hasher.finalize()
}

/// The checksum of a file: of its blocks' checksums, in order, without the footer's.
///
/// 64 bits, each step a bijection of the state: two files of which exactly one block's checksum differs
/// have different sums for certain. (Two crc32 with different starts would not do: crc32 is linear, so
/// the second says nothing that the first does not.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentSum(u64);

impl Default for ContentSum {
    fn default() -> Self {
        Self(0x5143_4F4E_5445_4E54)
    }
}

impl ContentSum {
    /// Adds the next block's checksum.
    pub fn add(&mut self, block_crc: u32) {
        let mixed = self.0.rotate_left(29) ^ u64::from(block_crc);
        self.0 = mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    /// The sum so far.
    #[must_use]
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding = Binding {
        cluster: 7,
        shard: 2,
    };
    const PLACE: BlockRef = BlockRef {
        file: FileId {
            kind: FileKind::History,
            number: 5,
        },
        block: 3,
    };

    fn sealed() -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES as usize];
        block[PAYLOAD_AT..PAYLOAD_AT + 96].fill(9);
        seal(&mut block, BINDING.crc(), PLACE, Section::HistoryRows, 96);
        block
    }

    #[test]
    fn a_block_is_read_as_it_was_sealed_and_only_at_its_place() {
        let bytes = sealed();
        let block = decode(&bytes, &BINDING, PLACE).unwrap();
        assert_eq!(
            (block.section, block.rows),
            (Section::HistoryRows, &[9; 96][..])
        );

        let at = |change: fn(&mut BlockRef)| {
            let mut place = PLACE;
            change(&mut place);
            decode(&bytes, &BINDING, place).unwrap_err().to_string()
        };
        assert_eq!(at(|place| place.block = 4), "written as block 3, lies at 4");
        assert_eq!(
            at(|place| place.file.number = 6),
            "written for file number 5, lies in 6"
        );
        assert_eq!(
            at(|place| place.file.kind = FileKind::Side),
            "written for a file of kind 2, lies in one of kind 3"
        );
        let other = Binding {
            shard: 3,
            ..BINDING
        };
        assert!(matches!(
            decode(&bytes, &other, PLACE),
            Err(BlockError::Crc { .. })
        ));
        assert_eq!(decode(&[0; 4096], &BINDING, PLACE), Err(BlockError::Blank));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let bytes = sealed();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, &BINDING, PLACE).is_err(), "bit {bit}");
        }
        assert_eq!(
            decode(&bytes[1..], &BINDING, PLACE),
            Err(BlockError::Length { found: 4095 })
        );
    }

    #[test]
    fn what_no_writer_writes_is_refused_although_its_checksum_holds() {
        let with = |at: usize, byte: u8| {
            let mut bad = sealed();
            bad[at] = byte;
            let crc = crc_of(&bad, BINDING.crc());
            put(&mut bad, 0, &crc.to_le_bytes());
            decode(&bad, &BINDING, PLACE).unwrap_err().to_string()
        };
        assert_eq!(with(6, 77), "impossible section: 77");
        assert_eq!(with(20, 95), "impossible used bytes: 95");
        assert_eq!(with(21, 0xFF), "impossible used bytes: 65376");
        assert_eq!(with(30, 1), "impossible padding: 1");
        assert_eq!(with(4095, 1), "impossible padding: 1");
    }

    #[test]
    fn one_changed_checksum_changes_the_content_for_certain() {
        let sum = |crcs: &[u32]| {
            let mut sum = ContentSum::default();
            crcs.iter().for_each(|crc| sum.add(*crc));
            sum.value()
        };
        assert_ne!(sum(&[1, 2, 3]), sum(&[1, 3, 2]));
        assert_ne!(sum(&[1, 2]), sum(&[1, 2, 0]));
        for bit in 0..32 {
            assert_ne!(sum(&[1, 1 << bit, 3]), sum(&[1, 0, 3]));
        }
    }
}
