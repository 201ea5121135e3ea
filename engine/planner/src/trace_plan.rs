//! Plans on a recorded trace, without a cluster: made on the older part of the transfers, scored on
//! the newer one, against every account at its hash home.
//!
//! Whether METIS or the warm start makes the map is decided on the older part alone.
//!
//! Accounts that first appear in the newer part are placed online by first touch, in the order of
//! the transfers, as a cluster would place them when they are created. The map that is scored is the
//! map that the plan holds, so anybody can check the figures with `map.csv` and the trace.
//!
//! With more than one epoch the trace is lived through instead, see [`Course`](crate::course::Course).

use crate::candidate::{Problem, candidate};
use crate::error::PlanError;
use crate::fingerprint::Fingerprint;
use crate::first_touch::FirstTouch;
use crate::gate::{Gain, GateOptions, within};
use crate::graph::InteractionGraph;
use crate::measured::Mapped;
use crate::numbered::Numbered;
use crate::outcome::{Outcome, check_shards};
use crate::plan::{BacktestMethod, Method, Plan};
use crate::score::{Score, float};
use crate::trace::Trace;
use crate::{course_plan, epochs};

/// How a trace is planned.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct TraceOptions {
    pub shards: u32,
    /// Part of the transfers that the plan is made on, between 0 and 1. Of no account if there is
    /// more than one epoch.
    pub train: f64,
    /// Stretches of equal numbers of transfers after each of which the map is updated; the plan's is
    /// the one after the last update, its backtest the last epoch under the map before. With 1 the
    /// map is made once, as `train` says.
    pub epochs: u32,
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
            epochs: 1,
            gate: GateOptions::default(),
            first_touch_cap: Some(1.1),
            seed: 1,
        }
    }

    fn check(&self) -> Result<(), PlanError> {
        check_shards(self.shards)?;
        epochs::check(self.epochs)?;
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

/// Makes the plan.
///
/// # Errors
/// An option makes no sense, there are fewer transfers than epochs, or METIS fails.
pub fn plan_from_trace(trace: &Trace, options: &TraceOptions) -> Result<Plan, PlanError> {
    options.check()?;
    let numbered = Numbered::new(trace, options.shards);
    let outcome = outcome(trace, options);
    if options.epochs > 1 {
        return course_plan::plan(&numbered, options, outcome);
    }
    plan_once(&numbered, options, outcome)
}

/// Makes the plan of a trace cut in two. The newer part is scored once, by the plan's own map, and
/// decides nothing before: a method chosen by it would look better than it is.
fn plan_once(
    numbered: &Numbered,
    options: &TraceOptions,
    mut outcome: Outcome,
) -> Result<Plan, PlanError> {
    let (older, newer) = cut(&numbered.transfers, options.train);
    if older.is_empty() || newer.is_empty() {
        return Ok(
            outcome.nothing("the trace is too short to plan on one part and score on another")
        );
    }
    let stay = Score::of(newer, &numbered.home, options.shards);
    outcome.hash = stay.cross_shard_ratio();
    outcome.current = Some(stay);
    let methods = by_merit(numbered, older, options)?;
    let history = History::new(numbered, older, newer)?;
    for method in methods {
        if let Some(placed) = history.place(method, options)? {
            // The report makes a graph of its own; two of them would be most of the memory.
            drop(history);
            let mapped = Mapped {
                method,
                planned_on: older,
                parts: &placed.parts,
                scored_on: newer,
                scored_parts: &placed.parts,
                backtest: placed.score,
                places_all: options.first_touch_cap.is_some(),
            };
            return Ok(outcome.plan(mapped.measured(numbered)?));
        }
    }
    Ok(outcome.nothing("there are no more accounts than shards"))
}

/// The older part of transfers, `train` of them, and the newer one.
fn cut<T>(transfers: &[T], train: f64) -> (&[T], &[T]) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a length"
    )]
    let cut = (float(transfers.len() as u64) * train) as usize;
    transfers.split_at(cut)
}

/// The methods, the better one first: what gains more on the end of the older part when it knew the
/// beginning.
///
/// The older part is cut as the whole was, so that the question is the one that the backtest asks: as
/// much to come for what is known. On the Ethereum trace (3, 8 and 16 shards, `train` from 0.3 to 0.7,
/// three seeds) the choice loses 0.025 of the better method's gain on average; made by the newest
/// quarter of the older part, whatever `train` is, it loses 0.107, and always taking METIS 0.045.
fn by_merit(
    numbered: &Numbered,
    older: &[(u32, u32)],
    options: &TraceOptions,
) -> Result<[Method; 2], PlanError> {
    let (beginning, end) = cut(older, options.train);
    let stay = Score::of(end, &numbered.home, options.shards);
    let history = History::new(numbered, beginning, end)?;
    let worth = |method| {
        let placed = history.place(method, options)?;
        let gain = |placed: Placed| Gain::between(&stay, &placed.score, options.gate.cross_cost);
        Ok::<_, PlanError>(placed.map(|placed| gain(placed).least()))
    };
    Ok(match (worth(Method::Metis)?, worth(Method::WarmStart)?) {
        (Some(metis), Some(warm_start)) if warm_start > metis => [Method::WarmStart, Method::Metis],
        _ => [Method::Metis, Method::WarmStart],
    })
}

fn outcome(trace: &Trace, options: &TraceOptions) -> Outcome {
    let cut_once = options.epochs == 1;
    let mut digest = Fingerprint::new(if cut_once { 1 } else { 3 });
    digest.add(options.shards.into());
    digest.add(options.seed);
    match cut_once {
        true => digest.add_float(options.train),
        false => digest.add(options.epochs.into()),
    }
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
        train: cut_once.then_some(options.train),
        first_touch_cap: options.first_touch_cap,
        hash: 0.0,
        current: None,
    }
}

/// Transfers cut in two, with the graph of the older ones.
struct History<'a> {
    numbered: &'a Numbered,
    older: &'a [(u32, u32)],
    newer: &'a [(u32, u32)],
    graph: InteractionGraph,
}

/// A candidate with the accounts that came later.
struct Placed {
    /// Part of each account of the trace, 0-based.
    parts: Vec<u32>,
    score: Score,
}

impl<'a> History<'a> {
    fn new(
        numbered: &'a Numbered,
        older: &'a [(u32, u32)],
        newer: &'a [(u32, u32)],
    ) -> Result<Self, PlanError> {
        Ok(Self {
            numbered,
            older,
            newer,
            graph: numbered.graph(older, recency)?,
        })
    }

    /// The candidate that a method makes of the older transfers, and how the newer ones do under it.
    /// `None` if it can make none.
    fn place(&self, method: Method, options: &TraceOptions) -> Result<Option<Placed>, PlanError> {
        let problem = Problem {
            graph: &self.graph,
            current: self.numbered.parts_of(&self.graph, &self.numbered.home),
            idle: vec![0; options.shards as usize],
            moves_max: usize::MAX,
            seed: options.seed,
        };
        let candidate = candidate(&problem, method)?;
        Ok(candidate.map(|candidate| self.backtest(&candidate.parts, options)))
    }

    /// Lets the newer transfers happen under a map of the graph.
    fn backtest(&self, parts: &[u32], options: &TraceOptions) -> Placed {
        let mut known: Vec<Option<u32>> = vec![None; self.numbered.accounts().len()];
        for (number, &part) in self.numbered.numbers(&self.graph).zip(parts) {
            known[number] = Some(part);
        }
        if let Some(cap) = options.first_touch_cap {
            let transfers = float(self.older.len() as u64);
            FirstTouch::after(&self.graph, parts, options.shards, transfers, cap)
                .place(self.newer, &mut known);
        }
        let parts = self.numbered.or_home(&known);
        Placed {
            score: Score::of(self.newer, &parts, options.shards),
            parts,
        }
    }
}

/// Weight of transfer `i` of `count` by age, piecewise linear between the doublings: whole numbers
/// only, so that every machine computes the same. A count of transfers in memory is far below 2^56.
fn recency(i: u64, count: u64) -> u64 {
    let position = i * DOUBLINGS;
    let (doublings, rest) = (position / count, position % count);
    let base = WEIGHT_MIN << doublings;
    base + base * rest / count
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
