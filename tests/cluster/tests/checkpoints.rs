//! Checkpoints, released logs and rebuilds on real disks: killed at any moment of them nothing is lost, and
//! a replica that was away for longer than the logs reach comes back while the shard serves.

#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Load, Shape, full, patience, until, with_small_checkpoints};
use quorate_protocol::prng::Prng;

/// Two or three checkpoints a second; every acknowledged id is looked up afterwards.
const BUSY: [&str; 12] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "8",
    "--batch",
    "100",
    "--mode",
    "open",
    "--rate",
    "20000",
];
const SOUND_WITHIN: Duration = Duration::from_secs(5);
/// A replica that is started has what its group has.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);

fn started(name: &str, shape: Shape) -> Cluster {
    let cluster = Cluster::init_with(name, shape, with_small_checkpoints);
    cluster.start_nodes();
    cluster
}

#[test]
fn killed_at_any_moment_of_a_checkpoint_nothing_is_lost() {
    let rounds = if full() { 100 } else { 4 };
    let cluster = started("checkpoints", Shape::USUAL);
    let mut random = Prng::new(7);
    for round in 0..rounds {
        let mut load = Load::start(&cluster, &format!("round-{round}"), 3, &BUSY);
        load.wait_for_acks();
        thread::sleep(Duration::from_millis(random.range(100, 1500)));
        cluster.kill_all();
        cluster.start_nodes();
        let report = load.finish();
        report.assert_nothing_lost(&cluster);
        let sound = cluster.assert_sound(patience(SOUND_WITHIN));
        assert_eq!(sound["in_doubt"], 0, "{sound}");
    }
    let logs = cluster.quorate(["cluster", "logs", "-n", "100000"]).stdout;
    assert!(logs.contains("checkpoint published"), "{logs}");
}

/// Whether the node's replica of the only shard follows without lag.
fn follows(cluster: &Cluster, node: u64) -> Option<()> {
    let status = cluster.look(["status"]);
    let replicas = status["replicas"].as_array()?;
    let leader = replicas.iter().find(|row| row["role"] == "leader")?;
    let own = replicas.iter().find(|row| row["node"] == node)?;
    (own["role"] == "follower" && own["applied_upto"] == leader["chosen_upto"]).then_some(())
}

#[test]
fn a_replica_behind_the_logs_of_its_group_takes_a_checkpoint() {
    let rounds = if full() { 20 } else { 2 };
    let cluster = started("behind", Shape::GROUP);
    let mut random = Prng::new(11);
    for round in 0..rounds {
        let leader = until(patience(SOUND_WITHIN), "leader", || cluster.leader_node(1)).0;
        let away = 1 + leader % 3;
        cluster.act("kill", away);
        let load = Load::start(&cluster, &format!("away-{round}"), 4, &BUSY);
        let report = load.finish();
        assert_eq!(report.code, Some(0), "{}", report.run);
        // What is below their checkpoints is in no log and, from now on, in no memory.
        cluster.kill_all();
        for node in (1..=3).filter(|node| *node != away) {
            let node = node.to_string();
            let done = cluster.quorate(["cluster", "start", "--node", &node, "--wait", "0s"]);
            assert_eq!(done.code, Some(0), "{done:?}");
        }
        cluster.start_nodes();
        // In the middle of the rebuild, and again.
        for _ in 0..random.range(0, 4) {
            thread::sleep(Duration::from_millis(random.range(5, 200)));
            cluster.act("kill", away);
            cluster.start_nodes();
        }
        until(patience(CAUGHT_UP_WITHIN), "caught-up follower", || {
            follows(&cluster, away)
        });
        report.assert_nothing_lost(&cluster);
        cluster.assert_sound(patience(SOUND_WITHIN));
    }
    let logs = cluster.quorate(["cluster", "logs", "-n", "100000"]).stdout;
    assert!(logs.contains("checkpoint taken"), "{logs}");
}
