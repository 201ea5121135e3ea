//! One use of a transfer id, as a shard has recorded it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::client::RecordedTransfer;
use crate::ids::{AccountId, ShardId, Slot, TransferId};
use crate::ledger::apply::At;
use crate::ledger::{ResultCode, Transfer};
use crate::table::{hash64, hash128};
use crate::time::Timestamp;
use crate::txn::record::Attempt;

/// Where a row lies in the history of a shard: rows are counted from 1, in the order in which entries
/// recorded them, for as long as the shard lives. 0 means "none".
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct HistoryPosition(pub u64);

impl HistoryPosition {
    /// "None".
    pub const NONE: Self = Self(0);
}

/// What a row is found under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordName {
    /// The shard that decided it, for the row of a credit; zero for an own decision.
    pub coordinator: ShardId,
    pub id: TransferId,
}

impl RecordName {
    /// Under which the store files it: a fixed hash, equal on every replica and in every version.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let words = [self.id.0, self.coordinator.0.into()];
        hash64(words.as_bytes())
    }
}

/// A used id. Fields that are always zero today are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: TransferId,
    pub debit_account_id: AccountId,
    pub credit_account_id: AccountId,
    pub amount: u128,
    pub user_data: u64,
    pub commit_ts: Timestamp,
    /// When it took effect here: the timestamp of the entry in `slot`. Later than `commit_ts` on the
    /// credit side of a cross-shard transfer, else the same.
    pub applied_ts: Timestamp,
    pub slot: Slot,
    /// The attempt that decided it; zero for a local transfer.
    pub attempt: Attempt,
    /// The row before this one on the debit account, if this one posted its debit here.
    pub debit_before: HistoryPosition,
    /// The row before this one on the credit account, if this one posted its credit here.
    pub credit_before: HistoryPosition,
    pub ledger: u32,
    pub code: u16,
    pub result: ResultCode,
    /// The shard that decided it, if it was posted here as credit side; zero: this shard decided it.
    pub coordinator: ShardId,
}

impl Record {
    /// The record of `transfer` as this shard decided it in the entry `at`.
    #[must_use]
    pub(crate) fn decided(
        transfer: &Transfer,
        result: ResultCode,
        at: At,
        attempt: Attempt,
    ) -> Self {
        Self {
            id: transfer.id,
            debit_account_id: transfer.debit_account_id,
            credit_account_id: transfer.credit_account_id,
            amount: transfer.amount,
            user_data: transfer.user_data,
            commit_ts: at.timestamp,
            applied_ts: at.timestamp,
            slot: at.slot,
            attempt,
            debit_before: HistoryPosition::NONE,
            credit_before: HistoryPosition::NONE,
            ledger: transfer.ledger,
            code: transfer.code,
            result,
            coordinator: ShardId(0),
        }
    }

    /// The record of the credit of `transfer`, which `coordinator` committed at `commit_ts`.
    #[must_use]
    pub(crate) fn credited(
        transfer: &Transfer,
        at: At,
        coordinator: ShardId,
        attempt: Attempt,
        commit_ts: Timestamp,
    ) -> Self {
        Self {
            commit_ts,
            coordinator,
            ..Self::decided(transfer, ResultCode::Ok, at, attempt)
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

    /// Every field. The chain of an account's rows is part of the state: where it begins is in the
    /// account, and how it goes on is here.
    pub(crate) fn digest(&self) -> u128 {
        let pair = |low: u64, high: u64| u128::from(high) << 64 | u128::from(low);
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
            pair(self.attempt.counter, self.coordinator.0.into()),
            pair(small, self.applied_ts.0),
            pair(self.debit_before.0, self.credit_before.0),
        ];
        hash128(words.as_bytes())
    }
}
