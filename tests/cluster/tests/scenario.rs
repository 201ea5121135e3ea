//! `quorate scenario run` on the files of `tests/scenarios`: exact replies and balances on real processes.
//!
//! Rows that run together are chosen so that their order does not matter.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_cluster_tests::{binaries, scratch, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Shards without a quorum answer nothing for as long as a row may take; elections must fit in.
const DEADLINE: &str = "5s";

/// One run at a time: nine processes each on one small machine would only wait for each other.
static TURN: Mutex<()> = Mutex::new(());

/// How a run ended.
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A scratch directory has a file in it that shows that it takes direct IO.
fn empty_directory(below: &Path) -> PathBuf {
    let own = below.join("run");
    fs::create_dir(&own).expect("it is new");
    own
}

fn scenario_file(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    directory.join(format!("{name}.csv"))
}

fn command(file: &Path, directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(&binaries().quorate);
    command
        .args(["scenario", "run"])
        .arg(file)
        .args(args)
        .env("TMPDIR", directory)
        .stdin(Stdio::null());
    command
}

/// A run in a directory of its own, in which it must leave nothing.
fn run(file: &Path, args: &[&str]) -> Run {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = scratch("scenario");
    let own = empty_directory(directory.path());
    let output = command(file, &own, args).output().expect("quorate runs");
    assert_nothing_left(&own);
    Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a file of `tests/scenarios`, which must succeed, and gives its sets.
fn sets(name: &str, args: &[&str]) -> Vec<Value> {
    let args: Vec<&str> = ["--json", "--deadline", DEADLINE]
        .iter()
        .chain(args)
        .copied()
        .collect();
    let done = run(&scenario_file(name), &args);
    assert_eq!(
        done.code,
        Some(0),
        "{name}: {}\n{}",
        done.stderr,
        done.stdout
    );
    let document: Value = serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{name}: {error}: {}", done.stdout));
    document["sets"].as_array().expect("sets").clone()
}

/// Processes that know of the directory.
fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let lines = processes.filter_map(|process| {
        let line = fs::read(process.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines
        .filter(|line| line.contains(&name) && line.contains(" server "))
        .collect()
}

fn assert_nothing_left(directory: &Path) {
    assert_eq!(processes_of(directory), Vec::<String>::new());
    let left: Vec<_> = fs::read_dir(directory).expect("it is there").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// `line result [balance]` of every reply.
fn replies(set: &Value) -> Vec<String> {
    let replies = set["replies"].as_array().expect("replies");
    let text = |reply: &Value| {
        let (line, result) = (&reply["line"], reply["result"].as_str().expect("a name"));
        match reply["balance"].as_str() {
            Some(balance) => format!("{line} {result} {balance}"),
            None => format!("{line} {result}"),
        }
    };
    replies.iter().map(text).collect()
}

/// Each account must be on exactly these nodes, with this balance.
fn assert_balances(set: &Value, expected: &[(u32, &str, &[&str])]) {
    let rows = expected.iter().map(|(account, balance, nodes)| {
        let nodes: BTreeMap<&str, &str> = nodes.iter().map(|&node| (node, *balance)).collect();
        (account.to_string(), nodes)
    });
    let rows: BTreeMap<String, BTreeMap<&str, &str>> = rows.collect();
    assert_eq!(set["balances"], json!(rows));
}

/// Nodes that led after the set had begun, by shard.
fn later_leaders(set: &Value) -> Vec<(u64, String)> {
    let changes = set["leader_changes"].as_array().expect("leader_changes");
    let change = |row: &Value| {
        let ballot = row["ballot"].as_str().expect("a ballot");
        let (round, replica) = ballot.split_once('.').expect("round and replica");
        assert!(round.parse::<u64>().is_ok_and(|round| round > 1), "{row}");
        let node = row["node"].as_str().expect("a node").to_owned();
        let shard = row["shard"].as_u64().expect("a shard");
        let number: u64 = node[1..].parse().expect("n and a number");
        let replica: u64 = replica.parse().expect("a replica");
        assert_eq!(number, (shard - 1) * 3 + replica, "{row}");
        (shard, node)
    };
    changes.iter().map(change).collect()
}

/// What holds of every set in which every shard has a quorum at the end.
fn assert_sound(set: &Value) {
    assert_eq!(set["verify"]["ok"], true, "{}", set["verify"]);
    assert_eq!(set["verify"]["in_doubt"], 0);
    // One digest in each shard.
    let mut digests: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for replica in set["replicas"].as_array().expect("replicas") {
        let shard = replica["shard"].as_u64().expect("a shard");
        let digest = replica["digest"].as_str().expect("a digest");
        digests.entry(shard).or_default().push(digest);
    }
    assert_eq!(digests.len(), 3);
    for (shard, mut digests) in digests {
        digests.dedup();
        assert_eq!(digests.len(), 1, "shard {shard}: {digests:?}");
    }
    let log = set["log"].as_array().expect("log");
    assert!(log.iter().all(|row| row["status"] == "applied"), "{log:?}");
    assert_eq!(
        set["first_leaders"],
        json!([
            { "shard": 1, "ballot": "1.1", "node": "n1" },
            { "shard": 2, "ballot": "1.1", "node": "n4" },
            { "shard": 3, "ballot": "1.1", "node": "n7" },
        ])
    );
}

const FIRST: &[&str] = &["n1", "n2", "n3"];
const SECOND: &[&str] = &["n4", "n5", "n6"];
const THIRD: &[&str] = &["n7", "n8", "n9"];

#[test]
fn transfers_within_and_across_shards_and_those_that_are_refused() {
    let [set] = &sets("transfers", &[])[..] else {
        panic!("one set");
    };
    let expected = [
        "2 ok",
        "3 ok",
        "4 ok",
        "5 ok",
        "6 exceeds_credits",
        "7 exceeds_credits",
        "8 accounts_must_be_different",
        "9 amount_must_not_be_zero",
    ];
    assert_eq!(replies(set), expected);
    assert_balances(
        set,
        &[
            (1, "7", FIRST),
            (2, "13", FIRST),
            (100, "6", FIRST),
            (500, "10", FIRST),
            (501, "10", FIRST),
            (600, "10", FIRST),
            (700, "10", FIRST),
            (800, "10", FIRST),
            (801, "10", FIRST),
            (3000, "20", FIRST),
            (3100, "14", SECOND),
            (3200, "5", SECOND),
            (6300, "15", THIRD),
            (6500, "10", THIRD),
            (9000, "0", THIRD),
        ],
    );
    assert_sound(set);
    assert_eq!(later_leaders(set), []);
    let performance = &set["performance"];
    assert_eq!(performance["committed"], 4);
    assert_eq!(performance["unknown"], 0);
    assert_eq!(performance["rejected"]["exceeds_credits"], 2);
    assert!(
        performance["throughput_tps"]
            .as_f64()
            .is_some_and(|tps| tps > 0.0)
    );
    assert!(
        performance["latency_us"]["p99"]
            .as_f64()
            .is_some_and(|us| us > 0.0)
    );
    assert_eq!(set["reshard"], json!([]));
    // The row across shards is in the log of both: decided at one, posted at the other. Rows that run together may
    // share an entry, whose kind then names all that it holds ("prepare_txn+transfers").
    let entries_with = |line: u64| -> Vec<(u64, Vec<&str>)> {
        let log = set["log"].as_array().expect("log");
        let holds = |row: &&Value| {
            row["lines"]
                .as_array()
                .is_some_and(|lines| lines.contains(&json!(line)))
        };
        let rows = log.iter().filter(holds);
        rows.map(|row| {
            let kind = row["kind"].as_str().expect("a kind");
            (
                row["shard"].as_u64().expect("a shard"),
                kind.split('+').collect(),
            )
        })
        .collect()
    };
    let within = entries_with(2);
    assert_eq!(within.len(), 1, "one entry has all of it: {within:?}");
    assert_eq!(within[0].0, 1);
    assert!(within[0].1.contains(&"transfers"), "{within:?}");
    let across = entries_with(3);
    let in_log = |of_shard, kind| {
        let mut entries = across.iter();
        entries.any(|(shard, kinds)| *shard == of_shard && kinds.contains(&kind))
    };
    assert!(in_log(1, "commit_txn"), "{across:?}");
    assert!(in_log(2, "resolve_txn"), "{across:?}");
}

#[test]
fn nobody_pays_more_than_he_has() {
    let [set] = &sets("funds", &[])[..] else {
        panic!("one set");
    };
    let expected = [
        "2 exceeds_credits",
        "3 exceeds_credits",
        "4 ok",
        "5 ok",
        "7 exceeds_credits",
        "8 ok",
        "9 ok",
        "10 ok 0",
        "12 ok",
        "13 exceeds_credits",
        "14 ok 30",
    ];
    assert_eq!(replies(set), expected);
    assert_balances(
        set,
        &[
            (10, "10", FIRST),
            (11, "10", FIRST),
            (20, "10", FIRST),
            (30, "0", FIRST),
            (31, "30", FIRST),
            (32, "10", FIRST),
            (40, "0", FIRST),
            (41, "30", FIRST),
            (3020, "10", SECOND),
            (3031, "0", SECOND),
            (6040, "0", THIRD),
        ],
    );
    assert_sound(set);
}

/// Two followers fail in the middle, one comes back and has what it missed; another stays away, and a failure of what
/// has failed and a recovery of what runs change nothing.
#[test]
fn a_follower_that_comes_back_has_what_it_missed() {
    let [set] = &sets("follower", &[])[..] else {
        panic!("one set");
    };
    let expected = [
        "2 ok", "3 ok", "6 ok", "7 ok", "8 ok", "10 ok 8", "12 ok", "14 ok 10", "16 ok", "18 ok 6",
    ];
    assert_eq!(replies(set), expected);
    let two: &[&str] = &["n1", "n2"];
    assert_balances(
        set,
        &[
            (1, "11", two),
            (2, "10", two),
            (3001, "6", SECOND),
            (3002, "13", SECOND),
            (6001, "14", THIRD),
            (6002, "6", THIRD),
        ],
    );
    assert_sound(set);
    assert_eq!(later_leaders(set), []);
}

/// Requests to a shard without a quorum end as unknown and move no money; other shards, and later sets, are unaffected.
#[test]
fn a_shard_without_a_quorum_answers_nothing() {
    let [without, regained, leader_alone] = &sets("no-quorum", &[])[..] else {
        panic!("three sets");
    };
    let expected = [
        "2 ok",
        "3 unknown",
        "4 unknown",
        "5 unknown",
        "6 unknown",
        "7 ok",
    ];
    assert_eq!(replies(without), expected);
    let one: &[&str] = &["n6"];
    assert_balances(
        without,
        &[
            (1, "9", FIRST),
            (2, "11", FIRST),
            (3, "10", FIRST),
            (4, "10", FIRST),
            (5, "11", FIRST),
            (3001, "10", one),
            (3002, "10", one),
            (3003, "10", one),
            (3004, "10", one),
            (3005, "10", one),
            (6001, "9", THIRD),
        ],
    );
    assert_eq!(without["verify"], Value::Null);
    let performance = &without["performance"];
    assert_eq!(
        (&performance["committed"], &performance["unknown"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(performance["reads_unknown"], 1);

    assert_eq!(
        replies(regained),
        ["8 ok", "9 ok", "12 unknown", "14 ok 10"]
    );
    let two: &[&str] = &["n5", "n6"];
    assert_balances(
        regained,
        &[
            (4, "9", FIRST),
            (3001, "9", two),
            (3002, "11", two),
            (3004, "11", two),
            (3005, "10", two),
        ],
    );
    assert_sound(regained);

    assert_eq!(replies(leader_alone), ["15 ok", "18 unknown", "19 ok"]);
    let one: &[&str] = &["n4"];
    assert_balances(
        leader_alone,
        &[
            (1, "7", FIRST),
            (2, "13", FIRST),
            (3001, "9", one),
            (3002, "11", one),
        ],
    );
    assert_eq!(leader_alone["verify"], Value::Null);
}

#[test]
fn another_replica_leads_when_the_leader_is_killed() {
    let [killed, never_up] = &sets("leader", &[])[..] else {
        panic!("two sets");
    };
    let expected = [
        "2 ok", "3 ok", "5 ok", "6 ok", "7 ok 11", "9 ok", "12 ok", "13 ok 12",
    ];
    assert_eq!(replies(killed), expected);
    assert_balances(
        killed,
        &[
            (1, "11", FIRST),
            (2, "8", FIRST),
            (3, "5", FIRST),
            (4, "15", FIRST),
            (5, "12", FIRST),
            (3001, "7", SECOND),
            (6001, "12", THIRD),
        ],
    );
    assert_sound(killed);
    let led = later_leaders(killed);
    for shard in [1, 2] {
        let another = |(of, node): &(u64, String)| *of == shard && node != "n1" && node != "n4";
        assert!(led.iter().any(another), "{led:?}");
    }

    assert_eq!(replies(never_up), ["14 ok", "15 ok"]);
    let live: Vec<&str> = vec!["n2", "n3", "n4", "n5", "n6", "n8", "n9"];
    assert_eq!(never_up["live_nodes"], json!(live));
    assert_balances(
        never_up,
        &[
            (1, "10", &["n2", "n3"]),
            (2, "11", &["n2", "n3"]),
            (6001, "9", &["n8", "n9"]),
        ],
    );
    assert_sound(never_up);
    let led = later_leaders(never_up);
    assert!(led.iter().any(|(shard, _)| *shard == 1), "{led:?}");
    assert!(led.iter().any(|(shard, _)| *shard == 3), "{led:?}");
}

#[test]
fn nothing_is_lost_when_all_nodes_are_killed() {
    let [set] = &sets("restart", &[])[..] else {
        panic!("one set");
    };
    let expected = [
        "2 ok", "3 ok", "4 ok", "23 ok 9", "24 ok 8", "25 ok 12", "26 ok 7", "28 ok", "29 ok",
    ];
    assert_eq!(replies(set), expected);
    assert_balances(
        set,
        &[
            (1, "9", FIRST),
            (2, "7", FIRST),
            (3, "13", FIRST),
            (3001, "8", SECOND),
            (3002, "14", SECOND),
            (6001, "0", THIRD),
            (6002, "7", THIRD),
            (6003, "22", THIRD),
        ],
    );
    assert_sound(set);
    let led = later_leaders(set);
    for shard in 1..=3 {
        assert!(led.iter().any(|(of, _)| *of == shard), "{led:?}");
    }
}

/// Groups of three accounts, one on each shard, pay only each other: the planner brings them together. The set behind it
/// begins with fresh accounts, also when it is run alone.
#[test]
fn a_set_of_groups_is_planned_and_the_next_one_is_fresh() {
    let [groups, fresh] = &sets("groups", &[])[..] else {
        panic!("two sets");
    };
    assert_eq!((&groups["set"], &fresh["set"]), (&json!(7), &json!(9)));
    assert!(replies(groups).iter().all(|reply| reply.ends_with(" ok")));
    assert_eq!(groups["performance"]["committed"], 480);
    assert_sound(groups);
    let moves = groups["reshard"].as_array().expect("moves");
    assert!(moves.len() >= 40, "{moves:?}");
    assert_eq!(groups["reshard_decision"], "apply");
    assert_balances(fresh, &[(1, "9", FIRST), (2, "11", FIRST)]);
    assert_sound(fresh);
    assert_eq!(fresh["reshard"], json!([]));

    let [alone] = &sets("groups", &["--set", "9"])[..] else {
        panic!("one set");
    };
    assert_eq!(replies(alone), replies(fresh));
    assert_eq!(alone["balances"], fresh["balances"]);
}

#[test]
fn people_get_the_replies_first_and_a_table_under_each_heading() {
    let done = run(&scenario_file("groups"), &["--set", "9"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let headings = [
        "(1, 2, 1)",
        "PrintBalance",
        "PrintDB",
        "PrintStatus",
        "PrintView",
        "Performance",
        "PrintReshard",
    ];
    let places: Vec<usize> = headings
        .iter()
        .map(|heading| {
            done.stdout
                .find(heading)
                .unwrap_or_else(|| panic!("no {heading}"))
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(
        done.stdout.contains("n1: 9  n2: 9  n3: 9"),
        "{}",
        done.stdout
    );
}

/// One shard of one replica, and two of them: other nodes and other homes.
#[test]
fn other_shapes_have_other_nodes() {
    let directory = scratch("scenario-file");
    let file = directory.path().join("shape.csv");
    let text = "Set Number,Transactions,Live Nodes\n1,\"(4500, 4501, 3)\",\"[n1, n2]\"\n,(4501),\n";
    fs::write(&file, text).expect("write");
    let args = ["--shards", "2", "--replicas", "1", "--json"];
    let done = run(&file, &args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let document: Value = serde_json::from_str(&done.stdout).expect("a document");
    let set = &document["sets"][0];
    assert_eq!(replies(set)[0], "2 ok");
    assert_balances(set, &[(4500, "7", &["n1"]), (4501, "13", &["n2"])]);
    // The same file names a node that one shard does not have.
    let done = run(&file, &["--shards", "1", "--replicas", "1"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(
        done.stderr.contains("shape.csv:2: Live Nodes: "),
        "{}",
        done.stderr
    );
}

#[test]
fn what_makes_no_sense_is_named_and_nothing_is_started() {
    let directory = scratch("scenario-file");
    let file = directory.path().join("bad.csv");
    let text = "Set Number,Transactions,Live Nodes\n1,\"(1, 2, 3)\",[n1]\n,\"(1, x, 3)\",\n";
    fs::write(&file, text).expect("write");
    let begun = Instant::now();
    let done = run(&file, &["--json"]);
    assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{}", done.stderr);
    assert!(
        done.stderr.contains("bad.csv:3: Transactions: "),
        "{}",
        done.stderr
    );
    let done = run(&scenario_file("groups"), &["--set", "8"]);
    assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{}", done.stderr);
    assert!(done.stderr.contains("it has 7, 9"), "{}", done.stderr);
    let done = run(&scenario_file("none"), &[]);
    assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{}", done.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// Told to end in the middle of a set, it leaves no process and no file.
#[test]
fn an_interrupted_run_leaves_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = scratch("scenario-stop");
    let own = empty_directory(directory.path());
    let mut child = command(&scenario_file("no-quorum"), &own, &["--json"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("quorate starts");
    let (running, _) = until(Duration::from_secs(60), "nine nodes", || {
        let running = processes_of(&own).len();
        (running == 9).then_some(running)
    });
    assert_eq!(running, 9);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a pid"), Signal::TERM).expect("it runs");
    let (status, _) = until(Duration::from_secs(60), "end of the run", || {
        child.try_wait().expect("it can be waited for")
    });
    assert_eq!(status.code(), Some(1));
    assert_nothing_left(&own);
}
