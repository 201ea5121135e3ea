//! Who pays whom, and how much: pure, seeded generators.
//!
//! A seed fixes accounts and amounts for every client, whatever the cluster does; ids are never
//! drawn here, they are new in every run. With drift, who has a drawn place in a community depends on
//! the intended send time as well. Accounts are `1..=accounts`. Shapes that favour some
//! accounts pick them from a seeded permutation, so that no placement gets them for free.

mod communities;
mod cross;
mod drift;
mod hot_set;
mod permutation;
mod smallbank;
mod uniform;
mod zipf;

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use quorate_protocol::ids::AccountId;
use quorate_protocol::shard::map::splitmix64;

pub use communities::{Communities, MEMBERS};
pub use cross::{CrossMix, MixError};
pub use drift::{Drift, DriftingCommunities, Members, trades_per_period};
pub use hot_set::HotSet;
pub use smallbank::{ACCOUNTS_MIN as SMALLBANK_ACCOUNTS_MIN, READ_PERCENT, SmallBank};
pub use uniform::Uniform;
pub use zipf::ZipfAccounts;

/// The generator of every stream; its output may not change under old seeds.
pub type Stream = Xoshiro256PlusPlus;

/// Amounts of the synthetic workloads, in the ledger's smallest unit.
pub const AMOUNT_MAX: u128 = 100;

/// One payment without an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    pub debit: AccountId,
    pub credit: AccountId,
    pub amount: u128,
}

/// The endless synthetic workloads.
#[derive(Debug)]
pub enum Shape {
    Uniform(Uniform),
    Zipf(ZipfAccounts),
    HotSet(HotSet),
    Communities(Communities),
    SmallBank(SmallBank),
    /// The accounts whose balances are read: checking and savings.
    SmallBankBalances(SmallBank),
}

impl Shape {
    /// Two different accounts: debit, credit.
    fn pair(&self, stream: &mut Stream) -> (u32, u32) {
        match self {
            Self::Uniform(shape) => shape.pair(stream),
            Self::Zipf(shape) => shape.pair(stream),
            Self::HotSet(shape) => shape.pair(stream),
            Self::Communities(shape) => shape.pair(stream),
            Self::SmallBank(shape) => shape.operation(stream).first,
            Self::SmallBankBalances(shape) => shape.balance(stream),
        }
    }
}

/// One client's stream of payments; never ends. Threads may share a shape.
#[derive(Debug)]
pub struct Payments {
    shape: Arc<Shape>,
    mix: Option<Arc<CrossMix>>,
    stream: Stream,
    /// The second transfer of the operation whose first was handed out.
    pending: Option<(u32, u32)>,
}

impl Payments {
    /// The stream of `client` under `seed`. With a `mix`, the share of cross-shard payments is
    /// fixed and the shape only proposes credit accounts.
    #[must_use]
    pub fn new(shape: Arc<Shape>, mix: Option<Arc<CrossMix>>, seed: u64, client: u64) -> Self {
        let stream = stream_of(seed, client);
        Self {
            shape,
            mix,
            stream,
            pending: None,
        }
    }
}

impl Iterator for Payments {
    type Item = Draw;

    fn next(&mut self) -> Option<Draw> {
        let (debit, credit) = match (&self.mix, &*self.shape) {
            (None, Shape::SmallBank(bank)) => self.pending.take().unwrap_or_else(|| {
                let operation = bank.operation(&mut self.stream);
                self.pending = operation.second;
                operation.first
            }),
            (None, shape) => shape.pair(&mut self.stream),
            (Some(mix), shape) => mix.pair(shape, &mut self.stream),
        };
        Some(draw(debit, credit, &mut self.stream))
    }
}

/// The payments of some clients whose communities change with time.
#[derive(Debug)]
pub struct DriftingPayments {
    communities: Arc<DriftingCommunities>,
    members: Members,
    streams: Vec<Stream>,
    /// Time that drift has had before this load.
    before_ns: u64,
}

impl DriftingPayments {
    /// One stream for each of `clients` under `seed`, for a load before which drift has had
    /// `before_ns`.
    #[must_use]
    pub fn new(
        communities: Arc<DriftingCommunities>,
        seed: u64,
        clients: impl Iterator<Item = u64>,
        before_ns: u64,
    ) -> Self {
        Self {
            members: communities.members(),
            communities,
            streams: clients.map(|client| stream_of(seed, client)).collect(),
            before_ns,
        }
    }

    /// The next `count` payments of the `client`-th stream, which are meant to be sent `at_ns` into
    /// the load. Cheapest while times rise: they share the members.
    pub fn take(&mut self, client: usize, count: usize, at_ns: u64) -> Vec<Draw> {
        let at_ns = self.before_ns.saturating_add(at_ns);
        let period = self.communities.period_at(at_ns);
        self.members.go_to(period, &self.communities);
        let stream = &mut self.streams[client];
        let next = |_| {
            let (debit, credit) = self.communities.pair(&self.members, stream);
            draw(debit, credit, stream)
        };
        (0..count).map(next).collect()
    }
}

/// The random numbers of one client.
fn stream_of(seed: u64, client: u64) -> Stream {
    Stream::seed_from_u64(splitmix64(seed) ^ splitmix64(!client))
}

fn draw(debit: u32, credit: u32, stream: &mut Stream) -> Draw {
    Draw {
        debit: AccountId(u128::from(debit)),
        credit: AccountId(u128::from(credit)),
        amount: stream.random_range(1..=AMOUNT_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn shapes(accounts: u32) -> Vec<Shape> {
        vec![
            Shape::Uniform(Uniform::new(accounts)),
            Shape::Zipf(ZipfAccounts::new(accounts, 0.99, 7)),
            Shape::HotSet(HotSet::new(accounts, 0.1, 0.9, 7)),
            Shape::SmallBank(SmallBank::new(accounts.max(5), 0.25, 0.9, 7)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_shape_pays_between_two_different_existing_accounts(
            accounts in 5_u32..500, seed: u64,
        ) {
            for shape in shapes(accounts) {
                for draw in Payments::new(Arc::new(shape), None, seed, 0).take(300) {
                    prop_assert!(draw.debit != draw.credit);
                    for account in [draw.debit, draw.credit] {
                        prop_assert!((1..=u128::from(accounts)).contains(&account.0));
                    }
                    prop_assert!((1..=AMOUNT_MAX).contains(&draw.amount));
                }
            }
        }
    }

    #[test]
    fn the_seed_fixes_the_payments_and_clients_differ() {
        let shape = Arc::new(Shape::Uniform(Uniform::new(1000)));
        let take = |seed, client| -> Vec<Draw> {
            Payments::new(Arc::clone(&shape), None, seed, client)
                .take(100)
                .collect()
        };
        assert_eq!(take(1, 0), take(1, 0));
        assert_ne!(take(1, 0), take(1, 1));
        assert_ne!(take(1, 0), take(2, 0));
    }

    /// What drift changes is who is meant, not what is drawn: in period 0 nobody has changed, and
    /// behind it the places and the amounts are still those of a load without drift.
    #[test]
    fn drift_leaves_the_first_period_and_all_amounts_as_they_are_without_it() {
        let communities = || Communities::new(9_000, 0.9, 1.0, 5);
        let still = Arc::new(Shape::Communities(communities()));
        let drift = Drift {
            percent: 50.0,
            every: Duration::from_secs(1),
        };
        let shape = Arc::new(DriftingCommunities::new(communities(), drift, 5));
        let mut drifting = DriftingPayments::new(shape, 5, 0..2, 0);
        for client in 0..2 {
            let mut without = Payments::new(Arc::clone(&still), None, 5, client);
            let client = usize::try_from(client).unwrap();
            let expected: Vec<Draw> = without.by_ref().take(1_000).collect();
            assert_eq!(drifting.take(client, 1_000, 999_999_999), expected);
            let later = drifting.take(client, 1_000, 3_000_000_000);
            let expected: Vec<Draw> = without.take(1_000).collect();
            assert_ne!(later, expected);
            let amounts = |draws: &[Draw]| draws.iter().map(|d| d.amount).collect::<Vec<_>>();
            assert_eq!(amounts(&later), amounts(&expected));
        }
    }

    /// A load that follows another one goes on where drift was, not at its beginning.
    #[test]
    fn a_later_load_finds_the_communities_as_the_earlier_one_left_them() {
        let drift = Drift {
            percent: 10.0,
            every: Duration::from_secs(1),
        };
        let communities = Communities::new(1_000, 0.9, 1.0, 5);
        let shape = Arc::new(DriftingCommunities::new(communities, drift, 5));
        let load = |before_ns| DriftingPayments::new(Arc::clone(&shape), 5, 0..1, before_ns);
        let second = 1_000_000_000;
        assert_eq!(
            load(4 * second).take(0, 100, 2 * second),
            load(0).take(0, 100, 6 * second)
        );
        assert_ne!(
            load(0).take(0, 100, 2 * second),
            load(0).take(0, 100, 6 * second)
        );
    }

    /// The draws of communities before there was drift, as the first of them and a sum over 100,000.
    #[test]
    fn the_draws_of_communities_are_pinned_with_and_without_drift() {
        let drift = Drift {
            percent: 5.0,
            every: Duration::from_secs(1),
        };
        let sum = |draws: &[Draw]| {
            let numbers = draws.iter().flat_map(|d| [d.debit.0, d.credit.0, d.amount]);
            numbers.fold(0, |sum, n| splitmix64(sum ^ u64::try_from(n).unwrap()))
        };
        for (accounts, inside, theta, seed, client, first, expected) in [
            (
                9_000,
                0.9,
                1.0,
                42,
                0,
                (4163, 4752, 27),
                7546232728622454642,
            ),
            (
                1_234,
                0.5,
                0.7,
                7,
                3 << 32,
                (722, 1065, 78),
                108226723611555585,
            ),
        ] {
            let shape = || Communities::new(accounts, inside, theta, seed);
            let still = Arc::new(Shape::Communities(shape()));
            let without = Payments::new(still, None, seed, client);
            let without: Vec<Draw> = without.take(100_000).collect();
            let drifting = Arc::new(DriftingCommunities::new(shape(), drift, seed));
            let clients = [client].into_iter();
            let mut drifting = DriftingPayments::new(drifting, seed, clients, 0);
            let drawn = without[0];
            assert_eq!((drawn.debit.0, drawn.credit.0, drawn.amount), first);
            assert_eq!(sum(&without), expected);
            assert_eq!(sum(&drifting.take(0, 100_000, 0)), expected);
        }
    }

    /// Published figures name a seed: a changed stream would make them irreproducible.
    #[test]
    fn the_stream_of_a_seed_is_pinned() {
        let shape = Arc::new(Shape::Uniform(Uniform::new(9000)));
        let first: Vec<(u128, u128, u128)> = Payments::new(shape, None, 42, 0)
            .take(3)
            .map(|draw| (draw.debit.0, draw.credit.0, draw.amount))
            .collect();
        assert_eq!(first, [(8027, 7317, 34), (3749, 1769, 27), (8076, 599, 4)]);
    }
}
