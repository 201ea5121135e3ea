//! The account record: 128 bytes, the same in memory, in the log and on the wire.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::AccountId;
use crate::time::Timestamp;

/// Account flags, a set of bits.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct AccountFlags(pub u16);

impl AccountFlags {
    /// `debits-must-not-exceed-credits`: the account cannot be overdrawn.
    pub const DEBITS_MUST_NOT_EXCEED_CREDITS: Self = Self(1 << 0);
    /// `credits-must-not-exceed-debits`.
    pub const CREDITS_MUST_NOT_EXCEED_DEBITS: Self = Self(1 << 1);
    /// `closed`: refuses transfers on either side.
    pub const CLOSED: Self = Self(1 << 2);
    /// `system`: exempt from telemetry and moves; funds the accounts of its shard.
    pub const SYSTEM: Self = Self(1 << 3);

    /// Every flag with the name that users write.
    pub const NAMES: [(Self, &'static str); 4] = [
        (
            Self::DEBITS_MUST_NOT_EXCEED_CREDITS,
            "debits-must-not-exceed-credits",
        ),
        (
            Self::CREDITS_MUST_NOT_EXCEED_DEBITS,
            "credits-must-not-exceed-debits",
        ),
        (Self::CLOSED, "closed"),
        (Self::SYSTEM, "system"),
    ];

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Bits without a meaning.
    #[must_use]
    pub fn unknown(self) -> u16 {
        self.0 & !0b1111
    }
}

/// An account. Sums are in the ledger's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Account {
    pub id: AccountId,
    pub debits_pending: u128,
    pub debits_posted: u128,
    pub credits_pending: u128,
    pub credits_posted: u128,
    pub user_data: u64,
    /// Timestamp of the entry that created it.
    pub timestamp: Timestamp,
    pub ledger: u32,
    /// Moves so far; part of every command that a look-up at a previous owner precedes.
    pub ownership_epoch: u32,
    pub code: u16,
    pub flags: AccountFlags,
    pub reserved: [u8; 20],
}

const _: () = assert!(size_of::<Account>() == 128 && align_of::<Account>() == 16);

impl Account {
    /// A new account without money.
    #[must_use]
    pub fn new(id: AccountId, ledger: u32, code: u16, flags: AccountFlags) -> Self {
        Self {
            id,
            debits_pending: 0,
            debits_posted: 0,
            credits_pending: 0,
            credits_posted: 0,
            user_data: 0,
            timestamp: Timestamp::ZERO,
            ledger,
            ownership_epoch: 0,
            code,
            flags,
            reserved: [0; 20],
        }
    }
}
