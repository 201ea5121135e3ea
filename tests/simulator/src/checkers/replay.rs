//! Replay: what the engine holds is what the model says that its own logs made of it.
//!
//! Every account with every field, every recorded id with its result, slot and timestamp, and the
//! answer to every creation. Results are compared at the shard where they were decided, so a transfer
//! whose client never heard an answer is judged like any other.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{RecordedTransfer, TransferAnswer};
use quorate_protocol::ids::{AccountId, ShardId, Slot, TransferId};
use quorate_protocol::ledger::{Account, ResultCode, Transfer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Attempt;

use super::durability::same_fields;
use super::model::{Decision, Posting, Replay, rules};
use super::replays::Replays;
use super::{FinalState, Violation};
use crate::history::{CreationUse, History};

/// Compares the final state with the model's.
pub fn check(
    history: &History,
    state: &FinalState,
    replays: &Replays,
    violations: &mut Vec<Violation>,
) {
    let mut report = |text| {
        violations.push(Violation {
            checker: "replay",
            text,
        });
    };
    for replay in replays.shards.values() {
        replay.problems.iter().cloned().for_each(&mut report);
    }
    check_accounts(state, replays, &mut report);
    check_records(state, replays, &mut report);
    for creation in &history.creations {
        if let Err(text) = check_creation(creation, replays) {
            report(format!(
                "creation of account {}: {text}",
                creation.account.id
            ));
        }
    }
    check_ahead(history, replays, &mut report);
    check_too_old(history, replays, &mut report);
}

fn check_accounts(state: &FinalState, replays: &Replays, report: &mut impl FnMut(String)) {
    let mut expected: BTreeMap<(ShardId, AccountId), &Account> = BTreeMap::new();
    for (&shard, replay) in &replays.shards {
        let accounts = replay.accounts.iter();
        expected.extend(accounts.map(|(&id, owned)| ((shard, id), &owned.account)));
    }
    for (shard, account) in &state.accounts {
        let Some(model) = expected.remove(&(*shard, account.id)) else {
            report(format!(
                "shard {shard} lists account {}, which its log did not bring there",
                account.id
            ));
            continue;
        };
        if model != account {
            report(format!(
                "account {} at shard {shard} is {account:?}, its log makes it {model:?}",
                account.id
            ));
        }
    }
    for ((shard, id), _) in expected {
        report(format!(
            "account {id} should be at shard {shard}, which does not list it"
        ));
    }
}

/// What a record says, in the words of both sides.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: u16,
    slot: Slot,
    commit_ts: Timestamp,
    attempt: Attempt,
}

fn said(record: &RecordedTransfer) -> (Said, Transfer) {
    let said = Said {
        code: record.code,
        slot: record.slot,
        commit_ts: record.commit_ts,
        attempt: record.attempt,
    };
    (said, record.transfer)
}

fn decided(decision: &Decision) -> (Said, Transfer) {
    let said = Said {
        code: decision.result as u16,
        slot: decision.slot,
        commit_ts: decision.commit_ts,
        attempt: decision.attempt,
    };
    (said, decision.transfer)
}

fn posted(posting: &Posting) -> (Said, Transfer) {
    let said = Said {
        code: ResultCode::Ok as u16,
        slot: posting.slot,
        commit_ts: posting.commit_ts,
        attempt: posting.attempt,
    };
    (said, posting.transfer)
}

fn check_records(state: &FinalState, replays: &Replays, report: &mut impl FnMut(String)) {
    let mut seen: BTreeSet<(ShardId, TransferId)> = BTreeSet::new();
    for (shard, answer) in &state.records {
        seen.insert((*shard, answer.id));
        let Some(replay) = replays.shard(*shard) else {
            continue;
        };
        for text in check_record(answer, replay) {
            report(format!("transfer {} at shard {shard}: {text}", answer.id));
        }
    }
    for (shard, decision) in replays.decisions() {
        let id = decision.transfer.id;
        if !seen.contains(&(shard, id)) {
            report(format!(
                "transfer {id} was decided in slot {} of shard {shard}, nobody sent it",
                decision.slot
            ));
        }
    }
}

fn check_record(answer: &TransferAnswer, replay: &Replay) -> Vec<String> {
    let decisions = replay.decisions.get(&answer.id).map(decided);
    let here = replay.shard;
    let coordinators = (1..=replay.rules.shards).map(ShardId);
    let postings = coordinators
        .filter(|&coordinator| coordinator != here)
        .filter_map(|coordinator| replay.postings.get(&(coordinator, answer.id)))
        .map(posted);
    type Side = Vec<(Said, Transfer)>;
    let sides: [(&str, Side, Side); 2] = [
        (
            "debit",
            answer.debit.iter().map(said).collect(),
            decisions.into_iter().collect(),
        ),
        (
            "credit",
            answer.credits.iter().map(said).collect(),
            postings.collect(),
        ),
    ];
    let mut problems = Vec::new();
    for (side, kept, model) in sides {
        let equal = kept.len() == model.len()
            && kept
                .iter()
                .zip(&model)
                .all(|(kept, model)| kept.0 == model.0 && same_fields(&kept.1, &model.1));
        if !equal {
            problems.push(format!(
                "{side} side recorded as {kept:?}, the log makes it {model:?}"
            ));
        }
    }
    problems
}

/// The answer to a creation: made now, or what differs from the account that exists.
fn check_creation(creation: &CreationUse, replays: &Replays) -> Result<(), String> {
    let Some(answer) = creation.answer else {
        return Ok(());
    };
    let sent = &creation.account;
    let mut owners = replays.shards.values();
    let account = owners.find_map(|replay| replay.accounts.get(&sent.id));
    let Some(account) = account.map(|owned| &owned.account) else {
        return Err(format!("answered {}, it is nowhere", answer.code.name()));
    };
    let again = rules::created_again(account, sent);
    let fits = answer.code == again || answer.code == ResultCode::Ok && again == ResultCode::Exists;
    if !fits {
        let (told, due) = (answer.code.name(), again.name());
        return Err(format!("answered {told}, the account calls for {due}"));
    }
    if answer.timestamp != account.timestamp {
        return Err(format!(
            "answered timestamp {}, it was made at {}",
            answer.timestamp.0, account.timestamp.0
        ));
    }
    Ok(())
}

/// "Too old" leaves no record either.
fn check_too_old(history: &History, replays: &Replays, report: &mut impl FnMut(String)) {
    let shards = replays.shards.values();
    let too_old: BTreeSet<TransferId> = shards.flat_map(|it| it.too_old.iter().copied()).collect();
    for transfer_use in &history.transfers {
        let id = transfer_use.transfer.id;
        let told = transfer_use
            .answer
            .is_some_and(|answer| answer.code == ResultCode::IdTooOld);
        if told && !too_old.contains(&id) {
            report(format!(
                "transfer {id}: answered id_too_old, no entry found it so"
            ));
        }
    }
}

/// "From the future" leaves no record, so all that can be said is that some entry found it so.
fn check_ahead(history: &History, replays: &Replays, report: &mut impl FnMut(String)) {
    let ahead: BTreeSet<TransferId> = replays
        .shards
        .values()
        .flat_map(|replay| replay.ahead.iter().copied())
        .collect();
    for transfer_use in &history.transfers {
        let id = transfer_use.transfer.id;
        let told = transfer_use
            .answer
            .is_some_and(|answer| answer.code == ResultCode::IdFromTheFuture);
        if told && !ahead.contains(&id) {
            report(format!(
                "transfer {id}: answered id_from_the_future, no entry found it so"
            ));
        }
    }
}
