//! Exactly once across moves: before a transfer on a moved account runs, its previous owners are
//! asked whether they have recorded the id.
//!
//! Short cut: each previous owner's record carries the highest id that it had recorded for the account
//! when it let it go; an id above it cannot be known there, whatever the rule for ids.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ids::{AccountId, ReplicaAddress, ShardId, TransferId};
use crate::ledger::history::{Known, Record};
use crate::ledger::rules;
use crate::ledger::{ResultCode, ResultRow, Transfer};
use crate::limits::{ATTEMPTS_MAX, JOINED_MAX, PREPARE_RESEND_NS};
use crate::message::PeerBody;
use crate::planted::{Bug, planted};
use crate::replica::Replica;
use crate::replica::peers::{ROWS_PER_MESSAGE, looked_up};
use crate::replica::requests::Waiter;
use crate::time::Timestamp;
use crate::txn::message::{LookUpRow, LookedUpRow, Message};

/// A transfer that waits for its account's previous owners.
#[derive(Debug)]
struct Open {
    transfer: Transfer,
    waiters: Vec<(Transfer, Waiter)>,
    /// Shards that have not denied it yet, with the epoch under which they owned the account and when it left.
    asked: BTreeMap<ShardId, (u32, Timestamp)>,
    sent_ns: u64,
}

/// All open look-ups.
#[derive(Debug, Default)]
pub(crate) struct LookUps {
    open: BTreeMap<(TransferId, AccountId), Open>,
}

impl LookUps {
    pub fn clear(&mut self) {
        self.open.clear();
    }
}

impl Replica {
    /// Whether a previous owner may have recorded the transfer's id.
    pub(crate) fn needs_look_up(&self, transfer: &Transfer) -> bool {
        let own = self.config.address.shard;
        self.ledger
            .previous_owners_that_may_know(transfer.debit_account_id, transfer.id)
            .iter()
            .any(|owner| owner.shard != own && transfer.id.0 <= owner.id_max)
            && !planted(Bug::NoLookUp)
    }

    pub(crate) fn look_up(&mut self, transfer: &Transfer, waiter: Waiter) {
        let key = (transfer.id, transfer.debit_account_id);
        if let Some(open) = self.look_ups.open.get_mut(&key) {
            if open.waiters.len() >= JOINED_MAX {
                return self.settle(waiter, ResultRow::unlogged(ResultCode::Busy));
            }
            open.waiters.push((*transfer, waiter));
            return;
        }
        if self.look_ups.open.len() >= ATTEMPTS_MAX {
            return self.settle(waiter, ResultRow::unlogged(ResultCode::Busy));
        }
        let own = self.config.address.shard;
        let owners = self.ledger.previous_owners(transfer.debit_account_id);
        let asked: BTreeMap<ShardId, (u32, Timestamp)> = owners
            .iter()
            .filter(|owner| owner.shard != own && transfer.id.0 <= owner.id_max)
            .map(|owner| (owner.shard, (owner.ownership_epoch, owner.commit_ts)))
            .collect();
        for (&shard, &ownership) in &asked {
            self.ask(shard, transfer, ownership);
        }
        let waiters = alloc::vec![(*transfer, waiter)];
        let open = Open {
            transfer: *transfer,
            waiters,
            asked,
            sent_ns: self.now.mono_ns,
        };
        self.look_ups.open.insert(key, open);
    }

    fn ask(
        &mut self,
        shard: ShardId,
        transfer: &Transfer,
        (ownership_epoch, left): (u32, Timestamp),
    ) {
        if let Some(route) = self.route(shard) {
            route.look_ups.push(&LookUpRow {
                transfer_id: transfer.id,
                account: transfer.debit_account_id,
                ownership_epoch,
                reserved: 0,
                left,
            });
        }
    }

    /// Answers from applied state, leader or not, but only what is final: the account has left after
    /// the epoch asked about, so nothing can be recorded for it under that epoch any more. Its stub says so or its return,
    /// and where the stub is gone, that this log has passed the move.
    pub(crate) fn answer_look_ups(&mut self, from: ReplicaAddress, rows: &[LookUpRow]) {
        let mut answers = Vec::new();
        for row in rows {
            let stub = self
                .ledger
                .stub(row.account)
                .map(|stub| stub.ownership_epoch);
            let back = self.ledger.epoch_of(row.account);
            let undecided = match stub.max(back) {
                Some(epoch) => epoch <= row.ownership_epoch,
                None => self.ledger.last_timestamp() < row.left,
            };
            if undecided && !planted(Bug::LookUpByAnyone) {
                continue;
            }
            let record = match self.ledger.history().debit(row.transfer_id) {
                Known::Used(record) => Some(record),
                Known::Unused => None,
                // "Unknown here" would be a guess. Whoever asks asks again.
                Known::NotLoaded => continue,
            };
            let record = record
                .filter(|record| record.debit_account_id == row.account)
                .map(Record::answer);
            answers.push(looked_up(row, record));
        }
        for part in answers.chunks(ROWS_PER_MESSAGE) {
            let rows = crate::words::Rows::from_slice(part);
            self.send(from, PeerBody::Txn(Message::LookedUp(rows)));
        }
    }

    pub(crate) fn on_looked_up(&mut self, from: ReplicaAddress, row: &LookedUpRow) {
        let key = (row.transfer.id, row.account);
        let Some(open) = self.look_ups.open.get_mut(&key) else {
            return;
        };
        let asked = open.asked.get(&from.shard);
        if asked.is_none_or(|(epoch, _)| *epoch != row.ownership_epoch) {
            return;
        }
        let code = ResultCode::from_u16(row.code);
        if row.found == 1 {
            let Some(code) = code else { return };
            let Some(open) = self.look_ups.open.remove(&key) else {
                return;
            };
            for (transfer, waiter) in open.waiters {
                let answer = rules::compare_transfer(&row.transfer, code, &transfer);
                self.settle(waiter, ResultRow::logged(answer, row.timestamp));
            }
            return;
        }
        open.asked.remove(&from.shard);
        if open.asked.is_empty()
            && let Some(open) = self.look_ups.open.remove(&key)
        {
            for (transfer, waiter) in open.waiters {
                self.admit(&transfer, waiter, Some(open.transfer.debit_epoch));
            }
        }
    }

    /// Asks again where no answer came, and ends look-ups whose time is up: nothing was proposed, so
    /// the answer need not be `unknown`.
    pub(crate) fn drive_look_ups(&mut self) {
        if self.look_ups.open.is_empty() {
            return;
        }
        let now_ns = self.now.mono_ns;
        let requests = &self.requests;
        let mut late = Vec::new();
        // Those that nobody waits for any more were left unanswered like those that are asked again:
        // otherwise short deadlines would never turn away from a dead replica.
        let mut silent = BTreeSet::new();
        self.look_ups.open.retain(|_, open| {
            open.waiters.retain(|&(_, waiter)| {
                let deadline_ns = requests.get(waiter.request).map(|open| open.deadline_ns);
                if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
                    late.push(waiter);
                }
                deadline_ns.is_some_and(|deadline_ns| deadline_ns > now_ns)
            });
            if open.waiters.is_empty() {
                silent.extend(open.asked.keys().copied());
            }
            !open.waiters.is_empty()
        });
        for waiter in late {
            self.settle(waiter, ResultRow::unlogged(ResultCode::Contended));
        }
        let mut again = Vec::new();
        for open in self.look_ups.open.values_mut() {
            if open.sent_ns + PREPARE_RESEND_NS <= now_ns {
                open.sent_ns = now_ns;
                again.extend(
                    open.asked
                        .iter()
                        .map(|(&shard, &ownership)| (shard, open.transfer, ownership)),
                );
            }
        }
        silent.extend(again.iter().map(|(shard, ..)| *shard));
        for shard in silent {
            self.suspect(shard, PREPARE_RESEND_NS);
        }
        for (shard, transfer, ownership) in again {
            self.ask(shard, &transfer, ownership);
        }
    }
}
