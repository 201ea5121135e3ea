//! Seeds in the ordinary test command: none may fail, every fault must have fired, and a seed must
//! tell the same story twice. `QUORATE_SIM_SEEDS` sets their number.

use quorate_simulator::runner::{SeedResult, Summary, run_seed, run_seeds};
use quorate_simulator::trace::Trace;

/// Below this many seeds some faults may not have their turn.
const SEEDS_FOR_ALL_FAULTS: u64 = 200;
/// Seeds that are run twice.
const SEEDS_TWICE: u64 = 10;
/// The seeds that once failed, with their stories.
const KEPT: &str = include_str!("../seeds.txt");

fn seed_count() -> u64 {
    let wanted = std::env::var("QUORATE_SIM_SEEDS").ok();
    wanted.map_or(200, |text| {
        text.parse()
            .expect("QUORATE_SIM_SEEDS is a number of seeds")
    })
}

fn kept_seeds() -> Vec<u64> {
    let lines = KEPT.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let seed = line.split('|').next().unwrap_or(line).trim();
            seed.parse()
                .unwrap_or_else(|error| panic!("seeds.txt: \"{line}\": {error}"))
        })
        .collect()
}

fn report(result: &SeedResult) {
    for problem in result.problems() {
        eprintln!("seed {}: {problem}", result.seed());
        eprintln!("replay: sim --seed {} --trace trace.txt", result.seed());
    }
}

#[test]
fn no_seed_finds_a_violation_and_every_fault_fires() {
    let mut summary = Summary::default();
    run_seeds(0..seed_count(), 2, |result: SeedResult| {
        report(&result);
        summary.add(&result);
    });
    assert_eq!(summary.failed, [] as [u64; 0]);
    if seed_count() >= SEEDS_FOR_ALL_FAULTS {
        for (name, count) in summary.faults.iter() {
            assert!(count > 0, "{name} never fired");
        }
        for (name, count) in summary.rare_events.iter() {
            assert!(count > 0, "{name} never happened");
        }
    }
    assert!(summary.sent > seed_count() * 2_000, "{summary:?}");
    assert!(summary.committed > seed_count() * 1_000, "{summary:?}");
}

#[test]
fn seeds_that_once_failed_do_not_fail_again() {
    let seeds = kept_seeds();
    assert!(seeds.len() >= 7, "a line is never removed: {seeds:?}");
    let mut failed = Vec::new();
    for seed in seeds {
        run_seeds(seed..seed + 1, 1, |result: SeedResult| {
            report(&result);
            if !result.problems().is_empty() {
                failed.push(result.seed());
            }
        });
    }
    assert_eq!(failed, [] as [u64; 0]);
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..seed_count().min(SEEDS_TWICE) {
        let outcomes = [(); 2].map(|()| run_seed(seed, Trace::default()));
        assert_eq!(
            outcomes[0].trace_hash, outcomes[1].trace_hash,
            "seed {seed}"
        );
        assert_eq!(outcomes[0].events, outcomes[1].events, "seed {seed}");
    }
}

#[test]
fn different_seeds_tell_different_stories() {
    let hashes: std::collections::BTreeSet<u64> = (0..5)
        .map(|seed| run_seed(seed, Trace::default()).trace_hash)
        .collect();
    assert_eq!(hashes.len(), 5);
}
