//! The history that a map is made on while time goes by: every epoch's transfers count half of what
//! the next one's do.
//!
//! Partners change, and a history that forgets nothing would hold an account where it was paid from
//! long ago. What has decayed to nothing is forgotten: the memory is that of the pairs of the last
//! few epochs, and an account of which nothing is left is no longer in the graph, so it stays.

use crate::error::PlanError;
use crate::graph::InteractionGraph;
use crate::numbered::Numbered;
use crate::score::float;

/// Epochs after which a transfer counts half.
pub const HALF_LIFE_EPOCHS: u32 = 1;
/// What a transfer of the newest epoch counts, in whole numbers, so that every machine computes the
/// same. A pair that met once is remembered for eight half-lives.
pub const WEIGHT_NEW: u64 = 256;

/// Who transferred with whom how often, older epochs counting less.
#[derive(Debug, Default)]
pub(crate) struct DecayedHistory {
    /// (smaller number, larger number, weight): sorted, distinct, no weight is 0.
    pairs: Vec<(u32, u32, u64)>,
    /// Epochs since the last halving.
    age: u32,
}

impl DecayedHistory {
    /// Ages what is known by an epoch, then adds that epoch's transfers.
    pub fn add(&mut self, epoch: &[(u32, u32)]) {
        self.age += 1;
        if self.age == HALF_LIFE_EPOCHS {
            self.age = 0;
            for pair in &mut self.pairs {
                pair.2 /= 2;
            }
            self.pairs.retain(|pair| pair.2 > 0);
        }
        let new = epoch.iter().filter(|(a, b)| a != b);
        self.pairs
            .extend(new.map(|&(a, b)| (a.min(b), a.max(b), WEIGHT_NEW)));
        self.pairs.sort_unstable_by_key(|&(a, b, _)| (a, b));
        self.pairs.dedup_by(|later, kept| {
            let same = (later.0, later.1) == (kept.0, kept.1);
            if same {
                kept.2 += later.2;
            }
            same
        });
    }

    /// The graph of what is remembered.
    ///
    /// # Errors
    /// As [`InteractionGraph::from_pairs`].
    pub fn graph(&self, numbered: &Numbered) -> Result<InteractionGraph, PlanError> {
        InteractionGraph::from_numbers(numbered.accounts(), self.pairs.iter().copied())
    }

    /// What is remembered, in transfers of the newest epoch.
    pub fn transfers(&self) -> f64 {
        let weight: u64 = self.pairs.iter().map(|pair| pair.2).sum();
        float(weight) / float(WEIGHT_NEW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_life_halves_and_nothing_is_kept_for_ever() {
        let mut history = DecayedHistory::default();
        history.add(&[(2, 1), (1, 2), (3, 4)]);
        assert_eq!(history.pairs, [(1, 2, 2 * WEIGHT_NEW), (3, 4, WEIGHT_NEW)]);
        for _ in 0..HALF_LIFE_EPOCHS {
            history.add(&[(4, 3), (7, 7)]);
        }
        let again = WEIGHT_NEW / 2 + WEIGHT_NEW * u64::from(HALF_LIFE_EPOCHS);
        assert_eq!(history.pairs, [(1, 2, WEIGHT_NEW), (3, 4, again)]);
        let epochs = HALF_LIFE_EPOCHS * (WEIGHT_NEW.ilog2() + 1);
        (0..epochs).for_each(|_| history.add(&[(3, 4)]));
        assert_eq!(history.pairs.len(), 1);
        assert!(history.transfers() < 2.0 * f64::from(HALF_LIFE_EPOCHS) + 0.01);
    }
}
