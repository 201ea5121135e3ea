//! Everything that a replica wants done.

use alloc::vec::Vec;

use crate::checkpoint::rows::{AccountRow, ContextRow, HistoryRow, Mark};
use crate::client::Reply;
use crate::entry::Entry;
use crate::ids::{AccountId, Ballot, ConnectionId, PersistSeq, ReplicaAddress, Slot};
use crate::ledger::history::{ChainQuestion, RecordName};
use crate::message::PeerMessage;
use crate::shard::pair_table::Counting;

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
    /// Write the next part of a checkpoint. `Input::CheckpointRoom` asks for the part after it; after
    /// the last one `Input::CheckpointDurable` reports the whole.
    Checkpoint(CheckpointPart),
    /// The log need not hold slots below any more.
    ReleaseLog { below: Slot },
    /// Take the newest checkpoint of another replica of the group, as far as the own store lacks it, and
    /// start anew from it and the own log: what is missing here is in nobody's log. Said again while
    /// that is so; once is enough.
    FetchSnapshot { from: ReplicaAddress },
    /// What `Recovered::rejoins` began is over: the replica is a voter again, and everything that this
    /// rests on is durable.
    Rejoined,
    /// Ask the store for rows of history and for accounts. `Input::Loaded` answers, with the rows that it
    /// holds at some moment in between.
    Load {
        question: u64,
        names: Vec<RecordName>,
        accounts: Vec<AccountId>,
    },
    /// Ask the store which accounts it holds: the ids above `after`, ascending, at most `limit`.
    /// `Input::Listed` answers. At most one such question is open.
    List { after: AccountId, limit: usize },
    /// Ask the store for a stretch of an account's history. `Input::ChainLoaded` answers. The position lies
    /// below all rows in memory, so it is in the store, or was dropped from it.
    LoadChain { question: u64, chain: ChainQuestion },
    /// Who paid whom, and questions about it, for the table that is kept beside the replica; its answers go
    /// to clients. May be lost: see there.
    Count(Counting),
    /// The replica must not go on.
    Stop { reason: StopReason },
}

/// A part of a checkpoint, in this order; every part but the first and the last may come several times
/// or not at all. Rows of one part are as many as one step may make.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointPart {
    /// At most `accounts` rows of accounts follow.
    Begin {
        number: u64,
        slot: Slot,
        accounts: u32,
    },
    /// Each with whether the store holds an older row of it.
    Accounts(Vec<(AccountRow, bool)>),
    /// The store holds a row of each.
    Gone(Vec<AccountId>),
    /// Each with its fingerprint.
    History(Vec<(HistoryRow, u64)>),
    Contexts(Vec<ContextRow>),
    Side(Vec<u8>),
    End(Mark),
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
