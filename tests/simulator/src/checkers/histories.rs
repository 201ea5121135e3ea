//! Histories: the rows that were told are those that the model has, in its order, none left out.
//!
//! The first page tells the account at an instant, which is a place in its life (as for every read, see
//! [`super::reads`]; each first page is a read there as well). Behind it:
//!
//! - the owner's rows are the model's up to that place, newest first, without those outside the range;
//! - a former owner's are the model's that took effect before the account left;
//! - they may end early where the reader stopped, or where rows may be forgotten, and nowhere else; the audit never
//!   stops, and every account that was listed for it has a history;
//! - whatever took effect behind the instant committed behind the time that had passed: so the balances at
//!   that time are final, and the model's.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::client::{HistoryEntry, HistoryHead};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::time::Timestamp;

use super::Violation;
use super::model::{Line, Step};
use super::replays::{Moment, Replays};
use crate::history::{History, HistoryPart, HistoryUse};

/// The lines of an account at each shard, in the order of their effect.
type Chains<'a> = BTreeMap<(AccountId, ShardId), Vec<&'a Line>>;

/// Judges every history that has begun.
pub fn check(history: &History, replays: &Replays, violations: &mut Vec<Violation>) {
    let mut chains = Chains::new();
    for (&shard, replay) in &replays.shards {
        for line in &replay.lines {
            let chain = chains.entry((line.account, shard)).or_default();
            chain.push(line);
        }
    }
    for one in &history.histories {
        let judged = match &one.head {
            Some(_) if one.is_audit && one.next().is_some() => {
                Err("is not told in full".to_owned())
            }
            Some(head) => judge(one, head, &chains, replays),
            None if one.is_audit => Err("is listed and has no history".to_owned()),
            None => continue,
        };
        if let Err(text) = judged {
            let (first, last, passed) = (one.first.0, one.last.0, one.passed.0);
            violations.push(Violation {
                checker: "histories",
                text: format!(
                    "account {} from {first} to {last}, {passed} passed: {text}",
                    one.account
                ),
            });
        }
    }
}

fn judge(
    one: &HistoryUse,
    head: &HistoryHead,
    chains: &Chains<'_>,
    replays: &Replays,
) -> Result<(), String> {
    let life = replays.lives.get(&one.account);
    let life = life.map_or(&[][..], Vec::as_slice);
    let Some(moment) = moment_of(life, head) else {
        // That it never was so is for the checker of reads to say.
        return Ok(());
    };
    owners(one, head, life, moment)?;
    let mut is_whole = true;
    let mut totals = (head.account.debits_posted, head.account.credits_posted);
    for (index, part) in one.parts.iter().enumerate() {
        let chain = chains.get(&(one.account, part.shard));
        let chain = chain.map_or(&[][..], Vec::as_slice);
        let is_before = |line: &&&Line| match index {
            0 => line.slot <= moment.1,
            _ => line.applied_ts < part.left,
        };
        let lines: Vec<&Line> = chain.iter().filter(is_before).copied().collect();
        let rows = rows_of(part);
        follows(one, part, &rows, &lines, replays)
            .map_err(|text| format!("shard {}: {text}", part.shard))?;
        is_whole &= part.next.is_none() && !part.dropped;
        for row in rows
            .iter()
            .filter(|row| row.recorded.commit_ts > one.passed)
        {
            let transfer = &row.recorded.transfer;
            let side = match transfer.debit_account_id == one.account {
                true => &mut totals.0,
                false => &mut totals.1,
            };
            *side = side
                .checked_sub(transfer.amount)
                .ok_or("its rows exceed its totals")?;
        }
    }
    is_final(one, moment, chains)?;
    if is_whole && one.first.0 <= one.passed.0 + 1 && one.last == Timestamp(u64::MAX) {
        balances(one, moment, totals, chains)?;
    }
    Ok(())
}

/// The place in its life at which the account was told.
fn moment_of(life: &[Step], head: &HistoryHead) -> Option<Moment> {
    let account = &head.account;
    let sums = Some((account.debits_posted, account.credits_posted));
    let is_it = |step: &&Step| step.sums == sums && step.ownership_epoch == account.ownership_epoch;
    life.iter().rev().find(is_it).map(Step::moment)
}

/// Every shard that owned it before is named, but for the one that answers.
fn owners(
    one: &HistoryUse,
    head: &HistoryHead,
    life: &[Step],
    moment: Moment,
) -> Result<(), String> {
    let owner = one.parts[0].shard;
    let named: BTreeSet<ShardId> = head.owners.iter().map(|owner| owner.shard).collect();
    let earlier = life.iter().filter(|step| {
        step.ownership_epoch < moment.0 && step.shard != owner && step.sums.is_some()
    });
    let owned: BTreeSet<ShardId> = earlier.map(|step| step.shard).collect();
    match named == owned {
        true => Ok(()),
        false => Err(format!("former owners {named:?}, they were {owned:?}")),
    }
}

/// The rows of the time before the head.
fn rows_of(part: &HistoryPart) -> Vec<HistoryEntry> {
    let rows = part.rows.iter();
    rows.filter(|row| row.applied_ts < part.left)
        .copied()
        .collect()
}

/// Whether rows are these lines from the newest one back, as far as they must go.
fn follows(
    one: &HistoryUse,
    part: &HistoryPart,
    rows: &[HistoryEntry],
    lines: &[&Line],
    replays: &Replays,
) -> Result<(), String> {
    let falls = |pair: &[HistoryEntry]| pair[0].position > pair[1].position;
    if !part.rows.windows(2).all(falls) {
        return Err("positions do not fall".to_owned());
    }
    let range = one.first..=one.last;
    let wanted = lines.iter().rev();
    let wanted: Vec<&&Line> = wanted
        .filter(|line| range.contains(&line.commit_ts))
        .collect();
    for (row, line) in rows.iter().zip(&wanted) {
        if !is_line(row, line) {
            return Err(format!("row {row:?}, must be {line:?}"));
        }
    }
    if rows.len() > wanted.len() {
        let row = &rows[wanted.len()];
        return Err(format!("row {row:?} behind the last"));
    }
    let left_out = &wanted[rows.len()..];
    if left_out.is_empty() || part.next.is_some() {
        return Ok(());
    }
    let replay = replays.shard(part.shard).ok_or("no such shard")?;
    let must_be_kept = left_out.iter().find(|line| {
        let (id, used) = (line.transfer.id, line.commit_ts);
        let may_go = replay
            .rules
            .may_be_forgotten(id, used, replay.last_timestamp);
        !(part.dropped && may_go)
    });
    match must_be_kept {
        Some(line) => Err(format!("{line:?} is left out")),
        None => Ok(()),
    }
}

fn is_line(row: &HistoryEntry, line: &Line) -> bool {
    let (told, is) = (&row.recorded.transfer, &line.transfer);
    let fields = told.id == is.id
        && told.debit_account_id == is.debit_account_id
        && told.credit_account_id == is.credit_account_id
        && told.amount == is.amount
        && told.ledger == is.ledger
        && told.code == is.code
        && told.user_data == is.user_data;
    fields
        && row.recorded.code == ResultCode::Ok as u16
        && row.recorded.slot == line.slot
        && row.recorded.commit_ts == line.commit_ts
        && row.applied_ts == line.applied_ts
        && row.coordinator == line.coordinator
}

/// What took effect behind the instant committed behind the time that had passed.
fn is_final(one: &HistoryUse, moment: Moment, chains: &Chains<'_>) -> Result<(), String> {
    let is_early = |line: &&&Line| {
        let took_effect = (line.ownership_epoch, line.slot);
        took_effect > moment && line.commit_ts <= one.passed
    };
    match lines_of(one, chains).find(is_early) {
        Some(line) => Err(format!("{line:?} came behind it")),
        None => Ok(()),
    }
}

/// All that happened to the account, anywhere.
fn lines_of<'a>(
    one: &HistoryUse,
    chains: &'a Chains<'a>,
) -> impl Iterator<Item = &'a &'a Line> + use<'a> {
    let everywhere = (one.account, ShardId(0))..=(one.account, ShardId(u32::MAX));
    chains.range(everywhere).flat_map(|(_, chain)| chain)
}

/// The balances at the time that had passed.
fn balances(
    one: &HistoryUse,
    moment: Moment,
    totals: (u128, u128),
    chains: &Chains<'_>,
) -> Result<(), String> {
    let mut expected = (0, 0);
    for line in lines_of(one, chains).filter(|line| line.commit_ts <= one.passed) {
        match line.transfer.debit_account_id == one.account {
            true => expected.0 += line.transfer.amount,
            false => expected.1 += line.transfer.amount,
        }
    }
    match totals == expected {
        true => Ok(()),
        false => Err(format!(
            "balances {totals:?} at {moment:?}, must be {expected:?}"
        )),
    }
}
