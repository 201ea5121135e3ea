//! `cluster isolate` and `heal`: a leader that hears nobody is replaced, and follows when it is healed.

#![forbid(unsafe_code)]

use std::time::Duration;

use quorate_cluster_tests::{Cluster, Load, Shape, patience, until};
use serde_json::Value;

const SHARD: u64 = 1;
/// A shard whose leader is cut off is led by another.
const SERVES_AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// A healed node is sent what it missed.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// What the replica of `SHARD` on the node says of itself.
fn own_row(cluster: &Cluster, node: u64) -> Value {
    let status = cluster.look(["status"]);
    let rows = status["replicas"].as_array().into_iter().flatten();
    rows.filter(|row| row["shard"] == SHARD)
        .find(|row| row["node"] == node)
        .expect("every node hosts a replica of the shard")
        .clone()
}

#[test]
fn an_isolated_leader_is_replaced_and_follows_when_it_is_healed() {
    let cluster = Cluster::start("isolate", Shape::USUAL);
    let mut load = Load::start(&cluster, "load", 10, &["--workload", "uniform"]);
    load.wait_for_acks();
    let (old, _) = until(Duration::from_secs(15), "leader to isolate", || {
        cluster.leader_node(SHARD)
    });

    cluster.act("isolate", old);
    // The command came back when the node knew it, and clients still reach it.
    let reason = own_row(&cluster, old)["reason"].to_string();
    assert!(reason.contains("isolated"), "{reason}");
    let another = || cluster.leader_node(SHARD).filter(|&leader| leader != old);
    let (next, took) = until(
        patience(SERVES_AGAIN_WITHIN),
        "another node that leads",
        another,
    );
    eprintln!("node {next} served {took:?} after node {old} was isolated");
    until(
        patience(SERVES_AGAIN_WITHIN),
        "end of the old leader",
        || (own_row(&cluster, old)["role"] != "leader").then_some(()),
    );

    cluster.act("heal", old);
    let (_, took) = until(patience(FOLLOWS_WITHIN), "healed node that follows", || {
        let row = own_row(&cluster, old);
        (row["role"] == "follower" && row["leader"].is_u64() && row["reason"] == "").then_some(())
    });
    eprintln!("node {old} followed {took:?} after it was healed");
    let report = load.finish();
    report.assert_nothing_lost(&cluster);
    cluster.assert_sound(patience(Duration::from_secs(5)));
}

#[test]
fn a_node_that_does_not_run_cannot_be_isolated() {
    let cluster = Cluster::init_with("isolate-none", Shape::SINGLE, |text| text);
    let done = cluster.quorate(["cluster", "isolate", "--node", "1"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("does not run"), "{done:?}");
    let done = cluster.quorate(["cluster", "heal", "--node", "9"]);
    assert_eq!(done.code, Some(2), "{done:?}");
}
