//! A map over [`Records`]: a [`Keyed`] record is a key with a value beside it.
//!
//! For tables of what is under way, which a loaded shard fills and empties with every entry: no allocation per key,
//! and neighbouring keys lie together if their hash says so.

use core::fmt::{self, Debug};

use super::{Keyed, Records};

/// What can be a key.
pub trait MapKey: Copy + Eq + Debug {
    /// A hash, by [`super::scattered`] or [`super::neighbours`].
    fn hash(&self) -> u64;
}

struct Pair<K, V> {
    key: K,
    value: V,
}

impl<K: MapKey, V> Keyed for Pair<K, V> {
    type Key = K;
    const WHAT: &str = "key";

    fn key(&self) -> K {
        self.key
    }

    fn hash(key: &K) -> u64 {
        key.hash()
    }
}

/// Empty places that a walk of an empty map passes.
const WALK_MAX: u32 = 1024;

/// Values by key, walked in an order that depends on what came and went, and nothing else: replicas that were started
/// from different checkpoints walk differently. Sort where that must not show.
pub struct Map<K, V>(Records<Pair<K, V>>);

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self(Records::default())
    }
}

impl<K, V> Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map({} entries)", self.0.len())
    }
}

impl<K: MapKey, V> Map<K, V> {
    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let place = self.0.find(key)?;
        Some(&self.0.at(place).value)
    }

    #[must_use]
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.0.find(key)?;
        Some(&mut self.0.at_mut(place).value)
    }

    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.0.find(key).is_some()
    }

    /// Inserts and returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(core::mem::replace(old, value));
        }
        self.0.insert(Pair { key, value });
        None
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.0.find(key)?;
        let value = self.0.remove(place).value;
        // What walks it walks all places that were ever taken.
        if self.0.is_empty() && self.0.end() > WALK_MAX {
            self.0.clear();
        }
        Some(value)
    }

    /// Forgets everything, and keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|pair| (&pair.key, &pair.value))
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All values, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|pair| &mut pair.value)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;
    use crate::prng::Prng;
    use crate::table::scattered;

    impl MapKey for u64 {
        fn hash(&self) -> u64 {
            scattered(self)
        }
    }

    #[test]
    fn it_does_what_a_map_does() {
        let mut draws = Prng::new(3);
        let (mut map, mut twin) = (Map::default(), BTreeMap::new());
        for value in 0..20_000_u64 {
            let key = draws.draw() % 300;
            match value % 4 {
                0 => assert_eq!(map.remove(&key), twin.remove(&key)),
                1 => assert_eq!(map.get_mut(&key), twin.get_mut(&key)),
                _ => assert_eq!(map.insert(key, value), twin.insert(key, value)),
            }
            assert_eq!((map.len(), map.get(&key)), (twin.len(), twin.get(&key)));
        }
        let walked: BTreeMap<u64, u64> = map.iter().map(|(key, value)| (*key, *value)).collect();
        assert_eq!(walked, twin);
        map.values_mut().for_each(|value| *value += 1);
        assert_eq!(
            map.values().sum::<u64>(),
            twin.values().map(|it| it + 1).sum()
        );
        map.clear();
        assert!(map.is_empty() && !map.contains_key(&1));
    }

    #[test]
    fn a_map_that_was_large_is_not_walked_when_it_is_empty() {
        let mut map = Map::default();
        for key in 0..5_000_u64 {
            map.insert(key, ());
        }
        for key in 0..5_000_u64 {
            assert_eq!(map.remove(&key), Some(()));
        }
        assert_eq!(map.0.end(), 0);
        assert_eq!(map.insert(7, ()), None);
        assert!(map.contains_key(&7));
    }
}
