//! The document of a run (`RUN` in the contract) and its table for people.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::figures::{
    grouped, grouped_f64, millis, per_second, percent, rounded, seconds, table, us,
};
use crate::host::Host;
use crate::recorder::{Class, Recorder, SecondRow, quantile};
use crate::verify::VerifyReport;

/// One run. Keys may be added, these may not change.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    pub workload: &'static str,
    pub mode: &'static str,
    pub clients: usize,
    /// Transfers that a client sends at once; a request is the part of them for one shard.
    pub batch: usize,
    /// Start of measuring by the wall clock, in nanoseconds since 1970 as a decimal string; `null` if
    /// no load was run. It lets what samples the servers from outside find `seconds` in its samples.
    pub measured_from_unix_ns: Option<String>,
    /// From the start of measuring to the last commit, or to the end if that was later.
    pub seconds: f64,
    pub committed: u64,
    pub rejected: BTreeMap<&'static str, u64>,
    pub unknown: u64,
    /// Never sent: the generator's bounded backlog was full, or the run ended before their turn.
    pub dropped: u64,
    pub throughput_tps: f64,
    /// Of the committed transfers, by the engine's own bit; `null` if nothing committed.
    pub cross_shard_ratio: Option<f64>,
    pub latency_us: LatencyUs,
    pub local: ClassReport,
    pub cross: ClassReport,
    /// Looks at accounts, which are in no other figure; `null` if there were none.
    pub read: Option<ReadReport>,
    pub series: Vec<SeriesRow>,
    pub host: Host,
    pub verify: VerifyReport,
    pub settings: Settings,
    /// Share of one core that the generator's thread used while measuring.
    pub generator_cpu: f64,
    /// Stopped by a signal before its time.
    pub interrupted: bool,
    /// Why the run could not be made, or not to its end.
    pub error: Option<String>,
}

/// What fixes the work of a run, beside the keys above.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub accounts: u32,
    pub seed: u64,
    /// Which payments among these accounts: those of the load with this number.
    pub round: u32,
    /// Connections to each shard.
    pub connections: usize,
    pub warmup_seconds: u64,
    /// Intended transfers a second, in open mode.
    pub rate: Option<f64>,
    /// How the intended times are spread, in open mode.
    pub arrivals: Option<&'static str>,
    /// Where a ramp begins, in transfers a second.
    pub rate_from: Option<f64>,
    /// Transfers of the replayed file.
    pub trace_transfers: Option<u64>,
    /// Load over the average up to which a replay's new accounts were put beside their first counterparties; `null`: they
    /// were left at their homes.
    pub first_touch_cap: Option<f64>,
    /// What shapes the payments: the workload's own options, with their defaults.
    pub shape: BTreeMap<&'static str, f64>,
}

/// Percentiles of request latency in microseconds; `null` if there was no request.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LatencyUs {
    pub requests: u64,
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    pub p999: Option<f64>,
    pub max: Option<f64>,
}

/// Transfers, and requests, of one class.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ClassReport {
    /// Transfers by the engine's bit.
    pub committed: u64,
    /// Requests: any cross-shard transfer makes one cross.
    pub latency_us: LatencyUs,
}

/// Looks at accounts.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReadReport {
    pub accounts: u64,
    /// Of them: not told by the deadline.
    pub unknown: u64,
    pub latency_us: LatencyUs,
}

/// One second of the run.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesRow {
    pub second: u64,
    pub committed: u64,
    pub p99_us: Option<f64>,
    pub cross_shard_ratio: Option<f64>,
    pub rejected: u64,
    pub unknown: u64,
    pub dropped: u64,
}

/// What [`RunReport::new`] puts beside the measurements.
#[derive(Clone, Debug)]
pub struct Run {
    pub workload: &'static str,
    pub mode: &'static str,
    pub clients: usize,
    pub batch: usize,
    pub measured_from_unix_ns: Option<u64>,
    pub measured_ns: u64,
    pub generator_cpu: f64,
    pub interrupted: bool,
    pub error: Option<String>,
    pub settings: Settings,
}

impl RunReport {
    /// Puts a report together.
    #[must_use]
    pub fn new(run: Run, recorder: &Recorder, host: Host, verify: VerifyReport) -> Self {
        let tally = recorder.tally();
        let seconds = seconds(run.measured_ns);
        Self {
            workload: run.workload,
            mode: run.mode,
            clients: run.clients,
            batch: run.batch,
            measured_from_unix_ns: run.measured_from_unix_ns.map(|ns| ns.to_string()),
            seconds,
            committed: tally.committed(),
            rejected: tally.rejected.clone(),
            unknown: tally.unknown,
            dropped: recorder.dropped(),
            throughput_tps: per_second(tally.committed(), seconds),
            cross_shard_ratio: tally.cross_shard_ratio(),
            latency_us: LatencyUs::of(&recorder.all()),
            local: ClassReport::of(recorder, Class::Local, tally.committed_local),
            cross: ClassReport::of(recorder, Class::Cross, tally.committed_cross),
            read: ReadReport::of(recorder),
            series: recorder.series().iter().map(SeriesRow::of).collect(),
            host,
            verify,
            settings: run.settings,
            generator_cpu: run.generator_cpu,
            interrupted: run.interrupted,
            error: run.error,
        }
    }

    /// The tables that people read.
    #[must_use]
    pub fn to_text(&self, terminal: bool) -> String {
        // Without a load there is nothing to show: zeros would look like a result.
        if self.error.is_some() {
            return format!("no load was run\nmoney check: {}", self.verify.to_text());
        }
        let mut counts = table(terminal);
        let what = format!(
            "{}, {} loop, {} clients x {} transfers",
            self.workload, self.mode, self.clients, self.batch
        );
        for (name, value) in [
            ("workload", what),
            ("seconds", format!("{:.1}", self.seconds)),
            ("committed", grouped(self.committed)),
            (
                "throughput",
                format!("{} transfers/s", grouped_f64(self.throughput_tps)),
            ),
            ("cross-shard", percent(self.cross_shard_ratio)),
            ("rejected", rejections(&self.rejected)),
            ("unknown", grouped(self.unknown)),
            ("dropped", grouped(self.dropped)),
            ("accounts read", reads(self.read)),
            (
                "generator CPU",
                format!("{:.0} %", self.generator_cpu * 100.0),
            ),
            ("money check", self.verify.to_text()),
        ] {
            counts.add_row([name.to_owned(), value]);
        }
        format!("{counts}\n\n{}", self.latencies(terminal))
    }

    fn latencies(&self, terminal: bool) -> Table {
        let mut latencies = table(terminal);
        let header = [
            "latency ms",
            "requests",
            "mean",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
        ];
        latencies.set_header(header);
        for (name, latency) in [
            ("all", Some(self.latency_us)),
            ("local", Some(self.local.latency_us)),
            ("cross", Some(self.cross.latency_us)),
            ("read", self.read.map(|read| read.latency_us)),
        ] {
            let Some(latency) = latency else {
                continue;
            };
            let LatencyUs {
                requests,
                mean,
                p50,
                p90,
                p99,
                p999,
                max,
            } = latency;
            let times = [mean, p50, p90, p99, p999, max].map(millis);
            latencies.add_row(
                [name.to_owned(), grouped(requests)]
                    .into_iter()
                    .chain(times),
            );
        }
        for column in latencies.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        latencies
    }
}

impl LatencyUs {
    /// The percentiles of one histogram of nanoseconds.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |q| quantile(histogram, q).map(us);
        let any = !histogram.is_empty();
        Self {
            requests: histogram.len(),
            mean: any.then(|| rounded(histogram.mean() / 1e3)),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: any.then(|| us(histogram.max())),
        }
    }
}

impl ClassReport {
    /// What was measured of one class, of which this many transfers committed.
    #[must_use]
    pub fn of(recorder: &Recorder, class: Class, committed: u64) -> Self {
        Self {
            committed,
            latency_us: LatencyUs::of(recorder.class(class)),
        }
    }
}

impl ReadReport {
    /// What was measured of looks at accounts.
    #[must_use]
    pub fn of(recorder: &Recorder) -> Option<Self> {
        let looks = recorder.looks();
        (looks.accounts > 0).then(|| Self {
            accounts: looks.accounts,
            unknown: looks.unknown,
            latency_us: LatencyUs::of(recorder.read()),
        })
    }
}

impl SeriesRow {
    /// One second as the document has it.
    #[must_use]
    pub fn of(row: &SecondRow) -> Self {
        Self {
            second: row.second,
            committed: row.tally.committed(),
            p99_us: row.p99_ns.map(us),
            cross_shard_ratio: row.tally.cross_shard_ratio(),
            rejected: row.tally.refused(),
            unknown: row.tally.unknown,
            dropped: row.dropped,
        }
    }
}

/// The line of one second, for a person who waits.
#[must_use]
pub fn progress_line(phase: &str, row: &SecondRow) -> String {
    let ms = |ns: Option<u64>| millis(ns.map(us));
    format!(
        "{phase:<8} {:>3} s  {:>9}/s  p50 {:>8} ms  p99 {:>8} ms  cross {:>7}  rejected {}  unknown {}  dropped {}",
        row.second + 1,
        grouped(row.tally.committed()),
        ms(row.p50_ns),
        ms(row.p99_ns),
        percent(row.tally.cross_shard_ratio()),
        row.tally.refused(),
        row.tally.unknown,
        row.dropped,
    )
}

/// Looks at accounts, for people.
fn reads(read: Option<ReadReport>) -> String {
    read.map_or_else(
        || "0".to_owned(),
        |read| {
            format!(
                "{}, {} unknown",
                grouped(read.accounts),
                grouped(read.unknown)
            )
        },
    )
}

/// Refused transfers by code, for people.
#[must_use]
pub fn rejections(rejected: &BTreeMap<&'static str, u64>) -> String {
    if rejected.is_empty() {
        return "0".to_owned();
    }
    let parts = rejected
        .iter()
        .map(|(code, count)| format!("{} {code}", grouped(*count)));
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use quorate_config::{ClusterConfig, GenerateOptions};
    use quorate_protocol::ids::ClusterId;
    use quorate_protocol::ledger::{ResultCode, ResultRow};
    use quorate_protocol::shard::map::Placement;
    use quorate_protocol::time::Timestamp;
    use serde_json::Value;

    /// The keys of `RUN` in the contract: more may be added, none may go.
    const RUN: [&str; 17] = [
        "workload",
        "mode",
        "clients",
        "batch",
        "seconds",
        "committed",
        "rejected",
        "unknown",
        "dropped",
        "throughput_tps",
        "cross_shard_ratio",
        "latency_us",
        "local",
        "cross",
        "series",
        "host",
        "verify",
    ];
    const LATENCY: [&str; 6] = ["mean", "p50", "p90", "p99", "p999", "max"];
    const SERIES: [&str; 4] = ["second", "committed", "p99_us", "cross_shard_ratio"];
    const VERIFY: [&str; 8] = [
        "ok",
        "ledgers",
        "in_doubt",
        "digests_equal",
        "owners_unique",
        "accounts",
        "transfers",
        "problems",
    ];

    fn host() -> Host {
        let options = GenerateOptions {
            cluster_id: ClusterId(7),
            shards: 3,
            replicas: 3,
            nodes: 3,
            directory: "cluster".into(),
            base_port: 7000,
            placement: Placement::Hash,
            host_cores: 2,
        };
        Host::of(&ClusterConfig::generate(&options).unwrap())
    }

    fn report(recorder: &Recorder) -> RunReport {
        let run = Run {
            workload: "uniform",
            mode: "closed",
            clients: 4,
            batch: 3,
            measured_from_unix_ns: Some(1_700_000_000_000_000_001),
            measured_ns: 2_000_000_000,
            generator_cpu: 0.5,
            interrupted: false,
            error: None,
            settings: Settings {
                accounts: 9_000,
                seed: 1,
                round: 0,
                connections: 1,
                warmup_seconds: 2,
                rate: None,
                arrivals: None,
                rate_from: None,
                trace_transfers: None,
                first_touch_cap: None,
                shape: BTreeMap::from([("theta", 1.0)]),
            },
        };
        let verify = VerifyReport::unavailable("nobody was asked".to_owned());
        RunReport::new(run, recorder, host(), verify)
    }

    fn row(code: ResultCode, cross: bool) -> ResultRow {
        let mut row = ResultRow::logged(code, Timestamp(1));
        row.flags = if cross { ResultRow::CROSS_SHARD } else { 0 };
        row
    }

    fn recorded() -> Recorder {
        let mut recorder = Recorder::default();
        let ok = ResultCode::Ok;
        recorder.request(1_000, 2_000_000, &[row(ok, false), row(ok, false)]);
        let mixed = [
            row(ok, true),
            row(ResultCode::ExceedsCredits, false),
            row(ok, false),
        ];
        recorder.request(2_000, 4_000_000, &mixed);
        recorder.finish();
        recorder
    }

    fn assert_keys(value: &Value, keys: &[&str]) {
        for key in keys {
            assert!(value.get(key).is_some(), "{key} is missing in {value}");
        }
    }

    #[test]
    fn the_document_has_every_key_of_the_contract_also_of_an_empty_run() {
        for recorder in [recorded(), Recorder::default()] {
            let document = serde_json::to_value(report(&recorder)).unwrap();
            assert_keys(&document, &RUN);
            for latency in [
                &document["latency_us"],
                &document["local"]["latency_us"],
                &document["cross"]["latency_us"],
            ] {
                assert_keys(latency, &LATENCY);
            }
            assert_keys(&document["local"], &["committed"]);
            assert_keys(&document["cross"], &["committed"]);
            assert_keys(&document["verify"], &VERIFY);
            for second in document["series"].as_array().unwrap() {
                assert_keys(second, &SERIES);
            }
        }
    }

    #[test]
    fn the_figures_are_those_that_were_recorded() {
        let document = serde_json::to_value(report(&recorded())).unwrap();
        assert_eq!(document["committed"], 4);
        assert_eq!(
            document["rejected"],
            serde_json::json!({"exceeds_credits": 1})
        );
        assert_eq!(document["throughput_tps"], 2.0);
        assert_eq!(document["cross_shard_ratio"], 0.25);
        // Transfers by the engine's bit, requests by "any transfer crossed".
        assert_eq!(document["local"]["committed"], 3);
        assert_eq!(document["cross"]["committed"], 1);
        assert_eq!(document["cross"]["latency_us"]["requests"], 1);
        let p50 = document["local"]["latency_us"]["p50"].as_f64().unwrap();
        assert!((1_990.0..2_010.0).contains(&p50), "{p50}");
        assert_eq!(document["series"][0]["committed"], 4);
        assert_eq!(document["settings"]["connections"], 1);
        // A string: a reader's double would lose the last digits.
        assert_eq!(document["measured_from_unix_ns"], "1700000000000000001");
    }

    #[test]
    fn an_empty_run_reports_nothing_rather_than_zero() {
        let document = serde_json::to_value(report(&Recorder::default())).unwrap();
        assert_eq!(document["cross_shard_ratio"], Value::Null);
        assert_eq!(document["latency_us"]["p99"], Value::Null);
        assert_eq!(document["series"], serde_json::json!([]));
    }

    /// A table of zeros before "accounts exist already" looks like a measurement of a dead cluster.
    #[test]
    fn a_load_that_was_not_run_shows_no_figures() {
        let mut report = report(&Recorder::default());
        report.error = Some("account 1 exists".to_owned());
        let text = report.to_text(false);
        assert!(!text.contains("committed"), "{text}");
        assert!(text.contains("not made: nobody was asked"), "{text}");
    }

    #[test]
    fn people_read_the_same_figures_without_lines_in_a_pipe() {
        let text = report(&recorded()).to_text(false);
        for part in [
            "uniform",
            "1 exceeds_credits",
            "25.0 %",
            "not made: nobody was asked",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains('|'), "{text}");
        assert!(report(&recorded()).to_text(true).contains('|'));
    }
}
