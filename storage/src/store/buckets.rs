//! Hash buckets of one history file: every row's fingerprint and number, grouped by the fingerprint's top
//! bits, so that a look-up reads one bucket.
//!
//! A *piece* is the buckets of some neighbouring values of those bits, as many as a cache holds.
//!
//! A plain counting sort would put each entry somewhere in tens of megabytes, and the filter ([`super::filter`]) set bits
//! somewhere in further ones, and wait for memory every time. So the entries are sorted in two passes, the most
//! significant bits first, in steps:
//!
//! | step | touches at random | at 2.1 million rows |
//! | --- | --- | --- |
//! | split: each row goes behind the last one of its piece, and is counted for its bucket | the ends of the pieces, the counts | 64 lines of the cache, 32 KiB |
//! | adding up | - | |
//! | per piece: which row comes where; the filter | the order of a piece, its part of the filter | 128 KiB, 48 KiB |
//! | per piece: its rows to the writer, in order | the entries of a piece | 384 KiB |
//! | where each bucket begins, then the filter, to the writer | - | |
//!
//! Pieces are split when all rows are there, not as they come: these come 1,024 at a time, and each time the pieces' ends
//! would have to come back into the cache for a few rows each.
//!
//! No step touches more than the rows it was allowed, whatever the file's size and the fingerprints, but for the
//! adding up: one pass over at most 2^16 counts. Fingerprints that are not spread make a piece that is too large
//! for the cache, which is slow and nothing else.
//!
//! # Memory
//!
//! Per row 8 bytes of fingerprint, given back while 12 of entry are written; 4 of order for the rows of the longest
//! piece; 1.5 of filter; and 12 KiB per piece for a chunk that is not full, 0.2 to 0.8 per row where there are several
//! pieces, which have 16,384 rows at least. That is 14 at 2.1 million rows and 18 if one piece has them all, 288 MiB for
//! the largest file. (It was 25.5 while the whole file was sorted at once.)

use super::block::{ENTRY_BYTES, Section};
use super::chunks::Chunks;
use super::filter::Filter;
use super::writer::FileWriter;
use crate::bytes::{put, u64_at};

/// Rows of one bucket, on average at most: its entries are three quarters of a block.
const BUCKET_ROWS: u64 = 256;

/// History rows of one checkpoint: bounds the sort's memory to 288 MiB.
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

/// Bits of the fingerprint by which the buckets of a piece differ: 32,768 rows, whose entries, order and part of the
/// filter are 560 KiB, half of a usual second-level cache.
const BITS_IN_PIECE: u32 = 7;
/// Bits that name a piece: each has a line of the first-level cache and a page while rows are split. So a piece of the
/// largest files has 65,536 rows.
const PIECE_BITS_MAX: u32 = 8;
/// Entries of a chunk: 12 KiB.
const CHUNK: usize = 1 << 10;
/// What giving back a chunk counts for, in rows: it takes no longer.
const CHUNK_FREED: usize = 64;

/// The sort of one file's fingerprints.
#[derive(Debug, Default)]
pub(crate) struct BucketSort {
    fingerprints: Chunks<u64>,
    bits: u32,
    piece_bits: u32,
    /// By the fingerprint's top bits.
    pieces: Vec<Piece>,
    /// Where each bucket begins, and where the last one ends.
    offsets: Vec<u32>,
    /// Where each bucket's next row goes.
    next: Vec<u32>,
    /// Which piece is being sorted.
    current: usize,
    /// Which of its rows comes where. As long as the longest piece so far.
    order: Vec<u32>,
    filter: Filter,
    stage: Stage,
}

/// What is done next, and how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Collect,
    Split(usize),
    /// These three of the current piece.
    Order(usize),
    Buckets(usize),
    Release,
    Offsets(usize),
    Filter(usize),
    Done,
}

/// Entries whose fingerprints have the same top bits, in row order. Grows without moving them.
#[derive(Clone, Debug, Default)]
struct Piece {
    full: Vec<Vec<[u8; ENTRY_BYTES]>>,
    open: Vec<[u8; ENTRY_BYTES]>,
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
        match self.stage {
            Stage::Collect => self.begin(),
            Stage::Split(from) => self.split(from, rows_max),
            Stage::Order(_) | Stage::Buckets(_) | Stage::Release => {
                self.sort_pieces(writer, rows_max);
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

    fn begin(&mut self) {
        let rows = self.fingerprints.len() as u64;
        self.bits = bucket_bits(rows);
        self.piece_bits = self.bits.saturating_sub(BITS_IN_PIECE).min(PIECE_BITS_MAX);
        self.pieces = vec![Piece::default(); 1 << self.piece_bits];
        self.offsets = vec![0; (1 << self.bits) + 1];
        self.filter = Filter::empty(rows);
        self.stage = Stage::Split(0);
    }

    fn split(&mut self, from: usize, rows_max: usize) {
        let rows = self.fingerprints.len();
        let end = rows.min(from + rows_max);
        for row in from..end {
            let fingerprint = self.fingerprints.at(row);
            self.offsets[bucket_of(fingerprint, self.bits) + 1] += 1;
            let row_number = u32::try_from(row).expect("at most 2^24 rows");
            let piece = &mut self.pieces[bucket_of(fingerprint, self.piece_bits)];
            piece.push(entry(fingerprint, row_number));
            self.fingerprints.release_upto(row);
        }
        self.stage = Stage::Split(end);
        if end == rows {
            self.pieces.iter_mut().for_each(Piece::close);
            self.add_up();
            self.stage = Stage::Order(0);
        }
    }

    fn add_up(&mut self) {
        let mut sum = 0;
        for offset in &mut self.offsets {
            sum += *offset;
            *offset = sum;
        }
        assert_eq!(sum as usize, self.fingerprints.len());
        self.next = self.offsets.clone();
        // Only reserved: a step fills as much of it as it works on.
        let longest = self.pieces.iter().map(Piece::len).max();
        self.order = Vec::with_capacity(longest.expect("at least one piece"));
    }

    /// Sorts pieces and writes them, one behind the other. Not more than their entries: a step that went on to the sections
    /// behind them would leave more to be written than a step may.
    fn sort_pieces(&mut self, writer: &mut FileWriter, rows_max: usize) {
        let mut left = rows_max;
        while left > 0 {
            let worked = match self.stage {
                Stage::Order(from) => self.order(from, left),
                Stage::Buckets(from) => self.write_buckets(writer, from, left),
                Stage::Release => self.release(),
                Stage::Collect
                | Stage::Split(_)
                | Stage::Offsets(_)
                | Stage::Filter(_)
                | Stage::Done => return,
            };
            // Going on to the next stage counts, too: pieces may be empty.
            left = left.saturating_sub(worked.max(1));
        }
    }

    /// Where the rows of the current piece begin.
    fn piece_at(&self) -> u32 {
        self.offsets[self.current << (self.bits - self.piece_bits)]
    }

    /// Says how many rows it worked on, like those below.
    fn order(&mut self, from: usize, rows_max: usize) -> usize {
        let piece_at = self.piece_at();
        let piece = &self.pieces[self.current];
        let room = self.order.len();
        if room < piece.len() {
            let room_end = piece.len().min(room + rows_max);
            self.order.resize(room_end, 0);
            return room_end - room;
        }
        let some = piece.chunk_from(from, rows_max);
        let end = from + some.len();
        let rows = u32::try_from(from).expect("at most 2^24 rows")..;
        for (entry, row) in some.iter().zip(rows) {
            let fingerprint = u64_at(entry, 0);
            let next = &mut self.next[bucket_of(fingerprint, self.bits)];
            self.order[(*next - piece_at) as usize] = row;
            *next += 1;
            self.filter.insert(fingerprint);
        }
        self.stage = match end == piece.len() {
            true => Stage::Buckets(0),
            false => Stage::Order(end),
        };
        some.len()
    }

    fn write_buckets(&mut self, writer: &mut FileWriter, from: usize, rows_max: usize) -> usize {
        let piece = &self.pieces[self.current];
        let end = piece.len().min(from + rows_max);
        for row in &self.order[from..end] {
            writer.push(Section::Buckets, piece.at(*row as usize));
        }
        self.stage = match end == piece.len() {
            true => Stage::Release,
            false => Stage::Buckets(end),
        };
        end - from
    }

    /// Gives back a chunk of the piece that is written; goes on to the next piece when there is none left.
    fn release(&mut self) -> usize {
        if self.pieces[self.current].full.pop().is_some() {
            return CHUNK_FREED;
        }
        self.current += 1;
        self.stage = Stage::Order(0);
        if self.current == self.pieces.len() {
            (self.next, self.order) = (Vec::new(), Vec::new());
            self.stage = Stage::Offsets(0);
        }
        0
    }
}

impl Piece {
    fn push(&mut self, entry: [u8; ENTRY_BYTES]) {
        if self.open.len().is_multiple_of(CHUNK) {
            self.close();
            self.open = Vec::with_capacity(CHUNK);
        }
        self.open.push(entry);
    }

    /// The open chunk is full, or nothing is pushed any more.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    /// Once it is closed, like those below.
    fn len(&self) -> usize {
        let last = self.full.last().map_or(CHUNK, Vec::len);
        self.full.len() * CHUNK + last - CHUNK
    }

    fn at(&self, row: usize) -> &[u8; ENTRY_BYTES] {
        &self.full[row / CHUNK][row % CHUNK]
    }

    /// Entries of one chunk from this row on; none at the end.
    fn chunk_from(&self, from: usize, rows_max: usize) -> &[[u8; ENTRY_BYTES]] {
        let Some(chunk) = self.full.get(from / CHUNK) else {
            return &[];
        };
        let rest = &chunk[from % CHUNK..];
        &rest[..rest.len().min(rows_max)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::u32_at;
    use crate::store::block::PAYLOAD_AT;
    use crate::store::chunks::CHUNK as FREED;
    use crate::store::name::{Binding, FileId, FileKind};
    use crate::store::writer::Keyed;

    const BINDING: Binding = Binding {
        cluster: 7,
        shard: 2,
    };

    fn mixed(value: u64) -> u64 {
        let mixed = value.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn new_writer() -> FileWriter {
        let kind = FileKind::History;
        FileWriter::new(FileId { kind, number: 1 }, BINDING)
    }

    /// Compares what is written with what a plain sort makes of the same, and says how many steps it took.
    fn check(fingerprints: &[u64], rows_max: usize) -> usize {
        let rows = fingerprints.len() as u64;
        let mut writer = new_writer();
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
        let at = |section, row| {
            let at = footer.locate(section, row).unwrap();
            usize::try_from(at.place.offset()).unwrap() + PAYLOAD_AT + at.at
        };
        let (entries, expected_offsets) = plainly_sorted(fingerprints);
        let written = (0..rows).map(|index| {
            let at = at(Section::Buckets, index);
            (u64_at(&bytes, at), u32_at(&bytes, at + 8))
        });
        assert!(written.eq(entries), "{rows} rows, {rows_max} at once");
        assert_eq!(offsets, expected_offsets);
        for (index, offset) in offsets.iter().enumerate() {
            assert_eq!(u32_at(&bytes, at(Section::Offsets, index as u64)), *offset);
        }
        let mut expected = Filter::empty(rows);
        fingerprints.iter().for_each(|own| expected.insert(*own));
        assert_eq!(filter.len(), expected.len());
        for index in 0..filter.len() {
            let at = at(Section::Filter, index as u64);
            assert_eq!(bytes[at..at + 32], expected.row(index));
            assert_eq!(filter.row(index), expected.row(index));
        }
        steps
    }

    fn plainly_sorted(fingerprints: &[u64]) -> (Vec<(u64, u32)>, Vec<u32>) {
        let bits = bucket_bits(fingerprints.len() as u64);
        let mut entries: Vec<(u64, u32)> = fingerprints.iter().copied().zip(0..).collect();
        entries.sort_by_key(|(fingerprint, row)| (bucket_of(*fingerprint, bits), *row));
        let begin = |bucket| {
            let before = |entry: &(u64, u32)| bucket_of(entry.0, bits) < bucket;
            u32::try_from(entries.partition_point(before)).unwrap()
        };
        let offsets = (0..=1 << bits).map(begin).collect();
        (entries, offsets)
    }

    #[test]
    fn buckets_hold_every_row_once_in_row_order() {
        for rows in [1, 255, 256, 257, 5_000, 20_000] {
            let fingerprints: Vec<u64> = (0..rows).map(mixed).collect();
            check(&fingerprints, 1_000);
        }
    }

    /// No file has no rows, but nothing here depends on that.
    #[test]
    fn nothing_is_sorted_into_one_empty_bucket() {
        let (mut writer, mut sort) = (new_writer(), BucketSort::default());
        while sort.step(&mut writer, 1) {}
        let (offsets, filter) = sort.into_parts();
        assert_eq!((offsets, filter.len()), (vec![0, 0], 0));
        assert_eq!(writer.rows(Section::Buckets), 0);
    }

    /// Around the first sizes with two and four pieces, and with eight.
    #[test]
    fn fingerprints_may_be_spread_however_badly() {
        let shapes: [fn(u64) -> u64; 8] = [
            mixed,
            |_| 0,
            |_| u64::MAX,
            |row| 0xABCD << 48 | mixed(row) >> 16,
            |row| if row % 2 == 0 { 7 << 60 } else { mixed(row) },
            |row| (row % 2) << 63,
            |row| row << 46,
            |row| !(row << 46),
        ];
        for rows in [32_768, 32_769, 65_537, 140_000] {
            for shape in shapes {
                let fingerprints: Vec<u64> = (0..rows).map(shape).collect();
                check(&fingerprints, 8_192);
            }
        }
    }

    #[test]
    fn any_rows_in_any_steps_are_sorted_as_a_plain_sort_does() {
        for case in 0..60 {
            let draw = |at: u64, below: u64| mixed(case * 100 + at) % below;
            let rows = 1 + draw(0, 1 << draw(1, 18));
            // As many of the upper bits are the same in all rows.
            let same = draw(2, 24);
            let (top, rest) = (mixed(case), u64::MAX >> same);
            let fingerprints: Vec<u64> = (0..rows)
                .map(|row| top & !rest | mixed(row + (case << 32)) & rest)
                .collect();
            let rows_max = 1 + draw(3, 1 << draw(4, 15));
            check(&fingerprints, usize::try_from(rows_max).unwrap());
        }
    }

    #[test]
    fn no_step_does_more_than_it_may() {
        for shape in [mixed, |_| 0] {
            let fingerprints: Vec<u64> = (0..40_000).map(shape).collect();
            let few = check(&fingerprints, 1 << 20);
            let many = check(&fingerprints, 500);
            let least = 3 * 40_000 / 500;
            assert!(few < 9 && many >= least, "{few} and {many} steps");
            // Freeing chunks and going on to the next piece are all that is added.
            assert!(many < 2 * least, "{many} steps");
        }
    }

    /// Bytes that the sort holds.
    fn held(sort: &BucketSort) -> usize {
        let fingerprints = match sort.stage {
            Stage::Split(from) => sort.fingerprints.len() - from / FREED * FREED,
            _ => 0,
        };
        let piece = |piece: &Piece| {
            let chunks = piece.full.iter().chain([&piece.open]);
            let entries: usize = chunks.map(Vec::capacity).sum();
            entries * ENTRY_BYTES + (piece.full.capacity() + 2) * size_of::<Vec<u32>>()
        };
        let numbers = [&sort.offsets, &sort.next, &sort.order].map(Vec::capacity);
        8 * fingerprints
            + sort.pieces.iter().map(piece).sum::<usize>()
            + 4 * numbers.iter().sum::<usize>()
            + usize::try_from(sort.filter.bytes()).unwrap()
    }

    /// At the size that a file may have.
    #[test]
    fn memory_is_as_the_header_says() {
        for (shape, per_row) in [(mixed as fn(u64) -> u64, 14), (|row| mixed(row) >> 10, 18)] {
            let (mut writer, mut sort) = (new_writer(), BucketSort::default());
            (0..HISTORY_ROWS_MAX).for_each(|row| sort.push(shape(row)));
            let rows = usize::try_from(HISTORY_ROWS_MAX).unwrap();
            let mut most = 0;
            while sort.step(&mut writer, 8_192) {
                most = most.max(held(&sort));
                while let Some((_, extent)) = writer.take() {
                    writer.give_back(extent);
                }
            }
            assert!(
                most > per_row * rows * 9 / 10 && most <= per_row * rows,
                "{most}"
            );
            assert_eq!(writer.rows(Section::Buckets), HISTORY_ROWS_MAX);
            let (offsets, filter) = sort.into_parts();
            assert_eq!(offsets.len(), (1 << 16) + 1);
            assert!(
                (0..HISTORY_ROWS_MAX)
                    .step_by(997)
                    .all(|row| filter.may_hold(shape(row)))
            );
        }
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
