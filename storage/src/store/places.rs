//! Places: one 32-bit number for every account row of every live file.
//!
//! Each accounts file has a contiguous range of places, in memory only: it is given one when it is opened
//! or begun, and gives it back when it is compacted away. So places differ between replicas and between
//! starts; no file holds one.

use std::collections::BTreeMap;

/// Where an account row lies, as a number: its file's first place plus its row. Below 2^32 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u32);

/// One more than the highest place.
const PLACES_END: u64 = u32::MAX as u64;

/// The places of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    number: u64,
    rows: u32,
}

/// Which file has which places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// By first place. Ranges do not overlap.
    ranges: BTreeMap<u32, Range>,
    /// First place by file number.
    firsts: BTreeMap<u64, u32>,
}

impl Places {
    /// Gives a file the lowest range that is free. `None` if there is none of this size.
    ///
    /// # Panics
    /// If the file has a range already.
    #[must_use]
    pub(crate) fn assign(&mut self, number: u64, rows: u32) -> Option<Place> {
        assert!(!self.firsts.contains_key(&number));
        let mut first = 0;
        for (taken, range) in &self.ranges {
            if u64::from(*taken) - first >= u64::from(rows) {
                break;
            }
            first = u64::from(*taken) + u64::from(range.rows);
        }
        if first + u64::from(rows) > PLACES_END {
            return None;
        }
        let first = u32::try_from(first).expect("below the end of places");
        // An empty range would hide the one that begins at the same place.
        if rows > 0 {
            self.ranges.insert(first, Range { number, rows });
            self.firsts.insert(number, first);
        }
        Some(Place(first))
    }

    /// The file turned out to have fewer rows than it was given places for.
    pub(crate) fn shorten(&mut self, number: u64, rows: u32) {
        let Some(first) = self.firsts.get(&number) else {
            assert_eq!(rows, 0);
            return;
        };
        let range = self.ranges.get_mut(first).expect("both tables agree");
        assert!(rows <= range.rows);
        range.rows = rows;
        if rows == 0 {
            self.free(number);
        }
    }

    /// The file is gone; its places may be given out again.
    pub(crate) fn free(&mut self, number: u64) {
        if let Some(first) = self.firsts.remove(&number) {
            self.ranges.remove(&first);
        }
    }

    /// File number and row of a place; `None` if no file has it.
    #[must_use]
    pub(crate) fn locate(&self, place: Place) -> Option<(u64, u32)> {
        let (first, range) = self.ranges.range(..=place.0).next_back()?;
        let row = place.0 - first;
        (row < range.rows).then_some((range.number, row))
    }

    /// The place of a row; `None` if the file has no places or not that row.
    #[must_use]
    pub(crate) fn place(&self, number: u64, row: u32) -> Option<Place> {
        let first = self.firsts.get(&number)?;
        (row < self.ranges[first].rows).then(|| Place(first + row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_reused_and_never_overlap() {
        let mut places = Places::default();
        assert_eq!(places.assign(1, 10), Some(Place(0)));
        assert_eq!(places.assign(2, 5), Some(Place(10)));
        assert_eq!(places.assign(3, 7), Some(Place(15)));
        assert_eq!(places.locate(Place(9)), Some((1, 9)));
        assert_eq!(places.locate(Place(10)), Some((2, 0)));
        assert_eq!(places.locate(Place(22)), None);
        assert_eq!(places.place(3, 6), Some(Place(21)));
        assert_eq!(places.place(3, 7), None);

        places.free(2);
        assert_eq!(places.locate(Place(12)), None);
        assert_eq!(places.assign(4, 6), Some(Place(22)));
        assert_eq!(places.assign(5, 5), Some(Place(10)));
        places.shorten(5, 2);
        assert_eq!(places.locate(Place(11)), Some((5, 1)));
        assert_eq!(places.locate(Place(12)), None);
        assert_eq!(places.assign(6, 3), Some(Place(12)));
        places.shorten(6, 0);
        assert_eq!(places.place(6, 0), None);
        assert_eq!(places.assign(7, 0), Some(Place(0)));
        assert_eq!(places.locate(Place(12)), None);
    }

    #[test]
    fn the_highest_place_is_given_out_and_no_higher_one() {
        let mut places = Places::default();
        assert_eq!(places.assign(1, u32::MAX), Some(Place(0)));
        assert_eq!(places.locate(Place(u32::MAX - 1)), Some((1, u32::MAX - 1)));
        assert_eq!(places.assign(2, 1), None);
        places.free(1);
        assert_eq!(places.assign(2, 1), Some(Place(0)));
    }
}
