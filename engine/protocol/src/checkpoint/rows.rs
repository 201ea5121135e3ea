//! The rows of the store. Their bytes are the same on every replica.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AccountId, Ballot, ShardId, Slot, TransferId};
use crate::ledger::history::{HistoryPosition, Record, RecordName};
use crate::ledger::state::OwnedAccount;
use crate::ledger::{Account, ResultCode};
use crate::table::hash64;
use crate::time::Timestamp;
use crate::txn::record::Attempt;

/// An account as of a checkpoint. What is reserved on it follows from the transactions in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AccountRow {
    pub account: Account,
    /// The highest transfer id recorded here with this account as debit account.
    pub id_max: u128,
    pub version: u64,
    /// Position of the newest row of history that moved money on it here; 0 = none.
    pub last: u64,
}

const _: () = assert!(size_of::<AccountRow>() == 160);

impl AccountRow {
    pub(crate) fn of(owned: &OwnedAccount) -> Self {
        Self {
            account: owned.account,
            id_max: owned.id_max,
            version: owned.version,
            last: owned.last.0,
        }
    }

    pub(crate) fn owned(&self) -> OwnedAccount {
        OwnedAccount {
            version: self.version,
            id_max: self.id_max,
            last: HistoryPosition(self.last),
            is_stored: true,
            ..OwnedAccount::new(self.account)
        }
    }

    /// Under which the store files it.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        account_fingerprint(self.account.id)
    }
}

/// Under which the store files an account.
#[must_use]
pub fn account_fingerprint(id: AccountId) -> u64 {
    hash64(id.as_bytes())
}

/// A use of a transfer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HistoryRow {
    pub id: TransferId,
    pub debit_account_id: AccountId,
    pub credit_account_id: AccountId,
    pub amount: u128,
    pub user_data: u64,
    pub ledger: u32,
    /// Which row of the same file's contexts belongs to it.
    pub context: u32,
    pub code: u16,
    /// A [`ResultCode`].
    pub result: u16,
    /// Positions of the rows before on the debit and on the credit account, 48 bits each; 0 = none.
    pub debit_before: [u8; 6],
    pub credit_before: [u8; 6],
}

const _: () = assert!(size_of::<HistoryRow>() == 96);

/// What neighbouring rows of history have in common. All local transfers of an entry share one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ContextRow {
    pub slot: Slot,
    pub applied_ts: Timestamp,
    pub commit_ts: Timestamp,
    pub attempt: Attempt,
    pub coordinator: ShardId,
    pub reserved: u32,
}

const _: () = assert!(size_of::<ContextRow>() == 48);

impl ContextRow {
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            slot: record.slot,
            applied_ts: record.applied_ts,
            commit_ts: record.commit_ts,
            attempt: record.attempt,
            coordinator: record.coordinator,
            reserved: 0,
        }
    }
}

impl HistoryRow {
    pub(crate) fn of(record: &Record, context: u32) -> Self {
        Self {
            id: record.id,
            debit_account_id: record.debit_account_id,
            credit_account_id: record.credit_account_id,
            amount: record.amount,
            user_data: record.user_data,
            ledger: record.ledger,
            context,
            code: record.code,
            result: record.result as u16,
            debit_before: packed(record.debit_before),
            credit_before: packed(record.credit_before),
        }
    }

    /// The record that it was made of; `None` if its result code has no meaning.
    #[must_use]
    pub fn record(&self, context: &ContextRow) -> Option<Record> {
        Some(Record {
            id: self.id,
            debit_account_id: self.debit_account_id,
            credit_account_id: self.credit_account_id,
            amount: self.amount,
            user_data: self.user_data,
            commit_ts: context.commit_ts,
            applied_ts: context.applied_ts,
            slot: context.slot,
            attempt: context.attempt,
            debit_before: unpacked(self.debit_before),
            credit_before: unpacked(self.credit_before),
            ledger: self.ledger,
            code: self.code,
            result: ResultCode::from_u16(self.result)?,
            coordinator: context.coordinator,
        })
    }
}

impl Record {
    /// What it is found under.
    #[must_use]
    pub fn name(&self) -> RecordName {
        RecordName {
            coordinator: self.coordinator,
            id: self.id,
        }
    }
}

/// What a checkpoint says of itself in the manifest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Mark {
    pub slot: Slot,
    /// The highest origin applied up to it.
    pub highest_origin: Ballot,
    /// Digest of the whole replicated state at the slot, low half first.
    pub digest: [u64; 2],
    /// Hash of the bytes of the side tables: not all of them are in the digest.
    pub side: u64,
    /// Position of the first row of history that is kept; 0: all are.
    pub history_from: u64,
}

const _: () = assert!(size_of::<Mark>() == 48);

impl Mark {
    /// The digest as one number.
    #[must_use]
    pub fn digest(&self) -> u128 {
        u128::from(self.digest[1]) << 64 | u128::from(self.digest[0])
    }
}

/// 2^48 rows are 280 years of a million a second.
fn packed(position: HistoryPosition) -> [u8; 6] {
    let [a, b, c, d, e, f, 0, 0] = position.0.to_le_bytes() else {
        panic!("{position:?} does not fit 48 bits");
    };
    [a, b, c, d, e, f]
}

fn unpacked([a, b, c, d, e, f]: [u8; 6]) -> HistoryPosition {
    HistoryPosition(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store finds rows by these numbers, whichever version wrote them.
    #[test]
    fn fingerprints_are_part_of_the_format() {
        let name = RecordName {
            coordinator: ShardId(3),
            id: TransferId(0x0123_4567_89ab_cdef),
        };
        assert_eq!(name.fingerprint(), NAME_FINGERPRINT);
        assert_eq!(account_fingerprint(AccountId(42)), ACCOUNT_FINGERPRINT);
    }

    const NAME_FINGERPRINT: u64 = 5_994_173_479_389_892_657;
    const ACCOUNT_FINGERPRINT: u64 = 2_439_665_524_156_882_864;

    #[test]
    fn positions_survive_packing() {
        for position in [0, 1, 255, 256, (1 << 48) - 1] {
            let position = HistoryPosition(position);
            assert_eq!(unpacked(packed(position)), position);
        }
    }
}
