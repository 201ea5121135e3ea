//! `quorate reshard`: plans a placement that follows the money, and carries it out while serving.
//!
//! Planning runs in this process, never in a server: METIS takes over signal handlers and draws
//! from the C library's process-wide generator. It also prints to C's stdout now and then, which must
//! carry one document and nothing else: these commands keep stdout for themselves. The plan that is carried out is kept
//! by the cluster, so that any of them can go on where another has ended.

mod apply;
mod auto;
mod begin;
mod control;
mod course;
mod drive;
mod observe;
mod plan;
mod report;
mod show;

use clap::Subcommand;

use crate::Context;
use crate::failure::Outcome;
use crate::print::keep_stdout;

/// What to do about the placement.
#[derive(Subcommand, Debug)]
pub enum ReshardCommand {
    /// Print what the leaders have counted: who pays whom, how often, and across shards or not
    Observe(observe::ObserveArgs),
    /// Compute a placement, say what it would gain, and refuse if that is too little
    Plan(plan::PlanArgs),
    /// Move the accounts of a plan while the cluster serves
    Apply(apply::ApplyArgs),
    /// Print how far the plan of now is, or how the last one ended
    Status(control::ControlArgs),
    /// Let moves stop behind those under way
    Pause(control::ControlArgs),
    /// Go on with a plan that is paused, or whose tool has died
    Resume(control::ResumeArgs),
    /// End the plan of now; what has moved stays where it is
    Abort(control::ControlArgs),
    /// Bring back what a plan has moved
    Undo(control::UndoArgs),
    /// Print the plans that the cluster remembers
    History(control::ControlArgs),
    /// Print what the last plan promised and what it achieved
    Report(report::ReportArgs),
    /// Plan now and then, and carry out what pays
    Auto(auto::AutoArgs),
}

/// Runs the command.
pub fn run(command: ReshardCommand, context: Context) -> Outcome {
    keep_stdout()?;
    match command {
        ReshardCommand::Observe(args) => observe::run(&args, context),
        ReshardCommand::Plan(args) => plan::run(&args, context),
        ReshardCommand::Apply(args) => apply::run(&args, context),
        ReshardCommand::Status(args) => control::status(&args, context),
        ReshardCommand::Pause(args) => control::pause(&args, context),
        ReshardCommand::Resume(args) => control::resume(&args, context),
        ReshardCommand::Abort(args) => control::abort(&args, context),
        ReshardCommand::Undo(args) => control::undo(&args, context),
        ReshardCommand::History(args) => control::history(&args, context),
        ReshardCommand::Report(args) => report::run(&args, context),
        ReshardCommand::Auto(args) => auto::run(&args, context),
    }
}
