//! Where the newest accepted record of each slot lies.
//!
//! 24 bytes per slot in one ring: slots are dense, so the slot itself is not stored. "Newest" is the
//! highest ballot, and among equal ballots the later record: an acceptor never lowers what it has
//! accepted, whatever order its log has.

use std::collections::VecDeque;

use super::segment::SegmentNumber;
use crate::BLOCK_BYTES;
use crate::bytes::round_up;

/// Slots that may be added beyond the known ones at once. The log of a replica that jumps further
/// starts anew after a snapshot; a stored slot beyond is not believed, so that one bad frame cannot
/// take all memory (2^20 slots: 24 MiB).
pub const SLOT_JUMP_MAX: u64 = 1 << 20;

/// Where one accepted record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub segment: SegmentNumber,
    /// Of the frame in its segment, a multiple of 16.
    pub offset: u32,
    /// Bytes of the frame: header and payload, without padding.
    pub length: u32,
    pub ballot: u64,
}

/// No log gets here; keeps the arithmetic on slots from overflowing.
const SLOT_MAX: u64 = u64::MAX - 2 * SLOT_JUMP_MAX;

const _: () = assert!(size_of::<Location>() == 24);

impl Location {
    const NONE: Self = Self {
        segment: SegmentNumber(0),
        offset: 0,
        length: 0,
        ballot: 0,
    };

    /// The whole blocks that hold the frame, for a direct read: file offset and length in bytes. The
    /// frame starts `offset - blocks().0` bytes into them.
    #[must_use]
    pub fn blocks(&self) -> (u64, usize) {
        let start = self.offset - self.offset % BLOCK_BYTES;
        let end = round_up(self.offset as usize + self.length as usize, BLOCK_BYTES);
        (u64::from(start), end - start as usize)
    }
}

/// What a slot's record does to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The slot had no record.
    New,
    /// It replaces a record of an equal or lower ballot.
    Replaces,
    /// A record of a higher ballot stays.
    Ignored,
    /// Too far away to be believed.
    Wild,
}

/// Slot to location.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// Slot of the first element.
    base: u64,
    locations: VecDeque<Location>,
}

impl Index {
    /// The newest accepted record of `slot`.
    #[must_use]
    pub fn locate(&self, slot: u64) -> Option<Location> {
        let at = usize::try_from(slot.checked_sub(self.base)?).ok()?;
        self.locations
            .get(at)
            .copied()
            .filter(|location| *location != Location::NONE)
    }

    /// Slots that have a record, with their locations, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Location)> {
        self.locations
            .iter()
            .zip(self.base..)
            .filter(|(location, _)| **location != Location::NONE)
            .map(|(location, slot)| (slot, *location))
    }

    /// The highest slot with a record.
    #[must_use]
    pub fn slot_max(&self) -> Option<u64> {
        let at = self
            .locations
            .iter()
            .rposition(|location| *location != Location::NONE)?;
        Some(self.base + at as u64)
    }

    /// What [`Index::insert`] would do.
    pub(crate) fn effect(&self, slot: u64, ballot: u64) -> Effect {
        let end = self.base.saturating_add(self.locations.len() as u64);
        let near = if slot > SLOT_MAX {
            false
        } else if self.locations.is_empty() {
            true
        } else if slot < self.base {
            self.base - slot <= SLOT_JUMP_MAX
        } else {
            slot.saturating_sub(end) <= SLOT_JUMP_MAX
        };
        match self.locate(slot) {
            _ if !near => Effect::Wild,
            None => Effect::New,
            Some(present) if present.ballot <= ballot => Effect::Replaces,
            Some(_) => Effect::Ignored,
        }
    }

    pub(crate) fn insert(&mut self, slot: u64, location: Location) -> Effect {
        assert!(slot > 0 && location != Location::NONE);
        let effect = self.effect(slot, location.ballot);
        match effect {
            Effect::New | Effect::Replaces => *self.place(slot) = location,
            Effect::Ignored | Effect::Wild => {}
        }
        effect
    }

    /// Forgets a slot whose newest record is lost: an older one must not pass for it.
    pub(crate) fn remove(&mut self, slot: u64) {
        if self.locate(slot).is_some() {
            *self.place(slot) = Location::NONE;
        }
    }

    /// Forgets all slots below.
    pub(crate) fn release_below(&mut self, slot: u64) {
        while self.base < slot && self.locations.pop_front().is_some() {
            self.base += 1;
        }
    }

    fn place(&mut self, slot: u64) -> &mut Location {
        if self.locations.is_empty() {
            self.base = slot;
        }
        while slot < self.base {
            self.locations.push_front(Location::NONE);
            self.base -= 1;
        }
        let at = usize::try_from(slot - self.base).expect("within SLOT_JUMP_MAX of the known ones");
        if at >= self.locations.len() {
            self.locations.resize(at + 1, Location::NONE);
        }
        &mut self.locations[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u32, ballot: u64) -> Location {
        Location {
            segment: SegmentNumber(1),
            offset,
            length: 100,
            ballot,
        }
    }

    #[test]
    fn the_highest_ballot_wins_and_among_equals_the_later() {
        let mut index = Index::default();
        assert_eq!(index.insert(5, at(16, 2)), Effect::New);
        assert_eq!(index.insert(5, at(32, 2)), Effect::Replaces);
        assert_eq!(index.insert(5, at(48, 1)), Effect::Ignored);
        assert_eq!(index.locate(5), Some(at(32, 2)));
        assert_eq!(index.insert(5, at(64, 3)), Effect::Replaces);
        assert_eq!(index.locate(5), Some(at(64, 3)));
    }

    #[test]
    fn grows_both_ways_and_keeps_holes_empty() {
        let mut index = Index::default();
        index.insert(10, at(16, 1));
        index.insert(13, at(32, 1));
        index.insert(8, at(48, 1));
        let slots: Vec<u64> = index.iter().map(|(slot, _)| slot).collect();
        assert_eq!(slots, [8, 10, 13]);
        assert_eq!(index.slot_max(), Some(13));
        for absent in [0, 7, 9, 11, 14, u64::MAX] {
            assert_eq!(index.locate(absent), None);
        }
    }

    #[test]
    fn released_and_removed_slots_are_gone() {
        let mut index = Index::default();
        for slot in 1..=9 {
            index.insert(slot, at(16, 1));
        }
        index.release_below(4);
        index.remove(6);
        index.remove(77);
        let slots: Vec<u64> = index.iter().map(|(slot, _)| slot).collect();
        assert_eq!(slots, [4, 5, 7, 8, 9]);
        index.release_below(100);
        assert_eq!(index.slot_max(), None);
        assert_eq!(index.insert(500, at(16, 1)), Effect::New);
    }

    #[test]
    fn a_wild_slot_takes_no_memory() {
        let mut index = Index::default();
        index.insert(1, at(16, 1));
        assert_eq!(index.insert(u64::MAX, at(16, 1)), Effect::Wild);
        assert_eq!(index.insert(3 + SLOT_JUMP_MAX, at(16, 1)), Effect::Wild);
        assert_eq!(index.slot_max(), Some(1));
        let mut late = Index::default();
        assert_eq!(late.insert(u64::MAX, at(16, 1)), Effect::Wild);
        late.insert(SLOT_MAX, at(16, 1));
        assert_eq!(late.insert(SLOT_MAX + 1, at(16, 1)), Effect::Wild);
        assert_eq!(late.insert(4, at(16, 1)), Effect::Wild);
        assert_eq!(late.iter().count(), 1);
    }

    #[test]
    fn blocks_cover_the_frame() {
        let location = at(4096 * 2 + 4000, 1);
        assert_eq!(location.blocks(), (8192, 8192));
        assert_eq!(at(4096, 1).blocks(), (4096, 4096));
    }
}
