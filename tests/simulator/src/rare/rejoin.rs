//! Rare events of a replica whose disk was replaced.

use crate::counters::Counters;
use crate::process::Process;

/// All names of this file.
pub const NAMES: [&str; 5] = [
    "crash_while_rejoining",
    "rejoin_asked",
    "rejoin_waits_for_a_later_leader",
    "replica_rejoined",
    "replica_rejoins",
];

/// It has started.
pub fn of_start(rare: &mut Counters, process: &Process) {
    if process.is_rejoining() {
        rare.add("replica_rejoins");
    }
}

/// It ends.
pub fn of_crash(rare: &mut Counters, process: &Process) {
    if process.is_rejoining() && process.is_running() {
        rare.add("crash_while_rejoining");
    }
}
