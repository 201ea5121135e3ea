//! Plans on a recorded trace, without a cluster: made on the older part of the transfers, scored on
//! the newer one, against every account at its hash home.
//!
//! Accounts that first appear in the newer part are placed online by first touch, in the order of
//! the transfers, as a cluster would place them when they are created. The map that is scored is the
//! map that the plan holds, so anybody can check the figures with `map.csv` and the trace.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::Placement;

use crate::candidate::{Candidate, LIMITS, Problem, candidate};
use crate::error::PlanError;
use crate::fingerprint::Fingerprint;
use crate::first_touch::FirstTouch;
use crate::gate::{Gain, GateOptions, within};
use crate::graph::{InteractionGraph, WeightedPair};
use crate::outcome::{Measured, Outcome, check_shards};
use crate::plan::{BacktestMethod, Method, Plan};
use crate::refine::load_max;
use crate::score::{Score, float, ratio};
use crate::trace::{Trace, TraceTransfer};
use crate::{hubs, outcome};

/// How a trace is planned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TraceOptions {
    pub shards: u32,
    /// Part of the transfers that the plan is made on, between 0 and 1.
    pub train: f64,
    pub gate: GateOptions,
    /// Load over the average above which a shard takes no new account by first touch; `None` puts
    /// new accounts at their hash home.
    pub first_touch_cap: Option<f64>,
    pub seed: u64,
}

impl TraceOptions {
    /// The defaults of the command line.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        Self {
            shards,
            train: 0.5,
            gate: GateOptions::default(),
            first_touch_cap: Some(1.1),
            seed: 1,
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        check_shards(self.shards)?;
        self.gate.check()?;
        within(
            "train",
            self.train,
            0.01,
            0.99,
            "a number from 0.01 to 0.99",
        )?;
        let cap = self.first_touch_cap.unwrap_or(1.1);
        within(
            "first-touch-cap",
            cap,
            1.0,
            1000.0,
            "a number from 1 to 1000",
        )
    }
}

/// Transfers of the history count in the planning graph by age: the weight doubles this often from
/// the oldest to the newest, because partners change. On the Ethereum trace this takes the ratio at
/// three shards from about 0.19 to 0.17; on steady traffic it costs a few thousandths.
const DOUBLINGS: u64 = 3;
/// Weight of the oldest transfer; above 1 for the sake of whole numbers in between.
const WEIGHT_MIN: u64 = 16;
/// What a transfer of the history counts, against a new one, for the load cap of first touch:
/// above 1, so that a short burst on one shard does not scatter the accounts that it brings.
const HISTORY_LOAD: f64 = 1.5;

/// Makes the plan.
///
/// # Errors
/// An option makes no sense, or METIS fails.
pub fn plan_from_trace(trace: &Trace, options: &TraceOptions) -> Result<Plan, PlanError> {
    options.check()?;
    let history = History::split(trace, options);
    let mut outcome = outcome(trace, options);
    if history.older.is_empty() || history.newer.is_empty() {
        return Ok(
            outcome.nothing("the trace is too short to plan on one part and score on another")
        );
    }
    let graph = history.graph(recency)?;
    let problem = Problem {
        graph: &graph,
        current: history.parts_of(&graph, &history.home),
        idle: vec![0; options.shards as usize],
        moves_max: usize::MAX,
        seed: options.seed,
    };
    let stay = Score::of(&history.newer, &history.home, options.shards);
    outcome.current = Some(stay.clone());
    outcome.hash = stay.cross_shard_ratio();
    let worth = |score: &Score| Gain::between(&stay, score, options.gate.cross_cost).least();
    let mut best: Option<Placed> = None;
    for method in [Method::Metis, Method::WarmStart] {
        if let Some(candidate) = candidate(&problem, method)? {
            let placed = history.backtest(&graph, candidate, options);
            if best
                .as_ref()
                .is_none_or(|b| worth(&placed.score) > worth(&b.score))
            {
                best = Some(placed);
            }
        }
    }
    match best {
        None => Ok(outcome.nothing("there are no more accounts than shards")),
        Some(placed) => history.finish(outcome, &placed, options),
    }
}

fn outcome(trace: &Trace, options: &TraceOptions) -> Outcome {
    let mut digest = Fingerprint::new(1);
    digest.add(options.shards.into());
    digest.add(options.seed);
    digest.add_float(options.train);
    digest.add_float(options.gate.cross_cost);
    digest.add_float(options.gate.min_gain);
    digest.add_float(options.first_touch_cap.unwrap_or(0.0));
    for transfer in trace.transfers() {
        digest.add_account(transfer.debit);
        digest.add_account(transfer.credit);
    }
    Outcome {
        shards: options.shards,
        seed: options.seed,
        input_hash: digest.finish(),
        gate: options.gate,
        backtest_method: BacktestMethod::TimeSplit,
        train: Some(options.train),
        first_touch_cap: options.first_touch_cap,
        hash: 0.0,
        current: None,
    }
}

/// A trace in dense account numbers, cut in two.
struct History {
    /// Every account of the trace, ascending; the position is its number.
    accounts: Vec<AccountId>,
    /// Hash home of each account, 0-based.
    home: Vec<u32>,
    older: Vec<(u32, u32)>,
    newer: Vec<(u32, u32)>,
    shards: u32,
}

/// A candidate with the accounts that came later.
struct Placed {
    method: Method,
    /// Part of each account of the trace, 0-based.
    parts: Vec<u32>,
    score: Score,
}

impl History {
    fn split(trace: &Trace, options: &TraceOptions) -> Self {
        let ends = |t: &TraceTransfer| [t.debit, t.credit];
        let mut accounts: Vec<AccountId> = trace.transfers().iter().flat_map(ends).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let number = |id| {
            let found = accounts.binary_search(&id).expect("collected above");
            u32::try_from(found).expect("a trace of 2^32 accounts does not fit in memory")
        };
        let mut older: Vec<(u32, u32)> = (trace.transfers().iter())
            .map(|t| (number(t.debit), number(t.credit)))
            .collect();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a length"
        )]
        let cut = (float(older.len() as u64) * options.train) as usize;
        let newer = older.split_off(cut);
        let home = |&id| Placement::Hash.home(id, options.shards).0 - 1;
        Self {
            home: accounts.iter().map(home).collect(),
            accounts,
            older,
            newer,
            shards: options.shards,
        }
    }

    /// The graph of the older part; `weight` of transfer i of n.
    fn graph(&self, weight: fn(u64, u64) -> u64) -> Result<InteractionGraph, PlanError> {
        let count = self.older.len() as u64;
        let pairs: Vec<WeightedPair> = (0..)
            .zip(&self.older)
            .map(|(i, &(a, b))| WeightedPair {
                a: self.accounts[a as usize],
                b: self.accounts[b as usize],
                weight: weight(i, count),
            })
            .collect();
        InteractionGraph::from_pairs(&pairs)
    }

    /// The parts of a graph's vertices, from those of all accounts.
    fn parts_of(&self, graph: &InteractionGraph, parts: &[u32]) -> Vec<u32> {
        let number = |id: &AccountId| self.accounts.binary_search(id).expect("all are listed");
        graph
            .accounts()
            .iter()
            .map(|id| parts[number(id)])
            .collect()
    }

    /// Lets the newer transfers happen under a candidate.
    fn backtest(
        &self,
        graph: &InteractionGraph,
        candidate: Candidate,
        options: &TraceOptions,
    ) -> Placed {
        let mut known: Vec<Option<u32>> = vec![None; self.accounts.len()];
        for (id, &part) in graph.accounts().iter().zip(&candidate.parts) {
            known[self.accounts.binary_search(id).expect("all are listed")] = Some(part);
        }
        if let Some(cap) = options.first_touch_cap {
            let mut placer = self.placer(graph, &candidate.parts, cap);
            for &(a, b) in &self.newer {
                let (a, b) = (a as usize, b as usize);
                let placed = placer.touch(known[a], known[b]);
                (known[a], known[b]) = (Some(placed.0), Some(placed.1));
            }
        }
        let parts: Vec<u32> = known
            .iter()
            .zip(&self.home)
            .map(|(k, &home)| k.unwrap_or(home))
            .collect();
        Placed {
            method: candidate.method,
            score: Score::of(&self.newer, &parts, self.shards),
            parts,
        }
    }

    /// First touch that continues from the history, weighted as in the planning graph.
    fn placer(&self, graph: &InteractionGraph, parts: &[u32], cap: f64) -> FirstTouch {
        let mut loads = vec![0; self.shards as usize];
        for (&part, &load) in parts.iter().zip(graph.loads()) {
            loads[part as usize] += load;
        }
        let all = float(2 * graph.total());
        let scale = HISTORY_LOAD * 2.0 * float(self.older.len() as u64) / all;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of touches"
        )]
        let loads = loads
            .iter()
            .map(|&load| (float(load) * scale) as u64)
            .collect();
        let heaviest = graph.loads().iter().max().copied().unwrap_or(0);
        FirstTouch::new(cap, loads, float(heaviest) / all)
    }

    /// Fills in what belongs to the candidate.
    fn finish(
        &self,
        outcome: Outcome,
        placed: &Placed,
        options: &TraceOptions,
    ) -> Result<Plan, PlanError> {
        // Hubs and moves are about transfers as they were, not about their weight by age.
        let graph = self.graph(|_, _| 1)?;
        let planned = self.parts_of(&graph, &placed.parts);
        let hubs = hubs::hubs(&graph, options.shards as usize);
        let load_max = load_max(&graph, options.shards as usize, LIMITS.load);
        let mut accounts = vec![0; options.shards as usize];
        for &part in &placed.parts {
            accounts[part as usize] += 1;
        }
        let measured = Measured {
            method: placed.method,
            in_sample: Score::of(&self.older, &placed.parts, self.shards),
            backtest: placed.score.clone(),
            accounts,
            moves: outcome::moves(&graph, &self.parts_of(&graph, &self.home), &planned),
            hubs: hubs::report(&graph, &hubs, &planned),
            hub_floor: hubs::floor(&graph, &hubs, load_max),
            hubs_striped: Some(self.striped(&graph, &hubs, placed)),
            map: self.map(&graph, placed, options),
        };
        Ok(outcome.plan(measured))
    }

    /// The ratio on the newer part if crediting a hub were local everywhere.
    fn striped(&self, graph: &InteractionGraph, hubs: &[usize], placed: &Placed) -> f64 {
        let mut is_hub = vec![false; self.accounts.len()];
        for &v in hubs {
            let id = graph.accounts()[v];
            is_hub[self.accounts.binary_search(&id).expect("all are listed")] = true;
        }
        let cross = (self.newer.iter())
            .filter(|&&(a, b)| placed.parts[a as usize] != placed.parts[b as usize])
            .filter(|&&(_, credit)| !is_hub[credit as usize])
            .count();
        ratio(cross as u64, self.newer.len() as u64)
    }

    /// Every account that was placed: those with a history, and by first touch the others.
    fn map(
        &self,
        graph: &InteractionGraph,
        placed: &Placed,
        options: &TraceOptions,
    ) -> BTreeMap<AccountId, ShardId> {
        (self.accounts.iter().zip(&placed.parts))
            .filter(|(id, _)| options.first_touch_cap.is_some() || graph.vertex(**id).is_some())
            .map(|(&id, &part)| (id, ShardId(part + 1)))
            .collect()
    }
}

/// Weight of transfer `i` of `count` by age, piecewise linear between the doublings: whole numbers
/// only, so that every machine computes the same.
fn recency(i: u64, count: u64) -> u64 {
    let position = u128::from(i) * u128::from(DOUBLINGS);
    let (doublings, rest) = (position / u128::from(count), position % u128::from(count));
    let base = u128::from(WEIGHT_MIN) << doublings;
    u64::try_from(base + base * rest / u128::from(count)).expect("at most WEIGHT_MIN << DOUBLINGS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weight_grows_with_recency_by_the_stated_doublings() {
        let weights: Vec<u64> = (0..=6).map(|i| recency(i, 6)).collect();
        assert_eq!(weights, [16, 24, 32, 48, 64, 96, 128]);
        assert!((0..1000).map(|i| recency(i, 1000)).is_sorted());
    }
}
