//! SmallBank (Alomari et al., ICDE 2008) on a ledger that only knows transfers.
//!
//! ```text
//! accounts   1 .. 2C              customer c has checking 2c - 1 and savings 2c
//!            2C + 1 .. 2C + T     tellers: where cash comes from and goes to, one for each 500 customers
//!
//! of 85 payments               of 100 operations
//!   15  DepositChecking        teller -> checking
//!   15  TransactSavings        teller -> savings, or back, either with probability 1/2
//!   15  Amalgamate             savings -> checking of another, and checking -> checking of that other: two transfers
//!   15  WriteCheck             checking -> teller
//!   25  SendPayment            checking -> checking of another
//! of 15 reads
//!   15  Balance                checking and savings of one customer
//! ```
//! The original takes all that an account has in Amalgamate, and lets a check overdraw; here every transfer has an
//! amount that was drawn, and one that would overdraw is refused. A customer is one of the hot ones with the probability
//! of `hot_traffic`.

use rand::RngExt;

use super::Stream;
use super::hot_set::HotSet;

/// Share of the operations that are reads, in percent.
pub const READ_PERCENT: f64 = 15.0;
/// Fewest accounts: two customers and a teller.
pub const ACCOUNTS_MIN: u32 = 5;
/// Accounts of the customers for which there is one teller.
const ACCOUNTS_PER_TELLER: u32 = 1_000;

/// The payments of SmallBank.
#[derive(Debug)]
pub struct SmallBank {
    customers: HotSet,
    first_teller: u32,
    tellers: u32,
}

/// One operation: its transfers as (debit, credit).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    pub first: (u32, u32),
    pub second: Option<(u32, u32)>,
}

impl SmallBank {
    /// `hot_share` of the customers (at least one) take `traffic` of the operations.
    ///
    /// # Panics
    /// If there are fewer than [`ACCOUNTS_MIN`] accounts, or a share is outside `0..=1`.
    #[must_use]
    pub fn new(accounts: u32, hot_share: f64, traffic: f64, seed: u64) -> Self {
        assert!(accounts >= ACCOUNTS_MIN, "two customers and a teller");
        let tellers = accounts.div_ceil(ACCOUNTS_PER_TELLER + 1);
        // An odd account is left to the tellers.
        let customers = (accounts - tellers) / 2;
        Self {
            customers: HotSet::new(customers, hot_share, traffic, seed),
            first_teller: 2 * customers + 1,
            tellers: accounts - 2 * customers,
        }
    }

    pub(super) fn operation(&self, stream: &mut Stream) -> Operation {
        // A customer and another one, hot or cold each for itself.
        let (customer, other) = self.customers.pair(stream);
        let teller = self.first_teller + stream.random_range(0..self.tellers);
        let (checking, savings) = accounts_of(customer);
        let (other_checking, _) = accounts_of(other);
        let (first, second) = match stream.random_range(0..85) {
            0..15 => ((teller, checking), None),
            15..30 if stream.random_bool(0.5) => ((teller, savings), None),
            15..30 => ((savings, teller), None),
            30..45 => ((savings, other_checking), Some((checking, other_checking))),
            45..60 => ((checking, teller), None),
            _ => ((checking, other_checking), None),
        };
        Operation { first, second }
    }

    /// Checking and savings of a drawn customer.
    pub(super) fn balance(&self, stream: &mut Stream) -> (u32, u32) {
        accounts_of(self.customers.pair(stream).0)
    }
}

/// Checking and savings.
fn accounts_of(customer: u32) -> (u32, u32) {
    (2 * customer - 1, 2 * customer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::collections::BTreeMap;

    #[test]
    fn the_mix_is_that_of_the_benchmark() {
        let bank = SmallBank::new(10_000, 0.25, 0.9, 5);
        let mut stream = Stream::seed_from_u64(1);
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        let is_teller = |account| account >= bank.first_teller;
        for _ in 0..85_000 {
            let operation = bank.operation(&mut stream);
            let (debit, credit) = operation.first;
            let is_savings = |account: u32| !is_teller(account) && account.is_multiple_of(2);
            let name = match (operation.second, debit, credit) {
                (Some((checking, to)), savings, other) => {
                    assert_eq!((checking, to), (savings - 1, other));
                    assert!(is_savings(savings) && !is_savings(other));
                    "amalgamate"
                }
                (None, from, to) if is_savings(from) || is_savings(to) => {
                    assert!(is_teller(from) || is_teller(to));
                    "transact savings"
                }
                (None, from, _) if is_teller(from) => "deposit checking",
                (None, _, to) if is_teller(to) => "write check",
                (None, from, to) => {
                    assert_ne!(from, to);
                    "send payment"
                }
            };
            *seen.entry(name).or_default() += 1;
        }
        // Standard deviations of 110 and 130.
        for (name, expected) in [
            ("amalgamate", 15_000),
            ("transact savings", 15_000),
            ("deposit checking", 15_000),
            ("write check", 15_000),
            ("send payment", 25_000_u32),
        ] {
            assert!(
                seen[name].abs_diff(expected) < 700,
                "{name}: {}",
                seen[name]
            );
        }
    }

    #[test]
    fn all_accounts_are_in_use_and_none_else() {
        for accounts in [5, 6, 7, 1_001, 1_002, 3_005] {
            let bank = SmallBank::new(accounts, 0.25, 0.9, 5);
            assert_eq!(bank.first_teller + bank.tellers - 1, accounts);
            assert!(bank.tellers >= 1 && !bank.first_teller.is_multiple_of(2));
            let mut stream = Stream::seed_from_u64(1);
            for _ in 0..2_000 {
                let operation = bank.operation(&mut stream);
                let pairs = [Some(operation.first), operation.second];
                for (debit, credit) in pairs.into_iter().flatten() {
                    assert_ne!(debit, credit);
                    assert!((1..=accounts).contains(&debit) && (1..=accounts).contains(&credit));
                }
                let (checking, savings) = bank.balance(&mut stream);
                assert_eq!(checking + 1, savings);
                assert!(savings < bank.first_teller);
            }
        }
    }
}
