//! `quorate inspect`: what is inside, offline from files and online from replicas.

mod in_doubt;
mod log_scan;
mod txn;

use clap::Subcommand;

pub use log_scan::attempt_document;

use crate::Context;
use crate::failure::Outcome;

/// What to look at.
#[derive(Subcommand, Debug)]
pub enum InspectCommand {
    /// Show every log record of a transfer or a move, and what took effect
    Txn(txn::TxnArgs),
    /// Show what is prepared and not decided, at every replica
    InDoubt(in_doubt::InDoubtArgs),
}

/// Runs the command.
pub fn run(command: InspectCommand, context: Context) -> Outcome {
    match command {
        InspectCommand::Txn(args) => txn::run(&args, context),
        InspectCommand::InDoubt(args) => in_doubt::run(&args, context),
    }
}
