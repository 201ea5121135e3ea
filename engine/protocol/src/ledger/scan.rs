//! All accounts summed as of one slot, a few at a time, while serving goes on.
//!
//! Who passes a cut says what the accounts were at that very entry: their digest and their balances. Those that
//! are as a checkpoint wrote them are summed already ([`Written`]); the others may be millions, and looking at all
//! of them at once would keep everybody waiting. So a hand goes over the places in memory, and an account that
//! something is about to happen to is counted before it happens:
//!
//! | what comes first to an account that changed before the slot | it is counted |
//! | --- | --- |
//! | the hand | as it is: nothing has happened to it since the slot |
//! | a change | as it is before |
//! | its departure | as it is before |
//! | a checkpoint that writes it | as it is, and no longer among those that changed |
//!
//! # Invariants
//!
//! 1. *Every account counts once, as it was at the slot.* `OwnedAccount::scanned` is the number of the last scan
//!    that has passed it. What is created or arrives later bears the number from the start; what comes from the store
//!    later is as it was written, and counts among that.
//! 2. *When a scan ends is no state*: replicas take different times. What it found is in neither digests nor
//!    checkpoints; a replica that began later than the slot does not know it, and says so.

use crate::ledger::cut::Tally;
use crate::ledger::dirty::Written;
use crate::ledger::state::{Ledger, OwnedAccount};
use crate::time::Timestamp;

/// The newest scan.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The number of scans so far.
    pub number: u32,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// The cut that it is for.
    at: Timestamp,
    /// The next place to look at.
    hand: u32,
    /// Of the accounts so far.
    sums: Written,
    /// Digest of everything but the accounts.
    beside: u128,
    /// What is to be taken from the sums: effects above the cut.
    after: Tally,
}

/// What a scan has found.
#[derive(Debug)]
pub(crate) struct Found {
    pub at: Timestamp,
    /// Of the whole state at the slot.
    pub digest: u128,
    /// Over the accounts at the slot, less the effects above the cut.
    pub accounts: Tally,
}

impl Scan {
    /// Counts an account that has changed before the slot; to be called before anything happens to it.
    pub fn count(&mut self, owned: &mut OwnedAccount) {
        if owned.scanned == self.number {
            return;
        }
        owned.scanned = self.number;
        if let Some(running) = &mut self.running
            && !owned.is_written
        {
            running.sums.add(owned);
        }
    }

    /// The cut that the scan under way is for.
    pub fn running(&self) -> Option<Timestamp> {
        self.running.as_ref().map(|running| running.at)
    }
}

impl Ledger {
    /// Begins to sum all accounts as they are now. One scan at a time: one under way is ended first, in one step. A
    /// leader does not propose to pass a cut while it counts another, so that is for followers that lag.
    pub(crate) fn begin_scan(&mut self, at: Timestamp, beside: u128, after: Tally) {
        self.count_on(usize::MAX);
        self.scan.number = self.scan.number.wrapping_add(1);
        self.scan.running = Some(Running {
            at,
            hand: 0,
            sums: self.dirty.written.clone(),
            beside,
            after,
        });
    }

    /// Whether a scan is under way.
    pub(crate) fn is_scanning(&self) -> bool {
        self.scan.running.is_some()
    }

    /// Looks at so many places for the cut that has been passed. True if that was the end.
    pub(crate) fn count_on(&mut self, places: usize) -> bool {
        let found = self.scan_on(places);
        let has_ended = found.is_some();
        if let Some(found) = found {
            self.cuts.count(found);
        }
        has_ended
    }

    /// Looks at so many places; what was found, if that was the end.
    pub(crate) fn scan_on(&mut self, places: usize) -> Option<Found> {
        for _ in 0..places {
            let running = self.scan.running.as_mut()?;
            let place = running.hand;
            if place < self.records.end() {
                running.hand += 1;
                if self.records.get(place).is_some() {
                    self.scan.count(self.records.at_mut(place));
                }
                continue;
            }
            let Running {
                at,
                mut sums,
                beside,
                after,
                ..
            } = self.scan.running.take().expect("it was there");
            sums.tally.minus(&after);
            return Some(Found {
                at,
                digest: beside.wrapping_add(sums.digest),
                accounts: sums.tally,
            });
        }
        None
    }
}
