//! Planted communities: most payments stay among neighbours, as in real payment graphs.
//!
//! Communities have about [`MEMBERS`] members each and equal traffic. A payment's debit account is a
//! Zipfian member of a uniformly drawn community; its credit account is another Zipfian member of
//! the same community, or, with the rest of the probability, uniform among all other communities'
//! accounts. Members are scattered over the id space, so neither hash nor range placement knows them.

use std::ops::Range;

use rand::RngExt;

use super::Stream;
use super::permutation::permutation;
use super::zipf::Ranks;

/// Members of one community.
pub const MEMBERS: u32 = 100;

/// Payments inside and between communities.
#[derive(Debug)]
pub struct Communities {
    /// Accounts grouped by community, the popular ones of each first.
    accounts: Vec<u32>,
    groups: Vec<Group>,
    inside: f64,
}

/// One community: a range of `accounts`.
#[derive(Debug)]
struct Group {
    start: usize,
    end: usize,
    ranks: Ranks,
}

impl Communities {
    /// `accounts / MEMBERS` communities with a share `inside` of payments within one.
    ///
    /// # Panics
    /// If there are not at least two communities, or `inside` is outside `0..=1`.
    #[must_use]
    pub fn new(accounts: u32, inside: f64, theta: f64, seed: u64) -> Self {
        assert!(accounts >= 2 * MEMBERS, "communities pay each other");
        assert!((0.0..=1.0).contains(&inside));
        let count = accounts / MEMBERS;
        let start_of = |group: u32| {
            let start = u64::from(group) * u64::from(accounts) / u64::from(count);
            usize::try_from(start).expect("at most the number of accounts")
        };
        let groups = (0..count)
            .map(|group| {
                let (start, end) = (start_of(group), start_of(group + 1));
                let size = u32::try_from(end - start).expect("at most the number of accounts");
                Group {
                    start,
                    end,
                    ranks: Ranks::new(size, theta),
                }
            })
            .collect();
        Self {
            accounts: permutation(accounts, seed),
            groups,
            inside,
        }
    }

    pub(super) fn pair(&self, stream: &mut Stream) -> (u32, u32) {
        let (debit, credit) = self.pair_of_places(stream);
        (self.accounts[debit], self.accounts[credit])
    }

    /// Two different places, debit and credit: whoever has them pays and is paid.
    pub(super) fn pair_of_places(&self, stream: &mut Stream) -> (usize, usize) {
        let group = &self.groups[stream.random_range(0..self.groups.len())];
        if stream.random_bool(self.inside) {
            let (debit, credit) = group.ranks.pair(stream);
            (group.start + debit, group.start + credit)
        } else {
            let debit = group.start + group.ranks.rank(stream);
            (debit, self.outside(group, stream))
        }
    }

    /// Number of places: one for each account.
    pub(super) fn places(&self) -> usize {
        self.accounts.len()
    }

    /// The account of each place.
    pub(super) fn accounts(&self) -> &[u32] {
        &self.accounts
    }

    /// The places of each community, in order and without gaps.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        self.groups.iter().map(|group| group.start..group.end)
    }

    /// A uniformly drawn position outside `group`.
    fn outside(&self, group: &Group, stream: &mut Stream) -> usize {
        let size = group.end - group.start;
        let draw = stream.random_range(0..self.accounts.len() - size);
        draw + if draw < group.start { 0 } else { size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use std::collections::BTreeMap;

    /// Which community each account belongs to.
    fn members(shape: &Communities) -> BTreeMap<u32, usize> {
        let groups = shape.groups.iter().enumerate();
        groups
            .flat_map(|(n, group)| {
                let range = group.start..group.end;
                shape.accounts[range]
                    .iter()
                    .map(move |&account| (account, n))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_share_inside_is_the_one_asked_for(
            accounts in 200_u32..3_000, inside in 0.0_f64..=1.0, seed: u64,
        ) {
            let shape = Communities::new(accounts, inside, 1.0, seed);
            let community = members(&shape);
            prop_assert_eq!(community.len(), accounts as usize);
            let mut stream = Stream::seed_from_u64(seed);
            let draws = 10_000;
            let mut within = 0_u32;
            for _ in 0..draws {
                let (debit, credit) = shape.pair(&mut stream);
                prop_assert!(debit != credit);
                within += u32::from(community[&debit] == community[&credit]);
            }
            let share = f64::from(within) / f64::from(draws);
            // Standard deviation at most 0.005.
            prop_assert!((share - inside).abs() < 0.025, "{} for {}", share, inside);
        }
    }

    #[test]
    fn the_standard_population_has_ninety_communities_of_equal_traffic() {
        let shape = Communities::new(9_000, 0.9, 1.0, 1);
        assert_eq!(shape.groups.len(), 90);
        let community = members(&shape);
        let mut stream = Stream::seed_from_u64(1);
        let mut debits = [0_u32; 90];
        for _ in 0..90_000 {
            debits[community[&shape.pair(&mut stream).0]] += 1;
        }
        // Mean 1000, standard deviation 32.
        assert!(debits.iter().all(|n| (840..1160).contains(n)), "{debits:?}");
    }

    #[test]
    fn neither_placement_knows_the_members() {
        let shape = Communities::new(9_000, 0.9, 1.0, 1);
        let first = &shape.accounts[shape.groups[0].start..shape.groups[0].end];
        // A community whose members lay side by side would be local under range placement.
        let thirds: std::collections::BTreeSet<u32> =
            first.iter().map(|id| (id - 1) / 3000).collect();
        assert_eq!(thirds.len(), 3);
    }
}
