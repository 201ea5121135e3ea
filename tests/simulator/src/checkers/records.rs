//! What the shards recorded, arranged for the checkers: by transfer id, and summed up by account.

use std::collections::BTreeMap;

use quorate_protocol::client::RecordedTransfer;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::ResultCode;
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

    /// The shard that recorded the credit leg: for a local transfer that of the debit.
    #[must_use]
    pub fn credit_at(&self) -> Option<ShardId> {
        let (debit_shard, debit) = self.success()?;
        if debit.attempt == Attempt::default() {
            return Some(*debit_shard);
        }
        let mut elsewhere = self.credits.iter();
        let found = elsewhere.find(|(shard, _)| shard != debit_shard);
        found.map(|(shard, _)| *shard)
    }
}

/// The arranged records.
#[derive(Debug, Default)]
pub struct Records {
    pub by_id: BTreeMap<TransferId, IdRecords>,
    /// Per account, the sums of what its recorded transfers debited and credited.
    pub sums: BTreeMap<AccountId, (u128, u128)>,
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
                .extend(answer.credits.iter().map(|&side| (*shard, side)));
        }
        for of_id in records.by_id.values() {
            let Some((_, debit)) = of_id.success() else {
                continue;
            };
            let transfer = debit.transfer;
            let debits = records.sums.entry(transfer.debit_account_id).or_default();
            debits.0 += transfer.amount;
            if of_id.credit_at().is_some() {
                let credits = records.sums.entry(transfer.credit_account_id).or_default();
                credits.1 += transfer.amount;
            }
        }
        records
    }

    /// The record that decided an id.
    #[must_use]
    pub fn decision(&self, id: TransferId) -> Option<&RecordedTransfer> {
        self.by_id.get(&id)?.decision()
    }
}
