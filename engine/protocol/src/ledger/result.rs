//! Result codes: one closed list, in the order in which they are checked.
//!
//! The debit leg is validated completely before the credit leg, in one shard or across two, so the
//! code of a transfer that fails on both sides does not depend on placement.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::ShardId;
use crate::time::Timestamp;

/// When a code is given and what it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeKind {
    /// The request took effect, now or earlier.
    Success,
    /// Decided by the request alone; nothing is recorded, any retry gets it again.
    Malformed,
    /// Decided by replicated state and recorded with the id: final.
    Recorded,
    /// Answers about an id that was used before; nothing new is recorded.
    Used,
    /// The id is older than what is kept and not known as used; nothing is recorded, any retry gets it again.
    Expired,
    /// Nothing was logged and nothing consumed: the same id may be tried again.
    Unlogged,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $kind:ident;)*) => {
        /// The outcome of one account creation or transfer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum ResultCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl ResultCode {
            /// All codes in checking order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name that users and machines see.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What kind of answer it is.
            #[must_use]
            pub fn kind(self) -> CodeKind {
                match self { $(Self::$name => CodeKind::$kind,)* }
            }

            /// The code with this number, if there is one.
            #[must_use]
            pub fn from_u16(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    /// Took effect now.
    Ok = 0, "ok", Success;

    /// A flag bit without a meaning, or of a feature that does not exist.
    ReservedFlag = 1, "reserved_flag", Malformed;
    /// A reserved field (`pending_id`, `timeout`, padding, a balance or timestamp of a new account) is not zero.
    ReservedField = 2, "reserved_field", Malformed;
    IdMustNotBeZero = 3, "id_must_not_be_zero", Malformed;
    IdMustNotBeMax = 4, "id_must_not_be_max", Malformed;
    DebitAccountIdMustNotBeZero = 5, "debit_account_id_must_not_be_zero", Malformed;
    CreditAccountIdMustNotBeZero = 6, "credit_account_id_must_not_be_zero", Malformed;
    AccountsMustBeDifferent = 7, "accounts_must_be_different", Malformed;
    AmountMustNotBeZero = 8, "amount_must_not_be_zero", Malformed;
    LedgerMustNotBeZero = 9, "ledger_must_not_be_zero", Malformed;
    CodeMustNotBeZero = 10, "code_must_not_be_zero", Malformed;
    /// Both limit flags on one account.
    FlagsAreMutuallyExclusive = 11, "flags_are_mutually_exclusive", Malformed;
    /// `ids = "ulid"`: the id's own time is more than 10 s ahead of the shard's clock.
    IdFromTheFuture = 12, "id_from_the_future", Unlogged;

    /// The same id took effect before, with the same fields.
    Exists = 20, "exists", Success;
    ExistsWithDifferentFlags = 21, "exists_with_different_flags", Used;
    ExistsWithDifferentDebitAccountId = 22, "exists_with_different_debit_account_id", Used;
    ExistsWithDifferentCreditAccountId = 23, "exists_with_different_credit_account_id", Used;
    ExistsWithDifferentAmount = 24, "exists_with_different_amount", Used;
    ExistsWithDifferentUserData = 25, "exists_with_different_user_data", Used;
    ExistsWithDifferentLedger = 26, "exists_with_different_ledger", Used;
    ExistsWithDifferentCode = 27, "exists_with_different_code", Used;
    /// The id was refused before; the refusal is final.
    IdAlreadyFailed = 28, "id_already_failed", Used;

    /// `keep` is a duration: the id's own time is further back. It does not run, now or later; if it ran so long
    /// ago, that is not known any more.
    IdTooOld = 29, "id_too_old", Expired;

    DebitAccountNotFound = 40, "debit_account_not_found", Recorded;
    DebitAccountClosed = 41, "debit_account_closed", Recorded;
    /// The transfer's ledger is not the debit account's.
    DebitLedgerMismatch = 42, "debit_ledger_mismatch", Recorded;
    OverflowsDebitsPosted = 43, "overflows_debits_posted", Recorded;
    /// The debit account may not be overdrawn and lacks the funds.
    ExceedsCredits = 44, "exceeds_credits", Recorded;
    CreditAccountNotFound = 45, "credit_account_not_found", Recorded;
    CreditAccountClosed = 46, "credit_account_closed", Recorded;
    /// The transfer's ledger is not the credit account's.
    CreditLedgerMismatch = 47, "credit_ledger_mismatch", Recorded;
    OverflowsCreditsPosted = 48, "overflows_credits_posted", Recorded;
    /// The credit account's credits may not exceed its debits and would.
    ExceedsDebits = 49, "exceeds_debits", Recorded;

    /// A bound of the server is reached; nothing was done.
    Busy = 60, "busy", Unlogged;
    /// The account lives at another shard; the result names it.
    Moved = 61, "moved", Unlogged;
    /// This replica does not lead its shard.
    NotLeader = 62, "not_leader", Unlogged;
    /// Open transactions on the account did not resolve in time; nothing was done.
    Contended = 63, "contended", Unlogged;
    /// No answer by the deadline: it may or may not take effect. The same id is safe to retry.
    Unknown = 64, "unknown", Unlogged;
}

impl ResultCode {
    /// Whether the money has moved: now, or under this id before.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.kind() == CodeKind::Success
    }
}

/// One result on the wire, in the order of the request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ResultRow {
    /// Commit timestamp; of the earlier use for `exists`; 0 where nothing was logged.
    pub timestamp: Timestamp,
    /// A [`ResultCode`] as a number.
    pub code: u16,
    /// Bit 0: the transfer ran across shards.
    pub flags: u16,
    /// With `moved`: where the account lives as far as this shard knows.
    pub shard: ShardId,
}

const _: () = assert!(size_of::<ResultRow>() == 16);

impl ResultRow {
    /// Set in `flags` of a transfer that ran across shards.
    pub const CROSS_SHARD: u16 = 1;

    /// A result without a timestamp.
    #[must_use]
    pub fn unlogged(code: ResultCode) -> Self {
        Self {
            code: code as u16,
            ..Self::default()
        }
    }

    /// A logged result.
    #[must_use]
    pub fn logged(code: ResultCode, timestamp: Timestamp) -> Self {
        Self {
            code: code as u16,
            timestamp,
            ..Self::default()
        }
    }

    /// "Ask that shard."
    #[must_use]
    pub fn moved(shard: ShardId) -> Self {
        Self {
            code: ResultCode::Moved as u16,
            shard,
            ..Self::default()
        }
    }

    /// The code; `None` for a number from a newer version.
    #[must_use]
    pub fn result(&self) -> Option<ResultCode> {
        ResultCode::from_u16(self.code)
    }

    /// Whether the transfer ran across shards.
    #[must_use]
    pub fn cross_shard(&self) -> bool {
        self.flags & Self::CROSS_SHARD != 0
    }
}
