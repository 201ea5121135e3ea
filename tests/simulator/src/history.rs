//! What clients did and were told: the evidence that checkers judge.
//!
//! Clients write here, checkers read. Times are true time of the simulation. A use without an answer
//! may or may not have taken effect.

use quorate_protocol::ids::{AccountId, MoveId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, Transfer};
use quorate_protocol::time::Timestamp;

/// The final answer to one account creation or transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub at_ns: u64,
    pub code: ResultCode,
    pub timestamp: Timestamp,
}

/// One account creation, with all its retries.
#[derive(Clone, Debug)]
pub struct CreationUse {
    pub account: Account,
    /// First sent; `None` until then.
    pub started_ns: Option<u64>,
    pub answer: Option<Answer>,
}

/// One use of a transfer id, with all its retries. Several uses can share an id.
#[derive(Clone, Debug)]
pub struct TransferUse {
    pub transfer: Transfer,
    /// First sent; `None` until then.
    pub started_ns: Option<u64>,
    pub answer: Option<Answer>,
    /// Its client does not wait for it.
    pub abandoned: bool,
    /// Every sending was answered that nothing was done, and its client left it at that.
    pub denied: bool,
}

/// One linearizable read of an account.
#[derive(Clone, Debug)]
pub struct ReadUse {
    pub account: AccountId,
    /// When the request that was answered was sent.
    pub started_ns: u64,
    pub answer: Option<ReadAnswer>,
}

/// What a read returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    pub at_ns: u64,
    /// `None`: no such account.
    pub account: Option<Account>,
}

/// One move of a batch of accounts, with all its retries.
#[derive(Clone, Debug)]
pub struct MoveUse {
    pub id: MoveId,
    pub source: ShardId,
    pub target: ShardId,
    pub accounts: Vec<AccountId>,
    pub started_ns: Option<u64>,
    /// Whether the accounts went; `None` while that is open.
    pub moved: Option<bool>,
    /// When that was told.
    pub answered_ns: Option<u64>,
}

/// One consistent cut over all shards.
#[derive(Clone, Debug)]
pub struct CutUse {
    pub at: Timestamp,
    /// When it was drawn up: nothing was sent to any shard before.
    pub started_ns: u64,
    /// When the last shard has answered.
    pub answered_ns: Option<u64>,
    /// One per shard, once all have answered.
    pub sums: Vec<(ShardId, quorate_protocol::client::CutSums)>,
}

/// Everything that clients did.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub creations: Vec<CreationUse>,
    pub transfers: Vec<TransferUse>,
    pub reads: Vec<ReadUse>,
    pub moves: Vec<MoveUse>,
    pub cuts: Vec<CutUse>,
}

impl History {
    /// Ids of all transfers that were sent, ascending, each once.
    #[must_use]
    pub fn transfer_ids(&self) -> Vec<TransferId> {
        let mut ids: Vec<TransferId> = self
            .transfers
            .iter()
            .filter(|transfer| transfer.started_ns.is_some())
            .map(|transfer| transfer.transfer.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Ids of all accounts whose creation was sent, ascending, each once.
    #[must_use]
    pub fn account_ids(&self) -> Vec<AccountId> {
        let mut ids: Vec<AccountId> = self
            .creations
            .iter()
            .filter(|creation| creation.started_ns.is_some())
            .map(|creation| creation.account.id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
