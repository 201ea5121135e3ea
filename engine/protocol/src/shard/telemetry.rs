//! Who pays whom: committed pairs, counted once at the debit side, by the shard's leader. Volatile.
//!
//! The hot path appends to a bounded ring; the ring is folded into a bounded table of weighted pairs
//! when it is full or asked for. What the table has no room for is counted as dropped.

use alloc::vec::Vec;

use crate::client::PairRow;
use crate::ids::AccountId;
use crate::ledger::rules::pair;
use crate::limits::TELEMETRY_PAIRS_MAX;
use crate::table::{Keyed, Records};

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

    fn fold(&mut self) {
        for (debit, credit) in self.ring.drain(..) {
            let (a, b) = pair(debit, credit);
            if let Some(at) = self.pairs.find(&(a, b)) {
                self.pairs.at_mut(at).weight += 1;
            } else if self.pairs.len() < TELEMETRY_PAIRS_MAX {
                self.pairs.insert(PairRow {
                    a,
                    b,
                    weight: 1,
                    reserved: 0,
                });
            } else {
                self.dropped += 1;
            }
        }
    }
}
