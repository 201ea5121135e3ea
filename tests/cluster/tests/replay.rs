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

/// Replays the whole file on a new cluster; returns its cross-shard ratio.
fn replay(name: &str, first_touch: &str) -> Option<f64> {
    let Some(trace) = trace() else {
        eprintln!("skipped: no recorded transfers here; set QUORATE_TRACE to a file");
        return None;
    };
    let rows = fs::read_to_string(&trace)
        .expect("the trace is text")
        .lines()
        .count()
        - 1;
    let cluster = Cluster::start(name, Shape::USUAL);
    let trace = trace.to_string_lossy();
    let done = cluster.bench([
        "run",
        "--workload",
        "replay",
        "--trace",
        &trace,
        "--first-touch",
        first_touch,
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
    assert_eq!(run["verify"]["ok"], true, "{run}");
    cluster.assert_sound(Duration::from_secs(15));
    run["cross_shard_ratio"].as_f64()
}

#[test]
fn new_accounts_beside_their_first_counterparties_keep_most_transfers_local() {
    if let Some(ratio) = replay("replay-near", "on") {
        assert!(ratio <= 0.30, "{ratio}");
    }
}

#[test]
fn the_default_placement_knows_nothing_of_who_pays_whom() {
    if let Some(ratio) = replay("replay-hash", "off") {
        assert!(ratio >= 0.60, "{ratio}");
    }
}
