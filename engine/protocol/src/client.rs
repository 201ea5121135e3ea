//! What clients ask and what they are answered. Every request gets exactly one reply by its deadline.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{
    AccountId, Ballot, DocumentKey, MoveId, ReplicaId, RequestId, ShardId, Slot, TransferId,
};
use crate::ledger::{Account, ResultRow, Total, Transfer};
use crate::shard::catalog::{Document, PutAnswer};
use crate::time::Timestamp;
use crate::txn::record::{Attempt, RouteRow};
use crate::words::Rows;

/// A request of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Unique on its connection while it is open.
    pub id: RequestId,
    /// Time to answer from arrival; 0 asks for the default, more than the maximum is cut to it.
    pub deadline_ms: u32,
    /// The highest timestamp that the client has seen.
    pub seen: Timestamp,
    pub body: RequestBody,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestBody {
    /// At most `BATCH_MAX`; answered by `Results` in the same order. Sent to the accounts' home.
    CreateAccounts(Rows<Account>),
    /// At most `BATCH_MAX`; answered by `Results` in the same order. Sent to the debit accounts'
    /// shard. The transfers of one request are independent of each other.
    CreateTransfers(Rows<Transfer>),
    /// Linearizable read of each account by itself; answered by `Accounts`.
    LookupAccounts(Rows<AccountId>),
    /// What this shard's log recorded for these ids, on either side; answered by `Transfers`, or by
    /// `BadRequest` if ids were used so often that the answer exceeds a frame.
    LookupTransfers(Rows<TransferId>),
    /// The rows of one account's history at this shard, newest first; answered by `History`.
    AccountHistory(HistoryQuery),
    /// Owned accounts with ids above `after`, ascending, from applied state without a read barrier;
    /// answered by `AccountList`.
    ListAccounts { after: AccountId, limit: u32 },
    /// Any replica answers, with `Status`.
    Status,
    /// What is prepared here and undecided; any replica answers, with `InDoubt`.
    InDoubt,
    /// Moves accounts that this shard owns to `target`; answered by `Move`. The same `id` with the same
    /// target and accounts continues or reports the same move; with others it is refused.
    MoveAccounts {
        id: MoveId,
        target: ShardId,
        accounts: Rows<AccountId>,
    },
    /// Announces a consistent cut; answered by `Cut` with `Registered` or `Refused`.
    CutRegister { at: Timestamp },
    /// Passes the cut and waits until nothing prepared at or before it is in doubt; answered by `Cut`
    /// with `Sums`.
    CutSums { at: Timestamp },
    /// The digest this replica recorded when it applied the passing of the cut; any replica answers.
    CutDigest { at: Timestamp },
    /// Telemetry of committed pairs: those in up to `limit` places from `from` on; answered by `Pairs`.
    Observe { from: u32, limit: u32 },
    /// How often accounts in memory were used: those in up to `limit` places from `from` on; answered by `Operations`.
    ObserveOperations { from: u32, limit: u32 },
    /// Ends the present window of telemetry, if anything was committed in it; answered by `Done`.
    BeginWindow,
    /// Forgets the telemetry so far.
    ObserveReset,
    /// Writes a document of the shard's catalog if it has the version `expected`; no bytes remove it; answered by `PutDocument`.
    PutDocument {
        key: DocumentKey,
        expected: u64,
        bytes: Vec<u8>,
    },
    /// Linearizable read of a document, or of the version of what is not there; answered by `Document`.
    GetDocument { key: DocumentKey },
    /// Linearizable list of the documents; answered by `Documents`.
    ListDocuments,
    /// Where accounts went that have left this shard, those that have changed behind a place in the order of changes, at most
    /// `limit`; from applied state without a read barrier; answered by `MapChanges`.
    MapChanges { place: MapPlace, limit: u32 },
    /// Asks the leader to hand over.
    TransferLeadership { to: ReplicaId },
}

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub id: RequestId,
    /// The highest timestamp that the replica has seen.
    pub clock: Timestamp,
    pub body: ReplyBody,
}

/// What a client is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyBody {
    Results(Rows<ResultRow>),
    Accounts(Vec<AccountAnswer>),
    Transfers(Vec<TransferAnswer>),
    History(HistoryAnswer),
    AccountList(Rows<AccountId>),
    Status(Status),
    InDoubt(Vec<InDoubtRow>),
    Move(MoveAnswer),
    Cut(CutAnswer),
    Pairs {
        rows: Rows<PairRow>,
        /// Where the next page begins; 0: this was the last one.
        next: u32,
        /// The present one first, at most [`WINDOWS`].
        windows: Vec<TelemetryWindow>,
    },
    Operations {
        rows: Rows<OperationsRow>,
        /// Likewise.
        next: u32,
    },
    PutDocument(PutAnswer),
    Document(Document),
    Documents(Vec<DocumentRow>),
    MapChanges {
        rows: Rows<RouteRow>,
        /// Where the next question begins.
        next: MapPlace,
        /// There was no room for more.
        has_more: bool,
    },
    /// Nothing else to say (`BeginWindow`, `ObserveReset`, `TransferLeadership`).
    Done,
    /// Nothing was done; ask the leader.
    NotLeader {
        ballot: Ballot,
        leader: Option<ReplicaId>,
    },
    /// Nothing was done; a bound is reached.
    Busy,
    /// The deadline passed, or leadership was lost, while the outcome was open.
    Unknown,
    /// The request is not well-formed; nothing was done.
    BadRequest(String),
}

impl ReplyBody {
    /// What kind of reply it is, in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Results(_) => "results",
            Self::Accounts(_) => "accounts",
            Self::Transfers(_) => "transfers",
            Self::History(_) => "history",
            Self::AccountList(_) => "account_list",
            Self::Status(_) => "status",
            Self::InDoubt(_) => "in_doubt",
            Self::Move(_) => "move",
            Self::Cut(_) => "cut",
            Self::Pairs { .. } => "pairs",
            Self::Operations { .. } => "operations",
            Self::PutDocument(_) => "put_document",
            Self::Document(_) => "document",
            Self::Documents(_) => "documents",
            Self::MapChanges { .. } => "map_changes",
            Self::Done => "done",
            Self::NotLeader { .. } => "not_leader",
            Self::Busy => "busy",
            Self::Unknown => "unknown",
            Self::BadRequest(_) => "bad_request",
        }
    }
}

/// Answer to one account look-up.
#[derive(Clone, Debug, PartialEq)]
pub enum AccountAnswer {
    Found(Account),
    NotFound,
    Moved(ShardId),
    /// Open transactions did not resolve by the deadline.
    Contended,
}

/// Answer to one transfer look-up: what this shard knows of the id.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferAnswer {
    pub id: TransferId,
    /// Recorded as debit side (this shard decided it), with its final result code.
    pub debit: Option<RecordedTransfer>,
    /// Posted here as credit side: one per shard that decided a transfer under this id, in their
    /// order. The same id may be in use at debit accounts of several shards.
    pub credits: Vec<RecordedTransfer>,
}

/// A recorded use of a transfer id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordedTransfer {
    pub transfer: Transfer,
    pub code: u16,
    pub slot: Slot,
    pub commit_ts: Timestamp,
    /// The winning attempt of a cross-shard transfer; zero for a local one.
    pub attempt: Attempt,
}

/// Which rows of an account's history are asked for.
///
/// A shard has the rows of the time in which it owned the account, in one chain however often that was.
/// They come in the order in which they took effect here, which is not the order of their commit
/// timestamps: a cross-shard credit may take effect behind a local transfer with a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    pub account: AccountId,
    pub start: HistoryStart,
    /// Only rows with commit timestamps from here on ...
    pub ts_first: Timestamp,
    /// ... up to here.
    pub ts_last: Timestamp,
    /// At most `HISTORY_ROWS_MAX`; the page may have fewer although there are more.
    pub limit: u32,
}

/// Where a page of history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryStart {
    /// At the newest row, if this shard owns the account: as of an instant at which nothing is open on it and
    /// this shard's time has passed `passed`, so that no effect up to then will ever be added. A time
    /// ahead of the shard's clock is refused.
    Newest { passed: Timestamp },
    /// Where an earlier page has ended (`HistoryPage::next`), or where the rows of a former owner begin (`FormerOwner::last`).
    Position(u64),
}

/// Answer to a question about an account's history.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryAnswer {
    Page(HistoryPage),
    NotFound,
    Moved(ShardId),
}

/// Rows of an account's history, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// Of a page that begins at the newest row.
    pub head: Option<Box<HistoryHead>>,
    pub rows: Vec<HistoryEntry>,
    /// Where the next page begins; 0: there are no more rows in the range.
    pub next: u64,
    /// The next row is not kept any more, and so none of the older ones.
    pub dropped: bool,
}

/// An account at the instant of its newest row. Its totals are the sums of all its rows, here and at the
/// shards that owned it before.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryHead {
    pub account: Account,
    pub owners: Vec<FormerOwner>,
}

/// A shard that owned the account before, and has rows of then. Those that took effect there at or behind `left` belong to a
/// later ownership, which began behind the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerOwner {
    pub shard: ShardId,
    /// Commit timestamp of the latest move away from it.
    pub left: Timestamp,
    /// Position of its newest row of the account; 0: it has none.
    pub last: u64,
}

/// A row of an account's history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HistoryEntry {
    /// In the history of the shard that answers.
    pub position: u64,
    pub recorded: RecordedTransfer,
    /// Timestamp of the entry that made it take effect here: falls from row to row, also through the shards
    /// that owned the account, and is never below the row's commit timestamp.
    pub applied_ts: Timestamp,
    /// The shard that decided it, if it was posted here as credit side; zero: this shard.
    pub coordinator: ShardId,
}

/// A replica's view of itself and its shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    pub shard: ShardId,
    pub replica: ReplicaId,
    pub role: Role,
    pub ballot: Ballot,
    pub leader: Option<ReplicaId>,
    /// The leader has applied its own first entry and serves.
    pub serving: bool,
    pub chosen_upto: Slot,
    pub applied_upto: Slot,
    pub epoch: u32,
    pub accounts: u64,
    pub transfers: u64,
    pub in_doubt: u64,
    /// Committed since this replica started leading.
    pub committed_local: u64,
    pub committed_cross: u64,
    /// Of the last second of this replica as a leader.
    pub latency: RequestLatency,
    /// Why it is stopped, or what keeps it from hearing its peers; else empty.
    pub reason: String,
}

/// How long requests to create something took at their leader, from arrival to reply; zeros if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLatency {
    pub requests: u32,
    /// Right to an eighth.
    pub p50_us: u32,
    pub p99_us: u32,
}

/// Role of a replica as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    Recovering,
    Stopped,
}

impl Role {
    /// All roles.
    pub const ALL: &'static [Self] = &[
        Self::Leader,
        Self::Follower,
        Self::Candidate,
        Self::Recovering,
        Self::Stopped,
    ];

    /// The name that users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Recovering => "recovering",
            Self::Stopped => "stopped",
        }
    }
}

/// One transaction that is prepared here and undecided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InDoubtRow {
    /// A transfer's or a move's id.
    pub id: u128,
    pub is_move: bool,
    pub coordinator: ShardId,
    pub attempt: Attempt,
    pub prepare_ts: Timestamp,
    pub slot: Slot,
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveAnswer {
    /// The accounts are at the target, now or since an earlier use of the id.
    Moved {
        accounts: u32,
        commit_ts: Timestamp,
        /// How long nobody served the accounts, by the source's clock: from when it began to hold operations back to when it
        /// heard that the target has applied the move, or heard nothing for the time that a move may take. 0: this leader did not
        /// see all of that, or has answered before.
        freeze_ns: u64,
    },
    /// Nothing moved; try again. An account was busy, or the target did not answer in time.
    Contended,
    /// Nothing moved: this account is not here.
    NotOwned { account: AccountId, shard: ShardId },
    /// Nothing moved: the request makes no sense (target is here, an account twice, a system
    /// account, an id that another move has used).
    Refused,
}

/// Answers about consistent cuts.
#[derive(Clone, Debug, PartialEq)]
pub enum CutAnswer {
    Registered,
    /// The shard's clock is past the cut already, or too many cuts are open.
    Refused,
    Sums(CutSums),
    Digest {
        slot: Slot,
        digest: u128,
    },
    /// This replica does not know the cut, or not what the state was when it was passed: not yet, or, if it began
    /// later, never.
    NotKnown,
}

/// One shard's sums as of a cut.
#[derive(Clone, Debug, PartialEq)]
pub struct CutSums {
    pub at: Timestamp,
    pub ledgers: Vec<LedgerSums>,
    /// Accounts owned, and the wrapping sum of a 128-bit hash of their ids.
    pub owned: u64,
    pub owned_hash: u128,
    /// Accounts whose creation this shard decided, and the same sum over them. Over all shards both
    /// pairs agree if and only if every account has exactly one owner (up to hash collision).
    pub created: u64,
    pub created_hash: u128,
    /// Transfers committed with this shard as the debit side.
    pub transfers: u64,
    /// Prepared here and undecided when the cut was passed, moves included. Those that were prepared
    /// at or before the cut have ended since, or there would be no sums; it accuses nobody.
    pub in_doubt: u64,
}

/// Sums over the account records of one ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerSums {
    pub ledger: u32,
    pub debits_posted: Total,
    pub credits_posted: Total,
    /// Sum of the amounts of transfers committed with this shard as the debit side.
    pub transferred: Total,
}

/// A place in the order in which a shard came to know where its accounts went: map epoch, and in it by account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapPlace {
    pub epoch: u32,
    pub account: AccountId,
}

/// What a catalog says of a document beside its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentRow {
    pub key: DocumentKey,
    pub version: u64,
    /// Its length.
    pub bytes: u32,
}

/// A weighted pair of accounts that paid each other; the smaller id first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PairRow {
    pub a: AccountId,
    pub b: AccountId,
    /// Committed transfers of the present window, of each of those before it, and at last of all that is older, which halves from
    /// window to window.
    pub counts: [u32; WINDOWS],
    pub reserved: u64,
}

const _: () = assert!(size_of::<PairRow>() == 64);

/// Windows that telemetry tells apart, the sum of all older ones included.
pub const WINDOWS: usize = 6;

impl PairRow {
    /// Committed transfers of all windows; of the older ones what is left of them.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.counts.iter().copied().map(u64::from).sum()
    }
}

/// What a leader committed in a window of its telemetry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TelemetryWindow {
    /// Wall time of the leader's host.
    pub began: Timestamp,
    /// Transfers inside the shard, and those across of which it has the debit account; without those of system accounts.
    pub local: u64,
    pub cross: u64,
    /// Those of both kinds that are in no pair: the table had no room for them, or the queue before it.
    pub dropped: u64,
}

impl TelemetryWindow {
    /// All committed transfers.
    #[must_use]
    pub fn transfers(&self) -> u64 {
        self.local + self.cross
    }
}

/// How often an account was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct OperationsRow {
    pub account: AccountId,
    /// Postings on it, halved from checkpoint to checkpoint, since it came into memory.
    pub operations: u64,
    pub reserved: u64,
}

const _: () = assert!(size_of::<OperationsRow>() == 32);
