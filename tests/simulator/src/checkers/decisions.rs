//! Decisions: the logs of different shards agree about the transactions between them.
//!
//! The model replays each shard alone and believes what a `Resolved` says. Here it is held against the
//! other shard's log: a commit had a vote before it, whatever was posted was committed at that very
//! timestamp, whatever was dropped never commits, a refusal is one that the participant gave, and an
//! account arrives exactly as it left, with all that is needed to know the ids used before.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::{CommitKind, MovedAccountRow, Subject, TxnId};

use super::Violation;
use super::durability::same_fields;
use super::model::{Arrival, Decision, Departure, Replay, Resolution};
use super::replays::{Replays, txn_of};

/// Compares what the shards say about each other's transactions.
pub fn check(replays: &Replays, violations: &mut Vec<Violation>) {
    let mut report = |txn: TxnId, text: String| {
        let what = match txn.subject {
            Subject::Transfer => "transfer",
            Subject::Move => "move",
        };
        violations.push(Violation {
            checker: "decisions",
            text: format!(
                "{what} {} of shard {}, attempt {:?}: {text}",
                txn.id, txn.coordinator, txn.attempt
            ),
        });
    };
    for (shard, decision) in replays.decisions() {
        if let Err(text) = check_decision(shard, decision, replays) {
            report(txn_of(shard, decision), text);
        }
    }
    let departures: BTreeMap<TxnId, &Departure> = replays
        .shards
        .values()
        .flat_map(|replay| &replay.departures)
        .map(|departure| (departure.txn, departure))
        .collect();
    let highest = HighestIds::new(replays);
    for (&shard, replay) in &replays.shards {
        for resolution in &replay.resolutions {
            if let Err(text) = check_resolution(shard, resolution, replays, &departures) {
                report(resolution.txn, text);
            }
        }
        for arrival in &replay.arrivals {
            if let Some(departure) = departures.get(&arrival.txn) {
                for text in check_arrival(arrival, departure, shard, &highest) {
                    report(arrival.txn, text);
                }
            }
        }
    }
    check_targets(replays, &departures, &mut report);
}

/// What the participant must have done for a decision to be right.
fn check_decision(
    coordinator: ShardId,
    decision: &Decision,
    replays: &Replays,
) -> Result<(), String> {
    let Some((shard, kind)) = decision.across else {
        return Ok(());
    };
    let txn = txn_of(coordinator, decision);
    let slot = decision.slot;
    let participant = replays
        .shard(shard)
        .ok_or_else(|| format!("decided in slot {slot} with shard {shard}, which has no log"))?;
    if decision.result == ResultCode::Ok {
        let prepare_ts = participant.prepared.get(&txn);
        if prepare_ts.is_none_or(|&at| at >= decision.commit_ts) {
            return Err(format!(
                "committed in slot {slot} at {}, prepared at shard {shard} at {prepare_ts:?}",
                decision.commit_ts.0
            ));
        }
        return check_posting(txn, decision, participant);
    }
    // A refusal leaves no trace in the participant's state: a prepare that was sent again is judged
    // again, perhaps with another result. Either may have reached the coordinator.
    let refusals = participant.refusals.get(&txn).into_iter().flatten();
    let said: Vec<ResultCode> = refusals.map(|refusal| refusal.code).collect();
    if kind == CommitKind::Refuse && !said.contains(&decision.result) {
        return Err(format!(
            "refused in slot {slot} as {}, shard {shard} said {said:?}",
            decision.result.name()
        ));
    }
    Ok(())
}

fn check_posting(txn: TxnId, decision: &Decision, participant: &Replay) -> Result<(), String> {
    let shard = participant.shard;
    // What is still in doubt at the end is the liveness checker's.
    if participant.in_doubt.contains_key(&txn) {
        return Ok(());
    }
    let key = (txn.coordinator, TransferId(txn.id));
    let Some(posting) = participant.postings.get(&key) else {
        return Err(format!("committed, and shard {shard} never posted it"));
    };
    let same = (posting.attempt, posting.commit_ts) == (decision.attempt, decision.commit_ts);
    if !same || !same_fields(&posting.transfer, &decision.transfer) {
        return Err(format!(
            "shard {shard} posted {posting:?}, committed is {decision:?}"
        ));
    }
    Ok(())
}

/// What the coordinator must have decided for a resolution to be right.
fn check_resolution(
    shard: ShardId,
    resolution: &Resolution,
    replays: &Replays,
    departures: &BTreeMap<TxnId, &Departure>,
) -> Result<(), String> {
    let txn = resolution.txn;
    let decided = match txn.subject {
        Subject::Transfer => replays
            .shard(txn.coordinator)
            .and_then(|replay| replay.decisions.get(&TransferId(txn.id)))
            .filter(|decision| decision.result == ResultCode::Ok && decision.attempt == txn.attempt)
            .map(|decision| decision.commit_ts),
        Subject::Move => departures.get(&txn).map(|departure| departure.commit_ts),
    };
    if decided == resolution.commit_ts {
        return Ok(());
    }
    let told = |at: Option<Timestamp>| match at {
        Some(at) => format!("committed at {}", at.0),
        None => "aborted".to_owned(),
    };
    Err(format!(
        "{} in slot {} of shard {shard}, but {} at its coordinator",
        told(resolution.commit_ts),
        resolution.slot,
        told(decided)
    ))
}

/// An account arrives as it left.
fn check_arrival(
    arrival: &Arrival,
    departure: &Departure,
    shard: ShardId,
    highest: &HighestIds,
) -> Vec<String> {
    let mut problems = Vec::new();
    if departure.target != shard {
        problems.push(format!(
            "left for shard {}, arrived at shard {shard}",
            departure.target
        ));
    }
    let rows = &arrival.batch.accounts;
    if rows.len() != departure.accounts.len() {
        let (left, came) = (departure.accounts.len(), rows.len());
        problems.push(format!("{left} accounts left, {came} arrived"));
    }
    for left in &departure.accounts {
        let id = left.account.id;
        let Some(row) = rows.iter().find(|row| row.account.id == id) else {
            problems.push(format!("account {id} left and did not arrive"));
            continue;
        };
        if row.account != left.account || row.version != left.changes {
            problems.push(format!(
                "account {id} left as {:?}, change {}, and arrived as {:?}, change {}",
                left.account, left.changes, row.account, row.version
            ));
        }
        problems.extend(highest.unknown(row, arrival, shard));
    }
    problems
}

/// The highest transfer id that was decided for an account under each of its ownerships, and where.
struct HighestIds(BTreeMap<(AccountId, u32), (ShardId, TransferId)>);

impl HighestIds {
    fn new(replays: &Replays) -> Self {
        let mut highest: BTreeMap<(AccountId, u32), (ShardId, TransferId)> = BTreeMap::new();
        for (shard, decision) in replays.decisions() {
            let transfer = &decision.transfer;
            let key = (transfer.debit_account_id, transfer.debit_epoch);
            let most = highest.entry(key).or_insert((shard, transfer.id));
            most.1 = most.1.max(transfer.id);
        }
        Self(highest)
    }

    /// An id that was used for the account at another shard, and that the new owner would take for
    /// new: it asks a previous owner only about ids up to the highest that this one is said to have
    /// recorded.
    fn unknown(&self, row: &MovedAccountRow, arrival: &Arrival, target: ShardId) -> Option<String> {
        let account = row.account.id;
        let mut known: BTreeMap<ShardId, u128> = BTreeMap::new();
        known.insert(arrival.batch.head.source, row.id_max);
        let owners = arrival.batch.owners.iter();
        for owner in owners.filter(|owner| owner.account == account) {
            let id_max = known.entry(owner.shard).or_default();
            *id_max = owner.id_max.max(*id_max);
        }
        let before = (account, 0)..=(account, row.account.ownership_epoch);
        self.0.range(before).find_map(|(_, &(shard, id))| {
            let told = known.get(&shard).is_some_and(|&id_max| id_max >= id.0);
            (shard != target && !told).then(|| {
                format!(
                    "account {account} arrives at shard {target} without word of transfer {id}, used \
                     at shard {shard}"
                )
            })
        })
    }
}

/// What left has arrived, or is still staged.
fn check_targets(
    replays: &Replays,
    departures: &BTreeMap<TxnId, &Departure>,
    report: &mut impl FnMut(TxnId, String),
) {
    for (&txn, departure) in departures {
        let target = replays.shard(departure.target);
        let arrived = target.is_some_and(|replay| {
            let mut arrivals = replay.arrivals.iter();
            arrivals.any(|arrival| arrival.txn == txn) || replay.staged.contains_key(&txn)
        });
        if !arrived {
            report(
                txn,
                format!("left for shard {}, never arrived", departure.target),
            );
        }
    }
}
