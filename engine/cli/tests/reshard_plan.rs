//! `reshard plan --trace`: the course in epochs as machines and people get it, and the exit codes of
//! files and options that make no sense.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quorate_protocol::shard::map::splitmix64;
use serde_json::Value;
use tempfile::TempDir;

/// A trace of so many rows; `transfer` of each.
fn trace(folder: &TempDir, rows: u32, transfer: impl Fn(u32) -> (u32, u32)) -> PathBuf {
    let mut csv = String::from("timestamp,src,dst,amount\n");
    for row in 0..rows {
        let (from, to) = transfer(row);
        writeln!(csv, "{row},{from},{to},1").unwrap();
    }
    let path = folder.path().join("trace.csv");
    std::fs::write(&path, csv).unwrap();
    path
}

/// 40 rings of 25 accounts, of whose transfers one in ten leaves the ring.
fn rings(row: u32) -> (u32, u32) {
    let (ring, member) = (row * 7 % 40, row * 11 % 25);
    let to = match row % 10 {
        0 => (ring + 1 + row % 39) % 40 * 25 + member,
        _ => ring * 25 + (member + 1) % 25,
    };
    (ring * 25 + member, to)
}

fn plan(file: &Path, shards: &str, more: &[&str]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"));
    process.env_remove("QUORATE_CLUSTER");
    process.args(["reshard", "plan", "--shards", shards, "--trace"]);
    process.arg(file).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_course_is_in_the_document_and_shown_to_people() {
    let folder = tempfile::tempdir().unwrap();
    let file = trace(&folder, 20_000, rings);
    let machine = plan(&file, "4", &["--epochs", "4", "--json"]);
    assert_eq!(machine.status.code(), Some(0), "{}", text(&machine.stderr));
    let document: Value = serde_json::from_slice(&machine.stdout).unwrap();
    let course = &document["course"];
    assert_eq!(course["epochs"].as_array().unwrap().len(), 4);
    assert_eq!(
        course["epochs"][3]["cross_shard_ratio"],
        document["cross_shard_ratio"]["backtest"]
    );
    let people = plan(&file, "4", &["--epochs", "4"]);
    let people = text(&people.stdout);
    assert!(people.contains("epoch  transfers  accounts"), "{people}");
    assert!(people.contains("METIS from scratch:"), "{people}");
    let once = plan(&file, "4", &["--json"]);
    assert!(!text(&once.stdout).contains("course"));
}

#[test]
fn what_makes_no_sense_is_named_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = trace(&folder, 3, rings);
    let short = plan(&file, "4", &["--epochs", "4"]);
    let said = text(&short.stderr);
    assert_eq!(short.status.code(), Some(2), "{said}");
    assert!(said.contains("trace.csv: the trace has 3 transfers, fewer than the 4 epochs"));
    for epochs in ["0", "1001"] {
        let refused = plan(&file, "4", &["--epochs", epochs]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains("--epochs"));
    }
    let live = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["reshard", "plan", "-f", "cluster.toml", "--epochs", "2"])
        .output()
        .unwrap();
    assert_eq!(live.status.code(), Some(2));
    assert!(text(&live.stderr).contains("--epochs above 1 needs --trace"));
}

/// Every pair of 600 accounts equally likely.
fn uniform(row: u32) -> (u32, u32) {
    let drawn = splitmix64(row.into());
    let from = u32::try_from(drawn % 600).unwrap();
    let step = u32::try_from((drawn >> 32) % 599).unwrap();
    (from, (from + 1 + step) % 600)
}

#[test]
fn uniform_traffic_is_refused_with_3_and_the_reason_and_leaves_a_map_of_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = trace(&folder, 20_000, uniform);
    let map = folder.path().join("map.csv");
    for shards in ["3", "8", "16"] {
        let output = plan(
            &file,
            shards,
            &["--json", "--map-out", map.to_str().unwrap()],
        );
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["decision"], "refuse");
        let reason = document["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        assert!(reason.contains("cross-shard ratio"), "{reason}");
        assert_eq!(document["moves"], serde_json::json!([]));
        assert_eq!(std::fs::read_to_string(&map).unwrap(), "account,shard\n");
    }
    // One shard: nothing is across shards, and nothing can be gained.
    assert_eq!(plan(&file, "1", &[]).status.code(), Some(3));
}

#[test]
fn a_bad_option_or_file_ends_with_2_names_itself_and_leaves_stdout_empty() {
    let folder = tempfile::tempdir().unwrap();
    let good = trace(&folder, 200, rings);
    for (shards, options, named) in [
        ("0", &[][..], "shards"),
        ("1025", &[], "shards"),
        ("4294967296", &[], "--shards"),
        ("x", &[], "--shards"),
        ("4", &["--train", "0"], "train"),
        ("4", &["--train", "1"], "train"),
        ("4", &["--train", "-1"], "train"),
        ("4", &["--train", "nan"], "train"),
        ("4", &["--train", "0.5", "--epochs", "2"], "--train"),
        ("4", &["--cross-cost", "0.5"], "cross-cost"),
        ("4", &["--cross-cost", "-1"], "cross-cost"),
        ("4", &["--cross-cost", "nan"], "cross-cost"),
        ("4", &["--min-gain", "-1"], "min-gain"),
        ("4", &["--min-gain", "nan"], "min-gain"),
        ("4", &["--first-touch-cap", "0.9"], "first-touch-cap"),
        ("4", &["--first-touch-cap", "inf"], "first-touch-cap"),
        ("4", &["--max-moves", "5"], "--max-moves"),
    ] {
        let output = plan(&good, shards, options);
        let said = text(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{shards} {options:?}: {said}"
        );
        assert!(said.contains(named), "{shards} {options:?}: {said}");
        assert!(output.stdout.is_empty(), "{shards} {options:?}");
    }
    for (rows, named) in [
        ("", "no transfers"),
        ("timestamp,src,dst,amount\n", "no transfers"),
        ("a,b\n1,2\n", "line 1"),
        (
            "timestamp,src,dst,amount\n1,2,3,nan\n",
            "line 2: field amount",
        ),
        ("timestamp,src,dst,amount\n1,2,2,1\n", "line 2: field dst"),
        (
            "timestamp,src,dst,amount\n1,2,3,0e9223372036854775806\n1,2,3,1e400\n",
            "line 3: field amount",
        ),
    ] {
        let file = folder.path().join("bad.csv");
        std::fs::write(&file, rows).unwrap();
        let output = plan(&file, "4", &[]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{rows}: {said}");
        assert!(said.contains("bad.csv") && said.contains(named), "{said}");
        assert!(output.stdout.is_empty());
    }
    let missing = plan(&folder.path().join("no.csv"), "4", &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("no.csv"));
}

/// Two accounts have nine tenths of the load and the shards are many: METIS bisects an empty graph and
/// says so on C's stdout, after the document at that, because C writes its buffer when it exits.
#[test]
fn what_metis_prints_is_not_in_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let file = trace(&folder, 8_000, |row| match row % 10 {
        0 => (2 + row * 7 % 898, 2 + (row * 7 + row / 10 % 897 + 1) % 898),
        _ => (0, 1),
    });
    let output = plan(&file, "32", &["--json"]);
    let said = text(&output.stderr);
    assert!(said.contains("Cannot bisect"), "METIS was silent: {said}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["shards"], 32);
}
