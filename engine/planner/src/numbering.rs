//! Numbers of account ids: dense, ascending with the ids.
//!
//! Ids of recorded traces, and of clusters whose accounts were created one after the other, lie close
//! together. Then a table over their range finds a number in one access; on a million accounts a
//! binary search takes ten times as long, and planning looks up little else. Other ids are searched.

use quorate_protocol::ids::AccountId;

/// Marks an id of the range that is not there. No number is so large: see [`Numbering::of`].
const NOBODY: u32 = u32::MAX;

/// Account ids with their numbers.
#[derive(Debug)]
pub(crate) struct Numbering {
    /// Ascending; the position is the number.
    ids: Vec<AccountId>,
    /// By distance from the smallest id; empty if the ids are too far apart.
    table: Vec<u32>,
}

impl Numbering {
    /// Numbers the ids, each of which may come any number of times.
    pub fn of(ids: impl Iterator<Item = AccountId> + Clone) -> Self {
        let (mut count, mut first, mut last) = (0_usize, u128::MAX, 0);
        for id in ids.clone() {
            (count, first, last) = (count + 1, first.min(id.0), last.max(id.0));
        }
        // A table of at most as many cells as ids came takes a quarter of what a list of them does.
        let cells_max = count.min(NOBODY as usize);
        match usize::try_from(last.saturating_sub(first)) {
            Ok(span) if span < cells_max => Self::by_table(ids, first, span + 1),
            _ => Self::by_search(ids),
        }
    }

    fn by_table(ids: impl Iterator<Item = AccountId>, first: u128, length: usize) -> Self {
        let mut table = vec![NOBODY; length];
        for id in ids {
            table[offset(id, first).expect("first is the smallest")] = 0;
        }
        let mut found = Vec::new();
        for (distance, number) in (0..).zip(&mut table) {
            if *number != NOBODY {
                *number = u32::try_from(found.len()).expect("below the table's length");
                found.push(AccountId(first + distance));
            }
        }
        Self { ids: found, table }
    }

    fn by_search(ids: impl Iterator<Item = AccountId>) -> Self {
        let mut found: Vec<AccountId> = ids.collect();
        found.sort_unstable();
        found.dedup();
        found.shrink_to_fit();
        Self {
            ids: found,
            table: Vec::new(),
        }
    }

    /// The ids, ascending.
    pub fn ids(&self) -> &[AccountId] {
        &self.ids
    }

    /// The ids alone.
    pub fn into_ids(self) -> Vec<AccountId> {
        self.ids
    }

    /// The position of an id in the list.
    pub fn number(&self, id: AccountId) -> Option<usize> {
        if self.table.is_empty() {
            return self.ids.binary_search(&id).ok();
        }
        let number = *self.table.get(offset(id, self.ids.first()?.0)?)?;
        (number != NOBODY).then_some(number as usize)
    }
}

fn offset(id: AccountId, first: u128) -> Option<usize> {
    usize::try_from(id.0.checked_sub(first)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a dumb twin, with ids close together, far apart, and at the end of their range.
        #[test]
        fn numbers_are_positions_among_the_different_ids(
            small in prop::collection::vec(0_u128..40, 0..80),
            shift in prop_oneof![Just(0), Just(1 << 90), Just(u128::MAX - 39)],
            far in prop::collection::vec(any::<u128>(), 0..3),
        ) {
            let ids = small.iter().map(|id| id + shift).chain(far).map(AccountId);
            let ids: Vec<AccountId> = ids.collect();
            let numbering = Numbering::of(ids.iter().copied());
            let sorted: Vec<AccountId> = std::collections::BTreeSet::from_iter(ids.clone()).into_iter().collect();
            prop_assert_eq!(numbering.ids(), &sorted[..]);
            for (number, &id) in sorted.iter().enumerate() {
                prop_assert_eq!(numbering.number(id), Some(number));
            }
            for other in [0, 39, shift.saturating_sub(1), shift + 7, u128::MAX].map(AccountId) {
                prop_assert_eq!(numbering.number(other), sorted.binary_search(&other).ok());
            }
        }
    }
}
