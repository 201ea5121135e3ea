//! Questions to the store about transfer ids, accounts and stretches of an account's history that are not in memory.
//!
//! | who asks | before | what happens meanwhile |
//! | --- | --- | --- |
//! | apply | an entry takes effect | nothing is applied: every replica decides with the same knowledge |
//! | a look-up or a query of another shard | it is answered | the message is parked, or lost if too many are |
//! | a client's look-up of transfers or accounts | it is answered | the read stays open, to its deadline |
//! | a client's page of history (`history`) | it goes on | the read stays open, to its deadline |
//! | a cross-shard transfer | it holds money of its debit account | it is parked; its request has a deadline |
//! | a move | it reads the states of its accounts | the accounts stay frozen, to the end of the freeze |
//!
//! What leaves memory for the store while a question is open is in neither: the answer was given before,
//! and memory was asked after. Nothing leaves but behind a checkpoint; so an answer that one was begun
//! after counts for nothing, and is asked for again. A row of a chain never is: its position says where it
//! is, and what the store has at a position never changes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::checkpoint::rows::{AccountRow, ContextRow, HistoryRow};
use crate::entry::{Entry, Section};
use crate::ids::{AccountId, MoveId, ReplicaAddress, ShardId, TransferId};
use crate::ledger::history::{ChainQuestion, HistoryPosition, Known, Record, RecordName};
use crate::ledger::state::Ledger;
use crate::ledger::{ResultCode, ResultRow, Transfer};
use crate::limits::{LOAD_NAMES_MAX, LOADS_ADMISSIONS_MAX, LOADS_PARKED_MAX, LOADS_READS_MAX};
use crate::output::Output;
use crate::replica::Replica;
use crate::replica::requests::{RequestKey, Waiter};
use crate::txn::message::Message;
use crate::txn::record::Subject;

/// What an answer is for.
#[derive(Debug)]
enum Purpose {
    Apply,
    Read(RequestKey),
    Message(ReplicaAddress, Message),
    Admissions,
    Move(MoveId),
}

/// What the store is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    pub names: Vec<RecordName>,
    pub accounts: Vec<AccountId>,
}

#[derive(Debug)]
struct Question {
    missing: Missing,
    /// [`History::growth`](crate::ledger::history::History) when it was asked.
    growth: u64,
    purpose: Purpose,
}

/// Open questions.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    last: u64,
    open: BTreeMap<u64, Question>,
    /// Who waits for a stretch of history.
    chains: BTreeMap<u64, RequestKey>,
    apply: bool,
    reads: BTreeSet<RequestKey>,
    moves: BTreeSet<MoveId>,
    parked: usize,
    /// Transfers that wait for their debit account, in the order in which they came, with the epoch under
    /// which previous owners were asked.
    admissions: Vec<(Transfer, Waiter, Option<u32>)>,
    /// A question for some of them is open: so many, from the first.
    admissions_asked: usize,
    listing: Option<Listing>,
}

/// A page of accounts that the store is asked for.
#[derive(Debug)]
struct Listing {
    key: RequestKey,
    ids: Option<Vec<AccountId>>,
}

impl Missing {
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.accounts.is_empty()
    }
}

impl Replica {
    /// Whether the next entry waits for the store.
    pub(super) fn is_apply_loading(&self) -> bool {
        self.loads.apply
    }

    /// Whether the next entry has to wait for the store; asks if need be.
    pub(super) fn load_holds_apply(&mut self) -> bool {
        if self.is_apply_loading() {
            return true;
        }
        let Some(entry) = self.consensus.peek_chosen() else {
            return false;
        };
        let missing = self.ledger.missing(entry);
        if missing.is_empty() {
            return false;
        }
        self.loads.apply = true;
        self.ask_store(missing, Purpose::Apply);
        true
    }

    /// Whether a client's look-up of transfers has to wait for the store; asks if need be.
    pub(super) fn load_holds_transfers(&mut self, key: RequestKey, ids: &[TransferId]) -> bool {
        let shards = self.config.shards;
        let mut names = Vec::new();
        for &id in ids {
            if self.ledger.history().may_be_stored(id) {
                let every = (0..=shards).map(ShardId);
                names.extend(every.map(|coordinator| RecordName { coordinator, id }));
            }
        }
        self.ledger.retain_missing(&mut names);
        names.truncate(LOAD_NAMES_MAX);
        let missing = Missing {
            names,
            ..Missing::default()
        };
        self.load_holds_read(key, missing)
    }

    /// The same for a look-up of accounts.
    pub(super) fn load_holds_accounts(&mut self, key: RequestKey, ids: &[AccountId]) -> bool {
        let unloaded = ids.iter().filter(|id| self.ledger.is_unloaded(**id));
        let missing = Missing {
            accounts: unloaded.take(LOAD_NAMES_MAX).copied().collect(),
            ..Missing::default()
        };
        self.load_holds_read(key, missing)
    }

    fn load_holds_read(&mut self, key: RequestKey, missing: Missing) -> bool {
        if missing.is_empty() {
            return false;
        }
        let is_asked = self.loads.reads.contains(&key);
        if !is_asked && self.loads.reads.len() < LOADS_READS_MAX {
            self.loads.reads.insert(key);
            self.ask_store(missing, Purpose::Read(key));
        }
        true
    }

    /// Parks a transfer whose debit account is not in memory, or refuses it if too many are parked.
    pub(crate) fn park_for_debit(
        &mut self,
        transfer: Transfer,
        waiter: Waiter,
        looked_up: Option<u32>,
    ) {
        if self.loads.admissions.len() >= LOADS_ADMISSIONS_MAX {
            return self.settle(waiter, ResultRow::unlogged(ResultCode::Busy));
        }
        self.loads.admissions.push((transfer, waiter, looked_up));
    }

    /// Asks for the accounts that transfers wait for, one question at a time.
    pub(super) fn ask_for_admissions(&mut self) {
        let loads = &mut self.loads;
        if loads.admissions_asked > 0 || loads.admissions.is_empty() {
            return;
        }
        loads.admissions_asked = loads.admissions.len().min(LOAD_NAMES_MAX);
        let asked = loads.admissions[..loads.admissions_asked].iter();
        let accounts: BTreeSet<AccountId> = asked.map(|(it, ..)| it.debit_account_id).collect();
        let missing = Missing {
            accounts: accounts.into_iter().collect(),
            ..Missing::default()
        };
        self.ask_store(missing, Purpose::Admissions);
    }

    /// Whether a move has to wait for the rows of its accounts; asks if need be.
    pub(crate) fn load_holds_move(&mut self, id: MoveId, accounts: &[AccountId]) -> bool {
        let unloaded = accounts.iter().filter(|id| self.ledger.is_unloaded(**id));
        let missing = Missing {
            accounts: unloaded.copied().collect(),
            ..Missing::default()
        };
        if missing.is_empty() {
            return false;
        }
        if self.loads.moves.insert(id) {
            self.ask_store(missing, Purpose::Move(id));
        }
        true
    }

    /// The ids of a page that the store has, once they are known; asks for them if nobody else does.
    pub(super) fn stored_page(
        &mut self,
        key: RequestKey,
        after: AccountId,
        limit: usize,
    ) -> Option<Vec<AccountId>> {
        if self.ledger.cold_accounts() == 0 {
            return Some(Vec::new());
        }
        match &mut self.loads.listing {
            Some(open) if open.key == key => {
                let ids = open.ids.take()?;
                self.loads.listing = None;
                Some(ids)
            }
            Some(open) if open.ids.is_none() || self.requests.get(open.key).is_some() => None,
            // None is open, or the one who asked has given up.
            _ => {
                let ids = None;
                self.loads.listing = Some(Listing { key, ids });
                self.outputs.push_back(Output::List { after, limit });
                None
            }
        }
    }

    pub(super) fn on_listed(&mut self, ids: Vec<AccountId>) {
        if let Some(listing) = &mut self.loads.listing {
            listing.ids = Some(ids);
        }
        self.drive_reads();
    }

    /// Asks the store for a stretch of history if the request has not asked yet, and as soon as one more may.
    pub(super) fn load_chain(&mut self, key: RequestKey, chain: ChainQuestion) {
        let loads = &mut self.loads;
        if loads.reads.contains(&key) || loads.reads.len() >= LOADS_READS_MAX {
            return;
        }
        loads.reads.insert(key);
        loads.last += 1;
        let question = loads.last;
        loads.chains.insert(question, key);
        self.outputs
            .push_back(Output::LoadChain { question, chain });
    }

    pub(super) fn on_chain_loaded(&mut self, question: u64, rows: &[(HistoryPosition, Record)]) {
        if let Some(key) = self.loads.chains.remove(&question) {
            self.loads.reads.remove(&key);
            self.on_history_rows(key, rows);
        }
    }

    /// Parks a message whose answer needs the store; gives it back if it does not.
    pub(crate) fn park_for_load(
        &mut self,
        from: ReplicaAddress,
        message: Message,
    ) -> Option<Message> {
        let mut names = match &message {
            Message::LookUps(rows) => rows.iter().map(|row| own(row.transfer_id)).collect(),
            Message::QueryDecisions(rows) => rows
                .iter()
                .filter_map(|row| row.parse())
                .filter(|(txn, _)| txn.subject == Subject::Transfer)
                .map(|(txn, _)| own(TransferId(txn.id)))
                .collect(),
            Message::PrepareTxn(_)
            | Message::PrepareMove(_)
            | Message::Votes(_)
            | Message::Decides(_)
            | Message::LookedUp(_)
            | Message::Acknowledged(_)
            | Message::Forwards(_)
            | Message::ForwardsKnown(_)
            | Message::NotLeading { .. } => Vec::new(),
        };
        self.ledger.retain_missing(&mut names);
        names.truncate(LOAD_NAMES_MAX);
        if names.is_empty() {
            return Some(message);
        }
        if self.loads.parked < LOADS_PARKED_MAX {
            self.loads.parked += 1;
            let missing = Missing {
                names,
                ..Missing::default()
            };
            self.ask_store(missing, Purpose::Message(from, message));
        }
        None
    }

    fn ask_store(&mut self, missing: Missing, purpose: Purpose) {
        self.loads.last += 1;
        let question = self.loads.last;
        self.outputs.push_back(Output::Load {
            question,
            names: missing.names.clone(),
            accounts: missing.accounts.clone(),
        });
        let growth = self.ledger.history().growth();
        let asked = Question {
            missing,
            growth,
            purpose,
        };
        self.loads.open.insert(question, asked);
    }

    pub(super) fn on_loaded(
        &mut self,
        question: u64,
        rows: &[(HistoryRow, ContextRow)],
        accounts: &[AccountRow],
    ) {
        let Some(asked) = self.loads.open.remove(&question) else {
            return;
        };
        if asked.growth == self.ledger.history().growth() {
            self.ledger.learn(&asked.missing.names, rows);
            self.ledger
                .learn_accounts(&asked.missing.accounts, accounts);
        }
        // Whoever waits is served at once: what was loaded may leave memory again with the next entry.
        match asked.purpose {
            // What is still missing is asked for again.
            Purpose::Apply => self.loads.apply = false,
            Purpose::Read(key) => {
                self.loads.reads.remove(&key);
                self.drive_reads();
            }
            Purpose::Message(from, message) => {
                self.loads.parked -= 1;
                self.on_txn(from, message);
            }
            Purpose::Admissions => {
                let asked = core::mem::take(&mut self.loads.admissions_asked);
                let ready = asked.min(self.loads.admissions.len());
                let ready: Vec<_> = self.loads.admissions.drain(..ready).collect();
                for (transfer, waiter, looked_up) in ready {
                    self.admit(&transfer, waiter, looked_up);
                }
            }
            Purpose::Move(id) => {
                self.loads.moves.remove(&id);
                self.drive_freezes();
            }
        }
    }

    /// Leadership is over: its transfers and moves are nobody's. Questions stay open, and are answered in
    /// vain.
    pub(super) fn drop_admissions(&mut self) {
        self.loads.admissions.clear();
        self.loads.moves.clear();
    }
}

fn own(id: TransferId) -> RecordName {
    RecordName {
        coordinator: ShardId(0),
        id,
    }
}

impl Ledger {
    /// The ids and accounts that an entry needs to know and memory does not, at most as many as one question
    /// takes.
    pub(crate) fn missing(&self, entry: &Entry) -> Missing {
        let mut names = Vec::new();
        let mut need = |coordinator, id| {
            if self.history().may_be_stored(id) {
                names.push(RecordName { coordinator, id });
            }
        };
        for section in entry.sections() {
            match section {
                Section::Transfers(rows) => rows.iter().for_each(|row| need(ShardId(0), row.id)),
                Section::Commit(rows) => {
                    rows.iter()
                        .for_each(|row| need(ShardId(0), row.transfer.id));
                }
                Section::Prepare(rows) => {
                    rows.iter()
                        .for_each(|row| need(row.coordinator, row.transfer.id));
                }
                Section::Resolve(rows) => rows
                    .iter()
                    .filter_map(|row| row.parse())
                    .filter(|(txn, _)| txn.subject == Subject::Transfer)
                    .for_each(|(txn, _)| need(txn.coordinator, TransferId(txn.id))),
                Section::CreateAccounts(_)
                | Section::PrepareMove(_)
                | Section::CommitMove { .. }
                | Section::Acknowledged(_)
                | Section::PutDocument(_)
                | Section::Forward(_)
                | Section::DropStubs(_)
                | Section::CutRegister { .. }
                | Section::CutPass { .. } => {}
            }
        }
        self.retain_missing(&mut names);
        let mut accounts = BTreeSet::new();
        entry.for_each_account(|id| {
            if self.is_unloaded(id) {
                accounts.insert(id);
            }
        });
        Missing {
            names,
            accounts: accounts.into_iter().collect(),
        }
    }

    /// Drops the names of which memory knows enough.
    pub(crate) fn retain_missing(&self, names: &mut Vec<RecordName>) {
        names.retain(|name| self.history().known(name.coordinator, name.id) == Known::NotLoaded);
    }

    /// Takes the store's answer: the rows that have one of the names, and that the others have none.
    pub(crate) fn learn(&mut self, names: &[RecordName], rows: &[(HistoryRow, ContextRow)]) {
        let mut answers: BTreeMap<RecordName, Option<Record>> =
            names.iter().map(|name| (*name, None)).collect();
        for (row, context) in rows {
            // Rows of other names share a fingerprint with one of these.
            if let Some(record) = row.record(context)
                && let Some(answer) = answers.get_mut(&record.name())
            {
                *answer = Some(record);
            }
        }
        self.history.learn(answers.into_iter().collect());
    }
}
