//! kill -9 under load: whatever was acknowledged is there, once, and the money is right.

#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, SystemTime};

use quorate_cluster_tests::{Cluster, Load, Shape, full, patience, until};

/// Local and cross-shard transfers at once.
const MIXED: [&str; 8] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "16",
    "--batch",
    "20",
];
/// After a restart nothing stays in doubt for longer.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);
/// A shard whose leader was killed serves again.
const SERVES_AGAIN_WITHIN: Duration = Duration::from_secs(3);

#[test]
fn nothing_acknowledged_is_lost_when_every_process_is_killed() {
    let rounds = if full() { 10 } else { 1 };
    let cluster = Cluster::start("kill-all", Shape::USUAL);
    for round in 0..rounds {
        let mut load = Load::start(&cluster, &format!("round-{round}"), 8, &MIXED);
        load.wait_for_acks();
        // Another moment of the load in every round; nothing waits for it.
        thread::sleep(Duration::from_millis(500 + 173 * round));
        cluster.kill_all();
        let killed = SystemTime::now();
        cluster.start_nodes();
        cluster.assert_nothing_in_doubt(killed, patience(RESOLVED_WITHIN));
        let sound = cluster.assert_sound(patience(RESOLVED_WITHIN));
        let report = load.finish();
        report.assert_nothing_lost(&cluster);
        cluster.assert_nothing_in_doubt(SystemTime::now(), patience(RESOLVED_WITHIN));
        let sound_at_end = cluster.assert_sound(patience(RESOLVED_WITHIN));
        assert_eq!(sound_at_end["in_doubt"], 0, "{sound_at_end}");
        assert!(report.committed() > 0, "{}", report.run);
        assert!(
            sound_at_end["transfers"].as_u64() >= sound["transfers"].as_u64(),
            "{sound} {sound_at_end}"
        );
    }
}

#[test]
fn a_shard_serves_again_after_its_leader_is_killed() {
    let cluster = Cluster::start("kill-leader", Shape::USUAL);
    let mut load = Load::start(&cluster, "load", 16, &MIXED);
    load.wait_for_acks();
    for shard in 1..=cluster.shards() {
        let (leader, _) = until(Duration::from_secs(15), "leader to kill", || {
            cluster.leader_node(shard)
        });
        cluster.act("kill", leader);
        let awaited = format!("leader of shard {shard} after node {leader} was killed");
        let (next, took) = until(patience(SERVES_AGAIN_WITHIN), &awaited, || {
            cluster.leader_node(shard)
        });
        assert_ne!(next, leader, "a killed node leads");
        eprintln!("shard {shard}: served again after {took:?}");
        cluster.start_nodes();
    }
    let report = load.finish();
    report.assert_nothing_lost(&cluster);
    assert_eq!(report.code, Some(0), "{}", report.run);
    assert_eq!(
        report.run["unknown"], 0,
        "worse than a retry: {}",
        report.run
    );
    cluster.assert_nothing_in_doubt(SystemTime::now(), patience(RESOLVED_WITHIN));
    let sound = cluster.assert_sound(patience(RESOLVED_WITHIN));
    assert_eq!(sound["in_doubt"], 0, "{sound}");
}

#[test]
fn a_clean_stop_under_load_loses_nothing_either() {
    let cluster = Cluster::start("stop", Shape::USUAL);
    let mut load = Load::start(&cluster, "load", 6, &MIXED);
    load.wait_for_acks();
    let done = cluster.quorate(["cluster", "restart", "--wait", "60s"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report = load.finish();
    report.assert_nothing_lost(&cluster);
    cluster.assert_sound(patience(RESOLVED_WITHIN));
}
