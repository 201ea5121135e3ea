//! Lookup tables and record arenas without pauses.
//!
//! A table that doubles in one go stalls its core for as long as it takes to move everything; an
//! election timeout is not much longer. So a [`Lookup`] is split into many small tables by hash, and
//! an [`Arena`] grows by whole chunks that never move; [`Records`] are an arena with such tables. What is walked
//! is walked in the order of an arena, which follows from what was put in and taken out; that of a hash table would depend
//! on how it grew.

mod records;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, Hash};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

pub use records::{Keyed, Records, neighbours, scattered};

/// Keys that are looked up at once where many are: a processor waits for memory in some eight places at a time, if what
/// it does in one does not depend on the others.
pub const LOOK_AHEAD: usize = 32;

/// Number of small tables: the first byte of a hash says which.
const PARTS: usize = 1 << u8::BITS;

/// A hash table for lookup only, with a fixed hash: the same inputs give the same behaviour.
pub struct Lookup<K, V> {
    parts: Box<[HashMap<K, V, FixedState>]>,
    hash: FixedState,
    len: usize,
}

impl<K: Hash + Eq, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> fmt::Debug for Lookup<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lookup({} entries)", self.len)
    }
}

impl<K: Hash + Eq, V> Lookup<K, V> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let parts = (0..PARTS)
            .map(|_| HashMap::with_hasher(FixedState::with_seed(7)))
            .collect();
        Self {
            parts,
            hash: FixedState::with_seed(11),
            len: 0,
        }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        // Hashing is most of a look-up.
        if self.len == 0 {
            return None;
        }
        self.parts[self.part(key)].get(key)
    }

    /// Inserts and returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let part = self.part(&key);
        let old = self.parts[part].insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.parts.iter_mut().for_each(HashMap::clear);
        self.len = 0;
    }

    fn part(&self, key: &K) -> usize {
        let [top, ..] = self.hash.hash_one(key).to_be_bytes();
        usize::from(top)
    }
}

/// Records per chunk.
const CHUNK: usize = 4096;

/// Records that never move, addressed by a dense index. Removed places are reused.
pub struct Arena<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    end: u32,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            end: 0,
        }
    }
}

impl<T> fmt::Debug for Arena<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena({} records)", self.len())
    }
}

impl<T> Arena<T> {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end as usize - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a record and returns its index.
    ///
    /// # Panics
    /// At 2^32 records.
    pub fn insert(&mut self, record: T) -> u32 {
        if let Some(index) = self.free.pop() {
            *self.place(index) = Some(record);
            return index;
        }
        let index = self.end;
        self.end = self.end.checked_add(1).expect("fewer than 2^32 records");
        let chunk = index as usize / CHUNK;
        if chunk == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[chunk].push(Some(record));
        index
    }

    /// The record at an index that `insert` returned and `remove` did not take.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn at(&self, index: u32) -> &T {
        self.get(index).expect("a live index")
    }

    /// The same, to change it.
    ///
    /// # Panics
    /// If there is none.
    pub fn at_mut(&mut self, index: u32) -> &mut T {
        self.place(index).as_mut().expect("a live index")
    }

    /// The record at an index, if it is live.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)?.as_ref()
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        self.chunks
            .get_mut(index / CHUNK)?
            .get_mut(index % CHUNK)?
            .as_mut()
    }

    /// Takes a record out.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, index: u32) -> T {
        let record = self.place(index).take().expect("a live index");
        self.free.push(index);
        record
    }

    /// All records in index order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten().flatten()
    }

    /// One above the highest index given out.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Takes all records out, and keeps the memory for those that come.
    pub fn clear(&mut self) {
        self.chunks.iter_mut().for_each(Vec::clear);
        self.free.clear();
        self.end = 0;
    }

    /// Places in the memory that it has.
    #[must_use]
    pub fn room(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    fn place(&mut self, index: u32) -> &mut Option<T> {
        let index = index as usize;
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

/// A 128-bit hash with fixed seeds, for digests and checks; not against adversaries.
#[must_use]
pub fn hash128(bytes: &[u8]) -> u128 {
    let low = FixedState::with_seed(101).hash_one(bytes);
    let high = FixedState::with_seed(202).hash_one(bytes);
    u128::from(high) << 64 | u128::from(low)
}

/// A 64-bit hash with a fixed seed, under which the store files rows. It is part of the format on disk:
/// `fingerprints_are_part_of_the_format` pins it.
#[must_use]
pub fn hash64(bytes: &[u8]) -> u64 {
    FixedState::with_seed(303).hash_one(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_reuses_places_and_keeps_its_count() {
        let mut arena = Arena::default();
        let first = arena.insert(1);
        let second = arena.insert(2);
        assert_eq!(arena.remove(first), 1);
        assert_eq!(arena.len(), 1);
        assert_eq!(arena.insert(3), first);
        assert_eq!((*arena.at(first), *arena.at(second)), (3, 2));
        assert_eq!(arena.iter().copied().collect::<Vec<_>>(), [3, 2]);
    }

    #[test]
    fn a_lookup_counts_distinct_keys() {
        let mut table = Lookup::new();
        for key in 0..10_000_u32 {
            assert_eq!(
                table.insert(key % 5000, key),
                (key >= 5000).then(|| key - 5000)
            );
        }
        assert_eq!(table.len(), 5000);
        assert_eq!((table.get(&7), table.get(&5_000)), (Some(&5007), None));
        table.clear();
        assert_eq!((table.get(&7), table.len()), (None, 0));
    }
}
