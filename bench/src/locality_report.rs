//! The document and the table of `locality`: before, predicted, achieved.

use comfy_table::CellAlignment;
use serde::Serialize;

use quorate_client::reshard::Applied;
use quorate_planner::plan::{BacktestMethod, CrossShardRatio, Decision, LoadBalance, Method, Plan};

use crate::drive::Measured;
use crate::report::{
    LatencyUs, RunReport, grouped, grouped_f64, millis, per_second, percent, table, us,
};
use crate::verify::VerifyReport;

/// The whole document; a stage that was not reached is `null`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LocalityReport {
    pub before: Option<RunReport>,
    pub after: Option<RunReport>,
    pub reshard: Option<ReshardReport>,
    pub verify: Option<VerifyReport>,
    pub plan: Option<PlanReport>,
    pub during: Option<DuringReport>,
    pub cross_shard_ratio: Stages,
    pub load_max_over_avg: Stages,
    pub accounts_max_over_avg: Stages,
    /// Why it did not come to its end.
    pub error: Option<String>,
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

/// How the moves went.
#[derive(Clone, Debug, Serialize)]
pub struct ReshardReport {
    pub planned: u64,
    pub moved: u64,
    pub seconds: f64,
    /// How long an account admitted nothing; per account.
    pub freeze_us: FreezeUs,
    pub retries: u64,
    pub already_there: u64,
    pub given_up: usize,
    pub refused: usize,
    pub elsewhere: usize,
}

/// Freeze times in microseconds; `null` if nothing moved.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FreezeUs {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub max: Option<f64>,
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
    pub cross_shard_ratio: CrossShardRatio,
    pub load_max_over_avg: LoadBalance,
    pub accounts_max_over_avg: f64,
    pub hubs: usize,
    pub moves: usize,
}

/// The load that went on while accounts moved.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DuringReport {
    pub seconds: f64,
    pub committed: u64,
    pub rejected: u64,
    pub unknown: u64,
    pub throughput_tps: f64,
    pub latency_us: LatencyUs,
}

impl ReshardReport {
    /// The outcome of carrying a plan out.
    #[must_use]
    pub fn of(applied: &Applied, seconds: f64) -> Self {
        let freeze = applied.freeze_quantiles_ns();
        Self {
            planned: applied.planned,
            moved: applied.moved,
            seconds,
            freeze_us: FreezeUs {
                p50: freeze.map(|(p50, _, _)| us(p50)),
                p99: freeze.map(|(_, p99, _)| us(p99)),
                max: freeze.map(|(_, _, max)| us(max)),
            },
            retries: applied.retries,
            already_there: applied.already_there,
            given_up: applied.given_up.len(),
            refused: applied.refused.len(),
            elsewhere: applied.elsewhere.len(),
        }
    }
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
            cross_shard_ratio: plan.cross_shard_ratio,
            load_max_over_avg: plan.load_max_over_avg,
            accounts_max_over_avg: plan.accounts_max_over_avg,
            hubs: plan.hubs.len(),
            moves: plan.moves.len(),
        }
    }
}

impl DuringReport {
    /// What a load measured.
    #[must_use]
    pub fn of(measured: &Measured) -> Self {
        let tally = measured.recorder.tally();
        let seconds = us(measured.measured_ns) / 1e6;
        Self {
            seconds,
            committed: tally.committed(),
            rejected: tally.refused(),
            unknown: tally.unknown,
            throughput_tps: per_second(tally.committed(), seconds),
            latency_us: LatencyUs::of(&measured.recorder.all()),
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
        let factor = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
        };
        for (name, figure, show) in [
            (
                "cross-shard ratio",
                self.cross_shard_ratio,
                &percent as &dyn Fn(_) -> _,
            ),
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
        stages.add_row(row("transfers/s", &|run| grouped_f64(run.throughput_tps)));
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
            lines.push(format!("plan: {}", plan.reason));
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
                during.rejected,
                during.unknown,
            ));
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
