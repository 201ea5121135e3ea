//! A share of the traffic on a share of the accounts.

use rand::RngExt;

use super::Stream;
use super::permutation::permutation;

/// Each side of a payment is a hot account with the given probability.
#[derive(Debug)]
pub struct HotSet {
    /// The hot accounts first.
    accounts: Vec<u32>,
    hot: usize,
    traffic: f64,
}

impl HotSet {
    /// `hot_share` of the accounts (at least one) take `traffic` of both sides.
    ///
    /// # Panics
    /// If there are fewer than two accounts or a share is outside `0..=1`.
    #[must_use]
    pub fn new(accounts: u32, hot_share: f64, traffic: f64, seed: u64) -> Self {
        assert!(accounts >= 2, "a payment needs two accounts");
        assert!((0.0..=1.0).contains(&hot_share) && (0.0..=1.0).contains(&traffic));
        let accounts = permutation(accounts, seed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a u32 count; the clamp bounds it"
        )]
        let hot = ((accounts.len() as f64 * hot_share).round() as usize).clamp(1, accounts.len());
        Self {
            accounts,
            hot,
            traffic,
        }
    }

    pub(super) fn pair(&self, stream: &mut Stream) -> (u32, u32) {
        let pool = self.pool(stream);
        let debit = stream.random_range(pool.clone());
        let mut pool = self.pool(stream);
        if pool.len() == 1 && pool.contains(&debit) {
            pool = 0..self.accounts.len();
        }
        let credit = if pool.contains(&debit) {
            let draw = stream.random_range(pool.start..pool.end - 1);
            draw + usize::from(draw >= debit)
        } else {
            stream.random_range(pool)
        };
        (self.accounts[debit], self.accounts[credit])
    }

    /// The hot or the cold positions.
    fn pool(&self, stream: &mut Stream) -> std::ops::Range<usize> {
        let all_hot = self.hot == self.accounts.len();
        if stream.random_bool(self.traffic) || all_hot {
            0..self.hot
        } else {
            self.hot..self.accounts.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    #[test]
    fn the_hot_accounts_take_their_share_of_both_sides() {
        let shape = HotSet::new(1000, 0.05, 0.8, 11);
        let hot: BTreeSet<u32> = shape.accounts[..shape.hot].iter().copied().collect();
        assert_eq!(hot.len(), 50);
        let mut stream = Stream::seed_from_u64(1);
        let (mut debits, mut credits) = (0_u32, 0_u32);
        for _ in 0..20_000 {
            let (debit, credit) = shape.pair(&mut stream);
            debits += u32::from(hot.contains(&debit));
            credits += u32::from(hot.contains(&credit));
        }
        // 0.8 of 20,000 with a standard deviation of 57.
        assert!((15_700..16_300).contains(&debits), "{debits}");
        assert!((15_700..16_300).contains(&credits), "{credits}");
    }

    #[test]
    fn a_single_hot_account_with_all_traffic_pays_somebody_else() {
        let shape = HotSet::new(10, 0.0, 1.0, 2);
        let mut stream = Stream::seed_from_u64(1);
        for _ in 0..100 {
            let (debit, credit) = shape.pair(&mut stream);
            assert_eq!(debit, shape.accounts[0]);
            assert_ne!(debit, credit);
        }
    }
}
