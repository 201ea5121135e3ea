//! Plans for a running cluster, from the pairs that its leaders counted.
//!
//! The plan is made on everything observed; how much to believe it is measured on a second plan,
//! made on the older window only and scored on the newer one. Which method makes both is chosen within the older window: a
//! score that had chosen would be too good.

use std::collections::BTreeMap;

use quorate_protocol::client::{PairRow, WINDOWS};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::Placement;

use crate::candidate::{Candidate, LIMITS, Problem, candidate};
use crate::error::PlanError;
use crate::fingerprint::Fingerprint;
use crate::gate::{Gain, GateOptions, cost, within};
use crate::graph::{EDGES_MAX, InteractionGraph, WeightedPair};
use crate::outcome::{Measured, Outcome, check_shards};
use crate::plan::{BacktestMethod, Method, Plan};
use crate::refine::load_max;
use crate::score::{Score, float};
use crate::windows::{Observed, Windows, merged};
use crate::{hubs, outcome};

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
const NOTHING_TO_DIVIDE: &str = "there are no more accounts with transfers than shards";

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
    let stay = cluster.score(&windows.newer, |id| cluster.part(id))?;
    let by_hash = |id| Ok(Placement::Hash.home(id, shards).0 - 1);
    outcome.hash = cluster.score(&windows.newer, by_hash)?.cross_shard_ratio();
    outcome.current = Some(stay.clone());
    let Some((method, backtest)) = cluster.backtest(&windows, options)? else {
        return Ok(outcome.nothing(NOTHING_TO_DIVIDE));
    };
    let graph = InteractionGraph::from_pairs(&windows.all)?;
    let problem = cluster.problem(&graph, options)?;
    let Some(candidate) = candidate(&problem, method)? else {
        return Ok(outcome.nothing(NOTHING_TO_DIVIDE));
    };
    let measured = cluster.measure(&problem, candidate, &windows, backtest)?;
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
    let of_age = |rows: &[PairRow], age: usize| {
        let pair = |row: &PairRow| WeightedPair {
            a: row.a,
            b: row.b,
            weight: row.counts[age].into(),
        };
        rows.iter().map(pair).collect()
    };
    let windows: Vec<Vec<WeightedPair>> = match observed {
        Observed::OneWindow(pairs) => vec![pairs.to_vec(), Vec::new()],
        Observed::TwoWindows { older, newer } => vec![older.to_vec(), newer.to_vec()],
        Observed::Counted(rows) => (0..WINDOWS).map(|age| of_age(rows, age)).collect(),
    };
    for window in &windows {
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
    let cost = |ratio| cost(ratio, options.gate.cross_cost);
    let per_transfer = cost(stay.cross_shard_ratio()) - cost(plan.cross_shard_ratio.backtest);
    let saving = per_transfer * float(payback.horizon_transfers);
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

    /// The method to use, and its score on the newer window when it knew only the older one.
    fn backtest(
        &self,
        windows: &Windows,
        options: &LiveOptions,
    ) -> Result<Option<(Method, Score)>, PlanError> {
        let method = self.method(&windows.older, options)?;
        let scored = self.scored(&windows.older, &windows.newer, method, options)?;
        Ok(scored.map(|score| (method, score)))
    }

    /// The method that does better on a quarter of these transfers when it knew the others.
    fn method(&self, pairs: &[WeightedPair], options: &LiveOptions) -> Result<Method, PlanError> {
        let split = Windows::new(Observed::OneWindow(pairs), options.seed);
        let mut scored = Vec::new();
        if !split.older.is_empty() && !split.newer.is_empty() {
            for method in [Method::WarmStart, Method::Metis] {
                let score = self.scored(&split.older, &split.newer, method, options)?;
                scored.extend(score.map(|score| (method, score)));
            }
        }
        let stay = self.score(&split.newer, |id| self.part(id))?;
        Ok(choose(scored, &stay, options).map_or(Method::WarmStart, |(method, _)| method))
    }

    /// A map made on `older` pairs, on `newer` ones.
    fn scored(
        &self,
        older: &[WeightedPair],
        newer: &[WeightedPair],
        method: Method,
        options: &LiveOptions,
    ) -> Result<Option<Score>, PlanError> {
        let graph = InteractionGraph::from_pairs(older)?;
        let problem = self.problem(&graph, options)?;
        let Some(candidate) = candidate(&problem, method)? else {
            return Ok(None);
        };
        let part = |id| self.planned(&graph, &candidate.parts, id);
        self.score(newer, part).map(Some)
    }

    /// Part of an account under a map of the graph's vertices; accounts that are not in it stay.
    fn planned(
        &self,
        graph: &InteractionGraph,
        parts: &[u32],
        id: AccountId,
    ) -> Result<u32, PlanError> {
        graph
            .vertex(id)
            .map_or_else(|| self.part(id), |v| Ok(parts[v]))
    }

    fn score(
        &self,
        pairs: &[WeightedPair],
        part: impl Fn(AccountId) -> Result<u32, PlanError>,
    ) -> Result<Score, PlanError> {
        let mut score = Score::new(self.shards);
        for pair in pairs {
            score.count(part(pair.a)?, part(pair.b)?, pair.weight);
        }
        Ok(score)
    }

    fn measure(
        &self,
        problem: &Problem<'_>,
        candidate: Candidate,
        windows: &Windows,
        backtest: Score,
    ) -> Result<Measured, PlanError> {
        let (graph, parts) = (problem.graph, candidate.parts);
        let hubs = hubs::hubs(graph, self.shards as usize);
        let load_max = load_max(graph, self.shards as usize, LIMITS.load);
        let mut accounts = problem.idle.clone();
        for &part in &parts {
            accounts[part as usize] += 1;
        }
        let shards = parts.iter().map(|&part| ShardId(part + 1));
        Ok(Measured {
            method: candidate.method,
            in_sample: self.score(&windows.counted, |id| self.planned(graph, &parts, id))?,
            backtest,
            accounts,
            moves: outcome::moves(graph, &problem.current, &parts),
            hubs: hubs::report(graph, &hubs, &parts),
            hub_floor: hubs::floor(graph, &hubs, load_max),
            // Telemetry does not keep who paid and who was paid.
            hubs_striped: None,
            map: graph.accounts().iter().copied().zip(shards).collect(),
        })
    }
}
