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
use crate::plan::{BacktestMethod, Decision, Method, Plan};
use crate::refine::load_max;
use crate::score::{Score, float};
use crate::windows::{Observed, Windows, a_quarter_held_out, merged};
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

/// Relative throughput by which METIS must beat the warm start where it moves far more accounts: with less it is not worth
/// moving most of them once more.
const CHALLENGER_MARGIN: f64 = 0.02;
/// Times the moves of the warm start, in percent, up to which METIS moves about as many: so it is with a first map.
const CHALLENGER_MOVES_PERCENT: usize = 150;
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
    best_candidate(observed, owners, shards, options).map(Plan::gated)
}

/// The best candidate with the gate's decision, and with its moves whatever that is: for who wants to know how far predictions
/// are off, also where nothing is to be gained.
///
/// # Errors
/// As [`plan_live`].
pub fn best_candidate(
    observed: Observed<'_>,
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
    options: &LiveOptions,
) -> Result<Plan, PlanError> {
    check(options, owners, shards)?;
    let cluster = Cluster { owners, shards };
    let input_hash = input_hash(observed, &cluster, options);
    let mut windows = Windows::new(observed, options.seed);
    if windows.all.len() > EDGES_MAX {
        return Err(PlanError::TooLarge(windows.all.len(), EDGES_MAX));
    }
    let mut outcome = outcome(input_hash, &cluster, options, windows.method);
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
    // With millions of pairs every list of them is felt.
    windows.older = Vec::new();
    windows.newer = Vec::new();
    let graph = InteractionGraph::from_pairs(&windows.all)?;
    let problem = cluster.problem(&graph, options)?;
    let Some(candidate) = candidate(&problem, method)? else {
        return Ok(outcome.nothing(NOTHING_TO_DIVIDE));
    };
    let measured = cluster.measure(&problem, candidate, &windows, backtest)?;
    Ok(repaid(outcome.candidate(measured), &stay, options))
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

fn input_hash(observed: Observed<'_>, cluster: &Cluster<'_>, options: &LiveOptions) -> String {
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
    let of_age = |rows: &[PairRow], age: usize| -> Vec<WeightedPair> {
        let pair = |row: &PairRow| WeightedPair {
            a: row.a,
            b: row.b,
            weight: row.counts[age].into(),
        };
        rows.iter()
            .map(pair)
            .filter(|pair| pair.weight > 0)
            .collect()
    };
    // The same pairs in another order are the same input, as they give the same plan.
    let mut add = |window: &[WeightedPair]| {
        let window = merged(window);
        digest.add(window.len() as u64);
        for pair in window {
            digest.add_account(pair.a);
            digest.add_account(pair.b);
            digest.add(pair.weight);
        }
    };
    match observed {
        Observed::OneWindow(pairs) => {
            add(pairs);
            add(&[]);
        }
        Observed::TwoWindows { older, newer } => {
            add(older);
            add(newer);
        }
        // One age after the other: with millions of pairs, copies of all at once are most of the memory.
        Observed::Counted(rows) => (0..WINDOWS).for_each(|age| add(&of_age(rows, age))),
    }
    for (&account, shard) in cluster.owners {
        digest.add_account(account);
        digest.add(shard.0.into());
    }
    digest.finish()
}

fn outcome(
    input_hash: String,
    cluster: &Cluster<'_>,
    options: &LiveOptions,
    backtest_method: BacktestMethod,
) -> Outcome {
    Outcome {
        shards: cluster.shards,
        seed: options.seed,
        input_hash,
        gate: options.gate,
        backtest_method,
        train: None,
        first_touch_cap: None,
        hash: 0.0,
        current: None,
    }
}

/// How a method did on what it had not seen.
#[derive(Debug)]
struct Tried {
    method: Method,
    score: Score,
    moves: usize,
}

/// The method with the highest predicted gain; of nearly equal ones the warm start, if it moves far less, and of equal ones
/// the one that moves less.
fn choose(tried: &[Tried], stay: &Score, options: &LiveOptions) -> Option<Method> {
    let by_warm_start = tried.iter().find(|it| it.method == Method::WarmStart);
    let few = by_warm_start.map(|it| it.moves * CHALLENGER_MOVES_PERCENT / 100);
    let worth = |it: &Tried| {
        let gain = Gain::between(stay, &it.score, options.gate.cross_cost).least();
        let handicap = match it.method {
            Method::Metis if few.is_some_and(|few| it.moves > few) => CHALLENGER_MARGIN,
            _ => 0.0,
        };
        (1.0 + gain) / (1.0 + handicap)
    };
    let order = |a: &Tried, b: &Tried| {
        let by_moves = || b.moves.cmp(&a.moves);
        worth(a).total_cmp(&worth(b)).then_with(by_moves)
    };
    let best = tried.iter().max_by(|a, b| order(a, b));
    best.map(|it| it.method)
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
    if plan.decision == Decision::Refuse || saving >= price {
        return plan;
    }
    plan.reason = format!(
        "{} moves cost as much as {price:.0} local transfers and save {saving:.0} within the horizon of {} transfers; {}",
        plan.moves.len(),
        payback.horizon_transfers,
        plan.reason,
    );
    plan.decision = Decision::Refuse;
    plan
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
        let tried = self.tried(&windows.older, &windows.newer, method, options)?;
        Ok(tried.map(|it| (method, it.score)))
    }

    /// The method that does better on a quarter of these transfers when it knew the others.
    fn method(&self, pairs: &[WeightedPair], options: &LiveOptions) -> Result<Method, PlanError> {
        let (older, newer) = a_quarter_held_out(pairs, options.seed);
        let mut tried = Vec::new();
        if !older.is_empty() && !newer.is_empty() {
            for method in [Method::WarmStart, Method::Metis] {
                tried.extend(self.tried(&older, &newer, method, options)?);
            }
        }
        let stay = self.score(&newer, |id| self.part(id))?;
        Ok(choose(&tried, &stay, options).unwrap_or(Method::WarmStart))
    }

    /// A map made on `older` pairs, on `newer` ones.
    fn tried(
        &self,
        older: &[WeightedPair],
        newer: &[WeightedPair],
        method: Method,
        options: &LiveOptions,
    ) -> Result<Option<Tried>, PlanError> {
        let graph = InteractionGraph::from_pairs(older)?;
        let problem = self.problem(&graph, options)?;
        let Some(candidate) = candidate(&problem, method)? else {
            return Ok(None);
        };
        let part = |id| self.planned(&graph, &candidate.parts, id);
        let places = problem.current.iter().zip(&candidate.parts);
        Ok(Some(Tried {
            method,
            score: self.score(newer, part)?,
            moves: places.filter(|(now, then)| now != then).count(),
        }))
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
            in_sample: self.score(windows.counted(), |id| self.planned(graph, &parts, id))?,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 1,000 transfers so many cross; both shards have as much load.
    fn tried(method: Method, crossing: u64, moves: usize) -> Tried {
        let mut score = Score::new(2);
        score.count(0, 1, crossing);
        for shard in 0..2 {
            score.count(shard, shard, (1_000 - crossing) / 2);
        }
        Tried {
            method,
            score,
            moves,
        }
    }

    /// A transfer across shards cost 1.37 local ones; a first map with 0.107 across was carried out where one with 0.067 was
    /// there, at 12 % more moves, because that gains less than the margin.
    #[test]
    fn the_better_map_is_made_unless_it_moves_far_more_for_little() {
        let stay = tried(Method::Stay, 666, 0).score;
        let options = LiveOptions {
            gate: GateOptions {
                cross_cost: 1.37,
                ..GateOptions::default()
            },
            ..LiveOptions::default()
        };
        for (crossing, moves, method) in [
            (66, 600, Method::Metis),
            (66, 804, Method::Metis),
            // A whole map anew for a point and a half of throughput.
            (66, 805, Method::WarmStart),
            // For three points it is.
            (20, 805, Method::Metis),
            (110, 600, Method::WarmStart),
            (108, 600, Method::WarmStart),
            (108, 536, Method::Metis),
            (108, 535, Method::Metis),
        ] {
            let both = [
                tried(Method::WarmStart, 108, 536),
                tried(Method::Metis, crossing, moves),
            ];
            assert_eq!(
                choose(&both, &stay, &options),
                Some(method),
                "{crossing} {moves}"
            );
        }
    }
}
