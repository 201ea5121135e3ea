//! `reshard apply`: carries out a plan, or makes one now and carries it out.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Args;
use quorate_client::reshard::{AccountMove, Applied, ApplyOptions, apply};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_planner::{Decision, Plan};
use quorate_protocol::ids::AccountId;
use quorate_protocol::limits::MOVE_ACCOUNTS_MAX;
use serde_json::{Value, json};

use super::plan::{GateArgs, live};
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::say;
use crate::target::ClusterFile;
use crate::verify;

const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const VERIFY_WITHIN: Duration = Duration::from_secs(30);

/// Options of `reshard apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// A plan of `reshard plan -o`; without it a plan is made now
    #[arg(long, value_name = "plan.json")]
    pub plan: Option<PathBuf>,
    /// Accounts per move; only those in flight wait
    #[arg(long, default_value_t = ApplyOptions::default().batch_max, value_name = "N", value_parser = parse_batch)]
    pub batch: usize,
    #[command(flatten)]
    pub gate: GateArgs,
}

/// Moves, verifies the money, prints what became of every account.
pub fn run(args: &ApplyArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let plan = match &args.plan {
        Some(path) => read(path, &config)?,
        None => live(&config, args.gate)?,
    };
    if plan.decision == Decision::Refuse {
        return Err(Failure::Refused(format!("refused: {}", plan.reason)));
    }
    let start = Instant::now();
    let applied = carry_out(&plan, &config, args.batch);
    let seconds = start.elapsed().as_secs_f64();
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let report = client.verify(VERIFY_WITHIN).map_err(anyhow::Error::from)?;
    let mut document = document(&applied, seconds);
    document["verify"] = verify::document(&report);
    context
        .output
        .print(&document, || people(&applied, seconds, report.ok))?;
    if !report.ok {
        return Err(Failure::CheckFailed(report.problems.join("; ")));
    }
    match applied.is_complete() {
        true => Ok(()),
        false => Err(anyhow!(
            "{} of {} accounts are not at their target; the plan may be applied again",
            applied.planned - applied.moved - applied.already_there,
            applied.planned
        )
        .into()),
    }
}

fn read(path: &Path, config: &ClusterConfig) -> Result<Plan, Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| path.display().to_string())
        .map_err(Failure::Usage)?;
    let plan = Plan::from_json(&text)
        .with_context(|| path.display().to_string())
        .map_err(Failure::Usage)?;
    if plan.shards != config.shards {
        return Err(Failure::usage(format!(
            "{}: shards: {} in the plan, {} in the cluster",
            path.display(),
            plan.shards,
            config.shards
        )));
    }
    Ok(plan)
}

fn carry_out(plan: &Plan, config: &ClusterConfig, batch_max: usize) -> Applied {
    let moves: Vec<AccountMove> = plan
        .moves
        .iter()
        .map(|planned| AccountMove {
            account: planned.account,
            source: planned.source,
            target: planned.target,
        })
        .collect();
    let options = ApplyOptions {
        batch_max,
        ..ApplyOptions::default()
    };
    let told = Mutex::new(Instant::now());
    let progress = |applied: &Applied| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= PROGRESS_EVERY {
            *told = Instant::now();
            say(format_args!(
                "{} of {} accounts settled, {} retries",
                applied.settled(),
                applied.planned,
                applied.retries
            ));
        }
    };
    let connect = |_source| {
        Ok::<_, std::convert::Infallible>(BlockingClient::connect(config, ClientOptions::default()))
    };
    match apply(&moves, options, connect, progress) {
        Ok(applied) => applied,
        Err(never) => match never {},
    }
}

fn document(applied: &Applied, seconds: f64) -> Value {
    let ids = |list: &[AccountId]| list.iter().map(AccountId::to_string).collect::<Vec<_>>();
    json!({
        "planned": applied.planned,
        "moved": applied.moved,
        "already_there": applied.already_there,
        "elsewhere": ids(&applied.elsewhere),
        "given_up": ids(&applied.given_up),
        "refused": ids(&applied.refused),
        "batches": applied.batches.len(),
        "retries": applied.retries,
        "seconds": seconds,
        "freeze_us": applied.freeze_quantiles_ns().map(|(p50, p99, max)| json!({
            "p50": p50 / 1000,
            "p99": p99 / 1000,
            "max": max / 1000,
        })),
    })
}

fn people(applied: &Applied, seconds: f64, money_ok: bool) -> String {
    let mut text = format!(
        "moved {} of {} accounts in {seconds:.1} s, {} were there already, {} retries",
        applied.moved, applied.planned, applied.already_there, applied.retries
    );
    if let Some((p50, p99, max)) = applied.freeze_quantiles_ns() {
        let us = |ns: u64| ns / 1000;
        let (p50, p99, max) = (us(p50), us(p99), us(max));
        text +=
            &format!("\nan account was frozen for {p50} us (p50), {p99} us (p99), {max} us (max)");
    }
    for (what, list) in [
        ("elsewhere", &applied.elsewhere),
        ("given up", &applied.given_up),
        ("refused", &applied.refused),
    ] {
        if !list.is_empty() {
            text += &format!(
                "\n{what}: {} accounts, the first one {}",
                list.len(),
                list[0]
            );
        }
    }
    text + match money_ok {
        true => "\nmoney check: ok",
        false => "\nmoney check: FAILED",
    }
}

fn parse_batch(text: &str) -> Result<usize, String> {
    let batch = text.parse::<usize>().map_err(|error| error.to_string())?;
    match (1..=MOVE_ACCOUNTS_MAX).contains(&batch) {
        true => Ok(batch),
        false => Err(format!("{batch} is not between 1 and {MOVE_ACCOUNTS_MAX}")),
    }
}
