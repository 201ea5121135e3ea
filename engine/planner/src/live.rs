//! Plans for a running cluster, from the pairs that its leaders counted.
//!
//! The plan is made on everything observed; how much to believe it is measured on a second plan,
//! made on the older window only and scored on the newer one.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::{Placement, splitmix64};

use crate::candidate::{Candidate, LIMITS, Problem, candidates};
use crate::error::PlanError;
use crate::fingerprint::Fingerprint;
use crate::gate::{Gain, GateOptions, mean_cost, within};
use crate::graph::{EDGES_MAX, InteractionGraph, WeightedPair};
use crate::outcome::{Measured, Outcome, check_shards};
use crate::plan::{BacktestMethod, Method, Plan};
use crate::refine::load_max;
use crate::score::{Score, float};
use crate::{hubs, outcome};

/// Committed transfers per pair of accounts, as telemetry counted them.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// One window only. The backtest holds out a random quarter of the transfers.
    OneWindow(&'a [WeightedPair]),
    /// Two windows that do not overlap.
    TwoWindows {
        older: &'a [WeightedPair],
        newer: &'a [WeightedPair],
    },
}

/// What the moves must earn back, and by when.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Payback {
    /// Transfers until then.
    pub horizon_transfers: u64,
    /// Cost of moving one account, a local transfer being 1.
    pub move_cost: f64,
}

/// How a running cluster is planned.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct LiveOptions {
    pub gate: GateOptions,
    /// Most accounts to move; `None` is no limit.
    pub moves_max: Option<usize>,
    /// `None` does not ask.
    pub payback: Option<Payback>,
    pub seed: u64,
}

/// Relative throughput by which METIS must beat the warm start: with less it is not worth moving
/// most accounts once more.
const CHALLENGER_MARGIN: f64 = 0.02;

/// Makes the plan. `owners` is the current map of every account: those without transfers stay where
/// they are and count for the balance of accounts.
///
/// # Errors
/// An option makes no sense, an account with transfers has no owner or one that does not exist, the
/// graph is too large, or METIS fails.
pub fn plan_live(
    observed: Observed<'_>,
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
    options: &LiveOptions,
) -> Result<Plan, PlanError> {
    check(options, owners, shards)?;
    let windows = Windows::new(observed, options.seed);
    if windows.all.len() > EDGES_MAX {
        return Err(PlanError::TooLarge(windows.all.len(), EDGES_MAX));
    }
    let cluster = Cluster { owners, shards };
    let mut outcome = outcome(observed, &cluster, options, windows.method);
    if windows.older.is_empty() || windows.newer.is_empty() {
        return Ok(outcome.nothing("too few committed transfers were observed"));
    }
    let stay = cluster.score(&windows.newer, &BTreeMap::new())?;
    let home = |id| Placement::Hash.home(id, shards);
    let hash = windows
        .newer
        .iter()
        .map(|p| (p.a, (home(p.a))))
        .chain(windows.newer.iter().map(|p| (p.b, home(p.b))));
    outcome.hash = cluster
        .score(&windows.newer, &hash.collect())?
        .cross_shard_ratio();
    outcome.current = Some(stay.clone());

    let mut scored = Vec::new();
    let graph = InteractionGraph::from_pairs(&windows.older)?;
    for candidate in candidates(&cluster.problem(&graph, options)?)? {
        let map = cluster.map(&graph, &candidate.parts);
        scored.push((candidate.method, cluster.score(&windows.newer, &map)?));
    }
    let Some((method, backtest)) = choose(scored, &stay, options) else {
        return Ok(outcome.nothing("there are no more accounts with transfers than shards"));
    };
    let graph = InteractionGraph::from_pairs(&windows.all)?;
    let problem = cluster.problem(&graph, options)?;
    let made = candidates(&problem)?
        .into_iter()
        .find(|c| c.method == method);
    let Some(candidate) = made else {
        return Ok(outcome.nothing("there are no more accounts with transfers than shards"));
    };
    let measured = cluster.measure(&graph, &problem, candidate, &windows, backtest)?;
    Ok(repaid(outcome.plan(measured), &stay, options))
}

fn check(
    options: &LiveOptions,
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
) -> Result<(), PlanError> {
    check_shards(shards)?;
    options.gate.check()?;
    if let Some(payback) = options.payback {
        within(
            "move-cost",
            payback.move_cost,
            0.0,
            1e9,
            "a number from 0 to 10^9",
        )?;
    }
    let exists = |shard: ShardId| (1..=shards).contains(&shard.0);
    match owners.iter().find(|&(_, &shard)| !exists(shard)) {
        None => Ok(()),
        Some((&account, &shard)) => Err(PlanError::OwnerOutOfRange {
            account,
            shard,
            shards,
        }),
    }
}

fn outcome(
    observed: Observed<'_>,
    cluster: &Cluster<'_>,
    options: &LiveOptions,
    backtest_method: BacktestMethod,
) -> Outcome {
    let mut digest = Fingerprint::new(2);
    digest.add(cluster.shards.into());
    digest.add(options.seed);
    digest.add_float(options.gate.cross_cost);
    digest.add_float(options.gate.min_gain);
    digest.add(options.moves_max.map_or(u64::MAX, |moves| moves as u64));
    if let Some(payback) = options.payback {
        digest.add(payback.horizon_transfers);
        digest.add_float(payback.move_cost);
    }
    let windows = match observed {
        Observed::OneWindow(pairs) => [pairs, &[]],
        Observed::TwoWindows { older, newer } => [older, newer],
    };
    for window in windows {
        // The same pairs in another order are the same input, as they give the same plan.
        let window = merged(window);
        digest.add(window.len() as u64);
        for pair in window {
            digest.add_account(pair.a);
            digest.add_account(pair.b);
            digest.add(pair.weight);
        }
    }
    for (&account, shard) in cluster.owners {
        digest.add_account(account);
        digest.add(shard.0.into());
    }
    Outcome {
        shards: cluster.shards,
        seed: options.seed,
        input_hash: digest.finish(),
        gate: options.gate,
        backtest_method,
        train: None,
        first_touch_cap: None,
        hash: 0.0,
        current: None,
    }
}

/// The candidate with the highest predicted gain; of nearly equal ones the warm start, which moves
/// less.
fn choose(
    scored: Vec<(Method, Score)>,
    stay: &Score,
    options: &LiveOptions,
) -> Option<(Method, Score)> {
    let worth = |method: Method, score: &Score| {
        let gain = Gain::between(stay, score, options.gate.cross_cost).least();
        let handicap = if method == Method::Metis {
            CHALLENGER_MARGIN
        } else {
            0.0
        };
        (1.0 + gain) / (1.0 + handicap)
    };
    scored
        .into_iter()
        .max_by(|a, b| worth(a.0, &a.1).total_cmp(&worth(b.0, &b.1)))
}

/// Refuses a plan whose moves cost more than they save up to the horizon.
fn repaid(mut plan: Plan, stay: &Score, options: &LiveOptions) -> Plan {
    let Some(payback) = options.payback else {
        return plan;
    };
    let planned = mean_cost_of(plan.cross_shard_ratio.backtest, options.gate.cross_cost);
    let saving =
        (mean_cost(stay, options.gate.cross_cost) - planned) * float(payback.horizon_transfers);
    let price = float(plan.moves.len() as u64) * payback.move_cost;
    if plan.moves.is_empty() || saving >= price {
        return plan;
    }
    plan.reason = format!(
        "{} moves cost as much as {price:.0} local transfers and save {saving:.0} within the horizon of {} transfers; {}",
        plan.moves.len(),
        payback.horizon_transfers,
        plan.reason,
    );
    plan.refused()
}

fn mean_cost_of(ratio: f64, cross_cost: f64) -> f64 {
    (1.0 - ratio) + ratio * cross_cost
}

/// The accounts and where they are.
struct Cluster<'a> {
    owners: &'a BTreeMap<AccountId, ShardId>,
    shards: u32,
}

impl Cluster<'_> {
    /// 0-based part of the owner.
    fn part(&self, account: AccountId) -> Result<u32, PlanError> {
        let owner = self.owners.get(&account);
        owner
            .map(|shard| shard.0 - 1)
            .ok_or(PlanError::NoOwner(account))
    }

    fn problem<'g>(
        &self,
        graph: &'g InteractionGraph,
        options: &LiveOptions,
    ) -> Result<Problem<'g>, PlanError> {
        let mut idle = vec![0; self.shards as usize];
        for shard in self.owners.values() {
            idle[shard.0 as usize - 1] += 1;
        }
        let ids = graph.accounts().iter();
        let current = ids
            .map(|&id| self.part(id))
            .collect::<Result<Vec<u32>, _>>()?;
        for &part in &current {
            idle[part as usize] -= 1;
        }
        Ok(Problem {
            graph,
            current,
            idle,
            moves_max: options.moves_max.unwrap_or(usize::MAX),
            seed: options.seed,
        })
    }

    fn map(&self, graph: &InteractionGraph, parts: &[u32]) -> BTreeMap<AccountId, ShardId> {
        let shards = parts.iter().map(|&part| ShardId(part + 1));
        graph.accounts().iter().copied().zip(shards).collect()
    }

    /// Scores transfers under `map`, and under the current one for accounts that are not in it.
    fn score(
        &self,
        pairs: &[WeightedPair],
        map: &BTreeMap<AccountId, ShardId>,
    ) -> Result<Score, PlanError> {
        let part = |id| {
            map.get(&id)
                .map_or_else(|| self.part(id), |shard| Ok(shard.0 - 1))
        };
        let mut score = Score::new(self.shards);
        for pair in pairs {
            score.count(part(pair.a)?, part(pair.b)?, pair.weight);
        }
        Ok(score)
    }

    fn measure(
        &self,
        graph: &InteractionGraph,
        problem: &Problem<'_>,
        candidate: Candidate,
        windows: &Windows,
        backtest: Score,
    ) -> Result<Measured, PlanError> {
        let hubs = hubs::hubs(graph, self.shards as usize);
        let load_max = load_max(graph, self.shards as usize, LIMITS.load);
        let map = self.map(graph, &candidate.parts);
        let mut accounts = problem.idle.clone();
        for &part in &candidate.parts {
            accounts[part as usize] += 1;
        }
        Ok(Measured {
            method: candidate.method,
            in_sample: self.score(&windows.all, &map)?,
            backtest,
            accounts,
            moves: outcome::moves(graph, &problem.current, &candidate.parts),
            hubs: hubs::report(graph, &hubs, &candidate.parts),
            hub_floor: hubs::floor(graph, &hubs, load_max),
            // Telemetry does not keep who paid and who was paid.
            hubs_striped: None,
            map,
        })
    }
}

/// What the plan is made on, and how it is tested.
struct Windows {
    all: Vec<WeightedPair>,
    older: Vec<WeightedPair>,
    newer: Vec<WeightedPair>,
    method: BacktestMethod,
}

impl Windows {
    fn new(observed: Observed<'_>, seed: u64) -> Self {
        match observed {
            Observed::TwoWindows { older, newer } if !older.is_empty() && !newer.is_empty() => {
                Self {
                    all: merged(&[older, newer].concat()),
                    older: merged(older),
                    newer: merged(newer),
                    method: BacktestMethod::TimeSplit,
                }
            }
            // An empty window tells nothing: what remains is one window.
            Observed::TwoWindows { older, newer } => Self::thinned(&[older, newer].concat(), seed),
            Observed::OneWindow(pairs) => Self::thinned(pairs, seed),
        }
    }

    fn thinned(pairs: &[WeightedPair], seed: u64) -> Self {
        let all = merged(pairs);
        let mut random = splitmix64(seed);
        let (mut older, mut newer) = (Vec::new(), Vec::new());
        for &pair in &all {
            let held_out = a_quarter_of(pair.weight, &mut random);
            let part = |weight| WeightedPair { weight, ..pair };
            older.push(part(pair.weight - held_out));
            newer.push(part(held_out));
        }
        for part in [&mut older, &mut newer] {
            part.retain(|pair| pair.weight > 0);
        }
        Self {
            all,
            older,
            newer,
            method: BacktestMethod::Thinned,
        }
    }
}

/// One row per pair, smaller id first, in order; without loops and zeros.
fn merged(pairs: &[WeightedPair]) -> Vec<WeightedPair> {
    let mut rows: Vec<WeightedPair> = pairs
        .iter()
        .filter(|pair| pair.weight > 0 && pair.a != pair.b)
        .map(|pair| WeightedPair {
            a: pair.a.min(pair.b),
            b: pair.a.max(pair.b),
            weight: pair.weight.min(WEIGHT_MAX),
        })
        .collect();
    rows.sort_unstable_by_key(|pair| (pair.a, pair.b));
    rows.dedup_by(|later, kept| {
        let same = (later.a, later.b) == (kept.a, kept.b);
        if same {
            kept.weight = (kept.weight + later.weight).min(WEIGHT_MAX);
        }
        same
    });
    rows
}

/// No window has that many transfers of one pair (a million a second for four hours); telemetry that
/// says so is wrong. With at most `EDGES_MAX` pairs, sums of loads stay below 2^63.
const WEIGHT_MAX: u64 = 1 << 34;
const _: () = assert!(2 * (EDGES_MAX as u128) * (WEIGHT_MAX as u128) <= 1 << 63);
/// Up to this number each transfer is drawn by itself.
const DRAWN_MAX: u64 = 1 << 16;

/// How many of `count` transfers are held out if each is with probability 1/4. Above [`DRAWN_MAX`]
/// it is exactly a quarter: chance would change it by less than 1 %.
fn a_quarter_of(count: u64, random: &mut u64) -> u64 {
    if count > DRAWN_MAX {
        return count / 4;
    }
    let mut draw = || {
        *random = splitmix64(*random);
        *random
    };
    let mut held_out = 0;
    let mut left = count;
    while left > 0 {
        let width = left.min(64);
        // A bit of the conjunction of two random words is set with probability 1/4.
        let kept = u64::MAX >> (64 - width);
        held_out += u64::from((draw() & draw() & kept).count_ones());
        left -= width;
    }
    held_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_a_quarter_is_held_out_and_never_more_than_there_is() {
        let mut random = 7;
        let held_out: u64 = (0..10_000).map(|_| a_quarter_of(1, &mut random)).sum();
        assert!((2300..2700).contains(&held_out), "{held_out}");
        for count in [1, 63, 64, 65, 1000, DRAWN_MAX, DRAWN_MAX + 1] {
            let held_out = a_quarter_of(count, &mut random);
            assert!(held_out <= count, "{held_out} of {count}");
            assert!(count < 1000 || held_out.abs_diff(count / 4) < count / 16);
        }
    }

    #[test]
    fn pairs_are_merged_whatever_their_order() {
        let pair = |a, b, weight| WeightedPair {
            a: AccountId(a),
            b: AccountId(b),
            weight,
        };
        let rows = merged(&[
            pair(5, 2, 1),
            pair(1, 1, 9),
            pair(2, 5, 2),
            pair(3, 1, 0),
            pair(1, 2, 4),
        ]);
        assert_eq!(rows, [pair(1, 2, 4), pair(2, 5, 3)]);
    }
}
