//! A ledger from the rows of a checkpoint.
//!
//! The side tables come first; accounts may stay in the store until they are used, but for those that
//! something is open on.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use super::rows::{AccountRow, Mark};
use super::side;
use crate::config::ReplicaConfig;
use crate::ids::{AccountId, Ballot, Slot};
use crate::ledger::dirty::Written;
use crate::ledger::state::Ledger;
use crate::planted::{Bug, planted};
use crate::table::hash64;

/// Why a checkpoint is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The bytes of the side tables end, or go on, where they should not.
    Side {
        what: &'static str,
    },
    SideVersion {
        found: u32,
        supported: u32,
    },
    /// A transaction in doubt names an account that is not there, or reserves more than fits.
    Reservation {
        account: AccountId,
    },
    Slot {
        tables: Slot,
        mark: Slot,
    },
    Accounts {
        loaded: u64,
        written: u64,
    },
    Digest {
        loaded: u128,
        written: u128,
    },
    /// A row of an account that the side tables say is elsewhere.
    NotOwned {
        account: AccountId,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Side { what } => write!(f, "side tables: {what} cannot be read"),
            Self::SideVersion { found, supported } => {
                write!(f, "side tables of version {found}, {supported} supported")
            }
            Self::Reservation { account } => {
                write!(f, "a transaction in doubt cannot be on account {account}")
            }
            Self::Slot { tables, mark } => {
                write!(f, "side tables of slot {tables}, checkpoint of slot {mark}")
            }
            Self::Accounts { loaded, written } => {
                write!(f, "{loaded} accounts summed or loaded, {written} written")
            }
            Self::NotOwned { account } => write!(f, "a row of account {account}, which has left"),
            Self::Digest { loaded, written } => {
                write!(f, "digest {loaded:032x} loaded, {written:032x} written")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// A ledger that is being filled.
///
/// ```text
/// tables -> wanted: these rows, and as many others as one likes -> finish
/// ```
#[derive(Debug)]
pub struct Restore {
    ledger: Ledger,
    digest: u128,
    /// An account with a row that is not owned.
    foreign: Option<AccountId>,
}

impl Restore {
    /// Begins with the side tables of the newest checkpoint: no account is in memory yet.
    ///
    /// # Errors
    /// If these are not what the checkpoint wrote.
    pub fn tables(
        config: &ReplicaConfig,
        number: u64,
        mark: &Mark,
        side: &[u8],
    ) -> Result<Self, RestoreError> {
        if hash64(side) != mark.side {
            return Err(RestoreError::Side {
                what: "what was written",
            });
        }
        let mut ledger = Ledger::new(config);
        side::decode(&mut ledger, side)?;
        if ledger.applied != mark.slot {
            return Err(RestoreError::Slot {
                tables: ledger.applied,
                mark: mark.slot,
            });
        }
        let (loaded, written) = (ledger.dirty.written.tally.owned(), ledger.accounts());
        if loaded != written {
            return Err(RestoreError::Accounts { loaded, written });
        }
        ledger.checkpoint = number;
        Ok(Self {
            ledger,
            digest: mark.digest(),
            foreign: None,
        })
    }

    /// Accounts that must be in memory: something is open on them. Ascending.
    #[must_use]
    pub fn wanted(&self) -> Vec<AccountId> {
        let in_doubt = self.ledger.in_doubt.iter();
        let accounts: BTreeSet<AccountId> = in_doubt
            .map(|prepared| prepared.transfer.credit_account_id)
            .collect();
        accounts.into_iter().collect()
    }

    /// About so many accounts will come: the index need not grow under them.
    pub fn expect(&mut self, accounts: usize) {
        self.ledger.records.reserve(accounts);
    }

    /// The newest row of an account.
    ///
    /// # Panics
    /// If it came before.
    pub fn account(&mut self, row: &AccountRow) {
        let id = row.account.id;
        if self.ledger.may_own(id) {
            self.ledger.load_account(row);
        } else {
            self.foreign = Some(id);
        }
    }

    /// The end; `rows` is how many accounts the store has a row of.
    ///
    /// If every account was fed, the digest of what was built is compared with the one that the checkpoint
    /// wrote down, so a row that is missing, or one too many, is found whatever the files' own checksums
    /// say. If not, the sums over accounts are those that the checkpoint wrote.
    ///
    /// # Errors
    /// If what was fed is not what the checkpoint wrote.
    pub fn finish(mut self, rows: u64) -> Result<RestoredLedger, RestoreError> {
        if let Some(account) = self.foreign {
            return Err(RestoreError::NotOwned { account });
        }
        let ledger = &mut self.ledger;
        let in_memory = u64::try_from(ledger.records.len()).expect("a count fits 64 bits");
        let loaded = in_memory.max(rows);
        if loaded != ledger.accounts() {
            let written = ledger.accounts();
            return Err(RestoreError::Accounts { loaded, written });
        }
        reserve(ledger)?;
        if ledger.cold_accounts() > 0 {
            let beside = ledger.digest_beside_accounts();
            ledger.dirty.written.digest = self.digest.wrapping_sub(beside);
        } else {
            let mut written = Written::default();
            for owned in ledger.records.iter() {
                written.add(owned);
            }
            let before = core::mem::replace(&mut ledger.dirty.written, written);
            let is_sum = ledger.dirty.written.tally.agrees(&before.tally);
            let (loaded, written) = (ledger.digest(), self.digest);
            if loaded != written || !is_sum {
                return Err(RestoreError::Digest { loaded, written });
            }
        }
        if planted(Bug::InDoubtForgotten) {
            ledger.in_doubt.clear();
        }
        if planted(Bug::OriginForgotten) {
            ledger.highest_origin = Ballot::ZERO;
        }
        Ok(RestoredLedger(self.ledger))
    }
}

/// What is in doubt holds its reservations again.
fn reserve(ledger: &mut Ledger) -> Result<(), RestoreError> {
    let (in_doubt, records) = (&mut ledger.in_doubt, &mut ledger.records);
    for prepared in in_doubt.iter_mut() {
        let account = prepared.transfer.credit_account_id;
        let lost = RestoreError::Reservation { account };
        let Some(place) = records.find(&account) else {
            return Err(lost);
        };
        prepared.place = Some(place);
        let owned = records.at_mut(place);
        let reserved = owned.reserved.credits.checked_add(prepared.transfer.amount);
        owned.reserved.credits = reserved.ok_or(lost)?;
        owned.open += 1;
    }
    Ok(())
}

/// The state of a shard as of a checkpoint, proved by its digest.
#[derive(Debug)]
pub struct RestoredLedger(pub(crate) Ledger);

impl RestoredLedger {
    /// The slot of the checkpoint.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.0.applied()
    }
}
