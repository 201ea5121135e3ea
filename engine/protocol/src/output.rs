//! Everything that a replica wants done.

use crate::client::Reply;
use crate::entry::Entry;
use crate::ids::{Ballot, ConnectionId, PersistSeq, ReplicaAddress, Slot};
use crate::message::PeerMessage;

/// One effect. The order of outputs is the order in which they were decided; only `Persist` has to
/// be carried out in that order (relative to other `Persist`s).
#[derive(Clone, Debug)]
pub enum Output {
    /// Append to the write-ahead log. `Input::Durable` reports it, in order, any number at once.
    /// Whatever depends on it has not left the core yet.
    Persist { seq: PersistSeq, record: Record },
    /// Send if there is a connection; may be lost.
    Send {
        to: ReplicaAddress,
        message: PeerMessage,
    },
    /// Answer a client.
    Reply {
        connection: ConnectionId,
        reply: Reply,
    },
    /// Read accepted entries of slots `from..=upto` from the log: the newest record per slot, at
    /// least one (or the name of the first if it is lost), at most `bytes_max` bytes beyond the
    /// first. At most one read is open at a time.
    ReadLog {
        from: Slot,
        upto: Slot,
        bytes_max: usize,
    },
    /// The replica must not go on.
    Stop { reason: StopReason },
}

/// A record of the write-ahead log.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Nothing below `ballot` is accepted or promised any more.
    Promise { ballot: Ballot },
    /// An entry was accepted (or learned as chosen) for a slot; implies the promise of `ballot`.
    Accepted {
        ballot: Ballot,
        slot: Slot,
        entry: Entry,
    },
    /// All slots up to here are chosen. Written lazily: it never delays anything.
    Chosen { upto: Slot },
}

/// Why a replica stops itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The log lacks a slot that was reported durable.
    LogLost { slot: Slot },
    /// So many copies of what was accepted for a slot are lost that an acknowledged entry may be
    /// among them: the shard cannot go on without it.
    CopiesLost { slot: Slot },
    /// A peer showed a different entry for a slot that is chosen here.
    Diverged { slot: Slot },
}
