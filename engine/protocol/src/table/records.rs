//! Records found by a key that they carry.
//!
//! A table from key to place would keep every key twice, and hash tables align: 33 bytes per cell for an
//! account id and a place, 49 for the name of a transfer. Here a cell is a place and 32 bits of the hash, 9
//! bytes with the table's own; the key is compared in the record, which whoever finds it reads anyway. Growing
//! needs the 32 bits only, never the records.
//!
//! A hash spreads keys over all of a table, and a table of millions of cells is in no cache: each key costs a trip to
//! memory. Keys that come in sequence can do better: the hash of a whole *neighbourhood* of them ([`neighbours`]) says
//! where it begins, and what is left of the key the place in it. Then a trip serves as many keys as a neighbourhood has.

use alloc::boxed::Box;
use core::fmt::{self, Debug};
use core::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{Arena, LOOK_AHEAD, PARTS};

/// What is found by a key.
pub trait Keyed {
    type Key: Eq + Debug;
    /// What it is, for the panic when it comes twice.
    const WHAT: &str;

    /// Under which it is found. Never changes while it is in a [`Records`].
    fn key(&self) -> Self::Key;

    /// A hash of a key, by [`scattered`] or [`neighbours`]: the same in every process.
    fn hash(key: &Self::Key) -> u64;
}

/// The hash of a key that says nothing of what is looked for next.
#[must_use]
pub fn scattered(key: impl Hash) -> u64 {
    FixedState::with_seed(11).hash_one(key)
}

/// The hash of a key of which `id` counts up while keys are looked for, beside what else is in it: neighbours get
/// cells one behind the other.
#[must_use]
pub fn neighbours(id: u128, beside: impl Hash) -> u64 {
    let size = u128::from(NEIGHBOURS);
    let place = u64::try_from(id % size).expect("less than the size");
    scattered((id / size, beside)) & !(NEIGHBOURS - 1) | place
}

/// Keys of a neighbourhood. Their cells are two lines of the processor's caches; with many more of them, two that meet
/// in one place would be in each other's way for long.
const NEIGHBOURS: u64 = 16;

/// Empty places that a walk of no records passes.
const WALK_MAX: u32 = 1024;

/// An [`Arena`] whose records have keys, each at most once.
pub struct Records<T> {
    arena: Arena<T>,
    parts: Box<[HashTable<Cell>]>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    hash: u32,
    place: u32,
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self {
            arena: Arena::default(),
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
        }
    }
}

impl<T> Debug for Records<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({})", self.arena.len())
    }
}

impl<T: Keyed> Records<T> {
    /// The place of the record with this key.
    #[must_use]
    pub fn find(&self, key: &T::Key) -> Option<u32> {
        let (part, hash) = Self::home(key);
        let holds = |cell: &Cell| holds(&self.arena, cell, hash, key);
        let found = self.parts[part].find(spread(hash), holds);
        found.map(|cell| cell.place)
    }

    /// The places of at most [`LOOK_AHEAD`] keys. Found all at once, so that what is not in the processor's caches is
    /// waited for at the same time.
    ///
    /// # Panics
    /// If there are more: whoever goes on with keys and places side by side would pass the rest over.
    #[must_use]
    pub fn places(&self, mut keys: impl Iterator<Item = T::Key>) -> [Option<u32>; LOOK_AHEAD] {
        let mut places = [None; LOOK_AHEAD];
        for (place, key) in places.iter_mut().zip(keys.by_ref()) {
            *place = self.find(&key);
        }
        assert!(keys.next().is_none(), "more than {LOOK_AHEAD} keys");
        places
    }

    /// The record with this key.
    #[must_use]
    pub fn of(&self, key: &T::Key) -> Option<&T> {
        self.find(key).map(|place| self.at(place))
    }

    /// The same, to change it; its key stays.
    #[must_use]
    pub fn of_mut(&mut self, key: &T::Key) -> Option<&mut T> {
        let place = self.find(key)?;
        Some(self.at_mut(place))
    }

    /// The record with this key, if it still is at the place where it was a moment ago.
    #[must_use]
    pub fn still_mut(&mut self, place: u32, key: &T::Key) -> Option<&mut T> {
        let is_there = self.get(place).is_some_and(|record| record.key() == *key);
        is_there.then(|| self.at_mut(place))
    }

    /// Adds a record and returns its place.
    ///
    /// # Panics
    /// If there is one with this key, or at 2^32 records.
    pub fn insert(&mut self, record: T) -> u32 {
        let key = record.key();
        let (part, hash) = Self::home(&key);
        let holds = |cell: &Cell| holds(&self.arena, cell, hash, &key);
        let entry = self.parts[part].entry(spread(hash), holds, |cell| spread(cell.hash));
        let Entry::Vacant(vacant) = entry else {
            panic!("{} {key:?} twice", T::WHAT);
        };
        let place = self.arena.insert(record);
        vacant.insert(Cell { hash, place });
        place
    }

    /// Adds a record; returns the one with its key that it replaces.
    ///
    /// # Panics
    /// At 2^32 records.
    pub fn put(&mut self, record: T) -> Option<T> {
        let key = record.key();
        let (part, hash) = Self::home(&key);
        let holds = |cell: &Cell| holds(&self.arena, cell, hash, &key);
        match self.parts[part].entry(spread(hash), holds, |cell| spread(cell.hash)) {
            Entry::Occupied(occupied) => {
                let place = self.arena.at_mut(occupied.get().place);
                Some(core::mem::replace(place, record))
            }
            Entry::Vacant(vacant) => {
                let place = self.arena.insert(record);
                vacant.insert(Cell { hash, place });
                None
            }
        }
    }

    /// Takes the record with this key out, if it still is at the place where it was a moment ago.
    pub fn take_at(&mut self, place: u32, key: &T::Key) -> Option<T> {
        self.still_mut(place, key)?;
        self.take(key)
    }

    /// Takes the record with this key out.
    pub fn take(&mut self, key: &T::Key) -> Option<T> {
        let (part, hash) = Self::home(key);
        let holds = |cell: &Cell| holds(&self.arena, cell, hash, key);
        let found = self.parts[part].find_entry(spread(hash), holds).ok()?;
        let (cell, _) = found.remove();
        let record = self.arena.remove(cell.place);
        // What walks the records walks all places that were ever taken.
        if self.arena.is_empty() && self.arena.end() > WALK_MAX {
            self.arena.clear();
        }
        Some(record)
    }

    /// Takes a record out.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, place: u32) -> T {
        let record = self.arena.remove(place);
        let (part, hash) = Self::home(&record.key());
        let found = self.parts[part].find_entry(spread(hash), |cell| cell.place == place);
        found.expect("every record has a cell").remove();
        record
    }

    /// Makes room for about so many more: for filling it at once.
    pub fn reserve(&mut self, more: usize) {
        // Some parts get more than their share.
        let share = more / PARTS + more / PARTS / 16 + 8;
        for part in &mut self.parts {
            part.reserve(share, |cell| spread(cell.hash));
        }
    }

    /// The small table of a key, and the bits of its hash that a cell keeps.
    fn home(key: &T::Key) -> (usize, u32) {
        let [part, _, _, _, hash @ ..] = T::hash(key).to_be_bytes();
        (usize::from(part), u32::from_be_bytes(hash))
    }
}

/// Keys may share a hash: the record decides.
fn holds<T: Keyed>(arena: &Arena<T>, cell: &Cell, hash: u32, key: &T::Key) -> bool {
    cell.hash == hash && arena.at(cell.place).key() == *key
}

/// What a small table sees of a key: its order comes from the low bits, and its control bytes from the top ones, which
/// all others are mixed into: neighbours differ in the low ones only.
fn spread(hash: u32) -> u64 {
    const ODD: u32 = 0x9E37_79B1;
    u64::from(hash.wrapping_mul(ODD)) << 32 | u64::from(hash)
}

impl<T> Records<T> {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.arena.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arena.is_empty()
    }

    /// The record at a place.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn at(&self, place: u32) -> &T {
        self.arena.at(place)
    }

    /// The same, to change it; its key stays.
    ///
    /// # Panics
    /// If there is none.
    pub fn at_mut(&mut self, place: u32) -> &mut T {
        self.arena.at_mut(place)
    }

    /// The record at a place, if there is one.
    #[must_use]
    pub fn get(&self, place: u32) -> Option<&T> {
        self.arena.get(place)
    }

    /// All records in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.arena.iter()
    }

    /// The same, to change them; their keys stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.arena.iter_mut()
    }

    /// One above the highest place given out.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.arena.end()
    }

    /// Places in the memory that it has.
    #[must_use]
    pub fn room(&self) -> usize {
        self.arena.room()
    }

    /// Takes all out, and keeps the memory for those that come.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.parts.iter_mut().for_each(HashTable::clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prng::Prng;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Row {
        id: u64,
        value: u32,
    }

    impl Keyed for Row {
        type Key = u64;
        const WHAT: &str = "row";

        fn key(&self) -> u64 {
            self.id
        }

        fn hash(key: &u64) -> u64 {
            scattered(key)
        }
    }

    #[test]
    fn records_are_a_map_of_what_they_carry() {
        let mut draws = Prng::new(3);
        let (mut records, mut twin) = (Records::default(), BTreeMap::new());
        for value in 0..20_000_u32 {
            let id = draws.draw() % 300;
            let row = Row { id, value };
            match value % 5 {
                0 => assert_eq!(records.take(&id), twin.remove(&id)),
                1 => assert_eq!(records.of_mut(&id), twin.get_mut(&id)),
                2 => {
                    let [place, ..] = records.places([id].into_iter());
                    let taken = place.and_then(|place| records.take_at(place, &id));
                    assert_eq!(taken, twin.remove(&id));
                    let again = place.and_then(|place| records.take_at(place, &id));
                    assert_eq!(again, None, "it is not there any more");
                }
                _ => assert_eq!(records.put(row), twin.insert(id, row)),
            }
            assert_eq!(
                (records.len(), records.of(&id)),
                (twin.len(), twin.get(&id))
            );
        }
        let walked: BTreeMap<u64, Row> = records.iter().map(|row| (row.id, *row)).collect();
        assert_eq!(walked, twin);
    }

    #[test]
    #[should_panic(expected = "more than 32 keys")]
    fn more_keys_than_are_looked_for_at_once_are_not_passed_over() {
        let records = Records::<Row>::default();
        let _ = records.places(0..LOOK_AHEAD as u64);
        let _ = records.places(0..=LOOK_AHEAD as u64);
    }

    #[test]
    fn what_was_large_is_not_walked_when_it_is_empty() {
        let mut records = Records::default();
        for id in 0..5_000 {
            records.put(Row { id, value: 0 });
        }
        for id in 0..5_000 {
            assert!(records.take(&id).is_some());
        }
        assert_eq!(records.end(), 0);
        records.put(Row { id: 7, value: 1 });
        assert!(records.of(&7).is_some());
    }

    /// Rows whose keys have neighbours.
    #[derive(Clone, Copy, Debug)]
    struct Near(Row);

    impl Keyed for Near {
        type Key = u64;
        const WHAT: &str = "near row";

        fn key(&self) -> u64 {
            self.0.id
        }

        fn hash(key: &u64) -> u64 {
            neighbours(u128::from(*key), ())
        }
    }

    /// Rows whose keys share eight hashes among them.
    #[derive(Clone, Copy, Debug)]
    struct Crowded(Row);

    impl Keyed for Crowded {
        type Key = u64;
        const WHAT: &str = "crowded row";

        fn key(&self) -> u64 {
            self.0.id
        }

        fn hash(key: &u64) -> u64 {
            scattered(key % 8)
        }
    }

    /// Draws of insertions, look-ups and removals against a map.
    fn drill<T: Keyed + Copy>(
        rows: u32,
        keys: u64,
        make: impl Fn(Row) -> T,
        row: impl Fn(&T) -> Row,
    ) {
        let mut draws = Prng::new(5);
        let (mut records, mut map) = (Records::<T>::default(), BTreeMap::new());
        for round in 0..3 {
            for value in 0..rows {
                let fresh = Row {
                    id: draws.draw() % keys,
                    value,
                };
                match records.find(&make(fresh).key()) {
                    Some(place) if value % 3 == 0 => {
                        let removed = row(&records.remove(place));
                        assert_eq!(map.remove(&fresh.id), Some(removed));
                    }
                    Some(place) => assert_eq!(map.get(&fresh.id), Some(&row(records.at(place)))),
                    None => {
                        records.insert(make(fresh));
                        assert_eq!(map.insert(fresh.id, fresh), None);
                    }
                }
                assert_eq!(records.len(), map.len());
            }
            let mut found: Vec<Row> = records.iter().map(&row).collect();
            found.sort_by_key(|row| row.id);
            assert!(found.iter().eq(map.values()), "round {round}");
            records.clear();
            map.clear();
            assert_eq!((records.len(), records.end()), (0, 0));
        }
    }

    #[test]
    fn it_holds_what_a_map_holds() {
        drill(20_000, 5_000, |row| row, |row| *row);
        drill(20_000, 5_000, Near, |near| near.0);
    }

    /// Cells whose control bits a look-up of every key passes over, its own one included: in all, and at most.
    fn passed_over<T: Keyed>(records: &Records<T>) -> (usize, usize) {
        let passed = records.iter().map(|record| {
            let (part, hash) = Records::<T>::home(&record.key());
            records.parts[part].iter_hash(spread(hash)).count()
        });
        passed.fold((0, 0), |(sum, most), cells| (sum + cells, most.max(cells)))
    }

    /// Sequences that begin anywhere fill a table about as evenly as scattered keys do, or look-ups would walk.
    #[test]
    fn neighbourhoods_do_not_crowd_a_table() {
        let mut draws = Prng::new(9);
        let mut near = Records::<Near>::default();
        let mut scattered = Records::<Row>::default();
        for sequence in 0..400 {
            let first = draws.draw() >> 1;
            // Some count in steps that leave all but one place of each neighbourhood empty.
            let step = if sequence % 4 == 0 { NEIGHBOURS } else { 1 };
            for value in 0..500 {
                let id = first + u64::from(value) * step;
                near.insert(Near(Row { id, value }));
                scattered.insert(Row { id, value });
            }
        }
        let (near, most) = passed_over(&near);
        let (even, _) = passed_over(&scattered);
        assert!(near < even * 5 / 4, "{near} and {even}");
        assert!(most <= 8, "{most}");
    }

    #[test]
    fn keys_that_share_a_hash_are_told_apart() {
        drill(4_000, 400, Crowded, |crowded| crowded.0);
    }

    #[test]
    #[should_panic(expected = "row 7 twice")]
    fn a_key_is_there_once() {
        let mut records = Records::default();
        records.insert(Row { id: 7, value: 1 });
        records.insert(Row { id: 7, value: 2 });
    }
}
