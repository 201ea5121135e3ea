//! `quorate-bench saturate`: the highest rate at which the p99 stays below a bound.
//!
//! An open loop at a rate either holds or not: nothing is left unsent or unanswered, nothing is refused as
//! `busy`, and the p99, counted from the intended times, is within the bound. A closed loop first says where
//! to look; then the search doubles or halves until it has a rate that holds and one that does not, and closes
//! in on the border by factors. A rate is tried up to three times and two of them decide: a host that stands
//! still for a moment must not halve the answer, nor a lucky load make it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::CellAlignment;
use serde::Serialize;

use quorate_protocol::ledger::ResultCode;

use crate::args::{LoadArguments, ModeName, SaturateArguments};
use crate::drive::{Measured, Mode};
use crate::failure::Failure;
use crate::figures::{grouped, grouped_f64, millis, per_second, rounded, seconds, table, us};
use crate::files::Files;
use crate::generator::{BUSY, warn_after, warn_before};
use crate::link::Link;
use crate::output::{Document, say};
use crate::recorder::quantile;
use crate::report::RunReport;
use crate::run::{Bench, load_config};
use crate::schedule::Arrivals;
use crate::select::{Part, Selection};
use crate::setup::{FUNDS, Funding};
use crate::verify::{TIME_LIMIT, VerifyReport};

/// The search ends where the lowest rate that fails is this factor above the highest that holds.
const PRECISION: f64 = 1.05;
/// It gives up this far below what a closed loop reached, and above it: no queue explains that.
const RANGE: f64 = 64.0;
/// Loads of one rate at most, and how many of them decide.
const TRIES: u32 = 3;
const DECIDE: u32 = 2;

/// The result. Rates are in transfers a second.
#[derive(Debug, Serialize)]
pub struct SaturateReport {
    pub workload: &'static str,
    pub clients: usize,
    pub batch: usize,
    pub arrivals: &'static str,
    /// The bound, in microseconds.
    pub p99_us_max: f64,
    /// What a closed loop with the same clients committed.
    pub closed_loop_tps: Option<f64>,
    /// The highest rate that held; `null` if none did, or the search was ended before.
    pub rate: Option<f64>,
    /// The lowest rate above it that did not; `null` if every rate held.
    pub failed_rate: Option<f64>,
    /// Every load of the search in its order.
    pub loads: Vec<LoadRow>,
    /// The last load at `rate`, as `run --json` writes it.
    pub best: Option<RunReport>,
    /// Stopped by a signal before its end.
    pub interrupted: bool,
    /// Why it did not come to its end.
    pub error: Option<String>,
    pub verify: VerifyReport,
}

/// One load of the search.
#[derive(Clone, Debug, Serialize)]
pub struct LoadRow {
    pub rate: f64,
    pub throughput_tps: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// Not sent: the backlog of a second was full.
    pub dropped: u64,
    pub unknown: u64,
    pub busy: u64,
    pub generator_cpu: f64,
    pub holds: bool,
}

/// Runs the command.
///
/// # Errors
/// Bad usage, a cluster that does not answer, no rate that holds (exit code 4), or a failed money check.
/// The document is written in every case but the first.
pub fn saturate(arguments: &SaturateArguments, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let config = load_config(&arguments.cluster.path)?;
    let selection = Selection::new(&arguments.workload, &config)?;
    if selection.trace().is_some() {
        let message = "--workload: a recorded file ends, a search for a rate repeats its load";
        return Err(Failure::Usage(message.to_owned()));
    }
    let load = LoadArguments {
        mode: ModeName::Closed,
        rate: None,
        arrivals: None,
        rate_from: None,
        generator: arguments.generator.clone(),
        warmup: Some(arguments.warmup),
    };
    let bench = Bench::new(config, selection, &load, Some(arguments.seconds), stop)?;
    let mut document = Document::open(arguments.json.as_deref())?;
    warn_before(&bench.config, bench.cpu);
    let mut link = Link::new(&bench.config);
    let mut report = SaturateReport {
        workload: bench.selection.name.name(),
        clients: bench.options.clients,
        batch: bench.options.batch,
        arrivals: arguments.arrivals().name(),
        p99_us_max: us(nanos(arguments.p99)),
        closed_loop_tps: None,
        rate: None,
        failed_rate: None,
        loads: Vec::new(),
        best: None,
        interrupted: false,
        error: None,
        verify: VerifyReport::unavailable("not asked yet".to_owned()),
    };
    let result = search(&bench, arguments, &mut link, &mut report);
    report.verify = link.verify(TIME_LIMIT);
    report.error = result.as_ref().err().map(|error| format!("{error:#}"));
    document.write(&report, |terminal| report.to_text(terminal))?;
    result?;
    report.verify.clone().into_result()?;
    if report.rate.is_none() && !report.interrupted {
        return Err(Failure::Check(format!(
            "no rate has a p99 within {}",
            humantime::format_duration(arguments.p99)
        )));
    }
    Ok(())
}

fn search(
    bench: &Bench,
    arguments: &SaturateArguments,
    link: &mut Link,
    report: &mut SaturateReport,
) -> anyhow::Result<()> {
    bench.prepare(link, &Funding::Even(FUNDS))?;
    let mut round = 0;
    let mut load = |mode: Mode, name: &'static str| -> anyhow::Result<Measured> {
        let mut job = bench.job(name, Part::Whole, round, 0);
        job.options.mode = mode;
        round += 1;
        Ok(job.run(Files::default())?.0)
    };
    let closed = load(Mode::Closed, "closed")?;
    let tally = closed.recorder.tally();
    let capacity = per_second(tally.committed(), seconds(closed.measured_ns));
    report.closed_loop_tps = Some(capacity);
    report.interrupted = closed.interrupted;
    anyhow::ensure!(
        capacity > 0.0 || closed.interrupted,
        "a closed loop committed nothing"
    );
    let mut search = Search::new(capacity);
    while let Some(rate) = search.next().filter(|_| !report.interrupted) {
        let arrivals = arguments.arrivals();
        let measured = load(Mode::Open { rate, arrivals }, "open")?;
        report.interrupted = bench.stop.load(Ordering::Relaxed);
        if measured.interrupted {
            break;
        }
        let row = LoadRow::of(rate, &measured, arguments.p99);
        say(format_args!("{}", row.progress_line()));
        search.note(row.holds);
        if row.holds && search.highest() == Some(rate) {
            report.best = Some(bench.report_of(&measured, Mode::Open { rate, arrivals }));
            warn_after(&measured);
        }
        report.loads.push(row);
    }
    report.rate = search.highest();
    report.failed_rate = search.lowest_failed();
    Ok(())
}

impl LoadRow {
    fn of(rate: f64, measured: &Measured, bound: Duration) -> Self {
        let recorder = &measured.recorder;
        let all = recorder.all();
        let tally = recorder.tally();
        let busy = tally.rejected.get(ResultCode::Busy.name());
        let busy = busy.copied().unwrap_or(0);
        let (unknown, dropped) = (tally.unknown, recorder.dropped());
        let p99 = quantile(&all, 0.99);
        let is_quick = p99.is_some_and(|p99| p99 <= nanos(bound));
        Self {
            rate: rounded(rate),
            throughput_tps: per_second(tally.committed(), seconds(measured.measured_ns)),
            p50_us: quantile(&all, 0.5).map(us),
            p99_us: p99.map(us),
            dropped,
            unknown,
            busy,
            generator_cpu: measured.generator_cpu,
            holds: is_quick && unknown == 0 && dropped == 0 && busy == 0,
        }
    }

    fn progress_line(&self) -> String {
        format!(
            "{:>9}/s  p99 {:>8} ms  {}",
            grouped_f64(self.rate),
            millis(self.p99_us),
            if self.holds { "holds" } else { "does not hold" }
        )
    }
}

impl SaturateReport {
    fn to_text(&self, terminal: bool) -> String {
        let mut loads = table(terminal);
        let header = [
            "offered/s",
            "committed/s",
            "p50 ms",
            "p99 ms",
            "dropped",
            "unknown",
            "busy",
            "generator CPU",
            "holds",
        ];
        loads.set_header(header);
        for row in &self.loads {
            loads.add_row([
                grouped_f64(row.rate),
                grouped_f64(row.throughput_tps),
                millis(row.p50_us),
                millis(row.p99_us),
                grouped(row.dropped),
                grouped(row.unknown),
                grouped(row.busy),
                format!("{:.0} %", row.generator_cpu * 100.0),
                if row.holds { "yes" } else { "no" }.to_owned(),
            ]);
        }
        for column in loads.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let bound = millis(Some(self.p99_us_max));
        let found = match (self.rate, self.failed_rate) {
            (None, _) => format!("no rate with p99 within {bound} ms"),
            (Some(rate), None) => format!(
                "p99 within {bound} ms at every rate tried, up to {} transfers/s",
                grouped_f64(rate)
            ),
            (Some(rate), Some(failed)) => format!(
                "p99 within {bound} ms up to {} transfers/s, not at {}",
                grouped_f64(rate),
                grouped_f64(failed)
            ),
        };
        let limited = self
            .best
            .as_ref()
            .is_some_and(|best| best.generator_cpu > BUSY);
        let warning = if limited {
            "\nwarning: there the generator used most of its core, it may be what was measured"
        } else {
            ""
        };
        format!(
            "{loads}\n\n{found}{warning}\nmoney check: {}",
            self.verify.to_text()
        )
    }
}

/// Which rate to try next, and what is known of those tried.
#[derive(Debug)]
struct Search {
    capacity: f64,
    held: Option<f64>,
    failed: Option<f64>,
    /// The rate that is being tried.
    rate: f64,
    yes: u32,
    no: u32,
}

impl Search {
    fn new(capacity: f64) -> Self {
        Self {
            capacity,
            held: None,
            failed: None,
            rate: capacity / 2.0,
            yes: 0,
            no: 0,
        }
    }

    /// The next rate to try; `None` at the end.
    fn next(&self) -> Option<f64> {
        let is_found = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held <= PRECISION,
            (_, None) => self.rate > self.capacity * RANGE,
            (None, Some(_)) => self.rate < self.capacity / RANGE,
        };
        (!is_found).then_some(self.rate)
    }

    /// The load at the rate of [`Search::next`] held, or not.
    fn note(&mut self, holds: bool) {
        if holds {
            self.yes += 1;
        } else {
            self.no += 1;
        }
        debug_assert!(self.yes + self.no <= TRIES);
        if self.yes < DECIDE && self.no < DECIDE {
            return;
        }
        if self.yes == DECIDE {
            self.held = Some(self.rate);
        } else {
            self.failed = Some(self.rate);
        }
        (self.yes, self.no) = (0, 0);
        self.rate = match (self.held, self.failed) {
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (Some(held), None) => held * 2.0,
            (None, Some(failed)) => failed / 2.0,
            (None, None) => self.rate,
        };
    }

    fn highest(&self) -> Option<f64> {
        self.held
    }

    fn lowest_failed(&self) -> Option<f64> {
        self.failed
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl SaturateArguments {
    fn arrivals(&self) -> Arrivals {
        if self.poisson {
            Arrivals::Poisson
        } else {
            Arrivals::Constant
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search where a rate holds if `holds` says so, with the number of loads.
    fn found(capacity: f64, mut holds: impl FnMut(f64, u32) -> bool) -> (Search, u32) {
        let mut search = Search::new(capacity);
        let mut loads = 0;
        while let Some(rate) = search.next() {
            search.note(holds(rate, loads));
            loads += 1;
            assert!(loads < 100);
        }
        (search, loads)
    }

    #[test]
    fn the_border_is_found_wherever_it_is() {
        for border in [
            2_000.0,
            49_000.0,
            50_001.0,
            99_000.0,
            180_000.0,
            1_000_000.0,
        ] {
            let (search, loads) = found(100_000.0, |rate, _| rate <= border);
            let (held, failed) = (search.held.unwrap(), search.failed.unwrap());
            assert!(held <= border && border < failed, "{border}");
            assert!(failed / held <= PRECISION);
            assert!(loads <= 26, "{border}: {loads}");
        }
    }

    #[test]
    fn one_bad_load_in_three_changes_nothing() {
        let (search, _) = found(100_000.0, |rate, load| rate <= 60_000.0 && load % 3 != 0);
        assert!((57_000.0..=60_000.0).contains(&search.held.unwrap()));
    }

    #[test]
    fn a_bound_that_no_rate_keeps_ends_the_search() {
        let (search, _) = found(100_000.0, |_, _| false);
        assert_eq!(search.held, None);
        let (search, _) = found(100_000.0, |_, _| true);
        assert_eq!(search.failed, None);
        assert!(search.held.unwrap() > 1_000_000.0);
    }
}
