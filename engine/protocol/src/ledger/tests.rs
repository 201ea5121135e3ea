//! The ledger's promises, entry by entry, without consensus.

use alloc::vec::Vec;

use crate::config::{IdRule, Reads, ReplicaConfig};
use crate::entry::{Entry, EntryBuilder, MoveSection};
use crate::ids::{
    AccountId, Ballot, ClusterId, MoveId, ReplicaAddress, ReplicaId, ShardId, TransferId,
};
use crate::ledger::apply::{Applied, CommitOutcome, TransferOutcome};
use crate::ledger::state::{Ledger, MoveRecord, OwnedAccount, Prepared, Staged};
use crate::ledger::{Account, AccountFlags, ResultCode, Total, Transfer};
use crate::limits::TIMING;
use crate::shard::map::Placement;
use crate::time::Timestamp;
use crate::txn::record::{
    Attempt, CommitKind, CommitRow, MoveHead, MoveVersionRow, MovedAccountRow, PrepareRow, Subject,
    TxnId, TxnRow, Verdict,
};

mod checkpoints;
mod hostile;
mod retention;

const LIMITED: AccountFlags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;

/// One shard of two; ids 1..=10 live on shard 1, the rest on shard 2.
struct World {
    ledger: Ledger,
    applied: Applied,
    origin: Ballot,
    clock: u64,
}

impl World {
    fn config(shard: u32) -> ReplicaConfig {
        ReplicaConfig {
            cluster: ClusterId(1),
            address: ReplicaAddress {
                shard: ShardId(shard),
                replica: ReplicaId(1),
            },
            shards: 2,
            replicas: 1,
            placement: Placement::Range {
                accounts_per_shard: 10,
            },
            reads: Reads::Lease,
            ids: IdRule::Any,
            preferred_leader: ReplicaId(1),
            timing: TIMING,
            entry_bytes_max: crate::limits::ENTRY_BYTES_MAX,
            admission: crate::config::Admission::default(),
            tail_bytes_max: crate::limits::LOG_TAIL_BYTES_MAX,
            keep_ns: None,
            checkpoint_weight: None,
            accounts_in_memory_max: crate::limits::ACCOUNTS_IN_MEMORY_MAX,
            scan_places: crate::limits::SCAN_PLACES,
            apply_bytes: crate::limits::APPLY_BYTES,
            telemetry_window_ns: crate::limits::TELEMETRY_WINDOW_NS,
            seed: 1,
        }
    }

    fn new(shard: u32) -> Self {
        let origin = Ballot::new(1, ReplicaId(1));
        Self {
            ledger: Ledger::new(&Self::config(shard)),
            applied: Applied::default(),
            origin,
            clock: 1000,
        }
    }

    fn apply(&mut self, fill: impl FnOnce(&mut EntryBuilder)) -> &Applied {
        self.clock += 10;
        let mut builder = EntryBuilder::new();
        fill(&mut builder);
        let entry = builder.finish(self.origin, Timestamp(self.clock), 0);
        let entry = Entry::from_words(entry.words().clone()).expect("what is built can be read");
        let slot = self.ledger.applied().next();
        self.ledger.apply(slot, &entry, &mut self.applied);
        self.ledger.count_on(usize::MAX);
        &self.applied
    }

    fn create(&mut self, id: u128, flags: AccountFlags) {
        let account = Account::new(AccountId(id), 1, 1, flags);
        let applied = self.apply(|entry| entry.create_accounts(&[account]));
        assert_eq!(applied.accounts[0].code, ResultCode::Ok as u16);
    }

    /// An account with `credits` from an unlimited one.
    fn create_funded(&mut self, id: u128, credits: u128) {
        self.create(id, LIMITED);
        if self.ledger.account(AccountId(9)).is_none() {
            self.create(9, AccountFlags::default());
        }
        assert_eq!(self.transfer(900 + id, 9, id, credits), ResultCode::Ok);
    }

    fn transfer(&mut self, id: u128, debit: u128, credit: u128, amount: u128) -> ResultCode {
        match self.try_transfer(transfer(id, debit, credit, amount)) {
            TransferOutcome::Posted { .. } => ResultCode::Ok,
            TransferOutcome::Final(row) => row.result().expect("a known code"),
            other => panic!("{other:?}"),
        }
    }

    fn try_transfer(&mut self, transfer: Transfer) -> TransferOutcome {
        self.apply(|entry| entry.transfers(&[transfer])).transfers[0]
    }

    fn credits(&self, id: u128) -> u128 {
        self.ledger
            .account(AccountId(id))
            .expect("owned")
            .account
            .credits_posted
    }

    fn debits(&self, id: u128) -> u128 {
        self.ledger
            .account(AccountId(id))
            .expect("owned")
            .account
            .debits_posted
    }

    fn prepare(&mut self, id: u128, credit: u128, amount: u128, counter: u64) -> TxnRow {
        let row = PrepareRow {
            transfer: transfer(id, 11, credit, amount),
            attempt: attempt(counter),
            coordinator: ShardId(2),
            reserved: [0; 12],
        };
        self.apply(|entry| entry.prepare(&[row])).votes[0]
    }

    fn resolve(&mut self, txn: TxnId, verdict: Verdict, timestamp: u64) -> Vec<TxnRow> {
        let row = TxnRow {
            timestamp: Timestamp(timestamp),
            ..TxnRow::new(txn, verdict)
        };
        self.apply(|entry| entry.resolve(&[row])).votes.clone()
    }

    fn commit(&mut self, transfer: Transfer, attempt: Attempt, kind: CommitKind) -> CommitOutcome {
        let row = CommitRow {
            transfer,
            attempt,
            participant: ShardId(2),
            kind: kind.to_u16(),
            code: ResultCode::CreditAccountNotFound as u16,
            reserved: [0; 8],
        };
        self.apply(|entry| entry.commit(&[row])).commits[0]
    }
}

fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    Transfer::new(
        TransferId(id),
        AccountId(debit),
        AccountId(credit),
        amount,
        1,
        1,
    )
}

fn attempt(counter: u64) -> Attempt {
    Attempt {
        ballot: Ballot::new(1, ReplicaId(1)),
        counter,
    }
}

fn txn(id: u128, counter: u64) -> TxnId {
    let attempt = attempt(counter);
    TxnId {
        coordinator: ShardId(2),
        subject: Subject::Transfer,
        id,
        attempt,
    }
}

#[test]
fn a_local_transfer_moves_money_once() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    assert_eq!(world.transfer(1, 1, 2, 60), ResultCode::Ok);
    assert_eq!(world.transfer(1, 1, 2, 60), ResultCode::Exists);
    assert_eq!(
        world.transfer(1, 1, 2, 61),
        ResultCode::ExistsWithDifferentAmount
    );
    assert_eq!((world.debits(1), world.credits(2)), (60, 60));
}

#[test]
fn a_refusal_is_final_for_its_id() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    assert_eq!(world.transfer(1, 1, 2, 101), ResultCode::ExceedsCredits);
    assert_eq!(world.transfer(2, 9, 1, 1000), ResultCode::Ok);
    assert_eq!(world.transfer(1, 1, 2, 101), ResultCode::IdAlreadyFailed);
    assert_eq!(world.transfer(1, 1, 2, 100), ResultCode::IdAlreadyFailed);
    assert_eq!(world.transfer(3, 7, 2, 1), ResultCode::DebitAccountNotFound);
    assert_eq!(
        world.transfer(4, 1, 7, 1),
        ResultCode::CreditAccountNotFound
    );
}

#[test]
fn the_debit_leg_decides_before_the_credit_leg() {
    let mut world = World::new(1);
    world.create(1, LIMITED);
    assert_eq!(world.transfer(1, 1, 7, 5), ResultCode::ExceedsCredits);
}

#[test]
fn an_entry_below_the_fence_has_no_effect() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    let old = world.origin;
    world.origin = Ballot::new(2, ReplicaId(2));
    world.apply(|_| {});
    let before = world.ledger.digest();
    world.origin = old;
    assert!(
        world
            .apply(|entry| entry.transfers(&[transfer(1, 1, 2, 5)]))
            .fenced
    );
    assert_eq!(world.ledger.digest(), before);
}

#[test]
fn a_hole_filling_no_op_fences_nothing() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    let hole = Entry::noop(Ballot::ZERO, Timestamp::ZERO);
    let slot = world.ledger.applied().next();
    world.ledger.apply(slot, &hole, &mut world.applied);
    assert_eq!(world.transfer(1, 1, 2, 5), ResultCode::Ok);
}

/// Two leaders, b1 < b2. b2 never saw b1's entry in slot 5 and used slot 6 with a lower timestamp;
/// a third leader finds b1's entry for slot 5 and b2's for slot 6 and must re-propose both.
#[test]
fn effects_rise_in_time_even_where_entries_do_not() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    world.clock = 9_000;
    assert_eq!(world.transfer(1, 1, 2, 5), ResultCode::Ok);
    let late = world.ledger.last_timestamp();
    world.origin = Ballot::new(2, ReplicaId(2));
    world.clock = 4_000;
    let outcome = world.try_transfer(transfer(2, 1, 2, 5));
    let TransferOutcome::Posted { timestamp, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(timestamp, Timestamp(late.0 + 1));
}

#[test]
fn a_prepared_credit_is_reserved_until_it_is_resolved() {
    let mut world = World::new(1);
    world.create(1, LIMITED);
    let vote = world.prepare(1, 1, 70, 1);
    assert_eq!(vote.parse().map(|(_, verdict)| verdict), Some(Verdict::Yes));
    assert_eq!(world.credits(1), 0);
    // Voting again reserves nothing more.
    assert_eq!(world.prepare(1, 1, 70, 1).timestamp, vote.timestamp);
    world.resolve(txn(1, 1), Verdict::Commit, 5_000);
    assert_eq!(world.credits(1), 70);
    assert!(world.ledger.in_doubt().is_empty());
    // Late duplicates of the decision and of the prepare change nothing.
    world.resolve(txn(1, 1), Verdict::Commit, 5_000);
    let late = world.prepare(1, 1, 70, 1);
    assert_eq!(late.parse().map(|(_, verdict)| verdict), Some(Verdict::No));
    assert_eq!(world.credits(1), 70);
}

#[test]
fn the_same_id_of_two_coordinators_is_two_transactions() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    world.prepare(5, 2, 70, 1);
    assert_eq!(world.transfer(5, 1, 2, 3), ResultCode::Ok);
    world.resolve(txn(5, 1), Verdict::Commit, 5_000);
    assert_eq!(world.credits(2), 73);
}

#[test]
fn a_debit_that_depends_on_an_open_credit_is_deferred() {
    let mut world = World::new(1);
    world.create(1, LIMITED);
    world.create(2, LIMITED);
    world.prepare(1, 1, 70, 1);
    let wanted = transfer(2, 1, 2, 50);
    assert_eq!(
        world.try_transfer(wanted),
        TransferOutcome::Deferred(AccountId(1))
    );
    world.resolve(txn(1, 1), Verdict::Abort, 0);
    assert_eq!(world.transfer(2, 1, 2, 50), ResultCode::ExceedsCredits);
}

#[test]
fn only_an_attempt_of_the_entry_s_own_leader_commits() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.origin = Ballot::new(2, ReplicaId(2));
    let wanted = transfer(1, 1, 15, 40);
    let old = attempt(1);
    assert_eq!(
        world.commit(wanted, old, CommitKind::Prepared),
        CommitOutcome::Fenced
    );
    let new = Attempt {
        ballot: world.origin,
        counter: 1,
    };
    let outcome = world.commit(wanted, new, CommitKind::Prepared);
    assert!(
        matches!(outcome, CommitOutcome::Committed { .. }),
        "{outcome:?}"
    );
    assert_eq!(world.debits(1), 40);
    let other = TxnId {
        coordinator: ShardId(1),
        subject: Subject::Transfer,
        id: 1,
        attempt: old,
    };
    let verdict = |txn| {
        world
            .ledger
            .decided(txn)
            .and_then(|row| row.parse())
            .map(|(_, v)| v)
    };
    assert_eq!(verdict(other), Some(Verdict::Abort));
    assert_eq!(
        verdict(TxnId {
            attempt: new,
            ..other
        }),
        Some(Verdict::Commit)
    );
}

#[test]
fn a_participant_s_refusal_is_recorded_with_the_debit_account() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    let wanted = transfer(1, 1, 15, 40);
    let outcome = world.commit(wanted, attempt(1), CommitKind::Refuse);
    let CommitOutcome::Final(row) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(row.result(), Some(ResultCode::CreditAccountNotFound));
    let again = world.commit(wanted, attempt(2), CommitKind::Prepared);
    let CommitOutcome::Final(row) = again else {
        panic!("{again:?}")
    };
    assert_eq!(row.result(), Some(ResultCode::IdAlreadyFailed));
    assert_eq!(world.debits(1), 0);
}

/// The parts of moving account `id` from `source` as it is there now.
fn parts_of(source: &World, id: u128) -> (MoveHead, Vec<MovedAccountRow>, Vec<MoveVersionRow>) {
    let owned = source.ledger.account(AccountId(id)).expect("owned");
    let head = MoveHead {
        id: MoveId(77),
        attempt: attempt(9),
        source: ShardId(1),
        target: ShardId(2),
        accounts: 1,
        owners: 0,
    };
    let row = MovedAccountRow {
        account: owned.account,
        id_max: owned.id_max,
        version: owned.version,
        last: owned.last,
    };
    let version = MoveVersionRow {
        account: AccountId(id),
        version: owned.version,
        ownership_epoch: owned.account.ownership_epoch,
        reserved: 0,
    };
    (head, alloc::vec![row], alloc::vec![version])
}

#[test]
fn a_moved_account_has_one_owner_and_takes_its_history_along() {
    let (mut source, mut target) = (World::new(1), World::new(2));
    source.create_funded(1, 100);
    source.create(2, LIMITED);
    assert_eq!(source.transfer(5, 1, 2, 10), ResultCode::Ok);
    let (head, rows, versions) = parts_of(&source, 1);
    let parts = MoveSection {
        head: &head,
        accounts: &rows,
        owners: &[],
    };
    let vote = target.apply(|entry| entry.prepare_move(parts)).votes[0];
    assert_eq!(vote.parse().map(|(_, verdict)| verdict), Some(Verdict::Yes));
    assert!(
        target.ledger.account(AccountId(1)).is_none(),
        "staged is invisible"
    );
    let moved = source
        .apply(|entry| entry.commit_move(&head, &versions))
        .moves[0]
        .2;
    let commit_ts = moved.expect("nothing has touched it");
    assert!(source.ledger.account(AccountId(1)).is_none());
    assert_eq!(source.ledger.elsewhere(AccountId(1)), Some(ShardId(2)));
    assert_eq!(target.ledger.arrived(head.txn()), None);
    // The source is told that it is served here, and told again if it asks.
    let arrived = target.resolve(head.txn(), Verdict::Commit, commit_ts.0);
    let verdicts = arrived.iter().map(|row| row.parse().expect("it is valid"));
    assert!(verdicts.eq([(head.txn(), Verdict::Commit)]));
    assert_eq!(target.ledger.arrived(head.txn()), Some(arrived[0]));
    let owned = target.ledger.account(AccountId(1)).expect("arrived");
    assert_eq!(
        (owned.account.debits_posted, owned.account.ownership_epoch),
        (10, 1)
    );
    let owners = target.ledger.previous_owners(AccountId(1));
    assert_eq!((owners[0].shard, owners[0].id_max), (ShardId(1), 5));
    // A late duplicate of the finished move stages nothing.
    let late = target.apply(|entry| entry.prepare_move(parts)).votes[0];
    assert_eq!(late.parse().map(|(_, verdict)| verdict), Some(Verdict::No));
    assert!(target.ledger.staged().is_empty());
}

/// The id check and the version check meet here: a refusal recorded after the states were sent
/// changes no balance, yet the move must not leave with an older `id_max`.
#[test]
fn a_recorded_refusal_after_the_states_were_sent_stops_the_move() {
    let mut source = World::new(1);
    source.create_funded(1, 100);
    source.create(2, LIMITED);
    let (head, _, versions) = parts_of(&source, 1);
    assert_eq!(source.transfer(50, 1, 2, 1000), ResultCode::ExceedsCredits);
    assert_eq!(
        source
            .apply(|entry| entry.commit_move(&head, &versions))
            .moves[0]
            .2,
        None
    );
    assert!(source.ledger.account(AccountId(1)).is_some());
}

#[test]
fn a_move_does_not_overtake_a_prepared_credit() {
    let mut source = World::new(1);
    source.create_funded(1, 100);
    let (head, _, _) = parts_of(&source, 1);
    source.prepare(5, 1, 7, 1);
    let (_, _, versions) = parts_of(&source, 1);
    assert_eq!(
        source
            .apply(|entry| entry.commit_move(&head, &versions))
            .moves[0]
            .2,
        None
    );
}

#[test]
fn a_transfer_admitted_under_an_older_ownership_is_not_run() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    let stale = Transfer {
        debit_epoch: 3,
        ..transfer(1, 1, 2, 5)
    };
    assert_eq!(world.try_transfer(stale), TransferOutcome::Reroute);
}

#[test]
fn a_cut_sums_what_was_true_at_its_time() {
    let mut world = World::new(1);
    world.create_funded(1, 100);
    world.create(2, LIMITED);
    let at = Timestamp(world.clock + 25);
    world.apply(|entry| entry.cut_register(at));
    assert_eq!(world.transfer(1, 1, 2, 10), ResultCode::Ok);
    world.prepare(2, 2, 5, 1);
    world.clock += 100;
    assert_eq!(world.transfer(3, 1, 2, 20), ResultCode::Ok);
    world.create(3, LIMITED);
    assert!(world.ledger.cut_sums(at).is_none(), "not passed");
    world.apply(|entry| entry.cut_pass(at));
    world.resolve(txn(2, 1), Verdict::Abort, 0);
    let sums = world.ledger.cut_sums(at).expect("passed, nothing in doubt");
    let ledger = sums.ledgers[0];
    assert_eq!(
        (
            ledger.debits_posted,
            ledger.credits_posted,
            ledger.transferred
        ),
        (110.into(), 110.into(), 110.into())
    );
    assert_eq!((sums.owned, sums.created, sums.transfers), (3, 3, 2));
    assert_eq!(sums.owned_hash, sums.created_hash);
}

/// `verify` once answered 0 whatever was open, while `inspect in-doubt` listed thousands of rows. Three
/// things are open when the cut is passed: a credit from before it, one from after it, and a batch
/// of accounts that has arrived.
#[test]
fn a_cut_counts_what_was_in_doubt_when_it_was_passed() {
    let (mut source, mut world) = (World::new(1), World::new(2));
    source.create(1, LIMITED);
    world.create(11, LIMITED);
    let at = Timestamp(world.clock + 25);
    world.apply(|entry| entry.cut_register(at));
    let credit = |id| PrepareRow {
        transfer: transfer(id, 2, 11, 5),
        attempt: attempt(1),
        coordinator: ShardId(1),
        reserved: [0; 12],
    };
    world.apply(|entry| entry.prepare(&[credit(1)]));
    world.clock += 100;
    world.apply(|entry| entry.prepare(&[credit(2)]));
    let (head, rows, _) = parts_of(&source, 1);
    let parts = MoveSection {
        head: &head,
        accounts: &rows,
        owners: &[],
    };
    world.apply(|entry| entry.prepare_move(parts));
    world.apply(|entry| entry.cut_pass(at));
    assert_eq!(world.ledger.cut_sums(at), None, "one was prepared before");
    let end = |world: &mut World, txn| world.resolve(txn, Verdict::Abort, 0);
    let first = credit(1).txn();
    end(&mut world, first);
    // What became of the others since does not matter, nor how often the passing is repeated.
    for _ in 0..2 {
        let sums = world.ledger.cut_sums(at).expect("nothing from before");
        assert_eq!(sums.in_doubt, 3);
        end(&mut world, credit(2).txn());
        end(&mut world, head.txn());
        world.apply(|entry| entry.cut_pass(at));
    }
    let later = Timestamp(world.clock + 25);
    world.apply(|entry| entry.cut_register(later));
    world.clock += 100;
    world.apply(|entry| entry.cut_pass(later));
    let sums = world.ledger.cut_sums(later).expect("all has ended");
    assert_eq!(sums.in_doubt, 0);
}

/// Any client may pay the largest amount between unlimited accounts, as often as it has fresh ones.
/// Each balance ends at its bound with a result code; their sum does not, and must not be cut short:
/// `verify` once took the shards' 128-bit sums for money that was made.
#[test]
fn sums_of_the_largest_balances_are_exact() {
    let mut world = World::new(1);
    for id in 1..=4 {
        world.create(id, AccountFlags::default());
    }
    assert_eq!(world.transfer(1, 1, 2, u128::MAX), ResultCode::Ok);
    assert_eq!(world.transfer(2, 3, 4, u128::MAX), ResultCode::Ok);
    let full = [
        (1, 4, ResultCode::OverflowsDebitsPosted),
        (2, 4, ResultCode::OverflowsCreditsPosted),
    ];
    for (debit, credit, code) in full {
        assert_eq!(world.transfer(10 + debit, debit, credit, 1), code);
    }
    // The other sides of these two accounts are empty.
    assert_eq!(world.transfer(20, 2, 1, 5), ResultCode::Ok);
    let at = Timestamp(world.clock + 25);
    world.apply(|entry| entry.cut_register(at));
    world.clock += 100;
    assert_eq!(world.transfer(21, 4, 3, u128::MAX), ResultCode::Ok);
    world.apply(|entry| entry.cut_pass(at));
    let sums = world.ledger.cut_sums(at).expect("nothing in doubt");
    let ledger = sums.ledgers[0];
    // 2 * (2^128 - 1) + 5
    let expected = Total::from_parts(2, 3);
    assert_eq!(
        (
            ledger.debits_posted,
            ledger.credits_posted,
            ledger.transferred
        ),
        (expected, expected, expected)
    );
}

/// Shard 2 with something in every table: an account, a recorded transfer, a prepared credit, a batch
/// that has arrived, an account that came by a move and one that left by one, a followed cut.
fn world_of_everything(user_data: u64) -> World {
    let (mut source, mut world) = (World::new(1), World::new(2));
    for id in [1, 2] {
        source.create(id, LIMITED);
    }
    for id in 11..=13 {
        world.create(id, AccountFlags::default());
    }
    let paid = Transfer {
        user_data,
        ..transfer(1, 11, 12, 5)
    };
    world.try_transfer(paid);
    let row = PrepareRow {
        transfer: transfer(2, 3, 11, 5),
        attempt: attempt(1),
        coordinator: ShardId(1),
        reserved: [0; 12],
    };
    world.apply(|entry| entry.prepare(&[row]));
    for (account, id) in [(1, 77), (2, 78)] {
        let (head, rows, _) = parts_of(&source, account);
        let head = MoveHead {
            id: MoveId(id),
            ..head
        };
        let parts = MoveSection {
            head: &head,
            accounts: &rows,
            owners: &[],
        };
        world.apply(|entry| entry.prepare_move(parts));
        if id == 77 {
            world.resolve(head.txn(), Verdict::Commit, 5_000);
        }
    }
    let (head, _, versions) = parts_of(&world, 13);
    let away = MoveHead {
        id: MoveId(79),
        source: ShardId(2),
        target: ShardId(1),
        ..head
    };
    world.apply(|entry| entry.commit_move(&away, &versions));
    world.apply(|entry| entry.cut_register(Timestamp(90_000)));
    let ledger = &world.ledger;
    assert_eq!((ledger.in_doubt.len(), ledger.staged.len()), (1, 1));
    assert_eq!((ledger.moves.len(), ledger.owners.len()), (2, 1));
    assert_eq!((ledger.stubs.len(), ledger.history.len()), (1, 1));
    world
}

fn account_of(ledger: &mut Ledger) -> &mut OwnedAccount {
    ledger.account_volatile(AccountId(11)).expect("owned")
}

fn prepared_of(ledger: &mut Ledger) -> &mut Prepared {
    ledger.in_doubt.iter_mut().next().expect("one")
}

fn staged_of(ledger: &mut Ledger) -> &mut Staged {
    ledger.staged.values_mut().next().expect("one")
}

fn move_of(ledger: &mut Ledger) -> &mut MoveRecord {
    ledger.moves.values_mut().next().expect("two")
}

/// It left out a recorded transfer's `user_data`, the reservations and what came with staged accounts,
/// so that replicas which differed there were called equal.
#[test]
fn the_digest_covers_the_whole_replicated_state() {
    let plain = world_of_everything(0).ledger.digest();
    assert_eq!(world_of_everything(0).ledger.digest(), plain);
    assert_ne!(world_of_everything(1).ledger.digest(), plain, "user_data");
    type Edit = (&'static str, fn(&mut Ledger));
    let edits: [Edit; 25] = [
        ("balance", |l| account_of(l).account.credits_posted += 1),
        ("version", |l| account_of(l).version += 1),
        ("id_max", |l| account_of(l).id_max += 1),
        ("open", |l| account_of(l).open += 1),
        ("reserved credits", |l| account_of(l).reserved.credits += 1),
        ("reserved debits", |l| account_of(l).reserved.debits += 1),
        ("prepared amount", |l| prepared_of(l).transfer.amount += 1),
        ("prepared at", |l| prepared_of(l).prepare_ts.0 += 1),
        ("prepared in", |l| prepared_of(l).slot.0 += 1),
        ("staged head", |l| staged_of(l).head.target = ShardId(3)),
        ("staged account", |l| staged_of(l).accounts[0].version += 1),
        ("staged at", |l| staged_of(l).prepare_ts.0 += 1),
        ("staged in", |l| staged_of(l).slot.0 += 1),
        ("staged owners", |l| {
            let owner = l.owners.values().next().expect("one")[0];
            staged_of(l).owners.push(owner);
        }),
        ("moved by", |l| move_of(l).attempt.counter += 1),
        ("moved to", |l| move_of(l).target = ShardId(3)),
        ("moved accounts", |l| move_of(l).accounts_hash += 1),
        ("moved at", |l| move_of(l).commit_ts.0 += 1),
        ("stub", |l| {
            l.stubs.values_mut().for_each(|s| s.ownership_epoch += 1)
        }),
        ("owner", |l| {
            l.owners.values_mut().for_each(|o| o[0].id_max += 1)
        }),
        ("missing", |l| l.missing_id_max += 1),
        ("origin", |l| {
            l.highest_origin = Ballot::new(7, ReplicaId(1))
        }),
        ("time", |l| l.last_timestamp.0 += 1),
        ("cuts", |l| l.cuts.register(Timestamp(95_000))),
        ("totals", |l| l.cuts.on_debit(Timestamp(1), 1, 5)),
    ];
    for (what, edit) in edits {
        let mut world = world_of_everything(0);
        edit(&mut world.ledger);
        assert_ne!(world.ledger.digest(), plain, "{what}");
    }
    // What a leader keeps for itself is no replicated state.
    let mut world = world_of_everything(0);
    (
        account_of(&mut world.ledger).attempts,
        account_of(&mut world.ledger).held,
    ) = (1, 9);
    assert_eq!(world.ledger.digest(), plain);
}
