//! The page of `run`.

use crate::figures::{grouped, grouped_f64, percent};
use crate::report::{RunReport, rejections};

use super::page::Page;
use super::parts::{Offered, host, latencies, money, over_time, parameters, warn_of_build};
use super::plot::{Stage, Timeline};

/// The whole page.
#[must_use]
pub fn run_page(report: &RunReport) -> String {
    let mut page = Page::new("Quorate: one load");
    warn_of_build(&mut page, report.host.build_profile);
    if report.interrupted {
        page.notice("Stopped by a signal before its time.");
    }
    match &report.error {
        Some(error) => page.notice(&format!("No load was run: {error}")),
        None => figures(&mut page, report),
    }
    money(&mut page, vec![("at the end", Some(&report.verify))]);
    let offered = Offered {
        workload: report.workload,
        mode: report.mode,
        clients: report.clients,
        batch: report.batch,
        settings: &report.settings,
    };
    parameters(&mut page, &offered, Vec::new());
    let started = report.measured_from_unix_ns.as_deref();
    host(&mut page, &report.host, started);
    page.finish()
}

fn figures(page: &mut Page, report: &RunReport) {
    page.facts(vec![
        ("seconds", format!("{:.1}", report.seconds)),
        ("committed", grouped(report.committed)),
        (
            "throughput",
            format!("{} transfers/s", grouped_f64(report.throughput_tps)),
        ),
        ("cross-shard", percent(report.cross_shard_ratio)),
        ("rejected", rejections(&report.rejected)),
        ("unknown", grouped(report.unknown)),
        ("dropped", grouped(report.dropped)),
        ("generator CPU", percent(Some(report.generator_cpu))),
    ]);
    page.figures(&latencies(&[
        ("all", report.latency_us),
        ("local", report.local.latency_us),
        ("cross", report.cross.latency_us),
    ]));
    page.note("Latency is that of a request, the part of a batch for one shard.");
    let stage = Stage {
        key: "run",
        name: "run",
        seconds: report.seconds,
        series: &report.series,
    };
    over_time(page, &Timeline::new(vec![stage], None));
}
