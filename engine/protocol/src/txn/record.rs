//! Records of two-phase commit and of moves, as the log and the messages carry them.

use crate::ledger::history::HistoryPosition;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AccountId, Ballot, MoveId, ShardId, TransferId};
use crate::ledger::{Account, Transfer};
use crate::table::neighbours;
use crate::time::Timestamp;

/// One try of a coordinator: the ballot of its leader and a counter under that ballot.
///
/// The ballot is the fence: once a leader of a later ballot has applied its own first entry, no
/// attempt of an older ballot can commit any more.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Attempt {
    pub ballot: Ballot,
    pub counter: u64,
}

/// What a transaction is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum Subject {
    /// `id` is a transfer's.
    Transfer = 1,
    /// `id` is a move's.
    Move = 2,
}

/// Identity of a transaction. A participant stores it with the reservation and asks only
/// `coordinator` about it: the same id may be in use at two coordinators.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TxnId {
    pub coordinator: ShardId,
    pub subject: Subject,
    /// A `TransferId` or a `MoveId`.
    pub id: u128,
    pub attempt: Attempt,
}

impl TxnId {
    /// An attempt of a transfer.
    #[must_use]
    pub fn of_transfer(coordinator: ShardId, id: TransferId, attempt: Attempt) -> Self {
        Self {
            coordinator,
            subject: Subject::Transfer,
            id: id.0,
            attempt,
        }
    }

    /// For tables in which it is looked for beside its neighbours. Attempts of one id are few.
    pub(crate) fn hash(&self) -> u64 {
        neighbours(self.id, (self.coordinator, self.subject))
    }
}

/// What a row of a vote, a decision, a query or an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Query: no statement.
    None,
    /// Vote: prepared, `timestamp` is the prepare timestamp.
    Yes,
    /// Vote: refused for good with the row's `code`.
    No,
    /// Vote: not now; try again with a new attempt.
    Contended,
    /// Vote: the account lives at the row's `shard`.
    Moved,
    /// Decision: `timestamp` is the commit timestamp.
    Commit,
    /// Decision: it never takes effect.
    Abort,
    /// Answer: not decided; ask again later.
    Pending,
}

impl Verdict {
    /// The number in a row.
    #[must_use]
    pub fn to_u16(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Yes => 1,
            Self::No => 2,
            Self::Contended => 3,
            Self::Moved => 4,
            Self::Commit => 5,
            Self::Abort => 6,
            Self::Pending => 7,
        }
    }

    /// The verdict with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Yes,
            2 => Self::No,
            3 => Self::Contended,
            4 => Self::Moved,
            5 => Self::Commit,
            6 => Self::Abort,
            7 => Self::Pending,
            _ => return None,
        })
    }
}

/// One statement about one transaction: a vote, a decision, a query, an answer, a `Resolved`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TxnRow {
    pub id: u128,
    pub attempt: Attempt,
    pub coordinator: ShardId,
    /// [`Subject`] as a number.
    pub subject: u16,
    /// [`Verdict`] as a number.
    pub verdict: u16,
    /// Prepare timestamp of a vote, commit timestamp of a decision.
    pub timestamp: Timestamp,
    /// With `Moved`: where to.
    pub shard: ShardId,
    /// With `No`: a result code.
    pub code: u16,
    pub reserved: [u8; 10],
}

const _: () = assert!(size_of::<TxnRow>() == 64);

impl TxnRow {
    /// A row without timestamp, shard and code.
    #[must_use]
    pub fn new(txn: TxnId, verdict: Verdict) -> Self {
        Self {
            id: txn.id,
            attempt: txn.attempt,
            coordinator: txn.coordinator,
            subject: txn.subject as u16,
            verdict: verdict.to_u16(),
            ..Self::default()
        }
    }

    /// Identity and statement; `None` if a number has no meaning.
    #[must_use]
    pub fn parse(&self) -> Option<(TxnId, Verdict)> {
        let subject = match self.subject {
            1 => Subject::Transfer,
            2 => Subject::Move,
            _ => return None,
        };
        let txn = TxnId {
            coordinator: self.coordinator,
            subject,
            id: self.id,
            attempt: self.attempt,
        };
        Some((txn, Verdict::from_u16(self.verdict)?))
    }
}

/// A transfer to be prepared at the credit account's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PrepareRow {
    pub transfer: Transfer,
    pub attempt: Attempt,
    pub coordinator: ShardId,
    pub reserved: [u8; 12],
}

const _: () = assert!(size_of::<PrepareRow>() == 160);

/// What a `Commit` record stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitKind {
    /// The participant has prepared: post if still valid, else abort.
    Prepared,
    /// Nothing is prepared: record the refusal if the debit leg is refused for good; else no effect.
    Evaluate,
    /// The participant refused for good: record `code` with the id.
    Refuse,
}

impl CommitKind {
    /// The number in a row.
    #[must_use]
    pub fn to_u16(self) -> u16 {
        match self {
            Self::Prepared => 1,
            Self::Evaluate => 2,
            Self::Refuse => 3,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Prepared,
            2 => Self::Evaluate,
            3 => Self::Refuse,
            _ => return None,
        })
    }
}

/// A `Commit` record in the coordinator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CommitRow {
    pub transfer: Transfer,
    pub attempt: Attempt,
    pub participant: ShardId,
    /// [`CommitKind`] as a number.
    pub kind: u16,
    /// With `Refuse`: the result code.
    pub code: u16,
    pub reserved: [u8; 8],
}

const _: () = assert!(size_of::<CommitRow>() == 160);

/// "Nothing that I have prepared for you up to `upto` is in doubt", as the participant `shard` says it to a
/// coordinator, and as that one logs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AcknowledgedRow {
    pub upto: Timestamp,
    pub shard: ShardId,
    pub reserved: u32,
}

const _: () = assert!(size_of::<AcknowledgedRow>() == 16);

/// Where an account went, as a former owner says it to the account's home, as either logs it, and as clients are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RouteRow {
    pub account: AccountId,
    pub shard: ShardId,
    /// The account's ownership epoch over there.
    pub ownership_epoch: u32,
    /// The map epoch of the shard that says so, with which it came to know it.
    pub epoch: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<RouteRow>() == 32);

/// Head of a move: which batch goes from where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MoveHead {
    pub id: MoveId,
    pub attempt: Attempt,
    pub source: ShardId,
    pub target: ShardId,
    /// Number of account records behind the head.
    pub accounts: u32,
    /// Number of previous-owner records behind those.
    pub owners: u32,
}

const _: () = assert!(size_of::<MoveHead>() == 48);

/// One account of a move, with its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MovedAccountRow {
    pub account: Account,
    /// The highest transfer id that this owner has recorded for the account as debit account.
    pub id_max: u128,
    /// The account's version at the source.
    pub version: u64,
    /// The newest row of the source's history that moved money on it.
    pub last: HistoryPosition,
}

const _: () = assert!(size_of::<MovedAccountRow>() == 160);

/// One account of a `CommitMove`: refused unless the version is still this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MoveVersionRow {
    pub account: AccountId,
    pub version: u64,
    pub ownership_epoch: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<MoveVersionRow>() == 32);

/// A shard that owned an account until `commit_ts`, under `ownership_epoch`. Travels with the
/// account, so that an id used there is still known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PreviousOwnerRow {
    pub account: AccountId,
    /// No transfer id above this one was recorded there for the account: such ids need no look-up.
    pub id_max: u128,
    /// Commit timestamp of the move away from that shard.
    pub commit_ts: Timestamp,
    pub shard: ShardId,
    /// The account's ownership epoch while that shard owned it.
    pub ownership_epoch: u32,
    /// The newest row of that shard's history that moved money on it: where its rows there begin.
    pub last: HistoryPosition,
    pub reserved: u64,
}

const _: () = assert!(size_of::<PreviousOwnerRow>() == 64);
