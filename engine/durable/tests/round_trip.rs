//! A replica whose store is real bytes (its log is a list of records), killed and started again at any
//! moment, against a twin that never stops: the same answers, also to ids that are only in the store, and
//! the same balances and counts at the end.
//!
//! Long, and one idea: every test here plays with the same machine, which is a third of the file.

mod support;

use std::collections::{BTreeMap, VecDeque};

use quorate_durable::keeper::{Keeper, Step};
use quorate_durable::listing::Listing;
use quorate_durable::log::Touched;
use quorate_durable::question::{Question, Wanted};
use quorate_durable::restore::{load_index, load_ledger};
use quorate_protocol::client::{
    AccountAnswer, HistoryAnswer, HistoryEntry, HistoryHead, HistoryPage, HistoryQuery,
    HistoryStart, Reply, ReplyBody, Request, RequestBody,
};
use quorate_protocol::config::{Admission, IdRule, Reads, Recovered, ReplicaConfig};
use quorate_protocol::ids::{
    AccountId, ClusterId, ConnectionId, ReplicaAddress, ReplicaId, RequestId, ShardId, Slot,
    TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::history::{ChainQuestion, HistoryPosition, RecordName};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{ENTRY_BYTES_MAX, TIMING};
use quorate_protocol::output::{Output, Record};
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::prng::Prng;
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, Timestamp};
use quorate_protocol::words::Rows;
use quorate_storage::store::{Binding, BlockRef, BlockRun, Read, Unreadable, open};

use support::Files;

const BINDING: Binding = Binding {
    cluster: 1,
    shard: 1,
};
const WALL_NS: u64 = 1_700_000_000_000_000_000;

fn config(checkpoint_weight: Option<u64>) -> ReplicaConfig {
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
enum ChainStore {
    Whole,
    /// They are not kept any more.
    Dropped,
    /// It does not answer in time.
    Silent,
}

/// A replica with its disk: the log as records, the store as files.
struct Machine {
    config: ReplicaConfig,
    files: Files,
    log: Vec<Record>,
    replica: Replica,
    keeper: Keeper,
    inbox: VecDeque<Input>,
    now_ns: u64,
    replies: Vec<Reply>,
    questions: usize,
    accounts_asked: usize,
    /// Blocks that the keeper waits for.
    wanted: Option<BlockRun>,
    /// Reads that it was fed.
    moved: usize,
    chains: usize,
    /// What a question about a chain is answered with.
    store: ChainStore,
    restored: u64,
    /// Blocks that its start could not read, and did not need.
    unread: u64,
}

/// The first block of every accounts file is not what was written.
struct Rotten<'a>(&'a mut Files);

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
    fn start(config: ReplicaConfig, mut files: Files, log: Vec<Record>, now_ns: u64) -> Self {
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

    fn killed(self) -> Self {
        Self::start(self.config, self.files, self.log, self.now_ns + MS)
    }

    fn step(&mut self, input: Input) {
        self.now_ns += MS / 10;
        self.replica.step(now(self.now_ns), input);
        self.drain();
    }

    fn drain(&mut self) {
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
                Output::ReleaseLog { .. } => {}
                Output::Send { .. } => panic!("a group of one has nobody to send to"),
                Output::FetchSnapshot { .. } => panic!("nobody to fetch from"),
                Output::Rejoined => panic!("nobody to learn from"),
                Output::Stop { reason } => panic!("stopped: {reason:?}"),
            }
        }
    }

    fn ask(&mut self, mut question: Question) -> Input {
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

    fn list(&mut self, after: AccountId, limit: usize) -> Vec<AccountId> {
        let (store, index) = (self.keeper.store(), self.keeper.index());
        let mut listing = Listing::new(store, after, limit);
        while let Some(run) = listing.wanted(store) {
            let bytes = self.files.blocks(run);
            listing.feed(store, index, &bytes).expect("as written");
        }
        listing.into_ids()
    }

    /// Lets one thing happen: an input, a part, an operation. False if there is nothing.
    fn happen(&mut self, random: &mut Prng) -> bool {
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

    fn settle(&mut self, random: &mut Prng) {
        while self.happen(random) {}
        self.now_ns = self
            .now_ns
            .max(self.replica.deadline_ns().min(self.now_ns + MS));
    }

    fn send(&mut self, body: RequestBody) {
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
    fn page(&mut self, query: HistoryQuery, random: &mut Prng) -> HistoryPage {
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
    fn answer(&mut self, body: &RequestBody, random: &mut Prng) -> ReplyBody {
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

    fn results(&mut self, body: &RequestBody, random: &mut Prng) -> Vec<ResultRow> {
        match self.answer(body, random) {
            ReplyBody::Results(rows) => rows.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Every account, by pages, and what it holds.
    fn accounts(&mut self, random: &mut Prng) -> Vec<AccountAnswer> {
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

fn now(now_ns: u64) -> Now {
    Now {
        mono_ns: now_ns,
        wall_ns: WALL_NS + now_ns,
    }
}

/// What the log touches above a checkpoint; at every other one nothing, so that the replay asks for it.
fn touched(log: &[Record], checkpoint: Slot) -> Vec<AccountId> {
    let mut touched = Touched::default();
    if checkpoint.0.is_multiple_of(2) {
        let above = entries(log, checkpoint.next(), Slot(u64::MAX));
        above.iter().for_each(|logged| touched.add(&logged.entry));
    }
    touched.into_accounts()
}

fn recovered(log: &[Record], checkpoint: Slot) -> Recovered {
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

fn entries(log: &[Record], from: Slot, upto: Slot) -> Vec<LoggedEntry> {
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

fn transfers(random: &mut Prng, ids: &mut u128) -> RequestBody {
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

#[test]
fn a_replica_with_a_store_does_what_one_without_does_however_often_it_is_killed() {
    let (mut starts, mut from_checkpoint, mut asked, mut again) = (0, 0, 0, 0);
    let (mut accounts_asked, mut unread) = (0, 0);
    for seed in 0..12 {
        let mut random = Prng::new(seed);
        let weight = random.range(3_000, 60_000);
        let mut stored = Machine::start(config(Some(weight)), Files::default(), Vec::new(), 0);
        let mut plain = Machine::start(config(None), Files::default(), Vec::new(), 0);
        let flags = AccountFlags::default();
        let accounts: Vec<Account> = (1..=40)
            .map(|id| Account::new(AccountId(id), 1, 1, flags))
            .collect();
        let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
        stored.results(&create, &mut random);
        plain.results(&create, &mut random);
        let mut ids = 0;
        for _ in 0..120 {
            let body = transfers(&mut random, &mut ids);
            let codes =
                |rows: Vec<ResultRow>| rows.iter().map(|row| row.code).collect::<Vec<u16>>();
            let expected = codes(plain.results(&body, &mut random));
            assert_eq!(
                codes(stored.results(&body, &mut random)),
                expected,
                "seed {seed}"
            );
            again += expected
                .iter()
                .filter(|code| **code != ResultCode::Ok as u16)
                .count();
            if random.range(0, 6) == 0 {
                // In the middle of whatever is being written.
                for _ in 0..random.range(0, 40) {
                    stored.happen(&mut random);
                }
                asked += stored.questions;
                accounts_asked += stored.accounts_asked;
                stored = stored.killed();
                starts += 1;
                from_checkpoint += u32::from(stored.restored > 0);
                unread += stored.unread;
            }
        }
        stored.settle(&mut random);
        assert!(stored.replica.ledger().checkpoint() > 3, "seed {seed}");
        let ledgers = [&stored, &plain].map(|machine| machine.replica.ledger());
        let totals = ledgers.map(|ledger| {
            (
                ledger.accounts(),
                ledger.cuts().transfers(),
                ledger.history().len(),
            )
        });
        assert_eq!(totals[0], totals[1], "seed {seed}");
        accounts_asked += stored.accounts_asked;
        let balances = |answers: Vec<AccountAnswer>| -> Vec<(AccountId, u128, u128)> {
            let found = answers.into_iter().map(|answer| match answer {
                AccountAnswer::Found(it) => (it.id, it.debits_posted, it.credits_posted),
                other => panic!("{other:?}"),
            });
            found.collect()
        };
        let of_plain = balances(plain.accounts(&mut random));
        assert_eq!(of_plain.len(), 40);
        assert_eq!(
            balances(stored.accounts(&mut random)),
            of_plain,
            "seed {seed}"
        );
    }
    println!(
        "{starts} starts, {from_checkpoint} from a checkpoint; {asked} ids and {accounts_asked} accounts \
         asked of the store, {again} ids again"
    );
    assert!(starts > 100 && from_checkpoint > 50 && asked > 100 && again > 500);
    assert!(accounts_asked > 500);
    assert!(unread > 5, "{unread} blocks were left for later");
}

/// All rows of an account with commit timestamps from `first` on, page by page, and its head.
fn history(
    machine: &mut Machine,
    account: AccountId,
    first: Timestamp,
    random: &mut Prng,
) -> (HistoryHead, Vec<HistoryEntry>) {
    let mut start = HistoryStart::Newest {
        passed: Timestamp(first.0.saturating_sub(1)),
    };
    let (mut head, mut rows) = (None, Vec::new());
    loop {
        let query = HistoryQuery {
            account,
            start,
            ts_first: first,
            ts_last: Timestamp(u64::MAX),
            limit: 1 + u32::try_from(random.range(0, 40)).expect("small"),
        };
        let page = machine.page(query, random);
        assert!(!page.dropped && page.rows.len() <= query.limit as usize);
        head = head.or(page.head);
        rows.extend(page.rows);
        match page.next {
            0 => return (*head.expect("the first page has it"), rows),
            next => start = HistoryStart::Position(next),
        }
    }
}

/// The account's totals without these rows.
fn without(account: &Account, rows: &[HistoryEntry]) -> (u128, u128) {
    let sum = |is_side: fn(&Transfer) -> AccountId| -> u128 {
        let rows = rows.iter().map(|row| row.recorded.transfer);
        let own = rows.filter(|transfer| is_side(transfer) == account.id);
        own.map(|transfer| transfer.amount).sum()
    };
    let debits = sum(|transfer| transfer.debit_account_id);
    let credits = sum(|transfer| transfer.credit_account_id);
    (
        account.debits_posted - debits,
        account.credits_posted - credits,
    )
}

/// Rows of the newest two intervals are in memory, all others in the store; the chain leads through both,
/// also behind a start. What a balance was at a time is what was seen at that time.
#[test]
fn the_history_of_an_account_adds_up_to_its_balances_at_any_time_wherever_its_rows_lie() {
    for seed in 0..4 {
        let mut random = Prng::new(seed);
        let mut machine = Machine::start(config(Some(20_000)), Files::default(), Vec::new(), 0);
        let accounts: Vec<Account> = (1..=40)
            .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
            .collect();
        let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
        machine.results(&create, &mut random);
        let mut ids = 0;
        let mut seen: Vec<(Timestamp, AccountId, (u128, u128))> = Vec::new();
        for round in 0..100 {
            let body = transfers(&mut random, &mut ids);
            machine.results(&body, &mut random);
            let id = AccountId(random.range(1, 40).into());
            let look_up = RequestBody::LookupAccounts(Rows::from_slice(&[id]));
            let found = match machine.answer(&look_up, &mut random) {
                ReplyBody::Accounts(answers) => answers.into_iter().next(),
                other => panic!("{other:?}"),
            };
            let Some(AccountAnswer::Found(account)) = found else {
                panic!("{id}: {found:?}");
            };
            let totals = (account.debits_posted, account.credits_posted);
            let at = machine.replica.ledger().last_timestamp();
            seen.push((at, id, totals));
            if round % 30 == 29 {
                machine = machine.killed();
            }
        }
        for (at, id, totals) in seen {
            let (head, later) = history(&mut machine, id, Timestamp(at.0 + 1), &mut random);
            assert_eq!(without(&head.account, &later), totals, "seed {seed}, {id}");
        }
        for id in (1..=40).map(AccountId) {
            let (head, rows) = history(&mut machine, id, Timestamp::ZERO, &mut random);
            assert_eq!(without(&head.account, &rows), (0, 0), "seed {seed}, {id}");
            assert_eq!(head.owners, []);
            let falls = |pair: &[HistoryEntry]| {
                pair[0].position > pair[1].position && pair[0].applied_ts >= pair[1].applied_ts
            };
            assert!(rows.windows(2).all(falls));
        }
        let newest = machine.replica.ledger().history().next_position();
        assert!(machine.chains > 100 && newest.0 > 1000, "seed {seed}");
    }
}

/// A position that leads to a row of somebody else, or to none, is no reason to stop: it may come from
/// anybody.
#[test]
fn a_position_that_is_none_of_the_account_ends_its_history() {
    let mut random = Prng::new(1);
    let mut machine = Machine::start(config(Some(4_000)), Files::default(), Vec::new(), 0);
    let accounts: Vec<Account> = (1..=40)
        .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
        .collect();
    machine.results(
        &RequestBody::CreateAccounts(Rows::from_slice(&accounts)),
        &mut random,
    );
    let mut ids = 0;
    for _ in 0..60 {
        let body = transfers(&mut random, &mut ids);
        machine.results(&body, &mut random);
    }
    let end = machine.replica.ledger().history().next_position().0;
    let mut found = 0;
    for position in 1..end {
        let account = AccountId(random.range(1, 42).into());
        let query = HistoryQuery {
            account,
            start: HistoryStart::Position(position),
            ts_first: Timestamp::ZERO,
            ts_last: Timestamp(u64::MAX),
            limit: 1,
        };
        let page = machine.page(query, &mut random);
        for row in &page.rows {
            let transfer = row.recorded.transfer;
            let sides = [transfer.debit_account_id, transfer.credit_account_id];
            assert!(sides.contains(&account) && row.position == position);
            found += 1;
        }
    }
    assert!(found > 0 && machine.chains > 100);
    machine.replies.clear();
    for position in [0, end, u64::MAX] {
        machine.send(RequestBody::AccountHistory(HistoryQuery {
            account: AccountId(1),
            start: HistoryStart::Position(position),
            ts_first: Timestamp::ZERO,
            ts_last: Timestamp(u64::MAX),
            limit: 1,
        }));
    }
    machine.settle(&mut random);
    let refused = |reply: &Reply| matches!(reply.body, ReplyBody::BadRequest(_));
    assert!(machine.replies.len() == 3 && machine.replies.iter().all(refused));
}

/// The rows in memory are shown in any case; what follows is said.
#[test]
fn what_is_not_kept_any_more_and_what_does_not_come_in_time_is_said() {
    let mut random = Prng::new(3);
    let mut machine = Machine::start(config(Some(4_000)), Files::default(), Vec::new(), 0);
    let accounts: Vec<Account> = (1..=40)
        .map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()))
        .collect();
    let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
    machine.results(&create, &mut random);
    let mut ids = 0;
    for _ in 0..60 {
        let body = transfers(&mut random, &mut ids);
        machine.results(&body, &mut random);
    }
    let query = |start| HistoryQuery {
        account: AccountId(7),
        start,
        ts_first: Timestamp::ZERO,
        ts_last: Timestamp(u64::MAX),
        limit: 1000,
    };
    let newest = query(HistoryStart::Newest {
        passed: Timestamp::ZERO,
    });
    let whole = machine.page(newest, &mut random);
    assert_eq!((whole.next, whole.dropped), (0, false));

    machine.store = ChainStore::Dropped;
    let cut = machine.page(newest, &mut random);
    assert!(cut.dropped && cut.head.is_some() && cut.rows.len() < whole.rows.len());
    assert_eq!(cut.rows, whole.rows[..cut.rows.len()]);
    assert_eq!(cut.next, whole.rows[cut.rows.len()].position);

    // The deadline comes while the store is asked: the page ends, and the next one goes on behind it.
    machine.store = ChainStore::Silent;
    machine.replies.clear();
    machine.send(RequestBody::AccountHistory(newest));
    machine.settle(&mut random);
    assert!(machine.replies.is_empty());
    machine.now_ns += 60_000 * MS;
    machine.settle(&mut random);
    let Some(ReplyBody::History(HistoryAnswer::Page(late))) =
        machine.replies.pop().map(|reply| reply.body)
    else {
        panic!("no page");
    };
    assert_eq!((&late.rows, late.next), (&cut.rows, cut.next));
    assert!(!late.dropped);
    machine.store = ChainStore::Whole;
    let rest = machine.page(query(HistoryStart::Position(late.next)), &mut random);
    assert_eq!(rest.head, None);
    assert_eq!([late.rows, rest.rows].concat(), whole.rows);
}

/// How many rows of history lie on the disk, and which is the first.
fn held(machine: &Machine) -> (u64, u64) {
    let (first, end) = machine.keeper.store().history_positions();
    (end - first, first)
}

fn aged_transfers(ms: u64, first: u64, rows: u64) -> RequestBody {
    let rows: Vec<Transfer> = (first..first + rows)
        .map(|number| {
            let id = TransferId(u128::from(ms) << 80 | u128::from(number));
            Transfer::new(id, AccountId(1), AccountId(2), 1, 1, 1)
        })
        .collect();
    RequestBody::CreateTransfers(Rows::from_slice(&rows))
}

/// What is kept for a time leaves the disk behind it. An id of then is refused, in every life; one that is
/// kept is known.
#[test]
fn history_that_is_old_leaves_the_disk_and_its_ids_stay_refused() {
    const ROWS: u64 = 10;
    let config = ReplicaConfig {
        ids: IdRule::Ulid,
        keep_ns: Some(1_000 * MS),
        // A young ledger has an interval of a quarter of it.
        ..config(Some(160_000))
    };
    let random = &mut Prng::new(5);
    let mut machine = Machine::start(config, Files::default(), Vec::new(), 0);
    let accounts = [1, 2].map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()));
    let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
    machine.results(&create, random);
    let codes = |rows: Vec<ResultRow>| -> Vec<Option<ResultCode>> {
        rows.iter().map(ResultRow::result).collect()
    };
    let all = |code| vec![Some(code); usize::try_from(ROWS).expect("small")];
    let mut sent = Vec::new();
    for round in 0..300 {
        machine.now_ns += 20 * MS;
        let body = aged_transfers((WALL_NS + machine.now_ns) / MS, round * ROWS, ROWS);
        let told = codes(machine.results(&body, random));
        assert!(told == all(ResultCode::Ok) || told == all(ResultCode::Exists));
        sent.push(body);
        if round % 37 == 0 {
            machine = machine.killed();
        }
        let (rows, _) = held(&machine);
        assert!(rows < 900, "{rows} rows held in round {round}");
    }
    machine.settle(random);
    let (rows, first) = held(&machine);
    assert!(
        rows > 250 && first > 1_500,
        "{rows} rows held from {first} on"
    );
    let files = machine
        .files
        .0
        .keys()
        .filter(|name| name.starts_with("history"));
    assert!(files.count() < 10);
    for _ in 0..2 {
        let told = codes(machine.results(&sent[0], random));
        assert_eq!(told, all(ResultCode::IdTooOld));
        let told = codes(machine.results(&sent[295], random));
        assert_eq!(told, all(ResultCode::Exists));
        machine = machine.killed();
    }
    let mut query = HistoryQuery {
        account: AccountId(1),
        start: HistoryStart::Newest {
            passed: Timestamp::ZERO,
        },
        ts_first: Timestamp::ZERO,
        ts_last: Timestamp(u64::MAX),
        limit: 100,
    };
    let mut shown = 0;
    loop {
        let page = machine.page(query, random);
        shown += page.rows.len();
        if page.dropped {
            break;
        }
        assert!(page.next >= first, "the end was not told of");
        query.start = HistoryStart::Position(page.next);
    }
    assert!((250..1_000).contains(&shown), "{shown} rows shown");
}

/// A file is dropped while a question reads from it, and what was read may come before or after that. Once a
/// row whose context was being read was taken for damage, or asked for again for ever.
#[test]
fn a_question_passes_over_what_is_dropped_while_it_reads() {
    let config = ReplicaConfig {
        ids: IdRule::Ulid,
        keep_ns: Some(100 * MS),
        ..config(Some(20_000))
    };
    let random = &mut Prng::new(6);
    let mut machine = Machine::start(config, Files::default(), Vec::new(), 0);
    let accounts = [1, 2].map(|id| Account::new(AccountId(id), 1, 1, AccountFlags::default()));
    let create = RequestBody::CreateAccounts(Rows::from_slice(&accounts));
    machine.results(&create, random);
    let mut sent = 0;
    let mut send = |machine: &mut Machine, random: &mut Prng| {
        machine.now_ns += 5 * MS;
        let ms = (WALL_NS + machine.now_ns) / MS;
        machine.results(&aged_transfers(ms, sent, 10), random);
        sent += 10;
        TransferId(u128::from(ms) << 80 | u128::from(sent - 1))
    };
    for reads in 0..4 {
        for is_chain in [false, true] {
            for is_fed_late in [false, true] {
                let id = send(&mut machine, random);
                let position = machine.replica.ledger().history().next_position().0 - 1;
                while held(&machine).1 + held(&machine).0 <= position {
                    send(&mut machine, random);
                }
                let coordinator = ShardId(0);
                let mut question = match is_chain {
                    false => Question::new(1, vec![RecordName { coordinator, id }], Vec::new()),
                    true => Question::chain(
                        1,
                        ChainQuestion {
                            account: AccountId(1),
                            from: HistoryPosition(position),
                            rows_max: 2,
                        },
                    ),
                };
                for _ in 0..reads {
                    let (store, index) = (machine.keeper.store(), machine.keeper.index());
                    if let Wanted::Blocks(run) = question.wanted(store, index) {
                        let bytes = machine.files.blocks(run);
                        question.feed(store, &bytes).expect("as written");
                    }
                }
                let wanted = question.wanted(machine.keeper.store(), machine.keeper.index());
                let late = match wanted {
                    Wanted::Blocks(run) if is_fed_late => Some(machine.files.blocks(run)),
                    _ => None,
                };
                while held(&machine).1 <= position {
                    send(&mut machine, random);
                }
                if let Some(bytes) = late {
                    let fed = question.feed(machine.keeper.store(), &bytes);
                    fed.expect("what is dropped is not damaged");
                }
                let (store, index) = (machine.keeper.store(), machine.keeper.index());
                assert_eq!(question.wanted(store, index), Wanted::Nothing);
            }
        }
    }
}
