//! Moves of accounts in the model.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, Slot};
use quorate_protocol::ledger::AccountFlags;
use quorate_protocol::txn::record::{MoveHead, MoveVersionRow, Subject, TxnId};

use super::{
    Actor, Arrival, ArrivingBatch, At, Departure, Owned, Place, Posted, Replay, Resolution, Step,
};

impl Replay {
    /// The target's vote on a batch.
    pub(super) fn prepare_move(&mut self, at: At, batch: &ArrivingBatch) {
        let txn = txn_of(&batch.head);
        let done = self.moves.contains_key(&(batch.head.source, batch.head.id));
        if done || self.staged.contains_key(&txn) {
            return;
        }
        let can_arrive = |id: AccountId, epoch: u32| {
            let left = self.gone.get(&id).map_or(0, |(_, epoch)| *epoch);
            self.place(id) == Place::Elsewhere && epoch >= left && !self.is_staged(id)
        };
        let all = batch
            .accounts
            .iter()
            .all(|row| can_arrive(row.account.id, row.account.ownership_epoch));
        if all {
            self.prepared.entry(txn).or_insert(at.timestamp);
            self.staged.insert(txn, (batch.clone(), at.slot));
        }
    }

    pub(super) fn is_staged(&self, account: AccountId) -> bool {
        let mut batches = self.staged.values();
        batches.any(|(batch, _)| batch.accounts.iter().any(|row| row.account.id == account))
    }

    /// The source's decision.
    pub(super) fn commit_move(&mut self, at: At, head: &MoveHead, accounts: &[MoveVersionRow]) {
        let known = self.moves.contains_key(&(self.shard, head.id));
        let untouched = accounts.iter().all(|row| {
            self.accounts.get(&row.account).is_some_and(|owned| {
                owned.changes == row.version
                    && owned.account.ownership_epoch == row.ownership_epoch
                    && owned.open.is_empty()
                    && !owned.account.flags.contains(AccountFlags::SYSTEM)
            })
        });
        if known || head.attempt.ballot != at.origin || !untouched {
            return;
        }
        let mut left = Vec::new();
        for row in accounts {
            let Some(owned) = self.accounts.remove(&row.account) else {
                let text = format!("account {} leaves twice", row.account);
                self.problem(at.slot, text);
                continue;
            };
            let gone = (head.target, row.ownership_epoch + 1);
            self.gone.insert(row.account, gone);
            self.posted.push(Posted {
                at: at.timestamp,
                owned: -1,
                moved: true,
                ..books_of(&owned)
            });
            left.push(owned);
        }
        self.moves.insert((self.shard, head.id), at.timestamp);
        self.departures.push(Departure {
            txn: txn_of(head),
            target: head.target,
            slot: at.slot,
            commit_ts: at.timestamp,
            accounts: left,
        });
    }

    pub(super) fn resolve_move(&mut self, resolution: Resolution) {
        let txn = resolution.txn;
        let Some((batch, prepared)) = self.staged.remove(&txn) else {
            return;
        };
        let (slot, commit_ts) = (resolution.slot, resolution.commit_ts);
        self.resolutions.push(resolution);
        let Some(commit_ts) = commit_ts else { return };
        self.moves
            .insert((batch.head.source, batch.head.id), commit_ts);
        for row in &batch.accounts {
            let mut account = row.account;
            account.ownership_epoch += 1;
            let owned = Owned {
                account,
                changes: row.version + 1,
                open: BTreeMap::new(),
            };
            self.posted.push(Posted {
                at: commit_ts,
                owned: 1,
                moved: true,
                ..books_of(&owned)
            });
            self.gone.remove(&account.id);
            self.arrived(slot, &owned, batch.head);
            if self.accounts.insert(account.id, owned).is_some() {
                self.problem(slot, format!("account {} arrives twice", account.id));
            }
        }
        self.arrivals.push(Arrival {
            txn,
            batch,
            prepared,
            slot,
            commit_ts,
        });
    }

    fn arrived(&mut self, slot: Slot, owned: &Owned, head: MoveHead) {
        let account = &owned.account;
        self.steps.push(Step {
            account: account.id,
            ownership_epoch: account.ownership_epoch,
            shard: self.shard,
            first: slot,
            last: slot,
            actor: Actor::Move(head.source, head.id),
            sums: Some((account.debits_posted, account.credits_posted)),
        });
    }
}

/// The transaction of a move.
#[must_use]
pub fn txn_of(head: &MoveHead) -> TxnId {
    TxnId {
        coordinator: head.source,
        subject: Subject::Move,
        id: head.id.0,
        attempt: head.attempt,
    }
}

/// What an account brings to the books of a shard, or takes from them.
fn books_of(owned: &Owned) -> Posted {
    Posted {
        ledger: owned.account.ledger,
        debit: owned.account.debits_posted,
        credit: owned.account.credits_posted,
        ..Posted::default()
    }
}
