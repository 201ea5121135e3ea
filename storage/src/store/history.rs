//! The history files of a store: which positions and keys each holds, and where its buckets begin.
//!
//! A position is the number of a history row over the shard's whole life, from 1; files hold
//! consecutive ranges of it. Dropping the oldest files leaves the others' positions as they are.
//!
//! In memory per file: its range of positions, its range of keys, and where its buckets begin (four bytes
//! per 128 to 256 rows). Offsets whose block is damaged are not known; a look-up then reads that block,
//! so that it says what is damaged, and goes on once it is repaired.

use std::collections::BTreeMap;

use super::block::{BlockError, OFFSET_BYTES, Section};
use super::buckets::bucket_bits;
use super::footer::Footer;
use crate::bytes::u32_at;

/// One history file.
#[derive(Clone, Debug)]
pub(crate) struct HistoryFile {
    pub(crate) footer: Footer,
    pub(crate) bits: u32,
    offsets: Vec<u32>,
    /// Which blocks of offsets are in `offsets`.
    known: Vec<bool>,
}

/// All of them, ascending by number and so by position.
#[derive(Clone, Debug, Default)]
pub(crate) struct HistoryFiles {
    files: BTreeMap<u64, HistoryFile>,
    /// File number by the position of its first row.
    bases: BTreeMap<u64, u64>,
}

impl HistoryFile {
    /// A file of which no offset is known yet.
    pub(crate) fn new(footer: Footer) -> Self {
        let extent = footer.section(Section::Offsets);
        let offsets = usize::try_from(extent.rows).expect("at most 2^22");
        Self {
            bits: bucket_bits(footer.rows(Section::HistoryRows)),
            offsets: vec![0; offsets],
            known: vec![false; extent.blocks as usize],
            footer,
        }
    }

    /// A file that was just written.
    pub(crate) fn written(footer: Footer, offsets: Vec<u32>) -> Self {
        let blank = Self::new(footer);
        assert_eq!(blank.offsets.len(), offsets.len());
        Self {
            offsets,
            known: vec![true; blank.known.len()],
            ..blank
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.footer.rows(Section::HistoryRows)
    }

    /// Blocks of offsets, as block indices in the file.
    pub(crate) fn offset_blocks(&self) -> std::ops::Range<u32> {
        let extent = self.footer.section(Section::Offsets);
        extent.first..extent.first + extent.blocks
    }

    /// Takes the rows of a block of offsets.
    ///
    /// # Errors
    /// If no writer writes such offsets.
    pub(crate) fn adopt(&mut self, block: u32, rows: &[u8]) -> Result<(), BlockError> {
        let index = (block - self.offset_blocks().start) as usize;
        let from = index * Section::Offsets.rows_per_block();
        let read = || {
            (0..rows.len())
                .step_by(OFFSET_BYTES)
                .map(|at| u32_at(rows, at))
        };
        let highest = read().max().unwrap_or(0);
        if u64::from(highest) > self.rows() || !read().is_sorted() {
            return Err(BlockError::Field {
                field: "offsets",
                found: u64::from(highest),
            });
        }
        for (offset, read) in self.offsets[from..].iter_mut().zip(read()) {
            *offset = read;
        }
        self.known[index] = true;
        Ok(())
    }

    /// Where the entries of a bucket begin and end, or the block of offsets that has to be read first.
    pub(crate) fn bucket(&self, bucket: usize) -> Result<(u32, u32), u32> {
        for offset in [bucket, bucket + 1] {
            let index = offset / Section::Offsets.rows_per_block();
            if !self.known[index] {
                let index = u32::try_from(index).expect("a block of the file");
                return Err(self.offset_blocks().start + index);
            }
        }
        Ok((self.offsets[bucket], self.offsets[bucket + 1]))
    }
}

impl HistoryFiles {
    pub(crate) fn insert(&mut self, file: HistoryFile) {
        let number = file.footer.file.number;
        self.bases.insert(file.footer.base, number);
        let before = self.files.insert(number, file);
        assert!(before.is_none(), "history {number} twice");
    }

    pub(crate) fn remove(&mut self, number: u64) {
        if let Some(file) = self.files.remove(&number) {
            self.bases.remove(&file.footer.base);
        }
    }

    pub(crate) fn file(&self, number: u64) -> Option<&HistoryFile> {
        self.files.get(&number)
    }

    pub(crate) fn file_mut(&mut self, number: u64) -> Option<&mut HistoryFile> {
        self.files.get_mut(&number)
    }

    /// The newest file below `number` whose range of keys includes `key`.
    pub(crate) fn newest_below(&self, number: u64, key: u128) -> Option<&HistoryFile> {
        let mut older = self.files.range(..number).rev().map(|(_, file)| file);
        older.find(|file| (file.footer.key_min..=file.footer.key_max).contains(&key))
    }

    /// The file that holds a position, and which of its rows.
    pub(crate) fn locate(&self, position: u64) -> Option<(&HistoryFile, u64)> {
        let (base, number) = self.bases.range(..=position).next_back()?;
        let (file, row) = (&self.files[number], position - base);
        (row < file.rows()).then_some((file, row))
    }

    /// Position of the oldest row that is kept.
    pub(crate) fn first(&self) -> Option<u64> {
        self.bases.first_key_value().map(|(base, _)| *base)
    }
}
