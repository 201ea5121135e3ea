//! A fixed share of cross-shard payments: the local/cross mix.
//!
//! "Cross" is judged by the default placement, so on a cluster whose accounts have moved the share
//! that the engine reports differs; reports use the engine's, never this one.

use rand::RngExt;

use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::Placement;

use super::{Shape, Stream};

/// Proposals of the shape that are tried before an account is drawn uniformly from the wanted side.
const REDRAWS_MAX: u32 = 32;

/// Chooses the credit account on the debit account's home shard or on another.
#[derive(Debug)]
pub struct CrossMix {
    share: f64,
    /// Home of account `i + 1`.
    homes: Vec<ShardId>,
    /// Accounts ordered by home, and where each shard's part of them starts; shard s at `s - 1`.
    ordered: Vec<u32>,
    starts: Vec<usize>,
}

/// Why a mix is impossible.
#[derive(Debug, PartialEq, Eq)]
pub enum MixError {
    /// Cross-shard payments need accounts on two shards.
    OneShard,
    /// A shard with this many accounts cannot pay itself.
    TooFew { shard: ShardId, accounts: usize },
}

impl std::fmt::Display for MixError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OneShard => write!(f, "cross-shard payments need accounts on two shards"),
            Self::TooFew { shard, accounts } => write!(
                f,
                "shard {shard} is the home of {accounts} accounts, local payments need 2"
            ),
        }
    }
}

impl std::error::Error for MixError {}

impl CrossMix {
    /// A mix with `share` in `0..=1` of cross-shard payments.
    ///
    /// # Errors
    /// If the accounts' homes do not allow such payments.
    pub fn new(
        share: f64,
        accounts: u32,
        placement: Placement,
        shards: u32,
    ) -> Result<Self, MixError> {
        assert!((0.0..=1.0).contains(&share));
        let home = |account: u32| placement.home(AccountId(u128::from(account)), shards);
        let homes: Vec<ShardId> = (1..=accounts).map(home).collect();
        let mut ordered: Vec<u32> = (1..=accounts).collect();
        ordered.sort_by_key(|&account| (home(account), account));
        let start_of = |shard: u32| ordered.partition_point(|&account| home(account).0 < shard);
        let starts: Vec<usize> = (1..=shards + 1).map(start_of).collect();
        let mix = Self {
            share,
            homes,
            ordered,
            starts,
        };
        mix.check(shards)?;
        Ok(mix)
    }

    fn check(&self, shards: u32) -> Result<(), MixError> {
        let parts = (1..=shards).map(ShardId);
        let sizes: Vec<(ShardId, usize)> = parts.map(|s| (s, self.part(s).len())).collect();
        if self.share > 0.0 && sizes.iter().filter(|(_, size)| *size > 0).count() < 2 {
            return Err(MixError::OneShard);
        }
        let lonely = sizes.into_iter().find(|&(_, size)| size == 1);
        match lonely {
            Some((shard, accounts)) if self.share < 1.0 => {
                Err(MixError::TooFew { shard, accounts })
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn pair(&self, shape: &Shape, stream: &mut Stream) -> (u32, u32) {
        let (debit, mut credit) = shape.pair(stream);
        let cross = stream.random_bool(self.share);
        for _ in 0..REDRAWS_MAX {
            if credit != debit && (self.home(debit) != self.home(credit)) == cross {
                return (debit, credit);
            }
            credit = shape.pair(stream).1;
        }
        (debit, self.uniform(debit, cross, stream))
    }

    /// Uniform over the accounts of the wanted side, `debit` excluded.
    fn uniform(&self, debit: u32, cross: bool, stream: &mut Stream) -> u32 {
        let own = self.part(self.home(debit));
        let position = if cross {
            let draw = stream.random_range(0..self.ordered.len() - own.len());
            draw + if draw < own.start { 0 } else { own.len() }
        } else {
            let draw = stream.random_range(own.start..own.end - 1);
            draw + usize::from(self.ordered[draw] >= debit)
        };
        self.ordered[position]
    }

    fn home(&self, account: u32) -> ShardId {
        self.homes[account as usize - 1]
    }

    /// The positions of a shard's accounts in `ordered`.
    fn part(&self, shard: ShardId) -> std::ops::Range<usize> {
        self.starts[shard.0 as usize - 1]..self.starts[shard.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Uniform, ZipfAccounts};
    use proptest::prelude::*;
    use rand::SeedableRng;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_share_of_cross_shard_payments_is_the_one_asked_for(
            accounts in 100_u32..2_000, share in 0.0_f64..=1.0, seed: u64, skewed: bool,
        ) {
            let shape = if skewed {
                Shape::Zipf(ZipfAccounts::new(accounts, 1.2, seed))
            } else {
                Shape::Uniform(Uniform::new(accounts))
            };
            let mix = CrossMix::new(share, accounts, Placement::Hash, 3).unwrap();
            let mut stream = Stream::seed_from_u64(seed);
            let draws = 5_000;
            let mut cross = 0_u32;
            for _ in 0..draws {
                let (debit, credit) = mix.pair(&shape, &mut stream);
                prop_assert!(debit != credit);
                let home = |id: u32| Placement::Hash.home(AccountId(u128::from(id)), 3);
                cross += u32::from(home(debit) != home(credit));
            }
            let seen = f64::from(cross) / f64::from(draws);
            // Standard deviation at most 0.0071.
            prop_assert!((seen - share).abs() < 0.036, "{} for {}", seen, share);
        }
    }

    /// The fallback is reached only when the shape never proposes the wanted side, so it is tried
    /// by itself: every account of the side, and no other, comes up.
    #[test]
    fn the_uniform_fallback_covers_exactly_the_wanted_side() {
        let placement = Placement::Range {
            accounts_per_shard: 4,
        };
        let mix = CrossMix::new(0.5, 12, placement, 3).unwrap();
        let mut stream = Stream::seed_from_u64(9);
        for debit in 1..=12 {
            for cross in [false, true] {
                let mut seen = std::collections::BTreeSet::new();
                for _ in 0..400 {
                    seen.insert(mix.uniform(debit, cross, &mut stream));
                }
                let wanted = |id: &u32| *id != debit && ((id - 1) / 4 != (debit - 1) / 4) == cross;
                assert_eq!(seen, (1..=12).filter(wanted).collect());
            }
        }
    }

    #[test]
    fn impossible_mixes_are_refused() {
        let range = Placement::Range {
            accounts_per_shard: 100,
        };
        assert_eq!(
            CrossMix::new(0.1, 50, range, 3).unwrap_err(),
            MixError::OneShard
        );
        let one = MixError::TooFew {
            shard: ShardId(2),
            accounts: 1,
        };
        assert_eq!(CrossMix::new(0.1, 101, range, 2).unwrap_err(), one);
        assert!(CrossMix::new(0.0, 50, range, 3).is_ok());
        assert!(CrossMix::new(1.0, 101, range, 2).is_ok());
    }
}
