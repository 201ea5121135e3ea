//! What clients did and were told: the evidence that checkers judge.
//!
//! Clients write here, checkers read. Times are true time of the simulation. A use without an answer
//! may or may not have taken effect.

use quorate_protocol::client::{HistoryEntry, HistoryHead, HistoryPage, HistoryStart};
use quorate_protocol::ids::{AccountId, DocumentKey, MoveId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, Transfer};
use quorate_protocol::shard::catalog::{Document, PutAnswer};
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

/// One reading of an account's history, page by page, at all shards that have owned it.
#[derive(Clone, Debug)]
pub struct HistoryUse {
    pub account: AccountId,
    /// Commit timestamps, both ends included.
    pub first: Timestamp,
    pub last: Timestamp,
    /// No row up to here may be missing.
    pub passed: Timestamp,
    /// Rows of a page.
    pub limit: u32,
    /// Pages that the reader still wants.
    pub pages_left: u32,
    /// At the end, of an account that its shard has just listed: it has to be told, and in full.
    pub is_audit: bool,
    /// Of the first page.
    pub head: Option<HistoryHead>,
    /// The owner's, then those of the former ones.
    pub parts: Vec<HistoryPart>,
}

/// The rows of one shard, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPart {
    pub shard: ShardId,
    /// Rows that took effect here at or behind this belong to a later ownership.
    pub left: Timestamp,
    pub rows: Vec<HistoryEntry>,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<HistoryStart>,
    /// Older rows are not kept any more.
    pub dropped: bool,
}

impl HistoryUse {
    /// The shard that is asked next, and from where on; `None`: all is read.
    #[must_use]
    pub fn next(&self) -> Option<(ShardId, HistoryStart)> {
        let mut parts = self.parts.iter();
        parts.find_map(|part| Some((part.shard, part.next?)))
    }

    /// The first page has come: whom else there is to ask.
    pub fn begin(&mut self, owner: ShardId, head: HistoryHead) {
        let part = |shard, left, next| HistoryPart {
            shard,
            left,
            rows: Vec::new(),
            next,
            dropped: false,
        };
        let former = head.owners.iter().map(|owner| {
            let next = (owner.last > 0).then_some(HistoryStart::Position(owner.last));
            part(owner.shard, owner.left, next)
        });
        let owner = part(owner, Timestamp(u64::MAX), None);
        self.parts = std::iter::once(owner).chain(former).collect();
        self.head = Some(head);
    }

    /// A page of that shard has come.
    pub fn take(&mut self, shard: ShardId, page: HistoryPage) {
        self.pages_left = self.pages_left.saturating_sub(1);
        let Some(part) = self.parts.iter_mut().find(|part| part.shard == shard) else {
            return;
        };
        part.rows.extend(page.rows);
        part.dropped = page.dropped;
        let ends = page.next == 0 || page.dropped;
        part.next = (!ends).then_some(HistoryStart::Position(page.next));
    }
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

/// One use of a document of a shard's catalog, with all its retries.
#[derive(Clone, Debug)]
pub struct DocumentUse {
    pub shard: ShardId,
    pub key: DocumentKey,
    pub want: DocumentWant,
    /// First sent; `None` until then.
    pub started_ns: Option<u64>,
    /// An earlier sending may have taken effect.
    pub is_unsure: bool,
    /// With its time.
    pub answer: Option<(u64, DocumentAnswer)>,
}

/// What is done with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentWant {
    Put { expected: u64, bytes: Vec<u8> },
    Read,
}

/// What was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentAnswer {
    Put(PutAnswer),
    Read(Document),
}

impl DocumentAnswer {
    /// The version that it has now; 0: that is not known.
    #[must_use]
    pub fn version(&self) -> u64 {
        match self {
            Self::Put(PutAnswer::Written { version } | PutAnswer::Conflict { version }) => *version,
            Self::Put(PutAnswer::Full) => 0,
            Self::Read(document) => document.version,
        }
    }
}

/// Everything that clients did.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub creations: Vec<CreationUse>,
    pub transfers: Vec<TransferUse>,
    pub reads: Vec<ReadUse>,
    pub moves: Vec<MoveUse>,
    pub cuts: Vec<CutUse>,
    pub histories: Vec<HistoryUse>,
    pub documents: Vec<DocumentUse>,
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
