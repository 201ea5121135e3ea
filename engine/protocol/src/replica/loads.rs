//! Questions to the store about transfer ids, and stretches of an account's history, that are not in memory.
//!
//! | who asks | before | what happens meanwhile |
//! | --- | --- | --- |
//! | apply | an entry takes effect | nothing is applied: every replica decides with the same knowledge |
//! | a look-up or a query of another shard | it is answered | the message is parked, or lost if too many are |
//! | a client's look-up of transfers | it is answered | the read stays open, to its deadline |
//! | a client's page of history (`history`) | it goes on | the read stays open, to its deadline |
//!
//! A row that leaves memory for the store while a question is open is in neither: the answer was given
//! before, and memory was asked after. So such an answer counts for nothing, and is asked for again.
//! A row of a chain never is: its position says where it is, and what the store has at a position never
//! changes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::checkpoint::rows::{ContextRow, HistoryRow};
use crate::entry::{Entry, Section};
use crate::ids::{ReplicaAddress, ShardId, TransferId};
use crate::ledger::history::{ChainQuestion, HistoryPosition, Known, Record, RecordName};
use crate::ledger::state::Ledger;
use crate::limits::{LOAD_NAMES_MAX, LOADS_PARKED_MAX, LOADS_READS_MAX};
use crate::output::Output;
use crate::replica::Replica;
use crate::replica::requests::RequestKey;
use crate::txn::message::Message;
use crate::txn::record::Subject;

/// What an answer is for.
#[derive(Debug)]
enum Purpose {
    Apply,
    Read(RequestKey),
    Message(ReplicaAddress, Message),
}

#[derive(Debug)]
struct Question {
    names: Vec<RecordName>,
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
    parked: usize,
}

impl Replica {
    /// Whether the next entry has to wait for the store; asks if need be.
    pub(super) fn load_holds_apply(&mut self) -> bool {
        if self.loads.apply {
            return true;
        }
        let Some(entry) = self.consensus.peek_chosen() else {
            return false;
        };
        let names = self.ledger.missing(entry);
        if names.is_empty() {
            return false;
        }
        self.loads.apply = true;
        self.ask_store(names, Purpose::Apply);
        true
    }

    /// Whether a client's look-up has to wait for the store; asks if need be.
    pub(super) fn load_holds_read(&mut self, key: RequestKey, ids: &[TransferId]) -> bool {
        if self.loads.reads.contains(&key) {
            return true;
        }
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
        if names.is_empty() {
            return false;
        }
        if self.loads.reads.len() >= LOADS_READS_MAX {
            return true;
        }
        self.loads.reads.insert(key);
        self.ask_store(names, Purpose::Read(key));
        true
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
            | Message::NotLeading { .. } => Vec::new(),
        };
        self.ledger.retain_missing(&mut names);
        names.truncate(LOAD_NAMES_MAX);
        if names.is_empty() {
            return Some(message);
        }
        if self.loads.parked < LOADS_PARKED_MAX {
            self.loads.parked += 1;
            self.ask_store(names, Purpose::Message(from, message));
        }
        None
    }

    fn ask_store(&mut self, names: Vec<RecordName>, purpose: Purpose) {
        self.loads.last += 1;
        let question = self.loads.last;
        self.outputs.push_back(Output::Load {
            question,
            names: names.clone(),
        });
        let growth = self.ledger.history().growth();
        let asked = Question {
            names,
            growth,
            purpose,
        };
        self.loads.open.insert(question, asked);
    }

    pub(super) fn on_loaded(&mut self, question: u64, rows: &[(HistoryRow, ContextRow)]) {
        let Some(asked) = self.loads.open.remove(&question) else {
            return;
        };
        if asked.growth == self.ledger.history().growth() {
            self.ledger.learn(&asked.names, rows);
        }
        match asked.purpose {
            // What is still missing is asked for again.
            Purpose::Apply => self.loads.apply = false,
            Purpose::Read(key) => {
                self.loads.reads.remove(&key);
            }
            Purpose::Message(from, message) => {
                self.loads.parked -= 1;
                self.on_txn(from, message);
            }
        }
    }
}

fn own(id: TransferId) -> RecordName {
    RecordName {
        coordinator: ShardId(0),
        id,
    }
}

impl Ledger {
    /// The ids that an entry needs to know and memory does not, at most as many as one question takes.
    pub(crate) fn missing(&self, entry: &Entry) -> Vec<RecordName> {
        let mut names = Vec::new();
        let mut need = |coordinator, id| {
            if self.history().may_be_stored(id) {
                names.push(RecordName { coordinator, id });
            }
        };
        for section in entry.sections() {
            match section {
                Section::Transfers(rows) => rows.iter().for_each(|row| need(ShardId(0), row.id)),
                Section::Commit(rows) => rows
                    .iter()
                    .for_each(|row| need(ShardId(0), row.transfer.id)),
                Section::Prepare(rows) => rows
                    .iter()
                    .for_each(|row| need(row.coordinator, row.transfer.id)),
                Section::Resolve(rows) => rows
                    .iter()
                    .filter_map(|row| row.parse())
                    .filter(|(txn, _)| txn.subject == Subject::Transfer)
                    .for_each(|(txn, _)| need(txn.coordinator, TransferId(txn.id))),
                Section::CreateAccounts(_)
                | Section::PrepareMove(_)
                | Section::CommitMove { .. }
                | Section::CutRegister { .. }
                | Section::CutPass { .. } => {}
            }
        }
        self.retain_missing(&mut names);
        names
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
