//! The session against scripted replicas and against a model cluster that loses, delays, moves,
//! refuses and changes leaders.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{AccountAnswer, Reply, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, Ballot, ClusterId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::ids::{RequestId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{BATCH_MAX, REDIRECTS_MAX, REQUESTS_PER_CONNECTION_MAX};
use quorate_protocol::shard::map::{Placement, splitmix64};
use quorate_protocol::time::{MS, SECOND, Timestamp};
use quorate_protocol::words::Rows;

use super::{Cause, Outcome, Outgoing, Router, Session, Work};
use crate::topology::Topology;

const ACCOUNTS_PER_SHARD: u64 = 100;
const DEADLINE_NS: u64 = 5 * SECOND;

fn topology() -> Topology {
    Topology {
        cluster: ClusterId(1),
        shards: 3,
        replicas: 3,
        placement: Placement::Range {
            accounts_per_shard: ACCOUNTS_PER_SHARD,
        },
        preferred_leaders: vec![ReplicaId(1); 3],
    }
}

fn session() -> Session {
    Session::new(Router::new(topology(), 99))
}

fn at(shard: u32, replica: u8) -> ReplicaAddress {
    ReplicaAddress {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

/// Debit accounts 1..=100 are at home in shard 1, 101..=200 in shard 2, the rest in shard 3.
fn transfer(id: u128, debit: u128) -> Transfer {
    Transfer::new(TransferId(id), AccountId(debit), AccountId(1000), 1, 1, 1)
}

fn transfers(rows: &[Transfer]) -> Work {
    Work::CreateTransfers(Rows::from_slice(rows))
}

fn sends(session: &mut Session, now_ns: u64) -> Vec<Outgoing> {
    session.tick(now_ns);
    std::iter::from_fn(|| session.poll_send(now_ns)).collect()
}

fn one_send(session: &mut Session, now_ns: u64) -> Outgoing {
    let mut all = sends(session, now_ns);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn reply(id: RequestId, body: ReplyBody) -> Reply {
    Reply {
        id,
        clock: Timestamp(7),
        body,
    }
}

fn answer(session: &mut Session, to: &Outgoing, body: ReplyBody, now_ns: u64) {
    session.on_reply(to.to, reply(to.request.id, body), now_ns);
}

fn results(rows: &[ResultRow]) -> ReplyBody {
    ReplyBody::Results(Rows::from_slice(rows))
}

fn ok() -> ResultRow {
    ResultRow::logged(ResultCode::Ok, Timestamp(50))
}

fn not_leader(leader: Option<u8>, round: u64) -> ReplyBody {
    ReplyBody::NotLeader {
        ballot: Ballot::new(round, ReplicaId(leader.unwrap_or(1))),
        leader: leader.map(ReplicaId),
    }
}

fn rows_of(outcome: Outcome) -> Vec<ResultRow> {
    match outcome {
        Outcome::Results(completed) => completed.rows,
        other => panic!("{other:?}"),
    }
}

fn only_outcome(session: &mut Session) -> Outcome {
    let (_, outcome) = session.poll_done().expect("the work has ended");
    assert!(session.poll_done().is_none() && session.is_idle());
    outcome
}

fn codes(rows: &[ResultRow]) -> Vec<ResultCode> {
    rows.iter().map(|row| row.result().unwrap()).collect()
}

#[test]
fn a_batch_is_split_by_debit_shard_and_put_together_in_order() {
    let mut session = session();
    let rows = [(1, 150), (2, 50), (3, 250), (4, 151), (5, 51)];
    let rows = rows.map(|(id, debit)| transfer(id, debit));
    session.submit(transfers(&rows), DEADLINE_NS);
    let sends = sends(&mut session, 0);
    assert_eq!(sends.len(), 3);
    for (number, send) in (1..).zip(&sends) {
        assert_eq!(send.to, at(number, 1));
        let RequestBody::CreateTransfers(rows) = &send.request.body else {
            panic!("{send:?}");
        };
        // The timestamp tells which row got which result.
        let mut results: Vec<ResultRow> = rows
            .iter()
            .map(|row| {
                let id = u64::try_from(row.id.0).unwrap();
                ResultRow::logged(ResultCode::Ok, Timestamp(id))
            })
            .collect();
        if number == 2 {
            results[0].flags = ResultRow::CROSS_SHARD;
        }
        answer(&mut session, send, super::tests::results(&results), 9);
    }
    let Outcome::Results(completed) = only_outcome(&mut session) else {
        panic!("no results");
    };
    let timestamps: Vec<u64> = completed.rows.iter().map(|row| row.timestamp.0).collect();
    assert_eq!(timestamps, [1, 2, 3, 4, 5]);
    let parts: Vec<_> = completed
        .parts
        .iter()
        .map(|part| (part.shard.0, part.items.clone(), part.cross))
        .collect();
    assert_eq!(
        parts,
        [
            (1, vec![1, 4], false),
            (2, vec![0, 3], true),
            (3, vec![2], false)
        ]
    );
    assert!(
        completed
            .parts
            .iter()
            .all(|part| part.answered_ns == 9 && part.sends == 1)
    );
    assert_eq!(session.router().seen(), Timestamp(7));
}

#[test]
fn requests_carry_at_most_a_batch() {
    let mut session = session();
    let rows: Vec<Transfer> = (1..=u128::try_from(BATCH_MAX).unwrap() * 2 + 1)
        .map(|id| transfer(id, 1))
        .collect();
    session.submit(transfers(&rows), DEADLINE_NS);
    let lengths: Vec<usize> = sends(&mut session, 0)
        .iter()
        .map(|send| match &send.request.body {
            RequestBody::CreateTransfers(rows) => rows.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lengths, [BATCH_MAX, BATCH_MAX, 1]);
}

#[test]
fn an_empty_batch_has_its_result_at_once() {
    let mut session = session();
    session.submit(transfers(&[]), DEADLINE_NS);
    assert_eq!(rows_of(only_outcome(&mut session)), []);
}

#[test]
fn a_hint_is_followed_at_once_and_remembered() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
    let first = one_send(&mut session, 0);
    answer(&mut session, &first, not_leader(Some(3), 4), 1);
    let second = one_send(&mut session, 1);
    assert_eq!(second.to, at(1, 3));
    answer(&mut session, &second, results(&[ok()]), 2);
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Ok]
    );
    session.submit(transfers(&[transfer(2, 1)]), DEADLINE_NS);
    assert_eq!(one_send(&mut session, 3).to, at(1, 3));
}

#[test]
fn without_a_hint_the_replicas_are_asked_in_turn_with_growing_waits() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), 60 * SECOND);
    let mut now_ns = 0;
    let mut waits = Vec::new();
    let mut asked = Vec::new();
    for _ in 0..9 {
        let send = one_send(&mut session, now_ns);
        asked.push(send.to.replica.0);
        answer(&mut session, &send, not_leader(None, 1), now_ns);
        assert!(sends(&mut session, now_ns).is_empty());
        let wakeup_ns = session.next_wakeup_ns();
        waits.push((wakeup_ns - now_ns) / MS);
        now_ns = wakeup_ns;
    }
    assert_eq!(asked, [1, 2, 3, 1, 2, 3, 1, 2, 3]);
    assert!((5..=10).contains(&waits[0]), "{waits:?}");
    assert!(
        waits[5..].iter().all(|wait| (100..=200).contains(wait)),
        "{waits:?}"
    );
}

#[test]
fn replicas_that_point_at_each_other_are_not_asked_in_a_tight_circle() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
    let mut asked = 0;
    while let [send] = &sends(&mut session, 0)[..] {
        asked += 1;
        let other = if send.to.replica.0 == 1 { 2 } else { 1 };
        answer(&mut session, send, not_leader(Some(other), 1), 0);
    }
    assert_eq!(asked, REDIRECTS_MAX + 1);
    assert!(session.next_wakeup_ns() >= 5 * MS);
}

#[test]
fn moved_rows_go_to_the_named_shard_and_the_rest_stays_answered() {
    let mut session = session();
    let rows = [transfer(1, 1), transfer(2, 2), transfer(3, 3)];
    session.submit(transfers(&rows), DEADLINE_NS);
    let first = one_send(&mut session, 0);
    let moved = ResultRow::moved(ShardId(3));
    answer(&mut session, &first, results(&[ok(), moved, ok()]), 1);
    let second = one_send(&mut session, 1);
    assert_eq!(second.to, at(3, 1));
    assert_eq!(
        second.request.body,
        RequestBody::CreateTransfers(Rows::from_slice(&[transfer(2, 2)]))
    );
    answer(&mut session, &second, results(&[ok()]), 2);
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Ok; 3]
    );
    // Learnt: the next one goes there directly, and back home once that is the answer.
    assert_eq!(session.router().shard_of(AccountId(2)), ShardId(3));
    session.submit(transfers(&[transfer(4, 2)]), DEADLINE_NS);
    let third = one_send(&mut session, 3);
    assert_eq!(third.to, at(3, 1));
    answer(
        &mut session,
        &third,
        results(&[ResultRow::moved(ShardId(1))]),
        4,
    );
    assert_eq!(session.router().shard_of(AccountId(2)), ShardId(1));
}

/// An account that went once around eight shards while a client was away.
#[test]
fn stubs_are_followed_over_all_shards() {
    let topology = Topology {
        shards: 8,
        preferred_leaders: vec![ReplicaId(1); 8],
        ..topology()
    };
    let mut session = Session::new(Router::new(topology, 99));
    session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
    let mut asked = 1;
    let mut send = one_send(&mut session, 0);
    while asked < 8 {
        let next = ShardId(send.to.shard.0 % 8 + 1);
        answer(&mut session, &send, results(&[ResultRow::moved(next)]), 0);
        send = one_send(&mut session, 0);
        assert_eq!(send.to.shard, next);
        asked += 1;
    }
    answer(&mut session, &send, results(&[ok()]), 1);
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Ok]
    );
}

#[test]
fn redirects_are_bounded_and_a_shard_that_does_not_exist_is_not_followed() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
    let mut redirects = 0;
    while let [send] = &sends(&mut session, 0)[..] {
        redirects += 1;
        let next = ShardId(send.to.shard.0 % 3 + 1);
        answer(&mut session, send, results(&[ResultRow::moved(next)]), 0);
    }
    assert_eq!(redirects, REDIRECTS_MAX + 1);
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Moved]
    );
    session.submit(transfers(&[transfer(2, 150)]), DEADLINE_NS);
    let send = one_send(&mut session, 0);
    answer(
        &mut session,
        &send,
        results(&[ResultRow::moved(ShardId(4))]),
        0,
    );
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Moved]
    );
}

#[test]
fn busy_and_contended_rows_are_tried_until_the_deadline_and_then_reported() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1), transfer(2, 2)]), SECOND);
    let mut now_ns = 0;
    let mut tries = 0;
    while !session.is_idle() {
        for send in sends(&mut session, now_ns) {
            tries += 1;
            let rows = [
                ResultRow::unlogged(ResultCode::Contended),
                ResultRow::unlogged(ResultCode::Busy),
            ];
            answer(&mut session, &send, results(&rows), now_ns);
        }
        now_ns = session.next_wakeup_ns();
    }
    assert!((6..20).contains(&tries), "{tries}");
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Contended, ResultCode::Busy]
    );
}

#[test]
fn a_lost_connection_makes_rows_unknown_unless_a_later_answer_is_final() {
    for final_answer in [
        None,
        Some(ResultCode::Exists),
        Some(ResultCode::ExceedsCredits),
    ] {
        let mut session = session();
        session.submit(transfers(&[transfer(1, 1)]), SECOND);
        let first = one_send(&mut session, 0);
        session.on_disconnected(first.to, 1);
        let mut now_ns = session.next_wakeup_ns();
        let second = one_send(&mut session, now_ns);
        assert_eq!(
            second.to,
            at(1, 2),
            "the one that broke is not asked again first"
        );
        assert_eq!(second.request.body, first.request.body, "same ids");
        assert_ne!(second.request.id, first.request.id);
        match final_answer {
            Some(code) => {
                let row = ResultRow::logged(code, Timestamp(3));
                answer(&mut session, &second, results(&[row]), now_ns);
            }
            // "Busy" says nothing about the first send.
            None => {
                let row = ResultRow::unlogged(ResultCode::Busy);
                answer(&mut session, &second, results(&[row]), now_ns);
            }
        }
        while !session.is_idle() {
            now_ns = session.next_wakeup_ns();
            session.tick(now_ns);
        }
        let expected = final_answer.unwrap_or(ResultCode::Unknown);
        assert_eq!(codes(&rows_of(only_outcome(&mut session))), [expected]);
    }
}

#[test]
fn rows_that_no_leader_was_reached_for_did_nothing() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), SECOND);
    let mut now_ns = 0;
    let mut dialled = BTreeSet::new();
    while !session.is_idle() {
        for send in sends(&mut session, now_ns) {
            dialled.insert(send.to);
            session.on_dial_failed(send.to, now_ns);
        }
        now_ns = session.next_wakeup_ns();
    }
    assert_eq!(dialled.len(), 3);
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::NotLeader]
    );
}

/// Whoever has another cluster's configuration asked until the deadline.
#[test]
fn a_refusal_for_good_ends_the_work_at_once() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
    let send = one_send(&mut session, 0);
    session.on_refused(send.to, "another genesis");
    assert_eq!(
        only_outcome(&mut session),
        Outcome::BadRequest("another genesis".to_owned())
    );
    assert!(session.is_idle());
}

#[test]
fn silence_is_given_up_after_an_attempt_and_the_next_replica_is_asked() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
    let first = one_send(&mut session, 0);
    assert_eq!(first.request.deadline_ms, 2000);
    let now_ns = session.next_wakeup_ns();
    assert_eq!(now_ns, 2200 * MS);
    assert!(sends(&mut session, now_ns).is_empty());
    let now_ns = session.next_wakeup_ns();
    let second = one_send(&mut session, now_ns);
    assert_eq!(second.to, at(1, 2));
    // The late answer to the first send is not an answer to the second.
    answer(&mut session, &first, results(&[ok()]), now_ns);
    assert!(session.poll_done().is_none());
    answer(&mut session, &second, results(&[ok()]), now_ns);
    assert_eq!(
        codes(&rows_of(only_outcome(&mut session))),
        [ResultCode::Ok]
    );
}

#[test]
fn the_named_deadline_never_exceeds_what_is_left() {
    let mut session = session();
    session.submit(transfers(&[transfer(1, 1)]), 300 * MS);
    assert_eq!(one_send(&mut session, 100 * MS).request.deadline_ms, 200);
    session.submit(transfers(&[transfer(2, 1)]), 100 * MS + 1);
    assert_eq!(one_send(&mut session, 100 * MS).request.deadline_ms, 1);
}

#[test]
fn requests_in_flight_per_replica_are_bounded() {
    let mut session = session();
    for id in 0..u128::try_from(REQUESTS_PER_CONNECTION_MAX).unwrap() * 2 {
        session.submit(transfers(&[transfer(id, 1)]), DEADLINE_NS);
    }
    let first = sends(&mut session, 0);
    assert_eq!(first.len(), REQUESTS_PER_CONNECTION_MAX);
    answer(&mut session, &first[5], results(&[ok()]), 1);
    assert_eq!(sends(&mut session, 1).len(), 1);
    // Other shards are not held up.
    session.submit(transfers(&[transfer(9999, 150)]), DEADLINE_NS);
    assert_eq!(one_send(&mut session, 1).to, at(2, 1));
    // Bytes count too: 16 full batches are just 16 MiB.
    let rows: Vec<Transfer> = (0..u128::try_from(BATCH_MAX).unwrap())
        .map(|id| transfer(10_000 + id, 250))
        .collect();
    for _ in 0..20 {
        session.submit(transfers(&rows), DEADLINE_NS);
    }
    assert_eq!(sends(&mut session, 1).len(), 16);
}

#[test]
fn a_request_to_one_replica_is_sent_once_and_every_answer_stands() {
    let mut session = session();
    let work = || Work::Replica(at(2, 3), RequestBody::Status);
    session.submit(work(), DEADLINE_NS);
    let send = one_send(&mut session, 0);
    assert_eq!(send.to, at(2, 3));
    answer(&mut session, &send, not_leader(Some(1), 1), 1);
    let expected = Outcome::Reply(not_leader(Some(1), 1));
    assert_eq!(only_outcome(&mut session), expected);

    session.submit(work(), DEADLINE_NS);
    let send = one_send(&mut session, 2);
    session.on_dial_failed(send.to, 2);
    assert_eq!(
        only_outcome(&mut session),
        Outcome::NoAnswer(Cause::Unreachable)
    );

    session.submit(work(), DEADLINE_NS);
    let send = one_send(&mut session, 3);
    session.on_disconnected(send.to, 3);
    assert_eq!(
        only_outcome(&mut session),
        Outcome::NoAnswer(Cause::Disconnected)
    );
}

#[test]
fn look_ups_follow_moves_and_have_no_answer_if_one_is_missing() {
    let mut session = session();
    let ids = Rows::from_slice(&[AccountId(150), AccountId(1)]);
    session.submit(Work::LookupAccounts(ids.clone()), DEADLINE_NS);
    for send in sends(&mut session, 0) {
        let found = match send.to.shard.0 {
            1 => AccountAnswer::Moved(ShardId(2)),
            _ => AccountAnswer::NotFound,
        };
        answer(&mut session, &send, ReplyBody::Accounts(vec![found]), 0);
    }
    let send = one_send(&mut session, 0);
    assert_eq!(send.to, at(2, 1));
    let found = AccountAnswer::Found(Account::new(AccountId(2), 1, 1, AccountFlags::default()));
    let body = ReplyBody::Accounts(vec![found.clone()]);
    answer(&mut session, &send, body, 0);
    let expected = vec![AccountAnswer::NotFound, found];
    assert_eq!(only_outcome(&mut session), Outcome::Accounts(expected));

    let mut session = self::session();
    session.submit(Work::LookupAccounts(ids), SECOND);
    let send = sends(&mut session, 0).remove(0);
    answer(
        &mut session,
        &send,
        ReplyBody::Accounts(vec![AccountAnswer::NotFound]),
        0,
    );
    session.tick(SECOND);
    assert!(matches!(only_outcome(&mut session), Outcome::NoAnswer(_)));
}

/// Fifty kills during moves: a leader that lost its place while a transaction was open on one of the
/// accounts answered "contended", and the client took that for the end of the read, two seconds into
/// its ten.
#[test]
fn a_contended_look_up_is_asked_again_until_the_deadline_and_then_reported() {
    let ids = Rows::from_slice(&[AccountId(1), AccountId(2)]);
    let found = AccountAnswer::Found(Account::new(AccountId(2), 1, 1, AccountFlags::default()));
    let contended = ReplyBody::Accounts(vec![found.clone(), AccountAnswer::Contended]);

    let mut session = session();
    session.submit(Work::LookupAccounts(ids.clone()), DEADLINE_NS);
    let send = one_send(&mut session, 0);
    answer(&mut session, &send, contended.clone(), 0);
    assert!(sends(&mut session, 0).is_empty(), "not at once");
    let send = one_send(&mut session, SECOND);
    let asked = RequestBody::LookupAccounts(Rows::from_slice(&[AccountId(2)]));
    assert_eq!(send.request.body, asked, "only what is open");
    let body = ReplyBody::Accounts(vec![found.clone()]);
    answer(&mut session, &send, body, SECOND);
    let expected = vec![found.clone(), found.clone()];
    assert_eq!(only_outcome(&mut session), Outcome::Accounts(expected));

    session.submit(Work::LookupAccounts(ids), 2 * SECOND);
    let send = one_send(&mut session, SECOND);
    answer(&mut session, &send, contended, SECOND);
    session.tick(2 * SECOND);
    let expected = vec![found, AccountAnswer::Contended];
    assert_eq!(only_outcome(&mut session), Outcome::Accounts(expected));
}

#[test]
fn an_answer_of_the_wrong_shape_ends_the_work_with_a_reason() {
    for body in [
        results(&[ok(), ok()]),
        ReplyBody::Done,
        ReplyBody::BadRequest("no".into()),
    ] {
        let mut session = session();
        session.submit(transfers(&[transfer(1, 1)]), DEADLINE_NS);
        let send = one_send(&mut session, 0);
        answer(&mut session, &send, body, 1);
        assert!(matches!(only_outcome(&mut session), Outcome::BadRequest(_)));
    }
}

/// A cluster that does whatever a real one may do to a client, as dice fall.
struct Model {
    dice: u64,
    leaders: BTreeMap<ShardId, u8>,
    /// Accounts that have left their home.
    owners: BTreeMap<AccountId, ShardId>,
    executed: BTreeMap<TransferId, u32>,
    connected: BTreeSet<ReplicaAddress>,
    /// On the way to a replica, and on the way back.
    requests: Vec<Outgoing>,
    replies: Vec<(ReplicaAddress, Reply)>,
}

impl Model {
    fn new(seed: u64) -> Self {
        Self {
            dice: seed << 32,
            leaders: (1..=3).map(|shard| (ShardId(shard), 1)).collect(),
            owners: BTreeMap::new(),
            executed: BTreeMap::new(),
            connected: BTreeSet::new(),
            requests: Vec::new(),
            replies: Vec::new(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice += 1;
        usize::try_from(splitmix64(self.dice) % u64::try_from(end).unwrap()).unwrap()
    }

    fn owner(&self, account: AccountId) -> ShardId {
        let home = topology().placement.home(account, 3);
        self.owners.get(&account).copied().unwrap_or(home)
    }

    /// A replica takes a request; its answer, if it gives one.
    fn execute(&mut self, outgoing: &Outgoing) -> ReplyBody {
        let shard = outgoing.to.shard;
        if self.leaders[&shard] != outgoing.to.replica.0 {
            let hint = (self.below(2) == 0).then_some(self.leaders[&shard]);
            return not_leader(hint, 1);
        }
        match self.below(12) {
            0 => return ReplyBody::Busy,
            1 => return ReplyBody::Unknown,
            _ => {}
        }
        let RequestBody::CreateTransfers(rows) = &outgoing.request.body else {
            panic!("the test only sends transfers");
        };
        let rows: Vec<ResultRow> = rows
            .iter()
            .map(|row| self.execute_row(shard, row))
            .collect();
        results(&rows)
    }

    fn execute_row(&mut self, shard: ShardId, row: &Transfer) -> ResultRow {
        let owner = self.owner(row.debit_account_id);
        if owner != shard {
            return ResultRow::moved(owner);
        }
        if self.executed.contains_key(&row.id) {
            return ResultRow::logged(ResultCode::Exists, Timestamp(1));
        }
        match self.below(12) {
            0 => ResultRow::unlogged(ResultCode::Contended),
            1 => ResultRow::unlogged(ResultCode::Unknown),
            2 => {
                *self.executed.entry(row.id).or_default() += 1;
                ResultRow::unlogged(ResultCode::Unknown)
            }
            _ => {
                *self.executed.entry(row.id).or_default() += 1;
                ok()
            }
        }
    }

    /// One random event.
    fn step(&mut self, session: &mut Session, now_ns: u64) {
        match self.below(40) {
            0 => {
                let shard = ShardId(u32::try_from(1 + self.below(3)).unwrap());
                let leader = u8::try_from(1 + self.below(3)).unwrap();
                self.leaders.insert(shard, leader);
            }
            1 => {
                let account = AccountId(u128::try_from(1 + self.below(300)).unwrap());
                let shard = ShardId(u32::try_from(1 + self.below(3)).unwrap());
                self.owners.insert(account, shard);
            }
            2 => {
                let shard = u32::try_from(1 + self.below(3)).unwrap();
                let replica = at(shard, u8::try_from(1 + self.below(3)).unwrap());
                // Its replies are lost; its requests may or may not arrive.
                self.replies.retain(|(from, _)| *from != replica);
                self.connected.remove(&replica);
                session.on_disconnected(replica, now_ns);
            }
            3..=12 if !self.requests.is_empty() => {
                let index = self.below(self.requests.len());
                let outgoing = self.requests.swap_remove(index);
                let body = self.execute(&outgoing);
                if self.below(15) != 0 {
                    let reply = reply(outgoing.request.id, body);
                    self.replies.push((outgoing.to, reply));
                }
            }
            13..=22 if !self.replies.is_empty() => {
                let index = self.below(self.replies.len());
                let (from, reply) = self.replies.swap_remove(index);
                session.on_reply(from, reply, now_ns);
            }
            _ => {
                session.tick(now_ns);
                while let Some(outgoing) = session.poll_send(now_ns) {
                    if !self.connected.contains(&outgoing.to) && self.below(3) == 0 {
                        session.on_dial_failed(outgoing.to, now_ns);
                        continue;
                    }
                    self.connected.insert(outgoing.to);
                    if self.below(12) != 0 {
                        self.requests.push(outgoing);
                    }
                }
            }
        }
    }
}

/// What every result promises, whatever happens: success took effect once, "nothing was done" never
/// takes effect, not even by a request that is still on its way.
#[test]
fn every_row_gets_one_result_and_the_result_is_true() {
    let mut seen = BTreeMap::<&str, u32>::new();
    for seed in 1..=300 {
        let mut model = Model::new(seed);
        let mut session = session();
        let mut now_ns = 0;
        let mut submitted = BTreeMap::new();
        let mut outcomes = BTreeMap::new();
        let mut next_id = 1;
        for _ in 0..1500 {
            if model.below(60) == 0 && submitted.len() < 12 {
                let rows: Vec<Transfer> = (0..model.below(20))
                    .map(|_| {
                        next_id += 1;
                        transfer(next_id, u128::try_from(1 + model.below(300)).unwrap())
                    })
                    .collect();
                let patience_ns = u64::try_from(1 + model.below(3000)).unwrap() * MS;
                let id = session.submit(transfers(&rows), now_ns + patience_ns);
                submitted.insert(id, rows);
            }
            model.step(&mut session, now_ns);
            now_ns += u64::try_from(model.below(10)).unwrap() * MS;
            while let Some((id, outcome)) = session.poll_done() {
                assert!(outcomes.insert(id, outcome).is_none(), "two outcomes");
            }
        }
        session.tick(now_ns + 10 * SECOND);
        while let Some((id, outcome)) = session.poll_done() {
            assert!(outcomes.insert(id, outcome).is_none(), "two outcomes");
        }
        assert!(session.is_idle());
        // What is still on its way arrives at last, at replicas that execute everything they may.
        let leaders = [1, 2, 3];
        for outgoing in std::mem::take(&mut model.requests) {
            for leader in leaders {
                model.leaders.insert(outgoing.to.shard, leader);
                model.execute(&outgoing);
            }
        }
        assert_eq!(outcomes.len(), submitted.len());
        for (id, rows) in submitted {
            let Some(Outcome::Results(completed)) = outcomes.remove(&id) else {
                panic!("{id:?} has no results");
            };
            assert_eq!(completed.rows.len(), rows.len());
            for (row, result) in rows.iter().zip(&completed.rows) {
                let code = result.result().unwrap();
                let executed = model.executed.get(&row.id).copied().unwrap_or(0);
                *seen.entry(code.name()).or_default() += 1;
                match code {
                    ResultCode::Unknown => assert!(executed <= 1),
                    code if code.is_success() => assert_eq!(executed, 1),
                    code => assert_eq!(executed, 0, "seed {seed}: {} but done", code.name()),
                }
            }
            let mut items: Vec<u32> = completed
                .parts
                .into_iter()
                .flat_map(|part| part.items)
                .collect();
            items.sort_unstable();
            let mut once = items.clone();
            once.dedup();
            assert_eq!(items, once, "a row is in two parts");
        }
    }
    // The test means something only if all kinds of ends occurred.
    for name in [
        "ok",
        "exists",
        "unknown",
        "contended",
        "busy",
        "not_leader",
        "moved",
    ] {
        assert!(seen.contains_key(name), "{name} never occurred: {seen:?}");
    }
}
