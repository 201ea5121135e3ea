//! From measurements to the plan document; shared by live plans and plans on traces.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId};

use crate::error::PlanError;
use crate::gate::{Gain, GateOptions, decide};
use crate::graph::InteractionGraph;
use crate::plan::{
    BacktestMethod, CrossShardRatio, Decision, Gate, Hub, LoadBalance, Method, Move, Plan, rounded,
};
use crate::score::{Score, max_over_avg};

/// Most shards of a plan. Its accounts times its shards are bounded as well, see [`crate::candidate::LINKS_MAX`].
pub const SHARDS_MAX: u32 = 1024;

/// Refuses a number of shards that no plan can be made for.
pub(crate) fn check_shards(shards: u32) -> Result<(), PlanError> {
    if (1..=SHARDS_MAX).contains(&shards) {
        return Ok(());
    }
    Err(PlanError::Option {
        name: "shards",
        value: shards.to_string(),
        allowed: "a number from 1 to 1024",
    })
}

/// What is known before a candidate was chosen.
pub(crate) struct Outcome {
    pub shards: u32,
    pub seed: u64,
    pub input_hash: String,
    pub gate: GateOptions,
    pub backtest_method: BacktestMethod,
    pub train: Option<f64>,
    pub first_touch_cap: Option<f64>,
    /// Ratio of hash placement on the transfers of the backtest.
    pub hash: f64,
    /// The current map on the transfers of the backtest.
    pub current: Option<Score>,
}

/// What is known of the chosen candidate.
pub(crate) struct Measured {
    pub method: Method,
    pub in_sample: Score,
    pub backtest: Score,
    /// Accounts per part.
    pub accounts: Vec<u64>,
    pub moves: Vec<Move>,
    pub hubs: Vec<Hub>,
    pub hub_floor: f64,
    pub hubs_striped: Option<f64>,
    pub map: BTreeMap<AccountId, ShardId>,
}

impl Outcome {
    /// The plan of a candidate: carried out or refused by the gate.
    pub fn plan(self, measured: Measured) -> Plan {
        self.candidate(measured).gated()
    }

    /// The same with the moves of what the gate refuses.
    pub fn candidate(self, measured: Measured) -> Plan {
        let current = self
            .current
            .clone()
            .unwrap_or_else(|| Score::new(self.shards));
        let (decision, reason) = decide(&current, &measured.backtest, self.gate);
        let gain = Gain::between(&current, &measured.backtest, self.gate.cross_cost);
        Plan {
            decision,
            reason,
            method: measured.method,
            transfers_planned_on: measured.in_sample.transfers(),
            transfers_scored_on: measured.backtest.transfers(),
            gate: self.gate_report(gain),
            cross_shard_ratio: CrossShardRatio {
                hash: rounded(self.hash),
                current: rounded(current.cross_shard_ratio()),
                in_sample: rounded(measured.in_sample.cross_shard_ratio()),
                backtest: rounded(measured.backtest.cross_shard_ratio()),
            },
            load_max_over_avg: LoadBalance {
                current: rounded(current.load_max_over_avg()),
                planned: rounded(measured.backtest.load_max_over_avg()),
                planned_in_sample: rounded(measured.in_sample.load_max_over_avg()),
            },
            accounts_max_over_avg: rounded(max_over_avg(&measured.accounts)),
            hubs: measured.hubs,
            hub_floor: rounded(measured.hub_floor),
            hubs_striped: measured.hubs_striped.map(rounded),
            moves: measured.moves,
            map: measured.map,
            ..self.empty()
        }
    }

    /// The plan that there is none, and why.
    pub fn nothing(self, reason: &str) -> Plan {
        let mut plan = self.empty();
        plan.reason = reason.into();
        if let Some(current) = &self.current {
            let ratio = rounded(current.cross_shard_ratio());
            let load = rounded(current.load_max_over_avg());
            plan.transfers_scored_on = current.transfers();
            plan.cross_shard_ratio = CrossShardRatio {
                hash: rounded(self.hash),
                current: ratio,
                in_sample: ratio,
                backtest: ratio,
            };
            plan.load_max_over_avg = LoadBalance {
                current: load,
                planned: load,
                planned_in_sample: load,
            };
        }
        plan
    }

    fn gate_report(&self, gain: Gain) -> Gate {
        Gate {
            cross_cost: self.gate.cross_cost,
            is_cost_measured: self.gate.is_cost_measured,
            min_gain: self.gate.min_gain,
            predicted_gain: Gain {
                mean: rounded(gain.mean),
                busiest: rounded(gain.busiest),
            },
        }
    }

    /// A refused plan without figures.
    fn empty(&self) -> Plan {
        Plan {
            decision: Decision::Refuse,
            reason: String::new(),
            shards: self.shards,
            seed: self.seed,
            input_hash: self.input_hash.clone(),
            method: Method::Stay,
            backtest_method: self.backtest_method,
            transfers_planned_on: 0,
            transfers_scored_on: 0,
            train: self.train,
            first_touch_cap: self.first_touch_cap,
            gate: self.gate_report(Gain {
                mean: 0.0,
                busiest: 0.0,
            }),
            cross_shard_ratio: CrossShardRatio::default(),
            load_max_over_avg: LoadBalance {
                current: 1.0,
                planned: 1.0,
                planned_in_sample: 1.0,
            },
            accounts_max_over_avg: 1.0,
            hubs: Vec::new(),
            hub_floor: 0.0,
            hubs_striped: None,
            course: None,
            moves: Vec::new(),
            map: BTreeMap::new(),
        }
    }
}

/// What to move to get from `current` to `planned`, hottest accounts first: half of the moves give
/// most of the gain if they are the right half.
pub(crate) fn moves(graph: &InteractionGraph, current: &[u32], planned: &[u32]) -> Vec<Move> {
    let mut moved: Vec<usize> = (0..graph.len())
        .filter(|&v| current[v] != planned[v])
        .collect();
    moved.sort_by_key(|&v| (Reverse(graph.loads()[v]), v));
    let one = |v: usize| Move {
        account: graph.accounts()[v],
        source: ShardId(current[v] + 1),
        target: ShardId(planned[v] + 1),
    };
    moved.into_iter().map(one).collect()
}
