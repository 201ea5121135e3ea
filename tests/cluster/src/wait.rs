//! Waiting for a condition, with a deadline and a reason: never a sleep that hopes.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Asks `condition` until it gives a value, and tells how long that took.
///
/// # Panics
/// At the deadline, with what was awaited.
pub fn until<T>(
    deadline: Duration,
    awaited: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    until_ok(deadline, awaited, || condition().ok_or(""))
}

/// As [`until`], for a condition that says why it does not hold.
///
/// # Panics
/// At the deadline, with what was awaited and the newest reason.
pub fn until_ok<T, E: Display>(
    deadline: Duration,
    awaited: &str,
    mut condition: impl FnMut() -> Result<T, E>,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        let reason = match condition() {
            Ok(value) => return (value, start.elapsed()),
            Err(reason) => reason,
        };
        let waited = start.elapsed();
        assert!(
            waited < deadline,
            "after {deadline:?} still no {awaited}: {reason}"
        );
        thread::sleep(POLL);
    }
}

/// The deadline of a test for something that is promised within `promised`: three times as long,
/// because the machines that run tests have their time stolen.
#[must_use]
pub fn patience(promised: Duration) -> Duration {
    promised * 3
}
