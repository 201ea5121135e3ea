//! What the shards decided, as plain commands: the evidence that the model replays.
//!
//! An observer keeps every chosen entry once; after the run its sections become [`Command`]s. Only the
//! layout of the records is the engine's: what a command *does* is said by [`super::model`] alone.

use std::collections::BTreeMap;

use quorate_protocol::entry::{Entry, Section};
use quorate_protocol::ids::{Ballot, DocumentKey, ShardId, Slot};
use quorate_protocol::ledger::{Account, Transfer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::{
    AcknowledgedRow, CommitRow, MoveHead, MoveVersionRow, MovedAccountRow, PrepareRow,
    PreviousOwnerRow, RouteRow, TxnRow,
};

/// One command of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Create(Account),
    Transfer(Transfer),
    Prepare(PrepareRow),
    Commit(CommitRow),
    Resolve(TxnRow),
    PrepareMove(ArrivingBatch),
    CommitMove {
        head: MoveHead,
        accounts: Vec<MoveVersionRow>,
    },
    CutRegister(Timestamp),
    CutPass(Timestamp),
    PutDocument(DocumentWrite),
    /// What a shard said about what is out of doubt there.
    Acknowledged(ShardId, Timestamp),
    /// Former owners said where accounts went from there; at one moment.
    Forward(Vec<RouteRow>),
    /// Former owners forget where an account went.
    DropStub(RouteRow),
}

/// A batch of accounts as its source sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivingBatch {
    pub head: MoveHead,
    pub accounts: Vec<MovedAccountRow>,
    pub owners: Vec<PreviousOwnerRow>,
}

/// A write to the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentWrite {
    pub key: DocumentKey,
    pub expected: u64,
    /// None remove it.
    pub bytes: Vec<u8>,
}

/// What one slot decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub origin: Ballot,
    pub timestamp: Timestamp,
    pub commands: Vec<Command>,
}

/// The chosen log of every shard.
pub type Logs = BTreeMap<ShardId, BTreeMap<Slot, LogEntry>>;

impl LogEntry {
    /// Reads an entry's sections.
    #[must_use]
    pub fn of(entry: &Entry) -> Self {
        let mut commands = Vec::new();
        for section in entry.sections() {
            match section {
                Section::CreateAccounts(rows) => {
                    commands.extend(rows.iter().copied().map(Command::Create));
                }
                Section::Transfers(rows) => {
                    commands.extend(rows.iter().copied().map(Command::Transfer));
                }
                Section::Prepare(rows) => {
                    commands.extend(rows.iter().copied().map(Command::Prepare));
                }
                Section::Commit(rows) => {
                    commands.extend(rows.iter().copied().map(Command::Commit));
                }
                Section::Resolve(rows) => {
                    commands.extend(rows.iter().copied().map(Command::Resolve));
                }
                Section::PrepareMove(parts) => commands.push(Command::PrepareMove(ArrivingBatch {
                    head: *parts.head,
                    accounts: parts.accounts.to_vec(),
                    owners: parts.owners.to_vec(),
                })),
                Section::CommitMove { head, accounts } => commands.push(Command::CommitMove {
                    head: *head,
                    accounts: accounts.to_vec(),
                }),
                Section::CutRegister { at } => commands.push(Command::CutRegister(at)),
                Section::CutPass { at } => commands.push(Command::CutPass(at)),
                Section::PutDocument(write) => commands.push(Command::PutDocument(DocumentWrite {
                    key: write.head.key,
                    expected: write.head.expected,
                    bytes: write.bytes.to_vec(),
                })),
                Section::Forward(rows) => commands.push(Command::Forward(rows.to_vec())),
                Section::DropStubs(rows) => {
                    commands.extend(rows.iter().copied().map(Command::DropStub));
                }
                Section::Acknowledged(rows) => {
                    let said = |row: &AcknowledgedRow| Command::Acknowledged(row.shard, row.upto);
                    commands.extend(rows.iter().map(said));
                }
            }
        }
        Self {
            origin: entry.origin(),
            timestamp: entry.timestamp(),
            commands,
        }
    }
}
