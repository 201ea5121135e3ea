//! What the rows of a set came to: counts, throughput, latencies.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_config::scenario::Step;
use serde_json::{Value, json};

use super::crew::{Reply, Verdict};

/// Counts and times of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Transfers that took effect.
    pub committed: u64,
    /// Transfers that did not, by code.
    pub rejected: BTreeMap<String, u64>,
    /// Transfers without a result.
    pub unknown: u64,
    /// Balance reads, and those of them without an answer.
    pub reads: u64,
    pub reads_unknown: u64,
    /// While rows were under way; without what control rows took.
    pub seconds: f64,
    /// Of all rows; `None` if there were none.
    pub latency: Option<Latency>,
}

/// Exact, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    pub mean: f64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Figures {
    /// Adds up the replies of rows that were under way for `busy` in all.
    #[must_use]
    pub fn of(replies: &[Reply], busy: Duration) -> Self {
        let mut figures = Self {
            seconds: busy.as_secs_f64(),
            latency: Latency::of(replies),
            ..Self::default()
        };
        for reply in replies {
            figures.count(reply);
        }
        figures
    }

    fn count(&mut self, reply: &Reply) {
        let is_read = matches!(reply.row.step, Step::Balance { .. });
        self.reads += u64::from(is_read);
        match &reply.verdict {
            Verdict::Committed(_) => self.committed += 1,
            Verdict::Rejected(code) => *self.rejected.entry(code.clone()).or_default() += 1,
            Verdict::Unknown if is_read => self.reads_unknown += 1,
            Verdict::Unknown => self.unknown += 1,
            Verdict::Balance(_) | Verdict::NotFound => {}
        }
    }

    /// Transfers that took effect per second; `None` if no time passed.
    #[must_use]
    pub fn throughput_tps(&self) -> Option<f64> {
        let committed = u32::try_from(self.committed).unwrap_or(u32::MAX);
        (self.seconds > 0.0).then(|| f64::from(committed) / self.seconds)
    }

    /// The document of the contract.
    #[must_use]
    pub fn document(&self) -> Value {
        let latency = |part: fn(&Latency) -> f64| self.latency.as_ref().map(part);
        json!({
            "committed": self.committed,
            "rejected": self.rejected,
            "unknown": self.unknown,
            "reads": self.reads,
            "reads_unknown": self.reads_unknown,
            "seconds": self.seconds,
            "throughput_tps": self.throughput_tps(),
            "latency_us": {
                "mean": latency(|it| it.mean),
                "p50": latency(|it| it.p50),
                "p99": latency(|it| it.p99),
                "max": latency(|it| it.max),
            },
        })
    }
}

impl Latency {
    fn of(replies: &[Reply]) -> Option<Self> {
        let mut all: Vec<f64> = replies
            .iter()
            .map(|reply| reply.latency.as_secs_f64() * 1e6)
            .collect();
        all.sort_by(f64::total_cmp);
        let count = u32::try_from(all.len()).expect("a file has far fewer rows");
        Some(Self {
            mean: all.iter().sum::<f64>() / f64::from(count),
            p50: percentile(&all, 50)?,
            p99: percentile(&all, 99)?,
            max: *all.last()?,
        })
    }
}

/// The least value that so many percent of all do not exceed. `sorted` ascends.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_config::scenario::Row;
    use quorate_protocol::ids::AccountId;

    fn reply(step: Step, verdict: Verdict, us: u64) -> Reply {
        Reply {
            row: Row { line: 2, step },
            id: None,
            verdict,
            latency: Duration::from_micros(us),
        }
    }

    fn transfer() -> Step {
        Step::Transfer {
            debit: AccountId(1),
            credit: AccountId(2),
            amount: 1,
        }
    }

    #[test]
    fn committed_rejected_and_unknown_are_never_mixed() {
        let read = Step::Balance {
            account: AccountId(1),
        };
        let replies = [
            reply(transfer(), Verdict::Committed("ok"), 100),
            reply(transfer(), Verdict::Committed("ok"), 300),
            reply(
                transfer(),
                Verdict::Rejected("exceeds_credits".to_owned()),
                200,
            ),
            reply(transfer(), Verdict::Unknown, 1_000),
            reply(read, Verdict::Unknown, 1_000),
            reply(read, Verdict::Balance("10".to_owned()), 400),
        ];
        let figures = Figures::of(&replies, Duration::from_secs(2));
        assert_eq!((figures.committed, figures.unknown), (2, 1));
        assert_eq!((figures.reads, figures.reads_unknown), (2, 1));
        assert_eq!(figures.rejected.get("exceeds_credits"), Some(&1));
        assert_eq!(figures.throughput_tps(), Some(1.0));
        let latency = figures.latency.unwrap();
        assert_eq!(
            (latency.p50, latency.p99, latency.max),
            (300.0, 1_000.0, 1_000.0)
        );
        assert_eq!(latency.mean, 500.0);
    }

    #[test]
    fn a_set_of_control_rows_has_no_figures_rather_than_zeros() {
        let document = Figures::of(&[], Duration::ZERO).document();
        assert!(document["throughput_tps"].is_null());
        assert!(document["latency_us"]["p99"].is_null());
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 50), Some(100.0));
        assert_eq!(percentile(&values, 99), Some(198.0));
        assert_eq!(percentile(&values[..1], 50), Some(1.0));
        assert_eq!(percentile(&[], 50), None);
    }
}
