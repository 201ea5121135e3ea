//! What a run measured: latency histograms by class, counts that are never mixed, one row a second.
//!
//! Latency is that of a request, a part of a batch that goes to one shard, until the last of its
//! transfers is answered. A request with any cross-shard transfer counts as cross. One that was
//! answered by nothing but `unknown` has no class; its time counts in the whole only, so that a
//! timeout cannot improve a percentile. Percentiles come from merged histograms, never from averages.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use quorate_protocol::ledger::{ResultCode, ResultRow};

use crate::hlog::Seconds;

/// Nanoseconds per second.
const SECOND_NS: u64 = 1_000_000_000;
/// Longest latency that is told apart: beyond every deadline.
const LATENCY_NS_MAX: u64 = 300 * SECOND_NS;
/// Name under which a code of a newer server is counted.
const UNRECOGNISED: &str = "unrecognised";

/// What became of the transfers of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub committed_local: u64,
    pub committed_cross: u64,
    pub rejected: BTreeMap<&'static str, u64>,
    pub unknown: u64,
}

impl Tally {
    /// Counts final results.
    pub fn of<'a>(rows: impl IntoIterator<Item = &'a ResultRow>) -> Self {
        let mut tally = Self::default();
        for row in rows {
            match row.result() {
                Some(code) if code.is_success() && row.cross_shard() => tally.committed_cross += 1,
                Some(code) if code.is_success() => tally.committed_local += 1,
                Some(ResultCode::Unknown) => tally.unknown += 1,
                Some(code) => *tally.rejected.entry(code.name()).or_default() += 1,
                None => *tally.rejected.entry(UNRECOGNISED).or_default() += 1,
            }
        }
        tally
    }

    /// Transfers whose money moved.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.committed_local + self.committed_cross
    }

    /// Transfers that were refused, whatever the code.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.committed_local += other.committed_local;
        self.committed_cross += other.committed_cross;
        self.unknown += other.unknown;
        for (&code, count) in &other.rejected {
            *self.rejected.entry(code).or_default() += count;
        }
    }

    /// The share of committed transfers that ran across shards; `None` if nothing committed.
    #[must_use]
    pub fn cross_shard_ratio(&self) -> Option<f64> {
        ratio(self.committed_cross, self.committed())
    }
}

/// Which histogram a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Local,
    Cross,
    /// Nothing is known about it.
    Unknown,
}

impl Class {
    /// The class of a request with these results.
    pub fn of(rows: &[ResultRow]) -> Self {
        if rows.iter().any(ResultRow::cross_shard) {
            Self::Cross
        } else if rows
            .iter()
            .any(|row| row.result() != Some(ResultCode::Unknown))
        {
            Self::Local
        } else {
            Self::Unknown
        }
    }
}

/// One second of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondRow {
    /// Seconds since the start of measuring.
    pub second: u64,
    pub tally: Tally,
    pub dropped: u64,
    /// `None` if no request ended in this second.
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
}

/// Measurements of one run.
#[derive(Clone, Debug)]
pub struct Recorder {
    local: Histogram<u64>,
    cross: Histogram<u64>,
    unknown: Histogram<u64>,
    read: Histogram<u64>,
    looks: Looks,
    tally: Tally,
    dropped: u64,
    series: Vec<SecondRow>,
    open: OpenSecond,
    /// Gets the latencies of every second that ended.
    seconds: Option<Seconds>,
    /// When the last committed transfer was acknowledged.
    last_commit_ns: u64,
}

/// Accounts that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    pub accounts: u64,
    /// Of them: not told by the deadline.
    pub unknown: u64,
}

/// The second that is being filled.
#[derive(Clone, Debug)]
struct OpenSecond {
    second: u64,
    latency: Histogram<u64>,
    tally: Tally,
    dropped: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            local: histogram(),
            cross: histogram(),
            unknown: histogram(),
            read: histogram(),
            looks: Looks::default(),
            tally: Tally::default(),
            dropped: 0,
            series: Vec::new(),
            open: OpenSecond::new(0),
            seconds: None,
            last_commit_ns: 0,
        }
    }
}

impl Recorder {
    /// Puts the latencies of every second that ends there.
    pub fn keep_seconds(&mut self, seconds: Seconds) {
        self.seconds = Some(seconds);
    }

    /// A request ended at `at_ns` since the start of measuring, `latency_ns` after it was meant to
    /// be sent. Times may not go back.
    pub fn request(&mut self, at_ns: u64, latency_ns: u64, rows: &[ResultRow]) {
        self.close_until(at_ns);
        let tally = Tally::of(rows);
        if tally.committed() > 0 {
            self.last_commit_ns = at_ns;
        }
        self.class_mut(Class::of(rows))
            .saturating_record(latency_ns);
        self.open.latency.saturating_record(latency_ns);
        self.open.tally.add(&tally);
        self.tally.add(&tally);
    }

    /// A look at accounts ended. It is in no count of transfers, in no second, and in no latency but its own.
    pub fn look(&mut self, latency_ns: u64, accounts: u64, unknown: u64) {
        self.read.saturating_record(latency_ns);
        self.looks.accounts += accounts;
        self.looks.unknown += unknown;
    }

    /// The latency of requests that look at accounts.
    #[must_use]
    pub fn read(&self) -> &Histogram<u64> {
        &self.read
    }

    /// What was looked at.
    #[must_use]
    pub fn looks(&self) -> Looks {
        self.looks
    }

    /// This many transfers were never sent because the generator or the cluster fell behind.
    pub fn drop_unsent(&mut self, at_ns: u64, transfers: u64) {
        self.close_until(at_ns);
        self.open.dropped += transfers;
        self.dropped += transfers;
    }

    /// Closes every second that ended before `at_ns`; returns how many rows there are of these.
    /// There may be more: an answer closes the seconds before it, and warm-up answers come late.
    pub fn close_until(&mut self, at_ns: u64) -> usize {
        while self.open.second < at_ns / SECOND_NS {
            let next = OpenSecond::new(self.open.second + 1);
            let ended = std::mem::replace(&mut self.open, next);
            self.series.push(ended.row());
            if let Some(seconds) = &self.seconds {
                seconds.push(ended.second, ended.latency);
            }
        }
        let ended = usize::try_from(at_ns / SECOND_NS).expect("64 bits");
        self.series.len().min(ended)
    }

    /// Closes the last second too, if anything happened in it. Nothing comes behind it.
    pub fn finish(&mut self) {
        let quiet = self.open.latency.is_empty() && self.open.dropped == 0;
        if !quiet {
            self.close_until((self.open.second + 1) * SECOND_NS);
        }
        self.seconds = None;
    }

    /// The latency of one class.
    #[must_use]
    pub fn class(&self, class: Class) -> &Histogram<u64> {
        match class {
            Class::Local => &self.local,
            Class::Cross => &self.cross,
            Class::Unknown => &self.unknown,
        }
    }

    /// The latency of all requests.
    #[must_use]
    pub fn all(&self) -> Histogram<u64> {
        let mut all = self.local.clone();
        for part in [&self.cross, &self.unknown] {
            all.add(part).expect("all histograms have the same bounds");
        }
        all
    }

    /// Counts over the run.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Transfers that were never sent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The seconds that ended.
    #[must_use]
    pub fn series(&self) -> &[SecondRow] {
        &self.series
    }

    /// When the last transfer committed, since the start of measuring.
    #[must_use]
    pub fn last_commit_ns(&self) -> u64 {
        self.last_commit_ns
    }

    fn class_mut(&mut self, class: Class) -> &mut Histogram<u64> {
        match class {
            Class::Local => &mut self.local,
            Class::Cross => &mut self.cross,
            Class::Unknown => &mut self.unknown,
        }
    }
}

impl OpenSecond {
    fn new(second: u64) -> Self {
        Self {
            second,
            latency: histogram(),
            tally: Tally::default(),
            dropped: 0,
        }
    }

    fn row(&self) -> SecondRow {
        SecondRow {
            second: self.second,
            p50_ns: quantile(&self.latency, 0.5),
            p99_ns: quantile(&self.latency, 0.99),
            tally: self.tally.clone(),
            dropped: self.dropped,
        }
    }
}

/// A quantile in nanoseconds; `None` of an empty histogram.
#[must_use]
pub fn quantile(histogram: &Histogram<u64>, at: f64) -> Option<u64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(at))
}

/// `part` of `whole`; `None` if there is no whole.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of transfers are far below 2^52"
    )]
    let share = (whole > 0).then(|| part as f64 / whole as f64);
    share
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are constants")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::time::Timestamp;

    fn row(code: ResultCode, cross: bool) -> ResultRow {
        let mut row = ResultRow::logged(code, Timestamp(1));
        row.flags = if cross { ResultRow::CROSS_SHARD } else { 0 };
        row
    }

    const OK: ResultCode = ResultCode::Ok;

    #[test]
    fn committed_rejected_and_unknown_are_counted_apart() {
        let rows = [
            row(OK, false),
            row(ResultCode::Exists, true),
            row(ResultCode::ExceedsCredits, false),
            row(ResultCode::ExceedsCredits, true),
            row(ResultCode::Contended, false),
            row(ResultCode::Unknown, false),
            ResultRow {
                code: 9999,
                ..ResultRow::default()
            },
        ];
        let tally = Tally::of(&rows);
        assert_eq!((tally.committed_local, tally.committed_cross), (1, 1));
        assert_eq!(tally.unknown, 1);
        let expected = [
            ("contended", 1),
            ("exceeds_credits", 2),
            ("unrecognised", 1),
        ];
        assert_eq!(tally.rejected, BTreeMap::from(expected));
        assert_eq!(tally.cross_shard_ratio(), Some(0.5));
    }

    #[test]
    fn one_cross_shard_transfer_makes_a_request_cross() {
        assert_eq!(Class::of(&[row(OK, false), row(OK, true)]), Class::Cross);
        assert_eq!(Class::of(&[row(OK, false)]), Class::Local);
        assert_eq!(
            Class::of(&[row(ResultCode::Unknown, false)]),
            Class::Unknown
        );
    }

    #[test]
    fn a_timeout_counts_in_the_whole_and_in_no_class() {
        let mut recorder = Recorder::default();
        recorder.request(10, 1_000, &[row(OK, false)]);
        recorder.request(20, 5 * SECOND_NS, &[row(ResultCode::Unknown, false)]);
        assert_eq!(recorder.class(Class::Local).len(), 1);
        assert_eq!(recorder.class(Class::Cross).len(), 0);
        let worst = recorder.all().max();
        assert!(worst.abs_diff(5 * SECOND_NS) < SECOND_NS / 100, "{worst}");
    }

    #[test]
    fn percentiles_of_the_whole_are_those_of_all_samples_together() {
        let mut recorder = Recorder::default();
        for _ in 0..990 {
            recorder.request(1, 1_000_000, &[row(OK, false)]);
        }
        for _ in 0..10 {
            recorder.request(1, 100_000_000, &[row(OK, true)]);
        }
        let all = recorder.all();
        assert_eq!(all.len(), 1_000);
        // An average of the classes' percentiles would be about 50 ms at both.
        let p98 = all.value_at_quantile(0.98);
        let p995 = all.value_at_quantile(0.995);
        assert!(p98.abs_diff(1_000_000) < 2_000, "{p98}");
        assert!(p995.abs_diff(100_000_000) < 200_000, "{p995}");
    }

    /// A second of warm-up whose last answer took seven: `warm-up 8 s` was told of `--warmup 1`.
    #[test]
    fn a_late_answer_makes_no_phase_longer() {
        let mut recorder = Recorder::default();
        recorder.request(SECOND_NS / 2, 1_000, &[row(OK, false)]);
        assert_eq!(recorder.close_until(SECOND_NS / 2), 0);
        recorder.request(8 * SECOND_NS + 1, 7 * SECOND_NS, &[row(OK, false)]);
        assert_eq!(recorder.close_until(SECOND_NS), 1);
        assert_eq!(recorder.close_until(9 * SECOND_NS), 9);
    }

    #[test]
    fn every_second_has_its_row_also_the_quiet_ones() {
        let mut recorder = Recorder::default();
        recorder.request(SECOND_NS / 2, 2_000_000, &[row(OK, false), row(OK, true)]);
        recorder.drop_unsent(2 * SECOND_NS, 7);
        recorder.request(3 * SECOND_NS + 1, 4_000_000, &[row(OK, true)]);
        recorder.finish();
        let series = recorder.series();
        let committed: Vec<u64> = series.iter().map(|row| row.tally.committed()).collect();
        assert_eq!(committed, [2, 0, 0, 1]);
        assert_eq!(series[1].p99_ns, None);
        assert_eq!(series[1].tally.cross_shard_ratio(), None);
        assert_eq!(series[2].dropped, 7);
        assert_eq!(series[3].tally.cross_shard_ratio(), Some(1.0));
        assert_eq!(recorder.last_commit_ns(), 3 * SECOND_NS + 1);
        assert_eq!(recorder.dropped(), 7);
    }
}
