//! The transfer index: which ids were used here and how they ended.
//!
//! Two sides: ids that this shard decided (it owned the debit account), recorded once whatever the
//! result; and ids that it posted as the credit side, keyed with the coordinator that decided them,
//! because the same id may be in use at two debit accounts on two shards.

use zerocopy::IntoBytes;

use crate::client::RecordedTransfer;
use crate::ids::{AccountId, ShardId, Slot, TransferId};
use crate::ledger::{ResultCode, Transfer};
use crate::table::{Arena, Lookup, hash128};
use crate::time::Timestamp;
use crate::txn::record::Attempt;

/// A used id. Fields that are always zero today are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: TransferId,
    pub debit_account_id: AccountId,
    pub credit_account_id: AccountId,
    pub amount: u128,
    pub user_data: u64,
    pub commit_ts: Timestamp,
    pub slot: Slot,
    /// The attempt that decided it; zero for a local transfer.
    pub attempt: Attempt,
    pub ledger: u32,
    pub code: u16,
    pub result: ResultCode,
}

impl Record {
    /// The record of `transfer` as decided in `slot`.
    #[must_use]
    pub fn new(
        transfer: &Transfer,
        result: ResultCode,
        slot: Slot,
        commit_ts: Timestamp,
        attempt: Attempt,
    ) -> Self {
        Self {
            id: transfer.id,
            debit_account_id: transfer.debit_account_id,
            credit_account_id: transfer.credit_account_id,
            amount: transfer.amount,
            user_data: transfer.user_data,
            commit_ts,
            slot,
            attempt,
            ledger: transfer.ledger,
            code: transfer.code,
            result,
        }
    }

    /// The transfer as the client sent it.
    #[must_use]
    pub fn transfer(&self) -> Transfer {
        Transfer {
            user_data: self.user_data,
            ..Transfer::new(
                self.id,
                self.debit_account_id,
                self.credit_account_id,
                self.amount,
                self.ledger,
                self.code,
            )
        }
    }

    /// As users are shown it.
    #[must_use]
    pub fn answer(&self) -> RecordedTransfer {
        RecordedTransfer {
            transfer: Transfer {
                timestamp: self.commit_ts,
                ..self.transfer()
            },
            code: self.result as u16,
            slot: self.slot,
            commit_ts: self.commit_ts,
            attempt: self.attempt,
        }
    }

    /// Every field, and the side: `coordinator` posted it here as credit side, or nobody did and it
    /// is this shard's own decision.
    fn digest(&self, coordinator: Option<ShardId>) -> u128 {
        let pair = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
        let side = coordinator.map_or(0, |shard| 1 + u64::from(shard.0));
        let small = u64::from(self.ledger) << 32
            | u64::from(self.code) << 16
            | u64::from(self.result as u16);
        let words = [
            self.id.0,
            self.debit_account_id.0,
            self.credit_account_id.0,
            self.amount,
            pair(self.user_data, self.commit_ts.0),
            pair(self.slot.0, self.attempt.ballot.0),
            pair(self.attempt.counter, side),
            u128::from(small),
        ];
        hash128(words.as_bytes())
    }
}

/// Both sides of the index.
#[derive(Debug, Default)]
pub struct History {
    records: Arena<Record>,
    debits: Lookup<TransferId, u32>,
    credits: Lookup<(ShardId, TransferId), u32>,
    /// Order-independent sum over all records.
    digest: u128,
}

impl History {
    /// The use of an id that this shard decided.
    #[must_use]
    pub fn debit(&self, id: TransferId) -> Option<&Record> {
        self.debits.get(&id).map(|&index| self.records.at(index))
    }

    /// The transfer posted here as credit side under this id by `coordinator`.
    #[must_use]
    pub fn credit(&self, coordinator: ShardId, id: TransferId) -> Option<&Record> {
        self.credits
            .get(&(coordinator, id))
            .map(|&index| self.records.at(index))
    }

    /// Everything posted here as credit side under this id, by the shard that decided it.
    pub fn credits(&self, shards: u32, id: TransferId) -> impl Iterator<Item = &Record> {
        (1..=shards).filter_map(move |shard| self.credit(ShardId(shard), id))
    }

    /// Records a decision of this shard.
    ///
    /// # Panics
    /// If the id was used: the caller has checked, and using it twice would be money from nothing.
    pub fn record_debit(&mut self, record: Record) {
        self.digest = self.digest.wrapping_add(record.digest(None));
        let index = self.records.insert(record);
        let old = self.debits.insert(record.id, index);
        assert!(old.is_none(), "transfer {} decided twice", record.id);
    }

    /// Records a posting as credit side.
    ///
    /// # Panics
    /// If the coordinator's id was posted before.
    pub fn record_credit(&mut self, coordinator: ShardId, record: Record) {
        self.digest = self.digest.wrapping_add(record.digest(Some(coordinator)));
        let index = self.records.insert(record);
        let old = self.credits.insert((coordinator, record.id), index);
        assert!(
            old.is_none(),
            "transfer {} of shard {coordinator} posted twice",
            record.id
        );
    }

    /// Number of records of both sides.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Order-independent digest of all records.
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }
}
