//! What the cluster remembers of a plan that is, or was, carried out. Pure: values and their changes.
//!
//! | from | by | to |
//! | --- | --- | --- |
//! | none, or one that has ended | `apply`, `undo` | preparing: its moves are being written |
//! | preparing | they are all there | running |
//! | running | `pause`, or moves that were given up | paused |
//! | running without a living driver, paused | `resume` | running |
//! | preparing, running, paused | `abort`, or money that is not right | aborted |
//! | running | every account is settled | done |
//!
//! A driver is the tool that sends the moves. It says that it lives by writing the record; whoever writes it
//! in between makes the driver read what has changed, and stop if that is what was asked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Preparing,
    Running,
    Paused,
    Aborted,
    Done,
}

impl Status {
    /// Whether nothing more comes of it.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Aborted | Self::Done)
    }

    /// The name that users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Aborted => "aborted",
            Self::Done => "done",
        }
    }
}

/// A plan as it is carried out. Times are nanoseconds since 1970 on the tool's host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// From 1, one for each plan of this cluster.
    pub number: u64,
    /// It brings back what that one moved.
    pub undoes: Option<u64>,
    pub status: Status,
    /// Why it is paused or aborted, if nobody asked for that.
    pub reason: Option<String>,
    pub created_unix_ns: u64,
    pub ended_unix_ns: Option<u64>,
    /// What the planner said; `None` for an undo.
    pub predicted: Option<Predicted>,
    /// The last windows before it began.
    pub before: Traffic,
    /// Moves of accounts that were at their sources when it began; how many documents hold them, and the number in their names, drawn by whoever wrote them.
    pub moves: u64,
    pub chunks: u32,
    pub chunks_named: u64,
    pub progress: Progress,
    pub driver: Option<Driver>,
    /// When the first window behind the last move began, by shard and its leader's host.
    pub windows_after: Vec<(u32, u64)>,
}

/// What a plan promised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    pub cross_shard_ratio: f64,
    pub load_max_over_avg: f64,
    pub accounts_max_over_avg: f64,
    /// Relative gain of throughput that the gate counted on.
    pub gain: f64,
}

/// Committed transfers of some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub local: u64,
    pub cross: u64,
    pub seconds: f64,
}

impl Traffic {
    /// `None` if there was none.
    #[must_use]
    pub fn cross_shard_ratio(&self) -> Option<f64> {
        let transfers = self.local + self.cross;
        (transfers > 0).then(|| float(self.cross) / float(transfers))
    }

    /// Transfers per second; `None` if that is not known.
    #[must_use]
    pub fn throughput(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| float(self.local + self.cross) / self.seconds)
    }
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// At their targets, of those that were not when it began.
    pub moved: u64,
    /// At their targets before it began; not among its moves.
    pub already_there: u64,
    /// Neither at their source nor at their target, or nowhere, when it began; not among its moves.
    pub elsewhere_before: u64,
    /// Of its moves: at another shard by now.
    pub elsewhere: u64,
    /// Refused by the cluster.
    pub refused: u64,
    /// Still at their source when patience ended.
    pub given_up: u64,
    pub retries: u64,
    /// For which drivers worked on it.
    pub seconds: f64,
    pub freeze: FreezeTimes,
}

impl Progress {
    /// Accounts of which nothing more is expected.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.moved + self.elsewhere + self.refused
    }
}

/// The tool that sends the moves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// Drawn by it.
    pub nonce: u64,
    /// Pause between batches that it has found out.
    pub pause_ms: u64,
    /// The highest 99th percentile of the leaders, before it began and now; 0: there was no load.
    pub p99_before_us: u64,
    pub p99_now_us: u64,
}

/// How long accounts were frozen, in buckets an eighth of a power of two wide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeTimes {
    /// Accounts by bucket; a bucket is named by its end in microseconds.
    accounts: BTreeMap<u64, u64>,
    max_us: u64,
}

impl FreezeTimes {
    /// So many accounts were frozen for so long.
    pub fn add(&mut self, accounts: u64, ns: u64) {
        let us = ns.div_ceil(1_000);
        self.max_us = self.max_us.max(us);
        *self.accounts.entry(bucket_end(us)).or_default() += accounts;
    }

    /// Accounts that were frozen.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.accounts.values().sum()
    }

    /// In microseconds, an eighth too high at most: (p50, p99, maximum); `None` if nothing was frozen.
    #[must_use]
    pub fn quantiles_us(&self) -> Option<(u64, u64, u64)> {
        let total = self.accounts();
        let at = |per_mille: u64| {
            let rank = (total * per_mille).div_ceil(1_000).max(1);
            let mut seen = 0;
            let found = self.accounts.iter().find(|&(_, &accounts)| {
                seen += accounts;
                seen >= rank
            });
            found.map(|(&end, _)| end.min(self.max_us))
        };
        Some((at(500)?, at(990)?, self.max_us))
    }
}

/// The end of the bucket that a time is in.
fn bucket_end(us: u64) -> u64 {
    let step = 1 << us.max(8).ilog2().saturating_sub(3);
    us.next_multiple_of(step).max(step)
}

#[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freeze_times_have_the_quantiles_of_what_was_added() {
        let mut times = FreezeTimes::default();
        assert_eq!(times.quantiles_us(), None);
        for us in 1..=1_000 {
            times.add(1, us * 1_000);
        }
        let (p50, p99, max) = times.quantiles_us().unwrap();
        assert!((500..=563).contains(&p50), "{p50}");
        assert!((990..=1_000).contains(&p99), "{p99}");
        assert_eq!((max, times.accounts()), (1_000, 1_000));
        let text = serde_json::to_string(&times).unwrap();
        assert_eq!(serde_json::from_str::<FreezeTimes>(&text).unwrap(), times);
        assert!(times.accounts.len() < 100);
    }

    #[test]
    fn a_bucket_ends_an_eighth_above_at_most() {
        for us in (0..5_000).chain([1 << 20, (1 << 30) + 1]) {
            let end = bucket_end(us);
            assert!(end >= us && end <= (us + us / 8).max(1), "{us} {end}");
        }
    }
}
