//! The alterations of [`super::matrix`] on the recorded run of a seed: thousands of operations, crashes,
//! moves and cuts, and one thing changed that somebody must see and name.
//!
//! Victims are drawn, several for each kind. Changes of what clients saw must be seen by the named
//! checkers and by no other; changes of what the cluster holds may be seen by more, because other
//! operations depend on them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::TransferAnswer;
use quorate_protocol::ids::TransferId;
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::time::Timestamp;

use super::fixture::Scene;
use super::log::Command;
use super::model::{Actor, Step};
use super::replays::Replays;
use super::{Violation, check_all};
use crate::history::{HistoryUse, TransferUse};
use crate::parameters::Parameters;
use crate::phases;
use crate::random::{Concern, Stream};
use crate::trace::Trace;

/// Victims of each kind.
const TRIES: usize = 4;

/// A recorded run with everything in it that is altered here.
struct Recorded {
    scene: Scene,
    replays: Replays,
}

impl Recorded {
    /// The first seed whose run holds enough of everything.
    fn find() -> Self {
        (0..50)
            .map(Self::of)
            .find(|recorded| {
                let history = &recorded.scene.history;
                let moved = history.moves.iter().filter(|one| one.moved == Some(true));
                // Where uses of ids are let go of, one that is gone may be gone rightly.
                recorded.scene.state.rules.keep_ns.is_none()
                    && recorded.across().len() >= 100
                    && moved.count() >= 3
                    && !history.cuts.is_empty()
                    && history.reads.len() >= 100
                    && recorded.histories(|one| one.passed > Timestamp::ZERO).len() >= 10
                    && recorded.histories(|one| one.parts.len() > 1).len() >= 2
                    && recorded.answered(ResultCode::ExceedsCredits).len() >= 5
            })
            .expect("one of 50 seeds")
    }

    fn of(seed: u64) -> Self {
        let world = phases::play(Parameters::draw(seed), Trace::default());
        assert_eq!(world.violations, [], "seed {seed}");
        let scene = Scene {
            history: world.history,
            state: world.final_state,
        };
        Self {
            replays: scene.replays(),
            scene,
        }
    }

    /// Uses that were answered with a code.
    fn answered(&self, code: ResultCode) -> Vec<usize> {
        let uses = self.scene.history.transfers.iter().enumerate();
        uses.filter(|(_, one)| one.answer.is_some_and(|answer| answer.code == code))
            .map(|(number, _)| number)
            .collect()
    }

    /// Transfers that were committed across shards.
    fn across(&self) -> Vec<TransferId> {
        let decisions = self.replays.decisions();
        decisions
            .filter(|(_, decision)| decision.across.is_some() && decision.result == ResultCode::Ok)
            .map(|(_, decision)| decision.transfer.id)
            .collect()
    }

    /// Histories with some rows that were read to their end.
    fn histories(&self, fits: impl Fn(&HistoryUse) -> bool) -> Vec<usize> {
        let histories = self.scene.history.histories.iter().enumerate();
        let is_whole = |one: &HistoryUse| {
            one.next().is_none() && one.parts.first().is_some_and(|part| part.rows.len() > 3)
        };
        histories
            .filter(|(_, one)| is_whole(one) && fits(one))
            .map(|(number, _)| number)
            .collect()
    }

    /// Alters a copy and judges it.
    fn alter(&self, alter: impl FnOnce(&mut Scene)) -> Vec<Violation> {
        let mut scene = self.scene.clone();
        alter(&mut scene);
        check_all(&scene.history, &scene.state)
    }
}

fn records_of(scene: &mut Scene, id: TransferId) -> impl Iterator<Item = &mut TransferAnswer> {
    let records = scene.state.records.iter_mut();
    records
        .map(|(_, answer)| answer)
        .filter(move |answer| answer.id == id)
}

fn uses_of(scene: &mut Scene, id: TransferId) -> impl Iterator<Item = &mut TransferUse> {
    let uses = scene.history.transfers.iter_mut();
    uses.filter(move |one| one.transfer.id == id)
}

/// Each of these checkers complains, and says this.
#[track_caller]
fn seen_by(violations: &[Violation], checkers: &[&str], text: &str) {
    for checker in checkers {
        let mut found = violations.iter().filter(|found| found.checker == *checker);
        assert!(
            found.any(|found| found.text.contains(text)),
            "{checker} does not say \"{text}\": {violations:#?}"
        );
    }
}

/// These checkers complain and no other.
#[track_caller]
fn seen_only_by(violations: &[Violation], checkers: &[&str]) {
    let found: BTreeSet<&str> = violations.iter().map(|found| found.checker).collect();
    let expected: BTreeSet<&str> = checkers.iter().copied().collect();
    assert_eq!(found, expected, "{violations:#?}");
}

#[test]
fn every_alteration_of_a_recorded_run_is_seen_and_named() {
    let recorded = Recorded::find();
    let stream = &mut Stream::new(1, Concern::Workload, 0);
    for _ in 0..TRIES {
        records_are_altered(&recorded, stream);
        answers_are_altered(&recorded, stream);
        reads_are_altered(&recorded, stream);
        real_time_is_altered(&recorded, stream);
        logs_are_altered(&recorded, stream);
        cuts_are_altered(&recorded, stream);
        histories_are_altered(&recorded, stream);
    }
}

fn records_are_altered(recorded: &Recorded, stream: &mut Stream) {
    let uses = &recorded.scene.history.transfers;
    let done = recorded.answered(ResultCode::Ok);
    let done = uses[done[stream.index(done.len())]].transfer;
    let named = format!("transfer {}", done.id);
    let lost = recorded.alter(|scene| {
        for answer in records_of(scene, done.id) {
            answer.debit = None;
            answer.credits.clear();
        }
    });
    seen_by(&lost, &["durability", "replay"], &named);

    let doubled = recorded.alter(|scene| {
        scene.account(done.credit_account_id.0).credits_posted += done.amount;
    });
    let account = format!("account {} ", done.credit_account_id);
    seen_by(&doubled, &["exactly_once", "replay"], &account);
    seen_by(&doubled, &["conservation"], "at the end");
    seen_only_by(&doubled, &["conservation", "exactly_once", "replay"]);

    let refused = recorded.answered(ResultCode::ExceedsCredits);
    let refused = uses[refused[stream.index(refused.len())]].transfer;
    let swapped = recorded.alter(|scene| {
        for (id, code) in [
            (done.id, ResultCode::ExceedsCredits),
            (refused.id, ResultCode::Ok),
        ] {
            for answer in records_of(scene, id) {
                if let Some(debit) = &mut answer.debit {
                    debit.code = code as u16;
                }
            }
        }
    });
    for id in [done.id, refused.id] {
        seen_by(
            &swapped,
            &["durability", "replay"],
            &format!("transfer {id}"),
        );
    }

    let across = recorded.across();
    let across = across[stream.index(across.len())];
    let uneven = recorded.alter(|scene| {
        for answer in records_of(scene, across) {
            for credit in &mut answer.credits {
                credit.transfer.amount += 1;
            }
        }
    });
    let named = format!("transfer {across}");
    seen_by(&uneven, &["exactly_once", "replay"], &named);

    let (shard, account) = recorded.scene.state.accounts[stream.index(5)];
    let owned_twice = recorded.alter(|scene| {
        let mut other = shard;
        other.0 = shard.0 % scene.state.rules.shards + 1;
        scene.state.accounts.push((other, account));
    });
    let named = format!("account {} is owned by", account.id);
    seen_by(&owned_twice, &["ownership"], &named);
}

fn answers_are_altered(recorded: &Recorded, stream: &mut Stream) {
    let done = recorded.answered(ResultCode::Ok);
    let number = done[stream.index(done.len())];
    let id = recorded.scene.history.transfers[number].transfer.id;
    let named = format!("transfer {id}");
    let silent = recorded.alter(|scene| scene.history.transfers[number].answer = None);
    seen_by(&silent, &["liveness"], &named);
    seen_only_by(&silent, &["liveness"]);

    let other_time = recorded.alter(|scene| {
        let answer = scene.history.transfers[number].answer.as_mut().unwrap();
        answer.timestamp.0 += 1;
    });
    seen_by(&other_time, &["durability"], &named);
    seen_only_by(&other_time, &["durability"]);

    let refused = recorded.alter(|scene| {
        let answer = scene.history.transfers[number].answer.as_mut().unwrap();
        answer.code = ResultCode::IdAlreadyFailed;
    });
    seen_by(&refused, &["answers"], &named);
    seen_only_by(&refused, &["answers"]);
}

/// A read, the value before the one that it saw, and who made the difference long ago.
fn stale_reads(recorded: &Recorded) -> Vec<(usize, Step)> {
    let history = &recorded.scene.history;
    let mut answered: BTreeMap<TransferId, u64> = BTreeMap::new();
    for one in &history.transfers {
        if let Some(answer) = one.answer.filter(|answer| answer.code == ResultCode::Ok) {
            answered.insert(one.transfer.id, answer.at_ns);
        }
    }
    let mut stale = Vec::new();
    for (number, read) in history.reads.iter().enumerate() {
        let found = read.answer.as_ref().and_then(|answer| answer.account);
        let Some(found) = found else { continue };
        let life = recorded.replays.lives[&read.account].iter();
        let changes: Vec<&Step> = life.filter(|step| step.sums.is_some()).collect();
        let saw = changes.iter().rposition(|step| {
            let (debits, credits) = step.sums.unwrap();
            step.ownership_epoch == found.ownership_epoch
                && (debits, credits) == (found.debits_posted, found.credits_posted)
        });
        let Some(saw) = saw.filter(|saw| *saw > 0) else {
            continue;
        };
        let (before, last) = (changes[saw - 1], changes[saw]);
        let Actor::Transfer(id) = last.actor else {
            continue;
        };
        let known = answered
            .get(&id)
            .is_some_and(|at_ns| *at_ns < read.started_ns);
        if known && before.moment() != last.moment() {
            stale.push((number, *before));
        }
    }
    stale
}

fn reads_are_altered(recorded: &Recorded, stream: &mut Stream) {
    let stale = stale_reads(recorded);
    assert!(stale.len() > 10, "reads that can be made stale");
    let (number, before) = stale[stream.index(stale.len())];
    let earlier = recorded.alter(|scene| {
        let answer = scene.history.reads[number].answer.as_mut().unwrap();
        let account = answer.account.as_mut().unwrap();
        account.ownership_epoch = before.ownership_epoch;
        (account.debits_posted, account.credits_posted) = before.sums.unwrap();
    });
    seen_by(&earlier, &["order"], &format!("read {number} of account"));
    seen_only_by(&earlier, &["order"]);

    let never = recorded.alter(|scene| {
        let answer = scene.history.reads[number].answer.as_mut().unwrap();
        answer.account.as_mut().unwrap().debits_posted += 1 << 100;
    });
    seen_by(&never, &["reads"], &format!("account {}:", before.account));
    seen_only_by(&never, &["reads"]);
}

/// A transfer across shards, one that came before it on its debit account, and an answered one that came
/// after it on its credit account.
fn around(recorded: &Recorded, across: TransferId) -> Option<(TransferId, TransferId, u64)> {
    let mut decisions = recorded.replays.decisions();
    let (_, decision) = decisions.find(|(_, decision)| decision.transfer.id == across)?;
    let transfer = decision.transfer;
    let own = |step: &&Step| step.actor == Actor::Transfer(across);
    let effect = |step: &&Step| step.sums.is_some();
    let debits = &recorded.replays.lives[&transfer.debit_account_id];
    let debited = debits.iter().find(own)?;
    let mut earlier = debits.iter().filter(effect).rev();
    let before = earlier.find_map(|step| match step.actor {
        Actor::Transfer(id) if step.moment() < debited.begin() => Some(id),
        _ => None,
    })?;
    let credits = &recorded.replays.lives[&transfer.credit_account_id];
    let credited = credits.iter().find(own)?;
    let mut later = credits.iter().filter(effect);
    later.find_map(|step| {
        let Actor::Transfer(id) = step.actor else {
            return None;
        };
        let uses = recorded.scene.history.transfers.iter();
        let mut answers = uses.filter(|one| one.transfer.id == id);
        let answer = answers.find_map(|one| one.answer)?;
        let done = answer.code == ResultCode::Ok && step.begin() > credited.moment();
        (done && id != before).then_some((before, id, answer.at_ns))
    })
}

fn real_time_is_altered(recorded: &Recorded, stream: &mut Stream) {
    let across = recorded.across();
    let first = stream.index(across.len());
    let ids = across[first..].iter().chain(&across[..first]);
    let (before, _, answered_ns) = ids
        .copied()
        .find_map(|id| around(recorded, id))
        .expect("a transfer across shards between two others");
    let late = recorded.alter(|scene| {
        // No read: only effects on accounts of two shards can tell.
        scene.history.reads.clear();
        for one in uses_of(scene, before) {
            one.started_ns = Some(answered_ns + 1);
            if let Some(answer) = &mut one.answer {
                answer.at_ns = answered_ns + 2;
            }
        }
    });
    let named = format!("transfer {before} (sent at {} ns", answered_ns + 1);
    seen_by(&late, &["order"], "a cycle");
    let told: Vec<&Violation> = late.iter().filter(|v| v.checker != "cuts").collect();
    assert!(
        told.iter().all(|found| found.checker == "order"),
        "{late:#?}"
    );
    assert!(
        told.iter().any(|found| found.text.contains(&named)),
        "{late:#?}"
    );
}

/// Takes the commands out that fit; how many there were.
fn without(scene: &mut Scene, fits: impl Fn(&Command) -> bool) -> usize {
    let mut taken = 0;
    for entry in scene.state.logs.values_mut().flat_map(BTreeMap::values_mut) {
        let before = entry.commands.len();
        entry.commands.retain(|command| !fits(command));
        taken += before - entry.commands.len();
    }
    taken
}

fn logs_are_altered(recorded: &Recorded, stream: &mut Stream) {
    let across = recorded.across();
    let id = across[stream.index(across.len())];
    let named = format!("transfer {} of shard", id.0);
    let stays = recorded.alter(|scene| {
        let resolves =
            |command: &Command| matches!(command, Command::Resolve(row) if row.id == id.0);
        assert!(without(scene, resolves) > 0);
    });
    seen_by(&stays, &["liveness"], &named);
    let unvoted = recorded.alter(|scene| {
        let prepares =
            |command: &Command| matches!(command, Command::Prepare(row) if row.transfer.id == id);
        assert!(without(scene, prepares) > 0);
    });
    seen_by(&unvoted, &["decisions"], &named);

    let arrivals = recorded
        .replays
        .shards
        .values()
        .flat_map(|replay| &replay.arrivals);
    let arrived: BTreeSet<u128> = arrivals.map(|arrival| arrival.txn.id).collect();
    let forgotten = recorded.alter(|scene| {
        for entry in scene.state.logs.values_mut().flat_map(BTreeMap::values_mut) {
            for command in &mut entry.commands {
                if let Command::PrepareMove(batch) = command
                    && arrived.contains(&batch.head.id.0)
                {
                    batch.accounts.iter_mut().for_each(|row| row.id_max = 0);
                    batch.owners.clear();
                }
            }
        }
    });
    seen_by(&forgotten, &["decisions"], "without word of transfer");
    seen_only_by(&forgotten, &["decisions"]);
}

fn cuts_are_altered(recorded: &Recorded, stream: &mut Stream) {
    let number = stream.index(recorded.scene.history.cuts.len());
    let named = format!("cut at {}: shard", recorded.scene.history.cuts[number].at.0);
    let balanced = recorded.alter(|scene| {
        let sums = &mut scene.history.cuts[number].sums;
        sums[0].1.owned += 1;
        sums[1].1.owned = sums[1].1.owned.wrapping_sub(1);
    });
    seen_by(&balanced, &["cuts"], &named);
    seen_only_by(&balanced, &["cuts"]);
}

fn histories_are_altered(recorded: &Recorded, stream: &mut Stream) {
    let whole = recorded.histories(|_| true);
    let number = whole[stream.index(whole.len())];
    let named = format!(
        "account {}",
        recorded.scene.history.histories[number].account
    );
    let rows = recorded.scene.history.histories[number].parts[0].rows.len();
    let at = stream.index(rows);
    let skipped = recorded.alter(|scene| {
        scene.history.histories[number].parts[0].rows.remove(at);
    });
    seen_by(&skipped, &["histories"], &named);
    seen_only_by(&skipped, &["histories"]);
    let short = recorded.alter(|scene| {
        scene.history.histories[number].parts[0].rows.pop();
    });
    seen_by(&short, &["histories"], "is left out");
    let other = recorded.alter(|scene| {
        let row = &mut scene.history.histories[number].parts[0].rows[at];
        row.recorded.commit_ts = Timestamp(row.recorded.commit_ts.0 - 1);
    });
    seen_by(&other, &["histories"], "must be");
    seen_only_by(&other, &["histories"]);
    // What comes later committed later, but not later than this.
    let early = recorded.alter(|scene| {
        for one in &mut scene.history.histories {
            one.passed = Timestamp(u64::MAX - 1);
        }
    });
    seen_by(&early, &["histories"], "came behind it");

    let moved = recorded.histories(|one| one.parts.len() > 1);
    let number = moved[stream.index(moved.len())];
    let forgotten = recorded.alter(|scene| {
        let one = &mut scene.history.histories[number];
        one.parts.pop();
        if let Some(head) = &mut one.head {
            head.owners.pop();
        }
    });
    seen_by(&forgotten, &["histories"], "former owners");
    seen_only_by(&forgotten, &["histories"]);
}
