//! Generated traces, each a pure function of its seed, and an independent count of what a map does
//! to them. Accounts are numbered from 1.

#![allow(dead_code, reason = "each test file uses a part")]
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "helpers of tests: a wrong number fails the test"
)]

use quorate_planner::WeightedPair;
use quorate_planner::trace::{Trace, TraceTransfer};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::Placement;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Gamma, weighted::WeightedAliasIndex};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Transfers (debit, credit) by account number, one per unit of time.
pub fn trace(transfers: &[(u32, u32)]) -> Trace {
    let transfer = |(i, &(debit, credit)): (usize, &(u32, u32))| TraceTransfer {
        timestamp: f64::from(u32::try_from(i).unwrap()),
        debit: AccountId(debit.into()),
        credit: AccountId(credit.into()),
        amount: 1,
    };
    Trace::new(transfers.iter().enumerate().map(transfer).collect()).unwrap()
}

/// Whom a payment goes to that does not stay inside.
#[derive(Clone, Copy)]
enum Outside {
    /// A member of some community, each drawn as for payments inside.
    ByShare,
    /// Any account of the other communities, all alike.
    Uniform,
}

/// Communities: who belongs together, and how often each member is chosen.
pub struct Communities {
    rng: Xoshiro256PlusPlus,
    members: Vec<Vec<u32>>,
    inside: f64,
    outside: Outside,
    community: WeightedAliasIndex<f64>,
    member: Vec<WeightedAliasIndex<f64>>,
}

impl Communities {
    /// The planted graph of the data's README: communities whose shares of the traffic are drawn
    /// from a Dirichlet(5), popularity inside 1/(1 + rank mod 100), outside partners by share.
    pub fn planted(accounts: u32, communities: u32, inside: f64, seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        // Normalised gamma variates are Dirichlet; the alias table normalises.
        let gamma = Gamma::new(5.0, 1.0).unwrap();
        let shares = (0..communities).map(|_| gamma.sample(&mut rng)).collect();
        Self::new(
            accounts,
            communities,
            inside,
            shares,
            |rank| 1.0 / f64::from(1 + rank % 100),
            rng,
        )
    }

    /// The workload of the demo: communities of equal share, Zipf inside.
    pub fn equal(accounts: u32, communities: u32, inside: f64, seed: u64) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let shares = vec![1.0; communities as usize];
        Self::new(
            accounts,
            communities,
            inside,
            shares,
            |rank| 1.0 / f64::from(1 + rank),
            rng,
        )
    }

    fn new(
        accounts: u32,
        communities: u32,
        inside: f64,
        shares: Vec<f64>,
        popularity: impl Fn(u32) -> f64,
        rng: Xoshiro256PlusPlus,
    ) -> Self {
        let size = accounts / communities;
        let members: Vec<Vec<u32>> = (0..communities)
            .map(|c| (0..size).map(|rank| 1 + rank * communities + c).collect())
            .collect();
        let weights: Vec<f64> = (0..size).map(popularity).collect();
        Self {
            member: members
                .iter()
                .map(|_| WeightedAliasIndex::new(weights.clone()).unwrap())
                .collect(),
            community: WeightedAliasIndex::new(shares).unwrap(),
            members,
            inside,
            outside: Outside::ByShare,
            rng,
        }
    }

    /// The communities of the load generator: equal shares, Zipf inside, uniform outside.
    pub fn generated(accounts: u32, communities: u32, inside: f64, seed: u64) -> Self {
        Self {
            outside: Outside::Uniform,
            ..Self::equal(accounts, communities, inside, seed)
        }
    }

    /// Epochs of equally many transfers, a share of all accounts changing community between them.
    pub fn drifting(&mut self, epochs: usize, transfers: usize, share: f64) -> Vec<(u32, u32)> {
        let mut made = Vec::with_capacity(epochs * transfers);
        for epoch in 0..epochs {
            if epoch > 0 {
                self.drift(share);
            }
            made.extend(self.transfers(transfers));
        }
        made
    }

    /// Lets a share of all accounts change places with accounts of other communities.
    pub fn drift(&mut self, share: f64) {
        let communities = self.members.len();
        let size = self.members[0].len();
        let swaps = (share * (communities * size) as f64 / 2.0).round() as usize;
        for _ in 0..swaps {
            let (a, b) = (
                self.rng.random_range(0..communities),
                self.rng.random_range(0..communities),
            );
            let (i, j) = (
                self.rng.random_range(0..size),
                self.rng.random_range(0..size),
            );
            let (x, y) = (self.members[a][i], self.members[b][j]);
            self.members[a][i] = y;
            self.members[b][j] = x;
        }
    }

    /// More transfers.
    pub fn transfers(&mut self, count: usize) -> Vec<(u32, u32)> {
        let mut made = Vec::with_capacity(count);
        while made.len() < count {
            let from = self.community.sample(&mut self.rng);
            let stays = self.rng.random_bool(self.inside);
            let to = match (stays, self.outside) {
                (true, _) => from,
                (false, Outside::ByShare) => self.community.sample(&mut self.rng),
                (false, Outside::Uniform) => {
                    let other = self.rng.random_range(0..self.members.len() - 1);
                    other + usize::from(other >= from)
                }
            };
            let debit = self.members[from][self.member[from].sample(&mut self.rng)];
            let credit = match (stays, self.outside) {
                (false, Outside::Uniform) => {
                    self.members[to][self.rng.random_range(0..self.members[to].len())]
                }
                (true, _) | (false, Outside::ByShare) => {
                    self.members[to][self.member[to].sample(&mut self.rng)]
                }
            };
            if debit != credit {
                made.push((debit, credit));
            }
        }
        made
    }
}

/// Everybody pays everybody.
pub fn uniform(accounts: u32, count: usize, seed: u64) -> Vec<(u32, u32)> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        let pair = (
            rng.random_range(1..=accounts),
            rng.random_range(1..=accounts),
        );
        if pair.0 != pair.1 {
            made.push(pair);
        }
    }
    made
}

/// A recorded trace from `shared/data`, or `None` with a printed reason where it is not installed.
pub fn recorded(name: &str) -> Option<Trace> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let path = std::path::Path::new(folder).join(name);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(Trace::open(&path).unwrap())
}

/// Transfers as a leader's table would hold them.
pub fn pairs(transfers: &[(u32, u32)]) -> Vec<WeightedPair> {
    let mut counts = std::collections::BTreeMap::new();
    for &(a, b) in transfers {
        *counts.entry((a.min(b), a.max(b))).or_insert(0) += 1;
    }
    (counts.into_iter())
        .map(|((a, b), weight)| WeightedPair {
            a: AccountId(a.into()),
            b: AccountId(b.into()),
            weight,
        })
        .collect()
}

/// Every account up to `accounts` at its hash home.
pub fn hash_map(accounts: u32, shards: u32) -> std::collections::BTreeMap<AccountId, ShardId> {
    let ids = (1..=accounts).map(|id| AccountId(id.into()));
    ids.map(|id| (id, Placement::Hash.home(id, shards)))
        .collect()
}

/// An independent count: cross-shard ratio, and load of the busiest shard over the average.
pub fn count(
    transfers: &[(AccountId, AccountId)],
    shard: impl Fn(AccountId) -> ShardId,
    shards: u32,
) -> (f64, f64) {
    let mut touches = std::collections::BTreeMap::new();
    let mut cross = 0;
    for &(a, b) in transfers {
        cross += u32::from(shard(a) != shard(b));
        for id in [a, b] {
            *touches.entry(shard(id)).or_insert(0_u32) += 1;
        }
    }
    let all = transfers.len() as f64;
    let busiest = f64::from(*touches.values().max().unwrap());
    (
        f64::from(cross) / all,
        busiest * f64::from(shards) / (2.0 * all),
    )
}

/// Zipf-distributed accounts (exponent 1), no communities.
pub fn zipf(accounts: u32, count: usize, seed: u64) -> Vec<(u32, u32)> {
    weighted(accounts, count, seed, |rank| 1.0 / f64::from(1 + rank))
}

/// Nine tenths of the traffic on a hundredth of the accounts, no communities.
pub fn hot_set(accounts: u32, count: usize, seed: u64) -> Vec<(u32, u32)> {
    weighted(accounts, count, seed, |rank| {
        if rank < accounts / 100 { 891.0 } else { 1.0 }
    })
}

fn weighted(
    accounts: u32,
    count: usize,
    seed: u64,
    weight: impl Fn(u32) -> f64,
) -> Vec<(u32, u32)> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let table = WeightedAliasIndex::new((0..accounts).map(weight).collect()).unwrap();
    let mut made = Vec::with_capacity(count);
    while made.len() < count {
        let (a, b) = (table.sample(&mut rng), table.sample(&mut rng));
        if a != b {
            made.push((u32::try_from(a + 1).unwrap(), u32::try_from(b + 1).unwrap()));
        }
    }
    made
}
