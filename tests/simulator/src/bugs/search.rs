//! Looking for a planted bug: seed after seed, until one shows it.
//!
//! The runs are those of the twin packages, the only code with the switch. A find is a violation that
//! a checker reports, or an assertion of the core or of the log, on a seed that is clean without the bug;
//! a panic of the simulator itself is none. The switch is process-wide, so one search runs at a time.

use std::ops::{ControlFlow, Range};
use std::time::Instant;

use quorate_protocol_planted::planted as core;
use quorate_simulator_planted::runner::{SeedResult, run_seeds_until};
use quorate_storage_planted::planted as log;
use serde_json::{Value, json};

use super::list::{Planted, Switch};

/// Sources whose assertions count.
const ASSERTING: [&str; 2] = ["engine/protocol/src/", "/storage/src/"];

/// The first seed that shows a bug.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    pub seed: u64,
    /// The checker that saw it, or `assertion`.
    pub by: String,
    /// What it said.
    pub text: String,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Search {
    pub bug: Planted,
    pub find: Option<Find>,
    /// Seeds from the first up to the find.
    pub tried: u64,
    pub seconds: f64,
}

impl Search {
    /// The document of `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let find = self.find.as_ref();
        json!({
            "bug": self.bug.name,
            "found_at_seed": find.map(|find| find.seed),
            "found_by": find.map(|find| find.by.as_str()),
            "text": find.map(|find| find.text.as_str()),
            "seeds_tried": self.tried,
            "seconds": self.seconds,
        })
    }
}

/// Switches a bug on, or all off.
pub fn switch(bug: Option<&Planted>) {
    let (mut in_core, mut in_log) = (None, None);
    match bug.map(|bug| bug.switch) {
        Some(Switch::Core(bug)) => in_core = Some(bug),
        Some(Switch::Log(bug)) => in_log = Some(bug),
        None => {}
    }
    core::switch_on(in_core);
    log::switch_on(in_log);
}

/// Runs the seeds in order with the bug switched on; stops at the first that shows it. A seed that
/// shows something without the bug as well is no find.
#[must_use]
pub fn search(bug: &Planted, seeds: Range<u64>, jobs: usize) -> Search {
    let started = Instant::now();
    let mut left = seeds.clone();
    let find = loop {
        switch(Some(bug));
        let find = first(left.clone(), jobs);
        switch(None);
        let Some(found) = find else { break None };
        let alone = found.seed..found.seed + 1;
        match first(alone, 1) {
            None => break Some(found),
            Some(same) => eprintln!("seed {} without a bug: {}", same.seed, same.text),
        }
        left.start = found.seed + 1;
    };
    let end = find.as_ref().map_or(seeds.end, |find| find.seed + 1);
    Search {
        bug: *bug,
        find,
        tried: end - seeds.start,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// The lowest seed that shows something.
fn first(seeds: Range<u64>, jobs: usize) -> Option<Find> {
    let mut find: Option<Find> = None;
    run_seeds_until(seeds, jobs, |result| match find_of(&result) {
        // With several threads a later seed may end first.
        Some(found) if find.as_ref().is_none_or(|known| found.seed < known.seed) => {
            find = Some(found);
            ControlFlow::Break(())
        }
        Some(_) | None => ControlFlow::Continue(()),
    });
    find
}

/// What a seed shows, if it counts.
#[must_use]
pub fn find_of(result: &SeedResult) -> Option<Find> {
    let seed = result.seed();
    match result {
        SeedResult::Finished(outcome) => {
            let violation = outcome.violations.first()?;
            Some(Find {
                seed,
                by: violation.checker.to_owned(),
                text: violation.text.clone(),
            })
        }
        SeedResult::Panicked { message, .. } => {
            let line = message.lines().next().unwrap_or_default();
            if !ASSERTING.iter().any(|source| line.contains(source)) {
                eprintln!("seed {seed}: the simulator panicked, which is no find: {line}");
                return None;
            }
            let text = line.to_owned();
            let by = "assertion".to_owned();
            Some(Find { seed, by, text })
        }
    }
}
