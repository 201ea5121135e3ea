//! Hash buckets of one history file: every row's fingerprint and number, grouped by the fingerprint's top
//! bits, so that a look-up reads one bucket.
//!
//! A counting sort, in steps: count rows per bucket, add up, put each row into its bucket (in row order),
//! hand the buckets to the writer, then where each begins, then the filter ([`super::filter`]), which takes the
//! fingerprints as they are counted. No step touches more than the rows it was
//! allowed, whatever the file's size, but for the adding up: one pass over at most 2^16 counts.
//! Some 22 bytes of memory per row until the file is written.

use super::block::{ENTRY_BYTES, Section};
use super::chunks::{CHUNK, Chunks};
use super::filter::Filter;
use super::writer::FileWriter;
use crate::bytes::put;

/// Rows of one bucket, on average at most: its entries are three quarters of a block.
const BUCKET_ROWS: u64 = 256;

/// History rows of one checkpoint: bounds the sort's memory to 320 MiB.
pub const HISTORY_ROWS_MAX: u64 = 1 << 24;

/// Bits of the fingerprint that name its bucket, in a file of this many rows: the fewest with which a
/// bucket has at most 256 rows on average.
pub(crate) fn bucket_bits(rows: u64) -> u32 {
    rows.div_ceil(BUCKET_ROWS).next_power_of_two().ilog2()
}

/// The bucket of a fingerprint.
pub(crate) fn bucket_of(fingerprint: u64, bits: u32) -> usize {
    let bucket = fingerprint.checked_shr(u64::BITS - bits).unwrap_or(0);
    usize::try_from(bucket).expect("at most 2^22 buckets")
}

/// A fingerprint and a row number, as stored.
pub(crate) fn entry(fingerprint: u64, row: u32) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    put(&mut entry, 0, &fingerprint.to_le_bytes());
    put(&mut entry, 8, &row.to_le_bytes());
    entry
}

/// The sort of one file's fingerprints.
#[derive(Debug, Default)]
pub(crate) struct BucketSort {
    fingerprints: Chunks<u64>,
    bits: u32,
    /// Where each bucket begins, and where the last one ends.
    offsets: Vec<u32>,
    /// Where each bucket's next row goes.
    next: Vec<u32>,
    sorted: Chunks<(u64, u32)>,
    filter: Filter,
    stage: Stage,
}

/// What is done next, and how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Collect,
    Count(usize),
    Allocate,
    Place(usize),
    Buckets(usize),
    Offsets(usize),
    Filter(usize),
    Done,
}

impl BucketSort {
    /// Takes the fingerprint of the next row.
    ///
    /// # Panics
    /// If the sort has begun, or the file has too many rows.
    pub(crate) fn push(&mut self, fingerprint: u64) {
        assert_eq!(self.stage, Stage::Collect);
        assert!((self.fingerprints.len() as u64) < HISTORY_ROWS_MAX);
        self.fingerprints.push(fingerprint);
    }

    /// Works on at most about `rows_max` rows. False once all is handed to the writer.
    pub(crate) fn step(&mut self, writer: &mut FileWriter, rows_max: usize) -> bool {
        let rows = self.fingerprints.len();
        match self.stage {
            Stage::Collect => {
                self.bits = bucket_bits(rows as u64);
                self.offsets = vec![0; (1 << self.bits) + 1];
                self.filter = Filter::empty(rows as u64);
                self.stage = Stage::Count(0);
            }
            Stage::Count(from) => self.count(from, rows_max),
            Stage::Allocate => self.allocate(rows_max),
            Stage::Place(from) => self.place(from, rows_max),
            Stage::Buckets(from) => {
                let end = rows.min(from + rows_max);
                for index in from..end {
                    let (fingerprint, row) = self.sorted.at(index);
                    writer.push(Section::Buckets, &entry(fingerprint, row));
                    self.sorted.release_upto(index);
                }
                self.stage = match end == rows {
                    true => Stage::Offsets(0),
                    false => Stage::Buckets(end),
                };
            }
            Stage::Offsets(from) => {
                let end = self.offsets.len().min(from + rows_max);
                for offset in &self.offsets[from..end] {
                    writer.push(Section::Offsets, &offset.to_le_bytes());
                }
                self.stage = match end == self.offsets.len() {
                    true => Stage::Filter(0),
                    false => Stage::Offsets(end),
                };
            }
            Stage::Filter(from) => {
                let end = self.filter.len().min(from + rows_max);
                for row in from..end {
                    writer.push(Section::Filter, &self.filter.row(row));
                }
                self.stage = match end == self.filter.len() {
                    true => Stage::Done,
                    false => Stage::Filter(end),
                };
            }
            Stage::Done => {}
        }
        self.stage != Stage::Done
    }

    /// Where each bucket begins, and where the last one ends; and the filter.
    pub(crate) fn into_parts(self) -> (Vec<u32>, Filter) {
        assert_eq!(self.stage, Stage::Done);
        (self.offsets, self.filter)
    }

    fn count(&mut self, from: usize, rows_max: usize) {
        let rows = self.fingerprints.len();
        let end = rows.min(from + rows_max);
        for row in from..end {
            let fingerprint = self.fingerprints.at(row);
            self.offsets[bucket_of(fingerprint, self.bits) + 1] += 1;
            self.filter.insert(fingerprint);
        }
        self.stage = Stage::Count(end);
        if end == rows {
            let mut sum = 0;
            for offset in &mut self.offsets {
                sum += *offset;
                *offset = sum;
            }
            self.next = self.offsets.clone();
            self.stage = Stage::Allocate;
        }
    }

    fn allocate(&mut self, rows_max: usize) {
        let rows = self.fingerprints.len();
        for _ in 0..rows_max.div_ceil(CHUNK) {
            if self.sorted.len() < rows {
                self.sorted.push_chunk((0, 0));
            }
        }
        if self.sorted.len() >= rows {
            self.stage = Stage::Place(0);
        }
    }

    fn place(&mut self, from: usize, rows_max: usize) {
        let rows = self.fingerprints.len();
        let end = rows.min(from + rows_max);
        for row in from..end {
            let fingerprint = self.fingerprints.at(row);
            let next = &mut self.next[bucket_of(fingerprint, self.bits)];
            let row_number = u32::try_from(row).expect("at most 2^24 rows");
            self.sorted.set(*next as usize, (fingerprint, row_number));
            *next += 1;
            self.fingerprints.release_upto(row);
        }
        self.stage = match end == rows {
            true => Stage::Buckets(0),
            false => Stage::Place(end),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{u32_at, u64_at};
    use crate::store::block::PAYLOAD_AT;
    use crate::store::name::{Binding, FileId, FileKind};
    use crate::store::writer::Keyed;

    const BINDING: Binding = Binding {
        cluster: 7,
        shard: 2,
    };

    fn hash(row: u64) -> u64 {
        (row + 1)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(31)
    }

    /// Entries and offsets as they are written, and the number of steps it took.
    fn sorted(fingerprints: &[u64], rows_max: usize) -> (Vec<(u64, u32)>, Vec<u32>, usize) {
        let file = FileId {
            kind: FileKind::History,
            number: 1,
        };
        let mut writer = FileWriter::new(file, BINDING);
        let mut sort = BucketSort::default();
        for fingerprint in fingerprints {
            writer.push(Section::HistoryRows, &[1; 96]);
            sort.push(*fingerprint);
        }
        let mut steps = 1;
        while sort.step(&mut writer, rows_max) {
            steps += 1;
        }
        let (offsets, filter) = sort.into_parts();
        let footer = writer.finish(Keyed {
            base: 1,
            ..Keyed::default()
        });
        let mut bytes = Vec::new();
        while let Some((_, extent)) = writer.take() {
            bytes.extend(extent);
        }
        let row = |section, row| {
            let at = footer.locate(section, row).unwrap();
            usize::try_from(at.place.offset()).unwrap() + PAYLOAD_AT + at.at
        };
        let entries = (0..fingerprints.len() as u64)
            .map(|index| row(Section::Buckets, index))
            .map(|at| (u64_at(&bytes, at), u32_at(&bytes, at + 8)))
            .collect();
        for (index, offset) in offsets.iter().enumerate() {
            let at = row(Section::Offsets, index as u64);
            assert_eq!(u32_at(&bytes, at), *offset);
        }
        for index in 0..filter.len() {
            let at = row(Section::Filter, index as u64);
            assert_eq!(bytes[at..at + 32], filter.row(index));
        }
        assert!(fingerprints.iter().all(|own| filter.may_hold(*own)));
        (entries, offsets, steps)
    }

    #[test]
    fn buckets_hold_every_row_once_in_row_order() {
        for rows in [1, 255, 256, 257, 5_000, 20_000] {
            let fingerprints: Vec<u64> = (0..rows).map(hash).collect();
            let (entries, offsets, _) = sorted(&fingerprints, 1_000);
            let bits = bucket_bits(rows);
            assert_eq!(offsets.len(), (1 << bits) + 1);
            let mut expected: Vec<(u64, u32)> = fingerprints
                .iter()
                .enumerate()
                .map(|(row, fingerprint)| (*fingerprint, u32::try_from(row).unwrap()))
                .collect();
            expected.sort_by_key(|(fingerprint, row)| (bucket_of(*fingerprint, bits), *row));
            assert!(entries == expected, "{rows} rows");
            for (bucket, range) in offsets.windows(2).enumerate() {
                let entries = &entries[range[0] as usize..range[1] as usize];
                let here = |entry: &(u64, u32)| bucket_of(entry.0, bits) == bucket;
                assert!(entries.iter().all(here));
            }
        }
    }

    #[test]
    fn no_step_does_more_than_it_may() {
        let fingerprints: Vec<u64> = (0..20_000).map(hash).collect();
        let (whole, _, few) = sorted(&fingerprints, 1 << 20);
        let (stepped, _, many) = sorted(&fingerprints, 500);
        assert!(whole == stepped);
        assert!(
            few < 9 && many >= 3 * 20_000 / 500,
            "{few} and {many} steps"
        );
    }

    #[test]
    fn a_bucket_has_about_256_rows() {
        assert_eq!((bucket_bits(1), bucket_bits(256)), (0, 0));
        assert_eq!((bucket_bits(257), bucket_bits(512)), (1, 1));
        assert_eq!(bucket_bits(1_000_000), 12);
        assert_eq!(bucket_of(u64::MAX, 0), 0);
        assert_eq!(bucket_of(u64::MAX, 3), 7);
    }
}
