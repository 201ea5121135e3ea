//! Records found by a key that they carry.
//!
//! A table from key to place would keep every key twice, and hash tables align: 33 bytes per slot for an
//! account id and a place, 49 for the name of a transfer. Here a slot is a place and 32 bits of the hash, 9
//! bytes with the table's own; the key is compared in the record, which whoever finds it reads anyway. Growing
//! needs the 32 bits only, never the records.

use alloc::boxed::Box;
use core::fmt::{self, Debug};
use core::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{Arena, PARTS};

/// What is found by a key.
pub trait Keyed {
    type Key: Hash + Eq + Debug;

    /// Under which it is found. Never changes while it is in a [`Records`].
    fn key(&self) -> Self::Key;
}

/// An [`Arena`] whose records have keys, each at most once.
pub struct Records<T> {
    arena: Arena<T>,
    parts: Box<[HashTable<Slot>]>,
    hash: FixedState,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    place: u32,
}

impl Slot {
    /// What the small table sees of a key: its control bytes come from the top bits, its order from the low ones.
    fn spread(self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }
}

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self {
            arena: Arena::default(),
            parts: (0..PARTS).map(|_| HashTable::new()).collect(),
            hash: FixedState::with_seed(11),
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
        let (part, slot) = self.home(key, 0);
        let holds =
            |found: &Slot| found.hash == slot.hash && self.arena.at(found.place).key() == *key;
        let found = self.parts[part].find(slot.spread(), holds);
        found.map(|found| found.place)
    }

    /// Adds a record and returns its place.
    ///
    /// # Panics
    /// If there is one with this key, or at 2^32 records.
    pub fn insert(&mut self, record: T) -> u32 {
        let key = record.key();
        let place = self.arena.insert(record);
        let (part, slot) = self.home(&key, place);
        let holds =
            |found: &Slot| found.hash == slot.hash && self.arena.at(found.place).key() == key;
        match self.parts[part].entry(slot.spread(), holds, |slot| slot.spread()) {
            Entry::Vacant(vacant) => vacant.insert(slot),
            Entry::Occupied(_) => panic!("{key:?} twice"),
        };
        place
    }

    /// Takes a record out.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, place: u32) -> T {
        let record = self.arena.remove(place);
        let (part, slot) = self.home(&record.key(), place);
        let found = self.parts[part].find_entry(slot.spread(), |found| found.place == place);
        found.expect("every record has a slot").remove();
        record
    }

    /// Makes room for about so many more: for filling it at once.
    pub fn reserve(&mut self, more: usize) {
        // Some parts get more than their share.
        let share = more / PARTS + more / PARTS / 16 + 8;
        for part in &mut self.parts {
            part.reserve(share, |slot| slot.spread());
        }
    }

    fn home(&self, key: &T::Key, place: u32) -> (usize, Slot) {
        let [part, _, _, _, hash @ ..] = self.hash.hash_one(key).to_be_bytes();
        let hash = u32::from_be_bytes(hash);
        (usize::from(part), Slot { hash, place })
    }
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

    /// One above the highest place given out.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.arena.end()
    }

    /// Records that fit without more memory.
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
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use super::*;
    use crate::prng::Prng;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Row {
        id: u128,
        value: u32,
    }

    impl Keyed for Row {
        type Key = u128;

        fn key(&self) -> u128 {
            self.id
        }
    }

    #[test]
    fn it_holds_what_a_map_holds() {
        let mut draws = Prng::new(5);
        let (mut records, mut map) = (Records::default(), BTreeMap::new());
        for round in 0..3_u32 {
            for value in 0..20_000 {
                let id = u128::from(draws.draw() % 5_000);
                match records.find(&id) {
                    Some(place) if value % 3 == 0 => {
                        assert_eq!(Some(records.remove(place)), map.remove(&id));
                    }
                    Some(place) => assert_eq!(Some(records.at(place)), map.get(&id)),
                    None => {
                        records.insert(Row { id, value });
                        assert_eq!(map.insert(id, Row { id, value }), None);
                    }
                }
                assert_eq!(records.len(), map.len());
            }
            let mut rows: Vec<Row> = records.iter().copied().collect();
            rows.sort_by_key(|row| row.id);
            assert!(rows.iter().eq(map.values()), "round {round}");
            records.clear();
            map.clear();
            assert_eq!((records.len(), records.end()), (0, 0));
        }
    }

    #[test]
    #[should_panic(expected = "7 twice")]
    fn a_key_is_there_once() {
        let mut records = Records::default();
        records.insert(Row { id: 7, value: 1 });
        records.insert(Row { id: 7, value: 2 });
    }
}
