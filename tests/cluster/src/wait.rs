//! Waiting for a condition, with a deadline and a reason: never a sleep that hopes.

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
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return (value, start.elapsed());
        }
        assert!(
            start.elapsed() < deadline,
            "after {deadline:?} still no {awaited}"
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
