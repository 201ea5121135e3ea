//! What a cross-shard transfer costs on this cluster, a local one being 1: the load before the moves beside a short one with few
//! such transfers, by the same clients and batches.
//!
//! On busy machines a closed loop's throughput is one over the mean cost of a transfer, which the gate takes for a straight
//! line over their share. It is none: the first few cross-shard transfers of a batch make all of it wait for a second
//! shard. So the line is drawn through the two shares between which the plan decides, that of now and a tenth, which
//! good plans come near:
//!
//! ```text
//! seconds(now) / seconds(low) = (1 + now (c - 1)) / (1 + low (c - 1))
//! ```
//! The short load pays as the other one does, except that communities, whose share nobody can choose, are replaced by evenly paying
//! accounts: what is dear because a few accounts are busy is then taken for the price of the second shard.
//!
//! It is the cost here: with other batches, replicas or machines it is another. Of each load the upper quartile of its seconds
//! counts: disks and hosts stand still for seconds now and then, they never hurry, and that must neither make a plan pay nor
//! forbid it.

use std::time::Duration;

use anyhow::Context;

use crate::drive::{Measured, Mode};
use crate::figures::float;
use crate::output::say;
use crate::recorder::SecondRow;
use crate::run::Bench;
use crate::select::Part;

/// Share of cross-shard transfers of a good plan.
const LOW: f64 = 0.1;
/// The share of now must be this many times higher, or the two say nothing. By the default placement, which may not be that of
/// now, so what the cluster says of it counts.
const TIMES_MIN: f64 = 2.0;
const SECONDS: Duration = Duration::from_secs(10);
/// Other loads of the command count from 0.
const ROUND: u32 = 1 << 16;
/// More than that is no cost but a fault.
const COST_MAX: f64 = 1_000.0;

/// What the loads say.
#[derive(Debug)]
pub struct Measurement {
    /// `None` if they say nothing.
    pub cost: Option<f64>,
    /// The load with few cross-shard transfers.
    pub low: Measured,
}

/// From the load `now` and one that is made here; `None` if this workload cannot tell.
///
/// # Errors
/// The generator cannot start.
pub fn measure(bench: &Bench, now: &Measured) -> anyhow::Result<Option<Measurement>> {
    let share = now.recorder.tally().cross_shard_ratio().unwrap_or(0.0);
    let selection = bench.selection.with_cross(LOW);
    let is_open = matches!(bench.options.mode, Mode::Open { .. });
    let Some(selection) = selection.filter(|_| !is_open && share >= TIMES_MIN * LOW) else {
        return Ok(None);
    };
    let mut job = bench.job("low cross", Part::Whole, ROUND, 0);
    job.selection = selection;
    job.options.seconds = Some(SECONDS);
    let (low, _) = job.run(None).context("measuring the cost of a transfer")?;
    let rates = undisturbed(now).zip(undisturbed(&low));
    let low_share = low.recorder.tally().cross_shard_ratio().unwrap_or(0.0);
    let cost = rates.and_then(|(now, low)| cost_of(low / now, share, low_share));
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
    Ok(Some(Measurement { cost, low }))
}

/// Transfers committed in a second that nothing disturbed; the last second of a load is not whole.
fn undisturbed(load: &Measured) -> Option<f64> {
    let (_, whole) = load.recorder.series().split_last()?;
    let mut committed: Vec<u64> = whole
        .iter()
        .map(|row: &SecondRow| row.tally.committed())
        .collect();
    committed.sort_unstable();
    committed.get(committed.len() * 3 / 4).copied().map(float)
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
