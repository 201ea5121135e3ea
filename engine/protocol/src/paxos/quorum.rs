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
}
