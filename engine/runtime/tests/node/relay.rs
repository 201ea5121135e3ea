//! Messages by way of a third replica: passed on once, for whoever sent them, to whom they are for.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use quorate_config::ClusterConfig;
use quorate_protocol::ids::{Ballot, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::message::PeerBody;
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::message::Message;
use quorate_protocol::txn::record::TxnRow;
use quorate_protocol::words::Rows;
use quorate_runtime::RunningNode;
use quorate_wire::{
    Frame, FrameReader, HelloAck, Origin, Refusal, Relayed, encode_hello_ack, encode_relayed,
};

use crate::harness::{CLUSTER, Client, PATIENCE, config, replica, scratch, start};

/// Node 1 of three, with a replica of each of two shards; the others are played by the tests.
struct Target {
    config: ClusterConfig,
    node: RunningNode,
    _directory: tempfile::TempDir,
}

impl Target {
    fn new() -> Self {
        let directory = scratch();
        let config = config(directory.path(), 2, 3, 3);
        Self {
            node: start(&config, 1),
            config,
            _directory: directory,
        }
    }

    /// A connection of the peer `from` to s1r1.
    fn peer(&self, from: ReplicaAddress) -> Client {
        let mut peer = Client::dial(&self.config, replica(1, 1));
        peer.send_hello(Origin::Peer(from), replica(1, 1));
        assert!(matches!(peer.receive().unwrap(), Frame::HelloAck(_)));
        peer
    }

    fn listen_as(&self, address: ReplicaAddress) -> TcpListener {
        let listener = TcpListener::bind(self.config.address_of(address)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }
}

/// A message whose content only its receiver looks at.
fn relayed(from: ReplicaAddress, to: ReplicaAddress) -> Relayed {
    Relayed {
        from,
        to,
        clock: Timestamp(7),
        message: Message::NotLeading {
            shard: ShardId(1),
            ballot: Ballot(5),
            leader: Some(ReplicaId(2)),
        },
    }
}

fn send(client: &mut Client, relayed: &Relayed) {
    let mut bytes = Vec::new();
    encode_relayed(CLUSTER, relayed, &mut bytes).unwrap();
    client.send_bytes(&bytes);
}

/// The first frame behind the handshake that `wanted` takes, of whoever connects; `again` is done meanwhile, as peers send
/// again what matters.
fn heard<T>(
    listener: &TcpListener,
    as_replica: ReplicaAddress,
    mut again: impl FnMut(),
    wanted: impl Fn(Frame) -> Option<T>,
) -> T {
    let started = Instant::now();
    let mut streams: Vec<(TcpStream, FrameReader)> = Vec::new();
    loop {
        assert!(started.elapsed() < PATIENCE, "nothing was passed on");
        again();
        std::thread::sleep(std::time::Duration::from_millis(20));
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            streams.push((stream, FrameReader::new(CLUSTER)));
        }
        for (stream, reader) in &mut streams {
            match stream.read(reader.space()) {
                Ok(bytes) => reader.advance(bytes),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            while let Some(frame) = reader.next_frame().unwrap() {
                if let Frame::Hello(hello) = &frame {
                    assert_eq!(hello.target, as_replica);
                    let mut bytes = Vec::new();
                    let replica = as_replica;
                    encode_hello_ack(CLUSTER, &HelloAck { replica }, &mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                } else if let Some(found) = wanted(frame) {
                    return found;
                }
            }
        }
    }
}

#[test]
fn a_message_for_another_replica_is_passed_on_as_it_is() {
    let target = Target::new();
    let (from, to) = (replica(1, 2), replica(2, 3));
    let listener = target.listen_as(to);
    let mut peer = target.peer(from);
    let sent = relayed(from, to);
    let found = heard(
        &listener,
        to,
        || send(&mut peer, &sent),
        |frame| match frame {
            Frame::Relayed(relayed) => Some(relayed),
            _ => None,
        },
    );
    assert_eq!(found, sent);
    target.node.stop().unwrap();
}

#[test]
fn a_message_that_was_passed_on_is_answered_to_its_sender() {
    let target = Target::new();
    let (from, to) = (replica(2, 2), replica(1, 1));
    let listener = target.listen_as(from);
    let mut by_way_of = target.peer(replica(2, 3));
    let question = Relayed {
        message: Message::QueryDecisions(Rows::<TxnRow>::from_slice(&[])),
        ..relayed(from, to)
    };
    // Nobody leads a group of which one replica runs.
    let shard = heard(
        &listener,
        from,
        || send(&mut by_way_of, &question),
        |frame| match frame {
            Frame::Peer(message) => match message.body {
                PeerBody::Txn(Message::NotLeading { shard, .. }) => Some(shard),
                _ => None,
            },
            _ => None,
        },
    );
    assert_eq!(shard, ShardId(1));
    target.node.stop().unwrap();
}

#[test]
fn nothing_is_passed_on_for_another_or_from_nobody() {
    let target = Target::new();
    let cases = [
        // A second stop: it would be sent back and forth.
        (relayed(replica(1, 3), replica(2, 3)), Refusal::Malformed),
        (relayed(replica(9, 1), replica(1, 1)), Refusal::UnknownPeer),
        (relayed(replica(1, 1), replica(1, 1)), Refusal::UnknownPeer),
    ];
    for (message, expected) in cases {
        let mut peer = target.peer(replica(1, 2));
        send(&mut peer, &message);
        match peer.receive().unwrap() {
            Frame::Refused(refused) => assert_eq!(refused.refusal, expected, "{message:?}"),
            frame => panic!("{frame:?} for {message:?}"),
        }
    }
    // To a replica that there is not: dropped, and the connection stands.
    let mut peer = target.peer(replica(1, 2));
    send(&mut peer, &relayed(replica(1, 2), replica(2, 9)));
    send(&mut peer, &relayed(replica(1, 3), replica(2, 3)));
    assert!(matches!(peer.receive().unwrap(), Frame::Refused(_)));
    target.node.stop().unwrap();
}
