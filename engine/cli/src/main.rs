//! The `quorate` command: parse, check, run, exit code.
//!
//! Each command is one file: its options as clap sees them, and a `run` that checks them and does
//! the work. With `--json` stdout holds exactly one document; logs and notices go to stderr.

#![forbid(unsafe_code)]

mod account;
mod cluster;
mod completions;
mod demo;
mod doctor;
mod failure;
mod inspect;
mod interrupt;
mod local;
mod logging;
mod moment;
mod node_process;
mod ports;
mod print;
#[cfg(test)]
mod reference;
mod reshard;
mod result_codes;
mod scenario;
mod scratch;
mod server;
mod status;
mod target;
mod top;
mod transfer;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

use crate::failure::Outcome;
use crate::logging::LogFormat;
use crate::print::Output;

/// A sharded, replicated, strictly serializable ledger.
///
/// Exit codes: 0 success; 2 bad usage or input; 3 refused by a gate; 4 a check failed;
/// 10-19 a server's environment fault; 1 anything else.
#[derive(Parser, Debug)]
#[command(
    name = "quorate",
    version,
    propagate_version = true,
    max_term_width = 100
)]
struct Cli {
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    json: bool,
    /// How log lines on stderr look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// What is the same for every command.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    pub output: Output,
    pub log_format: LogFormat,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a topology file; start, stop and disturb the nodes of this host
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Run one node in the foreground
    Server(server::ServerArgs),
    /// Show every replica: role, ballot, positions, what it holds
    Status(status::StatusArgs),
    /// Watch the whole cluster on one screen, until `q`
    Top(top::TopArgs),
    /// Create and show accounts, and what happened to them
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Move money from one account to another, once; or show a transfer
    Transfer(transfer::TransferArgs),
    /// Check the money, the replicas and the owners at a consistent cut, under load
    Verify(verify::VerifyArgs),
    /// Place accounts by who pays whom
    #[command(subcommand)]
    Reshard(reshard::ReshardCommand),
    /// Look at logs and open transactions
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Run the main job here: load, place accounts by who pays whom, load again
    Demo(demo::DemoArgs),
    /// Run scenario files: transfers, reads and failing nodes, as a table
    #[command(subcommand)]
    Scenario(scenario::ScenarioCommand),
    /// Tell what this host lacks for running nodes, before one of them ends for it
    Doctor(doctor::DoctorArgs),
    /// Print every result code, in checking order
    ResultCodes,
    /// Print what makes a shell complete the words of this command
    Completions(completions::CompletionsArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // A reader that closed the pipe early is no failure.
            let _ = error.print();
            return if asked {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            };
        }
    };
    let context = Context {
        output: if cli.json {
            Output::Machine
        } else {
            Output::People
        },
        log_format: cli.log_format,
    };
    // A server tells what it does; the other commands only what went wrong.
    let level = match cli.command {
        Command::Server(_) => LevelFilter::INFO,
        _ => LevelFilter::WARN,
    };
    logging::start(cli.log_format, level);
    match run(cli.command, context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command, context: Context) -> Outcome {
    match command {
        Command::Cluster(command) => cluster::run(command, context),
        Command::Server(args) => server::run(&args),
        Command::Status(args) => status::run(&args, context),
        Command::Top(args) => top::run(&args, context),
        Command::Account(command) => account::run(command, context),
        Command::Transfer(args) => transfer::run(&args, context),
        Command::Verify(args) => verify::run(&args, context),
        Command::Reshard(command) => reshard::run(command, context),
        Command::Inspect(command) => inspect::run(command, context),
        Command::Demo(args) => demo::run(&args, context),
        Command::Scenario(command) => scenario::run(command, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::ResultCodes => result_codes::run(context),
        Command::Completions(args) => completions::run(args, context),
    }
}
