//! The footer: the last block of a data file, and the table of what lies in it.
//!
//! ```text
//! at  bytes  field          (in the block's payload)
//!  0    8    magic "QFILEEND"
//!  8    1    version 2
//!  9    1    number of sections
//! 10    2    zero
//! 12    4    blocks of the file, this one included
//! 16    8    content: checksum of all other blocks' checksums, in order
//! 24    8    base: history: position of the first row, from 1; else 0
//! 32   16    key_min        history: lowest and highest key of its rows; else 0
//! 48   16    key_max
//! 64  24 n   per section of the kind, in file order, empty ones included:
//!              0  2  section      2  2  bytes of a row     4  4  first block
//!              8  4  blocks      12  4  zero              16  8  rows
//! ```
//!
//! When may it be trusted: the block's checksum and place hold ([`super::block`]), every field is what
//! a writer of this version writes (decode says so), and the manifest names the file with the same
//! `content` and number of blocks. Where a row lies follows from the table alone.

use thiserror::Error;

use super::block::{self, BlockError, BlockRef, PAYLOAD_AT, Section};
use super::buckets::bucket_bits;
use super::filter::filter_rows;
use super::name::{Binding, FileId, FileKind};
use crate::BLOCK_BYTES;
use crate::bytes::{is_zero, put, u8_at, u16_at, u32_at, u64_at};

const MAGIC: u64 = u64::from_le_bytes(*b"QFILEEND");
const VERSION: u8 = 2;
const FIXED_BYTES: usize = 64;
const SECTION_BYTES: usize = 24;

/// Rows that one section of rows may have: the two top bits of a stored row number are flags.
pub(crate) const ROWS_MAX: u64 = 1 << 30;
/// Bytes that a side table may have: block indices stay 32-bit numbers.
pub(crate) const SIDE_BYTES_MAX: u64 = 1 << 42;

/// Where a section lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionExtent {
    pub section: Section,
    /// Index of its first block in the file.
    pub first: u32,
    pub blocks: u32,
    pub rows: u64,
}

/// What a data file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub file: FileId,
    /// The sections of its kind, in file order.
    pub sections: Vec<SectionExtent>,
    /// Blocks of the file, the footer included.
    pub blocks: u32,
    /// Checksum of all blocks but the footer ([`super::ContentSum`]).
    pub content: u64,
    /// History: global position of the first row. Else 0.
    pub base: u64,
    /// History: the lowest key of its rows. Else 0.
    pub key_min: u128,
    /// History: the highest key of its rows. Else 0.
    pub key_max: u128,
}

/// Why a block is not the footer of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FooterError {
    #[error("footer block: {0}")]
    Block(#[from] BlockError),
    #[error("magic {found:016x}, must be {MAGIC:016x}")]
    Magic { found: u64 },
    #[error("file version {found}, {VERSION} supported")]
    Version { found: u8 },
    /// The checksum holds over a field that no writer writes.
    #[error("impossible {field}: {found}")]
    Field { field: &'static str, found: u64 },
}

/// Where one row lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowAt {
    pub place: BlockRef,
    pub section: Section,
    /// Of the row in the block's rows, in bytes.
    pub at: usize,
}

/// Blocks that this many rows of a section take up.
pub(crate) fn blocks_of(section: Section, rows: u64) -> u64 {
    rows.div_ceil(section.rows_per_block() as u64)
}

impl Footer {
    /// The section's place; an empty one if the kind has no such section.
    #[must_use]
    pub fn section(&self, section: Section) -> SectionExtent {
        let found = self
            .sections
            .iter()
            .find(|extent| extent.section == section);
        found.copied().unwrap_or(SectionExtent {
            section,
            first: 0,
            blocks: 0,
            rows: 0,
        })
    }

    /// Rows of a section.
    #[must_use]
    pub fn rows(&self, section: Section) -> u64 {
        self.section(section).rows
    }

    /// Where row `row` of a section lies; `None` if there is no such row.
    #[must_use]
    pub fn locate(&self, section: Section, row: u64) -> Option<RowAt> {
        let extent = self.section(section);
        if row >= extent.rows {
            return None;
        }
        let per_block = section.rows_per_block() as u64;
        let block = u32::try_from(row / per_block).expect("a row of the section lies in the file");
        let in_block = usize::try_from(row % per_block).expect("below a block's rows");
        Some(RowAt {
            place: self.place(extent.first + block),
            section,
            at: in_block * section.row_bytes(),
        })
    }

    /// The block with this index.
    #[must_use]
    pub fn place(&self, block: u32) -> BlockRef {
        BlockRef {
            file: self.file,
            block,
        }
    }

    /// Reads a block of this file, and holds it against the table: its section, and how many rows it
    /// must have.
    ///
    /// # Errors
    /// Why it is not that block.
    pub fn decode_block<'a>(
        &self,
        block: u32,
        bytes: &'a [u8],
        binding: &Binding,
    ) -> Result<block::Block<'a>, BlockError> {
        if block >= self.blocks {
            return Err(BlockError::Absent);
        }
        let found = block::decode(bytes, binding, self.place(block))?;
        let (section, used) = self.expected(block);
        if found.section != section {
            return Err(BlockError::Section {
                found: found.section.code(),
                expected: section.code(),
            });
        }
        if found.rows.len() != used {
            let short = |bytes: usize| u16::try_from(bytes).expect("at most 4,064");
            return Err(BlockError::Used {
                found: short(found.rows.len()),
                expected: short(used),
            });
        }
        Ok(found)
    }

    /// Section and used bytes of a block of the file.
    fn expected(&self, block: u32) -> (Section, usize) {
        for extent in &self.sections {
            let Some(index) = block.checked_sub(extent.first) else {
                continue;
            };
            if index < extent.blocks {
                let per_block = extent.section.rows_per_block() as u64;
                let rows = (extent.rows - u64::from(index) * per_block).min(per_block);
                let rows = usize::try_from(rows).expect("at most a block's rows");
                return (extent.section, rows * extent.section.row_bytes());
            }
        }
        (Section::Footer, self.encoded_bytes())
    }

    fn encoded_bytes(&self) -> usize {
        FIXED_BYTES + self.sections.len() * SECTION_BYTES
    }

    /// Writes the footer's block.
    ///
    /// # Panics
    /// If `out` is not a block of zeros, or the table is not one that [`Footer::decode`] accepts: the
    /// file could not be opened again.
    pub(crate) fn encode(&self, out: &mut [u8], binding: &Binding) {
        self.check().expect("a writer writes what it can read");
        assert!(is_zero(out));
        let payload = &mut out[PAYLOAD_AT..];
        put(payload, 0, &MAGIC.to_le_bytes());
        let sections = u8::try_from(self.sections.len()).expect("a handful of sections");
        put(payload, 8, &[VERSION, sections]);
        put(payload, 12, &self.blocks.to_le_bytes());
        put(payload, 16, &self.content.to_le_bytes());
        put(payload, 24, &self.base.to_le_bytes());
        put(payload, 32, &self.key_min.to_le_bytes());
        put(payload, 48, &self.key_max.to_le_bytes());
        for (index, extent) in self.sections.iter().enumerate() {
            let at = FIXED_BYTES + index * SECTION_BYTES;
            let row_bytes = u16::try_from(extent.section.row_bytes()).expect("fits a block");
            put(payload, at, &extent.section.code().to_le_bytes());
            put(payload, at + 2, &row_bytes.to_le_bytes());
            put(payload, at + 4, &extent.first.to_le_bytes());
            put(payload, at + 8, &extent.blocks.to_le_bytes());
            put(payload, at + 16, &extent.rows.to_le_bytes());
        }
        let place = self.place(self.blocks - 1);
        let used = self.encoded_bytes();
        block::seal(out, binding.crc(), place, Section::Footer, used);
    }

    /// Reads the last block of `file`, which has `blocks` blocks.
    ///
    /// # Errors
    /// Why it is not the footer of that file.
    pub fn decode(
        bytes: &[u8],
        binding: &Binding,
        file: FileId,
        blocks: u32,
    ) -> Result<Self, FooterError> {
        let last = blocks.checked_sub(1).ok_or(BlockError::Absent)?;
        let block = block::decode(bytes, binding, BlockRef { file, block: last })?;
        let payload = block.rows;
        let field = |field, found| FooterError::Field { field, found };
        if block.section != Section::Footer {
            return Err(field("section", u64::from(block.section.code())));
        }
        if payload.len() < FIXED_BYTES {
            return Err(field("length", payload.len() as u64));
        }
        if u64_at(payload, 0) != MAGIC {
            return Err(FooterError::Magic {
                found: u64_at(payload, 0),
            });
        }
        if u8_at(payload, 8) != VERSION {
            return Err(FooterError::Version {
                found: u8_at(payload, 8),
            });
        }
        let sections = usize::from(u8_at(payload, 9));
        if payload.len() != FIXED_BYTES + sections * SECTION_BYTES || u16_at(payload, 10) != 0 {
            return Err(field("length", payload.len() as u64));
        }
        let rows = payload[FIXED_BYTES..].chunks(SECTION_BYTES);
        let footer = Self {
            file,
            sections: rows.map(decode_section).collect::<Result<_, _>>()?,
            blocks: u32_at(payload, 12),
            content: u64_at(payload, 16),
            base: u64_at(payload, 24),
            key_min: u128_at(payload, 32),
            key_max: u128_at(payload, 48),
        };
        if footer.blocks != blocks {
            return Err(field("blocks", u64::from(footer.blocks)));
        }
        footer.check()?;
        Ok(footer)
    }

    /// Whether a writer can have written this table.
    fn check(&self) -> Result<(), FooterError> {
        let field = |field, found| FooterError::Field { field, found };
        let kinds = self.sections.iter().map(|extent| extent.section);
        if !kinds.eq(Section::of(self.file.kind).iter().copied()) {
            return Err(field("sections", self.sections.len() as u64));
        }
        let mut next = 0;
        for extent in &self.sections {
            let rows_max = match extent.section {
                Section::Side => SIDE_BYTES_MAX,
                _ => 2 * ROWS_MAX,
            };
            if extent.rows > rows_max {
                return Err(field("rows", extent.rows));
            }
            if u64::from(extent.blocks) != blocks_of(extent.section, extent.rows) {
                return Err(field("blocks of a section", u64::from(extent.blocks)));
            }
            if u64::from(extent.first) != next {
                return Err(field("first block", u64::from(extent.first)));
            }
            next += u64::from(extent.blocks);
        }
        if next + 1 != u64::from(self.blocks) {
            return Err(field("blocks", u64::from(self.blocks)));
        }
        self.check_kind()
    }

    /// What the rows of one kind's sections have to do with each other.
    fn check_kind(&self) -> Result<(), FooterError> {
        let field = |field, found| FooterError::Field { field, found };
        let rows = |section| self.rows(section);
        match self.file.kind {
            FileKind::Accounts => {
                if rows(Section::AccountRows) > ROWS_MAX || rows(Section::Gone) > ROWS_MAX {
                    return Err(field("rows", rows(Section::AccountRows)));
                }
                let entries = rows(Section::AccountRows) + rows(Section::Gone);
                if rows(Section::AccountIndex) != entries {
                    return Err(field("index rows", rows(Section::AccountIndex)));
                }
            }
            FileKind::History => {
                let history = rows(Section::HistoryRows);
                if history == 0 || history > ROWS_MAX || rows(Section::Buckets) != history {
                    return Err(field("history rows", history));
                }
                if rows(Section::Offsets) != (1 << bucket_bits(history)) + 1 {
                    return Err(field("offsets", rows(Section::Offsets)));
                }
                if rows(Section::Filter) != filter_rows(history) {
                    return Err(field("filter rows", rows(Section::Filter)));
                }
                if self.base == 0 || self.base > u64::MAX - 2 * ROWS_MAX {
                    return Err(field("base", self.base));
                }
                if self.key_min > self.key_max {
                    return Err(field("key range", 0));
                }
            }
            FileKind::Side => {}
        }
        let keyed = self.base != 0 || self.key_min != 0 || self.key_max != 0;
        match keyed && self.file.kind != FileKind::History {
            true => Err(field("base", self.base)),
            false => Ok(()),
        }
    }
}

fn decode_section(row: &[u8]) -> Result<SectionExtent, FooterError> {
    let field = |field, found| FooterError::Field { field, found };
    let code = u16_at(row, 0);
    let section = Section::from_code(code).ok_or_else(|| field("section", u64::from(code)))?;
    if usize::from(u16_at(row, 2)) != section.row_bytes() {
        return Err(field("bytes of a row", u64::from(u16_at(row, 2))));
    }
    if u32_at(row, 12) != 0 {
        return Err(field("zero", u64::from(u32_at(row, 12))));
    }
    Ok(SectionExtent {
        section,
        first: u32_at(row, 4),
        blocks: u32_at(row, 8),
        rows: u64_at(row, 16),
    })
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from(u64_at(bytes, at)) | u128::from(u64_at(bytes, at + 8)) << 64
}

const _: () = assert!(BLOCK_BYTES as usize > PAYLOAD_AT + FIXED_BYTES + 8 * SECTION_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    const BINDING: Binding = Binding {
        cluster: 7,
        shard: 2,
    };

    fn footer() -> Footer {
        let extent = |section, first, blocks, rows| SectionExtent {
            section,
            first,
            blocks,
            rows,
        };
        Footer {
            file: FileId {
                kind: FileKind::History,
                number: 3,
            },
            sections: vec![
                extent(Section::HistoryRows, 0, 8, 300),
                extent(Section::Contexts, 8, 0, 0),
                extent(Section::Buckets, 8, 1, 300),
                extent(Section::Offsets, 9, 1, 3),
                extent(Section::Filter, 10, 1, 15),
            ],
            blocks: 12,
            content: 77,
            base: 500,
            key_min: 1 << 90,
            key_max: u128::MAX,
        }
    }

    fn encoded() -> Vec<u8> {
        let mut out = vec![0; BLOCK_BYTES as usize];
        footer().encode(&mut out, &BINDING);
        out
    }

    #[test]
    fn decodes_what_it_encodes() {
        let footer = footer();
        let decoded = Footer::decode(&encoded(), &BINDING, footer.file, footer.blocks);
        assert_eq!(decoded, Ok(footer.clone()));
        assert_eq!(
            footer
                .decode_block(11, &encoded(), &BINDING)
                .unwrap()
                .section,
            Section::Footer
        );
        let decoded = Footer::decode(&encoded(), &BINDING, footer.file, 13);
        assert!(matches!(
            decoded,
            Err(FooterError::Block(BlockError::Index { .. }))
        ));
    }

    /// Any byte of the table changed under a good checksum: refused, or still a table whose rows lie in the file.
    #[test]
    fn what_no_writer_writes_is_refused_although_its_checksum_holds() {
        let footer = footer();
        let place = footer.place(11);
        let mut accepted = 0;
        for at in 0..footer.encoded_bytes() {
            for change in [1, 2, 0x80, 0xFF] {
                let mut bytes = encoded();
                bytes[PAYLOAD_AT + at] ^= change;
                let used = footer.encoded_bytes();
                block::seal(&mut bytes, BINDING.crc(), place, Section::Footer, used);
                let decoded = Footer::decode(&bytes, &BINDING, footer.file, footer.blocks);
                let Ok(decoded) = decoded else { continue };
                accepted += 1;
                assert_eq!(decoded.blocks, footer.blocks);
                for section in Section::ALL {
                    if let Some(last) = decoded.rows(section).checked_sub(1) {
                        let at = decoded.locate(section, last).unwrap();
                        assert!(at.place.block < footer.blocks - 1);
                    }
                }
            }
        }
        // Content, base and keys may be anything; the table may not.
        let free = 8 + 8 + 16 + 16;
        assert!((4 * 8..=4 * free + 4).contains(&accepted), "{accepted}");
    }
}
