//! What holds the workers of a driver back: the pace, a word to stop, and that it may not send what another tool could undo.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Conduct;
use super::driver::SILENCE;

/// A driver whose last look at the record is older sends no batch before it has looked again. What it sent at the end of that time it
/// sends again until a call ends (5 s), and the source works at it for [`MOVE_WITHIN`]: nobody takes over before all of it is
/// over.
const LEASE: Duration = Duration::from_secs(7);
/// Longest call, then the freeze, the wait for the vote and a commit.
const MOVE_WITHIN: Duration = Duration::from_secs(5 + 5);
const _: () = assert!(LEASE.as_secs() + MOVE_WITHIN.as_secs() + 2 < SILENCE.as_secs());

/// What workers ask between batches.
#[derive(Debug)]
pub(super) struct Reins {
    pub is_stopped: AtomicBool,
    pub pause_ms: AtomicU64,
    /// When the record was seen to be this driver's, in milliseconds since `began`.
    seen_ms: AtomicU64,
    /// By a clock that goes on while the process is stopped.
    began: Instant,
}

impl Reins {
    /// From when the record was taken.
    pub fn new(began: Instant) -> Self {
        Self {
            is_stopped: AtomicBool::new(false),
            pause_ms: AtomicU64::new(0),
            seen_ms: AtomicU64::new(0),
            began,
        }
    }

    /// The record is this driver's as of a question asked at `asked`.
    pub fn note_seen(&self, asked: Instant) {
        let since = asked.saturating_duration_since(self.began);
        let ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.seen_ms.store(ms, Ordering::Relaxed);
    }

    fn holds_lease(&self) -> bool {
        let seen = Duration::from_millis(self.seen_ms.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(seen) < LEASE
    }
}

impl Conduct for Reins {
    fn may_go_on(&self, rest: Duration) -> bool {
        let pause = Duration::from_millis(self.pause_ms.load(Ordering::Relaxed)).max(rest);
        let end = Instant::now() + pause;
        loop {
            if self.is_stopped.load(Ordering::Relaxed) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() && self.holds_lease() {
                return true;
            }
            let step = Duration::from_millis(50);
            thread::sleep(if left.is_zero() { step } else { left.min(step) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tool that was stopped for a minute went on with its next batches, behind the back of one that had undone the plan.
    #[test]
    fn who_has_not_heard_of_the_record_sends_nothing() {
        let long_ago = Instant::now().checked_sub(LEASE).expect("the host runs");
        let reins = Reins::new(long_ago);
        assert!(!reins.holds_lease());
        reins.note_seen(Instant::now());
        assert!(reins.holds_lease() && reins.may_go_on(Duration::ZERO));
        reins.note_seen(long_ago);
        reins.is_stopped.store(true, Ordering::Relaxed);
        assert!(!reins.may_go_on(Duration::ZERO));
    }
}
