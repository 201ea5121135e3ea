//! `reshard apply`: carries out a plan, or makes one now and carries it out.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_planner::{Decision, Plan};

use super::begin::begin;
use super::drive::{self, DriveArgs};
use super::plan::{Budget, GateArgs, live};
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::target::ClusterFile;

/// Options of `reshard apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// A plan of `reshard plan -o`; without it a plan is made now
    #[arg(long, value_name = "plan.json", conflicts_with = "GateArgs")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub drive: DriveArgs,
    #[command(flatten)]
    pub gate: GateArgs,
}

/// Keeps the plan in the cluster and carries it out; should this process end early, `resume` goes on.
pub fn run(args: &ApplyArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let plan = match &args.plan {
        Some(path) => read(path, &config)?,
        None => live(&config, args.gate, Budget::Unbounded)?,
    };
    if plan.decision == Decision::Refuse {
        return Err(Failure::Refused(format!("refused: {}", plan.reason)));
    }
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    begin(&mut client, &config, &plan).map_err(|failure| match (failure, &args.plan) {
        (Failure::Usage(error), Some(path)) => {
            Failure::Usage(error.context(path.display().to_string()))
        }
        (failure, _) => failure,
    })?;
    drive::run(&config, args.drive, context)
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
