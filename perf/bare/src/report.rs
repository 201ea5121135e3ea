//! Figures as people and programs read them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu::float;

/// Longest time that is told apart from longer ones.
const NS_MAX: u64 = 60_000_000_000;

/// Times, to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, NS_MAX, 3);
        Self(histogram.expect("constant bounds are in order"))
    }
}

impl Times {
    pub fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(ns);
    }

    #[must_use]
    pub fn microseconds(&self) -> Microseconds {
        let us = |quantile: f64| float(self.0.value_at_quantile(quantile)) / 1e3;
        Microseconds {
            count: self.0.len(),
            mean: self.0.mean() / 1e3,
            p50: us(0.5),
            p90: us(0.9),
            p99: us(0.99),
            p999: us(0.999),
            max: float(self.0.max()) / 1e3,
        }
    }
}

/// A distribution of times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Microseconds {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Where a figure was measured: without it no two figures can be compared.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub kernel: String,
    pub cpus: usize,
    pub cpu_model: Option<String>,
}

impl Host {
    /// To be called before a thread is pinned: it counts the CPUs that the caller may use.
    #[must_use]
    pub fn here() -> Self {
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        Self {
            kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_model: cpu_model(),
        }
    }
}

/// The first processor's name, where the kernel tells.
fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    Some(name.trim().to_owned())
}

/// Writes a document where `--json` says.
pub(crate) fn write_json(path: Option<&Path>, document: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(document)? + "\n";
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_in_microseconds() {
        let mut times = Times::default();
        for us in 1..=1000 {
            times.record(Duration::from_micros(us));
        }
        let found = times.microseconds();
        assert_eq!(found.count, 1000);
        for (value, expected) in [
            (found.mean, 500.5),
            (found.p50, 500.0),
            (found.p90, 900.0),
            (found.p99, 990.0),
            (found.p999, 999.0),
            (found.max, 1000.0),
        ] {
            assert!((value / expected - 1.0).abs() < 2e-3, "{value} {expected}");
        }
    }
}
