//! How the moves of a plan went: the part of `locality`'s document that tells their cost.

use serde::Serialize;

use quorate_client::reshard::driver::Moving;
use quorate_client::reshard::{Applied, MovedBatch};
use quorate_protocol::txn::record::{MoveHead, MoveVersionRow, MovedAccountRow};

use crate::figures::{seconds, us};

/// Bytes of a batch's two records without its accounts: each has a head.
const HEADS_BYTES: u64 = 2 * size_of::<MoveHead>() as u64;
/// Bytes of an account in them: its state in the target's, its version in the source's.
const ACCOUNT_BYTES: u64 = (size_of::<MovedAccountRow>() + size_of::<MoveVersionRow>()) as u64;
/// Powers of ten of microseconds at which buckets begin: more than 64 bits of nanoseconds are.
const DECADES: u32 = 17;

/// How the moves went.
#[derive(Clone, Debug, Serialize)]
pub struct ReshardReport {
    pub planned: u64,
    pub moved: u64,
    pub seconds: f64,
    /// When the moves began and ended, by the wall clock, in nanoseconds since 1970.
    pub began_unix_ns: String,
    pub ended_unix_ns: String,
    /// The same in seconds of the load that went on meanwhile; `null` if that did not come to its end.
    pub from_second: Option<f64>,
    pub to_second: Option<f64>,
    /// Accounts of one source that went to one target at once.
    pub batches: usize,
    /// Computed from the batches, not measured: `PrepareMove` at the target and `CommitMove` at the
    /// source, each once, though every replica logs its own. Without previous owners, resolutions and
    /// what attempts in vain have logged.
    pub bytes: u64,
    /// How long nobody served an account; per account of the batches that the answering leader saw from the beginning.
    pub freeze_us: FreezeUs,
    /// The same as a histogram, without the empty buckets at its ends.
    pub freeze_buckets: Vec<FreezeBucket>,
    pub retries: u64,
    pub already_there: u64,
    pub given_up: usize,
    pub refused: usize,
    pub elsewhere: usize,
}

/// Freeze times in microseconds; `null` if nothing moved.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FreezeUs {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
}

/// Accounts that were frozen for `from_us..to_us` microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FreezeBucket {
    pub from_us: u64,
    pub to_us: u64,
    pub accounts: u64,
}

impl ReshardReport {
    /// The outcome of carrying a plan out beside a load that was measured from `load_from_unix_ns` on.
    #[must_use]
    pub fn of(applied: &Applied, moving: Moving, load_from_unix_ns: Option<u64>) -> Self {
        let freeze = applied.freeze_quantiles_ns();
        let in_load =
            |at_ns: u64| load_from_unix_ns.map(|from| seconds(at_ns.saturating_sub(from)));
        Self {
            planned: applied.planned,
            moved: applied.moved,
            seconds: moving.seconds,
            began_unix_ns: moving.began_unix_ns.to_string(),
            ended_unix_ns: moving.ended_unix_ns.to_string(),
            from_second: in_load(moving.began_unix_ns),
            to_second: in_load(moving.ended_unix_ns),
            batches: applied.batches.len(),
            bytes: applied.batches.iter().map(bytes_of).sum(),
            freeze_us: FreezeUs {
                p50: freeze.map(|(p50, _, _)| us(p50)),
                p99: freeze.map(|(_, p99, _)| us(p99)),
                max: freeze.map(|(_, _, max)| us(max)),
            },
            freeze_buckets: freeze_buckets(&applied.batches),
            retries: applied.retries,
            already_there: applied.already_there,
            given_up: applied.given_up.len(),
            refused: applied.refused.len(),
            elsewhere: applied.elsewhere.len(),
        }
    }
}

fn bytes_of(batch: &MovedBatch) -> u64 {
    HEADS_BYTES + u64::from(batch.accounts) * ACCOUNT_BYTES
}

/// Accounts by freeze time, between 0, 1, 2, 5, 10, 20, .. microseconds.
fn freeze_buckets(batches: &[MovedBatch]) -> Vec<FreezeBucket> {
    let decade = |power| [1, 2, 5].map(|factor| factor * 10_u64.pow(power));
    let edges: Vec<u64> = [0]
        .into_iter()
        .chain((0..DECADES).flat_map(decade))
        .collect();
    let ranges = edges.windows(2).map(|edges| (edges[0], edges[1]));
    let mut buckets: Vec<FreezeBucket> = ranges
        .map(|(from_us, to_us)| FreezeBucket {
            from_us,
            to_us,
            accounts: 0,
        })
        .collect();
    for batch in batches {
        let Some(freeze_ns) = batch.freeze_ns else {
            continue;
        };
        let frozen_us = freeze_ns / 1_000;
        let at = buckets.partition_point(|bucket| bucket.to_us <= frozen_us);
        buckets[at].accounts += u64::from(batch.accounts);
    }
    let used = |bucket: &FreezeBucket| bucket.accounts > 0;
    let first = buckets.iter().position(used);
    let last = buckets.iter().rposition(used);
    match first.zip(last) {
        None => Vec::new(),
        Some((first, last)) => buckets.drain(first..=last).collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;

    pub(crate) fn applied() -> Applied {
        let batch = |accounts, freeze_ns| MovedBatch {
            accounts,
            freeze_ns: Some(freeze_ns),
        };
        Applied {
            planned: 130,
            moved: 129,
            already_there: 1,
            batches: vec![batch(128, 2_000_000), batch(1, 9_000_000)],
            ..Applied::default()
        }
    }

    pub(crate) fn times() -> Moving {
        Moving {
            began_unix_ns: 1_700_000_000_250_000_000,
            ended_unix_ns: 1_700_000_001_750_000_000,
            seconds: 1.5,
        }
    }

    #[test]
    fn the_document_has_the_keys_of_the_contract() {
        let report = ReshardReport::of(&applied(), times(), Some(1_700_000_000_000_000_000));
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!(document["moved"], 129);
        assert_eq!(document["seconds"], 1.5);
        let freeze = &document["freeze_us"];
        assert_eq!(freeze["p50"], 2_000.0);
        assert_eq!(freeze["p99"], 2_000.0);
        assert_eq!(freeze["max"], 9_000.0);
        assert_eq!(document["began_unix_ns"], "1700000000250000000");
        assert_eq!(document["from_second"], 0.25);
        assert_eq!(document["to_second"], 1.75);
        // Two records with a head of 48 bytes each; 160 and 32 bytes for each account.
        assert_eq!(document["bytes"], 2 * 96 + 129 * 192);
    }

    #[test]
    fn a_plan_that_moved_nothing_has_no_freeze_time() {
        let report = ReshardReport::of(&Applied::default(), times(), None);
        let document = serde_json::to_value(&report).unwrap();
        assert_eq!(document["freeze_us"]["p50"], Value::Null);
        assert_eq!(document["freeze_buckets"], serde_json::json!([]));
        assert_eq!(document["from_second"], Value::Null);
        assert_eq!(document["bytes"], 0);
    }

    /// Moves may begin before the generator's thread has started its clock.
    #[test]
    fn moves_that_began_before_the_load_begin_with_it() {
        let load_from = times().began_unix_ns + 1_000_000;
        let report = ReshardReport::of(&applied(), times(), Some(load_from));
        assert_eq!(report.from_second, Some(0.0));
    }

    #[test]
    fn every_account_is_in_the_bucket_of_its_freeze_time() {
        let bucket = |from_us, to_us, accounts| FreezeBucket {
            from_us,
            to_us,
            accounts,
        };
        // An edge belongs to the bucket that it begins.
        let expected = [bucket(2_000, 5_000, 128), bucket(5_000, 10_000, 1)];
        assert_eq!(freeze_buckets(&applied().batches), expected);
        let batches = [0, 999, u64::MAX].map(|freeze_ns| MovedBatch {
            accounts: 3,
            freeze_ns: Some(freeze_ns),
        });
        let buckets = freeze_buckets(&batches);
        assert_eq!(buckets[0], bucket(0, 1, 6));
        let total: u64 = buckets.iter().map(|bucket| bucket.accounts).sum();
        assert_eq!(total, 9);
        assert!(
            buckets
                .windows(2)
                .all(|pair| pair[0].to_us == pair[1].from_us)
        );
    }
}
