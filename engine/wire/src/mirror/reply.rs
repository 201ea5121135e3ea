//! Mirror of `client::Reply`.
//!
//! Result codes are passed on as numbers: a client of an older version must be able to show one that
//! it does not know (`ResultRow::result` is `None` then).

use quorate_protocol::client::{
    AccountAnswer, CutAnswer, CutSums, InDoubtRow, LedgerSums, MapPlace, MoveAnswer,
    RecordedTransfer, Reply, ReplyBody, RequestLatency, Role, Status, TelemetryWindow,
    TransferAnswer,
};
use quorate_protocol::ids::{AccountId, Ballot, ReplicaId, RequestId, ShardId, Slot, TransferId};
use quorate_protocol::ledger::Total;
use quorate_protocol::limits::{FRAME_PAYLOAD_MAX, LOOKUP_CREDITS_MAX, LOOKUP_MAX};
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::Words;
use rkyv::{Archive, Serialize};

use super::document::{ArchivedDocumentRowMirror, DocumentMirror, DocumentRowMirror, PutMirror};
use super::history::HistoryAnswerMirror;
use super::{AttemptMirror, read_replica, replica_of};
use crate::error::FrameError;
use crate::run::{self, Record, Run};

#[derive(Archive, Serialize)]
pub(crate) struct ReplyMirror {
    id: u64,
    clock: u64,
    body: BodyMirror,
}

#[derive(Archive, Serialize)]
enum BodyMirror {
    Results(#[rkyv(with = Run)] Words),
    Accounts(Vec<AccountAnswerMirror>),
    Transfers(Vec<TransferAnswerMirror>),
    History(HistoryAnswerMirror),
    AccountList(#[rkyv(with = Run)] Words),
    Status(StatusMirror),
    InDoubt(Vec<InDoubtMirror>),
    Move(MoveMirror),
    Cut(CutMirror),
    Pairs {
        #[rkyv(with = Run)]
        rows: Words,
        next: u32,
        windows: Vec<WindowMirror>,
    },
    Operations {
        #[rkyv(with = Run)]
        rows: Words,
        next: u32,
    },
    PutDocument(PutMirror),
    Document(DocumentMirror),
    Documents(Vec<DocumentRowMirror>),
    Done,
    NotLeader {
        ballot: u64,
        leader: Option<u8>,
    },
    Busy,
    Unknown,
    BadRequest(String),
    MapChanges {
        #[rkyv(with = Run)]
        rows: Words,
        epoch: u32,
        account: u128,
        has_more: bool,
    },
}

impl ReplyMirror {
    pub fn of(reply: &Reply) -> Self {
        Self {
            id: reply.id.0,
            clock: reply.clock.0,
            body: BodyMirror::of(&reply.body),
        }
    }
}

impl ArchivedReplyMirror {
    pub fn read(&self) -> Result<Reply, FrameError> {
        Ok(Reply {
            id: RequestId(self.id.to_native()),
            clock: Timestamp(self.clock.to_native()),
            body: self.body.read()?,
        })
    }
}

impl BodyMirror {
    fn of(body: &ReplyBody) -> Self {
        match body {
            ReplyBody::Results(rows) => Self::Results(rows.words().clone()),
            ReplyBody::Accounts(answers) => {
                Self::Accounts(answers.iter().map(AccountAnswerMirror::of).collect())
            }
            ReplyBody::Transfers(answers) => {
                Self::Transfers(answers.iter().map(TransferAnswerMirror::of).collect())
            }
            ReplyBody::History(answer) => Self::History(HistoryAnswerMirror::of(answer)),
            ReplyBody::AccountList(rows) => Self::AccountList(rows.words().clone()),
            ReplyBody::Status(status) => Self::Status(StatusMirror::of(status)),
            ReplyBody::InDoubt(rows) => Self::InDoubt(rows.iter().map(InDoubtMirror::of).collect()),
            ReplyBody::Move(answer) => Self::Move(MoveMirror::of(*answer)),
            ReplyBody::Cut(answer) => Self::Cut(CutMirror::of(answer)),
            ReplyBody::Pairs {
                rows,
                next,
                windows,
            } => Self::Pairs {
                rows: rows.words().clone(),
                next: *next,
                windows: windows.iter().map(WindowMirror::of).collect(),
            },
            ReplyBody::Operations { rows, next } => Self::Operations {
                rows: rows.words().clone(),
                next: *next,
            },
            ReplyBody::PutDocument(answer) => Self::PutDocument(PutMirror::of(*answer)),
            ReplyBody::Document(document) => Self::Document(DocumentMirror::of(document)),
            ReplyBody::Documents(rows) => {
                Self::Documents(rows.iter().map(DocumentRowMirror::of).collect())
            }
            ReplyBody::MapChanges {
                rows,
                next,
                has_more,
            } => Self::MapChanges {
                rows: rows.words().clone(),
                epoch: next.epoch,
                account: next.account.0,
                has_more: *has_more,
            },
            ReplyBody::Done => Self::Done,
            ReplyBody::NotLeader { ballot, leader } => Self::NotLeader {
                ballot: ballot.0,
                leader: replica_of(*leader),
            },
            ReplyBody::Busy => Self::Busy,
            ReplyBody::Unknown => Self::Unknown,
            ReplyBody::BadRequest(reason) => Self::BadRequest(reason.clone()),
        }
    }
}

impl ArchivedBodyMirror {
    fn read(&self) -> Result<ReplyBody, FrameError> {
        Ok(match self {
            Self::Results(run) => ReplyBody::Results(run::rows(run, "result rows")?),
            Self::Accounts(answers) => ReplyBody::Accounts(
                answers
                    .iter()
                    .map(ArchivedAccountAnswerMirror::read)
                    .collect(),
            ),
            Self::Transfers(answers) => ReplyBody::Transfers(
                answers
                    .iter()
                    .map(ArchivedTransferAnswerMirror::read)
                    .collect(),
            ),
            Self::History(answer) => ReplyBody::History(answer.read()),
            Self::AccountList(run) => ReplyBody::AccountList(run::rows(run, "account ids")?),
            Self::Status(status) => ReplyBody::Status(status.read()?),
            Self::InDoubt(rows) => {
                ReplyBody::InDoubt(rows.iter().map(ArchivedInDoubtMirror::read).collect())
            }
            Self::Move(answer) => ReplyBody::Move(answer.read()),
            Self::Cut(answer) => ReplyBody::Cut(answer.read()),
            Self::Pairs {
                rows,
                next,
                windows,
            } => ReplyBody::Pairs {
                rows: run::rows(rows, "pair rows")?,
                next: next.to_native(),
                windows: windows.iter().map(ArchivedWindowMirror::read).collect(),
            },
            Self::Operations { rows, next } => ReplyBody::Operations {
                rows: run::rows(rows, "rows of operations")?,
                next: next.to_native(),
            },
            Self::PutDocument(answer) => ReplyBody::PutDocument(answer.read()),
            Self::Document(document) => ReplyBody::Document(document.read()),
            Self::Documents(rows) => {
                ReplyBody::Documents(rows.iter().map(ArchivedDocumentRowMirror::read).collect())
            }
            Self::MapChanges {
                rows,
                epoch,
                account,
                has_more,
            } => ReplyBody::MapChanges {
                rows: run::rows(rows, "map changes")?,
                next: MapPlace {
                    epoch: epoch.to_native(),
                    account: AccountId(account.to_native()),
                },
                has_more: *has_more,
            },
            Self::Done => ReplyBody::Done,
            Self::NotLeader { ballot, leader } => ReplyBody::NotLeader {
                ballot: Ballot(ballot.to_native()),
                leader: read_replica(leader)?,
            },
            Self::Busy => ReplyBody::Busy,
            Self::Unknown => ReplyBody::Unknown,
            Self::BadRequest(reason) => ReplyBody::BadRequest(reason.as_str().to_owned()),
        })
    }
}

#[derive(Archive, Serialize)]
struct WindowMirror {
    began: u64,
    local: u64,
    cross: u64,
    dropped: u64,
}

impl WindowMirror {
    fn of(window: &TelemetryWindow) -> Self {
        Self {
            began: window.began.0,
            local: window.local,
            cross: window.cross,
            dropped: window.dropped,
        }
    }
}

impl ArchivedWindowMirror {
    fn read(&self) -> TelemetryWindow {
        TelemetryWindow {
            began: Timestamp(self.began.to_native()),
            local: self.local.to_native(),
            cross: self.cross.to_native(),
            dropped: self.dropped.to_native(),
        }
    }
}

#[derive(Archive, Serialize)]
enum AccountAnswerMirror {
    Found(Record<8>),
    NotFound,
    Moved(u32),
    Contended,
}

// What `limits::LOOKUP_MAX` counts with.
const _: () = assert!(size_of::<ArchivedAccountAnswerMirror>() == 144);

impl AccountAnswerMirror {
    fn of(answer: &AccountAnswer) -> Self {
        match answer {
            AccountAnswer::Found(account) => Self::Found(run::record(account)),
            AccountAnswer::NotFound => Self::NotFound,
            AccountAnswer::Moved(shard) => Self::Moved(shard.0),
            AccountAnswer::Contended => Self::Contended,
        }
    }
}

impl ArchivedAccountAnswerMirror {
    fn read(&self) -> AccountAnswer {
        match self {
            Self::Found(record) => AccountAnswer::Found(run::row(record)),
            Self::NotFound => AccountAnswer::NotFound,
            Self::Moved(shard) => AccountAnswer::Moved(ShardId(shard.to_native())),
            Self::Contended => AccountAnswer::Contended,
        }
    }
}

#[derive(Archive, Serialize)]
struct TransferAnswerMirror {
    id: u128,
    debit: Option<RecordedMirror>,
    credits: Vec<RecordedMirror>,
}

// What `limits::LOOKUP_CREDITS_MAX` counts with.
const _: () = assert!(
    LOOKUP_MAX / 2 * size_of::<ArchivedTransferAnswerMirror>()
        + LOOKUP_CREDITS_MAX * size_of::<ArchivedRecordedMirror>()
        <= FRAME_PAYLOAD_MAX
);

#[derive(Archive, Serialize)]
pub(super) struct RecordedMirror {
    transfer: Record<8>,
    code: u16,
    slot: u64,
    commit_ts: u64,
    attempt: AttemptMirror,
}

impl TransferAnswerMirror {
    fn of(answer: &TransferAnswer) -> Self {
        Self {
            id: answer.id.0,
            debit: answer.debit.as_ref().map(RecordedMirror::of),
            credits: answer.credits.iter().map(RecordedMirror::of).collect(),
        }
    }
}

impl ArchivedTransferAnswerMirror {
    fn read(&self) -> TransferAnswer {
        TransferAnswer {
            id: TransferId(self.id.to_native()),
            debit: self.debit.as_ref().map(ArchivedRecordedMirror::read),
            credits: self
                .credits
                .iter()
                .map(ArchivedRecordedMirror::read)
                .collect(),
        }
    }
}

impl RecordedMirror {
    pub(super) fn of(recorded: &RecordedTransfer) -> Self {
        Self {
            transfer: run::record(&recorded.transfer),
            code: recorded.code,
            slot: recorded.slot.0,
            commit_ts: recorded.commit_ts.0,
            attempt: AttemptMirror::of(recorded.attempt),
        }
    }
}

impl ArchivedRecordedMirror {
    pub(super) fn read(&self) -> RecordedTransfer {
        RecordedTransfer {
            transfer: run::row(&self.transfer),
            code: self.code.to_native(),
            slot: Slot(self.slot.to_native()),
            commit_ts: Timestamp(self.commit_ts.to_native()),
            attempt: self.attempt.read(),
        }
    }
}

#[derive(Archive, Serialize)]
struct StatusMirror {
    shard: u32,
    replica: u8,
    role: RoleMirror,
    ballot: u64,
    leader: Option<u8>,
    serving: bool,
    chosen_upto: u64,
    applied_upto: u64,
    epoch: u32,
    accounts: u64,
    transfers: u64,
    in_doubt: u64,
    committed_local: u64,
    committed_cross: u64,
    requests: u32,
    p50_us: u32,
    p99_us: u32,
    reason: String,
}

#[derive(Archive, Serialize)]
enum RoleMirror {
    Leader,
    Follower,
    Candidate,
    Recovering,
    Stopped,
}

impl StatusMirror {
    fn of(status: &Status) -> Self {
        Self {
            shard: status.shard.0,
            replica: status.replica.0,
            role: match status.role {
                Role::Leader => RoleMirror::Leader,
                Role::Follower => RoleMirror::Follower,
                Role::Candidate => RoleMirror::Candidate,
                Role::Recovering => RoleMirror::Recovering,
                Role::Stopped => RoleMirror::Stopped,
            },
            ballot: status.ballot.0,
            leader: replica_of(status.leader),
            serving: status.serving,
            chosen_upto: status.chosen_upto.0,
            applied_upto: status.applied_upto.0,
            epoch: status.epoch,
            accounts: status.accounts,
            transfers: status.transfers,
            in_doubt: status.in_doubt,
            committed_local: status.committed_local,
            committed_cross: status.committed_cross,
            requests: status.latency.requests,
            p50_us: status.latency.p50_us,
            p99_us: status.latency.p99_us,
            reason: status.reason.clone(),
        }
    }
}

impl ArchivedStatusMirror {
    fn read(&self) -> Result<Status, FrameError> {
        Ok(Status {
            shard: ShardId(self.shard.to_native()),
            replica: ReplicaId(self.replica),
            role: match self.role {
                ArchivedRoleMirror::Leader => Role::Leader,
                ArchivedRoleMirror::Follower => Role::Follower,
                ArchivedRoleMirror::Candidate => Role::Candidate,
                ArchivedRoleMirror::Recovering => Role::Recovering,
                ArchivedRoleMirror::Stopped => Role::Stopped,
            },
            ballot: Ballot(self.ballot.to_native()),
            leader: read_replica(&self.leader)?,
            serving: self.serving,
            chosen_upto: Slot(self.chosen_upto.to_native()),
            applied_upto: Slot(self.applied_upto.to_native()),
            epoch: self.epoch.to_native(),
            accounts: self.accounts.to_native(),
            transfers: self.transfers.to_native(),
            in_doubt: self.in_doubt.to_native(),
            committed_local: self.committed_local.to_native(),
            committed_cross: self.committed_cross.to_native(),
            latency: RequestLatency {
                requests: self.requests.to_native(),
                p50_us: self.p50_us.to_native(),
                p99_us: self.p99_us.to_native(),
            },
            reason: self.reason.as_str().to_owned(),
        })
    }
}

#[derive(Archive, Serialize)]
struct InDoubtMirror {
    id: u128,
    is_move: bool,
    coordinator: u32,
    attempt: AttemptMirror,
    prepare_ts: u64,
    slot: u64,
}

impl InDoubtMirror {
    fn of(row: &InDoubtRow) -> Self {
        Self {
            id: row.id,
            is_move: row.is_move,
            coordinator: row.coordinator.0,
            attempt: AttemptMirror::of(row.attempt),
            prepare_ts: row.prepare_ts.0,
            slot: row.slot.0,
        }
    }
}

impl ArchivedInDoubtMirror {
    fn read(&self) -> InDoubtRow {
        InDoubtRow {
            id: self.id.to_native(),
            is_move: self.is_move,
            coordinator: ShardId(self.coordinator.to_native()),
            attempt: self.attempt.read(),
            prepare_ts: Timestamp(self.prepare_ts.to_native()),
            slot: Slot(self.slot.to_native()),
        }
    }
}

#[derive(Archive, Serialize)]
enum MoveMirror {
    Moved {
        accounts: u32,
        commit_ts: u64,
        freeze_ns: u64,
    },
    Contended,
    NotOwned {
        account: u128,
        shard: u32,
    },
    Refused,
}

impl MoveMirror {
    fn of(answer: MoveAnswer) -> Self {
        match answer {
            MoveAnswer::Moved {
                accounts,
                commit_ts,
                freeze_ns,
            } => Self::Moved {
                accounts,
                commit_ts: commit_ts.0,
                freeze_ns,
            },
            MoveAnswer::Contended => Self::Contended,
            MoveAnswer::NotOwned { account, shard } => Self::NotOwned {
                account: account.0,
                shard: shard.0,
            },
            MoveAnswer::Refused => Self::Refused,
        }
    }
}

impl ArchivedMoveMirror {
    fn read(&self) -> MoveAnswer {
        match self {
            Self::Moved {
                accounts,
                commit_ts,
                freeze_ns,
            } => MoveAnswer::Moved {
                accounts: accounts.to_native(),
                commit_ts: Timestamp(commit_ts.to_native()),
                freeze_ns: freeze_ns.to_native(),
            },
            Self::Contended => MoveAnswer::Contended,
            Self::NotOwned { account, shard } => MoveAnswer::NotOwned {
                account: AccountId(account.to_native()),
                shard: ShardId(shard.to_native()),
            },
            Self::Refused => MoveAnswer::Refused,
        }
    }
}

#[derive(Archive, Serialize)]
enum CutMirror {
    Registered,
    Refused,
    Sums(SumsMirror),
    Digest { slot: u64, digest: u128 },
    NotKnown,
}

#[derive(Archive, Serialize)]
struct SumsMirror {
    at: u64,
    ledgers: Vec<LedgerSumsMirror>,
    owned: u64,
    owned_hash: u128,
    created: u64,
    created_hash: u128,
    transfers: u64,
    in_doubt: u64,
}

#[derive(Archive, Serialize)]
struct LedgerSumsMirror {
    ledger: u32,
    debits_posted: TotalMirror,
    credits_posted: TotalMirror,
    transferred: TotalMirror,
}

#[derive(Archive, Serialize)]
struct TotalMirror {
    high: u128,
    low: u128,
}

impl CutMirror {
    fn of(answer: &CutAnswer) -> Self {
        match answer {
            CutAnswer::Registered => Self::Registered,
            CutAnswer::Refused => Self::Refused,
            CutAnswer::Sums(sums) => Self::Sums(SumsMirror {
                at: sums.at.0,
                ledgers: sums.ledgers.iter().map(LedgerSumsMirror::of).collect(),
                owned: sums.owned,
                owned_hash: sums.owned_hash,
                created: sums.created,
                created_hash: sums.created_hash,
                transfers: sums.transfers,
                in_doubt: sums.in_doubt,
            }),
            CutAnswer::Digest { slot, digest } => Self::Digest {
                slot: slot.0,
                digest: *digest,
            },
            CutAnswer::NotKnown => Self::NotKnown,
        }
    }
}

impl ArchivedCutMirror {
    fn read(&self) -> CutAnswer {
        match self {
            Self::Registered => CutAnswer::Registered,
            Self::Refused => CutAnswer::Refused,
            Self::Sums(sums) => CutAnswer::Sums(CutSums {
                at: Timestamp(sums.at.to_native()),
                ledgers: sums
                    .ledgers
                    .iter()
                    .map(ArchivedLedgerSumsMirror::read)
                    .collect(),
                owned: sums.owned.to_native(),
                owned_hash: sums.owned_hash.to_native(),
                created: sums.created.to_native(),
                created_hash: sums.created_hash.to_native(),
                transfers: sums.transfers.to_native(),
                in_doubt: sums.in_doubt.to_native(),
            }),
            Self::Digest { slot, digest } => CutAnswer::Digest {
                slot: Slot(slot.to_native()),
                digest: digest.to_native(),
            },
            Self::NotKnown => CutAnswer::NotKnown,
        }
    }
}

impl LedgerSumsMirror {
    fn of(sums: &LedgerSums) -> Self {
        Self {
            ledger: sums.ledger,
            debits_posted: TotalMirror::of(sums.debits_posted),
            credits_posted: TotalMirror::of(sums.credits_posted),
            transferred: TotalMirror::of(sums.transferred),
        }
    }
}

impl ArchivedLedgerSumsMirror {
    fn read(&self) -> LedgerSums {
        LedgerSums {
            ledger: self.ledger.to_native(),
            debits_posted: self.debits_posted.read(),
            credits_posted: self.credits_posted.read(),
            transferred: self.transferred.read(),
        }
    }
}

impl TotalMirror {
    fn of(total: Total) -> Self {
        let (high, low) = total.parts();
        Self { high, low }
    }
}

impl ArchivedTotalMirror {
    fn read(&self) -> Total {
        Total::from_parts(self.high.to_native(), self.low.to_native())
    }
}
