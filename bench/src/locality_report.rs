//! The document and the table of `locality`: before, predicted, achieved.

use std::collections::BTreeMap;

use comfy_table::CellAlignment;
use serde::Serialize;

use quorate_planner::plan::{
    BacktestMethod, CrossShardRatio, Decision, Gate, LoadBalance, Method, Plan,
};

use crate::cross_cost::CrossCostLoads;
use crate::drive::Measured;
use crate::figures::{factor, grouped, grouped_f64, millis, per_second, percent, seconds, table};
use crate::host::Host;
use crate::payback::Payback;
use crate::recorder::Class;
use crate::report::{ClassReport, LatencyUs, RunReport, SeriesRow, Settings, rejections};
use crate::reshard_report::{FreezeUs, ReshardReport};
use crate::verify::VerifyReport;

/// The whole document; a stage that was not reached is `null`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LocalityReport {
    pub before: Option<RunReport>,
    pub after: Option<RunReport>,
    pub reshard: Option<ReshardReport>,
    pub verify: Option<VerifyReport>,
    pub plan: Option<PlanReport>,
    /// The loads in turn by which the cost of a cross-shard transfer was measured.
    pub cross_cost_loads: Option<CrossCostLoads>,
    /// The load that the plan was judged on; `null` for a recorded file, too.
    pub held_out: Option<StageReport>,
    /// The load beside the moves.
    pub during: Option<StageReport>,
    pub cross_shard_ratio: Stages,
    /// Committed transfers a second; predicted by the gate's cost of cross-shard transfers.
    pub throughput_tps: Stages,
    pub load_max_over_avg: Stages,
    pub accounts_max_over_avg: Stages,
    pub payback: Option<Payback>,
    pub host: Option<Host>,
    pub parameters: Option<Parameters>,
    /// Why it did not come to its end.
    pub error: Option<String>,
}

/// What fixes the work of all stages.
#[derive(Clone, Debug, Serialize)]
pub struct Parameters {
    pub workload: &'static str,
    pub mode: &'static str,
    pub clients: usize,
    pub batch: usize,
    /// Measured seconds before the moves, and again after them; `null`: until the file is done.
    pub seconds: Option<u64>,
    /// Cost of a cross-shard transfer for the plan, a local one being 1.
    pub cross_cost: f64,
    /// Whether it was measured by loads beforehand, or told or assumed.
    pub is_cost_measured: bool,
    /// Least predicted gain of throughput that is worth the moves.
    pub min_gain: f64,
    pub settings: Settings,
}

/// One figure as it was, as the plan said it would be, and as it turned out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Stages {
    pub before: Option<f64>,
    pub predicted: Option<f64>,
    pub achieved: Option<f64>,
}

/// Balance measured from what the leaders counted and from who owns what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Balance {
    pub load_before: f64,
    pub accounts_before: f64,
    pub load_after: Option<f64>,
    pub accounts_after: Option<f64>,
}

/// The plan without its moves.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    pub decision: Decision,
    pub reason: String,
    pub method: Method,
    pub backtest_method: BacktestMethod,
    pub transfers_planned_on: u64,
    pub transfers_scored_on: u64,
    /// Transfers that the leaders' tables could not take.
    pub telemetry_dropped: u64,
    pub gate: Gate,
    pub cross_shard_ratio: CrossShardRatio,
    pub load_max_over_avg: LoadBalance,
    pub accounts_max_over_avg: f64,
    pub hubs: usize,
    pub moves: usize,
}

/// A load between others, without a money check of its own; its keys are those of a run.
#[derive(Clone, Debug, Serialize)]
pub struct StageReport {
    pub measured_from_unix_ns: String,
    pub seconds: f64,
    pub committed: u64,
    pub rejected: BTreeMap<&'static str, u64>,
    pub unknown: u64,
    pub dropped: u64,
    pub throughput_tps: f64,
    pub cross_shard_ratio: Option<f64>,
    pub latency_us: LatencyUs,
    pub local: ClassReport,
    pub cross: ClassReport,
    pub series: Vec<SeriesRow>,
    pub generator_cpu: f64,
}

impl PlanReport {
    /// What a plan says of itself.
    #[must_use]
    pub fn of(plan: &Plan, telemetry_dropped: u64) -> Self {
        Self {
            decision: plan.decision,
            reason: plan.reason.clone(),
            method: plan.method,
            backtest_method: plan.backtest_method,
            transfers_planned_on: plan.transfers_planned_on,
            transfers_scored_on: plan.transfers_scored_on,
            telemetry_dropped,
            gate: plan.gate,
            cross_shard_ratio: plan.cross_shard_ratio,
            load_max_over_avg: plan.load_max_over_avg,
            accounts_max_over_avg: plan.accounts_max_over_avg,
            hubs: plan.hubs.len(),
            moves: plan.moves.len(),
        }
    }
}

impl StageReport {
    /// What a load measured.
    #[must_use]
    pub fn of(measured: &Measured) -> Self {
        let recorder = &measured.recorder;
        let tally = recorder.tally();
        let seconds = seconds(measured.measured_ns);
        Self {
            measured_from_unix_ns: measured.measured_from_unix_ns.to_string(),
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
            series: recorder.series().iter().map(SeriesRow::of).collect(),
            generator_cpu: measured.generator_cpu,
        }
    }
}

impl LocalityReport {
    /// Puts the three stages of each figure side by side, as far as they are known.
    pub fn compare(&mut self, plan: &Plan, balance: Balance) {
        let measured = |run: &Option<RunReport>| run.as_ref().and_then(|run| run.cross_shard_ratio);
        self.cross_shard_ratio = Stages {
            before: measured(&self.before),
            predicted: Some(plan.cross_shard_ratio.backtest),
            achieved: measured(&self.after),
        };
        let throughput = |run: &Option<RunReport>| run.as_ref().map(|run| run.throughput_tps);
        let before = throughput(&self.before);
        self.throughput_tps = Stages {
            before,
            predicted: before.map(|before| before * (1.0 + plan.gate.predicted_gain.least())),
            achieved: throughput(&self.after),
        };
        self.load_max_over_avg = Stages {
            before: Some(balance.load_before),
            predicted: Some(plan.load_max_over_avg.planned),
            achieved: balance.load_after,
        };
        self.accounts_max_over_avg = Stages {
            before: Some(balance.accounts_before),
            predicted: Some(plan.accounts_max_over_avg),
            achieved: balance.accounts_after,
        };
    }

    /// The table that people read.
    #[must_use]
    pub fn to_text(&self, terminal: bool) -> String {
        let mut stages = table(terminal);
        stages.set_header(["", "before", "predicted", "achieved"]);
        for (name, figure, show) in [
            (
                "cross-shard ratio",
                self.cross_shard_ratio,
                &percent as &dyn Fn(_) -> _,
            ),
            ("transfers/s", self.throughput_tps, &|tps: Option<f64>| {
                tps.map_or("-".to_owned(), grouped_f64)
            }),
            ("load max/avg", self.load_max_over_avg, &factor),
            ("accounts max/avg", self.accounts_max_over_avg, &factor),
        ] {
            let cells = [figure.before, figure.predicted, figure.achieved].map(show);
            stages.add_row([name.to_owned()].into_iter().chain(cells));
        }
        let runs = [&self.before, &self.after];
        let row = |name: &str, show: &dyn Fn(&RunReport) -> String| {
            let cell = |run: &Option<RunReport>| run.as_ref().map_or("-".to_owned(), show);
            let [before, after] = runs.map(cell);
            [name.to_owned(), before, String::new(), after]
        };
        stages.add_row(row("p50 ms", &|run| millis(run.latency_us.p50)));
        stages.add_row(row("p99 ms", &|run| millis(run.latency_us.p99)));
        stages.add_row(row("p99.9 ms", &|run| millis(run.latency_us.p999)));
        stages.add_row(row("unknown", &|run| grouped(run.unknown)));
        for column in stages.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut lines = vec![stages.to_string(), String::new()];
        lines.extend(self.sentences());
        lines.join("\n")
    }

    fn sentences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(plan) = &self.plan {
            let name = match plan.decision {
                Decision::Apply => "plan",
                Decision::Refuse => "plan refused",
            };
            lines.push(format!("{name}: {}", plan.reason));
        }
        if let Some(reshard) = &self.reshard {
            let FreezeUs { p50, p99, max } = reshard.freeze_us;
            lines.push(format!(
                "moved {} of {} accounts in {:.1} s, frozen for {} / {} / {} ms (p50 / p99 / max), {} retries",
                grouped(reshard.moved),
                grouped(reshard.planned),
                reshard.seconds,
                millis(p50),
                millis(p99),
                millis(max),
                reshard.retries,
            ));
        }
        if let Some(during) = &self.during {
            lines.push(format!(
                "during the moves: {} transfers/s, p50 {} ms, p99 {} ms, {} rejected, {} unknown",
                grouped_f64(during.throughput_tps),
                millis(during.latency_us.p50),
                millis(during.latency_us.p99),
                rejections(&during.rejected),
                during.unknown,
            ));
        }
        if let Some(payback) = &self.payback {
            lines.push(format!("payback: {}", payback.to_text()));
        }
        if let Some(verify) = &self.verify {
            lines.push(format!("money check: {}", verify.to_text()));
        }
        if let Some(error) = &self.error {
            lines.push(format!("ended early: {error}"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reshard_report::tests::{applied, times};

    /// The keys of `demo` in the contract, which passes this document on.
    #[test]
    fn the_document_has_the_keys_of_the_contract() {
        let report = LocalityReport {
            reshard: Some(ReshardReport::of(&applied(), times(), None)),
            verify: Some(VerifyReport::unavailable("nobody was asked".to_owned())),
            ..LocalityReport::default()
        };
        let document = serde_json::to_value(&report).unwrap();
        for key in ["before", "after", "reshard", "verify"] {
            assert!(document.get(key).is_some(), "{key} is missing");
        }
        for key in ["moved", "seconds", "freeze_us"] {
            assert!(document["reshard"].get(key).is_some(), "{key} is missing");
        }
    }

    #[test]
    fn a_stage_that_was_not_reached_is_shown_as_such() {
        let report = LocalityReport {
            error: Some("stopped by a signal".to_owned()),
            cross_shard_ratio: Stages {
                before: Some(0.667),
                predicted: Some(0.07),
                achieved: None,
            },
            payback: Some(Payback::unknown("an open loop")),
            ..LocalityReport::default()
        };
        let text = report.to_text(false);
        for part in [
            "66.7 %",
            "7.0 %",
            "payback: not known: an open loop",
            "ended early: stopped by a signal",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
