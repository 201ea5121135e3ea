//! When have the moves earned back what they cost? Only from what was measured, or not at all.
//!
//! The cost is time: what was committed while accounts moved would have taken less of it at the
//! throughput before the moves. The gain is time as well: what a transfer takes less behind them.
//!
//! ```text
//! lost  = seconds(during) - committed(during) / throughput(before)
//! saved = 1 / throughput(before) - 1 / throughput(after)          per transfer
//! transfers = lost / saved
//! ```
//! So this is about throughput alone: not the plan's own computing, not latency. Planning uses an
//! cost of cross-shard transfers that was measured before them, or assumed; nothing here is assumed.

use serde::Serialize;

use crate::figures::{float, grouped};
use crate::locality_report::StageReport;
use crate::report::{RunReport, SeriesRow};

/// Whole seconds that a load must have, or its throughput is chance.
const SECONDS_MIN: usize = 5;
/// Seconds of moving below which a stall of the host that has nothing to do with it weighs too much.
const MOVING_SECONDS_MIN: f64 = 1.0;
/// Standard errors by which the throughput must have risen.
const ERRORS_MIN: f64 = 2.0;

/// Transfers until the moves are repaid, or why that is not said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Payback {
    Measured {
        /// Transfers behind the moves; 0 if they cost no throughput.
        transfers: u64,
        /// Below zero: what was committed while accounts moved took less time than before.
        lost_seconds: f64,
        saved_us_per_transfer: f64,
    },
    Unknown {
        /// One sentence.
        not_known: String,
    },
}

/// A load's seconds, as the document has them.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    pub seconds: f64,
    pub committed: u64,
    pub series: &'a [SeriesRow],
}

impl<'a> From<&'a RunReport> for Load<'a> {
    fn from(report: &'a RunReport) -> Self {
        Self {
            seconds: report.seconds,
            committed: report.committed,
            series: &report.series,
        }
    }
}

impl<'a> From<&'a StageReport> for Load<'a> {
    fn from(report: &'a StageReport) -> Self {
        Self {
            seconds: report.seconds,
            committed: report.committed,
            series: &report.series,
        }
    }
}

/// Mean throughput and the standard error of it, by the counts of whole seconds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    mean: f64,
    error: f64,
}

impl Payback {
    /// From the loads before, beside and behind the moves, all in a closed loop and alike in what they
    /// pay.
    #[must_use]
    pub fn of(before: Load<'_>, during: Load<'_>, after: Load<'_>) -> Self {
        let (Some(before), Some(after)) = (rate(before), rate(after)) else {
            return Self::unknown(format!(
                "the loads before and after the moves need {SECONDS_MIN} whole seconds each"
            ));
        };
        if during.seconds < MOVING_SECONDS_MIN {
            return Self::unknown(format!(
                "accounts moved for {:.1} s, too short to tell the cost of moving from chance",
                during.seconds
            ));
        }
        let risen = after.mean - before.mean;
        let error = before.error.hypot(after.error);
        if before.mean <= 0.0 || risen <= ERRORS_MIN * error {
            return Self::unknown(format!(
                "throughput went from {:.0} to {:.0} transfers/s, which with a standard error of {error:.0} is no gain",
                before.mean, after.mean
            ));
        }
        let lost = during.seconds - float(during.committed) / before.mean;
        let saved = 1.0 / before.mean - 1.0 / after.mean;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float cast saturates, and it is not negative"
        )]
        let transfers = (lost.max(0.0) / saved).ceil() as u64;
        Self::Measured {
            transfers,
            lost_seconds: (lost * 1e3).round() / 1e3,
            saved_us_per_transfer: (saved * 1e9).round() / 1e3,
        }
    }

    /// It cannot be said.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown {
            not_known: why.into(),
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Measured {
                transfers,
                lost_seconds,
                saved_us_per_transfer,
            } if *lost_seconds > 0.0 => format!(
                "{} transfers: {lost_seconds:.2} s were lost while accounts moved, a transfer takes {saved_us_per_transfer:.2} us less since",
                grouped(*transfers)
            ),
            Self::Measured {
                saved_us_per_transfer,
                ..
            } => format!(
                "at once: nothing was lost while accounts moved, a transfer takes {saved_us_per_transfer:.2} us less since"
            ),
            Self::Unknown { not_known } => format!("not known: {not_known}"),
        }
    }
}

/// `None` with too few whole seconds.
fn rate(load: Load<'_>) -> Option<Rate> {
    let whole = |row: &&SeriesRow| float(row.second + 1) <= load.seconds;
    let rows = load.series.iter().filter(whole);
    let counts: Vec<f64> = rows.map(|row| float(row.committed)).collect();
    if counts.len() < SECONDS_MIN {
        return None;
    }
    let n = float(u64::try_from(counts.len()).expect("a vector's length fits"));
    let mean = counts.iter().sum::<f64>() / n;
    let squares: f64 = counts.iter().map(|count| (count - mean).powi(2)).sum();
    Some(Rate {
        mean,
        error: (squares / (n - 1.0) / n).sqrt(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(counts: &[u64]) -> Vec<SeriesRow> {
        let rows = (0..).zip(counts);
        let row = |(second, &committed)| SeriesRow {
            second,
            committed,
            p99_us: None,
            cross_shard_ratio: None,
            rejected: 0,
            unknown: 0,
            dropped: 0,
        };
        rows.map(row).collect()
    }

    fn payback(before: &[u64], (seconds, committed): (f64, u64), after: &[u64]) -> Payback {
        let (before, after) = (series(before), series(after));
        let load = |series| Load {
            seconds: 10.0,
            committed: 0,
            series,
        };
        let during = Load {
            seconds,
            committed,
            series: &[],
        };
        Payback::of(load(&before), during, load(&after))
    }

    /// 2 s at 50,000/s would have been 1 s before: one second lost, and 5 us less per transfer.
    #[test]
    fn what_moving_cost_is_repaid_by_what_a_transfer_takes_less() {
        let payback = payback(&[100_000; 10], (2.0, 100_000), &[200_000; 10]);
        let expected = Payback::Measured {
            transfers: 200_000,
            lost_seconds: 1.0,
            saved_us_per_transfer: 5.0,
        };
        assert_eq!(payback, expected);
        assert!(payback.to_text().starts_with("200,000 transfers: 1.00 s"));
    }

    #[test]
    fn moves_that_cost_no_throughput_are_repaid_at_once() {
        let payback = payback(&[100_000; 10], (2.0, 300_000), &[200_000; 10]);
        let Payback::Measured {
            transfers,
            lost_seconds,
            ..
        } = payback
        else {
            panic!("{payback:?}");
        };
        assert_eq!((transfers, lost_seconds), (0, -1.0));
        assert!(payback.to_text().starts_with("at once: nothing was lost"));
    }

    #[test]
    fn a_gain_that_may_be_chance_is_none() {
        let noisy = [
            80_000, 120_000, 70_000, 130_000, 100_000, 90_000, 110_000, 100_000,
        ];
        let raised = noisy.map(|count| count + 5_000);
        for (before, during, after, why) in [
            (&noisy[..], (2.0, 100_000), &raised[..], "no gain"),
            (&noisy[..], (2.0, 100_000), &noisy[..], "no gain"),
            (&noisy[..4], (2.0, 100_000), &raised[..], "5 whole seconds"),
            (&[0; 10][..], (2.0, 100_000), &[100; 10][..], "no gain"),
            (
                &[100; 10][..],
                (0.4, 20),
                &[200; 10][..],
                "0.4 s, too short",
            ),
        ] {
            let text = payback(before, during, after).to_text();
            assert!(
                text.starts_with("not known") && text.contains(why),
                "{text}"
            );
        }
    }

    /// The drain behind a load is a row of its own, with less than a second of work in it.
    #[test]
    fn seconds_that_a_load_did_not_fill_do_not_count() {
        let mut counts = vec![100; 10];
        counts.push(1);
        let rows = series(&counts);
        let load = Load {
            seconds: 10.004,
            committed: 1_001,
            series: &rows,
        };
        let rate = rate(load).unwrap();
        assert!((rate.mean - 100.0).abs() < 1e-9 && rate.error < 1e-9);
    }

    #[test]
    fn the_document_has_either_the_figure_or_the_reason() {
        let known = payback(&[100_000; 10], (2.0, 100_000), &[200_000; 10]);
        let document = serde_json::to_value(known).unwrap();
        assert_eq!(document["transfers"], 200_000);
        let unknown = serde_json::to_value(Payback::unknown("open loop")).unwrap();
        assert_eq!(unknown, serde_json::json!({"not_known": "open loop"}));
    }
}
