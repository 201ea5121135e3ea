//! What a cross-shard transfer costs on this cluster, a local one being 1: short loads with the share of such transfers that there is
//! now and with few of them, in turn, by the same clients and batches.
//!
//! On busy machines a closed loop's throughput is one over the mean cost of a transfer, which the gate takes for a straight
//! line over their share. It is none: the first few cross-shard transfers of a batch make all of it wait for a second
//! shard. So the line is drawn through the two shares between which the plan decides, that of now and a tenth, which
//! good plans come near:
//!
//! ```text
//! seconds(now) / seconds(low) = (1 + now (c - 1)) / (1 + low (c - 1))
//! ```
//! It is the cost here: with other batches, replicas or machines it is another.
//!
//! Hosts are slow for a minute and stand still for a second, and one load after another takes that for a cost: it must neither
//! make a plan pay nor forbid it. So each share is measured by many short loads, in pairs whose order changes: what
//! drifts while they run, drifts for both.
//!
//! ```text
//! pair         1    |     2    |     3    | ... |    21
//! load      now low | low now  | now low  | ... | now low
//! ```
//! Of each share the upper quartile of the throughputs counts: disks and hosts stand still now and then, they never hurry.
//!
//! In both, evenly paying accounts stand in for communities, whose share nobody can choose: the two differ in the share alone.
//! With communities on one side, what is dear because a few accounts are busy would be taken for the price of the second
//! shard, and moves change nothing about it.
//!
//! The leaders count these payments, too. They are in no window that a plan is made on: what the first load made them count is read
//! before, and the held-out load begins with a reset.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::drive::{Measured, Mode};
use crate::figures::rounded;
use crate::generator::{Job, run_in_turn};
use crate::output::say;
use crate::recorder::{Tally, quantile};
use crate::run::Bench;
use crate::select::{Part, Selection};

/// Share of cross-shard transfers of a good plan.
const LOW: f64 = 0.1;
/// The share of now must be this many times higher, or the two say nothing. By the default placement, which may not be that of
/// now, so what the cluster says of it counts.
const TIMES_MIN: f64 = 2.0;
/// Loads of each share. Fifteen of them may be disturbed: the upper quartile is of one that was not.
const PAIRS: u32 = 21;
/// Counted time of a load, at least; its warm-up is half as long.
const COUNTED_MIN: Duration = Duration::from_millis(400);
/// The counted time is at least that of so many requests of the load before, as half of them took: where a second is that of
/// three large batches, no client would have one counted.
const COUNTED_REQUESTS: u32 = 4;
/// But all of them together must not take longer than two minutes.
const COUNTED_MAX: Duration = Duration::from_secs(2);
/// Other loads of the command count from 0. These have a round each: other payments every time.
const ROUND: u32 = 1 << 16;
/// More than that is no cost but a fault.
const COST_MAX: f64 = 1_000.0;

/// What the loads say.
#[derive(Debug)]
pub struct Measurement {
    /// `None` if they say nothing.
    pub cost: Option<f64>,
    pub loads: CrossCostLoads,
}

/// The loads of both shares, as the document has them.
#[derive(Clone, Debug, Serialize)]
pub struct CrossCostLoads {
    /// Of each load; its warm-up was half as long.
    pub counted_seconds: f64,
    pub now: ShareLoads,
    pub low: ShareLoads,
}

/// The loads of one share.
#[derive(Clone, Debug, Serialize)]
pub struct ShareLoads {
    /// Of what committed in all of them, by the engine's own bit; `null` if nothing did.
    pub cross_shard_ratio: Option<f64>,
    /// Of each, in the order in which they ran; 0 if no batch was counted.
    pub throughputs_tps: Vec<f64>,
    pub upper_quartile_tps: f64,
}

/// Of which share a load has its transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Now,
    Low,
}

/// By the load `before` and those that are made here; `None` if this workload cannot tell, and if a signal came.
///
/// # Errors
/// The generator cannot start.
pub fn measure(bench: &Bench, before: &Measured) -> anyhow::Result<Option<Measurement>> {
    let share = before.recorder.tally().cross_shard_ratio().unwrap_or(0.0);
    let selections = bench.selection.with_cross(share);
    let selections = selections.zip(bench.selection.with_cross(LOW));
    let is_open = matches!(bench.options.mode, Mode::Open { .. });
    let Some((now, low)) = selections.filter(|_| !is_open && share >= TIMES_MIN * LOW) else {
        return Ok(None);
    };
    let counted = counted_time(before);
    let order: Vec<Side> = (0..PAIRS).flat_map(pair).collect();
    let rounds = ROUND..;
    let jobs = order.iter().zip(rounds).map(|(side, round)| {
        let selection = match side {
            Side::Now => &now,
            Side::Low => &low,
        };
        job(bench, selection, round, counted)
    });
    say(format_args!(
        "measuring what a cross-shard transfer costs: {} loads of {:.1} s in turn, {:.0} % and {:.0} % of them",
        order.len(),
        (counted + counted / 2).as_secs_f64(),
        share * 100.0,
        LOW * 100.0
    ));
    let measured = run_in_turn(jobs.collect()).context("measuring the cost of a transfer")?;
    if bench.stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let of = |wanted| {
        let loads = order.iter().zip(&measured);
        let own = loads.filter(|(side, _)| **side == wanted);
        let own: Vec<&Measured> = own.map(|(_, measured)| measured).collect();
        ShareLoads::of(&own)
    };
    let loads = CrossCostLoads {
        counted_seconds: counted.as_secs_f64(),
        now: of(Side::Now),
        low: of(Side::Low),
    };
    Ok(Some(Measurement {
        cost: told(&loads),
        loads,
    }))
}

impl ShareLoads {
    fn of(loads: &[&Measured]) -> Self {
        let mut tally = Tally::default();
        for load in loads {
            tally.add(load.recorder.tally());
        }
        let tps = loads.iter().map(|load| load.closed_tps.unwrap_or(0.0));
        Self::new(tally.cross_shard_ratio(), tps.map(rounded).collect())
    }

    fn new(cross_shard_ratio: Option<f64>, throughputs_tps: Vec<f64>) -> Self {
        let mut ascending = throughputs_tps.clone();
        ascending.sort_by(f64::total_cmp);
        let upper = ascending.get(ascending.len() * 3 / 4);
        Self {
            cross_shard_ratio,
            upper_quartile_tps: upper.copied().unwrap_or(0.0),
            throughputs_tps,
        }
    }
}

/// What drifts from the first to the last load weighs on both sides alike.
fn pair(pair: u32) -> [Side; 2] {
    match pair.is_multiple_of(2) {
        true => [Side::Now, Side::Low],
        false => [Side::Low, Side::Now],
    }
}

/// Long enough that every client has some batches counted.
fn counted_time(before: &Measured) -> Duration {
    let took = quantile(&before.recorder.all(), 0.5).map_or(Duration::ZERO, Duration::from_nanos);
    (took * COUNTED_REQUESTS).clamp(COUNTED_MIN, COUNTED_MAX)
}

fn job(bench: &Bench, selection: &Selection, round: u32, counted: Duration) -> Job {
    let mut job = bench.job("cost", Part::Whole, round, 0);
    job.selection = selection.clone();
    // The cluster has had its warm-up by the load before; these have only to forget the share of the other.
    job.options.warmup = counted / 2;
    job.options.seconds = Some(counted);
    job
}

/// The cost by the loads, told on stderr.
fn told(loads: &CrossCostLoads) -> Option<f64> {
    let (now, low) = (&loads.now, &loads.low);
    let share = now.cross_shard_ratio.unwrap_or(0.0);
    let low_share = low.cross_shard_ratio.unwrap_or(0.0);
    let ratio = low.upper_quartile_tps / now.upper_quartile_tps;
    let cost = cost_of(ratio, share, low_share);
    match cost {
        Some(cost) => say(format_args!(
            "a cross-shard transfer costs {cost:.2} local ones here, between {:.0} and {:.0} % of them",
            low_share * 100.0,
            share * 100.0
        )),
        None => say(format_args!(
            "warning: what a cross-shard transfer costs here could not be measured"
        )),
    }
    cost
}

/// From how many times longer a transfer takes at one share than at a lower one. Not below 1: nothing makes a second shard free.
fn cost_of(ratio: f64, share: f64, low: f64) -> Option<f64> {
    let cost = 1.0 + (ratio - 1.0) / (share - low * ratio);
    let is_told_apart = share >= TIMES_MIN * low && ratio * low < share;
    (cost.is_finite() && is_told_apart && cost <= COST_MAX).then_some(cost.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gate's own line gives back what it was made of.
    #[test]
    fn the_cost_is_that_of_the_line_through_both_loads() {
        for share in [0.3, 2.0 / 3.0, 0.9] {
            for cost in [1.0, 1.5, 4.0, 30.0] {
                let at = |share| quorate_planner::gate::cost(share, cost);
                let found = cost_of(at(share) / at(LOW), share, LOW).unwrap();
                assert!((found - cost).abs() < 1e-9, "{found} of {cost}");
            }
        }
    }

    /// Loads of which the `n`-th commits `tps(n, side)` transfers a second.
    fn loads(tps: impl Fn(u32, Side) -> f64) -> CrossCostLoads {
        let order: Vec<Side> = (0..PAIRS).flat_map(pair).collect();
        let side = |wanted, share| {
            let own = (0..).zip(&order).filter(|(_, side)| **side == wanted);
            ShareLoads::new(Some(share), own.map(|(n, _)| tps(n, wanted)).collect())
        };
        CrossCostLoads {
            counted_seconds: 0.4,
            now: side(Side::Now, 2.0 / 3.0),
            low: side(Side::Low, LOW),
        }
    }

    fn undisturbed(side: Side) -> f64 {
        match side {
            Side::Now => 1e5 / quorate_planner::gate::cost(2.0 / 3.0, 2.0),
            Side::Low => 1e5 / quorate_planner::gate::cost(LOW, 2.0),
        }
    }

    /// One load beside another that came later said 1.0 where it was 2: the later one had the minute in which the host was slow.
    #[test]
    fn a_host_that_slows_down_or_stands_still_changes_no_cost() {
        let cost = |disturbance: fn(u32) -> f64| {
            told(&loads(|n, side| undisturbed(side) * disturbance(n))).unwrap()
        };
        let drifting = cost(|n| 1.0 - f64::from(n) / 84.0);
        assert!((drifting - 2.0).abs() < 0.05, "{drifting}");
        let in_the_second_half = cost(|n| if n < 21 { 1.0 } else { 0.5 });
        assert!((in_the_second_half - 2.0).abs() < 1e-9);
        // Half of all, of one side and of the other.
        let standing_still = cost(|n| if n / 2 % 2 == 0 { 0.0 } else { 1.0 });
        assert!((standing_still - 2.0).abs() < 1e-9);
        // A quartile is none of loads that were all disturbed.
        assert_eq!(told(&loads(|_, _| 0.0)), None);
    }

    #[test]
    fn both_shares_have_as_many_loads_and_none_always_comes_first() {
        let loads = loads(|n, _| f64::from(n));
        for side in [&loads.now, &loads.low] {
            assert_eq!(side.throughputs_tps.len(), 21);
        }
        assert_eq!(loads.now.throughputs_tps[..4], [0.0, 3.0, 4.0, 7.0]);
        assert_eq!(loads.low.throughputs_tps[..4], [1.0, 2.0, 5.0, 6.0]);
        // The sixteenth of 21.
        assert_eq!(loads.now.upper_quartile_tps, 31.0);
    }

    #[test]
    fn what_says_nothing_is_not_told() {
        let share = 2.0 / 3.0;
        assert_eq!(cost_of(0.5, share, LOW), Some(1.0));
        assert_eq!(cost_of(7.0, share, LOW), None);
        assert_eq!(cost_of(f64::INFINITY, share, LOW), None);
        assert_eq!(cost_of(1.5, share, share / 1.5), None);
        assert_eq!(cost_of(f64::NAN, share, LOW), None);
    }
}
