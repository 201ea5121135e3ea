//! Real transfers, recorded on a public chain: every one of them commits.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Shape};

/// `QUORATE_TRACE`, or the data that lies beside a checkout.
fn trace() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/eth_tx_2017.csv");
    let path = std::env::var_os("QUORATE_TRACE").map_or(beside, PathBuf::from);
    path.is_file().then_some(path)
}

#[test]
fn every_transfer_of_a_recorded_file_commits() {
    let Some(trace) = trace() else {
        eprintln!("skipped: no recorded transfers here; set QUORATE_TRACE to a file");
        return;
    };
    let rows = fs::read_to_string(&trace)
        .expect("the trace is text")
        .lines()
        .count()
        - 1;
    let cluster = Cluster::start("replay", Shape::USUAL);
    let trace = trace.to_string_lossy();
    let done = cluster.bench([
        "run",
        "--workload",
        "replay",
        "--trace",
        &trace,
        "--json",
        "-",
    ]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let run = done.json();
    assert_eq!(run["committed"].as_u64(), u64::try_from(rows).ok(), "{run}");
    assert_eq!(run["unknown"], 0, "{run}");
    assert!(
        run["rejected"]
            .as_object()
            .is_some_and(serde_json::Map::is_empty),
        "{run}"
    );
    cluster.assert_sound(Duration::from_secs(15));
}
