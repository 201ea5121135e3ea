//! Moves of accounts in the model.

use std::collections::BTreeMap;

use quorate_protocol::ids::{AccountId, ShardId, Slot};
use quorate_protocol::ledger::AccountFlags;
use quorate_protocol::txn::record::{MoveHead, MoveVersionRow, RouteRow, Subject, TxnId};

use super::{
    Actor, Arrival, ArrivingBatch, At, Departure, Gone, Owned, Place, Posted, Replay, Resolution,
    Step,
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
            let left = self.gone.get(&id).map_or(0, |gone| gone.ownership_epoch);
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
        self.map_epoch += 1;
        for row in accounts {
            let Some(owned) = self.accounts.remove(&row.account) else {
                let text = format!("account {} leaves twice", row.account);
                self.problem(at.slot, text);
                continue;
            };
            self.went(at, row.account, head.target, row.ownership_epoch + 1);
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
            let known = self.known.entry(account.id).or_default();
            known.push((self.last_timestamp, account.ownership_epoch));
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

    /// Former owners say where accounts went: at their home, if that is later than what it knows.
    pub(super) fn forward(&mut self, at: At, rows: &[RouteRow]) {
        self.told.extend(rows);
        let shards = 1..=self.rules.shards;
        let mut is_changed = false;
        for row in rows {
            let gone = self.gone.get(&row.account);
            let is_later = gone.is_some_and(|gone| gone.ownership_epoch < row.ownership_epoch);
            let is_other = row.shard != self.shard && shards.contains(&row.shard.0);
            if self.rules.home(row.account) != self.shard || !is_later || !is_other {
                continue;
            }
            if !is_changed {
                self.map_epoch += 1;
                is_changed = true;
            }
            self.went(at, row.account, row.shard, row.ownership_epoch);
        }
    }

    /// The account went there, as far as this shard knows.
    fn went(&mut self, at: At, account: AccountId, to: ShardId, ownership_epoch: u32) {
        let gone = Gone {
            to,
            ownership_epoch,
            changed: self.map_epoch,
        };
        self.gone.insert(account, gone);
        let known = self.known.entry(account).or_default();
        known.push((at.timestamp, ownership_epoch));
    }

    /// A former owner forgets where it went, unless something has changed.
    pub(super) fn drop_stub(&mut self, at: At, row: &RouteRow) {
        let gone = self.gone.get(&row.account);
        let is_it = gone.is_some_and(|gone| gone.ownership_epoch == row.ownership_epoch);
        if is_it && self.rules.home(row.account) != self.shard {
            self.gone.remove(&row.account);
            self.dropped.push((at.timestamp, *row));
        }
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
