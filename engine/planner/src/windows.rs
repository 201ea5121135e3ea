//! What was observed, cut into a part to plan on and a part to score on.

use quorate_protocol::shard::map::splitmix64;

use crate::graph::{EDGES_MAX, WeightedPair};
use crate::plan::BacktestMethod;

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

/// What the plan is made on, and how it is tested.
pub(crate) struct Windows {
    pub all: Vec<WeightedPair>,
    pub older: Vec<WeightedPair>,
    pub newer: Vec<WeightedPair>,
    pub method: BacktestMethod,
}

impl Windows {
    pub fn new(observed: Observed<'_>, seed: u64) -> Self {
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
pub(crate) fn merged(pairs: &[WeightedPair]) -> Vec<WeightedPair> {
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
    use quorate_protocol::ids::AccountId;

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
