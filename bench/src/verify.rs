//! The money check that ends every run, as reports carry it.

use std::time::Duration;

use serde::Serialize;

use crate::failure::Failure;

/// How long the check at the end of a run may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The contract's `verify` document.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// Checked, and nothing is wrong.
    pub ok: bool,
    pub ledgers: Vec<LedgerRow>,
    pub in_doubt: u64,
    pub digests_equal: bool,
    pub owners_unique: bool,
    pub accounts: u64,
    pub transfers: u64,
    pub problems: Vec<String>,
    /// Replicas whose digest could not be compared, and why.
    pub unchecked: Vec<String>,
    /// False if the cluster did not answer in time: then nothing is known, and nothing failed.
    pub completed: bool,
}

/// One ledger's posted sums; decimal strings, because they have 128 bits.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerRow {
    pub ledger: u32,
    pub debits_posted: String,
    pub credits_posted: String,
}

impl From<quorate_client::VerifyReport> for VerifyReport {
    fn from(report: quorate_client::VerifyReport) -> Self {
        let row = |ledger: &quorate_client::LedgerReport| LedgerRow {
            ledger: ledger.ledger,
            debits_posted: ledger.debits_posted.to_string(),
            credits_posted: ledger.credits_posted.to_string(),
        };
        Self {
            ok: report.ok,
            ledgers: report.ledgers.iter().map(row).collect(),
            in_doubt: report.in_doubt,
            digests_equal: report.digests_equal,
            owners_unique: report.owners_unique,
            accounts: report.accounts,
            transfers: report.transfers,
            problems: report.problems,
            unchecked: report.unchecked,
            completed: true,
        }
    }
}

impl VerifyReport {
    /// The check could not be made.
    #[must_use]
    pub fn unavailable(reason: String) -> Self {
        Self {
            ok: false,
            ledgers: Vec::new(),
            in_doubt: 0,
            digests_equal: false,
            owners_unique: false,
            accounts: 0,
            transfers: 0,
            problems: vec![reason],
            unchecked: Vec::new(),
            completed: false,
        }
    }

    /// One line for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        if self.ok {
            let unchecked = match self.unchecked.len() {
                0 => String::new(),
                count => format!("; {count} replicas not compared"),
            };
            return format!(
                "ok: {} accounts, {} transfers, debits = credits, digests equal, one owner each{unchecked}",
                self.accounts, self.transfers
            );
        }
        let what = if self.completed { "FAILED" } else { "not made" };
        format!("{what}: {}", self.problems.join("; "))
    }

    /// # Errors
    /// The check failed, or could not be made.
    pub fn into_result(self) -> Result<(), Failure> {
        if self.ok {
            Ok(())
        } else if self.completed {
            Err(Failure::Check(format!(
                "money check: {}",
                self.problems.join("; ")
            )))
        } else {
            let problems = self.problems.join("; ");
            Err(Failure::Other(anyhow::anyhow!(
                "money check not made: {problems}"
            )))
        }
    }
}
