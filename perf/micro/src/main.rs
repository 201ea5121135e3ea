//! Runs one piece so many times: what a counter of instructions is put around.

#![forbid(unsafe_code)]

use clap::Parser;
use quorate_micro::{KINDS, piece};

/// Runs a hot piece of Quorate by itself.
#[derive(Parser)]
struct Arguments {
    /// KIND-BATCH, such as local-8190; `list` names the kinds.
    piece: String,
    /// How often.
    #[arg(default_value_t = 1)]
    count: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.piece == "list" {
        for (kind, what) in KINDS {
            println!("{kind:8} {what}");
        }
        return Ok(());
    }
    let mut piece = piece(&arguments.piece)?;
    for _ in 0..arguments.count {
        piece.run();
    }
    Ok(())
}
