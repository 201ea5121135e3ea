//! Transfers in the model: local ones, and both sides of two-phase commit.

use quorate_protocol::ids::{AccountId, ShardId, Slot};
use quorate_protocol::ledger::{CodeKind, ResultCode, Transfer};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::{
    Attempt, CommitKind, CommitRow, PrepareRow, Subject, TxnId, TxnRow, Verdict,
};

use super::rules::{self, Leg};
use super::{
    Actor, At, Decision, Line, Place, Posted, Posting, Prepared, Refusal, Replay, Resolution, Step,
};

/// What the debit leg comes to, account and ownership included.
enum Debit {
    Allowed,
    Refused(ResultCode),
    /// Open reservations decide, or the account is elsewhere: no effect.
    NoEffect,
}

impl Replay {
    pub(super) fn transfer(&mut self, at: At, transfer: &Transfer) {
        if self.rules.is_ahead(transfer.id, at.timestamp) {
            self.ahead.push(transfer.id);
            return;
        }
        if self.was_used(at, transfer) || self.finds_too_old(at, transfer) {
            return;
        }
        let credit_place = self.place(transfer.credit_account_id);
        if credit_place == Place::Elsewhere {
            return;
        }
        let refusal = match self.judge_debit(transfer) {
            Debit::NoEffect => return,
            Debit::Refused(code) => Some(code),
            Debit::Allowed if credit_place == Place::Nowhere => {
                Some(ResultCode::CreditAccountNotFound)
            }
            Debit::Allowed => {
                let owned = &self.accounts[&transfer.credit_account_id];
                match rules::credit_leg(&owned.account, owned.open_sum(), transfer) {
                    Leg::Allowed => None,
                    Leg::Refused(code) => Some(code),
                    Leg::Open => return,
                }
            }
        };
        let result = refusal.unwrap_or(ResultCode::Ok);
        self.decide(at, transfer, result, Attempt::default(), None);
        if result == ResultCode::Ok {
            self.post_credit((at.slot, at), transfer, at.timestamp, ShardId(0));
        } else if is_about_credit(result) {
            self.look(at.slot, transfer.credit_account_id, transfer);
        }
    }

    /// Whether the id has its decision. It may be that nobody can tell any more.
    fn was_used(&mut self, at: At, transfer: &Transfer) -> bool {
        let Some(decision) = self.decisions.get(&transfer.id) else {
            return false;
        };
        let used = decision.commit_ts;
        if self.rules.may_be_forgotten(transfer.id, used, at.timestamp) {
            self.too_old.push(transfer.id);
        }
        true
    }

    fn finds_too_old(&mut self, at: At, transfer: &Transfer) -> bool {
        let is_too_old = self.rules.is_too_old(transfer.id, at.timestamp);
        if is_too_old {
            self.too_old.push(transfer.id);
        }
        is_too_old
    }

    fn judge_debit(&self, transfer: &Transfer) -> Debit {
        let id = transfer.debit_account_id;
        let Some(owned) = self.accounts.get(&id) else {
            return if self.place(id) == Place::Elsewhere {
                Debit::NoEffect
            } else {
                Debit::Refused(ResultCode::DebitAccountNotFound)
            };
        };
        // The leader admitted it under another ownership: what it knew may be outdated.
        if owned.account.ownership_epoch != transfer.debit_epoch {
            return Debit::NoEffect;
        }
        match rules::debit_leg(&owned.account, owned.open_sum(), transfer) {
            Leg::Allowed => Debit::Allowed,
            Leg::Refused(code) => Debit::Refused(code),
            Leg::Open => Debit::NoEffect,
        }
    }

    /// Records the end of an id, and posts the debit of a success.
    fn decide(
        &mut self,
        at: At,
        transfer: &Transfer,
        result: ResultCode,
        attempt: Attempt,
        across: Option<(ShardId, CommitKind)>,
    ) {
        let decision = Decision {
            transfer: *transfer,
            result,
            slot: at.slot,
            commit_ts: at.timestamp,
            attempt,
            across,
        };
        self.decisions.insert(transfer.id, decision);
        let Some(owned) = self.accounts.get_mut(&transfer.debit_account_id) else {
            self.look(at.slot, transfer.debit_account_id, transfer);
            return;
        };
        owned.changes += 1;
        if result != ResultCode::Ok {
            // A refusal by the participant looked at the credit account, there and then. That the debit
            // was allowed here, later, is another look at another time, and not what refused it.
            if matches!(across, Some((_, CommitKind::Refuse))) {
                return;
            }
            self.look(at.slot, transfer.debit_account_id, transfer);
            return;
        }
        // Judged before: it does not overflow.
        owned.account.debits_posted += transfer.amount;
        self.posted.push(Posted {
            at: at.timestamp,
            ledger: transfer.ledger,
            debit: transfer.amount,
            ..Posted::default()
        });
        self.line(
            at,
            transfer.debit_account_id,
            transfer,
            at.timestamp,
            ShardId(0),
        );
        self.step(at.slot, at.slot, transfer.debit_account_id, transfer);
    }

    fn post_credit(
        &mut self,
        (first, at): (Slot, At),
        transfer: &Transfer,
        commit_ts: Timestamp,
        coordinator: ShardId,
    ) {
        let last = at.slot;
        let account = transfer.credit_account_id;
        let Some(owned) = self.accounts.get_mut(&account) else {
            return self.problem(
                last,
                format!("credit of account {account}, which is not here"),
            );
        };
        let sum = owned.account.credits_posted.checked_add(transfer.amount);
        let Some(sum) = sum else {
            return self.problem(last, format!("the credits of account {account} overflow"));
        };
        owned.account.credits_posted = sum;
        owned.changes += 1;
        self.posted.push(Posted {
            at: commit_ts,
            ledger: transfer.ledger,
            credit: transfer.amount,
            ..Posted::default()
        });
        self.line(at, account, transfer, commit_ts, coordinator);
        self.step(first, last, account, transfer);
    }

    fn line(
        &mut self,
        at: At,
        account: AccountId,
        transfer: &Transfer,
        commit_ts: Timestamp,
        coordinator: ShardId,
    ) {
        let ownership_epoch = self.epoch_of(account);
        self.lines.push(Line {
            account,
            ownership_epoch,
            transfer: *transfer,
            slot: at.slot,
            commit_ts,
            applied_ts: at.timestamp,
            coordinator,
        });
    }

    /// An account changed.
    fn step(&mut self, first: Slot, last: Slot, account: AccountId, transfer: &Transfer) {
        let kept = &self.accounts[&account].account;
        self.steps.push(Step {
            account,
            ownership_epoch: kept.ownership_epoch,
            shard: self.shard,
            first,
            last,
            actor: Actor::Transfer(transfer.id),
            sums: Some((kept.debits_posted, kept.credits_posted)),
        });
    }

    /// A refusal looked at an account, or found that there is none.
    fn look(&mut self, slot: Slot, account: AccountId, transfer: &Transfer) {
        self.steps.push(Step {
            account,
            ownership_epoch: self.epoch_of(account),
            shard: self.shard,
            first: slot,
            last: slot,
            actor: Actor::Transfer(transfer.id),
            sums: None,
        });
    }

    fn epoch_of(&self, account: AccountId) -> u32 {
        let owned = self.accounts.get(&account);
        owned.map_or(0, |owned| owned.account.ownership_epoch)
    }

    /// The participant's vote.
    pub(super) fn prepare(&mut self, at: At, row: &PrepareRow) {
        let transfer = &row.transfer;
        let account = transfer.credit_account_id;
        let txn = TxnId {
            coordinator: row.coordinator,
            subject: Subject::Transfer,
            id: transfer.id.0,
            attempt: row.attempt,
        };
        let posted = self.postings.contains_key(&(row.coordinator, transfer.id));
        let is_too_old = self.rules.is_too_old(transfer.id, at.timestamp);
        if posted || is_too_old && !self.in_doubt.contains_key(&txn) {
            return;
        }
        if self.in_doubt.contains_key(&txn) || self.is_staged(account) {
            return;
        }
        let leg = match self.place(account) {
            Place::Elsewhere => return,
            Place::Nowhere => Leg::Refused(ResultCode::CreditAccountNotFound),
            Place::Here => {
                let owned = &self.accounts[&account];
                rules::credit_leg(&owned.account, owned.open_sum(), transfer)
            }
        };
        match leg {
            Leg::Open => {}
            Leg::Refused(code) => {
                let refusal = Refusal {
                    code,
                    slot: at.slot,
                    account,
                    ownership_epoch: self.epoch_of(account),
                };
                self.refusals.entry(txn).or_default().push(refusal);
            }
            Leg::Allowed => {
                if let Some(owned) = self.accounts.get_mut(&account) {
                    owned.open.insert(txn, transfer.amount);
                    owned.changes += 1;
                }
                let prepared = Prepared {
                    transfer: *transfer,
                    slot: at.slot,
                    prepare_ts: at.timestamp,
                };
                self.in_doubt.insert(txn, prepared);
                self.prepared.entry(txn).or_insert(at.timestamp);
            }
        }
    }

    /// The coordinator's decision.
    pub(super) fn commit(&mut self, at: At, row: &CommitRow) {
        let transfer = &row.transfer;
        if self.was_used(at, transfer) || row.attempt.ballot != at.origin {
            return;
        }
        if self.rules.is_ahead(transfer.id, at.timestamp) {
            self.ahead.push(transfer.id);
            return;
        }
        if self.finds_too_old(at, transfer) {
            return;
        }
        let Some(kind) = CommitKind::from_u16(row.kind) else {
            return self.problem(at.slot, format!("a commit of kind {}", row.kind));
        };
        let across = Some((row.participant, kind));
        let result = match (self.judge_debit(transfer), kind) {
            (Debit::NoEffect, _) | (Debit::Allowed, CommitKind::Evaluate) => return,
            // The debit leg is refused here, whatever the participant said.
            (Debit::Refused(code), _) => {
                let across = Some((row.participant, CommitKind::Evaluate));
                return self.decide(at, transfer, code, row.attempt, across);
            }
            (Debit::Allowed, CommitKind::Prepared) => ResultCode::Ok,
            (Debit::Allowed, CommitKind::Refuse) => match ResultCode::from_u16(row.code) {
                Some(code) if code.kind() == CodeKind::Recorded => code,
                _ => return,
            },
        };
        self.decide(at, transfer, result, row.attempt, across);
    }

    /// A reservation ends, or a staged batch.
    pub(super) fn resolve(&mut self, at: At, row: &TxnRow) {
        let commit_ts = match Verdict::from_u16(row.verdict) {
            Some(Verdict::Commit) => Some(row.timestamp),
            Some(Verdict::Abort) => None,
            _ => return,
        };
        let is_move = row.subject == Subject::Move as u16;
        let txn = TxnId {
            coordinator: row.coordinator,
            subject: if is_move {
                Subject::Move
            } else {
                Subject::Transfer
            },
            id: row.id,
            attempt: row.attempt,
        };
        let resolution = Resolution {
            txn,
            slot: at.slot,
            commit_ts,
        };
        if is_move {
            return self.resolve_move(resolution);
        }
        let Some(prepared) = self.in_doubt.remove(&txn) else {
            return;
        };
        self.resolutions.push(resolution);
        let transfer = prepared.transfer;
        if let Some(owned) = self.accounts.get_mut(&transfer.credit_account_id) {
            owned.open.remove(&txn);
            owned.changes += 1;
        }
        let Some(commit_ts) = commit_ts else { return };
        let key = (txn.coordinator, transfer.id);
        if self.postings.contains_key(&key) {
            let text = format!("transfer {} is committed here a second time", transfer.id);
            return self.problem(at.slot, text);
        }
        let posting = Posting {
            transfer,
            slot: at.slot,
            commit_ts,
            attempt: txn.attempt,
        };
        self.postings.insert(key, posting);
        self.post_credit((prepared.slot, at), &transfer, commit_ts, txn.coordinator);
    }
}

fn is_about_credit(code: ResultCode) -> bool {
    code >= ResultCode::CreditAccountNotFound
}
