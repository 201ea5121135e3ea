//! State of a cluster as lines, and the check that all is as it should be when all is quiet.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::state::Prepared;
use quorate_protocol::replica::Replica;

use crate::cluster::Cluster;
use crate::render;

/// One line for each replica of a shard.
#[must_use]
pub fn shard(cluster: &Cluster, shard: ShardId) -> Vec<String> {
    let of_shard = cluster.addresses().filter(|at| at.shard == shard);
    of_shard
        .map(|at| match cluster.replica(at) {
            Some(replica) => format!("{at} {}", state(replica)),
            None => format!("{at} down"),
        })
        .collect()
}

fn state(replica: &Replica) -> String {
    let status = replica.status();
    let serves = if status.serving { ", serves" } else { "" };
    let (role, ballot) = (status.role.name(), status.ballot);
    let (chosen, applied) = (status.chosen_upto, status.applied_upto);
    let mut text = format!("{role} {ballot}{serves}, chosen {chosen}, applied {applied}");
    for prepared in replica.ledger().in_doubt().iter() {
        text += &format!(", prepared {}", render::txn_id(prepared.txn()));
    }
    for txn in replica.ledger().staged().keys() {
        text += &format!(", staged {}", render::txn_id(*txn));
    }
    text
}

/// What the most advanced replica of each shard knows of an account.
#[must_use]
pub fn account(cluster: &Cluster, id: AccountId) -> Vec<String> {
    let mut lines = Vec::new();
    for (shard, replica) in foremost(cluster) {
        let ledger = replica.ledger();
        if let Some(owned) = ledger.account(id) {
            let (sums, epoch) = (render::sums(&owned.account), owned.account.ownership_epoch);
            let open = match owned.open {
                0 => String::new(),
                open => format!(", {open} open for {}", owned.reserved.credits),
            };
            lines.push(format!(
                "account {id} at s{shard}: {sums}, epoch {epoch}{open}"
            ));
        }
        if let Some(stub) = ledger.stub(id) {
            let (to, epoch) = (stub.shard, stub.ownership_epoch);
            lines.push(format!(
                "account {id} left s{shard} for s{to}, epoch {epoch}"
            ));
        }
        if ledger.is_staged(id) {
            lines.push(format!("account {id} staged at s{shard}"));
        }
    }
    if lines.is_empty() {
        lines.push(format!("account {id} nowhere"));
    }
    lines
}

/// What the most advanced replica of each shard has recorded of a transfer id.
#[must_use]
pub fn transfer(cluster: &Cluster, id: TransferId) -> Vec<String> {
    let mut lines = Vec::new();
    for (shard, replica) in foremost(cluster) {
        let history = replica.ledger().history();
        if let Some(record) = history.debit(id).loaded() {
            let (slot, result) = (record.slot, record.result.name());
            lines.push(format!("t{id} decided at s{shard} slot {slot}: {result}"));
        }
        for coordinator in (1..=cluster.shape().shards).map(ShardId) {
            if let Some(record) = history.credit(coordinator, id).loaded() {
                let slot = record.slot;
                lines.push(format!(
                    "t{id} of s{coordinator} posted at s{shard} slot {slot}"
                ));
            }
        }
    }
    if lines.is_empty() {
        lines.push(format!("t{id} nowhere"));
    }
    lines
}

fn foremost(cluster: &Cluster) -> Vec<(ShardId, &Replica)> {
    let shards = (1..=cluster.shape().shards).map(ShardId);
    let most = |shard| {
        let running = cluster.running(shard).map(|(_, replica)| replica);
        running.max_by_key(|replica| replica.ledger().applied())
    };
    shards
        .filter_map(|shard| Some((shard, most(shard)?)))
        .collect()
}

/// Every replica runs, those of a shard are equal, nothing is prepared, staged or reserved, every
/// account has one owner, debits equal credits.
///
/// # Errors
/// With the first of these that does not hold.
pub fn check(cluster: &Cluster) -> Result<String, String> {
    let down = cluster
        .addresses()
        .find(|at| cluster.replica(*at).is_none());
    if let Some(at) = down {
        return Err(format!("{at} is down"));
    }
    let mut owners: BTreeMap<AccountId, ShardId> = BTreeMap::new();
    let (mut debits, mut credits) = (0, 0);
    let mut slots = Vec::new();
    for (shard, replica) in foremost(cluster) {
        let (slot, digest) = replica.digest();
        for (at, other) in cluster.running(shard) {
            if other.digest() != (slot, digest) {
                let other = other.digest().0;
                return Err(format!("{at} at slot {other} is not equal to slot {slot}"));
            }
        }
        let ledger = replica.ledger();
        let prepared = ledger.in_doubt().iter().map(Prepared::txn);
        let open = prepared.chain(ledger.staged().keys().copied()).next();
        if let Some(txn) = open {
            return Err(format!("{} is open at s{shard}", render::txn_id(txn)));
        }
        for id in ledger.list(AccountId(0), usize::MAX) {
            let owned = ledger.account(id).expect("it was listed");
            if let Some(other) = owners.insert(id, shard) {
                return Err(format!("account {id} is owned by s{other} and s{shard}"));
            }
            if owned.open != 0 || owned.reserved.credits != 0 || owned.reserved.debits != 0 {
                return Err(format!("something is reserved on account {id}"));
            }
            debits += owned.account.debits_posted;
            credits += owned.account.credits_posted;
        }
        slots.push(format!("s{shard} at slot {slot}"));
    }
    if debits != credits {
        return Err(format!("{debits} debited and {credits} credited"));
    }
    Ok(format!("all is well: {}", slots.join(", ")))
}
