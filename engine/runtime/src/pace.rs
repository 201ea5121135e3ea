//! How far a checkpoint goes on between two turns of the core.
//!
//! A turn takes what has arrived: a few microseconds of it, or tens of milliseconds of full entries. Whatever is
//! done once per turn is therefore done 30,000 times a second or 20 times, and the leader of a loaded group has the
//! fewest. A checkpoint has to be done by the time the next one falls due, which is a matter of how much was
//! applied, or apply stands still until it is. So its work follows the work of the turn, by [`Pace`]:
//!
//! | | after each turn | why it is enough |
//! | --- | --- | --- |
//! | parts, index work, rows that are moved | a *share* of the time that the inputs took, and an eighth of that share of all time | see below |
//! | bytes written | in step with the interval, see below; one operation at a time, of all that a file has waiting | 8,190 transfers bring 0.9 MB of history and up to 2.8 MB of accounts, and take two milliseconds or more; an operation is noticed a turn or two later |
//! | bytes read for rows that are moved | one read at a time | of these there are at most three times the own ones |
//!
//! The share is what the last checkpoint shows it to need. One that is done early has kept clients waiting for
//! longer than was needed, one that is late would keep them waiting for its end: [`Pacer`] aims at seven tenths of
//! the interval, and lets one that was late have twice the share the next time. What a checkpoint has to do differs from load to load (0.1 us per transfer where applying takes
//! 0.3, 1 us where most accounts change and applying takes 2), but seldom from one checkpoint to the next.
//!
//! Bytes are paced as well as time, since rows of history are a gigabyte for each second of work: nine replicas on one disk wrote in two
//! seconds what had eleven, and every flush of their logs took 10 ms instead of half of one. So no work is done while more is written
//! than so many thousandths of it as have passed of the first six tenths of the interval, or than 8 MiB for each second, which lets the
//! checkpoint of an idle replica end; one that is late writes as fast as it can. How much one writes is what the last one wrote, and at
//! first twice what its interval weighs.
//!
//! Time in which this executor has nothing else to do is no gift either: other replicas may share its core and its disk, and
//! clients wait for them. So the eighth is whole only in a turn that had no input.

use std::time::Duration;

/// Shares are in thousandths of the time that the inputs of a turn took.
const SHARE_MIN: u32 = 25;
const SHARE_FIRST: u32 = 500;
const SHARE_MAX: u32 = 1_000;
/// Thousandths of all time, of an idle replica.
const IDLE_SHARE: u32 = 125;
/// Thousandths of the interval between two checkpoints that one should take.
const AIM: u32 = 700;
/// Thousandths of it in which the bytes are to be written: what is left when they are is work on the indexes.
const WRITE_AIM: u64 = 600;
/// Bytes that may be written for each millisecond, however little of the interval passes, and in any case.
const WRITE_PER_MS: u64 = 8 << 10;
const WRITE_MIN: u64 = 512 << 10;
/// What the first checkpoint writes, in intervals: 110 bytes of history where an entry has 128, and as often as not accounts.
const WRITE_FIRST: u64 = 2;
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
    /// What the interval weighs, in bytes.
    pub(crate) due: u64,
}

/// The bytes of one checkpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    /// What the store had written when it began.
    before: u64,
    written: u64,
    open_for: Duration,
}

impl Bytes {
    fn is_ahead(&self, progress: Progress, expected: u64) -> bool {
        let by_progress =
            u128::from(expected) * u128::from(progress.passed) / u128::from(WRITE_AIM);
        let by_time = self.open_for.as_millis() * u128::from(WRITE_PER_MS);
        let may = by_progress.max(by_time) + u128::from(WRITE_MIN);
        progress.passed < LATE && u128::from(self.written) > may
    }
}

/// Finds the share that lets checkpoints be done in time, and not much earlier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer {
    share: u32,
    /// When the checkpoint under way was last looked at.
    last: Option<Progress>,
    bytes: Bytes,
    is_ahead: bool,
    /// What the last checkpoint wrote, if there was one.
    wrote: Option<u64>,
    /// Time that it may still work, and that it has worked in advance: a piece that was begun is ended.
    credit: Duration,
    debt: Duration,
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            share: SHARE_FIRST,
            last: None,
            bytes: Bytes::default(),
            is_ahead: false,
            wrote: None,
            credit: Duration::ZERO,
            debt: Duration::ZERO,
        }
    }
}

impl Pacer {
    /// The pace after a turn whose inputs took so long, `elapsed` after the last call. `progress` is that of the
    /// checkpoint under way, if there is one; `written` is what the store has written since it was opened.
    pub(crate) fn after(
        &mut self,
        inputs: Duration,
        elapsed: Duration,
        progress: Option<Progress>,
        written: u64,
    ) -> Pace {
        let is_other = self.last.map(|it| it.number) != progress.map(|it| it.number);
        if let Some(last) = self.last.filter(|_| is_other) {
            self.learn(last.passed);
        }
        if is_other {
            self.bytes = Bytes {
                before: written,
                ..Bytes::default()
            };
        }
        self.bytes.written = written.saturating_sub(self.bytes.before);
        self.bytes.open_for += elapsed;
        self.is_ahead = progress.is_some_and(|progress| {
            let expected = self.wrote.unwrap_or(progress.due * WRITE_FIRST);
            self.bytes.is_ahead(progress, expected)
        });
        self.last = progress;
        let us = usize::try_from(inputs.as_micros()).unwrap_or(usize::MAX);
        Pace {
            work: match progress {
                Some(progress) => {
                    let may_work = self.earn(inputs, elapsed, progress.passed);
                    may_work.filter(|_| !self.is_ahead)
                }
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
        self.wrote = Some(self.bytes.written);
        (self.credit, self.debt) = (Duration::ZERO, Duration::ZERO);
    }

    fn earn(&mut self, inputs: Duration, elapsed: Duration, passed: u32) -> Option<Duration> {
        let (share, idle_share) = match passed {
            HELD.. => (SHARE_MAX, SHARE_MAX),
            LATE.. => (SHARE_MAX, IDLE_SHARE),
            _ if inputs.is_zero() => (self.share, IDLE_SHARE),
            _ => (self.share, IDLE_SHARE * self.share / SHARE_MAX),
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
        if self.is_ahead {
            return Duration::from_millis(WRITE_MIN / WRITE_PER_MS);
        }
        (self.debt + WORK_IDLE).saturating_sub(self.credit) * 1_000 / IDLE_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(4);

    fn at(number: u64, passed: u32) -> Option<Progress> {
        Some(Progress {
            number,
            passed,
            due: 64 << 20,
        })
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
                let pace = pacer.after(inputs, elapsed, at(number, passed).filter(|_| is_open), 0);
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
            // Less than that is done by the least share and an eighth of it: in 36 of the turns.
            let least = settles_at(share, turns, TURN);
            assert!((120..160).contains(&least), "{share}: {least}");
        }
    }

    /// The next checkpoint begins in the step that ends a late one, so nobody ever saw that none was under way, and
    /// the share stayed as it was: too small, in every interval.
    #[test]
    fn a_late_checkpoint_is_learned_from_though_the_next_one_follows_at_once() {
        let mut pacer = Pacer::default();
        pacer.after(TURN, TURN, at(1, HELD), 0);
        pacer.after(TURN, TURN, at(2, 0), 0);
        assert_eq!(pacer.share, 2 * SHARE_FIRST);
    }

    /// Work that is little beside its bytes had them all written within a sixth of the interval.
    #[test]
    fn bytes_are_written_in_step_with_the_interval() {
        const PIECE: u64 = 512 << 10;
        let mut pacer = Pacer::default();
        let (mut written, mut took) = (0, Vec::new());
        for number in 1..4 {
            let end = written + (48 << 20);
            for passed in 0..HELD {
                let is_open = written < end;
                // An interval of ten seconds, in turns of one of its thousandths.
                let progress = at(number, passed).filter(|_| is_open);
                let pace = pacer.after(TURN, Duration::from_millis(1), progress, written);
                if is_open && pace.work.is_some() {
                    written += PIECE;
                    pacer.worked(Duration::from_micros(500));
                    if written >= end {
                        took.push(passed);
                    }
                }
            }
        }
        assert!((200..300).contains(&took[0]), "{took:?}");
        assert!(
            took[1..].iter().all(|it| (550..650).contains(it)),
            "{took:?}"
        );
    }

    #[test]
    fn without_load_bytes_are_written_by_the_clock_and_late_ones_at_once() {
        let mut pacer = Pacer::default();
        let pause = Duration::from_millis(64);
        let (mut written, mut elapsed) = (0, Duration::ZERO);
        while written < 48 << 20 {
            let pace = pacer.after(Duration::ZERO, pause, at(1, 0), written);
            if pace.work.is_some() {
                written += 512 << 10;
                pacer.worked(WORK_IDLE);
            }
            elapsed += pause;
        }
        assert!((5..7).contains(&elapsed.as_secs()), "{elapsed:?}");
        let pace = pacer.after(TURN, TURN, at(1, 1), 1 << 40);
        assert_eq!(pace.work, None);
        let pace = pacer.after(TURN, TURN, at(1, LATE), 1 << 40);
        assert!(pace.work.is_some());
    }

    /// A piece during which the process was stopped for an hour had to be earned back.
    #[test]
    fn a_long_pause_is_not_owed() {
        let mut pacer = Pacer::default();
        pacer.after(TURN, Duration::ZERO, at(1, 0), 0);
        pacer.worked(Duration::from_secs(3_600));
        assert!(pacer.pause() <= Duration::from_millis(200));
    }

    #[test]
    fn a_late_checkpoint_is_hurried() {
        let mut pacer = Pacer::default();
        let pace = pacer.after(TURN, Duration::ZERO, at(1, LATE - 1), 0);
        assert_eq!(pace.work, Some(TURN / 2));
        pacer.worked(TURN / 2);
        let pace = pacer.after(TURN / 2, Duration::ZERO, at(1, LATE), 0);
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
            if pacer.after(short, short, at(1, 1), 0).work.is_some() {
                pacer.worked(piece);
                worked += piece;
            }
        }
        let share = worked.as_secs_f64() / elapsed.as_secs_f64();
        let allowed = f64::from(SHARE_FIRST + IDLE_SHARE * SHARE_FIRST / SHARE_MAX) / 1_000.0;
        assert!((share - allowed).abs() < 0.01, "{share}");
    }

    #[test]
    fn the_checkpoint_of_an_idle_replica_ends() {
        let mut pacer = Pacer::default();
        pacer.after(Duration::ZERO, Duration::ZERO, at(1, 0), 0);
        for _ in 0..1_000 {
            let pause = pacer.pause();
            let pace = pacer.after(Duration::ZERO, pause, at(1, 0), 0);
            assert!(pace.work >= Some(WORK_IDLE), "{pace:?} after {pause:?}");
            pacer.worked(Duration::from_micros(1_234));
        }
    }

    #[test]
    fn whatever_the_turn_the_pace_has_bounds() {
        let mut pacer = Pacer::default();
        let zero = Duration::ZERO;
        let idle = pacer.after(zero, zero, None, 0);
        assert_eq!((idle.work, idle.bytes), (Some(zero), BYTES_MIN));
        // Two turns of 8,190 transfers of history, with accounts of their own.
        assert!(pacer.after(TURN, zero, None, 0).bytes > 8190 * (2 * 110 + 2 * 80));
        let minute = Duration::from_secs(60);
        let pace = pacer.after(minute, minute, at(1, 0), 0);
        assert_eq!((pace.work, pace.bytes), (Some(WORK_MAX), BYTES_MAX));
    }
}
