//! What a frame can carry: the handshake, messages between replicas, requests and replies.
//!
//! | frame | sender -> receiver | when | what ends it |
//! | --- | --- | --- | --- |
//! | `Hello` | dialler -> listener | first frame of every connection | any of the next four |
//! | `Challenge` | listener -> dialler | the listener has a key | `Proof` |
//! | `Proof` | dialler -> listener | the challenge was proved | `HelloAck` or `Refused` |
//! | `HelloAck` | listener -> dialler | the hello fits this replica | - |
//! | `Refused` | listener -> dialler | it does not, or the listener cannot serve it | the listener closes |
//! | `Peer` | replica -> replica | after the handshake, on a peer's connection | - |
//! | `Relayed` | replica -> replica -> replica | instead of `Peer` where the two ends have no link | - |
//! | `Request` | client -> replica | after the handshake, on a client's connection | `Reply` |
//! | `Reply` | replica -> client | once per request | - |
//!
//! Which kind may arrive when is the connection's business; this crate only says what arrived.

use quorate_protocol::client::{Reply, Request};
use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::message::PeerMessage;
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn;

/// The number of a frame's content in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum FrameKind {
    Hello = 1,
    HelloAck = 2,
    Refused = 3,
    Peer = 4,
    Request = 5,
    Reply = 6,
    Challenge = 7,
    Proof = 8,
    Relayed = 9,
}

impl FrameKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::HelloAck,
            3 => Self::Refused,
            4 => Self::Peer,
            5 => Self::Request,
            6 => Self::Reply,
            7 => Self::Challenge,
            8 => Self::Proof,
            9 => Self::Relayed,
            _ => return None,
        })
    }

    /// Its name in messages and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::HelloAck => "hello_ack",
            Self::Refused => "refused",
            Self::Peer => "peer",
            Self::Request => "request",
            Self::Reply => "reply",
            Self::Challenge => "challenge",
            Self::Proof => "proof",
            Self::Relayed => "relayed",
        }
    }
}

/// One frame, checked and converted.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Hello(Hello),
    HelloAck(HelloAck),
    Refused(Refused),
    Peer(PeerMessage),
    Request(Request),
    Reply(Reply),
    Challenge(Challenge),
    Proof(Proof),
    Relayed(Relayed),
}

impl Frame {
    /// The kind that its header carries.
    #[must_use]
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::Hello,
            Self::HelloAck(_) => FrameKind::HelloAck,
            Self::Refused(_) => FrameKind::Refused,
            Self::Peer(_) => FrameKind::Peer,
            Self::Request(_) => FrameKind::Request,
            Self::Reply(_) => FrameKind::Reply,
            Self::Challenge(_) => FrameKind::Challenge,
            Self::Proof(_) => FrameKind::Proof,
            Self::Relayed(_) => FrameKind::Relayed,
        }
    }
}

/// The first frame of a connection: who dials, and whom it wants. Cluster and wire version are in
/// the header of this frame as of every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub origin: Origin,
    /// The replica that the dialler believes to reach; any other one refuses.
    pub target: ReplicaAddress,
    /// The text of the dialler's [`quorate_protocol::config::Genesis`]: one that goes by other settings
    /// computes another state from the same log, and looks for accounts in other places.
    pub genesis: String,
    /// New for every connection: what is proved on one is proved on no other.
    pub nonce: [u8; NONCE_BYTES],
}

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 32;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;

/// The listener has a key, shows it, and wants to see the dialler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    pub nonce: [u8; NONCE_BYTES],
    pub proof: [u8; PROOF_BYTES],
}

/// The dialler has the key, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    pub proof: [u8; PROOF_BYTES],
}

/// A message between leaders of two shards that have no link, by way of a third replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Relayed {
    pub from: ReplicaAddress,
    pub to: ReplicaAddress,
    /// As in [`PeerMessage`].
    pub clock: Timestamp,
    pub message: txn::message::Message,
}

/// Who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A replica of this cluster. Its frames are `Peer`.
    Peer(ReplicaAddress),
    /// A client under a number of its own choice, for logs only. Its frames are `Request`.
    Client { id: u128 },
}

/// The connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloAck {
    /// The replica that answers: the hello's target.
    pub replica: ReplicaAddress,
}

/// The connection does not stand; the listener closes it behind this frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    /// For people: what was expected and what came.
    pub reason: String,
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Refusal {
    /// Another replica listens here.
    WrongReplica = 1,
    /// The frame belongs to another cluster.
    WrongCluster = 2,
    /// The dialler speaks another wire version.
    WireVersion = 3,
    /// The bytes were not a frame, or the first frame was not a hello.
    Malformed = 4,
    /// The dialler says that it is a replica which this cluster does not have.
    UnknownPeer = 5,
    /// All connections of this replica are taken; try again later.
    ConnectionsMax = 6,
    /// The node was told to stay away from this peer.
    Isolated = 7,
    /// The node is going down.
    ShuttingDown = 8,
    /// The dialler goes by other settings than this cluster was initialised with.
    WrongGenesis = 9,
    /// The dialler has not proved that it has the cluster's key.
    Unauthenticated = 10,
}

impl Refusal {
    /// All refusals, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::WrongReplica,
        Self::WrongCluster,
        Self::WireVersion,
        Self::Malformed,
        Self::UnknownPeer,
        Self::ConnectionsMax,
        Self::Isolated,
        Self::ShuttingDown,
        Self::WrongGenesis,
        Self::Unauthenticated,
    ];

    /// The refusal with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|&refusal| refusal as u16 == number)
    }

    /// Its name in messages and counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WrongReplica => "wrong_replica",
            Self::WrongCluster => "wrong_cluster",
            Self::WireVersion => "wire_version",
            Self::Malformed => "malformed",
            Self::UnknownPeer => "unknown_peer",
            Self::ConnectionsMax => "connections_max",
            Self::Isolated => "isolated",
            Self::ShuttingDown => "shutting_down",
            Self::WrongGenesis => "wrong_genesis",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// Whether every replica of the cluster will refuse this dialler, now and later: its configuration is
    /// another cluster's.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::WrongCluster | Self::WireVersion | Self::WrongGenesis | Self::Unauthenticated => {
                true
            }
            Self::WrongReplica
            | Self::Malformed
            | Self::UnknownPeer
            | Self::ConnectionsMax
            | Self::Isolated
            | Self::ShuttingDown => false,
        }
    }
}
