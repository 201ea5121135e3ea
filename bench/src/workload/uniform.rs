//! Every pair of accounts equally likely.

use rand::RngExt;

use super::Stream;

/// Uniform payments among `accounts`.
#[derive(Debug)]
pub struct Uniform {
    accounts: u32,
}

impl Uniform {
    /// # Panics
    /// If there are fewer than two accounts.
    #[must_use]
    pub fn new(accounts: u32) -> Self {
        assert!(accounts >= 2, "a payment needs two accounts");
        Self { accounts }
    }

    pub(super) fn pair(&self, stream: &mut Stream) -> (u32, u32) {
        let debit = stream.random_range(1..=self.accounts);
        let other = stream.random_range(1..self.accounts);
        (debit, other + u32::from(other >= debit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn all_ordered_pairs_are_about_equally_likely() {
        let mut stream = Stream::seed_from_u64(3);
        let shape = Uniform::new(4);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..12_000 {
            *seen.entry(shape.pair(&mut stream)).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 12);
        // Mean 1000, standard deviation about 30.
        assert!(seen.values().all(|n| (850..1150).contains(n)), "{seen:?}");
    }
}
