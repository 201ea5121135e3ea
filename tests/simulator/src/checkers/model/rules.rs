//! The ledger's rules, written a second time from the design: what the fields of a request call for,
//! what a leg may do under open reservations, what a second use of an id is told, where an account's
//! home is.

use quorate_protocol::config::IdRule;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, Transfer};
use quorate_protocol::shard::map::Placement;
use quorate_protocol::time::Timestamp;

/// What a cluster is told once, at its start.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub shards: u32,
    pub placement: Placement,
    pub ids: IdRule,
    /// How long used ids are kept; `None`: for ever.
    pub keep_ns: Option<u64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            shards: 1,
            placement: Placement::Range {
                accounts_per_shard: 2,
            },
            ids: IdRule::Any,
            keep_ns: None,
        }
    }
}

/// An id's own time may lie this far ahead of the entry that carries it (page 3): 10 s.
const AHEAD_MS: u64 = 10_000;

impl Rules {
    /// The shard whose log alone decides the creation of an account.
    #[must_use]
    pub fn home(&self, account: AccountId) -> ShardId {
        let shards = u128::from(self.shards);
        let part = match self.placement {
            Placement::Hash => {
                let folded = (account.0 >> 64) ^ (account.0 & u128::from(u64::MAX));
                scramble(folded) % shards
            }
            Placement::Range { accounts_per_shard } => {
                let each = u128::from(accounts_per_shard).max(1);
                (account.0.max(1) - 1) / each
            }
        };
        let part = u32::try_from(part.min(shards - 1)).expect("below the number of shards");
        ShardId(part + 1)
    }

    /// Whether a transfer's id claims a time that the entry's timestamp cannot know of yet.
    #[must_use]
    pub fn is_ahead(&self, id: TransferId, at: Timestamp) -> bool {
        let id_ms = id.0 >> 80;
        let limit_ms = u128::from(at.0 / 1_000_000 + AHEAD_MS);
        self.ids == IdRule::Ulid && id_ms > limit_ms
    }

    /// Whether a transfer's id is from so long ago that a use of it may be forgotten.
    #[must_use]
    pub fn is_too_old(&self, id: TransferId, at: Timestamp) -> bool {
        let horizon_ms = self.horizon(at).0 / 1_000_000;
        id.0 >> 80 < u128::from(horizon_ms)
    }

    /// Whether an id that was used at `used` may be forgotten: by its own time and by that of its use.
    #[must_use]
    pub fn may_be_forgotten(&self, id: TransferId, used: Timestamp, at: Timestamp) -> bool {
        self.is_too_old(id, at) && used < self.horizon(at)
    }

    fn horizon(&self, at: Timestamp) -> Timestamp {
        let keep_ns = self.keep_ns.unwrap_or(u64::MAX);
        Timestamp(at.0.saturating_sub(keep_ns))
    }
}

/// The output function of splitmix64, on 128 bits with the overflow cut off.
fn scramble(number: u128) -> u128 {
    let cut = |value: u128| value & u128::from(u64::MAX);
    let mut z = cut(number + 0x9e37_79b9_7f4a_7c15);
    z = cut((z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    z = cut((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb));
    z ^ (z >> 31)
}

/// What may become of one leg of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    Allowed,
    Refused(ResultCode),
    /// The open reservations decide.
    Open,
}

/// The debit leg, with `open` money reserved to be credited to the account: judged once as if all of
/// that money came and once as if none of it did.
#[must_use]
pub fn debit_leg(account: &Account, open: u128, transfer: &Transfer) -> Leg {
    if account.flags.contains(AccountFlags::CLOSED) {
        return Leg::Refused(ResultCode::DebitAccountClosed);
    }
    if account.ledger != transfer.ledger {
        return Leg::Refused(ResultCode::DebitLedgerMismatch);
    }
    let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
    let judge = |arrived: u128| {
        let Some(debits) = account.debits_posted.checked_add(transfer.amount) else {
            return Leg::Refused(ResultCode::OverflowsDebitsPosted);
        };
        let credits = account.credits_posted.saturating_add(arrived);
        if account.flags.contains(limited) && debits > credits {
            return Leg::Refused(ResultCode::ExceedsCredits);
        }
        Leg::Allowed
    };
    unless_they_differ(judge(0), judge(open))
}

/// The credit leg, likewise.
#[must_use]
pub fn credit_leg(account: &Account, open: u128, transfer: &Transfer) -> Leg {
    if account.flags.contains(AccountFlags::CLOSED) {
        return Leg::Refused(ResultCode::CreditAccountClosed);
    }
    if account.ledger != transfer.ledger {
        return Leg::Refused(ResultCode::CreditLedgerMismatch);
    }
    let limited = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS;
    let judge = |arrived: u128| {
        let before = account.credits_posted.checked_add(arrived);
        let Some(credits) = before.and_then(|sum| sum.checked_add(transfer.amount)) else {
            return Leg::Refused(ResultCode::OverflowsCreditsPosted);
        };
        if account.flags.contains(limited) && credits > account.debits_posted {
            return Leg::Refused(ResultCode::ExceedsDebits);
        }
        Leg::Allowed
    };
    unless_they_differ(judge(0), judge(open))
}

fn unless_they_differ(a: Leg, b: Leg) -> Leg {
    if a == b { a } else { Leg::Open }
}

/// What the fields of a transfer alone call for, in checking order; `None` if they are in order.
#[must_use]
pub fn malformed(transfer: &Transfer) -> Option<ResultCode> {
    let rules = [
        (transfer.flags != 0, ResultCode::ReservedFlag),
        (
            transfer.pending_id != 0 || transfer.timeout != 0,
            ResultCode::ReservedField,
        ),
        (transfer.id.0 == 0, ResultCode::IdMustNotBeZero),
        (transfer.id.0 == u128::MAX, ResultCode::IdMustNotBeMax),
        (
            transfer.debit_account_id.0 == 0,
            ResultCode::DebitAccountIdMustNotBeZero,
        ),
        (
            transfer.credit_account_id.0 == 0,
            ResultCode::CreditAccountIdMustNotBeZero,
        ),
        (
            transfer.debit_account_id == transfer.credit_account_id,
            ResultCode::AccountsMustBeDifferent,
        ),
        (transfer.amount == 0, ResultCode::AmountMustNotBeZero),
        (transfer.ledger == 0, ResultCode::LedgerMustNotBeZero),
        (transfer.code == 0, ResultCode::CodeMustNotBeZero),
    ];
    first(&rules)
}

/// What a later use of an id is told, given its record and that record's result.
#[must_use]
pub fn used_again(kept: &Transfer, result: ResultCode, sent: &Transfer) -> ResultCode {
    if result != ResultCode::Ok {
        return ResultCode::IdAlreadyFailed;
    }
    let rules = [
        (
            kept.flags != sent.flags,
            ResultCode::ExistsWithDifferentFlags,
        ),
        (
            kept.debit_account_id != sent.debit_account_id,
            ResultCode::ExistsWithDifferentDebitAccountId,
        ),
        (
            kept.credit_account_id != sent.credit_account_id,
            ResultCode::ExistsWithDifferentCreditAccountId,
        ),
        (
            kept.amount != sent.amount,
            ResultCode::ExistsWithDifferentAmount,
        ),
        (
            kept.user_data != sent.user_data,
            ResultCode::ExistsWithDifferentUserData,
        ),
        (
            kept.ledger != sent.ledger,
            ResultCode::ExistsWithDifferentLedger,
        ),
        (kept.code != sent.code, ResultCode::ExistsWithDifferentCode),
    ];
    first(&rules).unwrap_or(ResultCode::Exists)
}

/// What the creation of an account that exists is told.
#[must_use]
pub fn created_again(kept: &Account, sent: &Account) -> ResultCode {
    let rules = [
        (
            kept.flags != sent.flags,
            ResultCode::ExistsWithDifferentFlags,
        ),
        (
            kept.user_data != sent.user_data,
            ResultCode::ExistsWithDifferentUserData,
        ),
        (
            kept.ledger != sent.ledger,
            ResultCode::ExistsWithDifferentLedger,
        ),
        (kept.code != sent.code, ResultCode::ExistsWithDifferentCode),
    ];
    first(&rules).unwrap_or(ResultCode::Exists)
}

fn first(rules: &[(bool, ResultCode)]) -> Option<ResultCode> {
    rules
        .iter()
        .find(|(broken, _)| *broken)
        .map(|(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(shards: u32, placement: Placement, ids: IdRule) -> Rules {
        Rules {
            shards,
            placement,
            ids,
            keep_ns: None,
        }
    }

    #[test]
    fn homes_are_those_of_the_reference() {
        // splitmix64 seeded with 0 gives 0xe220a8397b1dcdaf first.
        assert_eq!(scramble(0), 0xe220_a839_7b1d_cdaf);
        let range = rules(
            3,
            Placement::Range {
                accounts_per_shard: 3000,
            },
            IdRule::Any,
        );
        let homes = [0, 1, 3000, 3001, 6001, u128::MAX].map(|id| range.home(AccountId(id)).0);
        assert_eq!(homes, [1, 1, 1, 2, 3, 3]);
        let hash = rules(4, Placement::Hash, IdRule::Any);
        for id in (0..1000).chain([u128::MAX, 1 << 64, 7 << 90]) {
            let id = AccountId(id);
            assert_eq!(hash.home(id), Placement::Hash.home(id, 4));
        }
    }

    #[test]
    fn a_debit_that_open_money_could_pay_is_open() {
        let limited = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        let mut account = Account::new(AccountId(1), 1, 1, limited);
        account.credits_posted = 10;
        let debit = |amount| Transfer::new(TransferId(9), AccountId(1), AccountId(2), amount, 1, 1);
        assert_eq!(debit_leg(&account, 5, &debit(10)), Leg::Allowed);
        assert_eq!(debit_leg(&account, 5, &debit(15)), Leg::Open);
        let refused = Leg::Refused(ResultCode::ExceedsCredits);
        assert_eq!(debit_leg(&account, 5, &debit(16)), refused);
        assert_eq!(debit_leg(&account, 0, &debit(11)), refused);
    }

    #[test]
    fn an_open_credit_takes_headroom() {
        let limited = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS;
        let mut account = Account::new(AccountId(1), 1, 1, limited);
        account.debits_posted = 10;
        let credit =
            |amount| Transfer::new(TransferId(9), AccountId(2), AccountId(1), amount, 1, 1);
        assert_eq!(credit_leg(&account, 4, &credit(6)), Leg::Allowed);
        assert_eq!(credit_leg(&account, 4, &credit(7)), Leg::Open);
        let refused = Leg::Refused(ResultCode::ExceedsDebits);
        assert_eq!(credit_leg(&account, 4, &credit(11)), refused);
    }

    #[test]
    fn ids_of_the_future_are_told_by_their_first_48_bits() {
        let ulid = rules(1, Placement::Hash, IdRule::Ulid);
        let id = |ms: u128| TransferId(ms << 80 | 77);
        let at = Timestamp(5_000_000_000);
        assert!(!ulid.is_ahead(id(15_000), at));
        assert!(ulid.is_ahead(id(15_001), at));
        assert!(!rules(1, Placement::Hash, IdRule::Any).is_ahead(id(15_001), at));
    }
}
