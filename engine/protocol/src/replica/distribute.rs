//! The results of an applied entry, handed to those who wait for them. Leader only.

use alloc::vec::Vec;

use crate::client::ReplyBody;
use crate::entry::{Entry, Section};
use crate::ids::Slot;
use crate::ledger::apply::{Applied, TransferOutcome};
use crate::ledger::{ResultCode, ResultRow, Transfer};
use crate::replica::Replica;
use crate::replica::proposals::Proposed;
use crate::replica::requests::{RequestKey, Waiter};
use crate::replica::waiting::Item;
use crate::txn::record::CommitRow;

impl Replica {
    pub(super) fn distribute(&mut self, slot: Slot, entry: &Entry, applied: &Applied) {
        // Waiters on an account are woken whoever proposed the entry.
        for &account in &applied.touched {
            if self.waiting.is_waited_for(account) || self.barriers.contains_key(&account) {
                self.woken.insert(account);
            }
        }
        let own = self
            .in_flight
            .front()
            .is_some_and(|proposed| proposed.slot == slot);
        if !own {
            return;
        }
        let Some(proposed) = self.in_flight.pop_front() else {
            return;
        };
        if Some(entry.origin()) != self.leading {
            return self.lose_slot(&proposed);
        }
        assert!(
            !applied.fenced,
            "a leader's own entry is not fenced while it leads"
        );
        self.commands_applied = proposed.commands_end;
        let accounts = proposed.accounts.iter().flat_map(|span| span.waiters());
        for (waiter, row) in accounts.zip(&applied.accounts) {
            self.settle(waiter, *row);
        }
        self.distribute_transfers(&proposed, entry, applied);
        for vote in &applied.votes {
            self.participant.note_vote(vote);
            self.send_vote(*vote);
        }
        let commits = entry.sections().filter_map(|section| match section {
            Section::Commit(rows) => Some(rows),
            _ => None,
        });
        let sections: Vec<&[CommitRow]> = commits.collect();
        let rows: usize = sections.iter().map(|rows| rows.len()).sum();
        // They belong together by their places: with one too few, a neighbour's decision would be announced.
        assert_eq!(rows, applied.commits.len());
        for (row, outcome) in sections.into_iter().flatten().zip(&applied.commits) {
            self.on_committed(&row.transfer, row.attempt, *outcome);
        }
        for (id, attempt, commit_ts) in &applied.moves {
            self.on_move_committed(*id, *attempt, *commit_ts);
        }
        self.on_cuts_applied(&applied.cuts);
        assert_eq!(proposed.documents.len(), applied.documents.len());
        for (&key, &answer) in proposed.documents.iter().zip(&applied.documents) {
            self.close_with(key, ReplyBody::PutDocument(answer));
        }
    }

    fn close_with(&mut self, key: RequestKey, body: ReplyBody) {
        if let Some(open) = self.requests.close(key) {
            self.reply(open.connection, open.id, body);
        }
    }

    /// A later leader's entry was chosen for a slot of ours before we heard of that leader. What we
    /// proposed for the slot is gone from here; only the new leader knows whether it surfaces.
    fn lose_slot(&mut self, proposed: &Proposed) {
        let spans = proposed.accounts.iter().chain(&proposed.transfers);
        for waiter in spans.flat_map(|span| span.waiters()) {
            self.settle(waiter, ResultRow::unlogged(ResultCode::Unknown));
        }
        for &key in &proposed.documents {
            self.close_with(key, ReplyBody::Unknown);
        }
    }

    fn distribute_transfers(&mut self, proposed: &Proposed, entry: &Entry, applied: &Applied) {
        if applied.transfers.is_empty() {
            return;
        }
        let transfers = entry.sections().filter_map(|section| match section {
            Section::Transfers(rows) => Some(rows),
            _ => None,
        });
        let waiters = proposed.transfers.iter().flat_map(|span| span.waiters());
        let rows = transfers.flatten().zip(&applied.transfers);
        for (waiter, (transfer, outcome)) in waiters.zip(rows) {
            match *outcome {
                TransferOutcome::Posted {
                    timestamp,
                    is_system,
                } => {
                    self.telemetry.count(false, is_system);
                    if !is_system {
                        let (debit, credit) =
                            (transfer.debit_account_id, transfer.credit_account_id);
                        self.telemetry.note(debit, credit);
                    }
                    self.answer(
                        transfer,
                        waiter,
                        ResultRow::logged(ResultCode::Ok, timestamp),
                    );
                }
                TransferOutcome::Final(row) => self.answer(transfer, waiter, row),
                TransferOutcome::Deferred(account) => {
                    self.wait(account, Item::Transfer(*transfer, waiter));
                    // What it depended on may have ended in this very entry.
                    if self
                        .ledger
                        .account(account)
                        .is_none_or(|owned| owned.open == 0)
                    {
                        self.woken.insert(account);
                    }
                }
                TransferOutcome::Reroute => self.admit(transfer, waiter, None),
            }
        }
    }

    fn answer(&mut self, transfer: &Transfer, waiter: Waiter, row: ResultRow) {
        self.waiting.served(transfer.debit_account_id);
        self.waiting.served(transfer.credit_account_id);
        self.settle(waiter, row);
    }
}
