//! The session against scripted replicas and against a model cluster that loses, delays, moves,
//! refuses and changes leaders.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{AccountAnswer, MapPlace, Reply, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, Ballot, ClusterId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::ids::{RequestId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow, Transfer};
use quorate_protocol::limits::{BATCH_MAX, REDIRECTS_MAX, REQUESTS_PER_CONNECTION_MAX};
use quorate_protocol::shard::map::{Placement, splitmix64};
use quorate_protocol::time::{MS, SECOND, Timestamp};
use quorate_protocol::txn::record::RouteRow;
use quorate_protocol::words::Rows;

use super::{Cause, Outcome, Outgoing, Router, Session, Work};
use crate::topology::Topology;

mod model;

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

/// A plan that is carried out moves accounts by the hundred: a client that is redirected often asks once what else has left.
#[test]
fn a_shard_that_redirects_often_is_asked_once_what_has_left_it() {
    let mut session = session();
    let moved = |rows: usize| results(&vec![ResultRow::moved(ShardId(2)); rows]);
    let batch: Vec<Transfer> = (1..=8).map(|id| transfer(id, id)).collect();
    let op = session.submit(transfers(&batch), DEADLINE_NS);
    let send = one_send(&mut session, 0);
    answer(&mut session, &send, moved(8), 1);
    let asked = |place| RequestBody::MapChanges { place, limit: 1024 };
    let mut both = sends(&mut session, 1);
    both.sort_by_key(|send| send.to);
    let [first, second] = &both[..] else {
        panic!("the rows again, and a question: {both:?}");
    };
    assert_eq!((first.to, second.to), (at(1, 1), at(2, 1)));
    assert_eq!(first.request.body, asked(MapPlace::default()));
    answer(&mut session, second, results(&[ok(); 8]), 2);
    assert_eq!(session.poll_done().map(|(done, _)| done), Some(op));
    // The answer is for nobody but the session.
    let next = MapPlace {
        epoch: 3,
        account: AccountId(90),
    };
    let row = RouteRow {
        account: AccountId(90),
        shard: ShardId(3),
        ownership_epoch: 1,
        epoch: 3,
        reserved: 0,
    };
    let nowhere = RouteRow {
        account: AccountId(91),
        shard: ShardId(9),
        ..row
    };
    assert!(session.is_idle());
    let rows = Rows::from_slice(&[row, nowhere]);
    let body = ReplyBody::MapChanges {
        rows,
        next,
        has_more: false,
    };
    answer(&mut session, first, body, 3);
    assert_eq!(session.poll_done(), None);
    assert_eq!(session.router().shard_of(AccountId(90)), ShardId(3));
    assert_eq!(session.router().shard_of(AccountId(91)), ShardId(1));
    // Fewer redirects are no reason to ask again; more are, from there on; and any is while there is more behind the answer.
    for (id, is_asked) in [(20, false), (40, true), (60, true), (80, true)] {
        let rows: Vec<Transfer> = (id..id + 4).map(|id| transfer(id, id)).collect();
        session.submit(transfers(&rows), DEADLINE_NS);
        let send = one_send(&mut session, 4);
        answer(&mut session, &send, moved(4), 5);
        let sent = sends(&mut session, 5);
        let questions: Vec<&Outgoing> = sent.iter().filter(|it| it.to == at(1, 1)).collect();
        assert_eq!(questions.len(), usize::from(is_asked), "{sent:?}");
        for question in questions {
            assert_eq!(question.request.body, asked(next));
            let more = ReplyBody::MapChanges {
                rows: Rows::empty(),
                next,
                has_more: true,
            };
            answer(&mut session, question, more, 5);
        }
        let again = sent.iter().find(|it| it.to == at(2, 1)).unwrap();
        answer(&mut session, again, results(&[ok(); 4]), 6);
        assert!(session.poll_done().is_some());
    }
}

/// What a shard tells of what has left it may be older than what the owners have answered.
#[test]
fn an_account_that_was_read_is_where_it_was_read() {
    let mut session = session();
    let found = |id: u128, ownership_epoch: u32| {
        AccountAnswer::Found(Account {
            ownership_epoch,
            ..Account::new(AccountId(id), 1, 1, AccountFlags::default())
        })
    };
    let change = |id: u128, shard: u32, ownership_epoch: u32| RouteRow {
        account: AccountId(id),
        shard: ShardId(shard),
        ownership_epoch,
        epoch: 3,
        reserved: 0,
    };
    let changes = |row: RouteRow| ReplyBody::MapChanges {
        rows: Rows::from_slice(&[row]),
        next: MapPlace::default(),
        has_more: false,
    };
    // Eight accounts of the first shard have moved on twice; the ninth was away, and is at home again.
    let ids: Vec<AccountId> = (1..=9).map(AccountId).collect();
    session.submit(Work::LookupAccounts(Rows::from_slice(&ids)), DEADLINE_NS);
    let home = one_send(&mut session, 0);
    let mut answers = vec![AccountAnswer::Moved(ShardId(2)); 8];
    answers.push(found(9, 3));
    answer(&mut session, &home, ReplyBody::Accounts(answers), 1);
    let sent = sends(&mut session, 1);
    let to = |sent: &[Outgoing], shard| sent.iter().find(|it| it.to == at(shard, 1)).cloned();
    let (question_1, middle) = (to(&sent, 1).unwrap(), to(&sent, 2).unwrap());
    let moved = ReplyBody::Accounts(vec![AccountAnswer::Moved(ShardId(3)); 8]);
    answer(&mut session, &middle, moved, 2);
    let sent = sends(&mut session, 2);
    let (question_2, last) = (to(&sent, 2).unwrap(), to(&sent, 3).unwrap());
    let owned = (1..=8).map(|id| found(id, 5)).collect();
    answer(&mut session, &last, ReplyBody::Accounts(owned), 3);
    assert!(session.poll_done().is_some());
    answer(&mut session, &question_1, changes(change(1, 2, 4)), 4);
    answer(&mut session, &question_2, changes(change(9, 3, 2)), 4);
    assert_eq!(session.router().shard_of(AccountId(1)), ShardId(3));
    assert_eq!(session.router().shard_of(AccountId(9)), ShardId(1));
}
