//! `scenario run`: its options, its sets one by one, its document and its exit code.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use quorate_config::scenario::{Bounds, Scenario, Set};
use serde_json::{Value, json};

use super::set::{SetOptions, SetOutcome, run as run_set};
use super::{report, text};
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::local::interruption;
use crate::node_process::StartOptions;
use crate::print::{Output, keep_stdout, line, say};
use crate::scratch::scratch;

/// Accounts are 1 to this one.
pub const ACCOUNTS: u128 = 9_000;
/// Each is a process with files, threads and ports of its own.
const NODES_MAX: u32 = 45;
/// As long as a client may go on with one request.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// Behind the options in the help.
pub const DOCUMENT: &str = r#"A set begins with fresh nodes: all run while accounts 1..9000 are made and funded with 10 units each, then
those that the set does not list as live are killed. Rows between control rows run together, at
most 64 at once, each as a request of its own; F(nX) kills a process, R(nX) starts it again on its disk.
A row without an answer by --deadline, as at a shard without a quorum, is `unknown`: it may still take effect.

Exit code 2 if the file is malformed or has no set N, 4 if every shard had a quorum when a set was over
and the money check found something wrong.

With --json: {"sets":[{"set","live_nodes","replies":[{"line","result","balance"}],
"balances":{"ACCOUNT":{"n1":"10"}},"replicas":[{"node","shard","applied_upto","accounts","recorded",
"digest"}],"log":[{"shard","slot","kind","status":"applied|chosen|accepted","nodes":{"n1":STATUS},
"lines":[..]}],"first_leaders":[{"shard","ballot","node"}],"leader_changes":[{"shard","ballot","node"}],
"performance":{"committed","rejected":{"CODE":n},"unknown","reads","reads_unknown","seconds",
"throughput_tps","latency_us":{"mean","p50","p99","max"}},"reshard":[{"account","source","target"}],
"reshard_decision":"apply|refuse","reshard_reason","verify":{as of `verify`, or null}}]}

See docs/reference/scenario.md."#;

/// Options of `scenario run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The sets: a table with the columns Set Number, Transactions, Live Nodes
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
    /// Copies of every shard: 1, 3 or 5
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub replicas: u8,
    /// Partitions of the accounts; there are shards times replicas nodes, n1 to the last
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub shards: u32,
    /// Run only the set with this number
    #[arg(long, value_name = "N")]
    pub set: Option<u32>,
    /// How long a row may take; behind it its result is unknown
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_deadline)]
    pub deadline: Duration,
}

/// Shards and replicas.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub shards: u32,
    pub replicas: u8,
}

impl Shape {
    /// One replica each.
    #[must_use]
    pub fn nodes(self) -> u32 {
        self.shards * u32::from(self.replicas)
    }

    /// Of all shards but the last, which may have fewer.
    #[must_use]
    pub fn accounts_per_shard(self) -> u64 {
        let accounts = u64::try_from(ACCOUNTS).expect("a small number");
        accounts.div_ceil(self.shards.into())
    }
}

/// Reads the file, then runs its sets.
pub fn run(args: &RunArgs, context: Context) -> Outcome {
    let shape = shape(args)?;
    let bounds = Bounds {
        nodes: shape.nodes(),
        accounts: ACCOUNTS,
    };
    let scenario =
        Scenario::load(&args.file, &bounds).map_err(|error| Failure::Usage(error.into()))?;
    let sets = chosen(args, &scenario)?;
    // The planner's library writes to it.
    keep_stdout()?;
    let interrupted = interrupt::watch()?;
    let directory = scratch("quorate-scenario-")?;
    let options = SetOptions {
        shape,
        deadline: args.deadline,
        start: StartOptions {
            format: context.log_format,
            recover: false,
        },
        interrupted: &interrupted,
    };
    let mut documents: Vec<Value> = Vec::new();
    let mut wrong = Ok(());
    for set in sets {
        if interrupted.load(Ordering::Relaxed) {
            return Err(interruption());
        }
        say(format_args!("set {}: {} rows", set.number, set.rows.len()));
        let own = directory.path().join(format!("set-{}", set.number));
        fs::create_dir(&own).with_context(|| own.display().to_string())?;
        let outcome = run_set(set, &own, &options)?;
        // The files of all sets together would be many.
        fs::remove_dir_all(&own).with_context(|| format!("remove {}", own.display()))?;
        show(&outcome, context, &mut documents)?;
        wrong = worse(wrong, outcome.check.verdict(outcome.number));
    }
    if context.output == Output::Machine {
        line(&json!({ "sets": documents }).to_string())?;
    }
    wrong
}

/// The first failure, unless a check failed later: that is the one to hear of.
fn worse(first: Outcome, next: Outcome) -> Outcome {
    match (&first, &next) {
        (Ok(()), _) => next,
        (Err(Failure::CheckFailed(_)), _) => first,
        (Err(_), Err(Failure::CheckFailed(_))) => next,
        (Err(_), _) => first,
    }
}

/// For people each set when it is over; machines get one document at the end.
fn show(outcome: &SetOutcome, context: Context, documents: &mut Vec<Value>) -> Outcome {
    match context.output {
        Output::People => line(&text::people(outcome)),
        Output::Machine => {
            documents.push(report::document(outcome));
            Ok(())
        }
    }
}

fn shape(args: &RunArgs) -> Result<Shape, Failure> {
    let shape = Shape {
        shards: args.shards,
        replicas: args.replicas,
    };
    if ![1, 3, 5].contains(&args.replicas) {
        let replicas = args.replicas;
        return Err(Failure::usage(format!(
            "--replicas: {replicas} is not 1, 3 or 5"
        )));
    }
    let most = NODES_MAX / u32::from(args.replicas);
    if !(1..=most).contains(&args.shards) {
        return Err(Failure::usage(format!(
            "--shards: {} is not from 1 to {most}, with {} replicas of each on nodes of their own",
            args.shards, args.replicas
        )));
    }
    Ok(shape)
}

fn chosen<'a>(args: &RunArgs, scenario: &'a Scenario) -> Result<Vec<&'a Set>, Failure> {
    let Some(number) = args.set else {
        return Ok(scenario.sets.iter().collect());
    };
    let found = scenario.sets.iter().find(|set| set.number == number);
    found.map(|set| vec![set]).ok_or_else(|| {
        let known: Vec<String> = scenario
            .sets
            .iter()
            .map(|set| set.number.to_string())
            .collect();
        let (file, known) = (args.file.display(), known.join(", "));
        Failure::usage(format!("--set: {file} has no set {number}, it has {known}"))
    })
}

fn parse_deadline(text: &str) -> Result<Duration, String> {
    let deadline = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match Duration::from_millis(1) <= deadline && deadline <= DEADLINE_MAX {
        true => Ok(deadline),
        false => Err("must be from 1ms to 60s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(shards: u32, replicas: u8, set: Option<u32>) -> RunArgs {
        RunArgs {
            file: "a.csv".into(),
            replicas,
            shards,
            set,
            deadline: Duration::from_secs(5),
        }
    }

    #[test]
    fn every_account_has_a_range() {
        for shards in 1..=NODES_MAX {
            let shape = Shape {
                shards,
                replicas: 1,
            };
            let covered = shape.accounts_per_shard() * u64::from(shards);
            assert!(u128::from(covered) >= ACCOUNTS, "{shards}");
        }
    }

    #[test]
    fn shapes_that_no_cluster_has_are_bad_usage() {
        assert_eq!(shape(&args(3, 3, None)).unwrap().nodes(), 9);
        for (shards, replicas) in [(0, 3), (3, 2), (3, 0), (16, 3), (u32::MAX, 5)] {
            let refused = shape(&args(shards, replicas, None)).unwrap_err();
            assert_eq!(refused.code(), 2, "{shards} {replicas}");
        }
    }

    #[test]
    fn a_set_that_is_not_there_is_bad_usage_and_names_those_that_are() {
        let text = "Set Number,Transactions,Live Nodes\n4,(1),[n1]\n7,(1),[n1]\n";
        let scenario = Scenario::parse(text.as_bytes(), "a.csv", &Bounds::default()).unwrap();
        let numbers = |set| -> Vec<u32> {
            let chosen = chosen(&args(3, 3, set), &scenario).unwrap();
            chosen.iter().map(|set| set.number).collect()
        };
        assert_eq!(numbers(None), [4, 7]);
        assert_eq!(numbers(Some(7)), [7]);
        let refused = chosen(&args(3, 3, Some(5)), &scenario).unwrap_err();
        assert_eq!(refused.code(), 2);
        assert!(refused.to_string().contains("it has 4, 7"), "{refused}");
    }

    #[test]
    fn a_failed_check_outweighs_what_could_not_be_checked() {
        let silent = || Err(Failure::Other(anyhow::anyhow!("no answer")));
        let failed = || Err(Failure::CheckFailed("money".to_owned()));
        let code = |first, next| worse(first, next).map_or_else(|it| it.code(), |()| 0);
        assert_eq!(code(Ok(()), Ok(())), 0);
        assert_eq!(code(silent(), Ok(())), 1);
        assert_eq!(code(silent(), failed()), 4);
        assert_eq!(code(failed(), silent()), 4);
        assert_eq!(code(Ok(()), failed()), 4);
    }

    #[test]
    fn deadlines_are_bounded() {
        assert_eq!(parse_deadline("3s"), Ok(Duration::from_secs(3)));
        for wrong in ["0s", "61s", "", "5"] {
            assert!(parse_deadline(wrong).is_err(), "{wrong}");
        }
    }
}
