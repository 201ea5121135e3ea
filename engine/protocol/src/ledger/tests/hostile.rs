//! Rows that no honest shard sends, and ids used where they should not be: whatever is chosen has to
//! be applied on every replica, so an apply that panics would stop the shard for good.

use super::*;
use crate::ids::ShardId;
use crate::ledger::history::HistoryPosition;
use crate::txn::record::PreviousOwnerRow;

/// A move of empty accounts from shard 1 to shard 2.
fn move_of(ids: &[u128]) -> (MoveHead, Vec<MovedAccountRow>) {
    let rows = ids.iter().map(|&id| MovedAccountRow {
        account: Account::new(AccountId(id), 1, 1, LIMITED),
        id_max: 0,
        version: 1,
        last: HistoryPosition::NONE,
    });
    let rows: Vec<MovedAccountRow> = rows.collect();
    let head = MoveHead {
        id: MoveId(77),
        attempt: attempt(9),
        source: ShardId(1),
        target: ShardId(2),
        accounts: u32::try_from(rows.len()).expect("few"),
        owners: 0,
    };
    (head, rows)
}

impl World {
    fn prepare_move(&mut self, head: &MoveHead, accounts: &[MovedAccountRow]) -> Option<Verdict> {
        self.prepare_move_with(head, accounts, &[])
    }

    fn prepare_move_with(
        &mut self,
        head: &MoveHead,
        accounts: &[MovedAccountRow],
        owners: &[PreviousOwnerRow],
    ) -> Option<Verdict> {
        let parts = MoveSection {
            head,
            accounts,
            owners,
        };
        let vote = self.apply(|entry| entry.prepare_move(parts)).votes[0];
        vote.parse().map(|(_, verdict)| verdict)
    }
}

/// Two rows with one account were both staged and the second arrival found the account owned: an
/// assertion on every replica, again at every replay.
#[test]
fn a_move_that_names_an_account_twice_is_not_staged() {
    let mut target = World::new(2);
    let (head, rows) = move_of(&[1, 1]);
    assert_ne!(target.prepare_move(&head, &rows), Some(Verdict::Yes));
    target.resolve(head.txn(), Verdict::Commit, 5_000);
    assert!(target.ledger.account(AccountId(1)).is_none());
}

/// An account whose creation is decided here and that was never created cannot arrive: it could be
/// created while it is staged, and be there twice.
#[test]
fn an_account_that_was_never_created_at_its_home_does_not_arrive_there() {
    let mut target = World::new(2);
    let (head, rows) = move_of(&[15]);
    assert_ne!(target.prepare_move(&head, &rows), Some(Verdict::Yes));
    target.create(15, LIMITED);
    target.resolve(head.txn(), Verdict::Commit, 5_000);
    assert_eq!(target.ledger.accounts(), 1);
}

#[test]
fn a_move_with_counters_at_their_end_is_not_staged() {
    let mut target = World::new(2);
    let (head, mut rows) = move_of(&[1]);
    rows[0].account.ownership_epoch = u32::MAX;
    assert_ne!(target.prepare_move(&head, &rows), Some(Verdict::Yes));
    let (head, mut rows) = move_of(&[2]);
    rows[0].version = u64::MAX;
    assert_ne!(target.prepare_move(&head, &rows), Some(Verdict::Yes));
    target.resolve(head.txn(), Verdict::Commit, 5_000);
}

#[test]
fn a_move_from_nowhere_or_with_foreign_owner_rows_is_not_staged() {
    for source in [0, 2, 3] {
        let mut target = World::new(2);
        let (mut head, rows) = move_of(&[1]);
        head.source = ShardId(source);
        assert_ne!(target.prepare_move(&head, &rows), Some(Verdict::Yes));
    }
    // The last one: a row that is not there, in the chain of this shard.
    for (account, shard, last) in [(1, 9, 0), (1, 0, 0), (3, 1, 0), (1, 2, 1)] {
        let mut target = World::new(2);
        let (mut head, rows) = move_of(&[1]);
        head.owners = 1;
        let owner = PreviousOwnerRow {
            account: AccountId(account),
            id_max: 1,
            commit_ts: Timestamp(1),
            shard: ShardId(shard),
            ownership_epoch: 0,
            last: HistoryPosition(last),
            reserved: 0,
        };
        let verdict = target.prepare_move_with(&head, &rows, &[owner]);
        assert_ne!(verdict, Some(Verdict::Yes));
    }
}

#[test]
fn a_decision_on_a_move_that_names_an_account_twice_or_leads_nowhere_moves_nothing() {
    let mut source = World::new(1);
    source.create_funded(1, 100);
    let (head, _, versions) = parts_of(&source, 1);
    let twice = [versions[0], versions[0]];
    let double = MoveHead {
        accounts: 2,
        ..head
    };
    let applied = source.apply(|entry| entry.commit_move(&double, &twice));
    assert_eq!(applied.moves[0].2, None);
    for target in [0, 1, 3] {
        let wrong = MoveHead {
            target: ShardId(target),
            ..head
        };
        let applied = source.apply(|entry| entry.commit_move(&wrong, &versions));
        assert_eq!(applied.moves[0].2, None);
    }
    assert!(source.ledger.account(AccountId(1)).is_some());
}

/// Ids of moves are chosen by clients, ballots count from 1 in every group: the same id used for a
/// move 1 -> 2 and for one 2 -> 3 has records with equal attempts. Shard 2 took its record as target
/// for its own decision and told shard 3 "committed" about a move that it had refused: two owners.
#[test]
fn a_move_that_arrived_decides_nothing_about_a_departing_one_of_the_same_id() {
    let mut world = World::new(2);
    world.create(15, LIMITED);
    let (arriving, rows) = move_of(&[1]);
    assert_eq!(world.prepare_move(&arriving, &rows), Some(Verdict::Yes));
    world.resolve(arriving.txn(), Verdict::Commit, 5_000);
    let departing = TxnId {
        coordinator: ShardId(2),
        ..arriving.txn()
    };
    assert_eq!(world.ledger.decided(departing), None);
    // The other way round: the departure is decided whatever arrives under its id.
    let (_, _, mut versions) = parts_of(&world, 15);
    versions[0].account = AccountId(15);
    let head = MoveHead {
        source: ShardId(2),
        target: ShardId(1),
        ..arriving
    };
    let applied = world.apply(|entry| entry.commit_move(&head, &versions));
    let commit_ts = applied.moves[0].2.expect("nothing has touched it");
    let decided = world.ledger.decided(head.txn()).expect("it is recorded");
    assert_eq!(decided.timestamp, commit_ts);
    assert_eq!(decided.parse().map(|(_, v)| v), Some(Verdict::Commit));
}

/// A refusal with the code `ok` was recorded as a success, and the participant told "committed":
/// money from nothing.
#[test]
fn a_participant_s_refusal_must_name_a_refusal() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    for code in [ResultCode::Ok, ResultCode::Exists, ResultCode::Busy] {
        let row = CommitRow {
            transfer: transfer(1, 1, 15, 40),
            attempt: attempt(1),
            participant: ShardId(2),
            kind: CommitKind::Refuse.to_u16(),
            code: code as u16,
            reserved: [0; 8],
        };
        let outcome = world.apply(|entry| entry.commit(&[row])).commits[0];
        assert_eq!(outcome, CommitOutcome::Fenced);
    }
    assert!(
        world
            .ledger
            .history()
            .debit(TransferId(1))
            .loaded()
            .is_none()
    );
}

/// Two attempts of one transfer in doubt, both told "committed": the second must post nothing.
#[test]
fn two_committed_attempts_of_one_transfer_post_once() {
    let mut world = World::new(1);
    world.create(1, LIMITED);
    world.prepare(1, 1, 70, 1);
    world.prepare(1, 1, 70, 2);
    world.resolve(txn(1, 1), Verdict::Commit, 5_000);
    world.resolve(txn(1, 2), Verdict::Commit, 5_000);
    assert_eq!(world.credits(1), 70);
    assert!(world.ledger.in_doubt().is_empty());
}

#[test]
fn a_local_transfer_is_no_answer_to_a_question_about_the_zero_attempt() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    assert_eq!(world.transfer(1, 1, 2, 60), ResultCode::Ok);
    let asked = TxnId {
        coordinator: ShardId(1),
        attempt: Attempt::default(),
        ..txn(1, 1)
    };
    let row = world.ledger.decided(asked).expect("the id is recorded");
    assert_eq!(row.parse().map(|(_, v)| v), Some(Verdict::Abort));
}

#[test]
fn an_entry_stamped_at_the_end_of_time_stops_nothing() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    let slot = world.ledger.applied().next();
    let last = Entry::noop(world.origin, Timestamp(u64::MAX));
    world.ledger.apply(slot, &last, &mut world.applied);
    assert_eq!(world.transfer(1, 1, 2, 5), ResultCode::Ok);
}

/// Rows of one entry are looked for together before the first of them is taken out.
#[test]
fn a_transaction_named_twice_in_one_entry_is_prepared_and_resolved_once() {
    let mut world = World::new(1);
    world.create(1, LIMITED);
    let prepare = PrepareRow {
        transfer: transfer(1, 11, 1, 70),
        attempt: attempt(1),
        coordinator: ShardId(2),
        reserved: [0; 12],
    };
    let votes = &world
        .apply(|entry| entry.prepare(&[prepare, prepare]))
        .votes;
    assert_eq!(votes[0], votes[1]);
    assert_eq!(world.ledger.in_doubt().len(), 1);
    let commit = TxnRow {
        timestamp: Timestamp(5_000),
        ..TxnRow::new(txn(1, 1), Verdict::Commit)
    };
    let abort = TxnRow::new(txn(1, 1), Verdict::Abort);
    world.apply(|entry| entry.resolve(&[commit, commit, abort]));
    assert_eq!(world.credits(1), 70);
    assert!(world.ledger.in_doubt().is_empty());
}

/// A reservation for a coordinator that is no shard, or is this one, would stay for ever: nobody could be asked.
#[test]
fn nothing_is_prepared_for_a_coordinator_that_cannot_be() {
    let mut world = World::new(1);
    world.create(1, LIMITED);
    for coordinator in [0, 1, u32::MAX] {
        let row = PrepareRow {
            transfer: transfer(9, 11, 1, 10),
            attempt: attempt(1),
            coordinator: ShardId(coordinator),
            reserved: [0; 12],
        };
        let vote = world.apply(|entry| entry.prepare(&[row])).votes[0];
        let verdict = vote.parse().map(|(_, verdict)| verdict);
        assert_eq!(verdict, Some(Verdict::Contended));
    }
    assert!(world.ledger.in_doubt().is_empty());
}
