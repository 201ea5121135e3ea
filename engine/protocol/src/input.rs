//! Everything that can happen to a replica.

use alloc::vec::Vec;

use crate::checkpoint::rows::{AccountRow, ContextRow, HistoryRow};
use crate::client::Request;
use crate::config::LostRecord;
use crate::ids::{AccountId, ConnectionId, PersistSeq, ReplicaAddress, Slot};
use crate::ledger::history::{HistoryPosition, Record};
use crate::message::PeerMessage;
use crate::paxos::message::LoggedEntry;

/// One thing that happened. One step takes one input; the caller then drains all outputs.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline that the replica asked for has come (or any other moment: it is harmless).
    Tick,
    /// Every record up to and including this one is on stable storage.
    Durable { upto: PersistSeq },
    /// A message from a replica. The shell has checked frame, cluster and sender.
    Peer {
        from: ReplicaAddress,
        message: PeerMessage,
    },
    /// A request of a client.
    Client {
        connection: ConnectionId,
        request: Request,
    },
    /// The connection is gone: nobody waits for its replies any more.
    Disconnected { connection: ConnectionId },
    /// The answer to `Output::ReadLog`: accepted entries from slot `from` on, in slot order without
    /// gaps. `lost` names the slot behind them if its record is there but not what was written.
    LogRead {
        from: Slot,
        entries: Vec<LoggedEntry>,
        lost: Option<LostRecord>,
    },
    /// The answer to `Output::Load`: every row that is filed under one of the fingerprints, with its
    /// context, and the newest rows of the accounts, as far as the store holds them. Rows of other ids may
    /// be among them.
    Loaded {
        question: u64,
        rows: Vec<(HistoryRow, ContextRow)>,
        accounts: Vec<AccountRow>,
    },
    /// The answer to `Output::List`.
    Listed { ids: Vec<AccountId> },
    /// The answer to `Output::LoadChain`: the account's rows, each with its position, newest first and without
    /// a gap. Fewer than were asked for: the next one is not kept any more; none: there is no such row.
    ChainLoaded {
        question: u64,
        rows: Vec<(HistoryPosition, Record)>,
    },
    /// The part of the checkpoint that was given out last is written, or will be: there is room for the
    /// next.
    CheckpointRoom,
    /// The checkpoint under way is in the store for good.
    CheckpointDurable { number: u64 },
    /// The disk came to have too little room to begin anything on, or has enough again. What is under way
    /// goes on; while it is full a leader answers new work `busy`.
    DiskFull { is_full: bool },
    /// The disk came to have room for what a leader keeps of its log for members that are away
    /// (`KEPT_FOR_MEMBERS`), or has it no more. Without a word it has not.
    RoomForLog { is_ample: bool },
}
