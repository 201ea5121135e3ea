//! Who pays whom: committed pairs, counted once at the debit side, by the shard's leader. Volatile.
//!
//! The hot path appends to a bounded ring. A full ring goes to the table of pairs, which is kept beside the leader
//! ([`PairTable`](crate::shard::pair_table::PairTable)): no transfer waits until its pair is found there.
//!
//! Time is cut into windows, so that a plan can be made on what is older and judged by what is newer, and what is old
//! fades. A window ends after its time, but not before anything was committed in it: an idle night forgets nothing.
//!
//! How often each account was used is not counted here but in its row, which is in the processor's cache when money moves
//! on it (`OwnedAccount::operations`).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::client::{TelemetryWindow, WINDOWS};
use crate::ids::{AccountId, ConnectionId, RequestId};
use crate::ledger::rules::pair;
use crate::shard::pair_table::{Counting, Lost, Period, Question, Told};
use crate::shard::pairs::Pair;
use crate::time::{Now, Timestamp};

/// Pairs in the ring, and so in one of the runs that the table is given: 64 KiB, which a second-level cache has. Whoever
/// takes it may have to be woken, which costs as much as noting some hundred pairs.
const RING: usize = 2_048;

/// What a leader counts itself, and what it has for the table.
#[derive(Debug, Default)]
pub struct Telemetry {
    ring: Vec<Pair>,
    period: Period,
    told: VecDeque<Counting>,
    /// The table may have something of this period's beginning.
    has_told: bool,
    /// The present window, and then those before it, the newest first.
    windows: VecDeque<TelemetryWindow>,
    present: TelemetryWindow,
    window_began_ns: u64,
    /// All that was committed since it began to count, or was told to begin anew, (inside the shard, across).
    committed: (u64, u64),
}

impl Telemetry {
    /// Nothing was counted before `now`.
    #[must_use]
    pub fn begin(now: Now) -> Self {
        let mut telemetry = Self::default();
        telemetry.period.began_ns = now.mono_ns;
        telemetry.begin_window(now);
        telemetry
    }

    /// Forgets everything. The table is told if it was told anything, so that it gives its memory back.
    pub fn begin_anew(&mut self, now: Now) {
        let Self {
            has_told: had_told,
            period: before,
            ..
        } = *self;
        *self = Self::begin(now);
        // Several steps may have one reading of the clock.
        self.period.began_ns = now.mono_ns.max(before.began_ns + 1);
        if had_told {
            self.tell(Told::Pairs(Vec::new()));
            self.has_told = false;
        }
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
        if self.ring.len() == self.ring.capacity() {
            self.hand_on();
            self.ring.reserve_exact(RING);
        }
        self.ring.push(pair(debit, credit));
    }

    /// Called now and then: ends the window if it has lasted so long.
    pub fn tick(&mut self, now: Now, window_ns: u64) {
        let is_over = now.mono_ns.saturating_sub(self.window_began_ns) >= window_ns;
        if is_over && self.present.transfers() > 0 {
            self.hand_on();
            self.period.window = self.period.window.saturating_add(1);
            self.windows.push_front(self.present);
            self.windows.truncate(WINDOWS - 1);
            self.begin_window(now);
        }
    }

    /// Passes a client's question on: which rows there are in up to `limit` places from one on. The table knows all that was
    /// noted before.
    pub fn ask(
        &mut self,
        (connection, request): (ConnectionId, RequestId),
        clock: Timestamp,
        (from, limit): (u32, u32),
    ) {
        self.hand_on();
        self.tell(Told::Question(Question {
            connection,
            request,
            clock,
            from,
            limit,
            windows: self.windows(),
        }));
    }

    /// What the table is told next, if anything.
    pub fn poll(&mut self) -> Option<Counting> {
        self.told.pop_front()
    }

    /// Committed transfers so far, (local, across).
    #[must_use]
    pub fn committed(&self) -> (u64, u64) {
        self.committed
    }

    /// The windows, the present one first; what is older than the last is not told apart.
    fn windows(&self) -> Vec<TelemetryWindow> {
        let before = self.windows.iter().copied();
        core::iter::once(self.present).chain(before).collect()
    }

    fn begin_window(&mut self, now: Now) {
        self.window_began_ns = now.mono_ns;
        self.present = TelemetryWindow {
            began: Timestamp(now.wall_ns),
            ..TelemetryWindow::default()
        };
    }

    fn hand_on(&mut self) {
        if !self.ring.is_empty() {
            let ring = core::mem::take(&mut self.ring);
            self.tell(Told::Pairs(ring));
        }
    }

    fn tell(&mut self, told: Told) {
        self.has_told = true;
        self.told.push_back(Counting {
            period: self.period,
            lost: Lost::default(),
            told,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{PairRow, ReplyBody};
    use crate::shard::pair_table::{Answer, PairTable};

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Now {
        Now {
            mono_ns: seconds * SECOND,
            wall_ns: (1_000 + seconds) * SECOND,
        }
    }

    /// A page, where the next one begins, and the windows.
    fn rows(
        (telemetry, table): (&mut Telemetry, &mut PairTable),
        from: u32,
        limit: u32,
    ) -> (Vec<PairRow>, u32, Vec<TelemetryWindow>) {
        let asker = (ConnectionId(1), RequestId(2));
        telemetry.ask(asker, Timestamp(3), (from, limit));
        let answers = core::iter::from_fn(|| telemetry.poll()).filter_map(|told| table.take(told));
        let answers: Vec<_> = answers.map(Answer::reply).collect();
        let [(ConnectionId(1), reply)] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        let ReplyBody::Pairs {
            rows,
            next,
            windows,
        } = &reply.body
        else {
            panic!("{reply:?}");
        };
        (rows.to_vec(), *next, windows.clone())
    }

    #[test]
    fn all_that_was_noted_is_listed_or_dropped() {
        let (mut telemetry, mut table) = (Telemetry::begin(at(0)), PairTable::default());
        let mut noted = 0;
        for round in 0..3 * RING as u128 {
            let (debit, credit) = (AccountId(round % 7), AccountId(round % 11 + 1));
            telemetry.note(debit, credit);
            noted += 1;
            if round % 1000 == 0 {
                let (rows, next, windows) = rows((&mut telemetry, &mut table), 0, u32::MAX);
                let listed: u64 = rows.iter().map(PairRow::weight).sum();
                assert_eq!((listed, windows[0].dropped), (noted, 0));
                assert_eq!(next, 0);
                assert!(rows.iter().all(|row| row.a <= row.b));
            }
        }
        let mut page = |from, limit| {
            let (rows, next, _) = rows((&mut telemetry, &mut table), from, limit);
            (rows, next)
        };
        assert_eq!(page(3, 2), (page(0, u32::MAX).0[3..5].to_vec(), 5));
        assert_eq!(page(1_000, 5), (Vec::new(), 0));
    }

    #[test]
    fn no_more_waits_for_the_table_than_the_ring_holds() {
        let mut telemetry = Telemetry::begin(at(0));
        let mut told = 0;
        for _ in 0..10 * RING {
            telemetry.note(AccountId(1), AccountId(2));
            while let Some(Counting {
                told: Told::Pairs(pairs),
                ..
            }) = telemetry.poll()
            {
                assert!(pairs.len() <= RING);
                told += pairs.len();
            }
        }
        assert!(told >= 9 * RING, "{told}");
        assert!(telemetry.ring.len() <= RING);
    }

    #[test]
    fn who_begins_anew_says_so_once_to_a_table_that_has_something() {
        let mut telemetry = Telemetry::begin(at(0));
        telemetry.begin_anew(at(1));
        assert!(telemetry.poll().is_none(), "nothing was told");
        telemetry.note(AccountId(1), AccountId(2));
        let mut table = PairTable::default();
        assert_eq!(rows((&mut telemetry, &mut table), 0, 9).0.len(), 1);
        telemetry.note(AccountId(1), AccountId(3));
        telemetry.begin_anew(at(2));
        assert!(table.take(telemetry.poll().expect("it is told")).is_none());
        telemetry.begin_anew(at(2));
        assert!(telemetry.poll().is_none(), "it has nothing");
        assert_eq!(rows((&mut telemetry, &mut table), 0, 9).0, []);
        telemetry.note(AccountId(1), AccountId(2));
        assert_eq!(rows((&mut telemetry, &mut table), 0, 9).0.len(), 1);
        // Within one reading of the clock.
        telemetry.begin_anew(at(2));
        assert_eq!(rows((&mut telemetry, &mut table), 0, 9).0, []);
    }

    #[test]
    fn a_window_ends_after_its_time_if_anything_was_committed() {
        let (mut telemetry, mut table) = (Telemetry::begin(at(0)), PairTable::default());
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
        let (rows, _, listed) = rows((&mut telemetry, &mut table), 0, 1);
        assert_eq!(rows[0].counts[..2], [1, 1]);
        assert_eq!(listed, windows);
        for second in 102..130 {
            telemetry.count(false, false);
            telemetry.tick(at(second), SECOND);
        }
        assert_eq!(telemetry.windows().len(), WINDOWS);
        assert_eq!(telemetry.committed(), (30, 1));
    }
}
