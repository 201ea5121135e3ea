//! A second ledger: one thread, plain maps, written from the design and not from the engine.
//!
//! It replays the log of one shard ([`replay`]) and says what every command must have done: each
//! transfer's result, each vote, each balance after each slot. It shares no code with the engine but
//! the layout of records, so an error would have to be made twice to stay hidden.
//!
//! It models what is replicated. What a leader does before the log (admission, holds, waiting, look-ups
//! at previous owners) is not here: a command that came into the log too early or too late shows in
//! its result, a look-up that was forgotten in two records of one id ([`super::decisions`],
//! [`super::exactly_once`]). Two bounds of the engine are not modelled because no run comes near them:
//! transactions in doubt per shard and accounts per move.

pub mod documents;
pub mod moves;
pub mod rules;
pub mod transfers;

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, Ballot, MoveId, ShardId, Slot, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, Transfer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::{Attempt, CommitKind, RouteRow, TxnId};

use super::log::{ArrivingBatch, Command, LogEntry};
use rules::Rules;

/// An account that the shard owns.
#[derive(Clone, Debug)]
pub struct Owned {
    pub account: Account,
    /// How often it changed, reservations and recorded ids included: a move names this number, and is
    /// refused if it is another one. Arriving counts on from the source's.
    pub changes: u64,
    /// Credits that are prepared and undecided.
    pub open: BTreeMap<TxnId, u128>,
}

impl Owned {
    fn open_sum(&self) -> u128 {
        self.open.values().sum()
    }
}

/// How a transfer id ended at the shard of its debit account.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub transfer: Transfer,
    pub result: ResultCode,
    pub slot: Slot,
    pub commit_ts: Timestamp,
    /// Zero for a local transfer.
    pub attempt: Attempt,
    /// For a transfer across shards: the participant and what its vote was said to be.
    pub across: Option<(ShardId, CommitKind)>,
}

/// A prepared credit.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub transfer: Transfer,
    pub slot: Slot,
    pub prepare_ts: Timestamp,
}

/// A credit that a participant posted.
#[derive(Clone, Debug, PartialEq)]
pub struct Posting {
    pub transfer: Transfer,
    pub slot: Slot,
    pub commit_ts: Timestamp,
    pub attempt: Attempt,
}

/// A reservation, or a staged batch, that ended.
#[derive(Clone, Debug)]
pub struct Resolution {
    pub txn: TxnId,
    pub slot: Slot,
    /// `None`: aborted.
    pub commit_ts: Option<Timestamp>,
}

/// A final `no` of a participant, and what it looked at.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub code: ResultCode,
    pub slot: Slot,
    pub account: AccountId,
    pub ownership_epoch: u32,
}

/// A batch of accounts that left, as it was at that moment.
#[derive(Clone, Debug)]
pub struct Departure {
    pub txn: TxnId,
    pub target: ShardId,
    pub slot: Slot,
    pub commit_ts: Timestamp,
    pub accounts: Vec<Owned>,
}

/// A batch of accounts that arrived, as its source sent it.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub txn: TxnId,
    pub batch: ArrivingBatch,
    pub prepared: Slot,
    pub slot: Slot,
    pub commit_ts: Timestamp,
}

/// Who did something to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    Creation(AccountId),
    Transfer(TransferId),
    Move(ShardId, MoveId),
}

/// One thing that happened to one account. The account's life is ordered by ownership epoch and slot.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub account: AccountId,
    pub ownership_epoch: u32,
    pub shard: ShardId,
    /// Where it began: the slot that prepared it, or the only one.
    pub first: Slot,
    pub last: Slot,
    pub actor: Actor,
    /// Posted debits and credits afterwards; `None` if it only looked.
    pub sums: Option<(u128, u128)>,
}

/// A transfer that changed an account: a row of its history at this shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub account: AccountId,
    /// Of the account, then.
    pub ownership_epoch: u32,
    pub transfer: Transfer,
    pub slot: Slot,
    pub commit_ts: Timestamp,
    /// When it took effect here.
    pub applied_ts: Timestamp,
    /// Who decided it; zero: this shard.
    pub coordinator: ShardId,
}

/// What one moment added to the books of a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Posted {
    pub at: Timestamp,
    pub ledger: u32,
    pub debit: u128,
    pub credit: u128,
    /// Accounts that came to be owned here, and those that were created here.
    pub owned: i64,
    pub created: i64,
    /// The account was moved in or out: the money was not made here.
    pub moved: bool,
}

/// Everything that the log of one shard did.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    pub shard: ShardId,
    pub rules: Rules,
    pub accounts: BTreeMap<AccountId, Owned>,
    pub decisions: BTreeMap<TransferId, Decision>,
    /// By coordinator: an id may be in use at two.
    pub postings: BTreeMap<(ShardId, TransferId), Posting>,
    /// Still undecided at the end of the log.
    pub in_doubt: BTreeMap<TxnId, Prepared>,
    pub staged: BTreeMap<TxnId, (ArrivingBatch, Slot)>,
    /// When a transaction was first prepared here.
    pub prepared: BTreeMap<TxnId, Timestamp>,
    pub refusals: BTreeMap<TxnId, Vec<Refusal>>,
    pub resolutions: Vec<Resolution>,
    pub departures: Vec<Departure>,
    pub arrivals: Vec<Arrival>,
    pub steps: Vec<Step>,
    /// In the order of their effect.
    pub lines: Vec<Line>,
    pub posted: Vec<Posted>,
    /// Ids that were refused because they claim to be from the future.
    pub ahead: Vec<TransferId>,
    /// Ids that were refused because they are too old, or had to be if their use was forgotten.
    pub too_old: Vec<TransferId>,
    /// What other shards said about what is out of doubt there, as this log has it.
    pub acknowledged: BTreeMap<ShardId, Timestamp>,
    pub documents: documents::Documents,
    /// What cannot be: the log does something that no ledger may do.
    pub problems: Vec<String>,
    /// Where accounts that left went, as far as that is not forgotten.
    pub gone: BTreeMap<AccountId, Gone>,
    /// Counts the entries' commands that changed it, but for what is forgotten.
    pub map_epoch: u32,
    /// What other shards said of where accounts went from there.
    pub told: Vec<RouteRow>,
    /// What was forgotten of where accounts went, and when.
    pub dropped: Vec<(Timestamp, RouteRow)>,
    /// Under which ownership epochs an account was known to be somewhere, and since when.
    pub known: BTreeMap<AccountId, Vec<(Timestamp, u32)>>,
    /// Moves that took effect, at either end.
    moves: BTreeMap<(ShardId, MoveId), Timestamp>,
    highest_origin: Ballot,
    /// Of the last entry that had effect.
    pub last_timestamp: Timestamp,
}

/// Where an account went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    pub to: ShardId,
    pub ownership_epoch: u32,
    /// The map epoch of the shard's last change of it.
    pub changed: u32,
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug)]
pub struct At {
    pub slot: Slot,
    pub timestamp: Timestamp,
    pub origin: Ballot,
}

/// Where an account is, as far as one shard knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Here,
    Elsewhere,
    /// Its creation is decided here and has not happened.
    Nowhere,
}

/// Replays one shard's log.
#[must_use]
pub fn replay(shard: ShardId, rules: Rules, log: &BTreeMap<Slot, LogEntry>) -> Replay {
    let mut replay = Replay {
        shard,
        rules,
        ..Replay::default()
    };
    for ((&slot, entry), expected) in log.iter().zip(1..) {
        if slot != Slot(expected) {
            replay.problem(slot, format!("slot {expected} is missing before it"));
            break;
        }
        replay.entry(slot, entry);
    }
    replay
}

impl Replay {
    fn entry(&mut self, slot: Slot, entry: &LogEntry) {
        // The ballot fence: what an older leader proposed has no effect behind a later leader's entry.
        // Fillers of holes have no origin and do nothing.
        if entry.origin < self.highest_origin || entry.origin == Ballot::ZERO {
            return;
        }
        self.highest_origin = entry.origin;
        // Effects are stamped with what rises: the entry's time, or one above the last.
        let timestamp = entry.timestamp.max(Timestamp(self.last_timestamp.0 + 1));
        self.last_timestamp = timestamp;
        let at = At {
            slot,
            timestamp,
            origin: entry.origin,
        };
        for command in &entry.commands {
            self.command(at, command);
        }
    }

    fn command(&mut self, at: At, command: &Command) {
        match command {
            Command::Create(account) => self.create(at, account),
            Command::Transfer(transfer) => self.transfer(at, transfer),
            Command::Prepare(row) => self.prepare(at, row),
            Command::Commit(row) => self.commit(at, row),
            Command::Resolve(row) => self.resolve(at, row),
            Command::PrepareMove(batch) => self.prepare_move(at, batch),
            Command::CommitMove { head, accounts } => self.commit_move(at, head, accounts),
            Command::Acknowledged(shard, upto) => self.acknowledged(*shard, *upto),
            Command::Forward(rows) => self.forward(at, rows),
            Command::DropStub(row) => self.drop_stub(at, row),
            Command::PutDocument(write) => self.documents.write(write),
            // Cuts change no account; their sums follow from `posted`.
            Command::CutRegister(_) | Command::CutPass(_) => {}
        }
    }

    fn acknowledged(&mut self, shard: ShardId, upto: Timestamp) {
        let known = self.acknowledged.entry(shard).or_default();
        *known = upto.max(*known);
    }

    fn create(&mut self, at: At, account: &Account) {
        if self.place(account.id) != Place::Nowhere {
            return;
        }
        if self.rules.home(account.id) != self.shard {
            self.problem(at.slot, format!("account {} is not at home", account.id));
        }
        let created = Account {
            timestamp: at.timestamp,
            ..*account
        };
        self.accounts.insert(
            account.id,
            Owned {
                account: created,
                changes: 1,
                open: BTreeMap::new(),
            },
        );
        self.posted.push(Posted {
            at: at.timestamp,
            ledger: account.ledger,
            owned: 1,
            created: 1,
            ..Posted::default()
        });
        self.steps.push(Step {
            account: account.id,
            ownership_epoch: 0,
            shard: self.shard,
            first: at.slot,
            last: at.slot,
            actor: Actor::Creation(account.id),
            sums: Some((0, 0)),
        });
    }

    /// Where an account is.
    #[must_use]
    pub fn place(&self, account: AccountId) -> Place {
        if self.accounts.contains_key(&account) {
            Place::Here
        } else if self.gone.contains_key(&account) || self.rules.home(account) != self.shard {
            Place::Elsewhere
        } else {
            Place::Nowhere
        }
    }

    fn problem(&mut self, slot: Slot, text: String) {
        let shard = self.shard;
        self.problems
            .push(format!("slot {slot} of shard {shard}: {text}"));
    }
}
