//! What became of a map that followed a trace through its epochs, as the plan document tells it.
//!
//! Two courses begin with one map, made by METIS on the first epoch. One changes it after every
//! later epoch within a budget of moves, the other makes it anew. Every figure of an epoch was
//! measured while the map knew the epochs before it only.

use serde::{Deserialize, Serialize};

use crate::decay::HALF_LIFE_EPOCHS;
use crate::follow::MOVES_MAX_PERCENT;
use crate::plan::rounded;
use crate::score::float;

/// The course of the plan's own map, and what it is to be compared with.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Course {
    /// Most accounts that an update moves, in percent of those known by then.
    pub moves_max_percent: u32,
    /// Epochs after which a transfer counts half for the updates.
    pub half_life_epochs: u32,
    /// Mean ratio of epochs 2 to N with every account on its hash shard.
    pub hash: f64,
    /// The map that is updated within the budget: the plan's.
    #[serde(flatten)]
    pub followed: Compared,
    /// The map that METIS makes anew after every epoch, relabelled to the one before.
    pub from_scratch: Compared,
}

/// One way of updating the map.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// Mean of epochs 2 to N.
    pub cross_shard_ratio: f64,
    /// Accounts moved by the updates after epochs 2 to N. The first map is left out: both courses
    /// place the same accounts with it.
    pub moves: u64,
    /// All N of them, in order.
    pub epochs: Vec<EpochReport>,
}

/// One epoch under the map that was made before it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// From 1 on. The first one happens at the hash homes, because nothing is known before it.
    pub epoch: u32,
    pub transfers: u64,
    /// Accounts known at its end.
    pub accounts: u64,
    pub cross_shard_ratio: f64,
    /// Load of the busiest shard over the average.
    pub load_max_over_avg: f64,
    /// Accounts that the update after it moved; after epoch 1, from their hash homes to the first map.
    pub moves: u64,
}

impl Course {
    /// `hash` are the ratios of epochs 2 to N at the hash homes.
    pub(crate) fn new(
        followed: Vec<EpochReport>,
        from_scratch: Vec<EpochReport>,
        hash: &[f64],
    ) -> Self {
        Self {
            moves_max_percent: MOVES_MAX_PERCENT,
            half_life_epochs: HALF_LIFE_EPOCHS,
            hash: rounded(mean(hash)),
            followed: Compared::new(followed),
            from_scratch: Compared::new(from_scratch),
        }
    }
}

impl Compared {
    fn new(epochs: Vec<EpochReport>) -> Self {
        let later = epochs.get(1..).unwrap_or_default();
        let ratios: Vec<f64> = later.iter().map(|epoch| epoch.cross_shard_ratio).collect();
        Self {
            cross_shard_ratio: rounded(mean(&ratios)),
            moves: later.iter().map(|epoch| epoch.moves).sum(),
            epochs,
        }
    }
}

/// Epochs are equally long, so a mean of ratios is the ratio of all. 0 of none.
fn mean(ratios: &[f64]) -> f64 {
    if ratios.is_empty() {
        return 0.0;
    }
    ratios.iter().sum::<f64>() / float(ratios.len() as u64)
}
