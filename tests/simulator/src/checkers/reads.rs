//! Reads: each value that was read is what the account was after some slot of its life.
//!
//! An effect raises one of the sums and a move the ownership epoch, so a value names one place in the
//! account's life at most; all other fields must be those of the account. *Which* place it may be, real
//! time considered, is for [`super::order`]. A slot's commands are seen together or not at all.

use std::collections::BTreeMap;

use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::Account;

use super::Violation;
use super::model::Step;
use super::replays::{Moment, Replays};
use crate::history::{History, ReadUse};

/// A read that was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its index in the history.
    pub read: usize,
    pub account: AccountId,
    /// The last moment that it saw; `None`: the account was not there yet.
    pub saw: Option<Moment>,
}

/// Places every answered read.
pub fn check(history: &History, replays: &Replays, violations: &mut Vec<Violation>) -> Vec<Placed> {
    let mut by_account: BTreeMap<AccountId, Vec<usize>> = BTreeMap::new();
    for (number, read) in history.reads.iter().enumerate() {
        if read.answer.is_some() {
            by_account.entry(read.account).or_default().push(number);
        }
    }
    let kept = accounts(replays);
    let mut placed = Vec::new();
    for (account, numbers) in by_account {
        let life = replays.lives.get(&account).map_or(&[][..], Vec::as_slice);
        let values = values(life);
        for number in numbers {
            match place(&history.reads[number], &values, kept.get(&account).copied()) {
                Ok(saw) => placed.push(Placed {
                    read: number,
                    account,
                    saw,
                }),
                Err(text) => violations.push(Violation {
                    checker: "reads",
                    text: format!("account {account}: {text}"),
                }),
            }
        }
    }
    placed
}

fn accounts(replays: &Replays) -> BTreeMap<AccountId, &Account> {
    let owned = replays.shards.values().flat_map(|replay| &replay.accounts);
    owned.map(|(&id, owned)| (id, &owned.account)).collect()
}

/// Ownership epoch, debits and credits, at the end of each slot of a life.
type Values = BTreeMap<(u32, u128, u128), Moment>;

fn values(life: &[Step]) -> Values {
    let mut values = Values::new();
    let changes: Vec<&Step> = life.iter().filter(|step| step.sums.is_some()).collect();
    for slot in changes.chunk_by(|a, b| a.moment() == b.moment()) {
        let last = slot[slot.len() - 1];
        if let Some((debits, credits)) = last.sums {
            values.insert((last.ownership_epoch, debits, credits), last.moment());
        }
    }
    values
}

fn place(
    read: &ReadUse,
    values: &Values,
    kept: Option<&Account>,
) -> Result<Option<Moment>, String> {
    let answer = read.answer.as_ref().expect("filtered by the caller");
    let Some(found) = &answer.account else {
        return Ok(None);
    };
    let told = format!("a read from {} to {} ns", read.started_ns, answer.at_ns);
    let Some(kept) = kept else {
        return Err(format!("{told} found it, at the end it does not exist"));
    };
    let key = (
        found.ownership_epoch,
        found.debits_posted,
        found.credits_posted,
    );
    let same = Account {
        debits_posted: kept.debits_posted,
        credits_posted: kept.credits_posted,
        ownership_epoch: kept.ownership_epoch,
        ..*found
    };
    if same != *kept {
        return Err(format!("{told} saw the fields {found:?}, it has {kept:?}"));
    }
    let moment = values.get(&key).ok_or_else(|| {
        let (epoch, debits, credits) = key;
        format!("{told} saw debits {debits}, credits {credits}, epoch {epoch}: it never was that")
    })?;
    Ok(Some(*moment))
}
