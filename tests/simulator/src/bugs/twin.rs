//! With every bug off, the twin packages do what those that ship do.

use quorate_simulator::runner::run_seed;
use quorate_simulator::trace::Trace;
use quorate_simulator_planted::runner::run_seed as run_seed_planted;
use quorate_simulator_planted::trace::Trace as PlantedTrace;

use super::list::{ALL, find};
use super::search::{search, switch};

/// The switch is process-wide, so what needs it off and what turns it on is one test.
#[test]
fn a_twin_differs_from_its_original_only_while_a_bug_is_on() {
    switch(None);
    for seed in 0..8 {
        let ships = run_seed(seed, Trace::default());
        let planted = run_seed_planted(seed, PlantedTrace::default());
        assert_eq!(ships.trace_hash, planted.trace_hash, "seed {seed}");
        assert!(planted.violations.is_empty(), "seed {seed}");
    }
    // Those that nearly every seed shows; the others are looked for by `sim --bugs`.
    for name in ["credit_twice", "apply_on_prepare", "quorum_of_half"] {
        let bug = find(name).expect("in the list");
        let found = search(bug, 0..100, 1);
        assert!(found.find.is_some(), "{name} of {} bugs", ALL.len());
    }
}
