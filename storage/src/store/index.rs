//! Where each account's newest row lies, by the fingerprint of its id.
//!
//! Open addressing, 12 bytes a slot: a fingerprint (8) and a place (4), in two arrays. The table is
//! split into 4,096 parts by the fingerprint's top bits, and each part grows by itself, by half:
//!
//! - *Bounded work.* At 100 million accounts a part has some 24,000 entries; growing it moves those and
//!   no others, well below a millisecond.
//! - *Bounded memory.* A part is at most 0.85 full, and at least 0.85 / 1.5 once it has grown. Parts of
//!   a good hash fill at the same pace and would all grow at the same time, so that just behind that
//!   moment an entry cost 21 bytes. So parts begin at different sizes, spread evenly over one growth
//!   step: at any time some have just grown and some are about to, and the average stays near 17.5
//!   (`an_entry_costs_at_most_twenty_bytes_at_any_size`).
//!
//! Different ids may share a fingerprint: a look-up yields candidates, and the caller compares the id in
//! the row that it reads (`tests/store_index.rs` holds it against a set). The table never looks at an id, draws no randomness, and has no order that
//! anything may depend on.

use super::places::Place;

/// Entry of fingerprint to place.
#[derive(Clone, Debug)]
pub struct AccountIndex {
    parts: Vec<Part>,
    entries: usize,
}

#[derive(Clone, Debug)]
struct Part {
    /// Slots when the first entry comes.
    slots_first: u32,
    entries: u32,
    fingerprints: Vec<u64>,
    places: Vec<u32>,
}

const PART_BITS: u32 = 12;
pub(crate) const PARTS: usize = 1 << PART_BITS;
/// A part's first sizes: from 24 slots to half as many again.
const SLOTS_FIRST: usize = 24;
/// At most 85 of 100 slots are taken.
const LOAD_PERCENT_MAX: u64 = 85;
/// A slot without an entry. [`Place`] never has this value.
const VACANT: u32 = u32::MAX;

impl Default for AccountIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl AccountIndex {
    /// An index without entries. Takes some 256 KiB.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room_for(0)
    }

    /// An index without entries whose parts begin at the sizes that they would grow to with so many: for
    /// filling it at once.
    #[must_use]
    pub fn with_room_for(entries: usize) -> Self {
        let part = |index: usize| Part {
            slots_first: {
                let first = u32_of(SLOTS_FIRST + index % (SLOTS_FIRST / 2));
                slots_for(first, entries / PARTS)
            },
            entries: 0,
            fingerprints: Vec::new(),
            places: Vec::new(),
        };
        Self {
            parts: (0..PARTS).map(part).collect(),
            entries: 0,
        }
    }

    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether it has no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Bytes that its slots take up.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slots = self.parts.iter().map(|part| part.places.capacity());
        let fingerprints = self.parts.iter().map(|part| part.fingerprints.capacity());
        slots.sum::<usize>() * size_of::<u32>() + fingerprints.sum::<usize>() * size_of::<u64>()
    }

    /// The places of all entries with this fingerprint, in no order that means anything.
    pub fn candidates(&self, fingerprint: u64) -> impl Iterator<Item = Place> {
        let part = &self.parts[part_of(fingerprint)];
        part.run(fingerprint)
            .filter(move |&slot| part.fingerprints[slot] == fingerprint)
            .map(|slot| Place(part.places[slot]))
    }

    /// All entries, in no order that means anything: for whoever compares two indexes, and sorts them.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Place)> {
        self.parts.iter().flat_map(|part| {
            let slots = part.fingerprints.iter().zip(&part.places);
            let taken = slots.filter(|(_, place)| **place != VACANT);
            taken.map(|(fingerprint, place)| (*fingerprint, Place(*place)))
        })
    }

    /// Adds an entry. One part may grow.
    ///
    /// # Panics
    /// If exactly this entry is there already.
    pub fn insert(&mut self, fingerprint: u64, place: Place) {
        assert_ne!(place.0, VACANT);
        let part = &mut self.parts[part_of(fingerprint)];
        assert_eq!(part.find(fingerprint, place), None, "{place:?} twice");
        if part.is_full() {
            part.grow();
        }
        part.put(fingerprint, place.0);
        part.entries += 1;
        self.entries += 1;
    }

    /// The entry's row has moved.
    ///
    /// # Panics
    /// If the old entry is not there, or the new one is.
    pub fn replace(&mut self, fingerprint: u64, old: Place, new: Place) {
        assert_ne!(new.0, VACANT);
        let part = &mut self.parts[part_of(fingerprint)];
        assert_eq!(part.find(fingerprint, new), None, "{new:?} twice");
        let slot = part.find(fingerprint, old).expect("the entry is there");
        part.places[slot] = new.0;
    }

    /// Takes an entry out. Its part keeps its size.
    ///
    /// # Panics
    /// If it is not there.
    pub fn remove(&mut self, fingerprint: u64, place: Place) {
        let part = &mut self.parts[part_of(fingerprint)];
        let slot = part.find(fingerprint, place).expect("the entry is there");
        part.vacate(slot);
        part.entries -= 1;
        self.entries -= 1;
    }
}

impl Part {
    fn is_full(&self) -> bool {
        let slots = self.places.len() as u64;
        u64::from(self.entries + 1) * 100 > slots * LOAD_PERCENT_MAX
    }

    /// Where the search for a fingerprint begins: the bits below the part's, scaled to the slots.
    fn home(&self, fingerprint: u64) -> usize {
        let scaled = u128::from(fingerprint << PART_BITS) * self.places.len() as u128;
        usize::try_from(scaled >> 64).expect("below the number of slots")
    }

    /// The taken slots from the fingerprint's home on, up to the first vacant one.
    fn run(&self, fingerprint: u64) -> impl Iterator<Item = usize> {
        let slots = self.places.len();
        let home = self.home(fingerprint);
        (home..slots)
            .chain(0..home)
            .take_while(|&slot| self.places[slot] != VACANT)
    }

    fn find(&self, fingerprint: u64, place: Place) -> Option<usize> {
        self.run(fingerprint)
            .find(|&slot| self.places[slot] == place.0 && self.fingerprints[slot] == fingerprint)
    }

    fn put(&mut self, fingerprint: u64, place: u32) {
        let slots = self.places.len();
        let mut slot = self.home(fingerprint);
        while self.places[slot] != VACANT {
            slot = next(slot, slots);
        }
        self.fingerprints[slot] = fingerprint;
        self.places[slot] = place;
    }

    /// Closes the gap that an entry leaves: every later entry of the run that may lie there moves up, so
    /// that no search ends before it (Knuth, volume 3, section 6.4, algorithm R).
    fn vacate(&mut self, mut gap: usize) {
        let slots = self.places.len();
        let mut slot = gap;
        loop {
            self.places[gap] = VACANT;
            loop {
                slot = next(slot, slots);
                if self.places[slot] == VACANT {
                    return;
                }
                let home = self.home(self.fingerprints[slot]);
                // Whether the home lies behind the gap, cyclically: then the entry stays.
                let stays = match gap <= slot {
                    true => gap < home && home <= slot,
                    false => gap < home || home <= slot,
                };
                if !stays {
                    break;
                }
            }
            self.fingerprints[gap] = self.fingerprints[slot];
            self.places[gap] = self.places[slot];
            gap = slot;
        }
    }

    fn grow(&mut self) {
        let slots = match self.places.len() {
            0 => self.slots_first as usize,
            slots => slots + slots / 2,
        };
        let mut grown = Self {
            slots_first: self.slots_first,
            entries: self.entries,
            fingerprints: vec![0; slots],
            places: vec![VACANT; slots],
        };
        for (fingerprint, place) in self.fingerprints.iter().zip(&self.places) {
            if *place != VACANT {
                grown.put(*fingerprint, *place);
            }
        }
        *self = grown;
    }
}

pub(crate) fn part_of(fingerprint: u64) -> usize {
    usize::try_from(fingerprint >> (64 - PART_BITS)).expect("below the number of parts")
}

fn next(slot: usize, slots: usize) -> usize {
    if slot + 1 == slots { 0 } else { slot + 1 }
}

/// What a part of this first size has grown to with so many entries.
fn slots_for(slots_first: u32, entries: usize) -> u32 {
    let mut slots = slots_first;
    while entries as u64 * 100 > u64::from(slots) * LOAD_PERCENT_MAX {
        slots += slots / 2;
    }
    slots
}

fn u32_of(slots: usize) -> u32 {
    u32::try_from(slots).expect("a part's first size")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(value: u64) -> u64 {
        let mixed = (value ^ 0x5DEE_CE66_D1CE_5EED).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
    }

    /// Counted, not measured: what the slots take up, by the same steps as a part grows in; at a million
    /// entries by the index itself, too.
    #[test]
    fn an_entry_costs_at_most_twenty_bytes_at_any_size() {
        let firsts: Vec<u32> = AccountIndex::new()
            .parts
            .iter()
            .map(|part| part.slots_first)
            .collect();
        let bytes = |entries: usize| {
            let slots = firsts
                .iter()
                .map(|first| slots_for(*first, entries / PARTS) as usize);
            slots.sum::<usize>() * 12
        };
        let mut entries = 1_000_000;
        while entries < 200_000_000 {
            let each = bytes(entries) as f64 / entries as f64;
            assert!(each < 19.0, "{each} bytes an entry at {entries}");
            entries += entries / 50;
        }
        assert!(bytes(50_000_000) < 20 * 50_000_000);

        let mut index = AccountIndex::new();
        for entry in 0..1_000_000_u32 {
            index.insert(hash(u64::from(entry)), Place(entry));
        }
        let each = index.bytes() as f64 / 1e6;
        assert!((14.0..20.0).contains(&each), "{each} bytes an entry");
        let mut sized = AccountIndex::with_room_for(1_000_000);
        for entry in 0..1_000_000_u32 {
            sized.insert(hash(u64::from(entry)), Place(entry));
        }
        assert!(sized.bytes() < 20_000_000);
        assert_eq!(index.candidates(hash(77)).next(), Some(Place(77)));
    }

    /// The pause of one insertion is that of one part.
    #[test]
    fn an_insertion_grows_one_part_by_half_at_most() {
        let sizes = |index: &AccountIndex| -> Vec<usize> {
            index.parts.iter().map(|part| part.places.len()).collect()
        };
        let mut index = AccountIndex::new();
        let (mut before, mut grown) = (sizes(&index), 0);
        for entry in 0..20_000_u32 {
            // Eight parts only, so that they get large.
            let fingerprint = hash(u64::from(entry)) & !(u64::MAX << 55 & !(7 << 61));
            index.insert(fingerprint, Place(entry));
            let after = sizes(&index);
            let changed = before.iter().zip(&after).filter(|(old, new)| old != new);
            for (count, (old, new)) in changed.enumerate() {
                assert!(count == 0 && (*old == 0 || *new <= old + old / 2));
                grown += 1;
            }
            before = after;
        }
        assert!(grown > 50, "{grown}");
    }

    #[test]
    fn all_entries_may_share_a_fingerprint() {
        let mut index = AccountIndex::new();
        for place in 0..500 {
            index.insert(u64::MAX, Place(place));
        }
        for place in (0..500).step_by(2) {
            index.remove(u64::MAX, Place(place));
        }
        let mut left: Vec<u32> = index.candidates(u64::MAX).map(|place| place.0).collect();
        left.sort_unstable();
        assert!(left.into_iter().eq((1..500).step_by(2)));
        assert_eq!(index.candidates(u64::MAX - 1).next(), None);
        assert!(!index.is_empty());
    }
}
