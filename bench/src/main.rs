//! The `quorate-bench` binary: parses, runs, exits with the code of the contract.

use std::process::ExitCode;

use clap::Parser;

use quorate_bench::args::Arguments;

fn main() -> ExitCode {
    match quorate_bench::command::execute(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("quorate-bench: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
