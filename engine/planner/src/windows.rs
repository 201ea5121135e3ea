//! What was observed, cut into a part to plan on and a part to score on.

use quorate_protocol::client::{PairRow, WINDOWS};
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
    /// Rows of the leaders, which count by windows of time. The newest windows with a quarter of all transfers are held out;
    /// of those before them each counts half of the next. If that leaves nothing on one side, it is one window.
    Counted(&'a [PairRow]),
}

/// What the plan is made on, and how it is tested.
pub(crate) struct Windows {
    /// What the plan is made on; older transfers may weigh less.
    pub all: Vec<WeightedPair>,
    /// Of that, what the backtest plans on.
    pub older: Vec<WeightedPair>,
    /// What the backtest scores: transfers.
    pub newer: Vec<WeightedPair>,
    /// All transfers, if they do not all count alike for the plan.
    counted: Option<Vec<WeightedPair>>,
    pub method: BacktestMethod,
}

impl Windows {
    /// All transfers.
    pub fn counted(&self) -> &[WeightedPair] {
        self.counted.as_ref().unwrap_or(&self.all)
    }

    pub fn new(observed: Observed<'_>, seed: u64) -> Self {
        match observed {
            Observed::TwoWindows { older, newer } if !older.is_empty() && !newer.is_empty() => {
                let all = merged(&[older, newer].concat());
                Self {
                    counted: None,
                    all,
                    older: merged(older),
                    newer: merged(newer),
                    method: BacktestMethod::TimeSplit,
                }
            }
            Observed::Counted(rows) => Self::by_time(rows, seed),
            // An empty window tells nothing: what remains is one window.
            Observed::TwoWindows { older, newer } => Self::thinned(&[older, newer].concat(), seed),
            Observed::OneWindow(pairs) => Self::thinned(pairs, seed),
        }
    }

    fn by_time(rows: &[PairRow], seed: u64) -> Self {
        let newest = newest_windows(rows);
        let weighted = |weight: fn(usize, u64) -> u64, windows: core::ops::Range<usize>| {
            let pairs = rows.iter().map(|row| {
                let weights = windows
                    .clone()
                    .map(|age| weight(age, row.counts[age].into()));
                WeightedPair {
                    a: row.a,
                    b: row.b,
                    weight: weights.sum(),
                }
            });
            merged(&pairs.collect::<Vec<_>>())
        };
        let transfers = |_, count| count;
        let (newer, before) = (0..newest, newest..WINDOWS);
        let windows = Self {
            all: weighted(faded, 0..WINDOWS),
            older: weighted(faded, before),
            newer: weighted(transfers, newer),
            counted: Some(weighted(transfers, 0..WINDOWS)),
            method: BacktestMethod::TimeSplit,
        };
        match windows.older.is_empty() || windows.newer.is_empty() {
            false => windows,
            true => Self::thinned(windows.counted(), seed),
        }
    }

    fn thinned(pairs: &[WeightedPair], seed: u64) -> Self {
        let all = merged(pairs);
        let (older, newer) = a_quarter_held_out(&all, seed);
        Self {
            counted: None,
            all,
            older,
            newer,
            method: BacktestMethod::Thinned,
        }
    }
}

/// Three quarters of the transfers of merged pairs, and the others: each is held out with probability 1/4.
pub(crate) fn a_quarter_held_out(
    pairs: &[WeightedPair],
    seed: u64,
) -> (Vec<WeightedPair>, Vec<WeightedPair>) {
    let mut random = splitmix64(seed);
    let (mut older, mut newer) = (Vec::new(), Vec::new());
    for &pair in pairs {
        let held_out = a_quarter_of(pair.weight, &mut random);
        for (part, weight) in [(&mut older, pair.weight - held_out), (&mut newer, held_out)] {
            if weight > 0 {
                part.push(WeightedPair { weight, ..pair });
            }
        }
    }
    (older, newer)
}

/// How many of the newest windows hold a quarter of all transfers.
fn newest_windows(rows: &[PairRow]) -> usize {
    let of = |age: usize| {
        rows.iter()
            .map(|row| u64::from(row.counts[age]))
            .sum::<u64>()
    };
    let total: u64 = (0..WINDOWS).map(of).sum();
    let mut held_out = 0;
    let enough = (0..WINDOWS).find(|&age| {
        held_out += of(age);
        held_out * HELD_OUT_PART >= total
    });
    enough.map_or(WINDOWS, |age| age + 1)
}

/// The backtest scores one part of so many.
const HELD_OUT_PART: u64 = 4;

/// Transfers of a window as they count for a plan: half for each window that has passed since. What is older than all
/// windows was halved where it was counted.
fn faded(age: usize, count: u64) -> u64 {
    (count << (WINDOWS - 1)) >> age
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

    fn row(a: u128, counts: [u32; WINDOWS]) -> PairRow {
        PairRow {
            a: AccountId(a),
            b: AccountId(a + 1),
            counts,
            reserved: 0,
        }
    }

    #[test]
    fn the_newest_quarter_judges_and_what_is_older_fades() {
        let rows = [row(1, [10, 40, 0, 0, 0, 8]), row(5, [0, 20, 80, 0, 0, 0])];
        let windows = Windows::new(Observed::Counted(&rows), 1);
        let weights =
            |pairs: &[WeightedPair]| -> Vec<u64> { pairs.iter().map(|pair| pair.weight).collect() };
        // 10 of 158 are too few; with the window before it is 70.
        assert_eq!(weights(&windows.newer), [50, 20]);
        assert_eq!(weights(&windows.older), [8, 80 * 32 / 4]);
        assert_eq!(
            weights(&windows.all),
            [10 * 32 + 40 * 16 + 8, 20 * 16 + 80 * 8]
        );
        assert_eq!(weights(windows.counted()), [58, 100]);
        assert_eq!(windows.method, BacktestMethod::TimeSplit);
        // One window only: chance decides.
        let young = [row(1, [1_000, 0, 0, 0, 0, 0])];
        let windows = Windows::new(Observed::Counted(&young), 1);
        assert_eq!(windows.method, BacktestMethod::Thinned);
        assert_eq!(weights(windows.counted()), [1_000]);
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
