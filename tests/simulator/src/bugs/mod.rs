//! The rig is tested by bugs: planted ones, switched on one at a time, each of which the checkers have
//! to find. How a bug is planted without a trace in what ships: `planted.rs` of `quorate-protocol`.

pub mod list;
pub mod search;
pub mod table;
#[cfg(test)]
mod twin;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use quorate_simulator_planted::runner::run_seed;
use quorate_simulator_planted::trace::Trace;
use serde_json::{Value, json};

use self::list::{ALL, Planted};
use self::search::{Search, search, switch};
use crate::{USAGE, VIOLATED};

/// What a search of several bugs is to print.
#[derive(Clone, Copy, Debug)]
pub struct Print<'a> {
    pub json: bool,
    pub table: bool,
    /// Put the table between the marks of this file.
    pub into: Option<&'a Path>,
}

/// The bugs of these names.
///
/// # Errors
/// The name of the first that there is not.
pub fn named(names: &[String]) -> Result<Vec<&'static Planted>, String> {
    let known = |name: &String| {
        list::find(name).ok_or_else(|| format!("no planted bug \"{name}\"; see sim --bugs"))
    };
    names.iter().map(known).collect()
}

/// Prints all bugs.
#[must_use]
pub fn print_list(json: bool) -> ExitCode {
    if json {
        let row = |bug: &Planted| json!({"name": bug.name, "line": bug.line});
        let rows: Vec<Value> = ALL.iter().map(row).collect();
        println!("{}", json!({ "bugs": rows }));
    } else {
        for bug in ALL {
            println!("{:<32} {}", bug.name, bug.line);
        }
    }
    ExitCode::SUCCESS
}

/// Searches for one bug. A bug that is not found is a failure of the rig.
#[must_use]
pub fn search_one(bug: &Planted, seeds: Range<u64>, jobs: usize, json: bool) -> ExitCode {
    let result = search(bug, seeds, jobs);
    if json {
        println!("{}", result.to_json());
    } else {
        print_search(&result);
    }
    verdict(&[result])
}

/// Searches for several bugs, one after the other.
#[must_use]
pub fn search_all(
    bugs: &[&Planted],
    seeds: &Range<u64>,
    jobs: usize,
    print: Print<'_>,
) -> ExitCode {
    let mut searches = Vec::new();
    for bug in bugs {
        let result = search(bug, seeds.clone(), jobs);
        if print.json || print.table {
            eprintln!("{}", line_of(&result));
        } else {
            print_search(&result);
        }
        searches.push(result);
    }
    let table = table::markdown(&searches);
    if print.json {
        let rows: Vec<Value> = searches.iter().map(Search::to_json).collect();
        println!("{}", json!({ "bugs": rows }));
    } else if print.table {
        print!("{table}");
    }
    if let Some(path) = print.into
        && let Err(problem) = put(path, &table)
    {
        eprintln!("{}: {problem}", path.display());
        return ExitCode::from(USAGE);
    }
    verdict(&searches)
}

/// Runs one seed with a bug switched on.
#[must_use]
pub fn run_one(bug: &Planted, seed: u64, trace: Trace) -> ExitCode {
    switch(Some(bug));
    let outcome = run_seed(seed, trace);
    for violation in &outcome.violations {
        eprintln!("seed {seed} with {}: {violation}", bug.name);
    }
    println!("trace hash {:016x}", outcome.trace_hash);
    if outcome.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VIOLATED)
    }
}

fn put(path: &Path, table: &str) -> Result<(), String> {
    let document = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let replaced =
        table::replace(&document, table).ok_or_else(|| format!("no line \"{}\"", table::BEGIN))?;
    fs::write(path, replaced).map_err(|error| error.to_string())
}

fn print_search(result: &Search) {
    println!("{}", line_of(result));
    if let Some(find) = &result.find {
        println!("  {}", find.text);
        println!(
            "  replay: sim --bug {} --seed {}",
            result.bug.name, find.seed
        );
    }
}

fn line_of(result: &Search) -> String {
    let (name, seconds) = (result.bug.name, result.seconds);
    match &result.find {
        Some(find) => format!(
            "{name}: found at seed {} by {} in {seconds:.1} s",
            find.seed, find.by
        ),
        None => format!(
            "{name}: NOT found in {} seeds, {seconds:.1} s",
            result.tried
        ),
    }
}

fn verdict(searches: &[Search]) -> ExitCode {
    if searches.iter().all(|search| search.find.is_some()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VIOLATED)
    }
}
