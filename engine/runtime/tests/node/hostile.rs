//! Wrong bytes, wrong peers, silence: refused with a reason where one can be given, while others are
//! served.

use std::time::{Duration, Instant};

use quorate_config::ClusterConfig;
use quorate_protocol::client::{Request, RequestBody};
use quorate_protocol::ids::{ClusterId, RequestId};
use quorate_protocol::time::Timestamp;
use quorate_runtime::RunningNode;
use quorate_wire::{Frame, Hello, NONCE_BYTES, Origin, Refusal, encode_hello, encode_request};

use crate::harness::{CLUSTER, Client, changed, config, leader, replica, scratch, start};

/// A running lone replica and a client that has to be served throughout.
struct Target {
    config: ClusterConfig,
    node: RunningNode,
    witness: Client,
    _directory: tempfile::TempDir,
}

impl Target {
    fn new() -> Self {
        let directory = scratch();
        let config = config(directory.path(), 1, 1, 1);
        let config = changed(
            &config,
            "\n[[node]]",
            "\n[limits]\nconnections = 8\nhandshake_timeout = \"300ms\"\nidle_timeout = \"600ms\"\n[[node]]",
        );
        let node = start(&config, 1);
        let (_, witness) = leader(&config, &[replica(1, 1)]);
        Self {
            config,
            node,
            witness,
            _directory: directory,
        }
    }

    fn dial(&self) -> Client {
        Client::dial(&self.config, replica(1, 1))
    }

    fn end(mut self) {
        self.witness.status();
        self.node.stop().unwrap();
    }
}

/// The refusal that comes, and that the connection ends behind it.
fn refusal(client: &mut Client) -> (Refusal, String) {
    let frame = client.receive().unwrap();
    let Frame::Refused(refused) = frame else {
        panic!("{frame:?} instead of a refusal");
    };
    assert!(client.receive().is_err(), "the connection goes on");
    (refused.refusal, refused.reason)
}

const GENESIS: &str = "shards = 1, replicas = 1, placement = hash, ids = any, lease = 400ms";

fn hello(cluster: u64, origin: Origin, shard: u32) -> Vec<u8> {
    hello_under(GENESIS, cluster, origin, shard)
}

fn hello_under(genesis: &str, cluster: u64, origin: Origin, shard: u32) -> Vec<u8> {
    let hello = Hello {
        origin,
        target: replica(shard, 1),
        genesis: genesis.to_owned(),
        nonce: [0; NONCE_BYTES],
    };
    let mut bytes = Vec::new();
    encode_hello(ClusterId(cluster), &hello, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_wrong_first_frame_is_refused_with_its_reason() {
    let mut target = Target::new();
    let client_origin = Origin::Client { id: 1 };
    let good = hello(CLUSTER.0, client_origin, 1);
    let altered = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    let mut request = Vec::new();
    let body = Request {
        id: RequestId(1),
        deadline_ms: 0,
        seen: Timestamp::ZERO,
        body: RequestBody::Status,
    };
    encode_request(CLUSTER, &body, &mut request).unwrap();
    for (name, bytes, expected) in [
        (
            "garbage",
            b"GET / HTTP/1.1\r\n\r\n".repeat(9),
            Refusal::Malformed,
        ),
        ("version", altered(4, 0x40), Refusal::WireVersion),
        ("cluster", hello(9, client_origin, 1), Refusal::WrongCluster),
        ("kind", altered(7, 0x40), Refusal::Malformed),
        ("length", altered(11, 0x40), Refusal::Malformed),
        ("crc", altered(12, 1), Refusal::Malformed),
        ("payload", altered(49, 1), Refusal::Malformed),
        (
            "target",
            hello(CLUSTER.0, client_origin, 2),
            Refusal::WrongReplica,
        ),
        (
            "peer",
            hello(CLUSTER.0, Origin::Peer(replica(5, 1)), 1),
            Refusal::UnknownPeer,
        ),
        (
            "self",
            hello(CLUSTER.0, Origin::Peer(replica(1, 1)), 1),
            Refusal::UnknownPeer,
        ),
        (
            "genesis",
            hello_under(
                &GENESIS.replace("replicas = 1", "replicas = 3"),
                CLUSTER.0,
                client_origin,
                1,
            ),
            Refusal::WrongGenesis,
        ),
        ("request before hello", request, Refusal::Malformed),
    ] {
        let mut client = target.dial();
        client.send_bytes(&bytes);
        let (refusal, reason) = refusal(&mut client);
        assert_eq!(refusal, expected, "{name}: {reason}");
        assert!(!reason.is_empty());
        target.witness.status();
    }
    target.end();
}

#[test]
fn a_request_id_in_use_twice_ends_the_connection() {
    let target = Target::new();
    let mut client = Client::connect(&target.config, replica(1, 1));
    let mut bytes = client.encode(RequestBody::Status);
    bytes.extend(bytes.clone());
    client.send_bytes(&bytes);
    let mut last = client.receive().unwrap();
    if let Frame::Reply(_) = last {
        last = client.receive().unwrap();
    }
    let Frame::Refused(refused) = last else {
        panic!("{last:?}");
    };
    assert!(
        refused.reason.contains("open already"),
        "{}",
        refused.reason
    );
    target.end();
}

#[test]
fn silence_is_ended_by_its_deadline() {
    let mut target = Target::new();
    let started = Instant::now();
    let mut nothing = target.dial();
    let mut half = target.dial();
    half.send_bytes(&hello(CLUSTER.0, Origin::Client { id: 1 }, 1)[..20]);
    for client in [&mut nothing, &mut half] {
        let (refusal, reason) = refusal(client);
        assert_eq!(refusal, Refusal::Malformed);
        assert!(reason.contains("no handshake"), "{reason}");
    }
    assert!(started.elapsed() >= Duration::from_millis(300));
    let mut idle = Client::connect(&target.config, replica(1, 1));
    let bytes = idle.encode(RequestBody::Status);
    idle.send_bytes(&bytes[..bytes.len() / 2]);
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(700) {
        target.witness.status();
    }
    assert!(idle.receive().is_err(), "half a request and silence");
    target.end();
}

#[test]
fn a_peer_finds_a_place_when_clients_have_taken_all() {
    let directory = scratch();
    let config = config(directory.path(), 1, 3, 3);
    let config = changed(
        &config,
        "\n[[node]]",
        "\n[limits]\nconnections = 8\n[[node]]",
    );
    let node = start(&config, 1);
    let clients: Vec<Client> = (0..8)
        .map(|_| Client::connect(&config, replica(1, 1)))
        .collect();
    let mut peer = Client::dial(&config, replica(1, 1));
    peer.send_hello(Origin::Peer(replica(1, 2)), replica(1, 1));
    assert!(matches!(peer.receive(), Ok(Frame::HelloAck(_))));
    drop(clients);
    node.stop().unwrap();
}

#[test]
fn connections_beyond_the_limit_are_refused_and_places_come_back() {
    let target = Target::new();
    let mut taken: Vec<Client> = (1..8)
        .map(|_| Client::connect(&target.config, replica(1, 1)))
        .collect();
    let mut beyond = target.dial();
    beyond.send_hello(Origin::Client { id: 2 }, replica(1, 1));
    assert_eq!(refusal(&mut beyond).0, Refusal::ConnectionsMax);
    taken.pop();
    let started = Instant::now();
    loop {
        let mut client = target.dial();
        client.send_hello(Origin::Client { id: 2 }, replica(1, 1));
        match client.receive() {
            Ok(Frame::HelloAck(_)) => break,
            _ => assert!(started.elapsed() < crate::harness::PATIENCE),
        }
    }
    target.end();
}
