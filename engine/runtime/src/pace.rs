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
//! | bytes written | one operation at a time, of all that a file has waiting | 8,190 transfers bring 0.9 MB of history and up to 2.8 MB of accounts, and take two milliseconds or more; an operation is noticed a turn or two later |
//! | bytes read for rows that are moved | one read at a time | of these there are at most three times the own ones |
//!
//! The share is what the last checkpoint shows it to need. One that is done early has kept clients waiting for
//! longer than was needed, one that is late would keep them waiting for its end: [`Pacer`] aims at seven tenths of
//! the interval, and lets one that was late have twice the share the next time. What a checkpoint has to do differs from load to load (0.1 us per transfer where applying takes
//! 0.3, 1 us where most accounts change and applying takes 2), but seldom from one checkpoint to the next.
//!
//! Time in which this executor has nothing else to do is no gift either: other replicas may share its core, and
//! clients wait for them. The eighth lets the checkpoint of an idle replica end.

use std::time::Duration;

/// Shares are in thousandths of the time that the inputs of a turn took.
const SHARE_MIN: u32 = 100;
const SHARE_FIRST: u32 = 500;
const SHARE_MAX: u32 = 1_000;
/// Thousandths of all time.
const IDLE_SHARE: u32 = 125;
/// Thousandths of the interval between two checkpoints that one should take.
const AIM: u32 = 700;
/// From here on a checkpoint is late, and has the largest share.
const LATE: u32 = 850;
/// From here on apply stands still for it: nothing else is to be done.
const HELD: u32 = 1_000;
/// At once, however much has been earned: what has arrived waits meanwhile, and the rest is done behind it.
const WORK_MAX: Duration = Duration::from_millis(5);
/// What can be earned in advance, or a checkpoint would keep everybody waiting after a pause; and what can be owed, or
/// a checkpoint would stand still after a piece during which the whole process was stopped.
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

/// How far the interval has got that began with the checkpoint under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The checkpoint's number.
    pub(crate) number: u64,
    /// Thousandths of the interval that have passed.
    pub(crate) passed: u32,
}

/// Finds the share that lets checkpoints be done in time, and not much earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    share: u32,
    /// When the checkpoint under way was last looked at.
    last: Option<Progress>,
    /// Time that it may still work, and that it has worked in advance: a piece that was begun is ended.
    credit: Duration,
    debt: Duration,
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            share: SHARE_FIRST,
            last: None,
            credit: Duration::ZERO,
            debt: Duration::ZERO,
        }
    }
}

impl Pacer {
    /// The pace after a turn whose inputs took so long, `elapsed` after the last call. `progress` is that of the
    /// checkpoint under way, if there is one.
    pub(crate) fn after(
        &mut self,
        inputs: Duration,
        elapsed: Duration,
        progress: Option<Progress>,
    ) -> Pace {
        if let Some(last) = self.last
            && progress.map(|it| it.number) != Some(last.number)
        {
            self.learn(last.passed);
        }
        self.last = progress;
        let us = usize::try_from(inputs.as_micros()).unwrap_or(usize::MAX);
        Pace {
            work: match progress {
                Some(progress) => self.earn(inputs, elapsed, progress.passed),
                None => Some(Duration::ZERO),
            },
            bytes: us.saturating_mul(BYTES_PER_US).clamp(BYTES_MIN, BYTES_MAX),
        }
    }

    /// A checkpoint is done that took so many thousandths of its interval. One odd checkpoint says little, so the next
    /// share is at least half of the last; of one that apply was held for only that it was late is known.
    fn learn(&mut self, took: u32) {
        let wanted = match took {
            LATE.. => self.share * 2,
            _ => (self.share * took / AIM).max(self.share / 2),
        };
        self.share = wanted.clamp(SHARE_MIN, SHARE_MAX);
        (self.credit, self.debt) = (Duration::ZERO, Duration::ZERO);
    }

    fn earn(&mut self, inputs: Duration, elapsed: Duration, passed: u32) -> Option<Duration> {
        let (share, idle_share) = match passed {
            HELD.. => (SHARE_MAX, SHARE_MAX),
            LATE.. => (SHARE_MAX, IDLE_SHARE),
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
        if self.last.is_some() {
            self.debt = (self.debt + spent.saturating_sub(self.credit)).min(CREDIT_MAX);
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

    fn at(number: u64, passed: u32) -> Option<Progress> {
        Some(Progress { number, passed })
    }

    /// Turns of equal length, of which an interval has `turns` and a checkpoint needs `work`, from this share on: how
    /// many thousandths of its interval the last of some checkpoints takes. Apply is held for one that is not done in
    /// its interval, and the next one begins in the very step that ends it.
    fn settles_at(share: u32, turns: u32, work: Duration) -> u32 {
        const PIECE: Duration = Duration::from_micros(100);
        let mut pacer = Pacer {
            share,
            ..Pacer::default()
        };
        let (mut took, mut elapsed) = (0, TURN);
        for number in 1..16 {
            let mut left = work;
            for turn in 0.. {
                let passed = (turn * 1_000 / turns).min(HELD);
                let is_open = !left.is_zero();
                if passed == HELD && !is_open {
                    break;
                }
                let inputs = if passed == HELD { Duration::ZERO } else { TURN };
                let pace = pacer.after(inputs, elapsed, at(number, passed).filter(|_| is_open));
                elapsed = inputs;
                if let Some(may) = pace.work.filter(|_| is_open) {
                    let pieces = 1 + may.as_micros() / PIECE.as_micros();
                    let spent = PIECE * u32::try_from(pieces).unwrap();
                    left = left.saturating_sub(spent);
                    pacer.worked(spent);
                    (took, elapsed) = (passed, inputs + spent);
                }
                elapsed = elapsed.max(PIECE);
            }
        }
        took
    }

    #[test]
    fn a_checkpoint_takes_most_of_its_interval_whatever_its_work() {
        let turns = 256;
        for share in [SHARE_MIN, SHARE_FIRST, SHARE_MAX] {
            for tenths in 2..=7 {
                let took = settles_at(share, turns, TURN * turns * tenths / 10);
                assert!((400..=900).contains(&took), "{share} {tenths}: {took}");
            }
            // Less than that is done in an eighth of the time and a little.
            assert!(settles_at(share, turns, TURN) < 100);
        }
    }

    /// The next checkpoint begins in the step that ends a late one, so nobody ever saw that none was under way, and
    /// the share stayed as it was: too small, in every interval.
    #[test]
    fn a_late_checkpoint_is_learned_from_though_the_next_one_follows_at_once() {
        let mut pacer = Pacer::default();
        pacer.after(TURN, TURN, at(1, HELD));
        pacer.after(TURN, TURN, at(2, 0));
        assert_eq!(pacer.share, 2 * SHARE_FIRST);
    }

    /// A piece during which the process was stopped for an hour had to be earned back.
    #[test]
    fn a_long_pause_is_not_owed() {
        let mut pacer = Pacer::default();
        pacer.after(TURN, Duration::ZERO, at(1, 0));
        pacer.worked(Duration::from_secs(3_600));
        assert!(pacer.pause() <= Duration::from_millis(200));
    }

    #[test]
    fn a_late_checkpoint_is_hurried() {
        let mut pacer = Pacer::default();
        let pace = pacer.after(TURN, Duration::ZERO, at(1, LATE - 1));
        assert_eq!(pace.work, Some(TURN / 2));
        pacer.worked(TURN / 2);
        let pace = pacer.after(TURN / 2, Duration::ZERO, at(1, LATE));
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
            if pacer.after(short, short, at(1, 1)).work.is_some() {
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
        pacer.after(Duration::ZERO, Duration::ZERO, at(1, 0));
        for _ in 0..1_000 {
            let pause = pacer.pause();
            let pace = pacer.after(Duration::ZERO, pause, at(1, 0));
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
        let pace = pacer.after(minute, minute, at(1, 0));
        assert_eq!((pace.work, pace.bytes), (Some(WORK_MAX), BYTES_MAX));
    }
}
