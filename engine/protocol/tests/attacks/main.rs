//! Attacks on whole replicas: what a hostile, silent or late shard, or a hostile client, can do to
//! the others. Crashes, loss and reordering are the simulator's business.

mod world;

use quorate_protocol::client::{MoveAnswer, ReplyBody, RequestBody};
use quorate_protocol::entry::MoveSection;
use quorate_protocol::ids::{AccountId, MoveId, ShardId, TransferId};
use quorate_protocol::ledger::history::HistoryPosition;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode};
use quorate_protocol::limits::{BATCH_MAX, JOINED_MAX};
use quorate_protocol::time::{MS, SECOND, Timestamp};
use quorate_protocol::txn::message::{LookUpRow, LookedUpRow, Message};
use quorate_protocol::txn::record::{
    MoveHead, MovedAccountRow, PreviousOwnerRow, Subject, TxnId, TxnRow, Verdict,
};
use quorate_protocol::words::Rows;

use world::{GHOST, World, balance_of, ghost_attempt, lookup, transfer, transfers};

const OK: Option<ResultCode> = Some(ResultCode::Ok);

fn move_to(target: u32, id: u128, account: u128) -> RequestBody {
    RequestBody::MoveAccounts {
        id: MoveId(id),
        target: ShardId(target),
        accounts: Rows::from_slice(&[AccountId(account)]),
    }
}

fn ghost_move(owners: usize, accounts: &[MovedAccountRow]) -> (MoveHead, Message) {
    let head = MoveHead {
        id: MoveId(70),
        attempt: ghost_attempt(900),
        source: GHOST,
        target: ShardId(2),
        accounts: u32::try_from(accounts.len()).expect("few"),
        owners: u32::try_from(owners).expect("few"),
    };
    let owner = PreviousOwnerRow {
        account: AccountId(21),
        id_max: 0,
        commit_ts: Timestamp(1),
        shard: ShardId(1),
        ownership_epoch: 0,
        last: HistoryPosition::NONE,
        reserved: 0,
    };
    let parts = MoveSection {
        head: &head,
        accounts,
        owners: &vec![owner; owners],
    };
    (head, Message::PrepareMove(parts.to_words()))
}

/// Account 21 with 500 units, which has used ids up to 100 at its home.
fn account_21() -> MovedAccountRow {
    let mut account = Account::new(AccountId(21), 1, 1, AccountFlags::default());
    account.credits_posted = 500;
    MovedAccountRow {
        account,
        id_max: 100,
        version: 3,
        last: HistoryPosition::NONE,
    }
}

impl World {
    /// Account 21 comes from the played shard to shard 2.
    fn receive_21(&mut self) {
        let (head, message) = ghost_move(0, &[account_21()]);
        self.ghost_says(2, message);
        let row = TxnRow {
            timestamp: Timestamp(self.wall_ns()),
            ..TxnRow::new(move_txn(&head), Verdict::Commit)
        };
        self.ghost_says(2, Message::Decides(Rows::from_slice(&[row])));
        assert!(self.leading(2).ledger().account(AccountId(21)).is_some());
    }
}

fn move_txn(head: &MoveHead) -> TxnId {
    TxnId {
        coordinator: head.source,
        subject: Subject::Move,
        id: head.id.0,
        attempt: head.attempt,
    }
}

/// Page 3, rule 7. A debit that depends on an open credit is tried whenever one resolves, but another
/// is open by then, again and again. The rounds were forgotten with every try, so the account was
/// never closed to new prepares and the debit waited to its deadline.
#[test]
fn a_deferred_debit_is_served_while_credits_keep_coming() {
    let mut world = World::new();
    world.ghost_prepares(2, 1, 11, 10, 1);
    let debit = world.send(2, 4_000, transfers(&[transfer(500, 11, 12, 10)]));
    for count in 1..200 {
        world.ghost_prepares(2, u128::from(count) + 1, 11, 10, count + 1);
        world.run_for(2 * MS);
        world.ghost_decides(2, count.into(), count, Verdict::Abort);
        world.run_for(2 * MS);
        if let Some(code) = world.take_code(debit) {
            assert_eq!(code, ResultCode::ExceedsCredits);
            // Once it is served, prepares are welcome again.
            world.ghost_decides(2, u128::from(count) + 1, count + 1, Verdict::Abort);
            world.run_for(100 * MS);
            world.to_ghost.clear();
            world.ghost_prepares(2, 5_000, 11, 10, 5_000);
            assert_eq!(world.votes_at_ghost(), [Verdict::Yes]);
            return;
        }
    }
    panic!("not served in 200 rounds");
}

/// A batch that fits a message but no entry stood at the head of the queue for ever: no later move
/// came through, and the leader filled its log with empty entries.
#[test]
fn a_move_too_large_for_an_entry_blocks_nothing() {
    let mut world = World::new();
    let before = world.leading(2).status().chosen_upto.0;
    let (_, message) = ghost_move(21_844, &[]);
    world.ghost_says(2, message);
    world.run_for(100 * MS);
    let grown = world.leading(2).status().chosen_upto.0 - before;
    assert!(grown < 5, "{grown} entries for nothing");
    world.receive_21();
}

/// A vote that names a shard which does not exist was believed and remembered: every later transfer
/// to the account waited for an answer from nowhere.
#[test]
fn a_vote_that_points_nowhere_is_not_followed() {
    let mut world = World::new();
    for (id, shard) in [(1, 0), (2, 99)] {
        let request = world.send(1, 0, transfers(&[transfer(id, 1, 21, 5)]));
        let row = world.prepares_at_ghost()[0];
        world.ghost_votes(&row, |vote| TxnRow {
            shard: ShardId(shard),
            verdict: Verdict::Moved.to_u16(),
            ..vote
        });
        world.run_for(SECOND);
        let again = world.prepares_at_ghost();
        world.ghost_votes(again.last().expect("a new attempt"), |vote| vote);
        assert_eq!(world.take_code(request), OK);
    }
}

#[test]
fn a_vote_that_refuses_with_a_success_is_no_refusal() {
    let mut world = World::new();
    for (id, code) in [(1, ResultCode::Ok), (2, ResultCode::Busy)] {
        let request = world.send(1, 0, transfers(&[transfer(id, 1, 21, 5)]));
        let row = world.prepares_at_ghost()[0];
        world.ghost_votes(&row, |vote| TxnRow {
            code: code as u16,
            verdict: Verdict::No.to_u16(),
            ..vote
        });
        assert_eq!(world.take_code(request), None);
        world.run_for(SECOND);
        let again = world.prepares_at_ghost();
        world.ghost_votes(again.last().expect("a new attempt"), |vote| vote);
        assert_eq!(world.take_code(request), OK);
    }
    assert_eq!(world.balance(1, 1), 990);
}

/// An answer row is larger than a question row: the answers to one full frame of questions did not
/// fit a frame.
#[test]
fn answers_to_look_ups_fit_their_frames() {
    let mut world = World::new();
    let moved = world.ask(1, move_to(2, 5, 1));
    assert!(matches!(moved, ReplyBody::Move(MoveAnswer::Moved { .. })));
    let question = |id| LookUpRow {
        transfer_id: TransferId(id),
        account: AccountId(1),
        ownership_epoch: 0,
        reserved: 0,
        left: Timestamp(u64::MAX),
    };
    let questions: Vec<LookUpRow> = (1..=20_000).map(question).collect();
    world.to_ghost.clear();
    world.ghost_says(1, Message::LookUps(Rows::from_slice(&questions)));
    let answers = world.to_ghost.iter().map(|message| match message {
        Message::LookedUp(rows) => rows.len(),
        other => panic!("{other:?}"),
    });
    let answers: Vec<usize> = answers.collect();
    assert_eq!(answers.iter().sum::<usize>(), questions.len());
    assert!(
        answers
            .iter()
            .all(|&rows| rows * size_of::<LookedUpRow>() < 1 << 20),
        "{answers:?}"
    );
}

/// The participant is silent. The first request runs into its deadline: its attempt is given up and
/// can never commit, so the answer need not be `unknown`; and the second, which joined it, has time
/// left and is not answered with it.
#[test]
fn an_attempt_given_up_answers_only_the_request_whose_time_is_up() {
    let mut world = World::new();
    let first = world.send(1, 300, transfers(&[transfer(1, 1, 21, 5)]));
    let second = world.send(1, 3_000, transfers(&[transfer(1, 1, 21, 5)]));
    let given_up = world.prepares_at_ghost()[0];
    world.run_for(400 * MS);
    assert_eq!(world.take_code(first), Some(ResultCode::Contended));
    assert_eq!(world.take_code(second), None);
    let rows = world.prepares_at_ghost();
    let row = rows.last().expect("a new attempt");
    assert_ne!(row.attempt, given_up.attempt);
    // A late vote for the attempt given up commits nothing.
    world.ghost_votes(&given_up, |vote| vote);
    assert_eq!(world.take_code(second), None);
    world.ghost_votes(row, |vote| vote);
    assert_eq!(world.take_code(second), OK);
    assert_eq!(world.balance(1, 1), 995);
}

/// The previous owner does not answer. Nothing was proposed, so the outcome is known: nothing.
#[test]
fn a_look_up_without_an_answer_ends_contended_and_runs_nothing() {
    let mut world = World::new();
    world.receive_21();
    let request = world.send(2, 300, transfers(&[transfer(50, 21, 11, 5)]));
    world.run_for(400 * MS);
    assert_eq!(world.take_code(request), Some(ResultCode::Contended));
    // An id above all that were used there needs no answer.
    assert_eq!(world.transfer(2, 101, 21, 11, 5), OK);
    // The late answer to the first question finds nobody; the next one is asked again.
    let retry = world.send(2, 0, transfers(&[transfer(50, 21, 11, 5)]));
    let mut answer = LookedUpRow {
        transfer: transfer(50, 21, 11, 5),
        account: AccountId(21),
        timestamp: Timestamp(7),
        ownership_epoch: 1,
        code: 0,
        found: 0,
    };
    world.ghost_says(2, Message::LookedUp(Rows::from_slice(&[answer])));
    assert_eq!(world.take_code(retry), None, "an answer about another time");
    (answer.ownership_epoch, answer.found) = (0, 1);
    world.ghost_says(2, Message::LookedUp(Rows::from_slice(&[answer])));
    assert_eq!(world.take_code(retry), Some(ResultCode::Exists));
    assert_eq!(world.balance(2, 21), 495);
}

/// A client names a time just below what is refused. The leader's own messages then carry it, and its
/// followers, whose clocks are a little behind, refused all of them: one client could stop a shard.
#[test]
fn a_client_with_a_fast_clock_does_not_cut_a_leader_off() {
    let mut world = World::new();
    for replica in [1, 2, 3] {
        let id = quorate_protocol::ids::ReplicaId(replica);
        if world.leader(1).replica != id {
            world.behind_ns.insert(id, 20 * MS);
        }
    }
    let ballot = world.leading(1).serving();
    for id in 1..=100 {
        let seen = Timestamp(world.wall_ns() + 10 * SECOND);
        let body = transfers(&[transfer(id, 1, 2, 1)]);
        let request = world.send_seen(1, 0, seen, body);
        world.run_for(10 * MS);
        assert_eq!(world.take_code(request), OK, "transfer {id}");
    }
    assert_eq!(world.leading(1).serving(), ballot);
}

/// Requests for an id that is on its way join it. Their number had no bound.
#[test]
fn requests_that_join_a_transfer_on_its_way_are_bounded() {
    let mut world = World::new();
    let first = world.send(1, 0, transfers(&[transfer(1, 1, 21, 5)]));
    let row = world.prepares_at_ghost()[0];
    let others = world.send(1, 0, transfers(&vec![transfer(1, 1, 21, 5); BATCH_MAX]));
    world.ghost_votes(&row, |vote| vote);
    assert_eq!(world.take_code(first), OK);
    let Some(ReplyBody::Results(rows)) = world.take(others) else {
        panic!("the transfer is decided")
    };
    let count = |code| rows.iter().filter(|r| r.result() == Some(code)).count();
    assert_eq!(count(ResultCode::Exists), JOINED_MAX);
    assert_eq!(count(ResultCode::Busy), BATCH_MAX - JOINED_MAX);
}

/// While a shard elects a leader, each refusal made every open prepare go out again at once.
#[test]
fn a_shard_without_a_leader_is_not_flooded() {
    let mut world = World::new();
    world.send(1, 0, transfers(&[transfer(1, 1, 21, 5)]));
    let mut sent = 0;
    for _ in 0..1_000 {
        let rows = world.prepares_at_ghost().len();
        sent += rows;
        if rows > 0 {
            world.ghost_has_no_leader(1);
        }
        world.run_for(MS);
    }
    assert!((2..=4).contains(&sent), "{sent} in a second");
}

/// The same id for another move was answered "moved", although nothing was.
#[test]
fn an_id_of_a_move_used_for_another_move_is_refused() {
    let mut world = World::new();
    let moved = world.ask(1, move_to(2, 5, 1));
    assert!(matches!(moved, ReplyBody::Move(MoveAnswer::Moved { .. })));
    let again = world.ask(1, move_to(2, 5, 1));
    assert!(matches!(again, ReplyBody::Move(MoveAnswer::Moved { .. })));
    let other = world.ask(1, move_to(3, 5, 2));
    assert_eq!(other, ReplyBody::Move(MoveAnswer::Refused));
    // While one is under way, too: the played shard does not vote.
    let first = world.send(1, 0, move_to(3, 6, 2));
    let other = world.ask(1, move_to(2, 6, 2));
    assert_eq!(other, ReplyBody::Move(MoveAnswer::Refused));
    assert_eq!(world.take(first), None);
    // At another source the id is free.
    let back = world.ask(2, move_to(1, 5, 1));
    assert!(
        matches!(back, ReplyBody::Move(MoveAnswer::Moved { .. })),
        "{back:?}"
    );
    assert_eq!(world.balance(1, 1), 1000);
}

/// Page 3, rule 8: a read never misses an acknowledged transfer and never sees half of one. New
/// prepares wait behind it and come through when it is answered.
#[test]
fn a_read_waits_for_what_is_open_and_new_prepares_wait_for_the_read() {
    let mut world = World::new();
    world.ghost_prepares(2, 1, 11, 10, 1);
    let read = world.send(2, 0, lookup(11));
    world.ghost_prepares(2, 2, 11, 10, 2);
    world.run_for(50 * MS);
    assert_eq!(world.take(read), None);
    assert_eq!(world.leading(2).ledger().in_doubt().len(), 1);
    world.ghost_decides(2, 1, 1, Verdict::Commit);
    let reply = world.take(read).expect("nothing is open");
    assert_eq!(balance_of(&reply), 10);
    world.run_for(50 * MS);
    assert_eq!(world.leading(2).ledger().in_doubt().len(), 1);
}

/// Disks are slow, and a prepare waits behind one that is being written. Its coordinator asks again
/// after the usual time, which is also when the queue counts as old. The answer was `contended`, and
/// then the prepare went into the log all the same: the coordinator made another attempt, and the first
/// held its reservation until it had asked what became of it.
#[test]
fn a_prepare_that_waits_for_its_slot_is_not_voted_down_when_asked_again() {
    let mut world = World::new();
    world.slow_disks = Some(Vec::new());
    world.ghost_prepares(2, 1, 11, 10, 1);
    world.ghost_prepares(2, 2, 11, 10, 2);
    world.run_for(600 * MS);
    world.ghost_prepares(2, 2, 11, 10, 2);
    assert_eq!(world.votes_at_ghost(), []);
    world.ghost_prepares(2, 3, 11, 10, 3);
    assert_eq!(
        world.votes_at_ghost(),
        [Verdict::Contended],
        "new work is not taken in"
    );
    world.disks_catch_up();
    world.run_for(50 * MS);
    assert_eq!(world.votes_at_ghost(), [Verdict::Yes, Verdict::Yes]);
}

/// Page 3, rule 3: the participant drives. A prepare that arrives after everything is over reserves,
/// asks, is told and forgets.
#[test]
fn a_prepare_of_a_dead_attempt_heals_itself() {
    let mut world = World::new();
    world.ghost_prepares(2, 1, 11, 10, 1);
    world.ghost_decides(2, 1, 1, Verdict::Abort);
    world.ghost_prepares(2, 1, 11, 10, 1);
    assert_eq!(world.leading(2).ledger().in_doubt().len(), 1);
    world.to_ghost.clear();
    world.run_for(2 * SECOND);
    let asked = world
        .to_ghost
        .iter()
        .any(|message| matches!(message, Message::QueryDecisions(_)));
    assert!(asked);
    world.ghost_decides(2, 1, 1, Verdict::Abort);
    assert!(world.leading(2).ledger().in_doubt().is_empty());
    assert_eq!(world.balance(2, 11), 0);
}

/// Page 3, "moving an account": a target that does not answer must not keep the accounts frozen, and
/// its late vote moves nothing.
#[test]
fn a_move_whose_target_is_silent_is_undone_and_its_late_vote_ignored() {
    let mut world = World::new();
    let request = world.send(1, 0, move_to(3, 5, 1));
    let waiting = world.send(1, 0, transfers(&[transfer(1, 1, 2, 5)]));
    world.run_for(100 * MS);
    assert_eq!(world.take_code(waiting), None);
    world.run_for(4 * SECOND);
    assert_eq!(
        world.take(request),
        Some(ReplyBody::Move(MoveAnswer::Contended))
    );
    assert_eq!(world.take_code(waiting), OK);
    let sent = world.to_ghost.iter().find_map(|message| match message {
        Message::PrepareMove(words) => MoveSection::parse(words.as_bytes()).map(|p| *p.head),
        _ => None,
    });
    let head = sent.expect("it was asked");
    let vote = TxnRow::new(move_txn(&head), Verdict::Yes);
    world.ghost_says(1, Message::Votes(Rows::from_slice(&[vote])));
    world.to_ghost.clear();
    // Asked about it, the source says what it did.
    let question = TxnRow::new(move_txn(&head), Verdict::None);
    world.ghost_says(1, Message::QueryDecisions(Rows::from_slice(&[question])));
    let Some(Message::Decides(rows)) = world.to_ghost.front() else {
        panic!("{:?}", world.to_ghost)
    };
    let verdict = rows[0].parse().map(|(_, verdict)| verdict);
    assert_eq!(verdict, Some(Verdict::Abort));
    assert_eq!(world.balance(1, 1), 995);
}
