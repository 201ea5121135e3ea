//! Counting votes.

use crate::ids::ReplicaId;

/// A set of members of one group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct ReplicaSet(u64);

impl ReplicaSet {
    /// The set of one.
    pub(super) fn of(replica: ReplicaId) -> Self {
        let mut set = Self::default();
        set.insert(replica);
        set
    }

    /// Adds a member; a member counts once.
    pub(super) fn insert(&mut self, replica: ReplicaId) {
        assert!(replica.0 < 64, "groups have at most 5 members");
        self.0 |= 1 << replica.0;
    }

    pub(super) fn contains(self, replica: ReplicaId) -> bool {
        replica.0 < 64 && self.0 & (1 << replica.0) != 0
    }

    pub(super) fn len(self) -> usize {
        usize::try_from(self.0.count_ones()).expect("at most 64")
    }
}

/// The highest number that at least `count` of the reporters have reached; each reports its own
/// highest. `u64::MAX` if nobody has to report.
pub(super) fn reached_by(count: usize, reports: impl Iterator<Item = u64>) -> u64 {
    // Groups are tiny: one pass per rank is cheaper than a sorted copy.
    let mut highest = [0; 8];
    let mut reporters = 0;
    for report in reports {
        assert!(reporters < highest.len(), "groups have at most 5 members");
        highest[reporters] = report;
        reporters += 1;
    }
    if count == 0 {
        return u64::MAX;
    }
    if count > reporters {
        return 0;
    }
    let ranked = &mut highest[..reporters];
    ranked.sort_unstable_by(|a, b| b.cmp(a));
    ranked[count - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_votes_once() {
        let mut votes = ReplicaSet::of(ReplicaId(2));
        votes.insert(ReplicaId(2));
        votes.insert(ReplicaId(5));
        assert_eq!(votes.len(), 2);
        assert!(votes.contains(ReplicaId(5)) && !votes.contains(ReplicaId(1)));
    }

    #[test]
    fn reached_by_is_the_rank_from_above() {
        let reports = [3, 9, 5, 0];
        assert_eq!(reached_by(0, reports.into_iter()), u64::MAX);
        assert_eq!(reached_by(1, reports.into_iter()), 9);
        assert_eq!(reached_by(2, reports.into_iter()), 5);
        assert_eq!(reached_by(4, reports.into_iter()), 0);
        assert_eq!(reached_by(5, reports.into_iter()), 0);
    }

    /// All reports of up to five members from four numbers, against counting by hand.
    #[test]
    fn reached_by_is_what_counting_says_for_all_small_groups() {
        let mut tried = 0;
        for members in 0..=5_u32 {
            for number in 0..4_u64.pow(members) {
                let report = |member: u32| number / 4_u64.pow(member) % 4;
                let have = |level: u64| (0..members).filter(|&m| report(m) >= level).count();
                for count in 1..=6 {
                    let twin = (0..4).rev().find(|&level| have(level) >= count);
                    let found = reached_by(count, (0..members).map(report));
                    assert_eq!(found, twin.unwrap_or(0), "{count} of {members}: {number}");
                    tried += 1;
                }
            }
        }
        assert_eq!(tried, 8_190);
    }

    /// All sequences of up to six votes of five members, against a list without repeats.
    #[test]
    fn a_set_is_a_list_without_repeats_for_all_short_sequences() {
        let mut tried = 0;
        for length in 0..=6 {
            for number in 0..5_u32.pow(length) {
                let (mut set, mut twin) = (ReplicaSet::default(), alloc::vec::Vec::new());
                for at in 0..length {
                    let digit = number / 5_u32.pow(at) % 5;
                    let member = ReplicaId(1 + u8::try_from(digit).expect("below 5"));
                    set.insert(member);
                    if !twin.contains(&member) {
                        twin.push(member);
                    }
                }
                assert_eq!(set.len(), twin.len());
                for member in (0..=64).map(ReplicaId) {
                    assert_eq!(set.contains(member), twin.contains(&member));
                }
                tried += 1;
            }
        }
        assert_eq!(tried, 19_531);
    }
}
