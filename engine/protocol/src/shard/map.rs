//! Default placement: a pure function of the account id, fixed when the cluster is initialised.
//!
//! Ownership truth is in each shard's replicated state; this is only where an account is created
//! and where a search for it starts.

use crate::ids::{AccountId, ShardId};

/// How ids map to shards by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// splitmix64 of the id's low half xor its high half, modulo the number of shards.
    Hash,
    /// Shard s of 1..S owns ids (s-1)N+1 ..= sN; the last one also all above, the first one id 0.
    Range { accounts_per_shard: u64 },
}

impl Placement {
    /// The shard whose log alone decides the creation of `account`.
    ///
    /// # Panics
    /// If `shards` is 0.
    #[must_use]
    pub fn home(self, account: AccountId, shards: u32) -> ShardId {
        assert!(shards > 0);
        match self {
            Self::Hash => {
                let bytes = account.0.to_le_bytes();
                let low = u64::from_le_bytes(bytes[..8].try_into().expect("8 of 16 bytes"));
                let high = u64::from_le_bytes(bytes[8..].try_into().expect("8 of 16 bytes"));
                let part = splitmix64(low ^ high) % u64::from(shards);
                ShardId(1 + u32::try_from(part).expect("below a u32"))
            }
            Self::Range { accounts_per_shard } => {
                let part = account.0.saturating_sub(1) / u128::from(accounts_per_shard.max(1));
                let part = part.min(u128::from(shards - 1));
                ShardId(1 + u32::try_from(part).expect("below a u32"))
            }
        }
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014), the output function.
#[must_use]
pub fn splitmix64(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_their_stated_borders() {
        let range = Placement::Range {
            accounts_per_shard: 3000,
        };
        let home = |id| range.home(AccountId(id), 3).0;
        assert_eq!(
            [
                home(0),
                home(1),
                home(3000),
                home(3001),
                home(6000),
                home(6001),
                home(u128::MAX)
            ],
            [1, 1, 1, 2, 2, 3, 3]
        );
    }

    #[test]
    fn hash_uses_the_reference_stream_and_spreads_evenly() {
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf);
        let mut counts = [0_u32; 3];
        for id in 1..=9000_u128 {
            counts[Placement::Hash.home(AccountId(id), 3).0 as usize - 1] += 1;
        }
        assert!(
            counts.iter().all(|&n| (2800..3200).contains(&n)),
            "{counts:?}"
        );
    }
}
