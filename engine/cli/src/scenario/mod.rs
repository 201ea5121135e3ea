//! `quorate scenario`: sets of transfers, balance reads and failing nodes from a file, on real processes.
//!
//! ```text
//! file -> Scenario -> for each set:  cluster (fresh) -> bank (accounts, money) -> crew (rows)
//!                                    -> settled view, verify -> stop -> disk (every replica's files)
//!                                    -> log, figures, reshard -> report
//! ```
//!
//! What only computes (`phases`, `figures`, `log`, `reshard`, `report`) knows no processes.

mod bank;
mod cluster;
mod crew;
mod disk;
mod figures;
mod log;
mod phases;
mod report;
mod reshard;
mod run;
mod set;
mod text;

use clap::Subcommand;

use crate::Context;
use crate::failure::Outcome;

/// What to do with scenarios.
#[derive(Subcommand, Debug)]
pub enum ScenarioCommand {
    /// Run the sets of a file one by one, each on fresh nodes of this host, and show what became of them
    #[command(after_help = run::DOCUMENT)]
    Run(run::RunArgs),
}

/// Runs the command.
pub fn run(command: ScenarioCommand, context: Context) -> Outcome {
    match command {
        ScenarioCommand::Run(args) => run::run(&args, context),
    }
}
