//! Whole replicas on a perfect network and a perfect disk: nothing but the core runs. Every half million transfers at first,
//! and every 2.1 million later, a checkpoint's parts are part of it, as in a server; runs of fewer have none.

use std::collections::VecDeque;

use quorate_protocol::client::{ReplyBody, Request, RequestBody};
use quorate_protocol::config::{Admission, IdRule, Reads, Recovered, ReplicaConfig};
use quorate_protocol::ids::{
    AccountId, ClusterId, ConnectionId, ReplicaAddress, ReplicaId, RequestId, ShardId, TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits;
use quorate_protocol::output::{CheckpointPart, Output};
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, SECOND, Timestamp};
use quorate_protocol::words::Rows;

/// Accounts per shard, beside its system account.
pub const ACCOUNTS: u64 = 10_000;
/// Places of the map per shard; the last one is the system account's.
const RANGE: u64 = ACCOUNTS + 1;

/// Shards times replicas, all in one thread.
pub struct World {
    replicas: Vec<Replica>,
    per_shard: u8,
    inbox: VecDeque<(usize, Input)>,
    replies: Vec<(RequestId, ReplyBody)>,
    now_ns: u64,
    requests: u64,
    transfers: u64,
    random: u64,
}

impl World {
    /// Elected, with `ACCOUNTS` funded accounts per shard.
    pub fn new(shards: u32, per_shard: u8) -> Self {
        let mut world = Self {
            replicas: Vec::new(),
            per_shard,
            inbox: VecDeque::new(),
            replies: Vec::new(),
            now_ns: 0,
            requests: 0,
            transfers: 0,
            random: 1,
        };
        for shard in 1..=shards {
            for replica in 1..=per_shard {
                let config = config(shards, per_shard, (shard, replica));
                let replica = Replica::new(config, Recovered::default(), world.now());
                world.replicas.push(replica);
            }
        }
        while world.now_ns < 3 * SECOND {
            world.tick();
            world.settle();
        }
        for shard in 0..u64::from(shards) {
            world.fund(shard);
        }
        world
    }

    /// One request of so many transfers between two accounts drawn uniformly, on one shard or from each shard to the
    /// next one; runs until it is answered and nothing is under way.
    pub fn transfer(&mut self, count: usize, is_cross: bool) {
        let shards = self.replicas.len() as u64 / u64::from(self.per_shard);
        let from = self.requests % shards;
        let to = if is_cross { (from + 1) % shards } else { from };
        let transfers: Vec<Transfer> = (0..count)
            .map(|_| {
                let debit = self.draw();
                let mut credit = self.draw();
                if (from, debit) == (to, credit) {
                    credit = (credit + 1) % ACCOUNTS;
                }
                self.new_transfer(account(from, debit), account(to, credit), 1)
            })
            .collect();
        self.ask(
            from,
            RequestBody::CreateTransfers(Rows::from_slice(&transfers)),
        );
    }

    fn fund(&mut self, shard: u64) {
        let system = account(shard, ACCOUNTS);
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let mut accounts = vec![Account::new(system, 1, 1, AccountFlags::SYSTEM)];
        accounts.extend((0..ACCOUNTS).map(|at| Account::new(account(shard, at), 1, 1, limited)));
        for some in accounts.chunks(limits::BATCH_MAX) {
            self.ask(shard, RequestBody::CreateAccounts(Rows::from_slice(some)));
        }
        let deposits: Vec<Transfer> = (0..ACCOUNTS)
            .map(|at| self.new_transfer(system, account(shard, at), 1 << 40))
            .collect();
        for some in deposits.chunks(limits::BATCH_MAX) {
            self.ask(shard, RequestBody::CreateTransfers(Rows::from_slice(some)));
        }
    }

    fn new_transfer(&mut self, debit: AccountId, credit: AccountId, amount: u128) -> Transfer {
        self.transfers += 1;
        Transfer::new(
            TransferId(self.transfers.into()),
            debit,
            credit,
            amount,
            1,
            1,
        )
    }

    /// Of a shard's accounts.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ mixed >> 27) % ACCOUNTS
    }

    fn ask(&mut self, shard: u64, body: RequestBody) {
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = Request {
            id,
            deadline_ms: 0,
            seen: Timestamp::ZERO,
            body,
        };
        let connection = ConnectionId(1);
        let leader = usize::try_from(shard).expect("few") * usize::from(self.per_shard);
        self.step(
            leader,
            Input::Client {
                connection,
                request,
            },
        );
        self.settle();
        while self.replies.is_empty() {
            self.tick();
            self.settle();
        }
        let (answered, body) = self.replies.pop().expect("one");
        assert_eq!(answered, id);
        let ReplyBody::Results(rows) = body else {
            panic!("{body:?}");
        };
        let is_ok = |row: &ResultRow| row.result() == Some(ResultCode::Ok);
        assert!(
            rows.iter().all(is_ok),
            "{:?}",
            rows.iter().find(|row| !is_ok(row))
        );
    }

    fn now(&self) -> Now {
        Now {
            mono_ns: self.now_ns,
            wall_ns: 1_700_000_000 * SECOND + self.now_ns,
        }
    }

    fn tick(&mut self) {
        self.now_ns += MS;
        for at in 0..self.replicas.len() {
            if self.replicas[at].deadline_ns() <= self.now_ns {
                self.step(at, Input::Tick);
            }
        }
    }

    /// Until nothing is under way, and nothing left to be applied.
    fn settle(&mut self) {
        loop {
            while let Some((at, input)) = self.inbox.pop_front() {
                self.step(at, input);
            }
            let Some(at) = self.replicas.iter().position(Replica::is_apply_put_off) else {
                return;
            };
            self.step(at, Input::Tick);
        }
    }

    fn place(&self, address: ReplicaAddress) -> usize {
        let shard = usize::try_from(address.shard.0 - 1).expect("few");
        shard * usize::from(self.per_shard) + usize::from(address.replica.0 - 1)
    }

    fn address(&self, at: usize) -> ReplicaAddress {
        let (shard, replica) = (
            at / usize::from(self.per_shard),
            at % usize::from(self.per_shard),
        );
        ReplicaAddress {
            shard: ShardId(u32::try_from(shard + 1).expect("few")),
            replica: ReplicaId(u8::try_from(replica + 1).expect("few")),
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        let now = self.now();
        self.replicas[at].step(now, input);
        while let Some(output) = self.replicas[at].poll_output() {
            match output {
                Output::Persist { seq, .. } => {
                    self.inbox.push_back((at, Input::Durable { upto: seq }));
                }
                Output::Send { to, message } => {
                    let from = self.address(at);
                    self.inbox
                        .push_back((self.place(to), Input::Peer { from, message }));
                }
                Output::Reply { reply, .. } => self.replies.push((reply.id, reply.body)),
                // A store that takes everything at once and finds nothing: ids are new, accounts in memory.
                Output::Checkpoint(CheckpointPart::End(_)) => {
                    let number = self.replicas[at].ledger().checkpoint();
                    self.inbox
                        .push_back((at, Input::CheckpointDurable { number }));
                }
                Output::Checkpoint(_) => self.inbox.push_back((at, Input::CheckpointRoom)),
                Output::ReleaseLog { .. } | Output::Count(_) => {}
                Output::Load { question, .. } => self.inbox.push_back((
                    at,
                    Input::Loaded {
                        question,
                        rows: Vec::new(),
                        accounts: Vec::new(),
                    },
                )),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn account(shard: u64, at: u64) -> AccountId {
    AccountId((shard * RANGE + at + 1).into())
}

fn config(shards: u32, replicas: u8, (shard, replica): (u32, u8)) -> ReplicaConfig {
    ReplicaConfig {
        cluster: ClusterId(1),
        address: ReplicaAddress {
            shard: ShardId(shard),
            replica: ReplicaId(replica),
        },
        shards,
        replicas,
        placement: Placement::Range {
            accounts_per_shard: RANGE,
        },
        reads: Reads::Lease,
        ids: IdRule::Any,
        preferred_leader: ReplicaId(1),
        timing: limits::TIMING,
        entry_bytes_max: limits::ENTRY_BYTES_MAX,
        admission: Admission::default(),
        tail_bytes_max: limits::LOG_TAIL_BYTES_MAX,
        keep_ns: None,
        checkpoint_weight: Some(256 << 20),
        accounts_in_memory_max: limits::ACCOUNTS_IN_MEMORY_MAX,
        scan_places: limits::SCAN_PLACES,
        apply_bytes: limits::APPLY_BYTES,
        telemetry_window_ns: limits::TELEMETRY_WINDOW_NS,
        seed: 7,
    }
}
