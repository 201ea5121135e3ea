//! Whole replicas of several shards on a perfect network and disk: every kind of request once, end
//! to end. Faults are the simulator's business.

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::client::{
    AccountAnswer, CutAnswer, MoveAnswer, Reply, ReplyBody, Request, RequestBody, Role,
};
use quorate_protocol::config::{IdRule, Reads, Recovered, ReplicaConfig};
use quorate_protocol::ids::{
    AccountId, ClusterId, ConnectionId, MoveId, ReplicaAddress, ReplicaId, RequestId, ShardId,
    TransferId,
};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{PIPELINE_MAX, TIMING};
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::output::Output;
use quorate_protocol::paxos;
use quorate_protocol::replica::Replica;
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::{MS, Now, SECOND, Timestamp};
use quorate_protocol::words::Rows;

const WALL: u64 = 1_700_000_000 * SECOND;

struct World {
    replicas: BTreeMap<ReplicaAddress, Replica>,
    inbox: VecDeque<(ReplicaAddress, Input)>,
    replies: Vec<Reply>,
    now_ns: u64,
    requests: u64,
    reads: Reads,
}

impl World {
    /// Accounts 1..=10 on shard 1, 11..=20 on shard 2 and so on.
    fn new(shards: u32, replicas: u8, reads: Reads) -> Self {
        let mut world = Self {
            replicas: BTreeMap::new(),
            inbox: VecDeque::new(),
            replies: Vec::new(),
            now_ns: 0,
            requests: 0,
            reads,
        };
        for shard in 1..=shards {
            for replica in 1..=replicas {
                let address = ReplicaAddress {
                    shard: ShardId(shard),
                    replica: ReplicaId(replica),
                };
                let config = world.config(address, shards, replicas);
                let replica = Replica::new(config, Recovered::default(), world.now());
                world.replicas.insert(address, replica);
            }
        }
        world.run_until(3 * SECOND);
        for shard in 1..=shards {
            assert!(
                world.leader(shard).is_some(),
                "shard {shard} has no leader after 3 s"
            );
        }
        world
    }

    fn config(&self, address: ReplicaAddress, shards: u32, replicas: u8) -> ReplicaConfig {
        ReplicaConfig {
            cluster: ClusterId(1),
            address,
            shards,
            replicas,
            placement: Placement::Range {
                accounts_per_shard: 10,
            },
            reads: self.reads,
            ids: IdRule::Any,
            preferred_leader: ReplicaId(1),
            timing: TIMING,
            entry_bytes_max: quorate_protocol::limits::ENTRY_BYTES_MAX,
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

    fn now(&self) -> Now {
        Now {
            mono_ns: self.now_ns,
            wall_ns: WALL + self.now_ns,
        }
    }

    fn leader(&self, shard: u32) -> Option<ReplicaAddress> {
        self.replicas
            .iter()
            .find(|(at, r)| {
                at.shard.0 == shard && r.role() == Role::Leader && r.serving().is_some()
            })
            .map(|(at, _)| *at)
    }

    fn step(&mut self, at: ReplicaAddress, input: Input) {
        let now = self.now();
        let replica = self.replicas.get_mut(&at).expect("known");
        replica.step(now, input);
        while let Some(output) = replica.poll_output() {
            match output {
                Output::Persist { seq, .. } => {
                    self.inbox.push_back((at, Input::Durable { upto: seq }));
                }
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

    /// A millisecond passes; what was sent does not arrive yet.
    fn tick(&mut self) {
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
    }

    fn run_until(&mut self, end_ns: u64) {
        while self.now_ns < end_ns {
            self.tick();
            while let Some((at, input)) = self.inbox.pop_front() {
                self.step(at, input);
            }
        }
    }

    /// Sends to the shard's leader and runs until the answer is there.
    fn ask(&mut self, shard: u32, body: RequestBody) -> ReplyBody {
        let at = self.leader(shard).expect("a leader");
        self.requests += 1;
        let id = RequestId(self.requests);
        let request = Request {
            id,
            deadline_ms: 0,
            seen: Timestamp::ZERO,
            body,
        };
        self.step(
            at,
            Input::Client {
                connection: ConnectionId(1),
                request,
            },
        );
        for _ in 0..6_000 {
            if let Some(found) = self.replies.iter().position(|reply| reply.id == id) {
                return self.replies.remove(found).body;
            }
            self.run_until(self.now_ns + MS);
        }
        panic!("no answer")
    }

    fn results(&mut self, shard: u32, body: RequestBody) -> Vec<ResultRow> {
        match self.ask(shard, body) {
            ReplyBody::Results(rows) => rows.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    fn transfer(
        &mut self,
        shard: u32,
        id: u128,
        debit: u128,
        credit: u128,
        amount: u128,
    ) -> ResultRow {
        let transfer = Transfer::new(
            TransferId(id),
            AccountId(debit),
            AccountId(credit),
            amount,
            1,
            1,
        );
        self.results(
            shard,
            RequestBody::CreateTransfers(Rows::from_slice(&[transfer])),
        )[0]
    }

    fn create(&mut self, shard: u32, id: u128, flags: AccountFlags) {
        let account = Account::new(AccountId(id), 1, 1, flags);
        let body = RequestBody::CreateAccounts(Rows::from_slice(&[account]));
        assert_eq!(self.results(shard, body)[0].result(), Some(ResultCode::Ok));
    }

    fn balance(&mut self, shard: u32, id: u128) -> i128 {
        let body = RequestBody::LookupAccounts(Rows::from_slice(&[AccountId(id)]));
        match self.ask(shard, body) {
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

    /// Account 1 with 1,000 on shard 1, empty accounts 2 on shard 1 and 11 on shard 2.
    fn funded(shards: u32, replicas: u8, reads: Reads) -> Self {
        let mut world = Self::new(shards, replicas, reads);
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        world.create(1, 9, AccountFlags::SYSTEM);
        world.create(1, 1, limited);
        world.create(1, 2, limited);
        world.create(2, 11, limited);
        assert_eq!(
            world.transfer(1, 1000, 9, 1, 1000).result(),
            Some(ResultCode::Ok)
        );
        world
    }

    fn assert_replicas_agree(&mut self, shards: u32) {
        self.run_until(self.now_ns + SECOND);
        for shard in 1..=shards {
            let of_shard = self.replicas.iter().filter(|(at, _)| at.shard.0 == shard);
            let digests: Vec<_> = of_shard.map(|(_, replica)| replica.digest()).collect();
            assert!(
                digests.windows(2).all(|pair| pair[0] == pair[1]),
                "{digests:?}"
            );
        }
    }
}

#[test]
fn a_local_transfer_on_one_replica_and_on_three() {
    for replicas in [1, 3] {
        let mut world = World::funded(2, replicas, Reads::Lease);
        let row = world.transfer(1, 1, 1, 2, 300);
        assert_eq!(
            (row.result(), row.cross_shard()),
            (Some(ResultCode::Ok), false)
        );
        assert_eq!((world.balance(1, 1), world.balance(1, 2)), (700, 300));
        world.assert_replicas_agree(2);
    }
}

#[test]
fn a_cross_shard_transfer_commits_on_both_sides() {
    for reads in [Reads::Lease, Reads::Quorum] {
        let mut world = World::funded(2, 3, reads);
        let row = world.transfer(1, 1, 1, 11, 300);
        assert_eq!(
            (row.result(), row.cross_shard()),
            (Some(ResultCode::Ok), true)
        );
        assert_eq!((world.balance(1, 1), world.balance(2, 11)), (700, 300));
        assert_eq!(
            world.transfer(1, 1, 1, 11, 300).result(),
            Some(ResultCode::Exists)
        );
        let missing = world.transfer(1, 2, 1, 12, 5);
        assert_eq!(missing.result(), Some(ResultCode::CreditAccountNotFound));
        assert_eq!(
            world.transfer(1, 2, 1, 12, 5).result(),
            Some(ResultCode::IdAlreadyFailed)
        );
        let poor = world.transfer(1, 3, 1, 11, 5000);
        assert_eq!(poor.result(), Some(ResultCode::ExceedsCredits));
        let nobody = world.transfer(1, 4, 8, 11, 5);
        assert_eq!(nobody.result(), Some(ResultCode::DebitAccountNotFound));
        world.assert_replicas_agree(2);
        assert!(
            world
                .replicas
                .values()
                .all(|r| r.ledger().in_doubt().is_empty())
        );
    }
}

#[test]
fn a_batch_of_cross_shard_debits_never_overdraws() {
    let mut world = World::funded(2, 3, Reads::Lease);
    let wanted: Vec<Transfer> = (1..=150)
        .map(|id| Transfer::new(TransferId(id), AccountId(1), AccountId(11), 10, 1, 1))
        .collect();
    let rows = world.results(1, RequestBody::CreateTransfers(Rows::from_slice(&wanted)));
    let ok = rows
        .iter()
        .filter(|row| row.result() == Some(ResultCode::Ok))
        .count();
    let refused = rows
        .iter()
        .filter(|row| row.result() == Some(ResultCode::ExceedsCredits))
        .count();
    assert_eq!((ok, refused), (100, 50));
    assert_eq!((world.balance(1, 1), world.balance(2, 11)), (0, 1000));
}

#[test]
fn an_account_moves_with_its_history_and_is_found() {
    let mut world = World::funded(3, 3, Reads::Lease);
    assert_eq!(
        world.transfer(1, 50, 1, 2, 300).result(),
        Some(ResultCode::Ok)
    );
    let accounts = Rows::from_slice(&[AccountId(1)]);
    let body = RequestBody::MoveAccounts {
        id: MoveId(5),
        target: ShardId(2),
        accounts,
    };
    let answer = world.ask(1, body.clone());
    assert!(
        matches!(
            answer,
            ReplyBody::Move(MoveAnswer::Moved { accounts: 1, .. })
        ),
        "{answer:?}"
    );
    assert!(matches!(
        world.ask(1, body),
        ReplyBody::Move(MoveAnswer::Moved { .. })
    ));
    // As many accounts under the same id are not the same move: account 2 is still here.
    let other = RequestBody::MoveAccounts {
        id: MoveId(5),
        target: ShardId(2),
        accounts: Rows::from_slice(&[AccountId(2)]),
    };
    assert_eq!(world.ask(1, other), ReplyBody::Move(MoveAnswer::Refused));
    let moved = world.transfer(1, 51, 1, 2, 1);
    assert_eq!(
        (moved.result(), moved.shard),
        (Some(ResultCode::Moved), ShardId(2))
    );
    // A retry of an id that ran at the previous owner, and of one that did not.
    assert_eq!(
        world.transfer(2, 50, 1, 2, 300).result(),
        Some(ResultCode::Exists)
    );
    assert_eq!(
        world.transfer(2, 49, 1, 2, 100).result(),
        Some(ResultCode::Ok)
    );
    assert_eq!(
        world.transfer(2, 51, 1, 11, 100).result(),
        Some(ResultCode::Ok)
    );
    // The credit side follows the account too, from a shard that has never heard of the move.
    world.create(3, 21, AccountFlags::default());
    assert_eq!(
        world.transfer(3, 52, 21, 1, 40).result(),
        Some(ResultCode::Ok)
    );
    assert_eq!(world.balance(2, 1), 540);
    world.run_until(world.now_ns + SECOND);
    let accounts = Rows::from_slice(&[AccountId(1)]);
    let back = RequestBody::MoveAccounts {
        id: MoveId(6),
        target: ShardId(1),
        accounts,
    };
    assert!(matches!(
        world.ask(2, back),
        ReplyBody::Move(MoveAnswer::Moved { .. })
    ));
    assert_eq!(
        world.transfer(1, 51, 1, 11, 100).result(),
        Some(ResultCode::Exists)
    );
    assert_eq!(
        world.transfer(1, 50, 1, 2, 300).result(),
        Some(ResultCode::Exists)
    );
    assert_eq!(world.balance(1, 1), 540);
    world.assert_replicas_agree(3);
}

#[test]
fn a_consistent_cut_adds_up_over_shards() {
    let mut world = World::funded(2, 3, Reads::Lease);
    assert_eq!(
        world.transfer(1, 50, 1, 11, 300).result(),
        Some(ResultCode::Ok)
    );
    let at = Timestamp(world.now().wall_ns + 50 * MS);
    for shard in [1, 2] {
        let answer = world.ask(shard, RequestBody::CutRegister { at });
        assert_eq!(answer, ReplyBody::Cut(CutAnswer::Registered));
    }
    let mut posted = (0, 0);
    let mut owned = (0, 0);
    for shard in [1, 2] {
        match world.ask(shard, RequestBody::CutSums { at }) {
            ReplyBody::Cut(CutAnswer::Sums(sums)) => {
                posted.0 += sums.ledgers[0].debits_posted.to_u128().unwrap();
                posted.1 += sums.ledgers[0].credits_posted.to_u128().unwrap();
                owned.0 += sums.owned;
                owned.1 += sums.created;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(posted, (1300, 1300));
    assert_eq!(owned, (4, 4));
    world.run_until(world.now_ns + SECOND);
    let digests: Vec<ReplyBody> = (0..2)
        .map(|_| world.ask(1, RequestBody::CutDigest { at }))
        .collect();
    assert!(
        matches!(digests[0], ReplyBody::Cut(CutAnswer::Digest { .. })),
        "{digests:?}"
    );
}

/// One id for two payments to one shard: legal, because two shards decide them. The shard of the credits
/// showed one of them, so that the other payment looked like lost money.
#[test]
fn a_look_up_shows_every_credit_under_an_id() {
    let mut world = World::new(3, 1, Reads::Lease);
    for (shard, id) in [(1, 1), (2, 11), (3, 21)] {
        world.create(shard, id, AccountFlags::default());
    }
    // Enough ids that all their credits together exceed a reply.
    let ids: Vec<TransferId> = (50..50 + 1600).map(TransferId).collect();
    for (shard, debit) in [(1, 1), (2, 11)] {
        let pay = |&id| Transfer::new(id, AccountId(debit), AccountId(21), 5, 1, 1);
        let transfers: Vec<Transfer> = ids.iter().map(pay).collect();
        let body = RequestBody::CreateTransfers(Rows::from_slice(&transfers));
        let results = world.results(shard, body);
        assert!(
            results
                .iter()
                .all(|row| row.result() == Some(ResultCode::Ok))
        );
    }
    let look_up = |ids: &[TransferId]| RequestBody::LookupTransfers(Rows::from_slice(ids));
    assert_eq!(world.balance(3, 21), 2 * 5 * 1600);
    match world.ask(3, look_up(&ids[..1])) {
        ReplyBody::Transfers(answers) => {
            assert!(answers[0].debit.is_none());
            let credits = answers[0].credits.iter();
            let debited: Vec<u128> = credits
                .map(|credit| credit.transfer.debit_account_id.0)
                .collect();
            assert_eq!(debited, [1, 11]);
        }
        other => panic!("{other:?}"),
    }
    let refused = world.ask(3, look_up(&ids));
    assert!(matches!(refused, ReplyBody::BadRequest(_)), "{refused:?}");
    let half = world.ask(3, look_up(&ids[..800]));
    assert!(matches!(half, ReplyBody::Transfers(_)), "{half:?}");
}

/// Two hosts whose clocks are 30 s apart: the one behind refuses what the other says. It did so in
/// silence, and its `status` looked as if nobody had sent anything.
#[test]
fn refusing_a_peer_for_its_clock_is_told_while_it_lasts() {
    let mut world = World::new(1, 3, Reads::Lease);
    let at = world.leader(1).expect("a leader");
    let reason = |world: &World| world.replicas[&at].status().reason;
    assert_eq!(reason(&world), "");
    let from = ReplicaAddress {
        replica: ReplicaId(at.replica.0 % 3 + 1),
        ..at
    };
    let ballot = world.replicas[&at].status().ballot;
    let message = PeerMessage {
        clock: Timestamp(world.now().wall_ns + 30 * SECOND),
        body: PeerBody::Paxos(paxos::message::Message::LeadNow { ballot }),
    };
    world.step(at, Input::Peer { from, message });
    let told = reason(&world);
    assert!(
        told.contains("30 s ahead") && told.contains("1 messages"),
        "{told}"
    );
    assert!(told.contains(&from.to_string()), "{told}");
    world.run_until(world.now_ns + 11 * SECOND);
    assert_eq!(reason(&world), "", "the clock was set right");
}

/// Whatever is refused holds nothing, and what was begun before ends: a shard whose leader's disk is full still
/// decides what others have prepared with it.
#[test]
fn a_leader_with_a_full_disk_begins_nothing_and_finishes_what_was_begun() {
    let mut world = World::funded(2, 3, Reads::Lease);
    let full = world.leader(2).expect("a leader");
    // Prepared at shard 2, and not decided: the decision is on its way when the disk fills up.
    let transfer = Transfer::new(TransferId(50), AccountId(1), AccountId(11), 100, 1, 1);
    world.requests += 1;
    let request = Request {
        id: RequestId(world.requests),
        deadline_ms: 0,
        seen: Timestamp::ZERO,
        body: RequestBody::CreateTransfers(Rows::from_slice(&[transfer])),
    };
    let input = Input::Client {
        connection: ConnectionId(1),
        request,
    };
    let debit_side = world.leader(1).expect("a leader");
    world.step(debit_side, input);
    while world.replicas[&full].ledger().in_doubt().is_empty() {
        match world.inbox.pop_front() {
            Some((at, input)) => world.step(at, input),
            None => world.tick(),
        }
    }
    world.step(full, Input::DiskFull { is_full: true });
    world.run_until(world.now_ns + SECOND);
    assert!(world.replicas[&full].ledger().in_doubt().is_empty());
    assert_eq!((world.balance(1, 1), world.balance(2, 11)), (900, 100));

    let account = Account::new(AccountId(12), 1, 1, AccountFlags::default());
    let create = RequestBody::CreateAccounts(Rows::from_slice(&[account]));
    assert_eq!(world.ask(2, create.clone()), ReplyBody::Busy);
    let pay = Transfer::new(TransferId(51), AccountId(11), AccountId(1), 1, 1, 1);
    let pay = RequestBody::CreateTransfers(Rows::from_slice(&[pay]));
    assert_eq!(world.ask(2, pay.clone()), ReplyBody::Busy);
    let leave = RequestBody::MoveAccounts {
        id: MoveId(7),
        target: ShardId(1),
        accounts: Rows::from_slice(&[AccountId(11)]),
    };
    assert_eq!(world.ask(2, leave), ReplyBody::Busy);
    // Nobody else's work is begun here either, and nothing of it is left.
    let refused = world.transfer(1, 52, 1, 11, 1).result();
    assert_eq!(refused, Some(ResultCode::Contended));
    assert_eq!((world.balance(1, 1), world.balance(2, 11)), (900, 100));
    let ReplyBody::Status(status) = world.ask(2, RequestBody::Status) else {
        panic!("no status");
    };
    assert!(status.reason.contains("disk is full"), "{}", status.reason);
    let at = Timestamp(world.now().wall_ns + 50 * MS);
    let cut = world.ask(2, RequestBody::CutRegister { at });
    assert_eq!(cut, ReplyBody::Cut(CutAnswer::Registered));

    world.step(full, Input::DiskFull { is_full: false });
    assert!(matches!(world.ask(2, create), ReplyBody::Results(_)));
    assert!(matches!(world.ask(2, pay), ReplyBody::Results(_)));
    let paid = world.transfer(1, 52, 1, 11, 1).result();
    assert_eq!(paid, Some(ResultCode::Ok));
    world.assert_replicas_agree(2);
}

/// A shard of three, and how many batches of more than a step's share have been answered without any time passing: nobody ticks.
struct WithoutTime {
    world: World,
    leader: ReplicaAddress,
    followers: Vec<ReplicaAddress>,
    batches: u128,
}

impl WithoutTime {
    fn new() -> Self {
        let world = World::funded(2, 3, Reads::Lease);
        let leader = world.leader(1).expect("a leader");
        let group = world.replicas.keys().copied();
        let followers = group.filter(|at| at.shard == leader.shard && *at != leader);
        Self {
            followers: followers.collect(),
            leader,
            world,
            batches: 0,
        }
    }

    fn answer_a_batch(&mut self) {
        self.batches += 1;
        let transfer = |id| Transfer::new(TransferId(id), AccountId(1), AccountId(2), 1, 1, 1);
        let ids = self.batches * 1_000..;
        let transfers: Vec<Transfer> = ids.take(600).map(transfer).collect();
        assert!(size_of_val(transfers.as_slice()) > quorate_protocol::limits::APPLY_BYTES);
        let request = Request {
            id: RequestId(1 << 32),
            deadline_ms: 0,
            seen: Timestamp::ZERO,
            body: RequestBody::CreateTransfers(Rows::from_slice(&transfers)),
        };
        let connection = ConnectionId(1);
        let input = Input::Client {
            connection,
            request,
        };
        self.world.step(self.leader, input);
        while let Some((at, input)) = self.world.inbox.pop_front() {
            self.world.step(at, input);
        }
        assert_eq!(self.world.replies.drain(..).count(), 1);
        assert_eq!(self.behind(self.leader), 0);
    }

    /// Entries that are known to be chosen and not applied.
    fn behind(&self, at: ReplicaAddress) -> u64 {
        let replica = &self.world.replicas[&at];
        let (applied, chosen) = (replica.ledger().applied(), replica.status().chosen_upto);
        assert_eq!(replica.is_apply_put_off(), applied < chosen);
        assert!(!replica.is_apply_put_off() || replica.deadline_ns() == 0);
        chosen.0 - applied.0
    }
}

/// A full entry takes as long to be applied as to be written. A group's next entry waited for that on the followers, whose
/// answers it needs, before it was even on its way to their disks.
#[test]
fn a_follower_applies_a_large_entry_behind_what_it_has_begun() {
    let mut group = WithoutTime::new();
    for _ in 0..3 {
        group.answer_a_batch();
    }
    for at in group.followers.clone() {
        // That the last one is chosen they have not been told yet.
        for left in [1, 0] {
            assert_eq!(group.behind(at), left + 1);
            group.world.step(at, Input::Tick);
            assert_eq!(group.behind(at), left, "one a tick");
        }
    }
    let mut world = group.world;
    assert_eq!((world.balance(1, 1), world.balance(1, 2)), (0, 1_000));
    world.assert_replicas_agree(2);
}

/// Followers that acknowledge faster than they apply would fill their memory and then refuse.
#[test]
fn followers_do_not_fall_behind_by_more_than_a_pipeline() {
    let mut group = WithoutTime::new();
    for _ in 0..3 * PIPELINE_MAX {
        group.answer_a_batch();
        let behind = group.followers.iter().map(|&at| group.behind(at));
        assert!(behind.max() <= Some(PIPELINE_MAX));
    }
    let furthest = group.followers.iter().map(|&at| group.behind(at)).max();
    assert_eq!(furthest, Some(PIPELINE_MAX), "and it comes to that");
    group.world.assert_replicas_agree(2);
}

/// Whoever leads answers from what it has applied.
#[test]
fn a_new_leader_applies_what_it_had_put_off() {
    let mut group = WithoutTime::new();
    for _ in 0..4 {
        group.answer_a_batch();
    }
    let (old, next) = (group.leader, group.followers[0]);
    assert_eq!(group.behind(next), 3);
    group.world.replicas.remove(&old);
    group.world.now_ns += 3 * SECOND;
    group.world.step(next, Input::Tick);
    assert_eq!(group.behind(next), 2, "one a tick, and it campaigns");
    while let Some((at, input)) = group.world.inbox.pop_front() {
        if at != old {
            group.world.step(at, input);
        }
    }
    assert_eq!(group.world.leader(1), Some(next));
    assert_eq!(group.behind(next), 0);
    assert_eq!(group.world.balance(1, 2), 1_000);
}
