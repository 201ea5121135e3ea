//! The `sim` binary: runs seeds and reports what broke.

mod bugs;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use quorate_simulator::counters::Counters;
use quorate_simulator::outcome::Outcome;
use quorate_simulator::parameters::Parameters;
use quorate_simulator::runner::{SeedResult, Summary, run_seed, run_seeds};
use quorate_simulator::trace::Trace;
use quorate_simulator_planted::trace::Trace as PlantedTrace;

/// A check failed.
const VIOLATED: u8 = 4;
/// Bad usage or input.
const USAGE: u8 = 2;

/// Simulates whole clusters from a seed: faulty network, disks and clocks, the engine's own core and
/// storage, and checkers that trust neither.
#[derive(Debug, Parser)]
#[command(name = "sim", version)]
struct Arguments {
    /// Run one seed and print its parameters.
    #[arg(long, conflicts_with_all = ["seeds", "bugs", "meta", "jobs"])]
    seed: Option<u64>,
    /// With --seed: write every event to this file.
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<PathBuf>,
    /// Run the seeds A..B, B excluded.
    #[arg(long, value_name = "A..B", value_parser = parse_range, required_unless_present_any = ["seed", "bugs"])]
    seeds: Option<Range<u64>>,
    /// List the planted bugs; with --seeds: search for each one of the table. Exit code 4 if one is not
    /// found.
    #[arg(long, conflicts_with_all = ["bug", "meta"])]
    bugs: bool,
    /// Switch a planted bug on and stop at the first seed that shows it; several are searched for one
    /// after the other. Exit code 4 if one is not found.
    #[arg(long, value_name = "NAME", conflicts_with = "meta")]
    bug: Vec<String>,
    /// Print what a search for bugs came to as a Markdown table.
    #[arg(long, conflicts_with = "json", requires = "seeds")]
    table: bool,
    /// Put that table between its marks in this file.
    #[arg(long, value_name = "FILE", requires = "seeds")]
    into: Option<PathBuf>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// With --seeds: exit code 4 also if a rare event was visited by no seed.
    #[arg(long, requires = "seeds", conflicts_with_all = ["bug", "bugs", "meta"])]
    all_rare: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Print the trace hash of every seed, to compare builds and machines.
    #[arg(long, conflicts_with_all = ["meta", "json"])]
    hashes: bool,
    /// Run every seed twice and compare the trace hashes.
    #[arg(long)]
    meta: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (first, end) = text
        .split_once("..")
        .ok_or_else(|| format!("\"{text}\" is not of the form A..B"))?;
    let number = |part: &str| {
        part.parse::<u64>()
            .map_err(|error| format!("\"{part}\" in \"{text}\": {error}"))
    };
    let range = number(first)?..number(end)?;
    if range.is_empty() {
        return Err(format!("\"{text}\" holds no seed"));
    }
    Ok(range)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.bugs || !arguments.bug.is_empty() {
        return with_bugs(&arguments);
    }
    match (arguments.seed, &arguments.seeds) {
        (Some(seed), _) => one(seed, arguments.trace.as_ref(), arguments.json),
        (None, Some(seeds)) if arguments.hashes => hashes(seeds.clone()),
        (None, Some(seeds)) if arguments.meta => meta(seeds.clone(), arguments.json),
        (None, Some(seeds)) => many(seeds.clone(), &arguments),
        (None, None) => unreachable!("clap requires one of them"),
    }
}

fn with_bugs(arguments: &Arguments) -> ExitCode {
    let chosen = match bugs::named(&arguments.bug) {
        Ok(chosen) => chosen,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(USAGE);
        }
    };
    let (jobs, json) = (arguments.jobs, arguments.json);
    let print = bugs::Print {
        json,
        table: arguments.table,
        into: arguments.into.as_deref(),
    };
    let plain = !print.table && print.into.is_none();
    match (arguments.seed, &arguments.seeds, chosen.as_slice()) {
        (Some(seed), _, [bug]) => match create(arguments.trace.as_ref()) {
            Ok(file) => {
                exit_on_panic(seed);
                let trace = file.map_or_else(Default::default, PlantedTrace::to_writer);
                bugs::run_one(bug, seed, trace)
            }
            Err(refused) => refused,
        },
        (Some(_), ..) => {
            eprintln!("--seed takes one --bug");
            ExitCode::from(USAGE)
        }
        (None, None, _) => bugs::print_list(json),
        (None, Some(seeds), [bug]) if plain => bugs::search_one(bug, seeds.clone(), jobs, json),
        (None, Some(seeds), []) => {
            let all: Vec<_> = bugs::list::ALL.iter().collect();
            bugs::search_all(&all, seeds, jobs, print)
        }
        (None, Some(seeds), some) => bugs::search_all(some, seeds, jobs, print),
    }
}

fn create(trace: Option<&PathBuf>) -> Result<Option<Box<dyn Write>>, ExitCode> {
    let file = trace.map(File::create).transpose().map_err(|error| {
        eprintln!("cannot create the trace file: {error}");
        ExitCode::from(USAGE)
    })?;
    Ok(file.map(|file| -> Box<dyn Write> { Box::new(BufWriter::new(file)) }))
}

fn one(seed: u64, trace: Option<&PathBuf>, json: bool) -> ExitCode {
    let trace = match create(trace) {
        Ok(file) => file.map_or_else(Trace::default, Trace::to_writer),
        Err(refused) => return refused,
    };
    exit_on_panic(seed);
    if !json {
        print_parameters(seed);
    }
    let outcome = run_seed(seed, trace);
    let mut summary = Summary::default();
    let result = SeedResult::Finished(Box::new(outcome.clone()));
    summary.add(&result);
    if json {
        println!("{}", summary.to_json());
    } else {
        print_outcome(&outcome);
    }
    verdict(&result)
}

/// Ends the process with the exit code of a violation, after the usual message.
fn exit_on_panic(seed: u64) {
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        earlier(panic);
        print_replay(seed);
        std::process::exit(i32::from(VIOLATED));
    }));
}

fn many(seeds: Range<u64>, arguments: &Arguments) -> ExitCode {
    let (jobs, json) = (arguments.jobs, arguments.json);
    let started = Instant::now();
    let mut summary = Summary::default();
    run_seeds(seeds, jobs, |result| {
        summary.add(&result);
        verdict(&result);
    });
    if json {
        println!("{}", summary.to_json());
    } else {
        print_summary(&summary, started.elapsed().as_secs_f64());
    }
    let missing = summary.rare_missing();
    if arguments.all_rare && !missing.is_empty() {
        eprintln!("rare events that no seed has visited: {missing:?}");
        return ExitCode::from(VIOLATED);
    }
    exit_code(summary.failed.is_empty())
}

fn meta(seeds: Range<u64>, json: bool) -> ExitCode {
    let mut failed = Vec::new();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        exit_on_panic(seed);
        let hashes = [(); 2].map(|()| run_seed(seed, Trace::default()).trace_hash);
        if hashes[0] != hashes[1] {
            eprintln!(
                "seed {seed}: trace hashes {:016x} and {:016x}",
                hashes[0], hashes[1]
            );
            failed.push(seed);
        }
    }
    if json {
        println!("{}", serde_json::json!({"seeds": count, "failed": failed}));
    } else {
        println!("{count} seeds run twice, {} differ", failed.len());
    }
    exit_code(failed.is_empty())
}

fn hashes(seeds: Range<u64>) -> ExitCode {
    for seed in seeds {
        exit_on_panic(seed);
        let outcome = run_seed(seed, Trace::default());
        println!("{seed} {:016x}", outcome.trace_hash);
    }
    ExitCode::SUCCESS
}

fn print_parameters(seed: u64) {
    let parameters = Parameters::draw(seed).to_json();
    let text = serde_json::to_string_pretty(&parameters).expect("plain values");
    println!("{text}");
    println!("replay: sim --seed {seed}");
}

fn print_outcome(outcome: &Outcome) {
    println!(
        "simulated {:.3} s in {} events: {} transfers sent, {} committed, {} reads",
        seconds(outcome.simulated_ns),
        outcome.events,
        outcome.sent,
        outcome.committed,
        outcome.reads
    );
    print_counters("faults", &outcome.faults);
    print_counters("rare events", &outcome.rare_events);
    println!("trace hash {:016x}", outcome.trace_hash);
}

fn print_summary(summary: &Summary, elapsed_seconds: f64) {
    println!(
        "{} seeds in {elapsed_seconds:.1} s, simulated {:.1} s: {} transfers sent, {} committed, {} \
         reads, {} events",
        summary.seeds,
        seconds(summary.simulated_ns),
        summary.sent,
        summary.committed,
        summary.reads,
        summary.events
    );
    print_counters("faults", &summary.faults);
    print_counters("rare events", &summary.rare_events);
    println!("failed: {:?}", summary.failed);
}

fn print_counters(title: &str, counters: &Counters) {
    println!("{title}:");
    for (name, count) in counters.iter() {
        println!("  {count:>9} {name}");
    }
}

/// Prints what a seed broke, and how to see it again.
fn verdict(result: &SeedResult) -> ExitCode {
    let problems = result.problems();
    for problem in &problems {
        eprintln!("seed {}: {problem}", result.seed());
    }
    if !problems.is_empty() {
        print_replay(result.seed());
    }
    exit_code(problems.is_empty())
}

fn print_replay(seed: u64) {
    eprintln!("replay: sim --seed {seed} --trace trace.txt");
}

fn exit_code(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(VIOLATED)
    }
}

fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}
