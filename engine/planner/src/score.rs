//! What a map would have cost on given transfers: cross-shard ratio and balance.
//!
//! A shard's load is the number of accounts that transfers touch on it: a local transfer touches its
//! shard twice, a cross-shard one touches two shards once. A ratio without the balance beside it
//! says nothing (one shard for everything makes every transfer local), so both live in one type.

/// Transfers counted under a map. Parts are 0-based.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Score {
    local: u64,
    cross: u64,
    loads: Vec<u64>,
    crossing: Vec<u64>,
}

impl Score {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(parts: u32) -> Self {
        Self {
            local: 0,
            cross: 0,
            loads: vec![0; parts as usize],
            crossing: vec![0; parts as usize],
        }
    }

    /// Transfers between numbered accounts, `part` being the part of each.
    #[must_use]
    pub fn of(transfers: &[(u32, u32)], part: &[u32], parts: u32) -> Self {
        let mut score = Self::new(parts);
        for &(a, b) in transfers {
            score.count(part[a as usize], part[b as usize], 1);
        }
        score
    }

    /// Counts `weight` transfers between accounts on the parts `a` and `b`.
    pub fn count(&mut self, a: u32, b: u32, weight: u64) {
        if a == b {
            self.local += weight;
        } else {
            self.cross += weight;
            self.crossing[a as usize] += weight;
            self.crossing[b as usize] += weight;
        }
        self.loads[a as usize] += weight;
        self.loads[b as usize] += weight;
    }

    /// Number of transfers counted.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.local + self.cross
    }

    /// Share of the transfers between two shards; 0 if there were none.
    #[must_use]
    pub fn cross_shard_ratio(&self) -> f64 {
        ratio(self.cross, self.transfers())
    }

    /// Touched accounts per part.
    #[must_use]
    pub fn loads(&self) -> &[u64] {
        &self.loads
    }

    /// The part of each load that comes from cross-shard transfers.
    #[must_use]
    pub fn crossing(&self) -> &[u64] {
        &self.crossing
    }

    /// Load of the busiest shard over the average.
    #[must_use]
    pub fn load_max_over_avg(&self) -> f64 {
        max_over_avg(&self.loads)
    }
}

/// `part / whole`, 0 for nothing of nothing.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    float(part) / float(whole)
}

/// Largest value over the average; 1 (perfect balance) if all are 0 or there are none.
#[must_use]
pub fn max_over_avg(values: &[u64]) -> f64 {
    let sum: u64 = values.iter().sum();
    let max = values.iter().max().copied().unwrap_or(0);
    if sum == 0 {
        return 1.0;
    }
    let count = u64::try_from(values.len()).expect("a length fits 64 bits");
    float(max) * float(count) / float(sum)
}

/// Counts of transfers are far below 2^53; above it the nearest float is near enough for a ratio.
#[expect(
    clippy::cast_precision_loss,
    reason = "a ratio of counts needs 15 digits at most"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_transfer_loads_its_shard_twice() {
        let mut score = Score::new(2);
        score.count(0, 0, 3);
        score.count(0, 1, 1);
        assert_eq!((score.loads(), score.transfers()), (&[7, 1][..], 4));
        assert!((score.cross_shard_ratio() - 0.25).abs() < 1e-12);
        assert!((score.load_max_over_avg() - 7.0 / 4.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_counted_is_balanced_and_local() {
        let score = Score::new(3);
        assert_eq!(
            (score.cross_shard_ratio(), score.load_max_over_avg()),
            (0.0, 1.0)
        );
    }
}
