//! Names of things: newtypes for every id, position and size that is stored or sent.
//!
//! All are plain little-endian integers, so the same bytes serve memory, log and wire. A `Slot` is
//! not an LSN: positions in files belong to storage and never enter this crate.

use alloc::string::ToString;
use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[cfg(not(target_endian = "little"))]
compile_error!("records are little-endian in memory, in the log and on the wire");

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            FromBytes, IntoBytes, Immutable, KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(
    /// Identity of a cluster, drawn when it is initialised; in every frame and every superblock.
    ClusterId(u64)
);
id!(
    /// A set of accounts replicated by one Paxos group; 1..=shards. 0 means "none".
    ShardId(u32)
);
id!(
    /// A member of a shard's Paxos group; 1..=replicas. 0 means "none".
    ReplicaId(u8)
);
id!(
    /// A process on a host; 1-based.
    NodeId(u32)
);
id!(
    /// Position in a shard's replicated log; the first entry has slot 1, 0 means "nothing yet".
    Slot(u64)
);
id!(
    /// A persist request of the core; the shell maps it to a log address.
    PersistSeq(u64)
);
id!(
    /// An account's id, chosen by the client.
    AccountId(u128)
);
id!(
    /// A transfer's id, chosen by the client; the idempotency key.
    TransferId(u128)
);
id!(
    /// The id of one batch move of accounts; the idempotency key of the move.
    MoveId(u128)
);
id!(
    /// A client connection as the shell numbers it; never reused by one process.
    ConnectionId(u64)
);
id!(
    /// A request's number on its connection, chosen by the client.
    RequestId(u64)
);

id!(
    /// The name of a document in a shard's catalog, chosen by the tool that writes it.
    DocumentKey(u128)
);

impl Slot {
    /// "Nothing yet".
    pub const ZERO: Self = Self(0);

    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 slots cannot be reached"))
    }
}

/// Leadership number, totally ordered: a round and the replica that made it up.
///
/// Packed into one word, round in the upper 56 bits, so that it can be stored, sent and compared
/// as it is.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Ballot(pub u64);

impl Ballot {
    /// Lower than every ballot of a leader. Hole-filling no-ops carry it as their origin.
    pub const ZERO: Self = Self(0);

    /// The ballot of `replica` in `round`.
    #[must_use]
    pub fn new(round: u64, replica: ReplicaId) -> Self {
        assert!(round < 1 << 56);
        Self(round << 8 | u64::from(replica.0))
    }

    /// The round, 0 only in [`Ballot::ZERO`].
    #[must_use]
    pub fn round(self) -> u64 {
        self.0 >> 8
    }

    /// The replica that owns this ballot.
    #[must_use]
    pub fn replica(self) -> ReplicaId {
        ReplicaId(self.0.to_le_bytes()[0])
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round(), self.replica())
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round(), self.replica())
    }
}

/// One replica of one shard: the address that messages between replicas carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReplicaAddress {
    pub shard: ShardId,
    pub replica: ReplicaId,
}

impl ReplicaAddress {
    /// The address that is written so: `s1r2`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (shard, replica) = text.strip_prefix('s')?.split_once('r')?;
        let address = Self {
            shard: ShardId(shard.parse().ok()?),
            replica: ReplicaId(replica.parse().ok()?),
        };
        (address.to_string() == text).then_some(address)
    }
}

impl fmt::Display for ReplicaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}r{}", self.shard, self.replica)
    }
}
