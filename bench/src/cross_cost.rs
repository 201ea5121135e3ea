//! What a cross-shard transfer costs on this cluster, a local one being 1: two short loads, one without and one with nothing
//! else, by the same clients and batches as the loads that a plan is made for.
//!
//! In a closed loop on busy machines throughput is one over the cost. It is the cost here and now: with other batches,
//! replicas or machines it is another, and so the gate's prediction is.

use std::time::Duration;

use anyhow::Context;

use crate::drive::{Measured, Mode};
use crate::figures::float;
use crate::output::say;
use crate::run::Bench;
use crate::select::{Part, Selection};

/// Measured seconds of each.
const SECONDS: Duration = Duration::from_secs(5);
/// Loads of a command count from 0; these are none of them.
const ROUND: u32 = 1 << 16;

/// The cost; `None` if this workload's accounts cannot take such loads, or the loads say nothing.
///
/// # Errors
/// The generator cannot start.
pub fn measure(bench: &Bench) -> anyhow::Result<Option<f64>> {
    let local = bench.selection.uniform(0.0);
    let Some((local, cross)) = local.zip(bench.selection.uniform(1.0)) else {
        return Ok(None);
    };
    let local = load(bench, "all local", local)?;
    let cross = load(bench, "all cross", cross)?;
    let cost = ratio(&local, &cross);
    if let Some(cost) = cost {
        say(format_args!(
            "a cross-shard transfer costs {cost:.2} local ones here"
        ));
    }
    Ok(cost)
}

fn load(bench: &Bench, name: &'static str, selection: Selection) -> anyhow::Result<Measured> {
    let mut job = bench.job(name, Part::Whole, ROUND, 0);
    job.selection = selection;
    job.options.mode = Mode::Closed;
    job.options.seconds = Some(SECONDS);
    let (measured, _) = job.run(None).context("measuring the cost of a transfer")?;
    Ok(measured)
}

/// Seconds per committed transfer of one load over those of the other, 1 at least.
fn ratio(local: &Measured, cross: &Measured) -> Option<f64> {
    let rate = |measured: &Measured| {
        let committed = measured.recorder.tally().committed();
        (committed > 0 && !measured.interrupted)
            .then(|| float(committed) / float(measured.measured_ns.max(1)))
    };
    Some((rate(local)? / rate(cross)?).max(1.0))
}
