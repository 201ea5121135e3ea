//! Pairs of accounts and how often each was counted: the table of telemetry.
//!
//! Up to a million pairs are in no cache, and each that is counted costs as many trips to memory as it has lines there.
//! Here these are two, and the trips of many pairs are made at once:
//!
//! - a row is one line, and never moves, so that whoever walks them in pages gets no row twice, whatever is counted between
//!   two pages (`a_walk_gets_every_pair_once_while_others_come`). It counts by windows of time: what the present one has,
//!   the ones before it, and one sum of all that is older, which halves from window to window. A row is brought up to
//!   date when it is met, so that a window's end costs nothing;
//! - an index of some eight bytes per pair says where the row may be. Its buckets are lines of sixteen cells, a cell 12
//!   bits of the hash and the place of a row. From that line alone a pair is known not to be in the table, but for the
//!   one in some five hundred whose bits are another's: where the table is full, most have no more than that.
//!
//! The ids in the row decide: two pairs are never taken for one. As in [`crate::table`], the index is split by hash into
//! many parts. One has so few pairs that its growth is no pause, and each grows at a fill of its own, or pairs that
//! spread evenly would make all of them grow at once.
//!
//! It has room for [`TELEMETRY_PAIRS_MAX`] pairs and says how many transfers did not fit. Rows of pairs that have come to
//! nothing give their room back, a part of the index at a time ([`Pairs::sweep`]). Forgetting is making a new one.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::hint::black_box;
use core::num::NonZeroU32;

use crate::client::{PairRow, WINDOWS};
use crate::ids::AccountId;
use crate::limits::TELEMETRY_PAIRS_MAX;
use crate::table::{Arena, scattered};

/// Two accounts, the smaller id first.
pub(crate) type Pair = (AccountId, AccountId);

/// Counted pairs.
pub(crate) struct Pairs {
    rows: Arena<Row>,
    parts: Box<[Part]>,
    /// The number of the present one.
    window: NonZeroU32,
    /// The part that is swept next; behind the last one: all were, in this window.
    swept: usize,
}

impl Default for Pairs {
    fn default() -> Self {
        Self {
            rows: Arena::default(),
            parts: (0..PARTS).map(Part::new).collect(),
            window: NonZeroU32::MIN,
            swept: PARTS,
        }
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pairs({})", self.rows.len())
    }
}

impl Pairs {
    /// Counts each of these once more, in this order; returns how many there was no room for.
    pub fn count(&mut self, pairs: &[Pair]) -> u64 {
        let chunks = pairs.chunks(AT_ONCE);
        chunks.map(|some| self.count_some(some)).sum()
    }

    /// The rows in up to `limit` places from one on, and where the next page begins; 0: there is none.
    pub fn rows(&self, from: u32, limit: u32) -> (Vec<PairRow>, u32) {
        let end = from.saturating_add(limit).min(self.rows.end());
        let rows = (from..end).filter_map(|place| self.rows.get(place));
        let rows = rows.map(|row| row.listed(self.window)).collect();
        (rows, if end < self.rows.end() { end } else { 0 })
    }

    /// The number of the present window, from one on.
    pub fn window(&self) -> NonZeroU32 {
        self.window
    }

    /// What is counted from now on belongs to the next window.
    pub fn begin_window(&mut self) {
        // Where little is counted, most parts have not had their turn.
        (self.swept..PARTS).for_each(|_| self.sweep());
        self.window = self.window.saturating_add(1);
        self.swept = 0;
    }

    /// Takes out the rows of the next part that have come to nothing. Once all parts had their turn, nothing is done until the
    /// next window; and there is no need while there is room.
    pub fn sweep(&mut self) {
        if self.swept == PARTS || self.rows.len() < TELEMETRY_PAIRS_MAX / 2 {
            return;
        }
        let part = &mut self.parts[self.swept];
        self.swept += 1;
        let rows = &mut self.rows;
        let window = self.window;
        let (live, dead): (Vec<u32>, Vec<u32>) = part
            .places()
            .partition(|&place| !rows.at(place).is_nothing(window));
        if !dead.is_empty() {
            dead.into_iter().for_each(|place| {
                rows.remove(place);
            });
            part.refill(part.buckets.len(), &live, |place| {
                scattered(rows.at(place).pair)
            });
        }
    }

    /// Each pass is over all of them, and what it does for one waits for nothing that it reads for another: so the
    /// lines come at the same time. Before the passes that compare, short ones read a word of each line: a processor looks
    /// ahead over so many instructions, and the fewer each line takes, the more lines it waits for at once.
    fn count_some(&mut self, some: &[Pair]) -> u64 {
        let mut hashes = [0; AT_ONCE];
        for (hash, pair) in hashes.iter_mut().zip(some) {
            *hash = scattered(pair);
        }
        let hashes = &hashes[..some.len()];
        let touch = |met, &hash: &u64| met ^ self.parts[part(hash)].touch(hash);
        black_box(hashes.iter().fold(NO_CELL, touch));
        let mut cells = [NO_CELL; AT_ONCE];
        for (cell, &hash) in cells.iter_mut().zip(hashes) {
            *cell = self.parts[part(hash)].candidate(hash);
        }
        let touch = |met, &cell: &u32| met ^ self.rows.get(place(cell)).is_some();
        black_box(cells.iter().fold(false, touch));
        let is_full = self.rows.len() >= TELEMETRY_PAIRS_MAX;
        let mut left_out = 0;
        for ((pair, &hash), &cell) in some.iter().zip(hashes).zip(&cells) {
            let is_counted = match cell {
                NO_CELL if is_full => false,
                NO_CELL => self.count_anywhere(hash, pair),
                cell => self.count_at(place(cell), pair) || self.count_anywhere(hash, pair),
            };
            left_out += u64::from(!is_counted);
        }
        left_out
    }

    /// Counts a pair if it is the one at this place.
    fn count_at(&mut self, place: u32, pair: &Pair) -> bool {
        let window = self.window;
        let Some(row) = self.rows.get_mut(place) else {
            return false;
        };
        let is_same = row.pair == *pair;
        if is_same {
            row.count(window);
        }
        is_same
    }

    /// Counts a pair that may be at another place than the candidate's, or new; false if there is no room for it.
    fn count_anywhere(&mut self, hash: u64, pair: &Pair) -> bool {
        let part = &mut self.parts[part(hash)];
        if let Some(place) = part.find(hash, |place| self.rows.at(place).pair == *pair) {
            return self.count_at(place, pair);
        }
        if self.rows.len() >= TELEMETRY_PAIRS_MAX || part.len >= PART_PAIRS_MAX {
            return false;
        }
        if part.is_to_grow() {
            part.grow(|place| scattered(self.rows.at(place).pair));
        }
        let row = Row::new(*pair, self.window);
        part.insert(hash, self.rows.insert(row));
        true
    }
}

/// A pair, alone in its line. The window's number is never zero: so a place of an [`Arena`] needs no more room than it.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Row {
    pair: Pair,
    /// In which it was counted last.
    window: NonZeroU32,
    /// Of that window, of those before it, and at last of all older ones, halved from window to window.
    counts: [u32; WINDOWS],
}

const _: () = assert!(size_of::<Option<Row>>() == 64);

impl Row {
    fn new(pair: Pair, window: NonZeroU32) -> Self {
        let mut counts = [0; WINDOWS];
        counts[0] = 1;
        Self {
            pair,
            window,
            counts,
        }
    }

    fn count(&mut self, window: NonZeroU32) {
        if self.window != window {
            self.bring_up_to(window);
        }
        self.counts[0] = self.counts[0].saturating_add(1);
    }

    /// As it is in a window that is not earlier than its own.
    fn bring_up_to(&mut self, window: NonZeroU32) {
        let behind = window.get() - self.window.get();
        // No sum of 32 bits outlives more.
        for _ in 0..behind.min(WINDOWS_REMEMBERED) {
            let [.., leaving, older] = self.counts;
            self.counts.rotate_right(1);
            self.counts[0] = 0;
            self.counts[WINDOWS - 1] = (older / 2).saturating_add(leaving);
        }
        self.window = window;
    }

    fn is_nothing(mut self, window: NonZeroU32) -> bool {
        self.bring_up_to(window);
        self.counts == [0; WINDOWS]
    }

    fn listed(mut self, window: NonZeroU32) -> PairRow {
        self.bring_up_to(window);
        let (a, b) = self.pair;
        PairRow {
            a,
            b,
            counts: self.counts,
            reserved: 0,
        }
    }
}

const WINDOWS_REMEMBERED: u32 = u32::BITS + 8;
const _: () = assert!(WINDOWS < 8);

/// Pairs whose lines are waited for at once: more than [`LOOK_AHEAD`](crate::table::LOOK_AHEAD), as a touch is short.
const AT_ONCE: usize = 64;

/// Number of parts of the index.
const PARTS: usize = 512;

/// Pairs of one part: twice its share of a full table. Only ids that were chosen for their hash are so many in one, and
/// they are to make neither its growth nor a walk through its buckets longer.
const PART_PAIRS_MAX: usize = 2 * TELEMETRY_PAIRS_MAX / PARTS;

/// Where the rows may be of those pairs whose hashes begin alike.
struct Part {
    /// Their number is a power of two, or there are none yet. A pair is in the first one from its own on that had a free
    /// cell.
    buckets: Box<[Bucket]>,
    len: usize,
    /// Pairs in as many buckets as there are parts, at which it grows.
    limit: usize,
}

impl Part {
    /// Grows at 9 to 12 pairs per bucket of sixteen. Of those that do not fit in their own there are few at 12, and hardly
    /// any at the 8 of a full table.
    fn new(number: usize) -> Self {
        Self {
            buckets: Box::default(),
            len: 0,
            limit: 9 * PARTS + 3 * number,
        }
    }

    /// The cell in a pair's own bucket that has its tag, or what is known of a pair without one. Of several cells all the
    /// bits, which may be any place: whoever looks there finds another pair.
    fn candidate(&self, hash: u64) -> u32 {
        let Some(bucket) = self.buckets.get(self.own(hash)) else {
            return NO_CELL;
        };
        match bucket.tagged(tag(hash)) {
            NO_CELL if bucket.is_full() => ELSEWHERE,
            cell => cell,
        }
    }

    /// Some word of a pair's own bucket.
    fn touch(&self, hash: u64) -> u32 {
        let bucket = self.buckets.get(self.own(hash));
        bucket.map_or(NO_CELL, |bucket| bucket.cells[0])
    }

    /// The place of the pair that is looked for.
    fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let (before, from) = self
            .buckets
            .split_at(self.own(hash).min(self.buckets.len()));
        for bucket in from.iter().chain(before) {
            if bucket.tagged(tag) != NO_CELL {
                let mut tagged = bucket.cells.iter().filter(|&cell| cell & TAG == tag);
                if let Some(&cell) = tagged.find(|&&cell| is_it(place(cell))) {
                    return Some(place(cell));
                }
            }
            if !bucket.is_full() {
                return None;
            }
        }
        None
    }

    fn is_to_grow(&self) -> bool {
        self.len >= self.buckets.len() * self.limit / PARTS
    }

    /// The places of its pairs.
    fn places(&self) -> impl Iterator<Item = u32> {
        let cells = self.buckets.iter().flat_map(|bucket| bucket.cells);
        cells.filter(|&cell| cell != NO_CELL).map(place)
    }

    /// Twice as many buckets.
    fn grow(&mut self, hash_at: impl Fn(u32) -> u64) {
        let places: Vec<u32> = self.places().collect();
        self.refill((2 * self.buckets.len()).max(1), &places, hash_at);
    }

    /// So many buckets, and in them these. The rows are read for their hashes, many at a time.
    fn refill(&mut self, buckets: usize, places: &[u32], hash_at: impl Fn(u32) -> u64) {
        self.buckets = vec![Bucket::EMPTY; buckets].into();
        self.len = 0;
        for some in places.chunks(AT_ONCE) {
            let mut hashes = [0; AT_ONCE];
            for (hash, &place) in hashes.iter_mut().zip(some) {
                *hash = hash_at(place);
            }
            for (&hash, &place) in hashes.iter().zip(some) {
                self.insert(hash, place);
            }
        }
    }

    /// Adds a pair that is not in it.
    fn insert(&mut self, hash: u64, place: u32) {
        let (before, from) = self.buckets.split_at_mut(self.own(hash));
        let mut buckets = from.iter_mut().chain(before);
        let bucket = buckets.find(|bucket| !bucket.is_full());
        let bucket = bucket.expect("it grows before all are full");
        bucket.add(tag(hash) | place);
        self.len += 1;
    }

    /// The bucket in which a pair belongs. Some number if there is no bucket.
    fn own(&self, hash: u64) -> usize {
        let [.., high, low] = hash.to_be_bytes();
        usize::from(u16::from_be_bytes([high, low])) & self.buckets.len().wrapping_sub(1)
    }
}

/// One line of cells, filled from the first one on.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Bucket {
    cells: [u32; 16],
}

const _: () = assert!(size_of::<Bucket>() == 64);
// It grows at nine pairs per bucket or more: so two bytes of the hash are enough to say which bucket.
const _: () = assert!(2 * PART_PAIRS_MAX / 9 < 1 << u16::BITS);

/// Bits of a cell that are the place of a row.
const PLACE: u32 = (1 << 20) - 1;
const _: () = assert!(TELEMETRY_PAIRS_MAX <= 1 << 20);
/// The others, which are bits of the hash and not all zero.
const TAG: u32 = !PLACE;
/// What a cell is before it is used.
const NO_CELL: u32 = 0;
/// Instead of a cell: the pair is not in its own bucket, but may be in the next.
const ELSEWHERE: u32 = PLACE;

impl Bucket {
    const EMPTY: Self = Self {
        cells: [NO_CELL; 16],
    };

    /// All bits of the cells with this tag. No branch: which cell it is cannot be foretold.
    fn tagged(&self, tag: u32) -> u32 {
        let of = |cell: u32| if cell & TAG == tag { cell } else { NO_CELL };
        self.cells
            .iter()
            .fold(NO_CELL, |bits, &cell| bits | of(cell))
    }

    fn is_full(&self) -> bool {
        let [.., last] = self.cells;
        last != NO_CELL
    }

    fn add(&mut self, cell: u32) {
        let free = self.cells.iter_mut().find(|cell| **cell == NO_CELL);
        *free.expect("a bucket that is not full") = cell;
    }
}

/// The part is the first bits of a hash, the tag some in the middle, the bucket the last ones.
fn part(hash: u64) -> usize {
    let [first, second, ..] = hash.to_be_bytes();
    usize::from(u16::from_be_bytes([first, second]) >> (u16::BITS - PARTS.ilog2()))
}

fn tag(hash: u64) -> u32 {
    let [_, _, high, low, ..] = hash.to_be_bytes();
    (u32::from_be_bytes([high, low, 0, 0]) & TAG).max(PLACE + 1)
}

fn place(cell: u32) -> u32 {
    cell & PLACE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;
    use alloc::collections::{BTreeMap, BTreeSet};

    fn pair(number: u64) -> Pair {
        let id = u128::from(number);
        (AccountId(id), AccountId(id + 1))
    }

    fn drawn(draws: &mut Prng, accounts: u64) -> Pair {
        let mut draw = || AccountId(u128::from(draws.draw() % accounts));
        crate::ledger::rules::pair(draw(), draw())
    }

    /// The same by the book: a map, and the order in which pairs came.
    #[derive(Default)]
    struct Twin {
        weights: BTreeMap<Pair, u64>,
        order: Vec<Pair>,
        left_out: u64,
    }

    fn row(pair: Pair, counts: [u32; WINDOWS]) -> PairRow {
        PairRow {
            a: pair.0,
            b: pair.1,
            counts,
            reserved: 0,
        }
    }

    fn all(pairs: &Pairs) -> Vec<PairRow> {
        pairs.rows(0, u32::MAX).0
    }

    fn once(count: u64) -> [u32; WINDOWS] {
        let mut counts = [0; WINDOWS];
        counts[0] = u32::try_from(count).unwrap();
        counts
    }

    impl Twin {
        fn count(&mut self, pair: Pair) {
            if let Some(weight) = self.weights.get_mut(&pair) {
                *weight += 1;
            } else if self.order.len() < TELEMETRY_PAIRS_MAX {
                self.weights.insert(pair, 1);
                self.order.push(pair);
            } else {
                self.left_out += 1;
            }
        }

        fn assert_same(&self, pairs: &Pairs) {
            assert_eq!(pairs.rows.len(), self.order.len());
            let rows = all(pairs);
            let expected = self.order.iter();
            let expected = expected.map(|&pair| row(pair, once(self.weights[&pair])));
            assert!(rows.into_iter().eq(expected));
            let cells = pairs.parts.iter().flat_map(|part| &part.buckets);
            let cells = cells.flat_map(|bucket| bucket.cells);
            let places = cells.filter(|&cell| cell != NO_CELL).map(place);
            let places: BTreeSet<u32> = places.collect();
            assert!(places.into_iter().eq(0..pairs.rows.end()), "each row once");
        }
    }

    /// Few accounts: pairs come often, also twice at once. Many: the table grows all the time.
    #[test]
    fn it_counts_what_a_map_counts() {
        for (seed, accounts) in [(1, 3), (2, 40), (3, 400), (4, 100_000)] {
            let mut draws = Prng::new(seed);
            let (mut pairs, mut twin) = (Pairs::default(), Twin::default());
            for _ in 0..2_000 {
                let some = draws.draw() % 100;
                let some: Vec<Pair> = (0..some).map(|_| drawn(&mut draws, accounts)).collect();
                assert_eq!(pairs.count(&some), 0);
                some.into_iter().for_each(|pair| twin.count(pair));
            }
            twin.assert_same(&pairs);
        }
    }

    #[test]
    fn a_full_table_counts_what_it_knows_and_says_what_it_leaves_out() {
        let full = TELEMETRY_PAIRS_MAX as u64;
        let (mut pairs, mut twin) = (Pairs::default(), Twin::default());
        let mut count = |some: Vec<Pair>| {
            let before = twin.left_out;
            some.iter().for_each(|&pair| twin.count(pair));
            assert_eq!(pairs.count(&some), twin.left_out - before);
        };
        // It becomes full in the middle of a chunk, in which new pairs come twice.
        count((0..full - 5).map(pair).collect());
        count(
            (full - 10..full + 10)
                .chain(full - 10..full + 10)
                .map(pair)
                .collect(),
        );
        let mut draws = Prng::new(6);
        count(
            (0..1 << 20)
                .map(|_| pair(draws.draw() % (2 * full)))
                .collect(),
        );
        assert!(twin.left_out > 1 << 18, "{}", twin.left_out);
        twin.assert_same(&pairs);

        // What is rare elsewhere was among it: pairs of one tag in one bucket, and pairs in another bucket than their own.
        let buckets = pairs.parts.iter().flat_map(|part| &part.buckets);
        let is_shared = |bucket: &&Bucket| {
            let cells = bucket.cells.iter().filter(|&&cell| cell != NO_CELL);
            let tags: Vec<u32> = cells.map(|cell| cell & TAG).collect();
            tags.iter().collect::<BTreeSet<_>>().len() < tags.len()
        };
        assert!(buckets.clone().filter(is_shared).count() > 100);
        assert!(buckets.filter(|bucket| bucket.is_full()).count() > 100);
    }

    #[test]
    fn pairs_chosen_for_their_hash_fill_their_part_only() {
        let chosen = (0..).map(pair).filter(|pair| part(scattered(pair)) == 7);
        let chosen: Vec<Pair> = chosen.take(PART_PAIRS_MAX + 100).collect();
        let mut pairs = Pairs::default();
        assert_eq!(pairs.count(&chosen), 100);
        assert_eq!(pairs.count(&chosen), 100);
        assert_eq!(pairs.rows.len(), PART_PAIRS_MAX);
        let rows = all(&pairs);
        assert!(rows.iter().all(|row| row.counts == once(2)));
        let mut others = (0..).map(pair).filter(|pair| part(scattered(pair)) != 7);
        assert_eq!(pairs.count(&[others.next().expect("many")]), 0);
    }

    #[test]
    fn a_walk_gets_every_pair_once_while_others_come() {
        let mut draws = Prng::new(8);
        let mut pairs = Pairs::default();
        for _ in 0..20 {
            let count = draws.draw() % 3_000;
            let early: Vec<Pair> = (0..count).map(|_| drawn(&mut draws, 1 << 20)).collect();
            assert_eq!(pairs.count(&early), 0);
            let there = all(&pairs);
            let mut walked = Vec::new();
            loop {
                let from = u32::try_from(walked.len()).expect("few");
                let limit = u32::try_from(1 + draws.draw() % 1_000).expect("few");
                let (page, _) = pairs.rows(from, limit);
                if page.is_empty() {
                    break;
                }
                walked.extend(page);
                let late: Vec<Pair> = (0..100).map(|_| drawn(&mut draws, 1 << 20)).collect();
                assert_eq!(pairs.count(&late), 0);
                if walked.len() > there.len() + 2_000 {
                    break;
                }
            }
            let ids: BTreeSet<Pair> = walked.iter().map(|row| (row.a, row.b)).collect();
            assert_eq!(ids.len(), walked.len(), "none twice");
            assert!(there.iter().all(|row| ids.contains(&(row.a, row.b))));
        }
    }

    #[test]
    fn a_pair_is_counted_by_windows_and_what_is_older_halves() {
        let mut pairs = Pairs::default();
        let seldom = pair(1);
        let often = pair(2);
        assert_eq!(pairs.count(&[seldom; 8]), 0);
        for window in 1..=WINDOWS {
            assert_eq!(pairs.count(&[often]), 0);
            let rows = all(&pairs);
            let mut counts = [0; WINDOWS];
            counts[window - 1] = 8;
            assert_eq!(rows[0], row(seldom, counts));
            assert!(rows[1].counts.iter().take(window).all(|&count| count == 1));
            pairs.begin_window();
        }
        // The sum of what is older: 8 of the first window, then half of that and 1 more each time.
        assert_eq!(pairs.rows(0, 1).0[0].counts[WINDOWS - 1], 4);
        assert_eq!(pairs.rows(1, 1).0[0].counts[WINDOWS - 1], 1);
        for _ in 0..40 {
            pairs.begin_window();
        }
        assert_eq!(pairs.rows(0, 1).0[0], row(seldom, [0; WINDOWS]));
        assert_eq!(pairs.count(&[seldom]), 0);
        assert_eq!(pairs.rows(0, 1).0[0], row(seldom, once(1)));
    }

    /// A table that was full of yesterday's pairs could not count today's.
    #[test]
    fn pairs_that_come_no_more_give_their_room_back() {
        let full = TELEMETRY_PAIRS_MAX as u64;
        let mut pairs = Pairs::default();
        let old: Vec<Pair> = (0..full).map(pair).collect();
        let new: Vec<Pair> = (full..2 * full).map(pair).collect();
        assert_eq!(pairs.count(&old), 0);
        assert_eq!(pairs.count(&new), full);
        let stays: Vec<Pair> = old.iter().copied().step_by(10).collect();
        for _ in 0..=WINDOWS {
            assert_eq!(pairs.count(&stays), 0);
            pairs.begin_window();
            (0..2 * PARTS).for_each(|_| pairs.sweep());
        }
        // Below half of the table nothing is swept: there is room enough.
        let left = pairs.rows.len();
        assert!(
            left < TELEMETRY_PAIRS_MAX / 2 && left >= stays.len(),
            "{left}"
        );
        assert_eq!(pairs.count(&stays), 0, "they are found");
        assert_eq!(pairs.rows.len(), left);
        let room = TELEMETRY_PAIRS_MAX - left;
        assert_eq!(pairs.count(&new), full - room as u64);
        let listed: BTreeSet<Pair> = all(&pairs).iter().map(|r| (r.a, r.b)).collect();
        assert_eq!(listed.len(), TELEMETRY_PAIRS_MAX);
        assert!(stays.iter().all(|pair| listed.contains(pair)));
    }

    #[test]
    fn an_empty_table_has_no_memory_but_its_parts() {
        let pairs = Pairs::default();
        assert_eq!(pairs.rows.room(), 0);
        assert!(pairs.parts.iter().all(|part| part.buckets.is_empty()));
        assert_eq!(
            (pairs.rows(0, 5), pairs.rows(7, 5)),
            ((Vec::new(), 0), (Vec::new(), 0))
        );
    }
}
