//! What a cross-shard transfer costs on this cluster, a local one being 1: short loads with two shares of them, by the same
//! clients and batches as the loads that a plan is made for.
//!
//! On busy machines a closed loop's throughput is one over the mean cost of a transfer, which the gate takes for a straight
//! line over the share. It is none: the first few cross-shard transfers of a batch make all of it wait for a second
//! shard. So the line is drawn through the two shares between which plans decide:
//!
//! ```text
//! high = (k - 1) / k     hash placement of k shards
//! low  = 0.1             a good plan
//! seconds(high) / seconds(low) = (1 + high (c - 1)) / (1 + low (c - 1))
//! ```
//! They are measured in turn, low, high, high, low, so that a host that becomes slower makes both slower. It is the cost here and
//! now: with other batches, replicas or machines it is another.

use std::time::Duration;

use anyhow::Context;

use crate::drive::{Measured, Mode};
use crate::figures::float;
use crate::output::say;
use crate::run::Bench;
use crate::select::Part;

/// Share of a good plan.
const LOW: f64 = 0.1;
/// Of each load.
const SECONDS: Duration = Duration::from_secs(3);
const WARMUP: Duration = Duration::from_secs(1);
/// Other loads of the command count from 0.
const ROUND: u32 = 1 << 16;
/// More than that is no cost but a fault.
const COST_MAX: f64 = 1_000.0;

/// The cost; `None` if this workload's accounts cannot take such loads, or the loads say nothing.
///
/// # Errors
/// The generator cannot start.
pub fn measure(bench: &Bench) -> anyhow::Result<Option<f64>> {
    let shards = float(u64::from(bench.config.shards));
    let high = (shards - 1.0) / shards;
    if high <= LOW {
        return Ok(None);
    }
    // Seconds and transfers of each.
    let (mut of_low, mut of_high) = ((0.0, 0.0), (0.0, 0.0));
    for (round, share) in (ROUND..).zip([LOW, high, high, LOW]) {
        let Some(measured) = load(bench, share, round)? else {
            return Ok(None);
        };
        let sum = if share == LOW {
            &mut of_low
        } else {
            &mut of_high
        };
        sum.0 += float(measured.measured_ns);
        sum.1 += float(measured.recorder.tally().committed());
    }
    let cost = cost_of(of_low.0 / of_low.1, of_high.0 / of_high.1, high);
    match cost {
        Some(cost) => say(format_args!(
            "a cross-shard transfer costs {cost:.2} local ones here, between {:.0} and {:.0} % of them",
            LOW * 100.0,
            high * 100.0
        )),
        None => say(format_args!(
            "warning: what a cross-shard transfer costs here could not be measured"
        )),
    }
    Ok(cost)
}

fn load(bench: &Bench, share: f64, round: u32) -> anyhow::Result<Option<Measured>> {
    let Some(selection) = bench.selection.uniform(share) else {
        return Ok(None);
    };
    let name = if share == LOW {
        "low cross"
    } else {
        "high cross"
    };
    let mut job = bench.job(name, Part::Whole, round, 0);
    job.selection = selection;
    job.options.mode = Mode::Closed;
    job.options.warmup = WARMUP;
    job.options.seconds = Some(SECONDS);
    let (measured, _) = job.run(None).context("measuring the cost of a transfer")?;
    Ok((!measured.interrupted).then_some(measured))
}

/// From seconds per transfer at [`LOW`] and at `high`. Not below 1: nothing makes a second shard free.
fn cost_of(at_low: f64, at_high: f64, high: f64) -> Option<f64> {
    let ratio = at_high / at_low;
    let cost = 1.0 + (ratio - 1.0) / (high - LOW * ratio);
    let is_steeper_than_any = ratio >= high / LOW;
    (cost.is_finite() && !is_steeper_than_any && cost <= COST_MAX).then_some(cost.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gate's own line gives back what it was made of.
    #[test]
    fn the_cost_is_that_of_the_line_through_both_loads() {
        let high = 2.0 / 3.0;
        for cost in [1.0, 1.5, 4.0, 30.0] {
            let at = |share| 7e-6 * quorate_planner::gate::cost(share, cost);
            let found = cost_of(at(LOW), at(high), high).unwrap();
            assert!((found - cost).abs() < 1e-9, "{found} of {cost}");
        }
    }

    #[test]
    fn what_says_nothing_is_not_told() {
        let high = 2.0 / 3.0;
        assert_eq!(cost_of(2.0, 1.0, high), Some(1.0));
        assert_eq!(cost_of(1.0, 7.0, high), None);
        assert_eq!(cost_of(1.0, f64::INFINITY, high), None);
        assert_eq!(cost_of(f64::NAN, 1.0, high), None);
    }
}
