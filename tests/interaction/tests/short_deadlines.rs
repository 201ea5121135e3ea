//! Requests whose time is shorter than the time after which a question is asked again.
//!
//! Found by simulation seed 274: the leader of one shard believed that a replica of another shard led
//! there, which was gone for good. It turned away from a silent replica only when it asked a second time,
//! after 500 ms; its clients waited 300 ms. So every attempt ended before the second asking, no attempt
//! reached the living leader, and the transfers were `contended` for ever.

#![forbid(unsafe_code)]

use quorate_interaction::cluster::{Cluster, Event, Shape, preferred};
use quorate_interaction::disk::Unflushed;
use quorate_protocol::client::{MoveAnswer, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{
    AccountId, ConnectionId, MoveId, ReplicaAddress, RequestId, ShardId, TransferId,
};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::time::{MS, SECOND, Timestamp};
use quorate_protocol::words::{Row, Rows};

const FIRST: ShardId = ShardId(1);
const SECOND_SHARD: ShardId = ShardId(2);
/// Shorter than the 500 ms after which a coordinator asks again.
const DEADLINE_MS: u32 = 300;
const CONNECTION: ConnectionId = ConnectionId(1);

struct World {
    cluster: Cluster,
    requests: u64,
}

impl World {
    /// Both shards lead, with an account each.
    fn new() -> Self {
        let mut world = Self {
            cluster: Cluster::new(Shape::default()),
            requests: 0,
        };
        world.run_for(3 * SECOND);
        for (shard, account) in [(FIRST, 1), (SECOND_SHARD, 11)] {
            let account = Account::new(AccountId(account), 1, 1, AccountFlags::default());
            let reply = world.ask(shard, RequestBody::CreateAccounts(one(account)));
            assert_eq!(code(&reply), ResultCode::Ok);
        }
        world
    }

    /// Everything that is sent arrives at once, every record is durable at once.
    fn run_for(&mut self, ns: u64) -> Vec<ReplyBody> {
        let until_ns = self.cluster.now_ns() + ns;
        let mut replies = Vec::new();
        loop {
            let letters: Vec<u64> = self.cluster.in_flight().iter().map(|l| l.number).collect();
            let dirty: Vec<ReplicaAddress> = self
                .cluster
                .addresses()
                .filter(|&at| self.cluster.replica(at).is_some() && self.cluster.is_dirty(at))
                .collect();
            for &at in &dirty {
                let upto = self.cluster.last_appended(at).expect("it is dirty");
                self.cluster.flush(at, upto);
            }
            for &letter in &letters {
                self.cluster.deliver(letter);
            }
            replies.extend(self.cluster.take_events().into_iter().filter_map(
                |event| match event {
                    Event::Replied { reply, .. } => Some(reply.body),
                    _ => None,
                },
            ));
            if !letters.is_empty() || !dirty.is_empty() {
                continue;
            }
            let (tick_ns, at) = self.cluster.next_tick().expect("replicas run");
            if tick_ns > until_ns {
                self.cluster.set_now_ns(until_ns);
                return replies;
            }
            self.cluster.set_now_ns(tick_ns.max(self.cluster.now_ns()));
            self.cluster.tick(at);
        }
    }

    /// Asks a shard's leader and waits for as long as the request may take.
    fn ask(&mut self, shard: ShardId, body: RequestBody) -> ReplyBody {
        let leader = self.cluster.leader(shard).expect("the shard has a leader");
        self.requests += 1;
        let request = Request {
            id: RequestId(self.requests),
            deadline_ms: DEADLINE_MS,
            seen: Timestamp::ZERO,
            body,
        };
        self.cluster.ask(leader, CONNECTION, request);
        let replies = self.run_for((u64::from(DEADLINE_MS) + 100) * MS);
        assert_eq!(replies.len(), 1, "one answer, in time");
        replies.into_iter().next().expect("counted above")
    }

    /// The replica that leads a shard dies and never returns; another takes over.
    fn lose_leader(&mut self, shard: ShardId) {
        let leader = self.cluster.leader(shard).expect("the shard has a leader");
        let replicas = self.cluster.shape().replicas;
        assert_eq!(
            leader.replica,
            preferred(shard, replicas),
            "the preferred one"
        );
        self.cluster.crash(leader, Unflushed::Kept);
        self.run_for(3 * SECOND);
        assert_ne!(self.cluster.leader(shard), Some(leader));
    }

    /// The same transfer, as a client sends it until it is done.
    fn insist(&mut self, shard: ShardId, transfer: Transfer) -> Vec<ResultCode> {
        let mut codes = Vec::new();
        while codes.last() != Some(&ResultCode::Ok) && codes.len() < 10 {
            let reply = self.ask(shard, RequestBody::CreateTransfers(one(transfer)));
            codes.push(code(&reply));
        }
        codes
    }
}

fn one<T: Row>(row: T) -> Rows<T> {
    Rows::from_slice(&[row])
}

fn code(reply: &ReplyBody) -> ResultCode {
    let ReplyBody::Results(rows) = reply else {
        panic!("{reply:?}");
    };
    rows[0].result().expect("a known code")
}

fn transfer(id: u128, debit: u128, credit: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer::new(TransferId(id), debit, credit, 5, 1, 1)
}

#[test]
fn short_attempts_turn_away_from_a_participant_that_is_gone() {
    let mut world = World::new();
    let codes = world.insist(FIRST, transfer(100, 1, 11));
    assert_eq!(codes, [ResultCode::Ok], "the first shard knows the leader");
    world.lose_leader(SECOND_SHARD);
    let codes = world.insist(FIRST, transfer(101, 1, 11));
    assert_eq!(codes.last(), Some(&ResultCode::Ok), "{codes:?}");
}

#[test]
fn short_look_ups_turn_away_from_a_previous_owner_that_is_gone() {
    let mut world = World::new();
    // The id that is recorded at the source makes the target ask about every id below it.
    let codes = world.insist(FIRST, transfer(100, 1, 11));
    assert_eq!(codes, [ResultCode::Ok]);
    let moved = world.ask(
        FIRST,
        RequestBody::MoveAccounts {
            id: MoveId(7),
            target: SECOND_SHARD,
            accounts: one(AccountId(1)),
        },
    );
    assert!(
        matches!(moved, ReplyBody::Move(MoveAnswer::Moved { .. })),
        "{moved:?}"
    );
    world.lose_leader(FIRST);
    let mut used_below = transfer(99, 1, 11);
    used_below.user_data = 1;
    let codes = world.insist(SECOND_SHARD, used_below);
    assert_eq!(codes.last(), Some(&ResultCode::Ok), "{codes:?}");
}
