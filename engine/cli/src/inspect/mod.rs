//! `quorate inspect`: what is inside, offline from files and online from replicas.
//!
//! `wal`, `checkpoint`, `segments` and `account` read directories on which nothing runs, `txn` reads logs
//! beside whatever runs and so does `log`, `in-doubt`, `ballots` and `map` ask replicas.

mod account;
mod ballots;
mod checkpoint;
mod generations;
mod in_doubt;
mod log;
mod log_files;
mod log_scan;
mod map;
mod segments;
pub mod stopped;
mod txn;
mod wal;

use clap::Subcommand;

pub use log_scan::attempt_document;

use crate::Context;
use crate::failure::Outcome;

/// What to look at.
#[derive(Subcommand, Debug)]
pub enum InspectCommand {
    /// Show what replicas have accepted, slot by slot, from the logs of this host
    #[command(after_help = LOG_DOCUMENT)]
    Log(log::LogArgs),
    /// Show every log record of a transfer or a move, and what took effect
    Txn(txn::TxnArgs),
    /// Show what is prepared and not decided, at every replica
    InDoubt(in_doubt::InDoubtArgs),
    /// Show who leads by which ballot, as every replica sees it
    #[command(after_help = BALLOTS_DOCUMENT)]
    Ballots(ballots::BallotsArgs),
    /// Show which accounts are not at their default homes
    #[command(after_help = MAP_DOCUMENT)]
    Map(map::MapArgs),
    /// Show the segments of a stopped replica's log, what is damaged, and how the log ends
    #[command(after_help = WAL_DOCUMENT)]
    Wal(wal::WalArgs),
    /// Show both checkpoints of a stopped replica, and which one a start would use
    #[command(after_help = CHECKPOINT_DOCUMENT)]
    Checkpoint(checkpoint::CheckpointArgs),
    /// Show every data file of a stopped replica's store
    #[command(after_help = SEGMENTS_DOCUMENT)]
    Segments(segments::SegmentsArgs),
    /// Show an account as a stopped replica's newest checkpoint has it, and its history on disk
    #[command(after_help = ACCOUNT_DOCUMENT)]
    Account(account::AccountArgs),
}

const LOG_DOCUMENT: &str = r#"Of each slot the entry with the highest ballot that the replica has. Beside a running node, what is being written may
be missed.

With --json: {"logs":[{"shard","replica","node","promised","chosen_upto","slots":[{"slot","known_chosen",
"ballot","origin","timestamp","bytes","records":{"account|transfer|prepared|commit|..":rows},
"segment","offset"}],"unreadable":[..]}]}"#;

const BALLOTS_DOCUMENT: &str = r#"Exit code 1 if a replica does not answer.

With --json: {"ballots":[{"shard","replica","node","role","ballot","leader","serving","no_answer"}]}"#;

const MAP_DOCUMENT: &str = r#"With --json: {"placement","accounts","shards":[{"shard","owned","from_elsewhere","gone"}],
"exceptions":[{"account","home","shard"}]}"#;

const WAL_DOCUMENT: &str = r#"Nothing is written. Exit code 3 if a process runs on a directory, 4 if something is damaged.

With --json: {"replicas":[{"shard","replica","node","directory","cluster","genesis",
"segments":[{"segment","number","used":"written|ready|free|unknown","header","frames","promises",
"accepted","watermarks","end_markers","frames_beyond_end","bytes_used","payload_bytes",
"slot_first","slot_last","promised","chosen_upto","unreadable":[..],"unreadable_more"}],
"error","frames","promised","chosen_upto","slots","slot_last",
"tail":{"row","clean","segment","offset","frame"},
"damage":[{"row","segment","offset","lost":{"kind","slot","ballot"},"harm"}],"damage_unlisted",
"start"}],"not_read":[{"directory","reason"}]}"#;

const CHECKPOINT_DOCUMENT: &str = r#"Nothing is written. Exit code 3 if a process runs on a directory, 4 if something is damaged.

With --json: {"replicas":[{"shard","replica","node","directory","cluster","genesis",
"row","used","log_needed_from","manifests":[{"file","state":"readable|absent|damaged","error",
"number","slot","accounts_live","history_next","history":{"first","end"},
"files":[{"file","blocks","content","live"}],
"mark":{"slot","highest_origin","digest","side"}}],"damage":[..]}],
"not_read":[{"directory","reason"}]}"#;

const SEGMENTS_DOCUMENT: &str = r#"Nothing is written. Exit code 3 if a process runs on a directory, 4 if something is damaged.

With --json: {"replicas":[{"shard","replica","node","directory","cluster","genesis",
"files":[{"file","kind":"accounts|history|side","number","bytes","blocks","content",
"sections":[{"section","first","blocks","rows"}],"history":{"first","id_min","id_max"},"live",
"listed_by":[checkpoint,..],"blocks_damaged","damage":[..]}],"unlisted","verified",
"damage":[..]}],"not_read":[{"directory","reason"}]}"#;

const ACCOUNT_DOCUMENT: &str = r#"Nothing is written. Exit code 3 if a process runs on a directory, 4 if something is damaged.

With --json: {"replicas":[{"shard","replica","node","directory","cluster","genesis",
"id","checkpoint","slot","account":{as in `account show`,"version","id_max","last",
"place":{"file","block","offset"}},"history":[{"position","slot","id","side":"debit|credit",
"other","amount","ledger","code","user_data","commit_ts","applied_ts","coordinator","before"}],
"history_next","damage":[..]}],"not_read":[{"directory","reason"}]}"#;

/// Runs the command.
pub fn run(command: InspectCommand, context: Context) -> Outcome {
    match command {
        InspectCommand::Log(args) => log::run(&args, context),
        InspectCommand::Txn(args) => txn::run(&args, context),
        InspectCommand::InDoubt(args) => in_doubt::run(&args, context),
        InspectCommand::Ballots(args) => ballots::run(&args, context),
        InspectCommand::Map(args) => map::run(&args, context),
        InspectCommand::Wal(args) => wal::run(&args, context),
        InspectCommand::Checkpoint(args) => checkpoint::run(&args, context),
        InspectCommand::Segments(args) => segments::run(&args, context),
        InspectCommand::Account(args) => account::run(&args, context),
    }
}
