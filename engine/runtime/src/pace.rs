//! How far a checkpoint goes on between two turns of the core.
//!
//! A turn takes what has arrived: a few microseconds of it, or tens of milliseconds of full entries. Whatever is
//! done once per turn is therefore done 30,000 times a second or 20 times, and the leader of a loaded group has the
//! fewest. A checkpoint has to be done by the time the next one falls due, which is a matter of how much was
//! applied, or apply stands still until it is. So its work follows the work of the turn, by [`Pace`]:
//!
//! | | after each turn | why it is enough |
//! | --- | --- | --- |
//! | parts, index work, rows that are moved | a *share* of the time that the inputs took, and an eighth of all time | see below |
//! | bytes written | one operation, of all that a file has waiting | 8,190 transfers bring 0.9 MB of history and up to 2.8 MB of accounts, and take two milliseconds or more; an operation is noticed a turn or two later |
//! | bytes read for rows that are moved | one read in three turns | of these there are at most three times the own ones |
//!
//! The share is what the last checkpoint shows it to need. One that is done early has kept clients waiting for
//! longer than was needed, one that is late would keep them waiting for its end: [`Pacer`] aims at seven tenths of
//! the interval. What a checkpoint has to do differs from load to load (0.1 us per transfer where applying takes
//! 0.3, 1 us where most accounts change and applying takes 2), but seldom from one checkpoint to the next.
//!
//! Time in which this executor has nothing else to do is no gift either: other replicas may share its core, and
//! clients wait for them. The eighth lets the checkpoint of an idle replica end.

use std::time::Duration;

/// Shares are in thousandths of the time that the inputs of a turn took.
const SHARE_MIN: u32 = 25;
const SHARE_FIRST: u32 = 500;
const SHARE_MAX: u32 = 1_000;
/// Thousandths of all time.
const IDLE_SHARE: u32 = 125;
/// Thousandths of the interval between two checkpoints that one should take.
const AIM: u32 = 700;
/// From here on the rest is done as fast as may be.
const LATE: u32 = 850;
/// At once, however much has been earned: what has arrived waits meanwhile, and the rest is done behind it.
const WORK_MAX: Duration = Duration::from_millis(5);
/// What can be earned in advance, or a checkpoint would keep everybody waiting after a pause.
const CREDIT_MAX: Duration = Duration::from_millis(20);
/// An idle replica goes on when it may work for so long: five pieces, for which it is worth to wake up.
const WORK_IDLE: Duration = Duration::from_micros(500);
/// Bytes that one operation or read may take for each microsecond of the turn, and in any case.
const BYTES_PER_US: usize = 1024;
const BYTES_MIN: usize = 512 << 10;
const BYTES_MAX: usize = 8 << 20;

/// What the store may do until the next turn has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long it may work: not at all, or as many pieces as it takes to be over.
    pub(crate) work: Option<Duration>,
    /// How many bytes may wait to be written, or be read ahead.
    pub(crate) bytes: usize,
}

/// Finds the share that lets checkpoints be done in time, and not much earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    share: u32,
    /// Thousandths of the interval that had passed when the checkpoint under way was last looked at.
    passed: Option<u32>,
    /// Time that it may still work, and that it has worked in advance: a piece that was begun is ended.
    credit: Duration,
    debt: Duration,
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            share: SHARE_FIRST,
            passed: None,
            credit: Duration::ZERO,
            debt: Duration::ZERO,
        }
    }
}

impl Pacer {
    /// The pace after a turn whose inputs took so long, `elapsed` after the last call. `passed`: of the interval that
    /// began with the checkpoint under way, the thousandths that have passed; `None` if none is under way. What else
    /// the store does is little, and done at once.
    pub(crate) fn after(
        &mut self,
        inputs: Duration,
        elapsed: Duration,
        passed: Option<u32>,
    ) -> Pace {
        if let (Some(took), None) = (self.passed, passed) {
            // At most half or twice the last share: one odd checkpoint says little.
            let wanted = (self.share * took / AIM).clamp(self.share / 2, self.share * 2);
            self.share = wanted.clamp(SHARE_MIN, SHARE_MAX);
            (self.credit, self.debt) = (Duration::ZERO, Duration::ZERO);
        }
        self.passed = passed;
        let us = usize::try_from(inputs.as_micros()).unwrap_or(usize::MAX);
        Pace {
            work: match passed {
                Some(passed) => self.earn(inputs, elapsed, passed),
                None => Some(Duration::ZERO),
            },
            bytes: us.saturating_mul(BYTES_PER_US).clamp(BYTES_MIN, BYTES_MAX),
        }
    }

    fn earn(&mut self, inputs: Duration, elapsed: Duration, passed: u32) -> Option<Duration> {
        let (share, idle_share) = match passed {
            LATE.. => (SHARE_MAX, SHARE_MAX),
            _ => (self.share, IDLE_SHARE),
        };
        let earned = (inputs * share + elapsed * idle_share) / 1_000;
        self.credit = (self.credit + earned)
            .saturating_sub(self.debt)
            .min(CREDIT_MAX);
        self.debt = self.debt.saturating_sub(earned);
        (!self.credit.is_zero()).then_some(self.credit.min(WORK_MAX))
    }

    /// The store has worked for so long.
    pub(crate) fn worked(&mut self, spent: Duration) {
        if self.passed.is_some() {
            self.debt += spent.saturating_sub(self.credit);
            self.credit = self.credit.saturating_sub(spent);
        }
    }

    /// How long an idle replica waits before the store goes on.
    pub(crate) fn pause(&self) -> Duration {
        (self.debt + WORK_IDLE).saturating_sub(self.credit) * 1_000 / IDLE_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(4);

    /// Turns of equal length, of which an interval has `turns` and a checkpoint needs `work`: how many thousandths
    /// of its interval the last of some checkpoints takes. The first ones may be held for, as apply is.
    fn settles_at(turns: u32, work: Duration) -> u32 {
        const PIECE: Duration = Duration::from_micros(100);
        let mut pacer = Pacer::default();
        let mut took = 0;
        for _ in 0..12 {
            let mut left = work;
            for turn in 0..turns {
                let passed = turn * 1_000 / turns;
                let is_open = !left.is_zero();
                let pace = pacer.after(TURN, TURN, is_open.then_some(passed));
                if let Some(may) = pace.work.filter(|_| is_open) {
                    let pieces = 1 + may.as_micros() / PIECE.as_micros();
                    let spent = PIECE * u32::try_from(pieces).unwrap();
                    left = left.saturating_sub(spent);
                    pacer.worked(spent);
                    took = passed;
                }
            }
            if !left.is_zero() {
                took = 1_000;
                pacer.after(TURN, TURN, Some(took));
            }
            pacer.after(TURN, TURN, None);
        }
        took
    }

    #[test]
    fn a_checkpoint_takes_most_of_its_interval_whatever_its_work() {
        let turns = 256;
        for tenths in 2..=7 {
            let took = settles_at(turns, TURN * turns * tenths / 10);
            assert!((600..=900).contains(&took), "{tenths}: {took}");
        }
        // Less than that is done in an eighth of the time and a little.
        assert!(settles_at(turns, TURN) < 100);
    }

    #[test]
    fn a_late_checkpoint_is_hurried() {
        let mut pacer = Pacer::default();
        let pace = pacer.after(TURN, Duration::ZERO, Some(LATE - 1));
        assert_eq!(pace.work, Some(TURN / 2));
        pacer.worked(TURN / 2);
        let pace = pacer.after(TURN / 2, Duration::ZERO, Some(LATE));
        assert_eq!(pace.work, Some(TURN / 2));
    }

    /// Short turns did a piece each, whatever they had taken: thirty thousand of them a second left no time for what
    /// else ran on the core.
    #[test]
    fn what_was_done_in_advance_is_earned_before_more_is_done() {
        let mut pacer = Pacer::default();
        let (short, piece) = (Duration::from_micros(30), Duration::from_micros(100));
        let (mut worked, mut elapsed) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            elapsed += short;
            if pacer.after(short, short, Some(1)).work.is_some() {
                pacer.worked(piece);
                worked += piece;
            }
        }
        let share = worked.as_secs_f64() / elapsed.as_secs_f64();
        let allowed = f64::from(SHARE_FIRST + IDLE_SHARE) / 1_000.0;
        assert!((share - allowed).abs() < 0.01, "{share}");
    }

    #[test]
    fn the_checkpoint_of_an_idle_replica_ends() {
        let mut pacer = Pacer::default();
        pacer.after(Duration::ZERO, Duration::ZERO, Some(0));
        for _ in 0..1_000 {
            let pause = pacer.pause();
            let pace = pacer.after(Duration::ZERO, pause, Some(0));
            assert!(pace.work >= Some(WORK_IDLE), "{pace:?} after {pause:?}");
            pacer.worked(Duration::from_micros(1_234));
        }
    }

    #[test]
    fn whatever_the_turn_the_pace_has_bounds() {
        let mut pacer = Pacer::default();
        let zero = Duration::ZERO;
        let idle = pacer.after(zero, zero, None);
        assert_eq!((idle.work, idle.bytes), (Some(zero), BYTES_MIN));
        // Two turns of 8,190 transfers of history, with accounts of their own.
        assert!(pacer.after(TURN, zero, None).bytes > 8190 * (2 * 110 + 2 * 80));
        let minute = Duration::from_secs(60);
        let pace = pacer.after(minute, minute, Some(0));
        assert_eq!((pace.work, pace.bytes), (Some(WORK_MAX), BYTES_MAX));
    }
}
