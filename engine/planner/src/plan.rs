//! The plan document: what to move where, what it should gain, and how that was measured.
//!
//! Its JSON is stable, readable and diffable: the same input gives the same bytes. Sums of transfers
//! are counts, account ids are decimal strings, ratios are rounded to six digits.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::course::Course;
use crate::gate::Gain;

/// Whether the plan should be carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Apply,
    Refuse,
}

/// How the candidate was made that the figures belong to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// METIS from scratch, relabelled to the current shards, then made to keep the limits.
    Metis,
    /// Greedy gain per move from the current map.
    WarmStart,
    /// Nothing moves: no other candidate could be made.
    Stay,
}

/// On which transfers `backtest` and `current` were measured. None of them was seen by the planner
/// when it made the map that is scored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BacktestMethod {
    /// Planned on the older part of the history, scored on the newer one.
    TimeSplit,
    /// Only one window was observed: each transfer was held out of the plan with probability 1/4
    /// (by thinning the weight of each pair) and the held-out ones were scored. This shows
    /// overfitting but, unlike a split in time, not drift.
    Thinned,
    /// Nothing was left to score on.
    None,
}

/// Cross-shard ratios. All but `in_sample` are measured on the transfers of the backtest.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CrossShardRatio {
    /// Every account on its hash shard.
    pub hash: f64,
    /// Every account where it is now.
    pub current: f64,
    /// The planned map on the transfers that made it: too good to be true, for comparison only.
    pub in_sample: f64,
    /// The prediction.
    pub backtest: f64,
}

/// Load of the busiest shard over the average, on the transfers of the backtest.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct LoadBalance {
    pub current: f64,
    pub planned: f64,
    /// The planned map on the transfers that made it: what the limit was enforced on.
    pub planned_in_sample: f64,
}

/// What the gate compared.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gate {
    /// Cost of a cross-shard transfer, a local one being 1.
    pub cross_cost: f64,
    /// Whether that was measured on the cluster that the plan is for; else it was told or is assumed.
    #[serde(default)]
    pub is_cost_measured: bool,
    /// Least gain that is worth a plan.
    pub min_gain: f64,
    /// What the backtest promises.
    pub predicted_gain: Gain,
}

/// An account too busy to be cut.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hub {
    #[serde(with = "decimal")]
    pub account: AccountId,
    /// Planned shard.
    #[serde(with = "shard_number")]
    pub shard: ShardId,
    /// Transfers of the history that touch it.
    pub transfers: u64,
    /// Share of all load, every transfer being a load of two.
    pub load_share: f64,
}

/// One account's change of shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Move {
    #[serde(with = "decimal")]
    pub account: AccountId,
    #[serde(with = "shard_number")]
    pub source: ShardId,
    #[serde(with = "shard_number")]
    pub target: ShardId,
}

/// The plan. A refused one moves and places nothing; its figures are those of the best candidate.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub decision: Decision,
    /// One sentence for people, with the figures that decided.
    pub reason: String,
    pub shards: u32,
    pub seed: u64,
    /// Over everything that the plan depends on: transfers, current map, options.
    pub input_hash: String,
    pub method: Method,
    pub backtest_method: BacktestMethod,
    /// Transfers that made the map, and transfers that it was scored on.
    pub transfers_planned_on: u64,
    pub transfers_scored_on: u64,
    /// Part of the history that the plan was made on (traces only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<f64>,
    /// Cap of first-touch placement, if new accounts were placed by it (traces only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_touch_cap: Option<f64>,
    pub gate: Gate,
    pub cross_shard_ratio: CrossShardRatio,
    pub load_max_over_avg: LoadBalance,
    /// Accounts of the fullest shard over the average, in the planned map.
    pub accounts_max_over_avg: f64,
    /// Accounts above 1/(4 * shards) of the load, busiest first.
    pub hubs: Vec<Hub>,
    /// No map that keeps the load limit has a lower ratio than this on the history, because of the
    /// hubs alone.
    pub hub_floor: f64,
    /// The backtest ratio if every shard could credit every hub locally (advice; traces only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hubs_striped: Option<f64>,
    /// What the map lived through on its way (traces in epochs only). Then `moves` lead to the map
    /// after the last update, which was made on all transfers, `in_sample` is that map on all of
    /// them, and `backtest` is the last epoch under the map before that update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub course: Option<Course>,
    /// Accounts to move, hottest first.
    pub moves: Vec<Move>,
    /// Every account that the plan places, for `map.csv`. Not part of the document.
    #[serde(skip)]
    pub map: BTreeMap<AccountId, ShardId>,
}

impl Plan {
    /// What the gate allows of it.
    #[must_use]
    pub(crate) fn gated(self) -> Self {
        match self.decision {
            Decision::Apply => self,
            Decision::Refuse => self.refused(),
        }
    }

    /// The same figures, but nothing moves.
    #[must_use]
    pub(crate) fn refused(mut self) -> Self {
        self.decision = Decision::Refuse;
        self.moves = Vec::new();
        self.map = BTreeMap::new();
        self
    }

    /// The document, with a newline at its end.
    ///
    /// # Panics
    /// Never: the type has no map with other keys than strings and no failing serialiser.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        text
    }

    /// Reads a document, for `reshard apply`. The `map` is empty.
    ///
    /// # Errors
    /// The text is not a plan, or moves an account from or to a shard that does not exist.
    pub fn from_json(text: &str) -> Result<Self, PlanFileError> {
        let plan: Self = serde_json::from_str(text)?;
        let exists = |shard: ShardId| (1..=plan.shards).contains(&shard.0);
        match plan
            .moves
            .iter()
            .find(|m| !exists(m.source) || !exists(m.target))
        {
            Some(bad) => Err(PlanFileError::Shard {
                account: bad.account,
                source_shard: bad.source,
                target: bad.target,
                shards: plan.shards,
            }),
            None => Ok(plan),
        }
    }
}

/// Why a plan file is refused.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    #[error("not a plan")]
    Json(#[from] serde_json::Error),
    #[error("account {account} moves from shard {source_shard} to {target}, the plan has {shards}")]
    Shard {
        account: AccountId,
        source_shard: ShardId,
        target: ShardId,
        shards: u32,
    },
}

/// Six digits: more would be noise, and a rounded figure survives printing and reading.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 1e6).round() / 1e6
}

/// 128-bit ids do not fit a JSON number.
mod decimal {
    use super::{AccountId, Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(id: &AccountId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccountId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(AccountId)
            .map_err(serde::de::Error::custom)
    }
}

mod shard_number {
    use super::{Deserialize, Deserializer, Serializer, ShardId};

    pub fn serialize<S: Serializer>(id: &ShardId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(id.0)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ShardId, D::Error> {
        u32::deserialize(deserializer).map(ShardId)
    }
}
