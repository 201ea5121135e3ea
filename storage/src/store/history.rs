//! The history files of a store: which positions and keys each holds, and where its buckets begin.
//!
//! A position is the number of a history row over the shard's whole life, from 1; files hold
//! consecutive ranges of it. Dropping the oldest files leaves the others' positions as they are.
//!
//! In memory per file: its range of positions, its range of keys, where its buckets begin (four bytes
//! per 128 to 256 rows), and of the newest files the filter (1.5 bytes per row). Offsets whose block is damaged
//! are not known; a look-up then reads that block, so that it says what is damaged, and goes on once it is
//! repaired. A filter whose block is damaged denies less.

use std::collections::BTreeMap;

use super::block::{BlockError, OFFSET_BYTES, Section};
use super::buckets::bucket_bits;
use super::filter::Filter;
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
    filter: Filter,
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
            filter: Filter::default(),
            footer,
        }
    }

    /// A file that was just written.
    pub(crate) fn written(footer: Footer, (offsets, filter): (Vec<u32>, Filter)) -> Self {
        let blank = Self::new(footer);
        assert_eq!(blank.offsets.len(), offsets.len());
        assert_eq!(filter.len() as u64, blank.footer.rows(Section::Filter));
        Self {
            offsets,
            filter,
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

    /// Blocks of the filter, as block indices in the file.
    pub(crate) fn filter_blocks(&self) -> std::ops::Range<u32> {
        let extent = self.footer.section(Section::Filter);
        extent.first..extent.first + extent.blocks
    }

    /// Makes room for the filter, of which nothing is known yet; how many bytes it takes.
    pub(crate) fn keep_filter(&mut self) -> u64 {
        self.filter = Filter::unknown(self.rows());
        self.filter.bytes()
    }

    /// Takes the rows of a block of the filter, if it is kept.
    pub(crate) fn adopt_filter(&mut self, block: u32, rows: &[u8]) {
        if self.filter.len() > 0 {
            let index = (block - self.filter_blocks().start) as usize;
            self.filter.adopt(index, rows);
        }
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

    /// The newest file below `number` that may hold a row of this key and fingerprint: its range of keys includes
    /// the one, and its filter does not deny the other.
    pub(crate) fn newest_below(
        &self,
        number: u64,
        key: u128,
        fingerprint: u64,
    ) -> Option<&HistoryFile> {
        let mut older = self.files.range(..number).rev().map(|(_, file)| file);
        older.find(|file| {
            let keys = file.footer.key_min..=file.footer.key_max;
            keys.contains(&key) && file.filter.may_hold(fingerprint)
        })
    }

    /// Lets go of the filters of the oldest files, so that the others take at most so many bytes.
    pub(crate) fn bound_filters(&mut self, bytes_max: u64) {
        let mut bytes = 0;
        for file in self.files.values_mut().rev() {
            bytes += file.filter.bytes();
            if bytes > bytes_max {
                file.filter = Filter::default();
            }
        }
    }

    /// Bytes of the filters that are kept.
    pub(crate) fn filter_bytes(&self) -> u64 {
        self.files.values().map(|file| file.filter.bytes()).sum()
    }

    /// All files, the newest first.
    pub(crate) fn newest_first(&mut self) -> impl Iterator<Item = &mut HistoryFile> {
        self.files.values_mut().rev()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::footer::SectionExtent;
    use crate::store::name::{FileId, FileKind};

    const ROWS: u64 = 300;

    /// Holds fingerprints `number << 40` and up.
    fn file(number: u64) -> HistoryFile {
        let extent = |section, first, blocks, rows| SectionExtent {
            section,
            first,
            blocks,
            rows,
        };
        let footer = Footer {
            file: FileId {
                kind: FileKind::History,
                number,
            },
            sections: vec![
                extent(Section::HistoryRows, 0, 8, ROWS),
                extent(Section::Contexts, 8, 0, 0),
                extent(Section::Buckets, 8, 1, ROWS),
                extent(Section::Offsets, 9, 1, 3),
                extent(Section::Filter, 10, 1, 15),
            ],
            blocks: 12,
            content: 77,
            base: 1 + number * ROWS,
            key_min: 0,
            key_max: 100,
        };
        let mut filter = Filter::empty(ROWS);
        (0..ROWS).for_each(|row| filter.insert(fingerprint(number, row)));
        HistoryFile::written(footer, (vec![0, 150, 300], filter))
    }

    fn fingerprint(number: u64, row: u64) -> u64 {
        (number << 32 | row).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn memory_for_filters_is_bounded_and_the_newest_files_keep_theirs() {
        let mut files = HistoryFiles::default();
        (1..=4).for_each(|number| files.insert(file(number)));
        let each = 15 * 32;
        assert_eq!(files.filter_bytes(), 4 * each);
        let asked = |files: &HistoryFiles, fingerprint| {
            let (mut below, mut asked) = (u64::MAX, Vec::new());
            while let Some(file) = files.newest_below(below, 50, fingerprint) {
                below = file.footer.file.number;
                asked.push(below);
            }
            asked
        };
        for row in 0..ROWS {
            assert!(asked(&files, fingerprint(2, row)).contains(&2));
        }
        let nobody = (0..100).find(|row| asked(&files, fingerprint(9, *row)).is_empty());
        let nobody = fingerprint(9, nobody.expect("nearly all"));

        files.bound_filters(2 * each + each / 2);
        assert_eq!(files.filter_bytes(), 2 * each);
        assert_eq!(asked(&files, nobody), [2, 1]);
        assert!(files.newest_below(u64::MAX, 101, nobody).is_none());
        // A repair of what is not kept changes nothing.
        let oldest = files.file_mut(1).expect("inserted");
        oldest.adopt_filter(10, &[0; 15 * 32]);
        assert_eq!(asked(&files, nobody), [2, 1]);
    }
}
