//! The rules of double entry as pure functions: what is malformed, what a leg may do, what a second
//! use of an id means.
//!
//! A leg is checked under open reservations (page 3, rule 7): in the worst case for it (every open
//! reservation against it commits, every one in its favour aborts) and in the best case (the
//! reverse). The same answer in both is final; different answers mean "not decidable yet".

use crate::ids::{AccountId, TransferId};
use crate::ledger::{Account, AccountFlags, ResultCode, Transfer};

/// Money that prepared, undecided transactions may still bring to or take from an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub debits: u128,
    pub credits: u128,
}

/// Verdict about one leg of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Whatever the open reservations become, the leg is allowed.
    Allowed,
    /// Whatever they become, it is refused.
    Refused(ResultCode),
    /// It depends on them.
    Undecided,
}

/// Checks that need nothing but the transfer, in the order of the codes.
pub fn check_transfer(transfer: &Transfer) -> Result<(), ResultCode> {
    use ResultCode as Code;
    let t = transfer;
    let guards = [
        (t.flags != 0, Code::ReservedFlag),
        (
            t.pending_id != 0
                || t.timeout != 0
                || t.timestamp.0 != 0
                || t.debit_epoch != 0
                || t.reserved != [0; 16],
            Code::ReservedField,
        ),
        (t.id.0 == 0, Code::IdMustNotBeZero),
        (t.id.0 == u128::MAX, Code::IdMustNotBeMax),
        (t.debit_account_id.0 == 0, Code::DebitAccountIdMustNotBeZero),
        (
            t.credit_account_id.0 == 0,
            Code::CreditAccountIdMustNotBeZero,
        ),
        (
            t.debit_account_id == t.credit_account_id,
            Code::AccountsMustBeDifferent,
        ),
        (t.amount == 0, Code::AmountMustNotBeZero),
        (t.ledger == 0, Code::LedgerMustNotBeZero),
        (t.code == 0, Code::CodeMustNotBeZero),
    ];
    first_failing(&guards)
}

/// Checks that need nothing but the account to create, in the order of the codes.
pub fn check_account(account: &Account) -> Result<(), ResultCode> {
    use ResultCode as Code;
    let a = account;
    let both = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS
        .union(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    let money = a.debits_pending | a.debits_posted | a.credits_pending | a.credits_posted;
    let guards = [
        (a.flags.unknown() != 0, Code::ReservedFlag),
        (
            money != 0 || a.timestamp.0 != 0 || a.ownership_epoch != 0 || a.reserved != [0; 20],
            Code::ReservedField,
        ),
        (a.id.0 == 0, Code::IdMustNotBeZero),
        (a.id.0 == u128::MAX, Code::IdMustNotBeMax),
        (a.ledger == 0, Code::LedgerMustNotBeZero),
        (a.code == 0, Code::CodeMustNotBeZero),
        (a.flags.contains(both), Code::FlagsAreMutuallyExclusive),
    ];
    first_failing(&guards)
}

fn first_failing(guards: &[(bool, ResultCode)]) -> Result<(), ResultCode> {
    match guards.iter().find(|(failing, _)| *failing) {
        Some(&(_, code)) => Err(code),
        None => Ok(()),
    }
}

/// Checks the debit leg of `transfer` on an existing account.
#[must_use]
pub fn check_debit(account: &Account, reserved: Reserved, transfer: &Transfer) -> Leg {
    if account.flags.contains(AccountFlags::CLOSED) {
        return Leg::Refused(ResultCode::DebitAccountClosed);
    }
    if account.ledger != transfer.ledger {
        return Leg::Refused(ResultCode::DebitLedgerMismatch);
    }
    let limited = account
        .flags
        .contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
    let side = Side {
        posted: account.debits_posted,
        reserved: reserved.debits,
        limit: limited.then_some(account.credits_posted),
        limit_reserved: reserved.credits,
        overflow: ResultCode::OverflowsDebitsPosted,
        exceeds: ResultCode::ExceedsCredits,
    };
    side.check(transfer.amount)
}

/// Checks the credit leg of `transfer` on an existing account.
#[must_use]
pub fn check_credit(account: &Account, reserved: Reserved, transfer: &Transfer) -> Leg {
    if account.flags.contains(AccountFlags::CLOSED) {
        return Leg::Refused(ResultCode::CreditAccountClosed);
    }
    if account.ledger != transfer.ledger {
        return Leg::Refused(ResultCode::CreditLedgerMismatch);
    }
    let limited = account
        .flags
        .contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
    let side = Side {
        posted: account.credits_posted,
        reserved: reserved.credits,
        limit: limited.then_some(account.debits_posted),
        limit_reserved: reserved.debits,
        overflow: ResultCode::OverflowsCreditsPosted,
        exceeds: ResultCode::ExceedsDebits,
    };
    side.check(transfer.amount)
}

/// One side of an account's books, the other side being its limit.
struct Side {
    posted: u128,
    reserved: u128,
    limit: Option<u128>,
    limit_reserved: u128,
    overflow: ResultCode,
    exceeds: ResultCode,
}

impl Side {
    fn check(&self, amount: u128) -> Leg {
        let worst = self.outcome(amount, self.reserved, 0);
        let best = self.outcome(amount, 0, self.limit_reserved);
        match (worst, best) {
            (None, None) => Leg::Allowed,
            (Some(worst), Some(best)) if worst == best => Leg::Refused(worst),
            _ => Leg::Undecided,
        }
    }

    fn outcome(&self, amount: u128, reserved: u128, limit_reserved: u128) -> Option<ResultCode> {
        let sum = self
            .posted
            .checked_add(reserved)
            .and_then(|sum| sum.checked_add(amount));
        let Some(sum) = sum else {
            return Some(self.overflow);
        };
        let exceeded = self
            .limit
            .is_some_and(|limit| sum > limit.saturating_add(limit_reserved));
        exceeded.then_some(self.exceeds)
    }
}

/// What a second use of a recorded transfer id is answered, `code` being the recorded result.
#[must_use]
pub fn compare_transfer(recorded: &Transfer, code: ResultCode, again: &Transfer) -> ResultCode {
    use ResultCode as Code;
    // A refusal is final for its id, whatever is asked for under it later.
    if code != Code::Ok {
        return Code::IdAlreadyFailed;
    }
    let (r, a) = (recorded, again);
    let guards = [
        (r.flags != a.flags, Code::ExistsWithDifferentFlags),
        (
            r.debit_account_id != a.debit_account_id,
            Code::ExistsWithDifferentDebitAccountId,
        ),
        (
            r.credit_account_id != a.credit_account_id,
            Code::ExistsWithDifferentCreditAccountId,
        ),
        (r.amount != a.amount, Code::ExistsWithDifferentAmount),
        (
            r.user_data != a.user_data,
            Code::ExistsWithDifferentUserData,
        ),
        (r.ledger != a.ledger, Code::ExistsWithDifferentLedger),
        (r.code != a.code, Code::ExistsWithDifferentCode),
    ];
    first_failing(&guards).err().unwrap_or(Code::Exists)
}

/// What the creation of an account that exists is answered.
#[must_use]
pub fn compare_account(existing: &Account, again: &Account) -> ResultCode {
    use ResultCode as Code;
    let guards = [
        (
            existing.flags != again.flags,
            Code::ExistsWithDifferentFlags,
        ),
        (
            existing.user_data != again.user_data,
            Code::ExistsWithDifferentUserData,
        ),
        (
            existing.ledger != again.ledger,
            Code::ExistsWithDifferentLedger,
        ),
        (existing.code != again.code, Code::ExistsWithDifferentCode),
    ];
    first_failing(&guards).err().unwrap_or(Code::Exists)
}

/// The milliseconds since 1970 in the upper 48 bits of a ULID.
#[must_use]
pub fn ulid_ms(id: TransferId) -> u64 {
    u64::try_from(id.0 >> 80).expect("48 bits")
}

/// Smaller id first: the key of an undirected pair.
#[must_use]
pub fn pair(a: AccountId, b: AccountId) -> (AccountId, AccountId) {
    if a <= b { (a, b) } else { (b, a) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(flags: AccountFlags, debits: u128, credits: u128) -> Account {
        let mut account = Account::new(AccountId(1), 1, 1, flags);
        account.debits_posted = debits;
        account.credits_posted = credits;
        account
    }

    fn transfer(amount: u128) -> Transfer {
        Transfer::new(TransferId(9), AccountId(1), AccountId(2), amount, 1, 1)
    }

    #[test]
    fn a_debit_that_an_open_credit_could_fund_is_undecided() {
        let limited = account(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS, 0, 10);
        let open = Reserved {
            debits: 0,
            credits: 5,
        };
        assert_eq!(check_debit(&limited, open, &transfer(10)), Leg::Allowed);
        assert_eq!(check_debit(&limited, open, &transfer(15)), Leg::Undecided);
        assert_eq!(
            check_debit(&limited, open, &transfer(16)),
            Leg::Refused(ResultCode::ExceedsCredits)
        );
    }

    #[test]
    fn an_open_credit_takes_headroom_from_the_next_credit() {
        let full = account(AccountFlags::default(), 0, u128::MAX - 10);
        let open = Reserved {
            debits: 0,
            credits: 5,
        };
        assert_eq!(check_credit(&full, open, &transfer(5)), Leg::Allowed);
        assert_eq!(check_credit(&full, open, &transfer(6)), Leg::Undecided);
        assert_eq!(
            check_credit(&full, open, &transfer(11)),
            Leg::Refused(ResultCode::OverflowsCreditsPosted)
        );
    }

    /// The interval rule against its definition: every subset of up to four open reservations.
    #[test]
    fn the_verdict_agrees_with_every_outcome_of_the_open_reservations() {
        let open: [(bool, u128); 4] = [(true, 3), (true, 2), (false, 4), (false, 1)];
        for flags in [0, 1, 2] {
            for (debits, credits) in [(0, 0), (3, 8), (8, 3), (5, 5), (0, 20)] {
                for amount in 1..15 {
                    check_all_outcomes(AccountFlags(flags), debits, credits, amount, &open);
                }
            }
        }
    }

    fn check_all_outcomes(
        flags: AccountFlags,
        debits: u128,
        credits: u128,
        amount: u128,
        open: &[(bool, u128)],
    ) {
        type Check = fn(&Account, Reserved, &Transfer) -> Leg;
        let sum = |is_credit| open.iter().filter(|r| r.0 == is_credit).map(|r| r.1).sum();
        let reserved = Reserved {
            debits: sum(false),
            credits: sum(true),
        };
        for check in [check_debit as Check, check_credit as Check] {
            let verdict = check(
                &account(flags, debits, credits),
                reserved,
                &transfer(amount),
            );
            let mut outcomes = alloc::vec::Vec::new();
            for subset in 0..1_u32 << open.len() {
                let mut after = account(flags, debits, credits);
                for (index, &(is_credit, sum)) in open.iter().enumerate() {
                    if subset >> index & 1 == 1 {
                        let side = if is_credit {
                            &mut after.credits_posted
                        } else {
                            &mut after.debits_posted
                        };
                        *side += sum;
                    }
                }
                outcomes.push(check(&after, Reserved::default(), &transfer(amount)));
            }
            let first = outcomes[0];
            let expected = if outcomes.iter().all(|o| *o == first) {
                first
            } else {
                Leg::Undecided
            };
            assert_eq!(verdict, expected, "{flags:?} {debits} {credits} {amount}");
        }
    }
}
