//! The only place that reads clocks.

use quorate_protocol::limits::CLOCK_AHEAD_NS_MAX;
use quorate_protocol::time::{Now, SECOND};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::fatal::Fatal;

/// Reads both clocks and watches that they do not go back.
///
/// The monotonic one must never; the wall clock may be set back a little, which the core's hybrid
/// clock absorbs. Beyond `CLOCK_AHEAD_NS_MAX` our own timestamps would lie further ahead of the wall
/// clock than peers accept, so this ends the process instead.
#[derive(Debug)]
pub(crate) struct Clock {
    last: Now,
}

impl Clock {
    /// Takes the first reading as good.
    pub(crate) fn start() -> Self {
        Self { last: read() }
    }

    /// The present moment.
    pub(crate) fn now(&mut self) -> Result<Now, Fatal> {
        let now = read();
        check(self.last, now)?;
        self.last = now;
        Ok(now)
    }
}

/// Nanoseconds since the host started, as in [`Now`]; of any thread.
pub(crate) fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Boottime))
}

fn read() -> Now {
    Now {
        mono_ns: nanoseconds(clock_gettime(ClockId::Boottime)),
        wall_ns: nanoseconds(clock_gettime(ClockId::Realtime)),
    }
}

/// Times before 1970 read as 1970.
fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(SECOND).saturating_add(rest)
}

fn check(last: Now, now: Now) -> Result<(), Fatal> {
    let Some(passed_ns) = now.mono_ns.checked_sub(last.mono_ns) else {
        return Err(Fatal::ClockWentBack {
            clock: "CLOCK_BOOTTIME",
            by_ns: last.mono_ns - now.mono_ns,
        });
    };
    let back_ns = last
        .wall_ns
        .saturating_add(passed_ns)
        .saturating_sub(now.wall_ns);
    if back_ns > CLOCK_AHEAD_NS_MAX {
        return Err(Fatal::ClockWentBack {
            clock: "CLOCK_REALTIME",
            by_ns: back_ns,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: Now = Now {
        mono_ns: 50 * SECOND,
        wall_ns: 1_000 * SECOND,
    };

    #[test]
    fn the_wall_clock_may_go_back_a_little_and_forward_any_amount() {
        let back = Now {
            mono_ns: LAST.mono_ns + SECOND,
            wall_ns: LAST.wall_ns - 9 * SECOND,
        };
        assert!(check(LAST, back).is_ok());
        let forward = Now {
            wall_ns: u64::MAX,
            ..LAST
        };
        assert!(check(LAST, forward).is_ok());
    }

    #[test]
    fn a_wall_clock_set_back_far_is_fatal() {
        let back = Now {
            mono_ns: LAST.mono_ns + SECOND,
            wall_ns: LAST.wall_ns - 9 * SECOND - 1,
        };
        assert_eq!(check(LAST, back).unwrap_err().exit_code(), 18);
    }

    #[test]
    fn a_monotonic_clock_that_goes_back_is_fatal() {
        let back = Now {
            mono_ns: LAST.mono_ns - 1,
            ..LAST
        };
        assert_eq!(check(LAST, back).unwrap_err().exit_code(), 18);
    }

    #[test]
    fn real_clocks_pass_their_own_check() {
        let mut clock = Clock::start();
        let first = clock.now().unwrap();
        let second = clock.now().unwrap();
        assert!(second.mono_ns >= first.mono_ns);
        assert!(second.wall_ns > 1_600_000_000 * SECOND);
    }
}
