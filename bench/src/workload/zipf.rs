//! Popularity by rank: the account of rank r has a share proportional to `1 / r^theta`.

use rand_distr::{Distribution, Zipf};

use super::Stream;
use super::permutation::permutation;

/// Draws after which a credit account equal to the debit account is replaced by the next rank. Only
/// extreme values of theta get there.
const REDRAWS_MAX: u32 = 64;

/// Zipfian payments; both sides are drawn from the same distribution.
#[derive(Debug)]
pub struct ZipfAccounts {
    by_rank: Vec<u32>,
    ranks: Ranks,
}

impl ZipfAccounts {
    /// # Panics
    /// If there are fewer than two accounts or theta is negative or not finite.
    #[must_use]
    pub fn new(accounts: u32, theta: f64, seed: u64) -> Self {
        assert!(accounts >= 2, "a payment needs two accounts");
        Self {
            by_rank: permutation(accounts, seed),
            ranks: Ranks::new(accounts, theta),
        }
    }

    pub(super) fn pair(&self, stream: &mut Stream) -> (u32, u32) {
        let (debit, credit) = self.ranks.pair(stream);
        (self.by_rank[debit], self.by_rank[credit])
    }
}

/// Zipfian ranks `0..count`.
#[derive(Debug)]
pub struct Ranks {
    count: usize,
    zipf: Zipf<f64>,
}

impl Ranks {
    /// # Panics
    /// If `count` is 0 or theta is negative or not finite.
    pub fn new(count: u32, theta: f64) -> Self {
        let zipf = Zipf::new(f64::from(count), theta).expect("callers validated count and theta");
        let count = usize::try_from(count).expect("a u32 fits a usize");
        Self { count, zipf }
    }

    /// One rank.
    pub fn rank(&self, stream: &mut Stream) -> usize {
        let rank = self.zipf.sample(stream);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the sample is a whole number in 1..=count; the bound below holds for any value"
        )]
        let rank = rank as usize;
        rank.clamp(1, self.count) - 1
    }

    /// Two different ranks; `count` must be at least two.
    pub fn pair(&self, stream: &mut Stream) -> (usize, usize) {
        let debit = self.rank(stream);
        for _ in 0..REDRAWS_MAX {
            let credit = self.rank(stream);
            if credit != debit {
                return (debit, credit);
            }
        }
        (debit, (debit + 1) % self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_first_ranks_have_their_share() {
        let ranks = Ranks::new(100, 1.0);
        let mut stream = Stream::seed_from_u64(5);
        let mut counts = [0_u32; 100];
        for _ in 0..100_000 {
            counts[ranks.rank(&mut stream)] += 1;
        }
        // H(100) = 5.187: shares 0.1928, 0.0964, 0.0643.
        for (rank, expected) in [(0, 19_280), (1, 9_640), (2, 6_426)] {
            let seen = f64::from(counts[rank]);
            assert!(
                (seen / f64::from(expected) - 1.0).abs() < 0.05,
                "rank {rank}: {seen} for {expected}"
            );
        }
        assert!(counts.iter().all(|&n| n > 0));
    }

    #[test]
    fn an_extreme_theta_still_pays_between_two_accounts() {
        let ranks = Ranks::new(2, 60.0);
        let (debit, credit) = ranks.pair(&mut Stream::seed_from_u64(1));
        assert_ne!(debit, credit);
    }
}
