//! Two real shards on a perfect network and disk, and a third one that is played by the test: it says
//! what no honest shard would say, or nothing at all.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::client::{AccountAnswer, Reply, ReplyBody, Request, RequestBody, Role};
use quorate_protocol::config::{IdRule, Reads, Recovered, ReplicaConfig};
use quorate_protocol::ids::{
    AccountId, Ballot, ClusterId, ConnectionId, ReplicaAddress, ReplicaId, RequestId, ShardId,
    TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{ENTRY_BYTES_MAX, TIMING};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::output::Output;
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, SECOND, Timestamp};
use quorate_protocol::txn::message::Message;
use quorate_protocol::txn::record::{Attempt, PrepareRow, Subject, TxnId, TxnRow, Verdict};
use quorate_protocol::words::Rows;

const WALL: u64 = 1_700_000_000 * SECOND;
const SHARDS: u32 = 3;
const REPLICAS: u8 = 3;

/// The shard that the test plays.
pub const GHOST: ShardId = ShardId(3);
const GHOST_LEADER: ReplicaAddress = ReplicaAddress {
    shard: GHOST,
    replica: ReplicaId(3),
};

pub struct World {
    pub replicas: BTreeMap<ReplicaAddress, Replica>,
    inbox: VecDeque<(ReplicaAddress, Input)>,
    replies: Vec<Reply>,
    /// What was sent to the played shard, oldest first.
    pub to_ghost: VecDeque<Message>,
    /// To which replica of it the last message went.
    pub asked_ghost: ReplicaId,
    pub now_ns: u64,
    /// Completed writes that are not reported; `None` if disks are quick.
    pub slow_disks: Option<Vec<(ReplicaAddress, Input)>>,
    /// How far a replica's wall clock is behind.
    pub behind_ns: BTreeMap<ReplicaId, u64>,
    requests: u64,
}

impl World {
    /// Shard 1: account 9 without limit, 1 with 1,000, 2 empty. Shard 2: 11 and 12, both empty.
    /// All but 9 are limited. Accounts from 21 on have their home at the played shard.
    pub fn new() -> Self {
        let mut world = Self {
            replicas: BTreeMap::new(),
            inbox: VecDeque::new(),
            replies: Vec::new(),
            to_ghost: VecDeque::new(),
            asked_ghost: GHOST_LEADER.replica,
            now_ns: 0,
            slow_disks: None,
            behind_ns: BTreeMap::new(),
            requests: 0,
        };
        for shard in 1..GHOST.0 {
            for replica in 1..=REPLICAS {
                let address = ReplicaAddress {
                    shard: ShardId(shard),
                    replica: ReplicaId(replica),
                };
                let replica =
                    Replica::new(config(address), Recovered::default(), world.now(address));
                world.replicas.insert(address, replica);
            }
        }
        world.run_for(3 * SECOND);
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        world.create(1, 9, AccountFlags::SYSTEM);
        for (shard, id) in [(1, 1), (1, 2), (2, 11), (2, 12)] {
            world.create(shard, id, limited);
        }
        assert_eq!(world.transfer(1, 1000, 9, 1, 1000), Some(ResultCode::Ok));
        world
    }

    fn now(&self, at: ReplicaAddress) -> Now {
        let behind_ns = self.behind_ns.get(&at.replica).copied().unwrap_or(0);
        Now {
            mono_ns: self.now_ns,
            wall_ns: WALL + self.now_ns - behind_ns,
        }
    }

    /// The true time.
    pub fn wall_ns(&self) -> u64 {
        WALL + self.now_ns
    }

    pub fn leader(&self, shard: u32) -> ReplicaAddress {
        self.replicas
            .iter()
            .find(|(at, r)| {
                at.shard.0 == shard && r.role() == Role::Leader && r.serving().is_some()
            })
            .map(|(at, _)| *at)
            .expect("a leader")
    }

    pub fn leading(&self, shard: u32) -> &Replica {
        &self.replicas[&self.leader(shard)]
    }

    pub fn step(&mut self, at: ReplicaAddress, input: Input) {
        let now = self.now(at);
        let replica = self.replicas.get_mut(&at).expect("known");
        replica.step(now, input);
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Persist { seq, .. } => {
                    let done = (at, Input::Durable { upto: seq });
                    match &mut self.slow_disks {
                        Some(held) => held.push(done),
                        None => self.inbox.push_back(done),
                    }
                }
                Output::Send { to, message } if to.shard == GHOST => match message.body {
                    PeerBody::Txn(message) => {
                        self.asked_ghost = to.replica;
                        self.to_ghost.push_back(message);
                    }
                    PeerBody::Paxos(_) | PeerBody::Snapshot(_) => {
                        panic!("{at} speaks to another shard what belongs into the group")
                    }
                },
                Output::Send { to, message } => {
                    self.inbox
                        .push_back((to, Input::Peer { from: at, message }));
                }
                Output::Reply { reply, .. } => self.replies.push(reply),
                Output::ReadLog { .. } => panic!("nothing to read back"),
                Output::Checkpoint(_)
                | Output::ReleaseLog { .. }
                | Output::Load { .. }
                | Output::List { .. }
                | Output::LoadChain { .. }
                | Output::FetchSnapshot { .. } => {
                    panic!("no checkpoint is due")
                }
                Output::Count(_) => {}
                Output::Rejoined => panic!("no disk is lost"),
                Output::Stop { reason } => panic!("{at} stopped: {reason:?}"),
            }
        }
    }

    pub fn run_for(&mut self, ns: u64) {
        let end_ns = self.now_ns + ns;
        self.settle();
        while self.now_ns < end_ns {
            self.now_ns += MS;
            let due: Vec<ReplicaAddress> = self
                .replicas
                .iter()
                .filter(|(_, replica)| replica.deadline_ns() <= self.now_ns)
                .map(|(at, _)| *at)
                .collect();
            for at in due {
                self.step(at, Input::Tick);
            }
            self.settle();
        }
    }

    /// All that was written meanwhile is done.
    pub fn disks_catch_up(&mut self) {
        self.inbox
            .extend(self.slow_disks.take().unwrap_or_default());
        self.settle();
    }

    /// Delivers everything that is under way, at this instant.
    fn settle(&mut self) {
        while let Some((at, input)) = self.inbox.pop_front() {
            self.step(at, input);
        }
    }

    /// Sends to the shard's leader and does not wait.
    pub fn send(&mut self, shard: u32, deadline_ms: u32, body: RequestBody) -> RequestId {
        self.send_seen(shard, deadline_ms, Timestamp::ZERO, body)
    }

    pub fn send_seen(
        &mut self,
        shard: u32,
        deadline_ms: u32,
        seen: Timestamp,
        body: RequestBody,
    ) -> RequestId {
        self.requests += 1;
        let request = Request {
            id: RequestId(self.requests),
            deadline_ms,
            seen,
            body,
        };
        let connection = ConnectionId(1);
        let at = self.leader(shard);
        self.step(
            at,
            Input::Client {
                connection,
                request,
            },
        );
        RequestId(self.requests)
    }

    /// The answer, if it has come.
    pub fn take(&mut self, id: RequestId) -> Option<ReplyBody> {
        let found = self.replies.iter().position(|reply| reply.id == id)?;
        Some(self.replies.remove(found).body)
    }

    pub fn take_code(&mut self, id: RequestId) -> Option<ResultCode> {
        match self.take(id)? {
            ReplyBody::Results(rows) => rows[0].result(),
            other => panic!("{other:?}"),
        }
    }

    /// Sends and runs until the answer is there.
    pub fn ask(&mut self, shard: u32, body: RequestBody) -> ReplyBody {
        let id = self.send(shard, 0, body);
        for _ in 0..6_000 {
            if let Some(body) = self.take(id) {
                return body;
            }
            self.run_for(MS);
        }
        panic!("no answer")
    }

    pub fn results(&mut self, shard: u32, body: RequestBody) -> Vec<ResultRow> {
        match self.ask(shard, body) {
            ReplyBody::Results(rows) => rows.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    pub fn transfer(
        &mut self,
        shard: u32,
        id: u128,
        debit: u128,
        credit: u128,
        amount: u128,
    ) -> Option<ResultCode> {
        self.results(shard, transfers(&[transfer(id, debit, credit, amount)]))[0].result()
    }

    pub fn create(&mut self, shard: u32, id: u128, flags: AccountFlags) {
        let account = Account::new(AccountId(id), 1, 1, flags);
        let body = RequestBody::CreateAccounts(Rows::from_slice(&[account]));
        assert_eq!(self.results(shard, body)[0].result(), Some(ResultCode::Ok));
    }

    pub fn balance(&mut self, shard: u32, id: u128) -> i128 {
        balance_of(&self.ask(shard, lookup(id)))
    }

    /// The played shard's leader speaks to the leader of a real one.
    pub fn ghost_says(&mut self, shard: u32, message: Message) {
        self.ghost_says_from(GHOST_LEADER, shard, message);
    }

    /// A replica of the played shard that was asked does not lead and knows nobody who does.
    pub fn ghost_has_no_leader(&mut self, shard: u32) {
        let from = ReplicaAddress {
            replica: self.asked_ghost,
            ..GHOST_LEADER
        };
        let message = Message::NotLeading {
            shard: GHOST,
            ballot: Ballot::ZERO,
            leader: None,
        };
        self.ghost_says_from(from, shard, message);
    }

    fn ghost_says_from(&mut self, from: ReplicaAddress, shard: u32, message: Message) {
        let to = self.leader(shard);
        let message = PeerMessage {
            clock: Timestamp(self.wall_ns()),
            body: PeerBody::Txn(message),
        };
        self.inbox.push_back((to, Input::Peer { from, message }));
        self.settle();
    }

    /// The played shard prepares a credit at a real one.
    pub fn ghost_prepares(&mut self, shard: u32, id: u128, credit: u128, amount: u128, count: u64) {
        let row = PrepareRow {
            transfer: transfer(id, 21, credit, amount),
            attempt: ghost_attempt(count),
            coordinator: GHOST,
            reserved: [0; 12],
        };
        self.ghost_says(shard, Message::PrepareTxn(Rows::from_slice(&[row])));
    }

    /// The played shard decides about what it prepared.
    pub fn ghost_decides(&mut self, shard: u32, id: u128, count: u64, verdict: Verdict) {
        let row = TxnRow {
            timestamp: Timestamp(self.wall_ns()),
            ..TxnRow::new(ghost_txn(id, count), verdict)
        };
        self.ghost_says(shard, Message::Decides(Rows::from_slice(&[row])));
    }

    /// The prepares that reached the played shard since they were asked for last.
    pub fn prepares_at_ghost(&mut self) -> Vec<PrepareRow> {
        let messages = core::mem::take(&mut self.to_ghost);
        let rows = messages.into_iter().filter_map(|message| match message {
            Message::PrepareTxn(rows) => Some(rows.to_vec()),
            _ => None,
        });
        rows.flatten().collect()
    }

    /// The verdicts that reached the played shard since they were asked for last.
    pub fn votes_at_ghost(&mut self) -> Vec<Verdict> {
        let messages = core::mem::take(&mut self.to_ghost);
        let rows = messages.into_iter().filter_map(|message| match message {
            Message::Votes(rows) => Some(rows.to_vec()),
            _ => None,
        });
        rows.flatten()
            .filter_map(|row| row.parse())
            .map(|(_, verdict)| verdict)
            .collect()
    }

    /// The played shard votes on a prepare of shard 1.
    pub fn ghost_votes(&mut self, row: &PrepareRow, fill: impl FnOnce(TxnRow) -> TxnRow) {
        let vote = fill(TxnRow::new(row.txn(), Verdict::Yes));
        self.ghost_says(1, Message::Votes(Rows::from_slice(&[vote])));
    }
}

fn config(address: ReplicaAddress) -> ReplicaConfig {
    ReplicaConfig {
        cluster: ClusterId(1),
        address,
        shards: SHARDS,
        replicas: REPLICAS,
        placement: Placement::Range {
            accounts_per_shard: 10,
        },
        reads: Reads::Lease,
        ids: IdRule::Any,
        preferred_leader: ReplicaId(1),
        timing: TIMING,
        entry_bytes_max: ENTRY_BYTES_MAX,
        admission: quorate_protocol::config::Admission::default(),
        tail_bytes_max: quorate_protocol::limits::LOG_TAIL_BYTES_MAX,
        keep_ns: None,
        checkpoint_weight: None,
        accounts_in_memory_max: quorate_protocol::limits::ACCOUNTS_IN_MEMORY_MAX,
        scan_places: quorate_protocol::limits::SCAN_PLACES,
        apply_bytes: quorate_protocol::limits::APPLY_BYTES,
        telemetry_window_ns: quorate_protocol::limits::TELEMETRY_WINDOW_NS,
        seed: 7,
    }
}

pub fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer::new(TransferId(id), debit, credit, amount, 1, 1)
}

pub fn transfers(rows: &[Transfer]) -> RequestBody {
    RequestBody::CreateTransfers(Rows::from_slice(rows))
}

pub fn lookup(id: u128) -> RequestBody {
    RequestBody::LookupAccounts(Rows::from_slice(&[AccountId(id)]))
}

pub fn balance_of(reply: &ReplyBody) -> i128 {
    match reply {
        ReplyBody::Accounts(answers) => match &answers[0] {
            AccountAnswer::Found(a) => {
                i128::try_from(a.credits_posted).expect("small")
                    - i128::try_from(a.debits_posted).expect("small")
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

pub fn ghost_attempt(counter: u64) -> Attempt {
    Attempt {
        ballot: Ballot::new(1, GHOST_LEADER.replica),
        counter,
    }
}

pub fn ghost_txn(id: u128, count: u64) -> TxnId {
    TxnId {
        coordinator: GHOST,
        subject: Subject::Transfer,
        id,
        attempt: ghost_attempt(count),
    }
}
