//! Who pays whom: committed pairs, counted once at the debit side, by the shard's leader. Volatile.
//!
//! The hot path appends to a bounded ring; the ring is folded into a bounded table of weighted pairs
//! when it is full or asked for: what many pairs wait for comes at once. What the table has no room for is counted as
//! dropped.

use alloc::vec::Vec;

use crate::client::PairRow;
use crate::ids::AccountId;
use crate::ledger::rules::pair;
use crate::shard::pairs::{Pair, Pairs};

/// Pairs in the ring: 16 KiB, which a first-level cache has beside what is folded into.
const RING: usize = 512;

/// Counters and table of one leader.
#[derive(Debug, Default)]
pub struct Telemetry {
    ring: Vec<Pair>,
    pairs: Pairs,
    pub dropped: u64,
    pub local: u64,
    pub cross: u64,
}

impl Telemetry {
    /// Notes a committed transfer.
    pub fn note(&mut self, debit: AccountId, credit: AccountId) {
        if self.ring.len() == RING {
            self.fold();
        }
        self.ring.push(pair(debit, credit));
    }

    /// Rows from position `from` on, and how many there are in all.
    pub fn rows(&mut self, from: u32, limit: usize) -> (Vec<PairRow>, u32) {
        self.fold();
        (self.pairs.rows(from, limit), self.pairs.end())
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn fold(&mut self) {
        self.dropped += self.pairs.count(&self.ring);
        self.ring.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_was_noted_is_listed_or_dropped() {
        let mut telemetry = Telemetry::default();
        let mut noted = 0;
        for round in 0..3 * RING as u128 {
            let (debit, credit) = (AccountId(round % 7), AccountId(round % 11 + 1));
            telemetry.note(debit, credit);
            noted += 1;
            if round % 1000 == 0 {
                let (rows, total) = telemetry.rows(0, usize::MAX);
                let listed: u64 = rows.iter().map(|row| row.weight).sum();
                assert_eq!((listed, telemetry.dropped), (noted, 0));
                assert_eq!(rows.len(), total as usize);
                assert!(rows.iter().all(|row| row.a <= row.b));
            }
        }
        let (page, total) = telemetry.rows(3, 2);
        assert_eq!(page, telemetry.rows(0, usize::MAX).0[3..5]);
        assert_eq!(telemetry.rows(total, 5), (Vec::new(), total));
        telemetry.reset();
        assert_eq!(telemetry.rows(0, 5), (Vec::new(), 0));
    }
}
