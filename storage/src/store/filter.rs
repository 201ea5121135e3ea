//! The filter of a history file: says of most fingerprints that are not in it that they are not, from memory.
//!
//! A look-up of an id that was never used has to ask every file whose range of ids includes it, and where ids
//! are random that is every file. A bucket costs a read per file; a filter costs one cache line.
//!
//! A split-block Bloom filter (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom Filters",
//! 2007, as Apache Parquet specifies it): 256-bit blocks, one per fingerprint, in which eight words of 32
//! bits get one bit each. Here these blocks are the rows of a section of their own, [`Section::Filter`], so they
//! are checked and repaired like everything else.
//!
//! # Invariant
//!
//! A fingerprint of the file is never denied: a row that is not found would count as an id that was never used, and
//! be applied twice. So a part of the filter that is not known, because its block is damaged or memory is
//! short, denies nothing.
//!
//! # Cost
//!
//! Twelve bits per history row, 1.5 bytes on disk beside the 110 of its row and its bucket entry, and as much
//! memory while it is loaded. It denies 99.5 % of what is not there: among 60 files an id that was never used reads
//! 0.55 blocks instead of some 100 (`tests/store_filter.rs`). What else was weighed:
//!
//! | bits per row | bytes per million rows | files read per 1,000 asked in vain |
//! | --- | --- | --- |
//! | 8 | 1.0 MB | 33 |
//! | 10 | 1.25 MB | 13 |
//! | **12** | **1.5 MB** | **5** |
//! | 16 | 2.0 MB | 1.3 |
//! | none | 0 | 1,000 |
//!
//! *Memory or a read.* A filter that is read from disk when it is asked costs one read per file, as the bucket
//! itself does, and helps nobody. So filters are kept in memory, of the newest files first, up to
//! [`FILTER_BYTES_MAX`]: 512 MiB are the filters of 358 million rows, 40 GB of history. Older files are asked as
//! if they had none; an id that is sent again is mostly young. An open reads what it keeps: 1.5 bytes a row
//! instead of the 12 of the bucket entries from which the same filter could be built.
//!
//! *What is left.* A look-up still asks every file's filter, two cache misses each: some 15 us with 1,000 files, 2 ms
//! with 8,000, 40 ms with 65,000 (measured beside other work on two cores). History files are not merged, so that
//! many checkpoints of history, some terabytes, need an index over several files; until then
//! [`super::Store::begin`] refuses the checkpoint that would be one too many.

use super::block::{FILTER_ROW_BYTES, Section};
use crate::bytes::u32_at;

/// Bytes of filters that are kept in memory.
pub const FILTER_BYTES_MAX: u64 = 512 << 20;

const BITS_PER_ROW: u64 = 12;
const WORDS: usize = FILTER_ROW_BYTES / 4;
/// One odd factor per word, those of Apache Parquet.
const SALT: [u32; WORDS] = [
    0x47B6_137B,
    0x4497_4D91,
    0x8824_AD5B,
    0xA2B7_289D,
    0x7054_95C7,
    0x2DF1_424B,
    0x9EFC_4947,
    0x5C6B_FB31,
];

/// Rows of the filter of a file with so many history rows.
pub(crate) fn filter_rows(history_rows: u64) -> u64 {
    (history_rows * BITS_PER_ROW).div_ceil(FILTER_ROW_BYTES as u64 * 8)
}

/// The filter of one file, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    rows: Vec<[u32; WORDS]>,
    /// Blocks of the section that are in `rows`; all of the others' rows count as full.
    known: Vec<bool>,
}

impl Filter {
    /// An empty filter for so many history rows.
    pub(crate) fn empty(history_rows: u64) -> Self {
        Self::of(history_rows, true)
    }

    /// A filter of which nothing is known yet.
    pub(crate) fn unknown(history_rows: u64) -> Self {
        Self::of(history_rows, false)
    }

    fn of(history_rows: u64, known: bool) -> Self {
        let rows = usize::try_from(filter_rows(history_rows)).expect("at most 2^26");
        let blocks = rows.div_ceil(Section::Filter.rows_per_block());
        Self {
            rows: vec![[0; WORDS]; rows],
            known: vec![known; blocks],
        }
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.rows.len() as u64 * FILTER_ROW_BYTES as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row that a fingerprint's bits are in: its high half, scaled.
    fn row_of(&self, fingerprint: u64) -> usize {
        let row = ((fingerprint >> 32) * self.rows.len() as u64) >> 32;
        usize::try_from(row).expect("below the number of rows")
    }

    pub(crate) fn insert(&mut self, fingerprint: u64) {
        let row = self.row_of(fingerprint);
        for (word, bit) in self.rows[row].iter_mut().zip(bits(fingerprint)) {
            *word |= bit;
        }
    }

    /// False: the file does not have this fingerprint.
    pub(crate) fn may_hold(&self, fingerprint: u64) -> bool {
        if self.rows.is_empty() {
            return true;
        }
        let row = self.row_of(fingerprint);
        if !self.known[row / Section::Filter.rows_per_block()] {
            return true;
        }
        let mut words = self.rows[row].iter().zip(bits(fingerprint));
        words.all(|(word, bit)| word & bit != 0)
    }

    /// A row as it is stored.
    pub(crate) fn row(&self, row: usize) -> [u8; FILTER_ROW_BYTES] {
        let mut bytes = [0; FILTER_ROW_BYTES];
        for (out, word) in bytes.chunks_mut(4).zip(self.rows[row]) {
            out.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Takes the rows of a block of the section.
    pub(crate) fn adopt(&mut self, block: usize, rows: &[u8]) {
        let from = block * Section::Filter.rows_per_block();
        for (row, bytes) in self.rows[from..]
            .iter_mut()
            .zip(rows.chunks(FILTER_ROW_BYTES))
        {
            for (word, at) in row.iter_mut().zip((0..).step_by(4)) {
                *word = u32_at(bytes, at);
            }
        }
        self.known[block] = true;
    }
}

/// One bit of each word, by the fingerprint's low half.
fn bits(fingerprint: u64) -> [u32; WORDS] {
    let low = u32::try_from(fingerprint & u64::from(u32::MAX)).expect("32 bits");
    SALT.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(value: u64) -> u64 {
        let mixed = (value ^ 0x5DEE_CE66_D1CE_5EED).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    #[test]
    fn what_is_in_is_never_denied_and_what_is_not_nearly_always() {
        for rows in [1, 21, 22, 1_000, 100_000] {
            let mut filter = Filter::empty(rows);
            (0..rows).for_each(|row| filter.insert(hash(row)));
            assert!((0..rows).all(|row| filter.may_hold(hash(row))));
            let others = (1 << 40..(1 << 40) + 200_000).map(hash);
            let passed = others.filter(|other| filter.may_hold(*other)).count();
            println!("{rows} rows: {:.2} % pass", passed as f64 / 2_000.0);
            assert!(passed < 200_000 / 100, "{passed} of 200,000 at {rows} rows");
        }
    }

    #[test]
    fn what_is_not_known_denies_nothing() {
        let rows = 5_000;
        let mut written = Filter::empty(rows);
        (0..rows).for_each(|row| written.insert(hash(row)));
        let mut read = Filter::unknown(rows);
        let per_block = Section::Filter.rows_per_block();
        let blocks = written.len().div_ceil(per_block);
        assert_eq!((blocks, written.bytes()), (2, 7_520));
        assert!((0..1_000_000).map(hash).all(|any| read.may_hold(any)));
        for block in [1, 0] {
            let here = block * per_block..written.len().min((block + 1) * per_block);
            let bytes: Vec<u8> = here.flat_map(|row| written.row(row)).collect();
            read.adopt(block, &bytes);
            assert!((0..rows).all(|row| read.may_hold(hash(row))));
        }
        let both = |any: &u64| read.may_hold(*any) == written.may_hold(*any);
        assert!((0..100_000).map(hash).all(|any| both(&any)));
        assert!(Filter::default().may_hold(7));
    }

    /// The bits are part of the format.
    #[test]
    fn the_bits_of_a_fingerprint_are_these() {
        let mut filter = Filter::empty(100);
        assert_eq!(filter.len(), 5);
        filter.insert(0x9E37_79B9_7F4A_7C15);
        let words = filter.rows[3];
        assert_eq!(words.map(u32::count_ones), [1; 8]);
        assert_eq!(
            words.map(u32::trailing_zeros),
            bits(0x7F4A_7C15).map(u32::trailing_zeros)
        );
    }
}
