//! The `bare` binary: parses, runs, and says on stderr why it could not.

#![forbid(unsafe_code)]

use clap::Parser;

use quorate_bare::args::{Arguments, Command};
use quorate_bare::{floor, load, serve};

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
    }
}
