//! The `quorate-bench` binary: parses, runs, exits with the code of the contract.

use std::process::ExitCode;

use clap::Parser;

use quorate_bench::args::Arguments;
use quorate_bench::output::say;

/// A thousand requests under way free as many blocks of a size at once, of which glibc keeps seven at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match quorate_bench::command::execute(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("quorate-bench: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}
