//! `quorate-bench locality`: what does placement by who pays whom bring?
//!
//! ```text
//! prepare | load "before" | 42 short loads | load "held out" | plan | load "during" + moves | load "after" | verify
//!          \__ older window                 \__ newer window __/
//! ```
//! The short loads say what a cross-shard transfer costs (`cross_cost`); what the leaders count of them is in no window.
//!
//! The moves are a plan that the cluster keeps, carried out as `reshard apply` does it: it is in the history, and `undo`
//! brings the old map back.
//!
//! The plan is made on what the leaders counted during the first load and judged on the second, whose
//! payments it has not seen. The result is measured on payments that neither has seen. A recorded
//! file is split: its older half makes the plan, its newer half is the traffic after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use quorate_client::observe;
use quorate_client::reshard::begin::begin;
use quorate_client::reshard::cost::MeasuredCost;
use quorate_client::reshard::driver::{Driven, WATCH_BEFORE, drive};
use quorate_client::reshard::record::{Predicted, Record, Status};
use quorate_client::reshard::{AccountMove, ApplyOptions};
use quorate_client::reshard::{cost, shelf};
use quorate_planner::{
    Decision, GateOptions, LiveOptions, Observed, Plan, WeightedPair, plan_live,
};
use quorate_protocol::ids::{AccountId, ShardId};

use crate::args::LocalityArguments;
use crate::balance::{accounts_max_over_avg, load_max_over_avg};
use crate::cross_cost;
use crate::drive::{Measured, Mode, wall_clock_ns};
use crate::failure::Failure;
use crate::files::Files;
use crate::generator::{warn_after, warn_before};
use crate::host::Host;
use crate::html::locality_page;
use crate::link::Link;
use crate::locality_report::{Balance, LocalityReport, Parameters, PlanReport, StageReport};
use crate::output::{Document, HtmlFile, say};
use crate::payback::Payback;
use crate::reshard_report::ReshardReport;
use crate::run::{Bench, load_config};
use crate::select::{Part, Selection};
use crate::setup::{FUNDS, Funding};
use crate::verify::TIME_LIMIT;

/// Seconds of warm-up unless told otherwise. A cluster that has just begun is slow: memory is used for the first time, first
/// checkpoints are taken. Measured then, the load before the moves would make them gain what they do not.
const WARMUP: Duration = Duration::from_secs(10);
/// Seconds of the held-out load per second of the first one: the split of a backtest is 3 to 1.
const HELD_OUT_DIVISOR: u64 = 3;
/// A replayed file is paid over and over while accounts move; nobody may run out of money meanwhile.
const REPLAY_FUNDS_TIMES: u128 = 1_000;

/// Runs the command.
///
/// # Errors
/// Bad usage, a cluster that does not answer, a refused plan (exit code 3), accounts that could not
/// be moved, or a failed money check. Document and page are written in every case but the first.
pub fn locality(arguments: &LocalityArguments, stop: Arc<AtomicBool>) -> Result<(), Failure> {
    let config = load_config(&arguments.cluster.path)?;
    let selection = Selection::new(&arguments.workload, &config)?;
    let seconds = selection.trace().is_none().then_some(arguments.seconds);
    let mut bench = Bench::new(config, selection, &arguments.load, seconds, stop)?;
    if arguments.load.warmup.is_none() && bench.selection.trace().is_none() {
        bench.options.warmup = WARMUP;
    }
    let assumed = GateOptions::default();
    let gate = GateOptions {
        cross_cost: arguments.cross_cost.unwrap_or(assumed.cross_cost),
        min_gain: arguments.min_gain,
        ..assumed
    };
    let asked = Asked {
        gate,
        measures_cost: arguments.cross_cost.is_none(),
    };
    let mut document = Document::open(arguments.json.as_deref())?;
    let mut html = HtmlFile::open(arguments.html.as_deref())?;
    warn_before(&bench.config, bench.cpu);
    let mut link = Link::new(&bench.config);
    let mut report = LocalityReport {
        host: Some(Host::of(&bench.config)),
        parameters: Some(parameters(&bench, gate, seconds)),
        ..LocalityReport::default()
    };
    let result = stages(&bench, asked, &mut link, &mut report);
    let verify = link.verify(TIME_LIMIT);
    report.verify = Some(verify.clone());
    match &result {
        // A refusal is an answer; the plan says why.
        Ok(()) | Err(Failure::Refused(_)) => {}
        Err(failure) => report.error = Some(failure.to_string()),
    }
    let page = html.write(|| locality_page(&report));
    document.write(&report, |terminal| report.to_text(terminal))?;
    page?;
    result?;
    verify.into_result()
}

/// What a plan has to gain, by a cost that was told or is to be measured.
#[derive(Clone, Copy, Debug)]
struct Asked {
    gate: GateOptions,
    measures_cost: bool,
}

fn parameters(bench: &Bench, gate: GateOptions, seconds: Option<u64>) -> Parameters {
    Parameters {
        workload: bench.selection.name.name(),
        mode: bench.options.mode.name(),
        clients: bench.options.clients,
        batch: bench.options.batch,
        seconds,
        cross_cost: gate.cross_cost,
        is_cost_measured: gate.is_cost_measured,
        min_gain: gate.min_gain,
        settings: bench.settings(),
    }
}

/// All stages in order; what is known so far is in `report` also when one fails.
fn stages(
    bench: &Bench,
    asked: Asked,
    link: &mut Link,
    report: &mut LocalityReport,
) -> Result<(), Failure> {
    let shards = bench.config.shards;
    check_no_plan(link)?;
    bench.prepare(link, &funding(bench))?;
    reset(bench, link)?;

    let before = load(bench, "before", Part::Older, 0, 0)?;
    let mut drifted_ns = before.sent_ns;
    let older = window(bench, link)?;
    report.before = Some(bench.report(&before, link.verify(TIME_LIMIT)));
    check_stop(bench)?;
    let gate = gate(bench, link, asked, &before, report)?;
    report.parameters = Some(parameters(bench, gate, report_seconds(report)));
    check_stop(bench)?;

    let newer = match held_out(bench, link, drifted_ns)? {
        None => None,
        Some((measured, window)) => {
            drifted_ns += measured.sent_ns;
            report.held_out = Some(StageReport::of(&measured));
            Some(window)
        }
    };
    check_stop(bench)?;
    let placed = owners(bench, link)?;
    let plan = make_plan(bench, gate, &older, newer.as_ref(), &placed)?;
    let dropped = older.dropped + newer.as_ref().map_or(0, |window| window.dropped);
    report.plan = Some(PlanReport::of(&plan, dropped));
    let mut balance = Balance {
        load_before: load_max_over_avg(&older.pairs, &placed, shards),
        accounts_before: accounts_max_over_avg(&placed, shards),
        ..Balance::default()
    };
    report.compare(&plan, balance);
    if plan.decision == Decision::Refuse {
        return Err(Failure::Refused(plan.reason));
    }

    let (during, record) = move_under_load(bench, link, &plan, drifted_ns, report)?;
    drifted_ns += during.sent_ns;
    check_not_left(bench, &record)?;

    reset(bench, link)?;
    let after = load(bench, "after", Part::Newer, 3, drifted_ns)?;
    report.after = Some(bench.report(&after, link.verify(TIME_LIMIT)));
    report.payback = payback(bench, report);
    let placed = owners(bench, link)?;
    let window = window(bench, link)?;
    balance.load_after = Some(load_max_over_avg(&window.pairs, &placed, shards));
    balance.accounts_after = Some(accounts_max_over_avg(&placed, shards));
    report.compare(&plan, balance);
    check_stop(bench)?;
    check_complete(&record)
}

/// With the cost of a cross-shard transfer as this cluster has it, unless it was told or cannot be measured.
fn gate(
    bench: &Bench,
    link: &mut Link,
    asked: Asked,
    before: &Measured,
    report: &mut LocalityReport,
) -> anyhow::Result<GateOptions> {
    let measured = match asked.measures_cost {
        true => cross_cost::measure(bench, before)?,
        false => None,
    };
    let cost = measured.as_ref().and_then(|it| it.cost);
    report.cross_cost_loads = measured.map(|it| it.loads);
    Ok(match cost {
        Some(cross_cost) => {
            remember(link, cross_cost);
            GateOptions {
                cross_cost,
                is_cost_measured: true,
                ..asked.gate
            }
        }
        None => asked.gate,
    })
}

/// For the plans that `quorate reshard` makes later. One that cannot be kept is as if it had not been made.
fn remember(link: &mut Link, cross_cost: f64) {
    let cost = MeasuredCost {
        cross_cost,
        measured_unix_ns: wall_clock_ns(),
    };
    if let Err(error) = cost::remember(&mut link.client().catalog(shelf::SHARD), cost) {
        say(format_args!("warning: the cost is not kept: {error}"));
    }
}

fn report_seconds(report: &LocalityReport) -> Option<u64> {
    report.parameters.as_ref().and_then(|known| known.seconds)
}

fn funding(bench: &Bench) -> Funding {
    match bench.selection.trace() {
        None => Funding::Even(FUNDS),
        Some(draws) => Funding::outgoing(draws, REPLAY_FUNDS_TIMES),
    }
}

fn load(
    bench: &Bench,
    name: &'static str,
    part: Part,
    round: u32,
    drifted_ns: u64,
) -> anyhow::Result<Measured> {
    let (measured, _) = bench
        .job(name, part, round, drifted_ns)
        .run(Files::default())?;
    warn_after(&measured);
    Ok(measured)
}

/// A short load whose payments the plan will not have seen, and what it made the cluster count; `None`
/// for a recorded file, which has no third part to give.
fn held_out(
    bench: &Bench,
    link: &mut Link,
    drifted_ns: u64,
) -> anyhow::Result<Option<(Measured, Window)>> {
    let Some(seconds) = bench.options.seconds else {
        return Ok(None);
    };
    reset(bench, link)?;
    let mut job = bench.job("held out", Part::Whole, 1, drifted_ns);
    job.options.warmup = Duration::ZERO;
    job.options.seconds = Some(Duration::from_secs(
        (seconds.as_secs() / HELD_OUT_DIVISOR).max(1),
    ));
    let (measured, _) = job.run(Files::default())?;
    let window = window(bench, link)?;
    Ok(Some((measured, window)))
}

/// Committed pairs of all shards since the last reset.
#[derive(Debug)]
struct Window {
    pairs: Vec<WeightedPair>,
    /// Transfers that the leaders' bounded tables could not take.
    dropped: u64,
}

fn reset(bench: &Bench, link: &mut Link) -> anyhow::Result<()> {
    observe::reset(link.client(), bench.config.shard_ids()).context("resetting what was counted")
}

fn window(bench: &Bench, link: &mut Link) -> anyhow::Result<Window> {
    let counted = observe::counted(link.client(), bench.config.shard_ids())
        .context("reading what was counted")?;
    let dropped = counted.sum().dropped;
    Ok(Window {
        pairs: counted.pairs.into_iter().map(Into::into).collect(),
        dropped,
    })
}

/// The owner of every account; asked only while nothing moves.
fn owners(bench: &Bench, link: &mut Link) -> anyhow::Result<BTreeMap<AccountId, ShardId>> {
    let owners = observe::owners(link.client(), bench.config.shard_ids());
    owners
        .and_then(observe::Owners::unique)
        .context("listing the accounts")
}

fn make_plan(
    bench: &Bench,
    gate: GateOptions,
    older: &Window,
    newer: Option<&Window>,
    placed: &BTreeMap<AccountId, ShardId>,
) -> anyhow::Result<Plan> {
    let observed = match newer {
        None => Observed::OneWindow(&older.pairs),
        Some(newer) => Observed::TwoWindows {
            older: &older.pairs,
            newer: &newer.pairs,
        },
    };
    let options = LiveOptions {
        gate,
        seed: bench.selection.seed,
        moves_max: Some(shelf::MOVES_MAX),
        ..LiveOptions::default()
    };
    let plan = plan_live(observed, placed, bench.config.shards, &options).context("planning")?;
    say(format_args!("planned: {} moves", plan.moves.len()));
    Ok(plan)
}

/// Carries the plan out while the load goes on; the load ends with the last move.
fn move_under_load(
    bench: &Bench,
    link: &mut Link,
    plan: &Plan,
    drifted_ns: u64,
    report: &mut LocalityReport,
) -> anyhow::Result<(Measured, Record)> {
    let begun = begin_plan(bench, link, plan)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut job = bench.job("during", Part::OlderRepeated, 2, drifted_ns);
    // Who carries a plan out watches the leaders first: that is the load's start, and is not measured.
    job.options.warmup = job.options.warmup.max(WATCH_BEFORE);
    job.options.seconds = None;
    let warmup = job.options.warmup;
    job.stop = Arc::clone(&stop);
    let loading = thread::Builder::new()
        .name("during".to_owned())
        .spawn(move || job.run(Files::default()))
        .context("starting the load")?;
    sleep_until_stopped(warmup.saturating_sub(WATCH_BEFORE), &bench.stop);
    let carried_out = carry_out(bench, &begun, &stop);
    stop.store(true, Ordering::Relaxed);
    let measured = match loading.join() {
        Ok(result) => result.map(|(measured, _)| measured),
        Err(_) => Err(anyhow::anyhow!("the generator panicked")),
    };
    // What became of the accounts is told even if the load beside it failed.
    let driven = carried_out?;
    let load_from = measured.as_ref().ok().map(|it| it.measured_from_unix_ns);
    report.reshard = Some(ReshardReport::of(&driven.applied, driven.moving, load_from));
    let measured = measured?;
    report.during = Some(StageReport::of(&measured));
    Ok((measured, driven.record))
}

/// A stop is noticed within a tenth of a second.
fn sleep_until_stopped(time: Duration, stop: &AtomicBool) {
    let end = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

/// Keeps the plan in the cluster.
fn begin_plan(bench: &Bench, link: &mut Link, plan: &Plan) -> anyhow::Result<Record> {
    let planned = |step: &quorate_planner::plan::Move| AccountMove {
        account: step.account,
        source: step.source,
        target: step.target,
    };
    let moves: Vec<AccountMove> = plan.moves.iter().map(planned).collect();
    let predicted = Predicted {
        cross_shard_ratio: plan.cross_shard_ratio.backtest,
        load_max_over_avg: plan.load_max_over_avg.planned,
        accounts_max_over_avg: plan.accounts_max_over_avg,
        gain: plan.gate.predicted_gain.least(),
    };
    begin(link.client(), &bench.config, &moves, Some(predicted), None)
        .context("keeping the plan in the cluster")
}

/// Carries it out, and ends the load as soon as the last account has moved: what comes then, a listing and a check, is none
/// of the moves.
fn carry_out(bench: &Bench, begun: &Record, loading: &AtomicBool) -> anyhow::Result<Driven> {
    let mut told = |record: &Record| {
        if record.progress.settled() >= begun.moves {
            loading.store(true, Ordering::Relaxed);
        }
    };
    drive(
        &bench.config,
        ApplyOptions::default(),
        &bench.stop,
        &mut told,
    )
    .context("carrying the plan out")
}

/// When the moves are repaid, where the loads' throughput can tell; `None` before all are measured.
fn payback(bench: &Bench, report: &LocalityReport) -> Option<Payback> {
    let (before, during) = (report.before.as_ref()?, report.during.as_ref()?);
    let after = report.after.as_ref()?;
    Some(match bench.options.mode {
        Mode::Open { .. } => {
            Payback::unknown("an open loop offers its rate whatever a transfer costs")
        }
        Mode::Closed if bench.selection.trace().is_some() => {
            Payback::unknown("the two halves of a recorded file are different transfers")
        }
        Mode::Closed => Payback::of(before.into(), during.into(), after.into()),
    })
}

fn check_stop(bench: &Bench) -> Result<(), Failure> {
    if bench.stop.load(Ordering::Relaxed) {
        return Err(Failure::Other(anyhow::anyhow!("stopped by a signal")));
    }
    Ok(())
}

/// Nobody else may move accounts meanwhile, and one plan at a time is all that a cluster keeps: better said before the loads.
fn check_no_plan(link: &mut Link) -> Result<(), Failure> {
    let current = shelf::current(&mut link.client().catalog(shelf::SHARD));
    match current.context("reading the plan that the cluster keeps")? {
        Some(plan) if !plan.record.status.has_ended() => Err(Failure::Usage(format!(
            "plan {} of the cluster is {}: finish it with quorate reshard resume, or abort",
            plan.record.number,
            plan.record.status.name()
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_not_left(bench: &Bench, record: &Record) -> Result<(), Failure> {
    if !bench.stop.load(Ordering::Relaxed) || record.status.has_ended() {
        return check_stop(bench);
    }
    Err(Failure::Other(anyhow::anyhow!(
        "stopped by a signal with {} of {} accounts of plan {} moved: quorate reshard resume goes on, abort leaves it so",
        record.progress.moved,
        record.moves,
        record.number
    )))
}

fn check_complete(record: &Record) -> Result<(), Failure> {
    let progress = &record.progress;
    let astray = progress.elsewhere_before + progress.elsewhere + progress.refused;
    if record.status == Status::Done && astray == 0 {
        return Ok(());
    }
    let left = record.moves.saturating_sub(progress.moved) + progress.elsewhere_before;
    Err(Failure::Other(anyhow::anyhow!(
        "plan {} is {}: {left} accounts are not at their targets: {} given up, {} refused, {} elsewhere",
        record.number,
        record.status.name(),
        progress.given_up,
        progress.refused,
        progress.elsewhere + progress.elsewhere_before,
    )))
}
