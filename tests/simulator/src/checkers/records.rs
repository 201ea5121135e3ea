//! What the shards recorded, arranged for the checkers: by transfer id, and by account in the order
//! in which effects happened.

use std::collections::BTreeMap;

use quorate_protocol::client::RecordedTransfer;
use quorate_protocol::ids::{AccountId, ShardId, Slot, TransferId};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Attempt;

use super::FinalState;

/// A recorded side of a transfer and the shard that recorded it.
pub type Side = (ShardId, RecordedTransfer);

/// All that is recorded about one transfer id.
#[derive(Clone, Debug, Default)]
pub struct IdRecords {
    pub debits: Vec<Side>,
    pub credits: Vec<Side>,
}

impl IdRecords {
    /// The deciding record, if there is one.
    #[must_use]
    pub fn decision(&self) -> Option<&RecordedTransfer> {
        self.debits.first().map(|(_, record)| record)
    }

    /// The record of a transfer that moved money.
    #[must_use]
    pub fn success(&self) -> Option<&Side> {
        self.debits
            .iter()
            .find(|(_, record)| ResultCode::from_u16(record.code) == Some(ResultCode::Ok))
    }

    /// Where the credit leg took effect: at the debit's shard for a local transfer.
    #[must_use]
    pub fn credit_at(&self) -> Option<(ShardId, Slot)> {
        let (debit_shard, debit) = self.success()?;
        let elsewhere = self.credits.iter().find(|(shard, _)| shard != debit_shard);
        match elsewhere {
            Some((shard, record)) => Some((*shard, record.slot)),
            None if debit.attempt == Attempt::default() => Some((*debit_shard, debit.slot)),
            None => {
                let here = self.credits.iter().find(|(shard, _)| shard == debit_shard);
                here.map(|(shard, record)| (*shard, record.slot))
            }
        }
    }
}

/// One transfer's effect on one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    pub id: TransferId,
    pub shard: ShardId,
    pub slot: Slot,
    /// When the slot's entry took effect: orders slots of one shard, and slots of different shards
    /// through the moves of an account.
    pub at: Timestamp,
    /// When the reservation that this effect posts was made, if there was one.
    pub reserved_at: Option<Timestamp>,
    pub debit: u128,
    pub credit: u128,
    /// The credit leg of a cross-shard transfer: it is posted after the decision, so the transfer can
    /// have been acknowledged before.
    pub posted_later: bool,
}

/// The arranged records.
#[derive(Debug, Default)]
pub struct Records {
    pub by_id: BTreeMap<TransferId, IdRecords>,
    /// Effects per account, oldest first.
    pub effects: BTreeMap<AccountId, Vec<Effect>>,
    /// Slots that records name and nobody has seen.
    pub unseen_slots: Vec<(TransferId, ShardId, Slot)>,
}

impl Records {
    /// Arranges the records of a final state.
    #[must_use]
    pub fn new(state: &FinalState) -> Self {
        let mut records = Self::default();
        for (shard, answer) in &state.records {
            let of_id = records.by_id.entry(answer.id).or_default();
            of_id.debits.extend(answer.debit.map(|side| (*shard, side)));
            of_id
                .credits
                .extend(answer.credit.map(|side| (*shard, side)));
        }
        for (&id, of_id) in &records.by_id {
            let Some((debit_shard, debit)) = of_id.success() else {
                continue;
            };
            let transfer = debit.transfer;
            let debit_attempt = debit.attempt;
            let debit_at = (*debit_shard, debit.slot);
            let mut effect = |account, place: (ShardId, Slot), debit, credit| {
                let Some(&at) = state.entry_times.get(&place) else {
                    records.unseen_slots.push((id, place.0, place.1));
                    return;
                };
                let (shard, slot) = place;
                let reserved_at = reserved_at(state, id, debit_attempt, place);
                records.effects.entry(account).or_default().push(Effect {
                    id,
                    shard,
                    slot,
                    at,
                    reserved_at,
                    debit,
                    credit,
                    posted_later: place != debit_at,
                });
            };
            effect(transfer.debit_account_id, debit_at, transfer.amount, 0);
            if let Some(credit_at) = of_id.credit_at() {
                effect(transfer.credit_account_id, credit_at, 0, transfer.amount);
            }
        }
        for effects in records.effects.values_mut() {
            effects.sort_by_key(|effect| (effect.at, effect.shard, effect.slot, effect.id));
        }
        records
    }

    /// The record that decided an id.
    #[must_use]
    pub fn decision(&self, id: TransferId) -> Option<&RecordedTransfer> {
        self.by_id.get(&id)?.decision()
    }

    /// Effects on an account, oldest first.
    #[must_use]
    pub fn effects_on(&self, account: AccountId) -> &[Effect] {
        self.effects.get(&account).map_or(&[], Vec::as_slice)
    }
}

/// The last time at which an attempt was prepared before it was posted.
fn reserved_at(
    state: &FinalState,
    id: TransferId,
    attempt: Attempt,
    posted: (ShardId, Slot),
) -> Option<Timestamp> {
    let slots = state.prepared.get(&(posted.0, id, attempt))?;
    let slot = slots.iter().filter(|slot| **slot < posted.1).max()?;
    state.entry_times.get(&(posted.0, *slot)).copied()
}
