//! A replica with its disk, driven by hand: the log is a list of records, the store is real bytes.

use quorate_durable::keeper::{Keeper, Step};
use quorate_durable::listing::Listing;
use quorate_durable::log::Touched;
use quorate_durable::question::{Question, Wanted};
use quorate_durable::restore::{load_index, load_ledger};
use quorate_protocol::client::{
    AccountAnswer, HistoryAnswer, HistoryPage, HistoryQuery, Reply, ReplyBody, Request, RequestBody,
};
use quorate_protocol::config::{Admission, IdRule, Reads, Recovered, ReplicaConfig};
use quorate_protocol::ids::{
    AccountId, ClusterId, ConnectionId, ReplicaAddress, ReplicaId, RequestId, ShardId, Slot,
    TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{ResultRow, Transfer};
use quorate_protocol::limits::{ENTRY_BYTES_MAX, TIMING};
use quorate_protocol::output::{Output, Record};
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::prng::Prng;
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, Timestamp};
use quorate_protocol::words::Rows;
use quorate_storage::store::{Binding, BlockRef, BlockRun, Read, Unreadable, open};
use std::collections::{BTreeMap, VecDeque};

use crate::support::Files;

pub const BINDING: Binding = Binding {
    cluster: 1,
    shard: 1,
};
pub const WALL_NS: u64 = 1_700_000_000_000_000_000;

pub fn config(checkpoint_weight: Option<u64>) -> ReplicaConfig {
    ReplicaConfig {
        cluster: ClusterId(1),
        address: ReplicaAddress {
            shard: ShardId(1),
            replica: ReplicaId(1),
        },
        shards: 1,
        replicas: 1,
        placement: Placement::Hash,
        reads: Reads::Lease,
        ids: IdRule::Any,
        keep_ns: None,
        preferred_leader: ReplicaId(1),
        timing: TIMING,
        entry_bytes_max: ENTRY_BYTES_MAX,
        admission: Admission::default(),
        tail_bytes_max: quorate_protocol::limits::LOG_TAIL_BYTES_MAX,
        checkpoint_weight,
        accounts_in_memory_max: 16,
        scan_places: 3,
        apply_bytes: quorate_protocol::limits::APPLY_BYTES,
        telemetry_window_ns: quorate_protocol::limits::TELEMETRY_WINDOW_NS,
        seed: 1,
    }
}

/// Where rows of history are, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainStore {
    Whole,
    /// They are not kept any more.
    Dropped,
    /// It does not answer in time.
    Silent,
}

/// A replica with its disk: the log as records, the store as files.
pub struct Machine {
    pub config: ReplicaConfig,
    pub files: Files,
    pub log: Vec<Record>,
    pub replica: Replica,
    pub keeper: Keeper,
    pub inbox: VecDeque<Input>,
    pub now_ns: u64,
    pub replies: Vec<Reply>,
    pub questions: usize,
    pub accounts_asked: usize,
    /// Blocks that the keeper waits for.
    pub wanted: Option<BlockRun>,
    /// Reads that it was fed.
    pub moved: usize,
    pub chains: usize,
    /// What a question about a chain is answered with.
    pub store: ChainStore,
    pub restored: u64,
    /// Blocks that its start could not read, and did not need.
    pub unread: u64,
}

/// The first block of every accounts file is not what was written.
pub struct Rotten<'a>(&'a mut Files);

impl Read for Rotten<'_> {
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        self.0.read(name, offset, out)?;
        if name.starts_with("accounts-") && offset == 0 {
            out[100] ^= 1;
        }
        Ok(())
    }
}

impl Machine {
    pub fn start(config: ReplicaConfig, mut files: Files, log: Vec<Record>, now_ns: u64) -> Self {
        let opened =
            open(&files.listing(), &mut files, BINDING).expect("a store that was only killed");
        assert_eq!(opened.damage, []);
        opened
            .repairs
            .iter()
            .for_each(|repair| files.carry_out(repair));
        let checkpoint = Slot(opened.store.manifest().slot);
        let index = load_index(&opened.store, &mut files).expect("what was written");
        let touched = touched(&log, checkpoint);
        let ledger = match checkpoint.0.is_multiple_of(4) {
            true => load_ledger(
                &opened.store,
                &index,
                &config,
                &touched,
                &mut Rotten(&mut files),
            ),
            false => load_ledger(&opened.store, &index, &config, &touched, &mut files),
        };
        let loaded = ledger.expect("what was needed was whole");
        let recovered = recovered(&log, checkpoint);
        let now = now(now_ns);
        let replica = match loaded.ledger {
            Some(ledger) => Replica::restored(config.clone(), recovered, ledger, now),
            None => Replica::new(config.clone(), recovered, now),
        };
        let mut machine = Self {
            config,
            files,
            log,
            replica,
            keeper: Keeper::new(opened.store, index.accounts),
            inbox: VecDeque::new(),
            now_ns,
            replies: Vec::new(),
            questions: 0,
            accounts_asked: 0,
            wanted: None,
            moved: 0,
            chains: 0,
            store: ChainStore::Whole,
            restored: checkpoint.0,
            unread: loaded.unread.blocks,
        };
        machine.drain();
        machine
    }

    pub fn killed(self) -> Self {
        Self::start(self.config, self.files, self.log, self.now_ns + MS)
    }

    pub fn step(&mut self, input: Input) {
        self.now_ns += MS / 10;
        self.replica.step(now(self.now_ns), input);
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Persist { seq, record } => {
                    self.log.push(record);
                    self.inbox.push_back(Input::Durable { upto: seq });
                }
                Output::Reply { reply, .. } => self.replies.push(reply),
                Output::ReadLog { from, upto, .. } => {
                    let entries = entries(&self.log, from, upto);
                    self.inbox.push_back(Input::LogRead {
                        from,
                        entries,
                        lost: None,
                    });
                }
                Output::Checkpoint(part) => {
                    self.keeper.take(part, &mut self.files).expect("readable");
                }
                Output::Load {
                    question,
                    names,
                    accounts,
                } => {
                    self.questions += names.len();
                    self.accounts_asked += accounts.len();
                    let answer = self.ask(Question::new(question, names, accounts));
                    self.inbox.push_back(answer);
                }
                Output::List { after, limit } => {
                    let ids = self.list(after, limit);
                    self.inbox.push_back(Input::Listed { ids });
                }
                Output::LoadChain { question, chain } => {
                    self.chains += 1;
                    match self.store {
                        ChainStore::Whole => {
                            let answer = self.ask(Question::chain(question, chain));
                            self.inbox.push_back(answer);
                        }
                        ChainStore::Dropped => self.inbox.push_back(Input::ChainLoaded {
                            question,
                            rows: Vec::new(),
                        }),
                        ChainStore::Silent => {}
                    }
                }
                // The log is a vector here: nothing has to be released.
                Output::ReleaseLog { .. } | Output::Count(_) => {}
                // Another shard, if there is one, is played by the test.
                Output::Send { .. } => assert!(self.config.shards > 1, "nobody to send to"),
                Output::FetchSnapshot { .. } => panic!("nobody to fetch from"),
                Output::Rejoined => panic!("nobody to learn from"),
                Output::Stop { reason } => panic!("stopped: {reason:?}"),
            }
        }
    }

    pub fn ask(&mut self, mut question: Question) -> Input {
        loop {
            let (store, index) = (self.keeper.store(), self.keeper.index());
            match question.wanted(store, index) {
                Wanted::Nothing => return question.answer(),
                Wanted::Blocks(run) => {
                    let bytes = self.files.blocks(run);
                    question.feed(store, &bytes).expect("as written");
                }
                Wanted::Accounts => {
                    let blocks: Vec<BlockRef> = question.account_blocks().collect();
                    for first in blocks {
                        let bytes = self.files.blocks(BlockRun { first, blocks: 1 });
                        let fed = question.feed_account(store, first, &bytes);
                        fed.expect("as written");
                    }
                }
            }
        }
    }

    pub fn list(&mut self, after: AccountId, limit: usize) -> Vec<AccountId> {
        let (store, index) = (self.keeper.store(), self.keeper.index());
        let mut listing = Listing::new(store, after, limit);
        while let Some(run) = listing.wanted(store) {
            let bytes = self.files.blocks(run);
            listing.feed(store, index, &bytes).expect("as written");
        }
        listing.into_ids()
    }

    /// Lets one thing happen: an input, a part, an operation. False if there is nothing.
    pub fn happen(&mut self, random: &mut Prng) -> bool {
        if random.range(0, 2) == 0
            && let Some(operation) = self.keeper.next_operation()
        {
            self.files.carry_out(&operation);
            self.keeper.finish_operation(operation);
            return true;
        }
        if random.range(0, 2) == 0
            && let Some(run) = self.wanted.take()
        {
            let bytes = self.files.blocks(run);
            self.keeper.feed(&bytes).expect("as written");
            self.moved += 1;
            return true;
        }
        match self.keeper.step() {
            Step::Told(input) => self.inbox.push_back(input),
            Step::Worked => return true,
            Step::Read(run) => self.wanted = Some(run),
            Step::Waits => {}
        }
        match self.inbox.pop_front() {
            Some(input) => self.step(input),
            None => {
                if let Some(operation) = self.keeper.next_operation() {
                    self.files.carry_out(&operation);
                    self.keeper.finish_operation(operation);
                    return true;
                }
                if self.wanted.is_some() {
                    return true;
                }
                if self.replica.deadline_ns() > self.now_ns {
                    return false;
                }
                self.step(Input::Tick);
            }
        }
        true
    }

    pub fn settle(&mut self, random: &mut Prng) {
        while self.happen(random) {}
        self.now_ns = self
            .now_ns
            .max(self.replica.deadline_ns().min(self.now_ns + MS));
    }

    pub fn send(&mut self, body: RequestBody) {
        let request = Request {
            id: RequestId(1),
            deadline_ms: 60_000,
            seen: Timestamp::ZERO,
            body,
        };
        self.step(Input::Client {
            connection: ConnectionId(1),
            request,
        });
    }

    /// A page of history, whoever has to be asked for it.
    pub fn page(&mut self, query: HistoryQuery, random: &mut Prng) -> HistoryPage {
        for _ in 0..100 {
            self.replies.clear();
            self.send(RequestBody::AccountHistory(query));
            self.settle(random);
            match self.replies.pop().map(|reply| reply.body) {
                Some(ReplyBody::History(HistoryAnswer::Page(page))) => return page,
                Some(ReplyBody::NotLeader { .. }) | None => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("no answer");
    }

    /// The answer to a request, however often it has to be sent.
    pub fn answer(&mut self, body: &RequestBody, random: &mut Prng) -> ReplyBody {
        for _ in 0..100 {
            self.replies.clear();
            self.send(body.clone());
            self.settle(random);
            match self.replies.pop().map(|reply| reply.body) {
                None | Some(ReplyBody::NotLeader { .. } | ReplyBody::Unknown) => {}
                Some(body) => return body,
            }
        }
        panic!("no answer");
    }

    pub fn results(&mut self, body: &RequestBody, random: &mut Prng) -> Vec<ResultRow> {
        match self.answer(body, random) {
            ReplyBody::Results(rows) => rows.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Every account, by pages, and what it holds.
    pub fn accounts(&mut self, random: &mut Prng) -> Vec<AccountAnswer> {
        let (mut ids, mut after) = (Vec::new(), AccountId(0));
        loop {
            let page = RequestBody::ListAccounts { after, limit: 7 };
            let ReplyBody::AccountList(page) = self.answer(&page, random) else {
                panic!("no page");
            };
            let Some(last) = page.last() else { break };
            after = *last;
            ids.extend(page.iter().copied());
        }
        let look_up = RequestBody::LookupAccounts(Rows::from_slice(&ids));
        match self.answer(&look_up, random) {
            ReplyBody::Accounts(answers) => answers,
            other => panic!("{other:?}"),
        }
    }
}

pub fn now(now_ns: u64) -> Now {
    Now {
        mono_ns: now_ns,
        wall_ns: WALL_NS + now_ns,
    }
}

/// What the log touches above a checkpoint; at every other one nothing, so that the replay asks for it.
pub fn touched(log: &[Record], checkpoint: Slot) -> Vec<AccountId> {
    let mut touched = Touched::default();
    if checkpoint.0.is_multiple_of(2) {
        let above = entries(log, checkpoint.next(), Slot(u64::MAX));
        above.iter().for_each(|logged| touched.add(&logged.entry));
    }
    touched.into_accounts()
}

pub fn recovered(log: &[Record], checkpoint: Slot) -> Recovered {
    let mut recovered = Recovered {
        checkpoint,
        log_start: Slot(u64::from(checkpoint > Slot::ZERO)),
        ..Recovered::default()
    };
    for record in log {
        match record {
            Record::Promise { ballot } => recovered.promised = *ballot,
            Record::Chosen { upto } => recovered.chosen_upto = *upto,
            Record::Accepted { ballot, .. } => {
                recovered.promised = recovered.promised.max(*ballot);
            }
        }
    }
    let above = recovered.chosen_upto.max(checkpoint).next();
    recovered.tail = entries(log, above, Slot(u64::MAX));
    recovered
}

pub fn entries(log: &[Record], from: Slot, upto: Slot) -> Vec<LoggedEntry> {
    let mut newest = BTreeMap::new();
    for record in log {
        if let Record::Accepted {
            ballot,
            slot,
            entry,
        } = record
            && (from..=upto).contains(slot)
        {
            let logged = LoggedEntry {
                slot: *slot,
                accepted: *ballot,
                entry: entry.clone(),
            };
            newest.insert(*slot, logged);
        }
    }
    newest.into_values().collect()
}

pub fn transfers(random: &mut Prng, ids: &mut u128) -> RequestBody {
    let rows: Vec<Transfer> = (0..random.range(1, 30))
        .map(|_| {
            // One of ten has been sent before.
            let again = random.range(0, 10) == 0 && *ids > 1;
            let id = if again {
                u128::from(random.range(1, u64::try_from(*ids).expect("few")))
            } else {
                *ids += 1;
                *ids
            };
            let debit = random.range(1, 40);
            let credit = 1 + (debit + random.range(0, 38)) % 40;
            Transfer::new(
                TransferId(id),
                AccountId(debit.into()),
                AccountId(credit.into()),
                random.range(1, 9).into(),
                1,
                1,
            )
        })
        .filter(|transfer| transfer.debit_account_id != transfer.credit_account_id)
        .collect();
    RequestBody::CreateTransfers(Rows::from_slice(&rows))
}
