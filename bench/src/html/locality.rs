//! The page of `locality`.

use std::collections::BTreeMap;

use quorate_planner::plan::{BacktestMethod, Decision, Method};

use crate::figures::{factor, grouped, grouped_f64, millis, percent};
use crate::locality_report::{LocalityReport, PlanReport, StageReport};
use crate::payback::Payback;
use crate::report::{LatencyUs, RunReport, SeriesRow, rejections};
use crate::reshard_report::ReshardReport;

use super::bars::freeze_bars;
use super::page::{Page, Table};
use super::parts::{Cell, Offered, columns, host, money, over_time, parameters, warn_of_build};
use super::plot::{Band, Stage, Timeline};

/// The whole page; a stage that was not reached has dashes.
#[must_use]
pub fn locality_page(report: &LocalityReport) -> String {
    let mut page = Page::new("Quorate: placement by who pays whom");
    notices(&mut page, report);
    page.heading("Before, predicted, achieved");
    page.figures(&compared(report));
    page.note(
        "Predicted on payments that the plan had not seen, achieved on payments that neither had \
         seen. Load counts a transfer at both of its accounts.",
    );
    page.heading("Loads");
    page.figures(&load_table(report));
    page.note("Latency is that of a request, the part of a batch for one shard.");
    over_time(&mut page, &timeline(report));
    moves(&mut page, report);
    if let Some(plan) = &report.plan {
        plan_facts(&mut page, plan);
    }
    let (before, after) = (report.before.as_ref(), report.after.as_ref());
    let checks = vec![
        ("after the first load", before.map(|run| &run.verify)),
        ("after the last load", after.map(|run| &run.verify)),
        ("at the end", report.verify.as_ref()),
    ];
    money(&mut page, checks);
    surroundings(&mut page, report);
    page.finish()
}

/// A load's figures, with a money check of its own or without.
#[derive(Clone, Copy, Debug)]
struct LoadFigures<'a> {
    seconds: f64,
    committed: u64,
    rejected: &'a BTreeMap<&'static str, u64>,
    unknown: u64,
    dropped: u64,
    throughput_tps: f64,
    cross_shard_ratio: Option<f64>,
    latency_us: LatencyUs,
    generator_cpu: f64,
    series: &'a [SeriesRow],
}

impl<'a> From<&'a RunReport> for LoadFigures<'a> {
    fn from(run: &'a RunReport) -> Self {
        Self {
            seconds: run.seconds,
            committed: run.committed,
            rejected: &run.rejected,
            unknown: run.unknown,
            dropped: run.dropped,
            throughput_tps: run.throughput_tps,
            cross_shard_ratio: run.cross_shard_ratio,
            latency_us: run.latency_us,
            generator_cpu: run.generator_cpu,
            series: &run.series,
        }
    }
}

impl<'a> From<&'a StageReport> for LoadFigures<'a> {
    fn from(stage: &'a StageReport) -> Self {
        Self {
            seconds: stage.seconds,
            committed: stage.committed,
            rejected: &stage.rejected,
            unknown: stage.unknown,
            dropped: stage.dropped,
            throughput_tps: stage.throughput_tps,
            cross_shard_ratio: stage.cross_shard_ratio,
            latency_us: stage.latency_us,
            generator_cpu: stage.generator_cpu,
            series: &stage.series,
        }
    }
}

/// A load that may not have been reached: its key in the document, its name, its figures.
type Reached<'a> = (&'static str, &'static str, Option<LoadFigures<'a>>);

/// The loads in the order in which they run.
fn loads(report: &LocalityReport) -> [Reached<'_>; 4] {
    let (before, after) = (report.before.as_ref(), report.after.as_ref());
    let (held_out, during) = (report.held_out.as_ref(), report.during.as_ref());
    [
        ("before", "before", before.map(Into::into)),
        ("held_out", "held out", held_out.map(Into::into)),
        ("during", "during", during.map(Into::into)),
        ("after", "after", after.map(Into::into)),
    ]
}

fn notices(page: &mut Page, report: &LocalityReport) {
    if let Some(host) = &report.host {
        warn_of_build(page, host.build_profile);
    }
    if let Some(error) = &report.error {
        page.notice(&format!("Ended early: {error}"));
    }
    // Of the loads before the last one the error says it.
    if report.after.as_ref().is_some_and(|run| run.interrupted) {
        page.notice("The last load was stopped by a signal before its time.");
    }
    if let Some(plan) = &report.plan {
        match plan.decision {
            Decision::Apply => page.paragraph(&format!("Plan: {}", plan.reason)),
            Decision::Refuse => page.notice(&format!("Plan refused: {}", plan.reason)),
        }
    }
    if let Some(verify) = report.verify.as_ref().filter(|verify| !verify.ok) {
        page.notice(&format!("Money check {}", verify.to_text()));
    }
}

fn compared(report: &LocalityReport) -> Table {
    let ratio = report.cross_shard_ratio;
    let mut rows = vec![vec![
        "cross-shard ratio".to_owned(),
        percent(ratio.before),
        percent(ratio.predicted),
        percent(ratio.achieved),
    ]];
    let tps = report.throughput_tps;
    let shown = |tps: Option<f64>| tps.map_or("-".to_owned(), grouped_f64);
    rows.push(vec![
        "transfers/s".to_owned(),
        shown(tps.before),
        shown(tps.predicted),
        shown(tps.achieved),
    ]);
    for (name, figure) in [
        ("load max/avg", report.load_max_over_avg),
        ("accounts max/avg", report.accounts_max_over_avg),
    ] {
        rows.push(vec![
            name.to_owned(),
            factor(figure.before),
            factor(figure.predicted),
            factor(figure.achieved),
        ]);
    }
    Table {
        header: ["", "before", "predicted", "achieved"]
            .map(str::to_owned)
            .to_vec(),
        rows,
    }
}

fn load_table(report: &LocalityReport) -> Table {
    let loads = loads(report).map(|(_, name, figures)| (name, figures));
    let cells: [Cell<'_, LoadFigures<'_>>; 11] = [
        ("transfers/s", &|load| grouped_f64(load.throughput_tps)),
        ("p50 ms", &|load| millis(load.latency_us.p50)),
        ("p99 ms", &|load| millis(load.latency_us.p99)),
        ("p99.9 ms", &|load| millis(load.latency_us.p999)),
        ("cross-shard ratio", &|load| percent(load.cross_shard_ratio)),
        ("seconds", &|load| format!("{:.1}", load.seconds)),
        ("committed", &|load| grouped(load.committed)),
        ("rejected", &|load| rejections(load.rejected)),
        ("unknown", &|load| grouped(load.unknown)),
        ("dropped", &|load| grouped(load.dropped)),
        ("generator CPU", &|load| percent(Some(load.generator_cpu))),
    ];
    columns(&loads, &cells)
}

fn timeline(report: &LocalityReport) -> Timeline<'_> {
    let stages = loads(report)
        .into_iter()
        .filter_map(|(key, name, figures)| {
            let figures = figures?;
            Some(Stage {
                key,
                name,
                seconds: figures.seconds,
                series: figures.series,
            })
        });
    let reshard = report.reshard.as_ref();
    let times = reshard.and_then(|moves| moves.from_second.zip(moves.to_second));
    let band = times.map(|(from_second, to_second)| Band {
        stage: "during",
        name: "moves",
        from_second,
        to_second,
    });
    Timeline::new(stages.collect(), band)
}

fn moves(page: &mut Page, report: &LocalityReport) {
    page.heading("Moves");
    let Some(moves) = &report.reshard else {
        page.paragraph("No account was moved.");
        return;
    };
    page.facts(move_facts(moves, report.payback.as_ref()));
    page.note(
        "Bytes are computed from the batches, not measured: the two records of each, once, without \
         the copies of other replicas, previous owners, resolutions and attempts in vain. Payback is \
         about throughput alone: the time that was lost while accounts moved, over the time that a \
         transfer takes less behind them.",
    );
    if moves.freeze_buckets.is_empty() {
        return;
    }
    page.paragraph("Accounts by the time for which nobody served them:");
    page.drawing(freeze_bars(&moves.freeze_buckets));
}

fn move_facts(moves: &ReshardReport, payback: Option<&Payback>) -> Vec<(&'static str, String)> {
    let count = |count: usize| grouped(u64::try_from(count).expect("a usize fits a u64"));
    let freeze = moves.freeze_us;
    let [p50, p99, max] = [freeze.p50, freeze.p99, freeze.max].map(millis);
    let payback = payback.map_or_else(|| "-".to_owned(), Payback::to_text);
    vec![
        ("accounts planned", grouped(moves.planned)),
        ("accounts moved", grouped(moves.moved)),
        ("already there", grouped(moves.already_there)),
        ("given up", count(moves.given_up)),
        ("refused", count(moves.refused)),
        ("elsewhere", count(moves.elsewhere)),
        ("seconds", format!("{:.2}", moves.seconds)),
        ("batches", count(moves.batches)),
        ("requests sent again", grouped(moves.retries)),
        ("bytes logged, at least", grouped(moves.bytes)),
        (
            "frozen, p50 / p99 / max ms",
            format!("{p50} / {p99} / {max}"),
        ),
        ("payback", payback),
    ]
}

fn plan_facts(page: &mut Page, plan: &PlanReport) {
    let ratio = plan.cross_shard_ratio;
    let share = |share: f64| percent(Some(share));
    let gain = plan.gate.predicted_gain;
    page.heading("Plan");
    page.facts(vec![
        (
            "made by",
            match plan.method {
                Method::Metis => "METIS",
                Method::WarmStart => "greedy moves from the current map",
                Method::Stay => "nothing moves",
            }
            .to_owned(),
        ),
        (
            "predicted on",
            match plan.backtest_method {
                BacktestMethod::TimeSplit => "a newer load",
                BacktestMethod::Thinned => "transfers held out at random",
                BacktestMethod::None => "nothing",
            }
            .to_owned(),
        ),
        ("transfers planned on", grouped(plan.transfers_planned_on)),
        ("transfers scored on", grouped(plan.transfers_scored_on)),
        ("transfers not counted", grouped(plan.telemetry_dropped)),
        ("cross-shard ratio by hash", share(ratio.hash)),
        ("cross-shard ratio in sample", share(ratio.in_sample)),
        ("predicted gain of throughput", share(gain.mean)),
        ("the same at the busiest shard", share(gain.busiest)),
        ("hubs", plan.hubs.to_string()),
        ("moves", plan.moves.to_string()),
    ]);
    page.note(
        "The ratio in sample is that of the transfers that made the plan, too good to be true. The \
         predicted gain is with the cost of a cross-shard transfer that is among the parameters.",
    );
}

fn surroundings(page: &mut Page, report: &LocalityReport) {
    if let Some(known) = &report.parameters {
        let offered = Offered {
            workload: known.workload,
            mode: known.mode,
            clients: known.clients,
            batch: known.batch,
            settings: &known.settings,
        };
        let seconds = known.seconds;
        let until = || "until the file is done".to_owned();
        let more = vec![
            (
                "measured seconds",
                seconds.map_or_else(until, |s| s.to_string()),
            ),
            (
                match known.is_cost_measured {
                    true => "measured cross cost",
                    false => "cross cost, not measured",
                },
                format!("{:.2}", known.cross_cost),
            ),
            ("least gain", percent(Some(known.min_gain))),
        ];
        parameters(page, &offered, more);
    }
    if let Some(known) = &report.host {
        let before = report.before.as_ref();
        let started = before.and_then(|run| run.measured_from_unix_ns.as_deref());
        host(page, known, started);
    }
}
