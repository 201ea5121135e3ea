//! Whether the money is all there after a run, and every acknowledged transfer with it.
//!
//! The check is arithmetic on sums that each peer reads from its own state.

use serde::Serialize;

/// Sums over all accounts and transfers of a system, all instances together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub accounts: u64,
    /// Credits less debits of all accounts, their funds included.
    pub balances: i128,
    /// Accounts below zero.
    pub negative: u64,
    /// Kept transfers; one across instances has a row on each.
    pub transfers: u64,
    /// Prepared transactions that nobody decided.
    pub in_doubt: u64,
    /// Where the system has them: the sum of debits, and of the amounts of all kept transfers.
    pub posted: Option<Posted>,
    /// Logged decisions to commit; `None` where nothing is decided.
    pub decisions: Option<u64>,
}

/// Two sums that agree if every kept transfer moved its amount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    pub debits: i128,
    pub amounts: i128,
}

/// What the sums have to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub accounts: u32,
    /// What every account started with.
    pub funds: i64,
    /// Commits that clients were told of, over the whole run.
    pub committed: u64,
    /// Rows that one transfer leaves: 1, or 2 across instances.
    pub rows: u64,
}

/// The result of the check, as it stands in a run's document.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub ok: bool,
    pub accounts: u64,
    /// In the ledger's smallest unit, as a decimal string like every sum of money.
    pub balances: String,
    pub transfers: u64,
    pub in_doubt: u64,
    pub problems: Vec<String>,
}

impl Verdict {
    /// Checks `sums`.
    #[must_use]
    pub fn of(sums: &Sums, expected: &Expected) -> Self {
        let problems = problems(sums, expected);
        Self {
            ok: problems.is_empty(),
            accounts: sums.accounts,
            balances: sums.balances.to_string(),
            transfers: sums.transfers,
            in_doubt: sums.in_doubt,
            problems,
        }
    }
}

fn problems(sums: &Sums, expected: &Expected) -> Vec<String> {
    let funds = i128::from(expected.accounts) * i128::from(expected.funds);
    let rows = expected.committed * expected.rows;
    let mut problems = Vec::new();
    let mut require = |holds: bool, text: String| {
        if !holds {
            problems.push(text);
        }
    };
    let (found, wanted) = (sums.accounts, u64::from(expected.accounts));
    require(found == wanted, format!("{found} accounts, not {wanted}"));
    let found = sums.balances;
    require(
        found == funds,
        format!("balances sum to {found}, not {funds}"),
    );
    let found = sums.negative;
    require(found == 0, format!("{found} accounts are below zero"));
    let found = sums.transfers;
    require(
        found == rows,
        format!("{found} transfers are kept, {rows} acknowledged"),
    );
    let found = sums.in_doubt;
    require(
        found == 0,
        format!("{found} prepared transactions are left"),
    );
    if let Some(Posted { debits, amounts }) = sums.posted {
        let wanted = debits * i128::from(expected.rows);
        let text = format!("kept transfers sum to {amounts}, debits to {wanted}");
        require(amounts == wanted, text);
    }
    if let Some(found) = sums.decisions {
        let wanted = expected.committed;
        require(
            found == wanted,
            format!("{found} decisions for {wanted} transfers"),
        );
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected {
        accounts: 3,
        funds: 1_000_000_000,
        committed: 5,
        rows: 2,
    };
    const GOOD: Sums = Sums {
        accounts: 3,
        balances: 3_000_000_000,
        negative: 0,
        transfers: 10,
        in_doubt: 0,
        posted: Some(Posted {
            debits: 50,
            amounts: 100,
        }),
        decisions: Some(5),
    };

    #[test]
    fn money_that_is_all_there_is_fine() {
        let verdict = Verdict::of(&GOOD, &EXPECTED);
        assert!(verdict.ok && verdict.problems.is_empty(), "{verdict:?}");
        assert_eq!(verdict.balances, "3000000000");
    }

    #[test]
    fn each_thing_that_is_wrong_is_told_once() {
        let posted = |debits, amounts| Some(Posted { debits, amounts });
        let wrong = [
            (
                Sums {
                    accounts: 2,
                    ..GOOD
                },
                "2 accounts, not 3",
            ),
            (
                Sums {
                    balances: 1,
                    ..GOOD
                },
                "balances sum to 1, not 3000000000",
            ),
            (
                Sums {
                    negative: 1,
                    ..GOOD
                },
                "1 accounts are below zero",
            ),
            (
                Sums {
                    transfers: 9,
                    ..GOOD
                },
                "9 transfers are kept, 10 acknowledged",
            ),
            (
                Sums {
                    in_doubt: 1,
                    ..GOOD
                },
                "1 prepared transactions are left",
            ),
            (
                Sums {
                    posted: posted(50, 99),
                    ..GOOD
                },
                "sum to 99, debits to 100",
            ),
            (
                Sums {
                    decisions: Some(4),
                    ..GOOD
                },
                "4 decisions for 5 transfers",
            ),
        ];
        for (sums, text) in wrong {
            let verdict = Verdict::of(&sums, &EXPECTED);
            assert!(!verdict.ok);
            assert_eq!(verdict.problems.len(), 1, "{:?}", verdict.problems);
            assert!(verdict.problems[0].contains(text), "{:?}", verdict.problems);
        }
    }
}
