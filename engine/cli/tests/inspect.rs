//! `inspect log|wal|checkpoint|segments|account` on directories that a replica has left: what is shown, that
//! nothing is ever written, and the exit code for what is damaged, foreign or in use.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use quorate_storage::BLOCK_BYTES;
use rustix::fs::FlockOperation;
use serde_json::Value;

use support::{ACCOUNTS, Stopped};

const COMMANDS: [&str; 4] = ["wal", "checkpoint", "segments", "account"];

/// Exit code, document and what stderr says.
fn inspect(topology: &Path, command: &str, more: &[&str]) -> (i32, Value, String) {
    run(
        &[&["-f", topology.to_str().unwrap()], more].concat(),
        command,
    )
}

fn run(arguments: &[&str], command: &str) -> (i32, Value, String) {
    let id: &[&str] = match command {
        "account" => &["3"],
        _ => &[],
    };
    let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"));
    process.env_remove("QUORATE_CLUSTER");
    let output = process
        .args(["inspect", command])
        .args(id)
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let errors = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), document, errors)
}

/// The one replica of a document.
fn replica(document: &Value) -> &Value {
    assert_eq!(document["not_read"], Value::Array(Vec::new()));
    assert_eq!(document["replicas"].as_array().unwrap().len(), 1);
    &document["replicas"][0]
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

#[test]
fn a_log_is_shown_segment_by_segment_and_how_it_ended() {
    let stopped = Stopped::write(true);
    let (code, document, errors) = inspect(&stopped.topology, "wal", &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let log = replica(&document);
    assert_eq!(log["tail"]["row"], "CleanStop");
    assert_eq!(log["tail"]["clean"], true);
    assert_eq!(log["start"], "starts");
    let segments = log["segments"].as_array().unwrap();
    let names = stopped.names("wal-");
    assert_eq!(segments.len(), names.len());
    let written: Vec<&Value> = segments
        .iter()
        .filter(|segment| segment["used"] == "written")
        .collect();
    assert!(written.len() >= 2, "{segments:?}");
    // Every frame of the log lies in one of its segments, and slots follow each other.
    let frames: u64 = written
        .iter()
        .map(|segment| number(&segment["frames"]))
        .sum();
    let markers: u64 = segments
        .iter()
        .map(|segment| number(&segment["end_markers"]))
        .sum();
    assert_eq!(frames + markers, number(&log["frames"]));
    for pair in written.windows(2) {
        assert_eq!(
            number(&pair[0]["slot_last"]) + 1,
            number(&pair[1]["slot_first"])
        );
    }
    let last = written.last().unwrap();
    assert_eq!(last["slot_last"], log["slot_last"]);
    assert_eq!(last["promised"], log["promised"]);
    assert_eq!(last["chosen_upto"], log["chosen_upto"]);
    for segment in segments {
        assert_eq!(segment["unreadable"], Value::Array(Vec::new()));
    }
}

#[test]
fn a_log_is_shown_slot_by_slot() {
    let stopped = Stopped::write(true);
    let (code, document, errors) = inspect(&stopped.topology, "log", &["--count", "1000000"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let log = &document["logs"][0];
    let slots = log["slots"].as_array().unwrap();
    let numbers: Vec<u64> = slots.iter().map(|slot| number(&slot["slot"])).collect();
    let all: Vec<u64> = (numbers[0]..numbers[0] + slots.len() as u64).collect();
    assert_eq!(numbers, all, "slots follow each other");
    let rows = |record: &str| -> u64 {
        let rows = slots.iter().map(|slot| slot["records"][record].as_u64());
        rows.map(Option::unwrap_or_default).sum()
    };
    assert_eq!(u128::from(rows("account")), ACCOUNTS);
    assert_eq!(rows("transfer"), stopped.effects.len() as u64);
    let chosen = number(&log["chosen_upto"]);
    assert!(
        slots
            .iter()
            .all(|slot| (number(&slot["slot"]) <= chosen) == slot["known_chosen"])
    );

    // The last ones unless told from where.
    let (_, document, _) = inspect(&stopped.topology, "log", &["--count", "3"]);
    let last = document["logs"][0]["slots"].as_array().unwrap();
    assert_eq!(last[..], slots[slots.len() - 3..]);
    let from = numbers[1].to_string();
    let (_, document, _) = inspect(&stopped.topology, "log", &["--from", &from, "--count", "2"]);
    let some = document["logs"][0]["slots"].as_array().unwrap();
    assert_eq!(some[..], slots[1..3]);
    let (code, _, errors) = inspect(&stopped.topology, "log", &["--shard", "9"]);
    assert_eq!(code, 2);
    assert!(errors.contains("no such replica"), "{errors}");
}

#[test]
fn a_torn_tail_is_shown_and_is_no_damage() {
    let stopped = Stopped::write(false);
    let (_, document, _) = inspect(&stopped.topology, "wal", &[]);
    let log = replica(&document);
    assert_eq!(log["tail"]["row"], "CleanEnd");
    // The last block of the last flush.
    let segment = log["tail"]["segment"].as_str().unwrap();
    let offset = number(&log["tail"]["offset"]);
    stopped.damage(segment, offset - u64::from(BLOCK_BYTES) + 100);
    let (code, document, _) = inspect(&stopped.topology, "wal", &[]);
    let log = replica(&document);
    assert_eq!((code, &log["tail"]["row"]), (0, &Value::from("TornTail")));
    assert_eq!(log["tail"]["clean"], false);
}

#[test]
fn a_rotten_record_of_the_log_is_named_with_its_row() {
    let stopped = Stopped::write(true);
    let (_, document, _) = inspect(&stopped.topology, "wal", &[]);
    let first = replica(&document)["segments"][0].clone();
    assert!(number(&first["slot_last"]) > 3);
    // Some way into a payload of the middle of the first segment.
    let middle = number(&first["bytes_used"]) / 2 + 200;
    stopped.damage(first["segment"].as_str().unwrap(), middle);
    let (code, document, errors) = inspect(&stopped.topology, "wal", &[]);
    assert_eq!(code, 4, "{errors}");
    let damage = &replica(&document)["damage"][0];
    assert_eq!(damage["row"], "CorruptPayload");
    assert_eq!(damage["segment"], first["segment"]);
    let slot = number(&damage["lost"]["slot"]);
    let slots = number(&first["slot_first"])..=number(&first["slot_last"]);
    assert!(slots.contains(&slot), "{damage}");
    let start = &replica(&document)["start"];
    assert_eq!(start, "starts and asks its peers for what is lost");

    // Without its first segment nothing says what was lost.
    fs::remove_file(stopped.path(first["segment"].as_str().unwrap())).unwrap();
    let (code, document, _) = inspect(&stopped.topology, "wal", &[]);
    let log = replica(&document);
    assert_eq!(
        (code, &log["damage"][0]["row"]),
        (4, &Value::from("MissingSegment"))
    );
    assert_eq!(log["start"], "parked: what is lost cannot be named");

    // Without any it is no log.
    for name in stopped.names("wal-") {
        fs::remove_file(stopped.path(&name)).unwrap();
    }
    let (code, document, _) = inspect(&stopped.topology, "wal", &[]);
    let error = replica(&document)["error"].as_str().unwrap();
    assert_eq!(
        (code, error),
        (4, "no log segment in a formatted directory")
    );
}

#[test]
fn both_checkpoints_are_shown_and_which_one_counts() {
    let stopped = Stopped::write(true);
    let (code, document, errors) = inspect(&stopped.topology, "checkpoint", &[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let store = replica(&document);
    assert_eq!(store["row"], "Newest");
    let manifests = store["manifests"].as_array().unwrap();
    let mut numbers: Vec<u64> = manifests
        .iter()
        .map(|manifest| number(&manifest["number"]))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers[0] + 1, numbers[1]);
    assert_eq!(number(&store["used"]), numbers[1]);
    for manifest in manifests {
        assert_eq!(
            number(&manifest["accounts_live"]),
            u64::try_from(ACCOUNTS).unwrap()
        );
        assert_eq!(manifest["mark"]["slot"], manifest["slot"]);
        assert_eq!(manifest["mark"]["digest"].as_str().unwrap().len(), 32);
        assert_eq!(manifest["history"]["first"], 1);
        assert_eq!(manifest["history"]["end"], manifest["history_next"]);
        assert_eq!(manifest["state"], "readable");
    }
    let used = manifests
        .iter()
        .find(|manifest| manifest["number"] == store["used"])
        .unwrap();
    let older = manifests
        .iter()
        .find(|manifest| manifest["number"] != store["used"])
        .unwrap();
    assert_eq!(store["log_needed_from"], older["slot"]);

    // The newer one is damaged: the older one counts, and says so.
    stopped.damage(used["file"].as_str().unwrap(), 70);
    let (code, document, _) = inspect(&stopped.topology, "checkpoint", &[]);
    let store = replica(&document);
    assert_eq!((code, &store["row"]), (4, &Value::from("OneDamaged")));
    assert_eq!(store["used"], older["number"]);
    assert_eq!(store["damage"].as_array().unwrap().len(), 1);

    // A file that both list is gone: neither counts.
    let shared = older["files"][0]["file"].as_str().unwrap();
    fs::remove_file(stopped.path(shared)).unwrap();
    let (code, document, _) = inspect(&stopped.topology, "checkpoint", &[]);
    let store = replica(&document);
    assert_eq!((code, &store["row"]), (4, &Value::from("Unusable")));
    assert_eq!(store["used"], Value::Null);
}

#[test]
fn every_data_file_is_shown_and_with_verify_every_block_of_it() {
    let stopped = Stopped::write(true);
    // Left behind by a checkpoint that was not published.
    fs::write(stopped.path("side-00000000000000ff"), [7; 8192]).unwrap();
    let (code, document, errors) = inspect(&stopped.topology, "segments", &["--verify"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let store = replica(&document);
    let files = store["files"].as_array().unwrap();
    assert_eq!(number(&store["unlisted"]), 1);
    let mut rows = 0;
    for file in files.iter().filter(|file| file["kind"] == "history") {
        assert_eq!(number(&file["history"]["first"]), rows + 1);
        rows += number(&file["sections"][0]["rows"]);
        assert_eq!(number(&file["blocks_damaged"]), 0);
        assert!(!file["listed_by"].as_array().unwrap().is_empty());
    }
    assert!(rows > 0);

    // A block in the middle of a file is found by reading all of them, and only then.
    let file = files.iter().find(|file| file["kind"] == "history").unwrap();
    let name = file["file"].as_str().unwrap();
    stopped.damage(name, u64::from(BLOCK_BYTES) + 40);
    assert_eq!(inspect(&stopped.topology, "segments", &[]).0, 0);
    let (code, document, _) = inspect(&stopped.topology, "segments", &["--verify"]);
    assert_eq!(code, 4);
    let damage = replica(&document)["damage"][0].as_str().unwrap();
    assert!(
        damage.starts_with(&format!("{name} block 1: checksum")),
        "{damage}"
    );

    // A footer is read in any case.
    stopped.damage(name, number(&file["bytes"]) - 4000);
    let (code, document, _) = inspect(&stopped.topology, "segments", &[]);
    assert_eq!(code, 4);
    let damage = replica(&document)["damage"][0].as_str().unwrap();
    assert!(damage.contains("footer block"), "{damage}");
}

#[test]
fn an_account_is_shown_with_its_place_and_its_history() {
    let stopped = Stopped::write(true);
    let (code, document, errors) = inspect(&stopped.topology, "account", &["--limit", "1000"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let seen = replica(&document);
    let account = &seen["account"];
    let decimal = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
    let history = seen["history"].as_array().unwrap();
    assert!(history.len() > 50, "{}", history.len());
    assert_eq!(seen["history_next"], Value::Null);
    // The rows lead from one to the next, and add up to the balances.
    assert_eq!(history[0]["position"], account["last"]);
    let (mut debits, mut credits) = (0, 0);
    for (at, row) in history.iter().enumerate() {
        let next = history
            .get(at + 1)
            .map_or(0, |row| number(&row["position"]));
        assert_eq!(number(&row["before"]), next);
        match row["side"].as_str().unwrap() {
            "debit" => debits += decimal(&row["amount"]),
            _ => credits += decimal(&row["amount"]),
        }
        let id = decimal(&row["id"]);
        let (debit, credit, amount) = stopped
            .effects
            .iter()
            .find(|(_, _, number)| *number == id)
            .unwrap();
        assert_eq!(decimal(&row["amount"]), *amount);
        assert!([debit, credit].contains(&&3));
        assert!([debit, credit].contains(&&decimal(&row["other"])));
    }
    assert_eq!(decimal(&account["debits_posted"]), debits);
    assert_eq!(decimal(&account["credits_posted"]), credits);

    let (code, document, _) = inspect(&stopped.topology, "account", &["--limit", "2"]);
    let page = replica(&document);
    assert_eq!((code, page["history"].as_array().unwrap().len()), (0, 2));
    assert_eq!(page["history_next"], history[2]["position"]);

    let place = &account["place"];
    let at = number(&place["block"]) * u64::from(BLOCK_BYTES) + 500;
    stopped.damage(place["file"].as_str().unwrap(), at);
    let (code, document, _) = inspect(&stopped.topology, "account", &[]);
    assert_eq!(code, 4);
    let damage = replica(&document)["damage"][0].as_str().unwrap();
    assert!(damage.contains("checksum"), "{damage}");
}

#[test]
fn an_account_that_is_not_there_is_no_failure() {
    let stopped = Stopped::write(true);
    let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = process
        .args(["inspect", "account", "999", "-f"])
        .arg(&stopped.topology)
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("has no account 999"), "{text}");
}

#[test]
fn nothing_is_written_whatever_is_found() {
    let stopped = Stopped::write(false);
    let last = stopped.names("wal-").pop().unwrap();
    stopped.damage(&last, 4096);
    stopped.damage("manifest-0", 9);
    let before = stopped.snapshot();
    for command in COMMANDS {
        inspect(&stopped.topology, command, &[]);
    }
    inspect(&stopped.topology, "segments", &["--verify"]);
    assert!(stopped.snapshot() == before);
}

#[test]
fn a_directory_in_use_is_refused_and_one_that_is_looked_at_is_shared() {
    let stopped = Stopped::write(true);
    let lock = File::open(stopped.path("lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    for command in COMMANDS {
        let (code, document, errors) = inspect(&stopped.topology, command, &[]);
        assert_eq!(code, 3, "{command}: {errors}");
        let reason = document["not_read"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("a process runs on it"), "{reason}");
        assert_eq!(document["replicas"], Value::Array(Vec::new()));
    }
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(inspect(&stopped.topology, "wal", &[]).0, 0);
}

#[test]
fn foreign_and_lost_identities_are_told_apart() {
    let stopped = Stopped::write(true);
    // The topology of another cluster.
    let text = fs::read_to_string(&stopped.topology).unwrap();
    let other = stopped.root().join("other.toml");
    fs::write(&other, text.replace("cluster_id = 7", "cluster_id = 9")).unwrap();
    for command in COMMANDS {
        let (code, _, errors) = inspect(&other, command, &[]);
        assert_eq!(code, 2, "{command}: {errors}");
        assert!(
            errors.contains("cluster id 7 on disk, 9 in config"),
            "{errors}"
        );
    }
    // By its path alone the directory is whose its superblock says.
    let directory = stopped.directory.to_str().unwrap();
    let (code, document, _) = run(&["--dir", directory], "wal");
    assert_eq!(
        (code, &replica(&document)["cluster"]),
        (0, &Value::from("7"))
    );
    // A manifest of another shard inside is damage of the store.
    let foreign = quorate_storage::store::Manifest::empty(quorate_storage::store::Binding {
        cluster: 7,
        shard: 2,
    });
    fs::write(stopped.path("manifest-0"), foreign.encode()).unwrap();
    let (code, document, _) = inspect(&stopped.topology, "checkpoint", &[]);
    assert_eq!(
        (code, &replica(&document)["row"]),
        (4, &Value::from("Foreign"))
    );

    stopped.damage("superblock", 20);
    let (code, _, errors) = inspect(&stopped.topology, "wal", &[]);
    assert_eq!(code, 4, "{errors}");
    fs::remove_file(stopped.path("superblock")).unwrap();
    assert_eq!(inspect(&stopped.topology, "wal", &[]).0, 4);
    fs::remove_file(stopped.path("lock")).unwrap();
    assert_eq!(inspect(&stopped.topology, "wal", &[]).0, 2);
    fs::remove_dir_all(&stopped.directory).unwrap();
    let (code, _, errors) = inspect(&stopped.topology, "wal", &[]);
    assert_eq!(code, 2);
    assert!(errors.contains("on this host"), "{errors}");
    assert_eq!(run(&[], "wal").0, 2);
}
