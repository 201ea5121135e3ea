//! The transfer record: 128 bytes, the same in memory, in the log and on the wire.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AccountId, TransferId};
use crate::time::Timestamp;

/// A move of `amount` from the debit account to the credit account within one ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Transfer {
    pub id: TransferId,
    pub debit_account_id: AccountId,
    pub credit_account_id: AccountId,
    pub amount: u128,
    /// Reserved for two-phase transfers of users; 0.
    pub pending_id: u128,
    pub user_data: u64,
    /// 0 from clients; the commit timestamp where a transfer is shown.
    pub timestamp: Timestamp,
    /// Reserved for two-phase transfers of users; 0.
    pub timeout: u32,
    pub ledger: u32,
    pub code: u16,
    /// Reserved; 0.
    pub flags: u16,
    /// 0 from clients. In a log entry: the debit account's ownership epoch at which the leader
    /// admitted the transfer (page "moves"): apply refuses any other.
    pub debit_epoch: u32,
    pub reserved: [u8; 16],
}

const _: () = assert!(size_of::<Transfer>() == 128 && align_of::<Transfer>() == 16);

impl Transfer {
    /// A plain transfer.
    #[must_use]
    pub fn new(
        id: TransferId,
        debit_account_id: AccountId,
        credit_account_id: AccountId,
        amount: u128,
        ledger: u32,
        code: u16,
    ) -> Self {
        Self {
            id,
            debit_account_id,
            credit_account_id,
            amount,
            pending_id: 0,
            user_data: 0,
            timestamp: Timestamp::ZERO,
            timeout: 0,
            ledger,
            code,
            flags: 0,
            debit_epoch: 0,
            reserved: [0; 16],
        }
    }
}
