//! What can happen in a world.

use quorate_protocol::ids::{ConnectionId, ReplicaAddress};

use crate::faults;
use crate::process::LogRead;

/// What happens at a moment.
#[derive(Debug)]
pub enum Event {
    /// Bytes from a replica reach a process.
    Peer {
        process: usize,
        from: ReplicaAddress,
        bytes: Vec<u8>,
        corrupted: bool,
    },
    /// Bytes from a client reach a process.
    Request {
        process: usize,
        connection: ConnectionId,
        bytes: Vec<u8>,
        corrupted: bool,
    },
    /// A client's end of a connection is closed.
    Close {
        process: usize,
        connection: ConnectionId,
    },
    /// Bytes from a process reach a client.
    Reply {
        client: usize,
        bytes: Vec<u8>,
        corrupted: bool,
    },
    /// A client learns that a connection is dead.
    Reset {
        client: usize,
        target: ReplicaAddress,
        connection: ConnectionId,
    },
    /// A life of a process goes on.
    Own {
        process: usize,
        life: u64,
        what: OwnEvent,
    },
    /// A client looks at its requests.
    Wake {
        client: usize,
        at_ns: u64,
    },
    /// A client thinks of something new.
    Think {
        client: usize,
    },
    Fault(faults::Fault),
    /// A machine starts.
    Start {
        node: usize,
    },
    Resume {
        node: usize,
        life: u64,
    },
    /// Somebody looks after a node on which a replica could not be started.
    Service {
        node: usize,
        life: u64,
    },
    /// A full disk has room again.
    Room {
        process: usize,
    },
    /// The links that the numbered partition cut are mended.
    Mend {
        number: u64,
    },
    /// The phases of the run are looked after.
    Watch,
}

/// What a process has to wait for.
#[derive(Debug)]
pub enum OwnEvent {
    Tick {
        at_ns: u64,
    },
    Flushed,
    Renamed,
    Operated,
    /// The log looks for room again.
    RetrySegment,
    LogRead {
        read: LogRead,
    },
    StoreMiddle,
    StoreOperated,
    StoreLoaded,
    /// The store looks for room again.
    StoreRetried,
    /// A block is written over a damaged one.
    BlockWritten,
    /// The question for a block of this number was not answered.
    RepairTimedOut {
        question: u64,
    },
    /// The scrubber reads on.
    Scrub,
    /// The room on the disk is looked at.
    WatchRoom,
}
