//! How evenly a placement spreads load and accounts over the shards, by what the cluster counted.

use std::collections::BTreeMap;

use quorate_planner::WeightedPair;
use quorate_planner::score::{Score, max_over_avg};
use quorate_protocol::ids::{AccountId, ShardId};

/// Load of the busiest shard over the average, each transfer being a load at both of its accounts.
#[must_use]
pub fn load_max_over_avg(
    pairs: &[WeightedPair],
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
) -> f64 {
    let mut score = Score::new(shards);
    for pair in pairs {
        if let (Some(a), Some(b)) = (owners.get(&pair.a), owners.get(&pair.b)) {
            score.count(a.0 - 1, b.0 - 1, pair.weight);
        }
    }
    score.load_max_over_avg()
}

/// Accounts of the fullest shard over the average.
#[must_use]
pub fn accounts_max_over_avg(owners: &BTreeMap<AccountId, ShardId>, shards: u32) -> f64 {
    let mut counts = vec![0; shards as usize];
    for shard in owners.values() {
        counts[shard.0 as usize - 1] += 1;
    }
    max_over_avg(&counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balance_counts_both_accounts_of_a_transfer() {
        let owner = |id, shard| (AccountId(id), ShardId(shard));
        let owners = BTreeMap::from([owner(1, 1), owner(2, 1), owner(3, 2)]);
        let pair = |a, b, weight| WeightedPair {
            a: AccountId(a),
            b: AccountId(b),
            weight,
        };
        // Shard 1: 2 x 3 + 1 = 7, shard 2: 1.
        let load = load_max_over_avg(&[pair(1, 2, 3), pair(1, 3, 1)], &owners, 2);
        assert!((load - 7.0 / 4.0).abs() < 1e-9);
        assert!((accounts_max_over_avg(&owners, 2) - 2.0 / 1.5).abs() < 1e-9);
    }
}
