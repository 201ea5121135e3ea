//! Communities that change: with every period some accounts trade places with accounts of others.
//!
//! ```text
//! place      0 .. 99 | 100 .. 199 | ...      communities are ranges of places, for ever
//! account    8 31 .. | 5 77 ..    | ...      who has which place depends on the period
//! ```
//! A period's trades are pairs of places, a function of the seed and the period alone. They do not
//! overlap, so making them again undoes them, and [`Members`] can go to any period from any other.
//! What is drawn (places, amounts) does not depend on the period; only who has the places does.
//!
//! [`DriftingCommunities`] never changes and may be shared by threads; each thread keeps its own
//! [`Members`], four bytes per account, so that drawing takes neither a lock nor a count.

use std::time::Duration;

use rand::seq::{SliceRandom, index};
use rand::{RngExt, SeedableRng};

use quorate_protocol::shard::map::splitmix64;

use super::Stream;
use super::communities::Communities;

/// Tells the trades' random numbers of a seed from its payments'.
const TRADES: u64 = 0x7472_6164_6573;

/// How much changes, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Accounts that change community with every period, of a hundred.
    pub percent: f64,
    /// Length of a period, from the first request of a command's first load.
    pub every: Duration,
}

/// Two accounts of different communities trade places.
type Trade = (usize, usize);

/// A chosen place and its community.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    place: usize,
    group: usize,
}

/// Communities and the trades of every period.
#[derive(Debug)]
pub struct DriftingCommunities {
    communities: Communities,
    trades: usize,
    every_ns: u64,
    seed: u64,
}

/// Trades of one period that make `percent` of `accounts` change community: two do with each.
#[must_use]
pub fn trades_per_period(accounts: u32, percent: f64) -> usize {
    let trades = (f64::from(accounts) * percent / 200.0).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; the bound below holds for any value"
    )]
    let trades = trades as usize;
    let half = usize::try_from(accounts / 2).expect("a u32 fits a usize");
    trades.min(half)
}

impl DriftingCommunities {
    /// `communities` of `accounts` accounts, which change from the first period on.
    ///
    /// # Panics
    /// If a period has no length.
    #[must_use]
    pub fn new(communities: Communities, drift: Drift, seed: u64) -> Self {
        let every_ns = u64::try_from(drift.every.as_nanos()).unwrap_or(u64::MAX);
        assert!(every_ns > 0, "a period has a length");
        let accounts = u32::try_from(communities.places()).expect("accounts are counted in u32");
        Self {
            trades: trades_per_period(accounts, drift.percent),
            communities,
            every_ns,
            seed,
        }
    }

    /// The period of a time since the first request; nobody has changed in period 0.
    #[must_use]
    pub fn period_at(&self, at_ns: u64) -> u64 {
        at_ns / self.every_ns
    }

    /// The members as they are in period 0.
    #[must_use]
    pub fn members(&self) -> Members {
        Members {
            period: 0,
            accounts: self.communities.accounts().to_vec(),
        }
    }

    /// Two different accounts, debit and credit, as `members` are.
    pub(super) fn pair(&self, members: &Members, stream: &mut Stream) -> (u32, u32) {
        let (debit, credit) = self.communities.pair_of_places(stream);
        (members.accounts[debit], members.accounts[credit])
    }

    /// What changes when `period` begins.
    fn trades_of(&self, period: u64) -> Vec<Trade> {
        let seed = splitmix64(self.seed) ^ TRADES ^ splitmix64(period);
        let mut stream = Stream::seed_from_u64(splitmix64(seed));
        let mut chosen = self.choose(&mut stream);
        chosen.shuffle(&mut stream);
        part_neighbours(&mut chosen, &mut stream);
        let pairs = chosen.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        pairs
            .filter(|(one, other)| one.group != other.group)
            .map(|(one, other)| (one.place, other.place))
            .collect()
    }

    /// Two places for each trade, every place equally likely. Systematic sampling (Madow 1949): from
    /// a random start in equal steps over all places, so each community gives its share, to within
    /// one. Then no community has more than half of them, and everybody finds a partner elsewhere.
    /// The members of a community are then chosen anew, or it would always be every n-th.
    fn choose(&self, stream: &mut Stream) -> Vec<Chosen> {
        let places = widened(self.communities.places());
        let wanted = 2 * widened(self.trades);
        let mut chosen = Vec::with_capacity(2 * self.trades);
        if wanted == 0 {
            return chosen;
        }
        let first = stream.random_range(0..places);
        // Steps whose place, (step * places + first) / wanted, lies before `end`.
        let steps_before = |end: usize| {
            let below = (widened(end) * wanted).saturating_sub(first);
            narrowed(below.div_ceil(places).min(wanted))
        };
        for (group, range) in self.communities.ranges().enumerate() {
            let count = steps_before(range.end) - steps_before(range.start);
            let members = index::sample(stream, range.len(), count);
            chosen.extend(members.into_iter().map(|member| Chosen {
                place: range.start + member,
                group,
            }));
        }
        assert_eq!(chosen.len(), 2 * self.trades, "every step falls somewhere");
        chosen
    }
}

/// Makes the two of every pair of neighbours members of different communities, by trading partners
/// with another pair that has nobody of theirs. Such a pair exists unless their community has more
/// than half of all: then, with two communities of which one has an account more, they stay.
fn part_neighbours(chosen: &mut [Chosen], stream: &mut Stream) {
    let pairs = chosen.len() / 2;
    for pair in 0..pairs {
        let group = chosen[2 * pair].group;
        if chosen[2 * pair + 1].group != group {
            continue;
        }
        let start = stream.random_range(0..pairs);
        let is_foreign =
            |&at: &usize| chosen[2 * at].group != group && chosen[2 * at + 1].group != group;
        if let Some(other) = (start..pairs).chain(0..start).find(is_foreign) {
            chosen.swap(2 * pair + 1, 2 * other + 1);
        }
    }
}

/// Who has which place in one period.
#[derive(Clone, Debug)]
pub struct Members {
    period: u64,
    accounts: Vec<u32>,
}

impl Members {
    /// Goes to a period, forward or back, through all between; a step costs a few random numbers for
    /// each account that changes and for each community.
    pub fn go_to(&mut self, period: u64, communities: &DriftingCommunities) {
        while self.period < period {
            self.period += 1;
            self.trade(communities);
        }
        while self.period > period {
            self.trade(communities);
            self.period -= 1;
        }
    }

    /// Makes, or undoes, the trades of the current period.
    fn trade(&mut self, communities: &DriftingCommunities) {
        for (one, other) in communities.trades_of(self.period) {
            self.accounts.swap(one, other);
        }
    }
}

fn widened(count: usize) -> u64 {
    u64::try_from(count).expect("a usize fits a u64")
}

fn narrowed(count: u64) -> usize {
    usize::try_from(count).expect("at most the number of places")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn drifting(accounts: u32, inside: f64, percent: f64, seed: u64) -> DriftingCommunities {
        let communities = Communities::new(accounts, inside, 1.0, seed);
        let drift = Drift {
            percent,
            every: Duration::from_secs(1),
        };
        DriftingCommunities::new(communities, drift, seed)
    }

    fn members_in(shape: &DriftingCommunities, period: u64) -> Members {
        let mut members = shape.members();
        members.go_to(period, shape);
        members
    }

    /// Which community each account belongs to.
    fn communities_of(shape: &DriftingCommunities, members: &Members) -> BTreeMap<u32, usize> {
        let ranges = shape.communities.ranges().enumerate();
        ranges
            .flat_map(|(group, range)| members.accounts[range].iter().map(move |&id| (id, group)))
            .collect()
    }

    fn changed(before: &BTreeMap<u32, usize>, after: &BTreeMap<u32, usize>) -> usize {
        let differs = |&(id, group): &(&u32, &usize)| after[id] != *group;
        before.iter().filter(differs).count()
    }

    fn sizes(communities: &BTreeMap<u32, usize>) -> BTreeMap<usize, usize> {
        let mut sizes = BTreeMap::new();
        for group in communities.values() {
            *sizes.entry(*group).or_default() += 1;
        }
        sizes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn with_every_period_the_share_asked_for_changes_community_and_sizes_stay(
            accounts in 200_u32..2_000, percent in 0.0_f64..=100.0, seed: u64, period in 0_u64..20,
        ) {
            let shape = drifting(accounts, 0.9, percent, seed);
            let before = communities_of(&shape, &members_in(&shape, period));
            let after = communities_of(&shape, &members_in(&shape, period + 1));
            prop_assert_eq!(before.len(), accounts as usize);
            prop_assert_eq!(sizes(&before), sizes(&after));
            let wanted = 2 * trades_per_period(accounts, percent);
            // Of two communities, one with an account more, the last one may find no partner.
            let slack = if accounts < 300 && accounts % 2 == 1 { 2 } else { 0 };
            let changed = changed(&before, &after);
            prop_assert!((wanted.saturating_sub(slack)..=wanted).contains(&changed), "{} of {}", changed, wanted);
            // Two accounts change with a trade: rounding is to the nearest even number.
            let exact = f64::from(accounts) * percent / 100.0;
            prop_assert!((f64::from(u32::try_from(wanted).unwrap()) - exact).abs() <= 1.0 + 1e-9);
        }

        #[test]
        fn the_share_of_payments_inside_stays(
            accounts in 200_u32..2_000, inside in 0.0_f64..=1.0, percent in 0.0_f64..=100.0,
            seed: u64, period in 0_u64..20,
        ) {
            let shape = drifting(accounts, inside, percent, seed);
            let members = members_in(&shape, period);
            let community = communities_of(&shape, &members);
            let mut stream = Stream::seed_from_u64(seed);
            let draws = 10_000;
            let mut within = 0_u32;
            for _ in 0..draws {
                let (debit, credit) = shape.pair(&members, &mut stream);
                prop_assert!(debit != credit);
                within += u32::from(community[&debit] == community[&credit]);
            }
            let share = f64::from(within) / f64::from(draws);
            // Standard deviation at most 0.005.
            prop_assert!((share - inside).abs() < 0.025, "{} for {}", share, inside);
        }

        /// Members are a function of seed and period, whatever way one went there.
        #[test]
        fn every_way_to_a_period_leads_to_the_same_members(
            accounts in 200_u32..1_000, percent in 0.0_f64..=100.0, seed: u64,
            way in proptest::collection::vec(0_u64..12, 1..5),
        ) {
            let shape = drifting(accounts, 0.9, percent, seed);
            let mut members = shape.members();
            for &period in &way {
                members.go_to(period, &shape);
            }
            let direct = members_in(&shape, *way.last().unwrap());
            prop_assert_eq!(members.accounts, direct.accounts);
        }
    }

    /// If only some accounts could be chosen, or always went to the same community, a plan could learn
    /// more of the future than there is to know.
    #[test]
    fn everybody_changes_in_time_and_to_every_other_community() {
        let shape = drifting(1_000, 0.9, 1.0, 3);
        let mut members = shape.members();
        let mut before = communities_of(&shape, &members);
        let mut seen = BTreeSet::new();
        let mut ways = BTreeSet::new();
        for period in 1..=1_000 {
            members.go_to(period, &shape);
            let after = communities_of(&shape, &members);
            for (account, from) in before {
                if after[&account] != from {
                    seen.insert(account);
                    ways.insert((from, after[&account]));
                }
            }
            before = after;
        }
        // An account is left out with probability 0.99^1000 = 4e-5.
        assert!(seen.len() >= 998, "{}", seen.len());
        assert_eq!(ways.len(), 10 * 9);
    }

    #[test]
    fn periods_begin_with_their_time_and_the_first_has_no_change() {
        let shape = drifting(9_000, 0.9, 1.0, 1);
        let times = [0, 999_999_999, 1_000_000_000, 7_500_000_000];
        assert_eq!(times.map(|at_ns| shape.period_at(at_ns)), [0, 0, 1, 7]);
        assert_eq!(shape.members().accounts, shape.communities.accounts());
    }

    #[test]
    fn a_drift_of_one_percent_of_nine_thousand_is_forty_five_trades() {
        assert_eq!(trades_per_period(9_000, 1.0), 45);
        assert_eq!(trades_per_period(9_000, 0.0), 0);
        assert_eq!(trades_per_period(201, 100.0), 100);
        assert_eq!(trades_per_period(200, 0.4), 0);
    }

    /// Published figures name a seed: other trades would make them irreproducible.
    #[test]
    fn the_trades_of_a_seed_are_pinned() {
        let shape = drifting(1_000, 0.9, 0.6, 42);
        let trades = [1, 2].map(|period| shape.trades_of(period));
        let expected = [
            [(804, 625), (347, 963), (402, 113)],
            [(923, 304), (483, 165), (831, 623)],
        ];
        assert_eq!(trades, expected);
    }
}
