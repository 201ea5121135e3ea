//! A seeded order of the accounts: which of them are the popular ones.

use rand::SeedableRng;
use rand::seq::SliceRandom;

use quorate_protocol::shard::map::splitmix64;

use super::Stream;

/// The accounts `1..=accounts` in a seeded order.
pub fn permutation(accounts: u32, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (1..=accounts).collect();
    order.shuffle(&mut Stream::seed_from_u64(splitmix64(seed)));
    order
}
