//! `reshard plan --trace`: the course in epochs as machines and people get it, and the exit codes of
//! files and options that make no sense.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A file of `rows` transfers: 40 rings of 25 accounts, of whose transfers one in ten leaves the ring.
fn rings(folder: &TempDir, rows: u32) -> PathBuf {
    let mut csv = String::from("timestamp,src,dst,amount\n");
    for row in 0..rows {
        let (ring, member) = (row * 7 % 40, row * 11 % 25);
        let next = match row % 10 {
            0 => (ring + 1 + row % 39) % 40 * 25 + member,
            _ => ring * 25 + (member + 1) % 25,
        };
        writeln!(csv, "{row},{},{next},1", ring * 25 + member).unwrap();
    }
    let path = folder.path().join("rings.csv");
    std::fs::write(&path, csv).unwrap();
    path
}

fn plan(file: &Path, more: &[&str]) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_quorate"));
    process.env_remove("QUORATE_CLUSTER");
    process.args(["reshard", "plan", "--shards", "4", "--trace"]);
    process.arg(file).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_course_is_in_the_document_and_shown_to_people() {
    let folder = tempfile::tempdir().unwrap();
    let file = rings(&folder, 20_000);
    let machine = plan(&file, &["--epochs", "4", "--json"]);
    assert_eq!(machine.status.code(), Some(0), "{}", text(&machine.stderr));
    let document: Value = serde_json::from_slice(&machine.stdout).unwrap();
    let course = &document["course"];
    assert_eq!(course["epochs"].as_array().unwrap().len(), 4);
    assert_eq!(
        course["epochs"][3]["cross_shard_ratio"],
        document["cross_shard_ratio"]["backtest"]
    );
    let people = plan(&file, &["--epochs", "4"]);
    let people = text(&people.stdout);
    assert!(people.contains("epoch  transfers  accounts"), "{people}");
    assert!(people.contains("METIS from scratch:"), "{people}");
    let once = plan(&file, &["--json"]);
    assert!(!text(&once.stdout).contains("course"));
}

#[test]
fn what_makes_no_sense_is_named_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = rings(&folder, 3);
    let short = plan(&file, &["--epochs", "4"]);
    let said = text(&short.stderr);
    assert_eq!(short.status.code(), Some(2), "{said}");
    assert!(said.contains("rings.csv: the trace has 3 transfers, fewer than the 4 epochs"));
    for epochs in ["0", "1001"] {
        let refused = plan(&file, &["--epochs", epochs]);
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
