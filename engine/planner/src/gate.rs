//! Is a candidate worth carrying out? The gate compares what was measured on transfers that the
//! planner had not seen, never what the planner was optimising.

use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::plan::Decision;
use crate::score::{Score, float};

/// What a plan must gain.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GateOptions {
    /// Cost of a cross-shard transfer, a local one being 1.
    pub cross_cost: f64,
    /// Whether that was measured on the cluster that the plan is for; else it was told or is assumed.
    pub is_cost_measured: bool,
    /// Least relative gain of throughput.
    pub min_gain: f64,
}

impl Default for GateOptions {
    fn default() -> Self {
        Self {
            cross_cost: 4.0,
            is_cost_measured: false,
            min_gain: 0.05,
        }
    }
}

impl GateOptions {
    /// # Errors
    /// A value that makes no sense.
    pub fn check(&self) -> Result<(), PlanError> {
        within(
            "cross-cost",
            self.cross_cost,
            1.0,
            1000.0,
            "a number from 1 to 1000",
        )?;
        within(
            "min-gain",
            self.min_gain,
            0.0,
            1000.0,
            "a number from 0 to 1000",
        )
    }
}

/// Refuses an option outside of a range, not-a-number included.
pub(crate) fn within(
    name: &'static str,
    value: f64,
    least: f64,
    most: f64,
    allowed: &'static str,
) -> Result<(), PlanError> {
    if value >= least && value <= most {
        return Ok(());
    }
    Err(PlanError::Option {
        name,
        value: value.to_string(),
        allowed,
    })
}

/// Predicted throughput over today's, minus 1, with the same machines.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gain {
    /// If all shards share the machines: by the mean cost of a transfer.
    pub mean: f64,
    /// If each shard has machines of its own: by the work of the busiest one. This is where a map
    /// fails that makes transfers local by putting them all on one shard.
    pub busiest: f64,
}

impl Gain {
    /// What `planned` gains over `current`.
    #[must_use]
    pub fn between(current: &Score, planned: &Score, cross_cost: f64) -> Self {
        let over = |cost: fn(&Score, f64) -> f64| {
            cost(current, cross_cost) / cost(planned, cross_cost) - 1.0
        };
        Self {
            mean: over(mean_cost),
            busiest: over(busiest_cost),
        }
    }

    /// The gain that can be counted on in both cases.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.mean.min(self.busiest)
    }
}

fn mean_cost(score: &Score, cross_cost: f64) -> f64 {
    cost(score.cross_shard_ratio(), cross_cost)
}

/// Mean cost of a transfer, a local one being 1.
#[must_use]
pub fn cost(cross_shard_ratio: f64, cross_cost: f64) -> f64 {
    (1.0 - cross_shard_ratio) + cross_shard_ratio * cross_cost
}

/// Work of the busiest shard per transfer, as if all shards were like it; equals the mean cost when
/// all are equally busy. A cross-shard transfer is half the work of each of its shards.
fn busiest_cost(score: &Score, cross_cost: f64) -> f64 {
    let parts = score.loads().iter().zip(score.crossing());
    let work = parts.map(|(&load, &crossing)| {
        float(load - crossing) / 2.0 + float(crossing) * cross_cost / 2.0
    });
    let shards = float(score.loads().len() as u64);
    work.fold(0.0, f64::max) * shards / float(score.transfers().max(1))
}

/// The decision and a sentence with the figures that made it.
#[must_use]
pub fn decide(current: &Score, planned: &Score, options: GateOptions) -> (Decision, String) {
    let gain = Gain::between(current, planned, options.cross_cost);
    let (decision, compared) = if gain.least() < options.min_gain {
        (Decision::Refuse, "below")
    } else if !is_significant(current, planned) {
        (
            Decision::Refuse,
            "too few transfers to tell this from chance, whatever",
        )
    } else {
        (Decision::Apply, "at least")
    };
    let reason = format!(
        "on {} transfers that the planner had not seen, cross-shard ratio {:.3} -> {:.3} and load max/avg \
         {:.3} -> {:.3}; if a cross-shard transfer costs {:.2} local ones ({}) the throughput of a \
         cluster that its cores limit changes by {:+.1} % ({:+.1} % at the busiest shard), {compared} the {:.1} % asked for",
        planned.transfers(),
        current.cross_shard_ratio(),
        planned.cross_shard_ratio(),
        current.load_max_over_avg(),
        planned.load_max_over_avg(),
        options.cross_cost,
        match options.is_cost_measured {
            true => "measured here",
            false => "not measured here",
        },
        gain.mean * 100.0,
        gain.busiest * 100.0,
        options.min_gain * 100.0,
    );
    (decision, reason)
}

/// Whether the ratio falls by more than two standard errors of the difference: on a handful of
/// transfers any map can look good.
fn is_significant(current: &Score, planned: &Score) -> bool {
    let (before, after) = (current.cross_shard_ratio(), planned.cross_shard_ratio());
    let variance = before * (1.0 - before) + after * (1.0 - after);
    before - after > 2.0 * (variance / float(planned.transfers().max(1))).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(counts: &[(u32, u32, u64)]) -> Score {
        let mut score = Score::new(2);
        for &(a, b, weight) in counts {
            score.count(a, b, weight);
        }
        score
    }

    #[test]
    fn balanced_maps_gain_by_their_ratio() {
        let half = score(&[(0, 1, 50), (0, 0, 25), (1, 1, 25)]);
        let local = score(&[(0, 0, 50), (1, 1, 50)]);
        let gain = Gain::between(&half, &local, 4.0);
        assert!((gain.mean - 1.5).abs() < 1e-12 && (gain.busiest - 1.5).abs() < 1e-12);
        assert_eq!(
            decide(&half, &local, GateOptions::default()).0,
            Decision::Apply
        );
        assert_eq!(
            decide(&local, &half, GateOptions::default()).0,
            Decision::Refuse
        );
    }

    #[test]
    fn making_everything_local_on_one_shard_is_refused() {
        let spread = score(&[(0, 1, 30), (0, 0, 35), (1, 1, 35)]);
        let crowded = score(&[(0, 0, 100)]);
        let gain = Gain::between(&spread, &crowded, 4.0);
        assert!(gain.mean > 0.8 && gain.busiest < 0.0, "{gain:?}");
        assert_eq!(
            decide(&spread, &crowded, GateOptions::default()).0,
            Decision::Refuse
        );
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        for (cross_cost, min_gain, name) in [(0.5, 0.1, "cross-cost"), (4.0, f64::NAN, "min-gain")]
        {
            let error = GateOptions {
                cross_cost,
                min_gain,
                ..GateOptions::default()
            }
            .check()
            .unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
