//! The chain of one account's rows: each names the one before it on each of its accounts.

use crate::client::HistoryEntry;
use crate::ids::{AccountId, ShardId};
use crate::ledger::ResultCode;
use crate::ledger::history::record::{HistoryPosition, Record};
use crate::txn::record::Attempt;

/// A stretch of an account's chain that is in the store: its rows from one position back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainQuestion {
    pub account: AccountId,
    /// Of the newest row.
    pub from: HistoryPosition,
    /// At least 1.
    pub rows_max: usize,
}

impl Record {
    /// Whether it moved money on `account` here, so that it is a row of the account's chain.
    #[must_use]
    pub fn touches(&self, account: AccountId) -> bool {
        let posts_debit = self.coordinator == ShardId(0);
        // An own decision with an attempt posted its credit at another shard.
        let posts_credit = !posts_debit || self.attempt == Attempt::default();
        self.result == ResultCode::Ok
            && (posts_debit && self.debit_account_id == account
                || posts_credit && self.credit_account_id == account)
    }

    /// The row before this one on `account`, which it must touch.
    #[must_use]
    pub fn before(&self, account: AccountId) -> HistoryPosition {
        if self.debit_account_id == account && self.coordinator == ShardId(0) {
            self.debit_before
        } else {
            self.credit_before
        }
    }

    /// As users are shown it in an account's history.
    #[must_use]
    pub fn entry(&self, position: HistoryPosition) -> HistoryEntry {
        HistoryEntry {
            position: position.0,
            recorded: self.answer(),
            applied_ts: self.applied_ts,
            coordinator: self.coordinator,
        }
    }
}
