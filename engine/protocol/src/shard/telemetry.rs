//! Who pays whom: committed pairs, counted once at the debit side, by the shard's leader. Volatile.
//!
//! The hot path appends to a bounded ring; the ring is folded into a bounded table of weighted pairs
//! when it is full or asked for. What the table has no room for is counted as dropped.

use alloc::vec::Vec;

use crate::client::PairRow;
use crate::ids::AccountId;
use crate::ledger::rules::pair;
use crate::limits::TELEMETRY_PAIRS_MAX;
use crate::table::{Keyed, LOOK_AHEAD, Records, scattered};

/// Pairs in the ring.
const RING: usize = 8192;

/// Counters and table of one leader.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    ring: Vec<(AccountId, AccountId)>,
    pairs: Records<PairRow>,
    pub dropped: u64,
    pub local: u64,
    pub cross: u64,
}

impl Keyed for PairRow {
    type Key = (AccountId, AccountId);
    const WHAT: &str = "pair";

    fn key(&self) -> Self::Key {
        (self.a, self.b)
    }

    fn hash(key: &Self::Key) -> u64 {
        scattered(key)
    }
}

impl Telemetry {
    /// Notes a committed transfer.
    pub fn note(&mut self, debit: AccountId, credit: AccountId) {
        if self.ring.len() == RING {
            self.fold();
        }
        self.ring.push((debit, credit));
    }

    /// Rows from position `from` on, and how many there are in all.
    pub fn rows(&mut self, from: u32, limit: usize) -> (Vec<PairRow>, u32) {
        self.fold();
        let end = self.pairs.end();
        let rows = (from..end)
            .take(limit)
            .map(|at| *self.pairs.at(at))
            .collect();
        (rows, end)
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// A table of a million pairs is in no cache. The look-ups of some pairs at once wait for memory at the same time,
    /// not one behind the other.
    fn fold(&mut self) {
        let ring = core::mem::take(&mut self.ring);
        let mut found = [None; LOOK_AHEAD];
        for some in ring.chunks(LOOK_AHEAD) {
            let is_full = self.pairs.len() >= TELEMETRY_PAIRS_MAX;
            for (at, &(debit, credit)) in found.iter_mut().zip(some) {
                *at = self.pairs.find(&pair(debit, credit));
            }
            for (at, &(debit, credit)) in found.iter().zip(some) {
                match *at {
                    Some(at) => self.pairs.at_mut(at).weight += 1,
                    None if is_full => self.dropped += 1,
                    None => self.add(pair(debit, credit)),
                }
            }
        }
        self.ring = ring;
        self.ring.clear();
    }

    /// A pair that was not there before some others were added.
    fn add(&mut self, (a, b): (AccountId, AccountId)) {
        if let Some(at) = self.pairs.find(&(a, b)) {
            self.pairs.at_mut(at).weight += 1;
        } else if self.pairs.len() >= TELEMETRY_PAIRS_MAX {
            self.dropped += 1;
        } else {
            self.pairs.insert(PairRow {
                a,
                b,
                weight: 1,
                reserved: 0,
            });
        }
    }
}
