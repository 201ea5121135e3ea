//! Who pays whom: committed pairs, counted once at the debit side, by the shard's leader. Volatile.
//!
//! The hot path appends to a bounded ring; the ring is folded into a bounded table of weighted pairs
//! when it is full or asked for: what many pairs wait for comes at once. What the table has no room for is counted as
//! dropped.
//!
//! Time is cut into windows, so that a plan can be made on what is older and judged by what is newer, and what is old
//! fades. A window ends after its time, but not before anything was committed in it: an idle night forgets nothing.
//!
//! How often each account was used is not counted here but in its row, which is in the processor's cache when money moves
//! on it (`OwnedAccount::operations`).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::client::{PairRow, TelemetryWindow, WINDOWS};
use crate::ids::AccountId;
use crate::ledger::rules::pair;
use crate::shard::pairs::{Pair, Pairs};
use crate::time::{Now, Timestamp};

/// Pairs in the ring: 16 KiB, which a first-level cache has beside what is folded into.
const RING: usize = 512;

/// Counters and table of one leader.
#[derive(Debug, Default)]
pub struct Telemetry {
    ring: Vec<Pair>,
    pairs: Pairs,
    /// The present window, and then those before it, the newest first.
    windows: VecDeque<TelemetryWindow>,
    present: TelemetryWindow,
    began_ns: u64,
    /// All that was committed since it began to count, or was told to begin anew, (inside the shard, across).
    committed: (u64, u64),
}

impl Telemetry {
    /// Nothing was counted before `now`.
    #[must_use]
    pub fn begin(now: Now) -> Self {
        let mut telemetry = Self::default();
        telemetry.begin_window(now);
        telemetry
    }

    /// Notes a committed transfer inside the shard, or across. Those of system accounts fund the others: they say nothing
    /// about placement, and no window counts them.
    pub fn count(&mut self, is_cross: bool, is_system: bool) {
        let Self {
            committed, present, ..
        } = self;
        let (total, of_window) = match is_cross {
            false => (&mut committed.0, &mut present.local),
            true => (&mut committed.1, &mut present.cross),
        };
        *total += 1;
        *of_window += u64::from(!is_system);
    }

    /// Notes who paid whom in one, unless one of them is a system account.
    pub fn note(&mut self, debit: AccountId, credit: AccountId) {
        if self.ring.len() == RING {
            self.fold();
        }
        self.ring.push(pair(debit, credit));
    }

    /// Called now and then: ends the window if it has lasted so long, and gives back a little of the room of pairs that come
    /// no more.
    pub fn tick(&mut self, now: Now, window_ns: u64) {
        let is_over = now.mono_ns.saturating_sub(self.began_ns) >= window_ns;
        if is_over && self.present.transfers() > 0 {
            self.fold();
            self.pairs.begin_window();
            self.windows.push_front(self.present);
            self.windows.truncate(WINDOWS - 1);
            self.begin_window(now);
        }
        self.pairs.sweep();
    }

    /// The rows in up to `limit` places from one on, and where the next page begins; 0: there is none.
    pub fn rows(&mut self, from: u32, limit: u32) -> (Vec<PairRow>, u32) {
        self.fold();
        self.pairs.rows(from, limit)
    }

    /// The windows, the present one first; what is older than the last is not told apart.
    #[must_use]
    pub fn windows(&self) -> Vec<TelemetryWindow> {
        let before = self.windows.iter().copied();
        core::iter::once(self.present).chain(before).collect()
    }

    /// Committed transfers so far, (local, across).
    #[must_use]
    pub fn committed(&self) -> (u64, u64) {
        self.committed
    }

    fn begin_window(&mut self, now: Now) {
        self.began_ns = now.mono_ns;
        self.present = TelemetryWindow {
            began: Timestamp(now.wall_ns),
            ..TelemetryWindow::default()
        };
    }

    fn fold(&mut self) {
        self.present.dropped += self.pairs.count(&self.ring);
        self.ring.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Now {
        Now {
            mono_ns: seconds * SECOND,
            wall_ns: (1_000 + seconds) * SECOND,
        }
    }

    #[test]
    fn all_that_was_noted_is_listed_or_dropped() {
        let mut telemetry = Telemetry::begin(at(0));
        let mut noted = 0;
        for round in 0..3 * RING as u128 {
            let (debit, credit) = (AccountId(round % 7), AccountId(round % 11 + 1));
            telemetry.note(debit, credit);
            noted += 1;
            if round % 1000 == 0 {
                let (rows, next) = telemetry.rows(0, u32::MAX);
                let listed: u64 = rows.iter().map(PairRow::weight).sum();
                assert_eq!((listed, telemetry.windows()[0].dropped), (noted, 0));
                assert_eq!(next, 0);
                assert!(rows.iter().all(|row| row.a <= row.b));
            }
        }
        let (page, next) = telemetry.rows(3, 2);
        assert_eq!(page, telemetry.rows(0, u32::MAX).0[3..5]);
        assert_eq!(next, 5);
        assert_eq!(telemetry.rows(1_000, 5), (Vec::new(), 0));
    }

    #[test]
    fn a_window_ends_after_its_time_if_anything_was_committed() {
        let mut telemetry = Telemetry::begin(at(0));
        telemetry.tick(at(100), SECOND);
        assert_eq!(telemetry.windows().len(), 1, "nothing was committed");
        telemetry.count(false, true);
        telemetry.tick(at(100), SECOND);
        assert_eq!(telemetry.windows().len(), 1, "but for a system account");
        telemetry.count(false, false);
        telemetry.note(AccountId(1), AccountId(2));
        telemetry.tick(at(101), SECOND);
        telemetry.tick(at(101), SECOND);
        telemetry.count(true, false);
        telemetry.note(AccountId(1), AccountId(2));
        let windows = telemetry.windows();
        assert_eq!(windows.len(), 2);
        assert_eq!((windows[0].local, windows[0].cross), (0, 1));
        assert_eq!((windows[1].local, windows[1].cross), (1, 0));
        assert_eq!(windows[0].began, Timestamp(1_101 * SECOND));
        assert_eq!(telemetry.rows(0, 1).0[0].counts[..2], [1, 1]);
        for second in 102..130 {
            telemetry.count(false, false);
            telemetry.tick(at(second), SECOND);
        }
        assert_eq!(telemetry.windows().len(), WINDOWS);
        assert_eq!(telemetry.committed(), (30, 1));
    }
}
