//! The course of a plan in epochs, for people: a row per epoch, the means, and how to read them.

use quorate_planner::{Course, EpochReport};

use crate::print::table;

/// A table between two blank lines.
pub fn people(course: &Course) -> String {
    let mut rows = table(&[
        "epoch",
        "transfers",
        "accounts",
        "cross-shard",
        "load max/avg",
        "moves",
        "METIS: cross-shard",
        "load max/avg",
        "moves",
    ]);
    let (followed, scratch) = (&course.followed, &course.from_scratch);
    for (ours, theirs) in followed.epochs.iter().zip(&scratch.epochs) {
        let mut cells = vec![
            ours.epoch.to_string(),
            ours.transfers.to_string(),
            ours.accounts.to_string(),
        ];
        cells.extend(figures(ours));
        cells.extend(figures(theirs));
        rows.add_row(cells);
    }
    format!(
        "\n{rows}\n\n\
         epoch 1 happened at the hash homes; its moves made the first map, each later row's the next one\n\
         epochs 2 to {}: cross-shard ratio {:.3} with {} moves, at most {} % of the accounts per update\n\
         METIS from scratch: {:.3} with {} moves; every account at its hash home: {:.3}\n",
        followed.epochs.len(),
        followed.cross_shard_ratio,
        followed.moves,
        course.moves_max_percent,
        scratch.cross_shard_ratio,
        scratch.moves,
        course.hash,
    )
}

/// Ratio, load and moves of an epoch.
fn figures(epoch: &EpochReport) -> [String; 3] {
    [
        format!("{:.3}", epoch.cross_shard_ratio),
        format!("{:.3}", epoch.load_max_over_avg),
        epoch.moves.to_string(),
    ]
}
