//! A run as a line of JSON, in the form of the lines that perf/throughput appends.
//!
//! `run` has the keys of a RUN document of quorate-bench as far as they apply, so that one reader
//! serves both; a peer's own are in `peer`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use quorate_bench::failure::Failure;
use quorate_bench::figures::{per_second, rounded};
use quorate_bench::report::LatencyUs;
use serde::Serialize;

use crate::arguments::{Destination, LoadArguments};
use crate::drive::Measured;
use crate::money::Verdict;
use crate::payments::{Kind, Work};

/// What a peer adds to a measurement.
#[derive(Clone, Debug)]
pub struct Outline {
    pub experiment: &'static str,
    /// Name and version.
    pub system: String,
    pub shards: u32,
    /// Syncs of the write-ahead log over the whole run, on all instances together.
    pub log_syncs: u64,
    /// Settings of the server that decide the figure.
    pub settings: Vec<(String, String)>,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Line<R> {
    pub experiment: &'static str,
    pub commit: String,
    pub system: String,
    pub shards: u32,
    /// Copies of each shard.
    pub replicas: u32,
    pub run: R,
}

#[derive(Clone, Debug, Serialize)]
struct Run {
    workload: &'static str,
    mode: &'static str,
    clients: u32,
    batch: u32,
    seconds: f64,
    committed: u64,
    rejected: BTreeMap<&'static str, u64>,
    throughput_tps: f64,
    cross_shard_ratio: f64,
    latency_us: LatencyUs,
    host: Machine,
    peer: Peer,
    verify: Verdict,
    settings: Settings,
}

#[derive(Clone, Debug, Serialize)]
struct Peer {
    durable: bool,
    log_syncs: u64,
    retried: u64,
    settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize)]
struct Settings {
    accounts: u32,
    funds: i64,
    seed: u64,
    warmup_seconds: u64,
}

/// Where a figure was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    kernel: String,
    cpus: usize,
    cpu_model: Option<String>,
}

impl Machine {
    /// This machine, as far as the kernel tells.
    #[must_use]
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        Self {
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: model
                .and_then(|line| line.split_once(':'))
                .map(|(_, name)| name.trim().to_owned()),
        }
    }
}

/// Appends the line of a run whose money is all there.
///
/// # Errors
/// The money is wrong: then nothing is appended, such a figure would mean nothing. Or the file
/// cannot be written.
pub fn finish(
    outline: Outline,
    work: &Work,
    load: &LoadArguments,
    measured: &Measured,
    verdict: Verdict,
) -> Result<(), Failure> {
    if !verdict.ok {
        let (experiment, problems) = (outline.experiment, verdict.problems.join("; "));
        return Err(Failure::Check(format!("{experiment}: {problems}")));
    }
    let seconds = (measured.measured.as_secs_f64() * 1e3).round() / 1e3;
    let run = Run {
        workload: "uniform",
        mode: "closed",
        clients: load.clients,
        batch: 1,
        seconds,
        committed: measured.committed(),
        rejected: measured.rejected(),
        throughput_tps: rounded(per_second(measured.committed(), seconds)),
        cross_shard_ratio: match work.kind {
            Kind::Local => 0.0,
            Kind::Cross => 1.0,
        },
        latency_us: LatencyUs::of(&measured.latency),
        host: Machine::here(),
        peer: Peer {
            // Every peer's module has refused settings under which it would not be.
            durable: true,
            log_syncs: outline.log_syncs,
            retried: measured.retried,
            settings: outline.settings.into_iter().collect(),
        },
        verify: verdict,
        settings: Settings {
            accounts: work.accounts,
            funds: load.funds,
            seed: work.seed,
            warmup_seconds: load.warmup,
        },
    };
    let line = Line {
        experiment: outline.experiment,
        commit: load.destination.commit.clone(),
        system: outline.system,
        shards: outline.shards,
        replicas: 1,
        run,
    };
    Ok(append(&load.destination, &line)?)
}

/// Appends one line.
///
/// # Errors
/// The file cannot be written.
pub fn append<R: Serialize>(destination: &Destination, line: &Line<R>) -> anyhow::Result<()> {
    let mut text = serde_json::to_string(line).context("a run as JSON")?;
    text.push('\n');
    let path: &Path = &destination.append;
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().with_context(|| format!("append to {}", path.display()))
}
