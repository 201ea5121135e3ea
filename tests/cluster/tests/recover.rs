//! A replica killed, its data directory deleted: under `--recover` it is a voter again while its shard
//! serves, however often it is killed on the way.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use quorate_cluster_tests::{Cluster, Load, Shape, full, patience, until, with_small_checkpoints};
use serde_json::Value;

/// A few megabytes of log a round: every acknowledged id is looked up afterwards.
const LOAD: [&str; 12] = [
    "--workload",
    "uniform",
    "--accounts",
    "3000",
    "--clients",
    "8",
    "--batch",
    "20",
    "--mode",
    "open",
    "--rate",
    "3000",
];
/// The node whose directory is lost.
const LOST: u64 = 3;
/// From an empty directory to a vote.
const VOTES_AGAIN_WITHIN: Duration = Duration::from_secs(20);
const SOUND_WITHIN: Duration = Duration::from_secs(5);

/// The replica on the lost node, in `status`.
fn row(cluster: &Cluster) -> Option<Value> {
    let status = cluster.look(["status"]);
    let rows = status["replicas"].as_array()?;
    rows.iter().find(|row| row["node"] == LOST).cloned()
}

fn is_voter(cluster: &Cluster) -> Option<Duration> {
    let role = row(cluster)?["role"].as_str()?.to_owned();
    (role == "follower" || role == "leader").then(Duration::default)
}

/// A few entries of a load behind at most.
fn has_no_lag(cluster: &Cluster) -> Option<()> {
    let status = cluster.look(["status"]);
    let rows = status["replicas"].as_array()?;
    let applied = |row: &Value| row["applied_upto"].as_u64();
    let newest = rows.iter().filter_map(applied).max()?;
    let own = rows.iter().find(|row| row["node"] == LOST)?;
    (applied(own)? + 64 >= newest).then_some(())
}

fn directory_of(cluster: &Cluster) -> PathBuf {
    cluster.directory().join("nodes").join(format!("n{LOST}"))
}

fn recover(cluster: &Cluster) {
    let node = LOST.to_string();
    let done = cluster.quorate([
        "cluster",
        "start",
        "--node",
        &node,
        "--recover",
        "--wait",
        "60s",
    ]);
    assert_eq!(done.code, Some(0), "{done:?}\n{}", cluster.logs());
}

#[test]
fn a_replica_whose_directory_was_deleted_is_a_voter_again_under_load() {
    let rounds = if full() { 20 } else { 2 };
    let cluster = Cluster::init_with("recover", Shape::GROUP, with_small_checkpoints);
    cluster.start_nodes();
    for round in 0..rounds {
        let mut load = Load::start(&cluster, &format!("round-{round}"), 16, &LOAD);
        load.wait_for_acks();
        thread::sleep(Duration::from_secs(3));
        cluster.act("kill", LOST);
        fs::remove_dir_all(directory_of(&cluster)).expect("the directory is there");
        let began = Instant::now();
        recover(&cluster);
        // Another moment of it in every round but the first; each start goes on with it.
        for kill in 0..round.min(3) {
            thread::sleep(Duration::from_millis((round * 131 + kill * 257) % 1_500));
            let was_voter = is_voter(&cluster).is_some();
            cluster.act("kill", LOST);
            let done = cluster.quorate(["cluster", "start", "--wait", "60s"]);
            assert_eq!(done.code, Some(0), "{done:?}\n{}", cluster.logs());
            eprintln!("round {round}: killed, a voter already: {was_voter}");
        }
        let patient = patience(VOTES_AGAIN_WITHIN);
        until(patient, "vote of the recovered replica", || {
            is_voter(&cluster)
        });
        let took = began.elapsed();
        let marker = directory_of(&cluster).join("s1r3/rejoins");
        assert!(!marker.exists(), "it is no voter at its next start");
        until(patient, "recovered replica without a lag", || {
            has_no_lag(&cluster)
        });
        eprintln!("round {round}: a voter after {took:?}");

        // Now the shard can do without another one, whichever leads.
        let other = 1 + round % 2;
        cluster.act("kill", other);
        until(Duration::from_secs(15), "leader of the other two", || {
            cluster.leader_node(1).filter(|leader| *leader != other)
        });
        let report = load.finish();
        report.assert_nothing_lost(&cluster);
        cluster.start_nodes();
        cluster.assert_sound(patience(SOUND_WITHIN));
        assert!(report.committed() > 0, "{}", report.run);
    }
}

/// The others were restarted: what is below their checkpoints is in no log and in no memory any more.
#[test]
fn a_recovered_replica_takes_a_checkpoint_where_the_log_is_released() {
    let cluster = Cluster::init_with("recover-far", Shape::GROUP, with_small_checkpoints);
    cluster.start_nodes();
    let load = Load::start(&cluster, "before", 10, &LOAD);
    load.finish().assert_nothing_lost(&cluster);
    let done = cluster.quorate(["cluster", "stop"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    fs::remove_dir_all(directory_of(&cluster)).expect("the directory is there");
    for node in ["1", "2"] {
        let done = cluster.quorate(["cluster", "start", "--node", node, "--wait", "0s"]);
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    let mut load = Load::start(&cluster, "during", 14, &LOAD);
    load.wait_for_acks();
    let began = Instant::now();
    recover(&cluster);
    until(patience(VOTES_AGAIN_WITHIN), "vote", || is_voter(&cluster));
    eprintln!("a voter after {:?}", began.elapsed());
    let log = directory_of(&cluster).join("node.log");
    let log = fs::read_to_string(log).expect("the node has a log");
    assert!(log.contains("checkpoint taken"), "{log}");
    cluster.act("kill", 1);
    load.finish().assert_nothing_lost(&cluster);
    cluster.start_nodes();
    cluster.assert_sound(patience(SOUND_WITHIN));
}

#[test]
fn without_the_option_a_lost_replica_stays_out_of_service_and_says_what_helps() {
    let cluster = Cluster::start("recover-not", Shape::GROUP);
    cluster.act("kill", LOST);
    fs::remove_dir_all(directory_of(&cluster).join("s1r3")).expect("the directory is there");
    let done = cluster.quorate(["cluster", "start", "--node", "3", "--wait", "30s"]);
    assert_eq!(done.code, Some(19), "{done:?}");
    assert!(done.stderr.contains("--recover"), "{done:?}");
    recover(&cluster);
    until(patience(VOTES_AGAIN_WITHIN), "vote", || is_voter(&cluster));
    cluster.assert_sound(patience(SOUND_WITHIN));
}

#[test]
fn a_group_of_one_is_not_recovered() {
    let cluster = Cluster::start("recover-one", Shape::SINGLE);
    cluster.act("kill", 1);
    let directory = cluster.directory().join("nodes/n1/s1r1");
    fs::remove_dir_all(&directory).expect("the directory is there");
    let started = cluster.quorate(["cluster", "start", "--node", "1", "--recover"]);
    assert_eq!(started.code, Some(19), "{started:?}");
    assert!(started.stderr.contains("group of one"), "{started:?}");
}
