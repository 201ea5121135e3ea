//! A key: who has it is served, who has not is refused before anything that it says is looked at.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_access::{HandshakeError, Key};
use quorate_config::ClusterConfig;
use quorate_protocol::client::{Request, RequestBody, Status};
use quorate_protocol::ids::{AccountId, Ballot, RequestId, Slot};
use quorate_protocol::ledger::{Account, AccountFlags};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::paxos::message::Message;
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::Rows;
use quorate_runtime::RunningNode;
use quorate_wire::{
    Frame, NONCE_BYTES, Origin, PROOF_BYTES, Proof, Refusal, encode_peer, encode_proof,
    encode_request,
};

use crate::harness::{
    CLUSTER, Client, PATIENCE, config, replica, scratch, start, transfer_request,
};

const CLIENT: Origin = Origin::Client { id: 3 };

struct Target {
    config: ClusterConfig,
    nodes: Vec<RunningNode>,
    key: Key,
    _directory: tempfile::TempDir,
}

impl Target {
    /// A cluster of one shard with so many replicas, under a key.
    fn new(replicas: u8) -> Self {
        let directory = scratch();
        let config = config(directory.path(), 1, replicas, replicas.into());
        let config = with_key(&config, directory.path(), &[7; 32]);
        let nodes = (1..=replicas).map(|node| start(&config, node.into()));
        Self {
            nodes: nodes.collect(),
            config,
            key: Key::new(&[7; 32]).unwrap(),
            _directory: directory,
        }
    }

    fn dial(&self) -> Client {
        Client::dial(&self.config, replica(1, 1))
    }

    fn client(&self) -> Client {
        let mut client = self.dial();
        client
            .shake_hands(&self.key, CLIENT, replica(1, 1))
            .unwrap();
        client
    }

    fn end(self) {
        self.client().status();
        for node in self.nodes {
            node.stop().unwrap();
        }
    }
}

fn with_key(config: &ClusterConfig, below: &Path, key: &[u8]) -> ClusterConfig {
    let secret = below.join("secret");
    fs::write(&secret, key).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let file = below.join("cluster.toml");
    fs::write(
        &file,
        format!("key_file = \"secret\"\n{}", config.to_toml()),
    )
    .unwrap();
    ClusterConfig::load(&file).unwrap()
}

fn wait_until(client: &mut Client, holds: impl Fn(&Status) -> bool) {
    let started = Instant::now();
    while !holds(&client.status()) {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// That the connection ends with this refusal.
fn assert_unauthenticated(client: &mut Client) {
    loop {
        match client.receive().unwrap() {
            Frame::Challenge(_) => {}
            Frame::Refused(refused) => {
                assert_eq!(refused.refusal, Refusal::Unauthenticated, "{refused:?}");
                break;
            }
            frame => panic!("{frame:?} instead of a refusal"),
        }
    }
    assert!(client.receive().is_err(), "the connection goes on");
}

#[test]
fn replicas_and_clients_with_the_key_get_together() {
    let target = Target::new(3);
    let mut client = target.client();
    // A group whose members cannot speak has no leader.
    wait_until(&mut client, |status| status.leader.is_some());
    target.end();
}

#[test]
fn nothing_that_a_stranger_sends_is_processed() {
    let target = Target::new(1);
    let mut known = target.client();
    wait_until(&mut known, |status| status.serving);
    assert_eq!(known.create_accounts([1, 2]), [0, 0]);
    let before = known.status();
    let mut request = Vec::new();
    let body = Request {
        id: RequestId(1),
        deadline_ms: 0,
        seen: Timestamp::ZERO,
        body: transfer_request(9, 1, 2, 5),
    };
    encode_request(CLUSTER, &body, &mut request).unwrap();
    let mut message = Vec::new();
    let high = PeerMessage {
        clock: Timestamp::ZERO,
        body: PeerBody::Paxos(Message::Prepare {
            ballot: Ballot(u64::MAX / 2),
            from: Slot(1),
            transfer_of: Ballot(0),
        }),
    };
    encode_peer(CLUSTER, &high, &mut message).unwrap();
    let mut zeros = Vec::new();
    let proof = Proof {
        proof: [0; PROOF_BYTES],
    };
    encode_proof(CLUSTER, &proof, &mut zeros).unwrap();
    let (peer, client) = (Origin::Peer(replica(1, 2)), CLIENT);
    for (origin, bytes) in [
        (client, &request),
        (peer, &message),
        (client, &zeros),
        (peer, &zeros),
    ] {
        // At once, behind a hello, as if it were served without a key.
        let mut stranger = target.dial();
        stranger.send_hello(origin, replica(1, 1));
        stranger.send_bytes(bytes);
        assert_unauthenticated(&mut stranger);
    }
    let after = known.status();
    assert_eq!(
        (before.ballot, before.chosen_upto),
        (after.ballot, after.chosen_upto)
    );
    assert_eq!(known.balance(1), (0, 0));
    target.end();
}

#[test]
fn another_key_is_none() {
    let target = Target::new(1);
    let other = Key::new(&[8; 32]).unwrap();
    let refused = target.dial().shake_hands(&other, CLIENT, replica(1, 1));
    // The listener shows the right one first, which the dialler does not know.
    assert!(matches!(refused, Err(HandshakeError::NotProved)));
    target.end();
}

#[test]
fn a_recorded_handshake_opens_nothing() {
    let target = Target::new(1);
    for origin in [CLIENT, Origin::Peer(replica(1, 1))] {
        let recorded = target
            .dial()
            .shake_hands(&target.key, CLIENT, replica(1, 1));
        let [hello, proof] = recorded.unwrap();
        let mut replaying = target.dial();
        replaying.send_bytes(&hello);
        replaying.send_bytes(&proof);
        assert_unauthenticated(&mut replaying);
        // Nor does the proof fit a hello of the attacker's own.
        let mut forging = target.dial();
        forging.send_hello(origin, replica(1, 1));
        forging.send_bytes(&proof);
        assert_unauthenticated(&mut forging);
    }
    target.end();
}

#[test]
fn a_challenge_tells_nothing_twice() {
    let target = Target::new(1);
    let mut seen = std::collections::BTreeSet::<[u8; NONCE_BYTES]>::new();
    for _ in 0..50 {
        let mut client = target.dial();
        client.send_hello(CLIENT, replica(1, 1));
        let Frame::Challenge(challenge) = client.receive().unwrap() else {
            panic!("no challenge");
        };
        assert!(seen.insert(challenge.nonce));
    }
    target.end();
}

/// As many as there are places for, and as many again: those who know what to say find a place all the same, and everybody who stays
/// silent is sent away.
#[test]
fn strangers_keep_nobody_out() {
    let target = Target::new(1);
    let strangers: Vec<Client> = (0..1100).map(|_| target.dial()).collect();
    let mut known = target.client();
    known.status();
    drop(strangers);
    target.end();
}

/// A frame as long as a request is refused by its header: a stranger gets no buffer of a MiB.
#[test]
fn a_stranger_sends_no_long_frame() {
    let target = Target::new(1);
    let mut client = target.dial();
    let account = |id| Account::new(AccountId(id), 1, 1, AccountFlags::default());
    let accounts: Vec<Account> = (1..=60).map(account).collect();
    let bytes = client.encode(RequestBody::CreateAccounts(Rows::from_slice(&accounts)));
    client.send_bytes(&bytes);
    let Frame::Refused(refused) = client.receive().unwrap() else {
        panic!("served");
    };
    assert_eq!(refused.refusal, Refusal::Malformed);
    assert!(
        refused.reason.contains("a frame takes 1 to 1024"),
        "{}",
        refused.reason
    );
    target.end();
}
