//! What a node serves, over stops and restarts.

use quorate_protocol::client::{ReplyBody, Role};
use quorate_protocol::limits::REQUESTS_PER_CONNECTION_MAX;
use quorate_runtime::ISOLATED;

use crate::harness::{Client, config, leader, replica, scratch, start, transfer_request};

#[test]
fn a_lone_replica_serves_and_keeps_everything_over_restarts() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let only = [replica(1, 1)];
    for round in 0..3_u128 {
        let node = start(&config, 1);
        let (_, mut client) = leader(&config, &only);
        if round == 0 {
            assert_eq!(client.create_accounts([1, 2]), [0, 0]);
        }
        assert_eq!(client.balance(1), (round * 10, 0));
        for step in 1..=10 {
            assert_eq!(client.transfer(round * 10 + step, 1, 2, 1), 0);
        }
        assert_eq!(client.balance(2), (0, round * 10 + 10));
        node.stop().unwrap();
    }
}

#[test]
fn three_nodes_elect_replicate_and_survive_the_loss_of_any_one() {
    let directory = scratch();
    let config = config(directory.path(), 1, 3, 3);
    let all = [replica(1, 1), replica(1, 2), replica(1, 3)];
    let mut nodes: Vec<_> = (1..=3).map(|node| Some(start(&config, node))).collect();
    let (_, mut client) = leader(&config, &all);
    assert_eq!(client.create_accounts(1..=100), [0; 100]);
    let mut next_id = 1;
    for round in 0..3 {
        let (at, mut client) = leader(&config, &all);
        assert_eq!(client.transfer(next_id, 1, 2, 7), 0);
        let stopped = usize::from(at.replica.0) - 1;
        nodes[stopped].take().unwrap().stop().unwrap();
        let rest: Vec<_> = all.into_iter().filter(|&address| address != at).collect();
        let (_, mut client) = leader(&config, &rest);
        assert_eq!(client.transfer(next_id + 1, 1, 2, 7), 0);
        assert_eq!(client.transfer(next_id, 1, 2, 7), 20, "exists");
        assert_eq!(client.balance(2), (0, 14 * (round + 1)));
        next_id += 2;
        nodes[stopped] = Some(start(&config, u32::try_from(stopped).unwrap() + 1));
    }
    nodes
        .into_iter()
        .flatten()
        .for_each(|node| node.stop().unwrap());
}

#[test]
fn an_isolated_leader_is_replaced_and_comes_back_as_a_follower_that_has_everything() {
    let directory = scratch();
    let config = config(directory.path(), 1, 3, 3);
    let all = [replica(1, 1), replica(1, 2), replica(1, 3)];
    let nodes: Vec<_> = (1..=3).map(|node| start(&config, node)).collect();
    let (old, mut client) = leader(&config, &all);
    assert_eq!(client.create_accounts([1, 2]), [0, 0]);
    let isolated = &nodes[usize::from(old.replica.0) - 1];
    isolated.isolate();
    let mut cut_off = Client::connect(&config, old);
    while !cut_off.status().reason.starts_with(ISOLATED) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let rest: Vec<_> = all.into_iter().filter(|&address| address != old).collect();
    let (_, mut client) = leader(&config, &rest);
    assert_eq!(client.transfer(1, 1, 2, 5), 0);
    let applied = client.status().applied_upto;
    isolated.heal();
    let mut back = Client::connect(&config, old);
    while back.status().applied_upto < applied {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(back.status().reason, "");
    nodes.into_iter().for_each(|node| node.stop().unwrap());
}

#[test]
fn one_node_hosts_a_replica_of_each_shard_on_a_port_of_its_own() {
    let directory = scratch();
    let config = config(directory.path(), 3, 1, 1);
    let node = start(&config, 1);
    for shard in 1..=3 {
        let (_, mut client) = leader(&config, &[replica(shard, 1)]);
        let status = client.status();
        assert_eq!((status.shard.0, status.role), (shard, Role::Leader));
    }
    node.stop().unwrap();
}

#[test]
fn more_requests_than_may_be_in_flight_are_all_answered() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &[replica(1, 1)]);
    assert_eq!(client.create_accounts([1, 2]), [0, 0]);
    let count = REQUESTS_PER_CONNECTION_MAX * 10;
    let mut bytes = Vec::new();
    for id in 1..=count {
        let id = u128::try_from(id).unwrap();
        bytes.extend(client.encode(transfer_request(id, 1, 2, 1)));
    }
    client.send_bytes(&bytes);
    for _ in 0..count {
        let reply = client.receive_reply().unwrap();
        assert!(matches!(reply.body, ReplyBody::Results(_)), "{reply:?}");
    }
    assert_eq!(client.balance(2).1, u128::try_from(count).unwrap());
    node.stop().unwrap();
}

#[test]
fn a_log_longer_than_its_first_segment_is_replayed() {
    let directory = scratch();
    let config = config(directory.path(), 1, 1, 1);
    let only = [replica(1, 1)];
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    // 8,000 accounts of 128 bytes are 1 MB each time: three segments of 4 MiB.
    for batch in 0..10_u128 {
        let first = batch * 8_000 + 1;
        let codes = client.create_accounts(first..first + 8_000);
        assert!(codes.iter().all(|&code| code == 0));
    }
    node.stop().unwrap();
    let segments = std::fs::read_dir(config.data_dir_of(only[0]))
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with("wal-")
        })
        .count();
    assert!(segments >= 3, "{segments} segments");
    let node = start(&config, 1);
    let (_, mut client) = leader(&config, &only);
    assert_eq!(client.status().accounts, 80_000);
    node.stop().unwrap();
}
