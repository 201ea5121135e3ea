//! The interval log as others read it: with Python's `hdrhistogram`, where it is installed.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use quorate_bench::hlog::IntervalLog;
use quorate_bench::recorder::Recorder;
use quorate_protocol::ledger::{ResultCode, ResultRow};
use quorate_protocol::time::Timestamp;

/// Prints the number of lines, then the total count and some percentiles of their sum.
const READER: &str = r"
import sys
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
total = HdrHistogram(1, 300_000_000_000, 3)
reader = HistogramLogReader(sys.argv[1], total)
lines = 0
while True:
    line = reader.get_next_interval_histogram()
    if line is None:
        break
    total.add(line)
    lines += 1
print(lines, total.get_total_count())
print(*(total.get_value_at_percentile(q) for q in (50, 90, 99, 99.9, 100)))
";

#[test]
fn another_implementation_finds_the_percentiles_of_the_report() {
    let python = std::env::var_os("QUORATE_PYTHON").unwrap_or_else(|| "python3".into());
    let has_it = Command::new(&python)
        .args(["-c", "import hdrh.log"])
        .output()
        .is_ok_and(|done| done.status.success());
    if !has_it {
        eprintln!(
            "skipped: no python3 with the package hdrhistogram here (QUORATE_PYTHON names one)"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.hlog");
    let log = IntervalLog::create(&path).unwrap();
    let mut recorder = Recorder::default();
    recorder.keep_seconds(log.begin(1_700_000_000_000_000_000));
    let rows = [ResultRow::logged(ResultCode::Ok, Timestamp(1))];
    for n in 1..=20_000_u64 {
        recorder.request(n * 250_000, n * n * 7, &rows);
    }
    recorder.finish();
    log.finish().unwrap();

    let read = Command::new(&python)
        .args(["-c", READER])
        .arg(&path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{said}");
    let text = String::from_utf8(read.stdout).unwrap();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(numbers[..2], [6, 20_000]);
    let all = recorder.all();
    for (found, at) in numbers[2..].iter().zip([0.5, 0.9, 0.99, 0.999, 1.0]) {
        let ours = all.value_at_quantile(at);
        // Three significant digits; the two round to either end of a bucket.
        assert!(
            found.abs_diff(ours) <= ours / 500,
            "{at}: {found} there, {ours} here"
        );
    }
}
