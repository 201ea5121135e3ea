//! The transfers of `quorate-bench` on other systems, so that Quorate can be judged beside them.
//!
//! ```text
//! arguments --> postgres (local, two_phase) --> drive --> report --> a line of JSON
//!           --> etcd                        -->   ^
//!           --> external                      payments
//!           --> table: those lines for people, with ratios
//! ```
//! Each peer does the same work: debit one account within its limit, credit another, keep the
//! transfer, all durable before it is answered. `perf/compare` starts the servers and stops them;
//! nothing here does.

mod arguments;
mod drive;
mod durability;
mod etcd;
mod external;
mod money;
mod payments;
mod postgres;
mod report;
mod table;

use std::process::ExitCode;

use clap::Parser;
use quorate_bench::failure::Failure;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::PostgresLocal(arguments) => postgres::local(&arguments),
        Command::PostgresTwoPhase(arguments) => postgres::two_phase(&arguments),
        Command::Etcd(arguments) => etcd::run(&arguments),
        Command::External(arguments) => external::run(&arguments),
        Command::Table(arguments) => table::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("quorate-peers: {failure}");
            ExitCode::from(Failure::exit_code(&failure))
        }
    }
}
