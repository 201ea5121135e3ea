//! The seeded loop: the same mutations of the same inputs in every run, with a fixed number of steps.
//!
//! `QUORATE_FUZZ_ROUNDS=20` multiplies the number of steps, `QUORATE_FUZZ_SEED=5` takes other mutations.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_fuzz::mutate::{Dice, mutate};
use quorate_fuzz::{TARGETS, Target, Verdict, seeds};

/// Inputs that were taken and are mutated further.
const POOL_MAX: usize = 64;

fn number_of(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable);
    text.map_or(default, |text| text.parse().expect("a number"))
}

/// Runs one target; returns how many inputs it took and how many it refused.
fn fuzz(name: &str, steps: u64) -> (u64, u64) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("a target");
    let seeds: Vec<Vec<u8>> = seeds::of(name)
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    let mut dice = Dice::new(number_of("QUORATE_FUZZ_SEED", 1));
    let (mut pool, mut taken, mut refused) = (Vec::new(), 0, 0);
    for step in 0..steps * number_of("QUORATE_FUZZ_ROUNDS", 1) {
        let mut bytes = match dice.below(4) {
            0 if !pool.is_empty() => Vec::clone(&pool[dice.below(pool.len())]),
            _ => seeds[dice.below(seeds.len())].clone(),
        };
        mutate(&mut bytes, target.is_text, &seeds, &mut dice);
        match verdict(target, &bytes, step) {
            Verdict::Taken if pool.len() < POOL_MAX => {
                pool.push(bytes);
                taken += 1;
            }
            Verdict::Taken => {
                let place = dice.below(POOL_MAX);
                pool[place] = bytes;
                taken += 1;
            }
            Verdict::Refused => refused += 1,
        }
    }
    println!("{name}: {taken} taken, {refused} refused");
    (taken, refused)
}

/// Runs the target; if it panics, prints the input first.
fn verdict(target: &Target, bytes: &[u8], step: u64) -> Verdict {
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    result.unwrap_or_else(|panic| {
        let path = std::env::temp_dir().join(format!("quorate-fuzz-{}-{step}", target.name));
        let kept = std::fs::write(&path, bytes).is_ok();
        let place = if kept {
            path.display().to_string()
        } else {
            "nowhere".to_owned()
        };
        eprintln!(
            "{} step {step}: {} bytes, kept in {place}",
            target.name,
            bytes.len()
        );
        std::panic::resume_unwind(panic)
    })
}

#[test]
fn frames() {
    let (taken, refused) = fuzz("frame", 60_000);
    assert!(taken > 1_000 && refused > 1_000);
}

#[test]
fn logs() {
    let (taken, refused) = fuzz("log", 40_000);
    assert!(taken > 1_000 && refused > 1_000);
}

#[test]
fn configurations() {
    let (taken, refused) = fuzz("config", 20_000);
    assert!(taken > 100 && refused > 1_000);
}

#[test]
fn scenarios() {
    let (taken, refused) = fuzz("scenario", 40_000);
    assert!(taken > 1_000 && refused > 1_000);
}
