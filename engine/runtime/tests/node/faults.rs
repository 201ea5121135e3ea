//! What keeps a node, or one of its replicas, from starting.

use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::sync::Barrier;

use quorate_protocol::client::{ReplyBody, RequestBody, Role};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::Placement;
use rustix::fs::{FlockOperation, flock};

use crate::harness::{Client, changed, config, leader, replica, scratch, start, try_start};

fn exit_code(config: &quorate_config::ClusterConfig) -> (u8, String) {
    let fault = try_start(config, 1).expect_err("the node started");
    (fault.exit_code(), fault.to_string())
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let node = start(&config, 1);
    let (code, message) = exit_code(&config);
    assert_eq!(code, 15, "{message}");
    node.stop().unwrap();
    start(&config, 1).stop().unwrap();
}

/// Two processes were started for one node at the same time. Each got the locks of some replicas: one
/// of them then failed, and the other went on for ever with two of its three replicas parked.
#[test]
fn of_two_starts_at_once_one_gets_the_whole_node() {
    for _ in 0..3 {
        let directory = scratch();
        let config = config(directory.path(), 3, 1, 1);
        let at_once = Barrier::new(2);
        let starts = [(); 2].map(|()| {
            let (config, at_once) = (&config, &at_once);
            move || {
                at_once.wait();
                try_start(config, 1)
            }
        });
        let outcomes = std::thread::scope(|scope| {
            let running = starts.map(|start| scope.spawn(start));
            running.map(|start| start.join().unwrap())
        });
        let mut nodes = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(node) => nodes.push(node),
                Err(fault) => assert_eq!(fault.exit_code(), 15, "{fault}"),
            }
        }
        assert_eq!(nodes.len(), 1);
        for shard in 1..=3 {
            leader(&config, &[replica(shard, 1)]);
        }
        nodes.into_iter().for_each(|node| node.stop().unwrap());
    }
}

#[test]
fn a_replica_whose_directory_is_in_use_is_not_parked_but_keeps_the_node_from_starting() {
    let directory = scratch();
    let config = config(directory.path(), 3, 1, 1);
    start(&config, 1).stop().unwrap();
    let path = config.data_dir_of(replica(2, 1)).join("lock");
    let held = std::fs::File::open(path).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let (code, message) = exit_code(&config);
    assert_eq!(code, 15, "{message}");
    assert!(message.contains("s2r1"), "{message}");
    drop(held);
    start(&config, 1).stop().unwrap();
}

#[test]
fn a_port_in_use_is_refused() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let address = config.address_of(replica(1, 1));
    let taken = TcpListener::bind(address).unwrap();
    let (code, message) = exit_code(&config);
    assert_eq!(code, 13, "{message}");
    assert!(message.contains(&address.to_string()), "{message}");
    drop(taken);
    start(&config, 1).stop().unwrap();
}

#[test]
fn the_directory_of_another_cluster_is_refused_with_both_ids() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    start(&config, 1).stop().unwrap();
    let other = changed(&config, "cluster_id = 4711", "cluster_id = 4712");
    let (code, message) = exit_code(&other);
    assert_eq!(code, 16, "{message}");
    assert!(
        message.contains("4711 on disk, 4712 in config"),
        "{message}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_refused() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    std::fs::write(directory.path().join("n1"), b"in the way").unwrap();
    let (code, message) = exit_code(&config);
    assert_eq!(code, 14, "{message}");
}

#[test]
fn a_log_without_its_superblock_is_not_formatted_over() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &[replica(1, 1)]);
    assert_eq!(client.create_accounts([1]), [0]);
    node.stop().unwrap();
    let superblock = config.data_dir_of(replica(1, 1)).join("superblock");
    let kept = std::fs::read(&superblock).unwrap();
    std::fs::remove_file(&superblock).unwrap();
    let (code, message) = exit_code(&config);
    assert_eq!(code, 19, "{message}");
    std::fs::write(&superblock, kept).unwrap();
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &[replica(1, 1)]);
    assert_eq!(client.status().accounts, 1);
    node.stop().unwrap();
}

#[test]
fn a_replica_with_a_corrupt_log_is_parked_while_the_other_serves() {
    let directory = scratch();
    let config = config(directory.path(), 2, 1, 1);
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &[replica(1, 1)]);
    let home = |id| Placement::Hash.home(AccountId(id), 2);
    let debit = (1..).find(|&id| home(id) == ShardId(1)).unwrap();
    // Refused, and recorded: the accounts do not exist.
    for id in 1..20 {
        assert_ne!(client.transfer(id, debit, debit + 1, 1), 0);
    }
    node.stop().unwrap();
    let segment = config
        .data_dir_of(replica(1, 1))
        .join("wal-0000000000000001");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(segment)
        .unwrap();
    // The first blocks behind the header, each the start of a flush; the frames behind them prove
    // that they were durable.
    for block in 1..=5 {
        file.write_all_at(&[0xA5; 64], block * 4096 + 30).unwrap();
    }
    let node = start(&config, 1);
    let mut parked = Client::connect(&config, replica(1, 1));
    let status = parked.status();
    assert_eq!(status.role, Role::Stopped);
    assert!(
        status.reason.contains("records are lost"),
        "{}",
        status.reason
    );
    let answer = parked.ask(RequestBody::InDoubt);
    assert!(
        matches!(answer, ReplyBody::NotLeader { leader: None, .. }),
        "{answer:?}"
    );
    let (_, mut other) = leader(&config, &[replica(2, 1)]);
    assert_eq!(other.status().role, Role::Leader);
    node.stop().unwrap();
}
