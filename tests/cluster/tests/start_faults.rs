//! What keeps a node from starting: each with a message that names it and an exit code of its own,
//! and without harm to a node that runs.

#![forbid(unsafe_code)]

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use quorate_cluster_tests::{Cluster, Finished, Shape, patience, until};
use quorate_config::ClusterConfig;
use quorate_protocol::ids::NodeId;
use rustix::process::{Pid, Signal, kill_process};

const PORT_IN_USE: i32 = 13;
const DATA_DIRECTORY: i32 = 14;
const DIRECTORY_LOCKED: i32 = 15;
const WRONG_IDENTITY: i32 = 16;

fn assert_ends(done: &Finished, code: i32, says: &[&str]) {
    assert_eq!(done.code, Some(code), "{done:?}");
    for word in says {
        assert!(
            done.stderr.contains(word),
            "`{word}` is not in: {}",
            done.stderr
        );
    }
}

/// A node that must not start. One that does is ended after a while, and its test fails.
fn server(cluster: &Cluster) -> Finished {
    cluster.quorate_within(patience(Duration::from_secs(10)), ["server", "--node", "1"])
}

#[test]
fn an_unknown_key_is_named_with_file_and_line() {
    let add = |text: String| text.replacen("shards = 1", "shards = 1\nshard_size = 7", 1);
    let cluster = Cluster::init_with("unknown-key", Shape::SINGLE, add);
    for command in [["server", "--node", "1"], ["cluster", "start", "--wait"]] {
        let args = command
            .into_iter()
            .chain(["1s"].into_iter().filter(|_| command[0] == "cluster"));
        let done = cluster.quorate(args);
        assert_ends(&done, 2, &["cluster.toml:4", "shard_size"]);
    }
}

#[test]
fn a_value_that_makes_no_sense_is_named() {
    let spoil = |text: String| text.replacen("replicas = 1", "replicas = 2", 1);
    let cluster = Cluster::init_with("bad-value", Shape::SINGLE, spoil);
    assert_ends(&server(&cluster), 2, &["cluster.toml", "replicas", "2"]);
}

#[test]
fn a_missing_file_and_a_missing_node_are_named() {
    let cluster = Cluster::init_with("missing", Shape::SINGLE, |text| text);
    let done = cluster.quorate(["server", "--node", "7"]);
    assert_ends(&done, 2, &["--node", "7"]);
    fs::remove_file(cluster.file()).unwrap();
    assert_ends(&server(&cluster), 2, &["cluster.toml", "cannot be read"]);
}

#[test]
fn two_processes_on_one_directory_are_refused_and_the_first_goes_on() {
    let cluster = Cluster::start("two", Shape::SINGLE);
    let done = server(&cluster);
    assert_ends(&done, DIRECTORY_LOCKED, &["nodes/n1", "lock"]);
    cluster.assert_sound(Duration::from_secs(15));
}

/// Two people, or a person and a unit file, start the same nodes. Each command waits until the cluster
/// serves, nothing is parked, and the noted pids are those of the processes that serve.
#[test]
fn two_starts_of_one_cluster_at_once_give_one_cluster() {
    let shape = Shape {
        shards: 3,
        replicas: 1,
        nodes: 1,
    };
    let cluster = Cluster::init_with("twice", shape, |text| text);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| cluster.start_nodes());
        }
    });
    let status = cluster.json(["status"]);
    for row in status["replicas"].as_array().unwrap() {
        assert_eq!(row["role"], "leader", "{row}");
    }
    // Only the process that the pid file names can be stopped by it.
    let stopped = cluster.quorate(["cluster", "stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
    cluster.start_nodes();
}

/// The same by hand: the one process has all three replicas, and the other says why it has none.
#[test]
fn of_two_servers_of_one_node_at_once_one_ends_and_the_other_has_every_replica() {
    let shape = Shape {
        shards: 3,
        replicas: 1,
        nodes: 1,
    };
    let cluster = Cluster::init_with("split", shape, |text| text);
    let (told, ended) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..2 {
            let (cluster, told) = (&cluster, told.clone());
            scope.spawn(move || told.send(server(cluster)).unwrap());
        }
        let loser = ended
            .recv_timeout(patience(Duration::from_secs(5)))
            .unwrap();
        assert_ends(&loser, DIRECTORY_LOCKED, &["nodes/n1", "lock"]);
        let (pid, _) = until(
            patience(Duration::from_secs(5)),
            "leader of every shard",
            || {
                let status = cluster.look(["status"]);
                let rows = status["replicas"].as_array()?;
                let lead = rows.iter().all(|row| row["role"] == "leader");
                // "locked by process PID"
                let lock = fs::read_to_string(cluster.directory().join("nodes/n1/lock")).ok()?;
                let pid = lock.trim().rsplit(' ').next()?.parse().ok()?;
                Pid::from_raw(pid).filter(|_| lead)
            },
        );
        kill_process(pid, Signal::TERM).unwrap();
        let winner = ended.recv_timeout(patience(Duration::from_secs(10)));
        assert_eq!(winner.unwrap().code, Some(0));
    });
}

#[test]
fn the_directory_of_another_cluster_is_refused_with_both_ids() {
    let cluster = Cluster::start("identity", Shape::SINGLE);
    cluster.kill_all();
    let text = fs::read_to_string(cluster.file()).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("cluster_id"))
        .unwrap();
    let old = line.split('=').nth(1).unwrap().trim().to_owned();
    fs::write(cluster.file(), text.replacen(&old, "4711", 1)).unwrap();
    let done = server(&cluster);
    assert_ends(&done, WRONG_IDENTITY, &[&old, "4711"]);
    // With its own file it starts again: the refusal changed nothing.
    fs::write(cluster.file(), text).unwrap();
    cluster.start_nodes();
}

/// Each of these settings decides what the log means. Under another one the same log was another
/// ledger, and `verify` found nothing wrong with it.
#[test]
fn settings_that_decide_the_state_are_fixed_once_there_is_data() {
    let cluster = Cluster::start("genesis", Shape::SINGLE);
    cluster.kill_all();
    let text = fs::read_to_string(cluster.file()).unwrap();
    for (from, to) in [
        ("ids = \"ulid\"", "ids = \"any\""),
        (
            "placement = \"hash\"",
            "placement = \"range\"\naccounts_per_shard = 10",
        ),
        ("shards = 1", "shards = 2"),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        // A second shard needs a core; who shares cores may be edited.
        let edited = text.replacen(from, to, 1);
        let edited = edited.replace("share_cores = false", "share_cores = true");
        fs::write(cluster.file(), edited).unwrap();
        let done = server(&cluster);
        let (was, is) = (from.replace('"', ""), to.replace('"', ""));
        let is = is.lines().next().unwrap();
        assert_ends(&done, WRONG_IDENTITY, &[&was, is, "fixed for the life"]);
    }
    fs::write(cluster.file(), text).unwrap();
    cluster.start_nodes();
}

/// The two sides of a lease measured it each by its own file, and a deposed leader gave stale reads.
#[test]
fn the_lease_is_fixed_once_there_is_data() {
    let cluster = Cluster::start("lease", Shape::SINGLE);
    cluster.kill_all();
    let text = fs::read_to_string(cluster.file()).unwrap();
    let timing = "\n[timing]\nlease = \"450ms\"\n[[node]]";
    fs::write(cluster.file(), text.replacen("\n[[node]]", timing, 1)).unwrap();
    let says = ["lease = 400ms", "lease = 450ms"];
    assert_ends(&server(&cluster), WRONG_IDENTITY, &says);
    fs::write(cluster.file(), text).unwrap();
    cluster.start_nodes();
}

/// It said that no leader was found, and that it was safe to try again.
#[test]
fn a_client_under_other_settings_is_told_of_both() {
    let cluster = Cluster::start("client-genesis", Shape::SINGLE);
    let text = fs::read_to_string(cluster.file()).unwrap();
    let edited = text.replacen("ids = \"ulid\"", "ids = \"any\"", 1);
    fs::write(cluster.file(), edited).unwrap();
    let says = ["wrong_genesis", "ids = ulid", "ids = any"];
    let commands: [&[&str]; 4] = [
        &[
            "account", "create", "--ids", "1..3", "--ledger", "1", "--code", "1",
        ],
        &["account", "show", "1"],
        &["verify"],
        &["status"],
    ];
    for command in commands {
        let done = cluster.quorate(command.iter().copied());
        assert_ends(&done, 1, &says);
    }
    fs::write(cluster.file(), text).unwrap();
    cluster.assert_sound(Duration::from_secs(10));
}

/// The first call failed, the next one did not: whoever tried again took it for well.
#[test]
fn a_start_beside_a_replica_out_of_service_fails_every_time() {
    let cluster = Cluster::start("parked", Shape::USUAL);
    cluster.act("kill", 1);
    let config = ClusterConfig::load(cluster.file()).unwrap();
    let lost = config.replicas_of(NodeId(1))[0];
    fs::remove_dir_all(config.data_dir_of(lost)).unwrap();
    for _ in 0..2 {
        let done = cluster.quorate(["cluster", "start", "--node", "1"]);
        assert_ends(&done, 1, &[&lost.to_string(), "out of service", "is lost"]);
    }
    cluster.assert_sound(Duration::from_secs(10));
}

/// Each node would have formatted its own replicas beside the other's: empty ones that vote.
#[test]
fn nodes_whose_directories_changed_places_do_not_start() {
    let cluster = Cluster::start("swapped", Shape::USUAL);
    cluster.kill_all();
    let config = ClusterConfig::load(cluster.file()).unwrap();
    let below = |node| &config.node(NodeId(node)).unwrap().data_dir;
    let aside = below(1).with_extension("aside");
    let swap = || {
        fs::rename(below(1), &aside).unwrap();
        fs::rename(below(2), below(1)).unwrap();
        fs::rename(&aside, below(2)).unwrap();
    };
    swap();
    assert_ends(
        &server(&cluster),
        WRONG_IDENTITY,
        &["holds", "by the config this node hosts"],
    );
    swap();
    cluster.start_nodes();
}

#[test]
fn a_port_in_use_is_named() {
    let cluster = Cluster::init_with("port", Shape::SINGLE, |text| text);
    let port = cluster.base_port();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert_ends(&server(&cluster), PORT_IN_USE, &[&port.to_string()]);
    drop(taken);
    cluster.start_nodes();
}

/// The other two nodes lead every shard, so a start that waited for leaders only had its way.
#[test]
fn a_node_that_dies_at_start_is_told_though_the_others_lead() {
    let cluster = Cluster::start("dies", Shape::USUAL);
    cluster.act("kill", 2);
    let port = cluster.base_port() + 100;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    for action in ["start", "restart"] {
        let done = cluster.quorate(["cluster", action, "--node", "2"]);
        assert_ends(&done, PORT_IN_USE, &["node 2 ended", &port.to_string()]);
    }
    drop(taken);
    cluster.start_nodes();
}

/// Each says that nobody was there, instead of an answer that looks like one.
#[test]
fn a_cluster_that_does_not_run_is_told_by_every_question() {
    let cluster = Cluster::init_with("dead", Shape::SINGLE, |text| text);
    let refused = "Connection refused";
    let transfer = [
        "transfer", "--debit", "1", "--credit", "2", "--amount", "1", "--ledger", "1", "--code",
        "1",
    ];
    let done = cluster.quorate(transfer);
    assert_ends(
        &done,
        1,
        &["nothing was done", "safe to try again", refused],
    );
    let done = cluster.quorate(["inspect", "in-doubt"]);
    assert_ends(&done, 1, &["gave no answer"]);
    assert!(!done.stdout.contains("nothing is in doubt\n"), "{done:?}");
    let done = cluster.quorate(["inspect", "txn", "7"]);
    assert_ends(&done, 1, &["not known", refused]);
    assert_ends(&cluster.quorate(["status"]), 1, &["no replica answers"]);
    assert_ends(&cluster.quorate(["verify", "--wait", "0s"]), 2, &["--wait"]);
}

#[test]
fn a_read_only_directory_is_named() {
    let cluster = Cluster::init_with("read-only", Shape::SINGLE, |text| text);
    let place = cluster.directory().join("read-only");
    fs::create_dir(&place).unwrap();
    let text = fs::read_to_string(cluster.file()).unwrap();
    let nodes = cluster.directory().join("nodes");
    let text = text.replace(&*nodes.to_string_lossy(), &place.to_string_lossy());
    fs::write(cluster.file(), text).unwrap();
    // Root writes wherever the permissions say no, but not on a read-only mount.
    let mounted = match rustix::process::geteuid().is_root() {
        true => mount_read_only(&place),
        false => {
            fs::set_permissions(&place, Permissions::from_mode(0o555)).unwrap();
            true
        }
    };
    if !mounted {
        eprintln!("skipped: no right to mount here, and root ignores permissions");
        return;
    }
    let done = server(&cluster);
    if rustix::process::geteuid().is_root() {
        assert!(
            Command::new("umount")
                .arg(&place)
                .status()
                .unwrap()
                .success()
        );
    } else {
        fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
    }
    let reason = match rustix::process::geteuid().is_root() {
        true => "Read-only file system",
        false => "Permission denied",
    };
    assert_ends(&done, DATA_DIRECTORY, &[reason]);
}

fn mount_read_only(place: &std::path::Path) -> bool {
    let mount = |args: &[&str]| {
        Command::new("mount")
            .args(args)
            .arg(place)
            .status()
            .is_ok_and(|status| status.success())
    };
    mount(&["--bind", &place.to_string_lossy()]) && mount(&["-o", "remount,bind,ro"])
}

#[test]
fn impossible_shapes_are_refused_by_init() {
    let cluster = Cluster::init_with("shapes", Shape::SINGLE, |text| text);
    let directory = cluster.directory().to_string_lossy().into_owned();
    for (option, value) in [
        ("--shards", "0"),
        ("--shards", "91"),
        ("--replicas", "2"),
        ("--nodes", "2"),
        ("--placement", "alphabet"),
        ("--base-port", "65530"),
    ] {
        let done = cluster.quorate_plain(["cluster", "init", "--dir", &directory, option, value]);
        assert_eq!(done.code, Some(2), "{option} {value}: {done:?}");
        assert!(done.stderr.contains(option), "{option} {value}: {done:?}");
    }
}
