//! `quorate reshard`: plans a placement that follows the money, and carries it out while serving.
//!
//! Planning runs in this process, never in a server: METIS takes over signal handlers and draws
//! from the C library's process-wide generator.

mod apply;
mod course;
mod plan;

use clap::Subcommand;

use crate::Context;
use crate::failure::Outcome;

/// What to do about the placement.
#[derive(Subcommand, Debug)]
pub enum ReshardCommand {
    /// Compute a placement, say what it would gain, and refuse if that is too little
    Plan(plan::PlanArgs),
    /// Move the accounts of a plan while the cluster serves
    Apply(apply::ApplyArgs),
}

/// Runs the command.
pub fn run(command: ReshardCommand, context: Context) -> Outcome {
    match command {
        ReshardCommand::Plan(args) => plan::run(&args, context),
        ReshardCommand::Apply(args) => apply::run(&args, context),
    }
}
