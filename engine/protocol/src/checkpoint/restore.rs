//! A ledger from the rows of a checkpoint.
//!
//! Everything is fed in the order of the files, oldest first: of an account the newest row wins. The end
//! compares the digest of what was built with the one that the checkpoint wrote down, so a row that is
//! missing, or one too many, is found whatever the files' own checksums say.

use core::fmt;

use super::rows::{AccountRow, Mark};
use super::side;
use crate::config::ReplicaConfig;
use crate::ids::{AccountId, Ballot, Slot};
use crate::ledger::state::{Ledger, digest_of_account};
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
                write!(f, "{loaded} accounts loaded, {written} written")
            }
            Self::Digest { loaded, written } => {
                write!(f, "digest {loaded:032x} loaded, {written:032x} written")
            }
        }
    }
}

impl core::error::Error for RestoreError {}

/// A ledger that is being filled.
#[derive(Debug)]
pub struct Restore {
    ledger: Ledger,
}

impl Restore {
    /// Begins with nothing.
    #[must_use]
    pub fn new(config: &ReplicaConfig) -> Self {
        Self {
            ledger: Ledger::new(config),
        }
    }

    /// An account as some checkpoint wrote it, in place of what earlier ones did.
    pub fn account(&mut self, row: &AccountRow) {
        let owned = row.owned();
        match self.ledger.place_of(owned.account.id) {
            Some(place) => *self.ledger.records.at_mut(place) = owned,
            None => {
                let id = owned.account.id;
                let place = self.ledger.records.insert(owned);
                self.ledger.index.insert(id, place);
            }
        }
    }

    /// An account that had left by some checkpoint.
    pub fn gone(&mut self, id: AccountId) {
        if let Some(place) = self.ledger.index.remove(&id) {
            self.ledger.records.remove(place);
        }
    }

    /// The side tables of the newest checkpoint, and the end.
    ///
    /// # Errors
    /// If what was fed is not what the checkpoint wrote.
    pub fn finish(
        mut self,
        number: u64,
        mark: &Mark,
        side: &[u8],
    ) -> Result<RestoredLedger, RestoreError> {
        if hash64(side) != mark.side {
            return Err(RestoreError::Side {
                what: "what was written",
            });
        }
        let written = side::decode(&mut self.ledger, side)?;
        let ledger = &mut self.ledger;
        if ledger.applied != mark.slot {
            return Err(RestoreError::Slot {
                tables: ledger.applied,
                mark: mark.slot,
            });
        }
        let loaded = u64::try_from(ledger.accounts()).expect("a count fits 64 bits");
        if loaded != written {
            return Err(RestoreError::Accounts { loaded, written });
        }
        reserve(ledger)?;
        let mut sum = 0_u128;
        for place in 0..ledger.records.end() {
            if ledger.records.get(place).is_some() {
                let owned = ledger.records.at_mut(place);
                owned.is_written = true;
                sum = sum.wrapping_add(digest_of_account(owned));
            }
        }
        ledger.dirty.written_sum = sum;
        ledger.checkpoint = number;
        let loaded = ledger.digest();
        if loaded != mark.digest() {
            return Err(RestoreError::Digest {
                loaded,
                written: mark.digest(),
            });
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
    for prepared in ledger.in_doubt.values() {
        let account = prepared.transfer.credit_account_id;
        let lost = RestoreError::Reservation { account };
        let Some(place) = ledger.index.get(&account) else {
            return Err(lost);
        };
        let owned = ledger.records.at_mut(*place);
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
