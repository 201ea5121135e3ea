//! Altered histories, and which checkers must reject which: a table over the small story, and the same
//! kinds of alteration on the recorded run of a seed.
//!
//! Each row of the table changes one thing and names *every* checker that complains, no more and no
//! fewer, and words that the complaint must hold. So the table also says what each checker does not see.

use std::collections::BTreeSet;

use quorate_protocol::ids::{ShardId, Slot};
use quorate_protocol::ledger::{AccountFlags, ResultCode, Total};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Verdict;

use super::fixture::{FIRST, SECOND, Scene};
use super::log::Command;
use super::{Violation, check_all};

struct Row {
    what: &'static str,
    alter: fn(&mut Scene),
    seen_by: &'static [&'static str],
    /// In some complaint.
    names: &'static str,
}

fn judge(scene: &Scene) -> Vec<Violation> {
    check_all(&scene.history, &scene.state)
}

fn checkers(violations: &[Violation]) -> BTreeSet<&'static str> {
    violations.iter().map(|found| found.checker).collect()
}

#[test]
fn the_story_itself_passes() {
    assert_eq!(judge(&Scene::valid()), []);
}

/// Tries every row; all that is wrong is told at once.
#[track_caller]
fn check_rows(rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        let mut scene = Scene::valid();
        (row.alter)(&mut scene);
        let violations = judge(&scene);
        let expected: BTreeSet<&str> = row.seen_by.iter().copied().collect();
        let named = violations
            .iter()
            .any(|found| found.text.contains(row.names));
        if checkers(&violations) != expected || !named {
            let what = row.what;
            wrong.push(format!("{what}: {expected:?} {named}: {violations:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the cluster holds at the end is not what it should be.
const HELD: &[Row] = &[
    Row {
        what: "an acknowledged transfer has no record",
        alter: |scene| scene.record(2).debit = None,
        seen_by: &["durability", "exactly_once", "replay"],
        names: "transfer 2 was answered ok",
    },
    Row {
        what: "a transfer that nobody was told of has no record",
        alter: |scene| scene.record(5).debit = None,
        seen_by: &["exactly_once", "replay"],
        names: "transfer 5 at shard 1",
    },
    Row {
        what: "a credit took effect twice",
        alter: |scene| scene.account(3).credits_posted += 7,
        seen_by: &["conservation", "exactly_once", "replay"],
        names: "account 3 at shard 2",
    },
    Row {
        what: "a whole transfer took effect twice",
        alter: |scene| {
            scene.account(1).debits_posted += 10;
            scene.account(2).credits_posted += 10;
        },
        seen_by: &["exactly_once", "replay"],
        names: "account 1 at shard 1",
    },
    Row {
        what: "the amount differs on one side",
        alter: |scene| {
            let credit = &mut scene.record_at(3, SECOND).credits[0];
            credit.transfer.amount += 1;
        },
        seen_by: &["exactly_once", "replay"],
        names: "transfer 3",
    },
    Row {
        what: "two results are swapped",
        alter: |scene| {
            scene.debit(2).code = ResultCode::ExceedsCredits as u16;
            scene.debit(4).code = ResultCode::Ok as u16;
        },
        seen_by: &["durability", "exactly_once", "replay"],
        names: "transfer 4 was answered exceeds_credits",
    },
    Row {
        what: "a refusal was forgotten",
        alter: |scene| scene.record(8).debit = None,
        seen_by: &["durability", "replay"],
        names: "transfer 8 was answered credit_account_not_found",
    },
    Row {
        what: "a refusal has another reason",
        alter: |scene| scene.debit(8).code = ResultCode::CreditAccountClosed as u16,
        seen_by: &["durability", "replay"],
        names: "transfer 8",
    },
    Row {
        what: "a debit is recorded at two shards",
        alter: |scene| scene.record_at(2, SECOND).debit = Some(*scene.clone().debit(2)),
        seen_by: &["exactly_once", "replay"],
        names: "transfer 2",
    },
    Row {
        what: "an account has two owners",
        alter: |scene| {
            let account = *scene.account(3);
            scene.state.accounts.push((FIRST, account));
        },
        seen_by: &["conservation", "exactly_once", "ownership", "replay"],
        names: "account 3 is owned by shards",
    },
    Row {
        what: "a shard forgot where an account went",
        alter: |scene| scene.map(FIRST).stubs.clear(),
        seen_by: &["routes"],
        names: "the way to it goes round",
    },
    Row {
        what: "a shard sends to a shard where an account is not",
        alter: |scene| {
            let gone = scene.map(FIRST).stubs.values_mut();
            gone.for_each(|gone| gone.to = FIRST);
        },
        seen_by: &["routes"],
        names: "account 2 left shard 1 as",
    },
    Row {
        what: "a shard's map has another version than its log makes",
        alter: |scene| scene.map(FIRST).epoch += 1,
        seen_by: &["routes"],
        names: "map epoch 2",
    },
    Row {
        what: "an account came back from where it moved",
        alter: |scene| {
            let mut accounts = scene.state.accounts.iter_mut();
            let (shard, _) = accounts.find(|(_, account)| account.id.0 == 2).unwrap();
            *shard = FIRST;
        },
        seen_by: &["ownership", "replay"],
        names: "account 2 was brought to shard 2",
    },
    Row {
        what: "an account without money is gone",
        alter: |scene| {
            scene
                .state
                .accounts
                .retain(|(_, account)| account.id.0 != 3);
        },
        seen_by: &["conservation", "exactly_once", "ownership", "replay"],
        names: "account 3 was created and has no owner",
    },
    Row {
        what: "an account lost its limit",
        alter: |scene| scene.account(1).flags = AccountFlags::default(),
        seen_by: &["replay"],
        names: "account 1 at shard 1",
    },
];

#[test]
fn what_is_held_wrongly_is_rejected() {
    check_rows(HELD);
}

/// Clients were told what is not so.
const TOLD: &[Row] = &[
    Row {
        what: "two answers are swapped",
        alter: |scene| {
            scene.answer(2).code = ResultCode::ExceedsCredits;
            scene.answer(4).code = ResultCode::Ok;
        },
        seen_by: &["durability"],
        names: "transfer 2 was answered exceeds_credits",
    },
    Row {
        what: "a commit timestamp that is another",
        alter: |scene| scene.answer(3).timestamp.0 += 1,
        seen_by: &["durability"],
        names: "transfer 3",
    },
    Row {
        what: "the wrong reason for a malformed request",
        alter: |scene| scene.answer(6).code = ResultCode::LedgerMustNotBeZero,
        seen_by: &["answers"],
        names: "transfer 6",
    },
    Row {
        what: "a difference to the record that is none",
        alter: |scene| scene.answer(1).code = ResultCode::ExistsWithDifferentAmount,
        seen_by: &["answers"],
        names: "transfer 1",
    },
    Row {
        what: "a first answer twice",
        alter: |scene| {
            let again = scene.transfer_use(2).clone();
            scene.history.transfers.push(again);
        },
        seen_by: &["answers"],
        names: "transfer 2",
    },
    Row {
        what: "a transfer that was denied and took effect",
        alter: |scene| {
            let denied = scene.transfer_use(5);
            (denied.abandoned, denied.denied) = (false, true);
        },
        seen_by: &["denials"],
        names: "transfer 5 was denied",
    },
    Row {
        what: "an id of the future that is none",
        alter: |scene| scene.answer(6).code = ResultCode::IdFromTheFuture,
        seen_by: &["answers", "replay"],
        names: "transfer 6: answered id_from_the_future",
    },
    Row {
        what: "the creation of an account that was there",
        alter: |scene| {
            let answer = scene.history.creations[0].answer.as_mut().unwrap();
            answer.code = ResultCode::ExistsWithDifferentCode;
        },
        seen_by: &["replay"],
        names: "creation of account 1",
    },
    Row {
        what: "a value that never was",
        alter: |scene| {
            let answer = scene.read(2).answer.as_mut().unwrap();
            answer.account.as_mut().unwrap().debits_posted = 18;
        },
        seen_by: &["reads"],
        names: "account 1: a read from 3200",
    },
    Row {
        what: "half of a slot",
        alter: |scene| {
            // Transfers 2 and 5 in one slot, and a read that saw the first of them.
            let five = scene.entry(1, 6).commands.remove(0);
            scene.entry(1, 3).commands.push(five);
            let mut record = *scene.debit(5);
            (record.slot, record.commit_ts) = (Slot(3), Timestamp(30));
            scene.record(5).debit = Some(record);
            scene.transfer_use(5).started_ns = Some(1500);
            let answer = scene.read(2).answer.as_mut().unwrap();
            answer.account.as_mut().unwrap().debits_posted = 10;
        },
        seen_by: &["reads"],
        names: "saw debits 10",
    },
    Row {
        what: "a read of another field",
        alter: |scene| {
            let answer = scene.read(1).answer.as_mut().unwrap();
            answer.account.as_mut().unwrap().user_data = 5;
        },
        seen_by: &["reads"],
        names: "account 1",
    },
    Row {
        what: "a request without an answer",
        alter: |scene| scene.transfer_use(2).answer = None,
        seen_by: &["liveness"],
        names: "transfer 2",
    },
    Row {
        what: "a move that was refused and happened",
        alter: |scene| scene.history.moves[0].moved = Some(false),
        seen_by: &["ownership"],
        names: "account 2 has moved 1 times",
    },
];

#[test]
fn what_was_told_wrongly_is_rejected() {
    check_rows(TOLD);
}

/// Every value is right for some order, and real time says that it was another.
const ORDER: &[Row] = &[
    Row {
        what: "a stale read",
        alter: |scene| {
            let answer = scene.read(2).answer.as_mut().unwrap();
            answer.account.as_mut().unwrap().debits_posted = 0;
        },
        seen_by: &["order"],
        names: "read 1 of account 1",
    },
    Row {
        what: "a read of what had not been sent",
        alter: |scene| {
            scene.read(2).started_ns = 1500;
            scene.read(2).answer.as_mut().unwrap().at_ns = 1600;
        },
        seen_by: &["order"],
        names: "transfer 2 (sent at 2000 ns",
    },
    Row {
        what: "a created account that was not found",
        alter: |scene| scene.read(1).answer.as_mut().unwrap().account = None,
        seen_by: &["order"],
        names: "read 0 of account 1",
    },
    Row {
        what: "a read that goes back behind another read",
        alter: |scene| {
            // Nobody was told of transfer 5: only the two reads can say that it had happened.
            for (at_ns, debits) in [(7000, 22), (7200, 17)] {
                let mut read = scene.history.reads[1].clone();
                read.started_ns = at_ns;
                let answer = read.answer.as_mut().unwrap();
                answer.at_ns = at_ns + 100;
                answer.account.as_mut().unwrap().debits_posted = debits;
                scene.history.reads.push(read);
            }
        },
        seen_by: &["order"],
        names: "read 4 of account 1",
    },
    Row {
        what: "a read at the old owner after a move",
        alter: |scene| {
            let answer = scene.read(3).answer.as_mut().unwrap();
            let account = answer.account.as_mut().unwrap();
            (account.ownership_epoch, account.debits_posted) = (0, 100);
        },
        seen_by: &["order"],
        names: "read 2 of account 2",
    },
    Row {
        what: "two effects on one account against real time",
        alter: |scene| {
            // The reads would see it as well.
            scene.history.reads.clear();
            scene.transfer_use(1).started_ns = Some(2200);
            scene.answer(1).at_ns = 2300;
        },
        seen_by: &["order"],
        names: "transfer 1 (sent at 2200 ns",
    },
    Row {
        what: "effects on accounts of two shards against real time, through a transfer between them",
        alter: |scene| {
            // On account 1: 1 before 3. On account 3: 3 before 9. In real time: 9 before 1.
            scene.history.reads.clear();
            scene.history.moves[0].answered_ns = None;
            scene.transfer_use(1).started_ns = Some(9500);
            scene.answer(1).at_ns = 9600;
            for id in [2, 3, 4, 5, 8] {
                scene.transfer_use(id).answer = None;
                scene.transfer_use(id).abandoned = true;
            }
            scene.history.cuts.clear();
        },
        seen_by: &["order"],
        names: "on account 3 it ended in slot 3",
    },
    Row {
        what: "a refusal for want of an account that had been created",
        alter: |scene| {
            // Account 9 comes to be in the slot after the refusal, and its creation was answered before
            // the transfer was sent.
            let mut created = scene.history.creations[2].clone();
            created.account.id.0 = 9;
            created.answer.as_mut().unwrap().timestamp = Timestamp(80);
            scene.history.creations.push(created.clone());
            let slot = scene.entry(2, 5);
            slot.commands.insert(0, Command::Create(created.account));
            let mut kept = created.account;
            kept.timestamp = Timestamp(80);
            scene.state.accounts.push((SECOND, kept));
        },
        seen_by: &["order"],
        names: "creation of account 9",
    },
    Row {
        what: "a cut that misses what was sent before and answered",
        alter: |scene| {
            scene.history.cuts[0].at = Timestamp(59);
            for (_, sums) in &mut scene.history.cuts[0].sums {
                sums.at = Timestamp(59);
            }
            let first = &mut scene.history.cuts[0].sums[0].1;
            first.transfers -= 1;
            let row = &mut first.ledgers[0];
            let less = |sum: Total| sum.wrapping_sub(5.into());
            row.debits_posted = less(row.debits_posted);
            row.credits_posted = less(row.credits_posted);
            row.transferred = less(row.transferred);
            scene.transfer_use(5).answer = scene.clone().transfer_use(4).answer;
            let answer = scene.answer(5);
            (answer.at_ns, answer.code) = (6100, ResultCode::Ok);
            answer.timestamp = Timestamp(60);
        },
        seen_by: &["cuts"],
        names: "transfer 5 was answered before the cut was announced",
    },
    Row {
        what: "a cut that holds what was sent later",
        alter: |scene| scene.transfer_use(5).started_ns = Some(6700),
        seen_by: &["cuts"],
        names: "transfer 5 was sent after the cut was answered",
    },
];

#[test]
fn what_came_in_another_order_is_rejected() {
    check_rows(ORDER);
}

/// The logs, and the cuts that they make.
const LOGGED: &[Row] = &[
    Row {
        what: "money missing from a cut",
        alter: |scene| {
            let row = &mut scene.history.cuts[0].sums[1].1.ledgers[0];
            row.credits_posted = row.credits_posted.wrapping_sub(1.into());
        },
        seen_by: &["conservation", "cuts"],
        names: "cut at 65: shard 2",
    },
    Row {
        what: "a cut whose errors balance",
        alter: |scene| {
            for (shard, less) in [(0, Total::from(1)), (1, Total::MAX)] {
                let row = &mut scene.history.cuts[0].sums[shard].1.ledgers[0];
                row.credits_posted = row.credits_posted.wrapping_sub(less);
            }
        },
        seen_by: &["cuts"],
        names: "cut at 65: shard 1",
    },
    Row {
        what: "an account that two shards count in a cut",
        alter: |scene| scene.history.cuts[0].sums[1].1.owned += 1,
        seen_by: &["conservation", "cuts"],
        names: "4 accounts owned, 3 created",
    },
    Row {
        what: "a reservation that stays",
        alter: |scene| scene.entry(2, 3).commands.clear(),
        seen_by: &["conservation", "cuts", "liveness", "replay"],
        names: "transfer 3 of shard 1 stays prepared",
    },
    Row {
        what: "a committed transfer that the participant dropped",
        alter: |scene| {
            let Command::Resolve(row) = &mut scene.entry(2, 3).commands[0] else {
                panic!("the story's slot");
            };
            row.verdict = Verdict::Abort.to_u16();
        },
        seen_by: &["conservation", "cuts", "decisions", "replay"],
        names: "aborted in slot 3 of shard 2",
    },
    Row {
        what: "a credit with another timestamp than its debit",
        alter: |scene| {
            let Command::Resolve(row) = &mut scene.entry(2, 3).commands[0] else {
                panic!("the story's slot");
            };
            row.timestamp.0 += 1;
            let credit = &mut scene.record_at(3, SECOND).credits[0];
            credit.commit_ts.0 += 1;
        },
        seen_by: &["conservation", "decisions", "exactly_once"],
        names: "transfer 3 of shard 1",
    },
    Row {
        what: "a commit that nobody voted for",
        alter: |scene| scene.entry(2, 2).commands.clear(),
        seen_by: &["conservation", "cuts", "decisions", "replay"],
        names: "committed in slot 4",
    },
    Row {
        what: "a refusal that the participant did not give",
        alter: |scene| {
            let Command::Commit(row) = &mut scene.entry(1, 7).commands[0] else {
                panic!("the story's slot");
            };
            row.code = ResultCode::CreditAccountClosed as u16;
            scene.debit(8).code = ResultCode::CreditAccountClosed as u16;
            scene.answer(8).code = ResultCode::CreditAccountClosed;
        },
        seen_by: &["decisions"],
        names: "refused in slot 7 as credit_account_closed",
    },
    Row {
        what: "money that came with an account",
        alter: |scene| {
            let Command::PrepareMove(batch) = &mut scene.entry(2, 5).commands[0] else {
                panic!("the story's slot");
            };
            batch.accounts[0].account.debits_posted -= 1;
            scene.account(2).debits_posted -= 1;
            let read = scene.read(3).answer.as_mut().unwrap();
            read.account.as_mut().unwrap().debits_posted -= 1;
        },
        seen_by: &["conservation", "decisions", "exactly_once"],
        names: "account 2 left as",
    },
    Row {
        what: "an account that arrives without word of an id used before",
        alter: |scene| {
            let Command::PrepareMove(batch) = &mut scene.entry(2, 5).commands[0] else {
                panic!("the story's slot");
            };
            batch.accounts[0].id_max = 0;
        },
        seen_by: &["decisions"],
        names: "without word of transfer 1",
    },
    Row {
        what: "an account that left twice",
        alter: |scene| {
            // A second home keeps it: the departure is lost in the first shard's log.
            scene.entry(1, 8).commands.clear();
        },
        seen_by: &["decisions", "ownership", "replay", "routes"],
        names: "move 77 of shard 1",
    },
    Row {
        what: "an account that left and never arrived",
        alter: |scene| {
            scene.entry(2, 5).commands.clear();
            scene.entry(2, 6).commands.clear();
        },
        seen_by: &["decisions", "replay", "reads"],
        names: "left for shard 2, never arrived",
    },
    Row {
        what: "an effect that the state does not have",
        alter: |scene| {
            let Command::Transfer(mut transfer) = scene.entry(2, 7).commands[0] else {
                panic!("the story's slot");
            };
            transfer.id.0 = 99;
            scene.entry(2, 7).commands.push(Command::Transfer(transfer));
        },
        seen_by: &["reads", "replay"],
        names: "transfer 99 was decided in slot 7 of shard 2, nobody sent it",
    },
    Row {
        what: "a slot that is missing",
        alter: |scene| {
            let log = scene.state.logs.get_mut(&ShardId(1)).unwrap();
            log.remove(&Slot(7));
        },
        seen_by: &["decisions", "ownership", "replay", "routes"],
        names: "slot 8 of shard 1: slot 7 is missing",
    },
];

#[test]
fn what_is_logged_wrongly_is_rejected() {
    check_rows(LOGGED);
}
