//! A replica whose store is real bytes (its log is a list of records), killed and started again at any
//! moment, against a twin that never stops: the same answers, also to ids that are only in the store, and
//! the same balances and counts at the end.

mod support;

use std::collections::{BTreeMap, VecDeque};

use quorate_durable::keeper::{Keeper, Step};
use quorate_durable::question::{Question, Wanted};
use quorate_durable::restore::load;
use quorate_protocol::client::{Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::config::{Admission, IdRule, Reads, Recovered, ReplicaConfig};
use quorate_protocol::ids::{
    AccountId, ClusterId, ConnectionId, ReplicaAddress, ReplicaId, RequestId, ShardId, Slot,
    TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{ENTRY_BYTES_MAX, TIMING};
use quorate_protocol::output::{Output, Record};
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::prng::Prng;
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, Timestamp};
use quorate_protocol::words::Rows;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{Binding, Read, open};

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
        preferred_leader: ReplicaId(1),
        timing: TIMING,
        entry_bytes_max: ENTRY_BYTES_MAX,
        admission: Admission::default(),
        tail_bytes_max: quorate_protocol::limits::LOG_TAIL_BYTES_MAX,
        checkpoint_weight,
        seed: 1,
    }
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
    restored: u64,
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
        let loaded = load(&opened.store, &config, &mut files).expect("what was written");
        let checkpoint = loaded
            .ledger
            .as_ref()
            .map_or(Slot::ZERO, |ledger| ledger.slot());
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
            keeper: Keeper::new(opened.store, loaded.index),
            inbox: VecDeque::new(),
            now_ns,
            replies: Vec::new(),
            questions: 0,
            restored: checkpoint.0,
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
                Output::Load { question, names } => {
                    self.questions += names.len();
                    let answer = self.ask(Question::new(question, names));
                    self.inbox.push_back(answer);
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
        while let Wanted::Blocks(run) = question.wanted(self.keeper.store()) {
            let mut bytes = vec![0; run.blocks as usize * BLOCK_BYTES as usize];
            let name = run.first.file.file_name();
            self.files
                .read(&name, run.first.offset(), &mut bytes)
                .expect("published");
            question
                .feed(self.keeper.store(), &bytes)
                .expect("as written");
        }
        question.answer()
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
        match self.keeper.step() {
            Step::Told(input) => self.inbox.push_back(input),
            Step::Worked => return true,
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

    /// The results of a request, however often it has to be sent.
    fn results(&mut self, body: &RequestBody, random: &mut Prng) -> Vec<ResultRow> {
        for _ in 0..100 {
            self.replies.clear();
            self.send(body.clone());
            self.settle(random);
            if let Some(ReplyBody::Results(rows)) = self.replies.pop().map(|reply| reply.body) {
                return rows.to_vec();
            }
        }
        panic!("no answer");
    }
}

fn now(now_ns: u64) -> Now {
    Now {
        mono_ns: now_ns,
        wall_ns: WALL_NS + now_ns,
    }
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
                stored = stored.killed();
                starts += 1;
                from_checkpoint += u32::from(stored.restored > 0);
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
        for id in (1..=40).map(AccountId) {
            let balances = ledgers.map(|ledger| {
                let account = ledger.account(id).expect("created").account;
                (account.debits_posted, account.credits_posted)
            });
            assert_eq!(balances[0], balances[1], "seed {seed}, account {id}");
        }
    }
    println!(
        "{starts} starts, {from_checkpoint} from a checkpoint, {asked} ids asked of the store, {again} ids again"
    );
    assert!(starts > 100 && from_checkpoint > 50 && asked > 100 && again > 500);
}
