//! How fast accounts are moved: slower while clients suffer, faster again while they do not.
//!
//! ```text
//! p99 now / p99 before    pause between the batches of a source
//!        above 1.75       doubled, from 20 ms on, up to 2 s
//!        below 1.25       halved, down to none
//! ```
//! Twice the latency is what a move may cost, so it is slowed before that. Additive steps would take minutes to get out of
//! the way of a load that has doubled; with these it takes three seconds.

use std::time::Duration;

use quorate_protocol::client::RequestLatency;

const SLOWER_ABOVE: (u64, u64) = (7, 4);
const FASTER_BELOW: (u64, u64) = (5, 4);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pause between batches, as it has turned out so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Highest 99th percentile of the leaders before anything moved; 0: there was no load to suffer.
    p99_before_us: u64,
    p99_now_us: u64,
    pause: Duration,
}

impl Pace {
    /// From what the leaders say before the first batch.
    #[must_use]
    pub fn new(leaders: &[RequestLatency]) -> Self {
        Self {
            p99_before_us: highest(leaders),
            ..Self::default()
        }
    }

    /// From what a driver before this one has found out.
    #[must_use]
    pub fn resumed(p99_before_us: u64, pause: Duration) -> Self {
        Self {
            p99_before_us,
            p99_now_us: 0,
            pause: pause.min(PAUSE_MAX),
        }
    }

    /// The leaders say how it is now.
    pub fn observe(&mut self, leaders: &[RequestLatency]) {
        self.p99_now_us = highest(leaders);
        // A load that begins while accounts move is measured by its own first second.
        if self.p99_before_us == 0 {
            self.p99_before_us = self.p99_now_us;
        }
        let above = |(times, of): (u64, u64)| {
            self.p99_now_us.saturating_mul(of) > self.p99_before_us.saturating_mul(times)
        };
        if self.p99_before_us == 0 || self.p99_now_us == 0 || !above(FASTER_BELOW) {
            self.pause /= 2;
            if self.pause < PAUSE_MIN {
                self.pause = Duration::ZERO;
            }
        } else if above(SLOWER_ABOVE) {
            self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        }
    }

    /// Between two batches of one source.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// The highest 99th percentile in microseconds, (before, now); 0: there was no load.
    #[must_use]
    pub fn p99_us(&self) -> (u64, u64) {
        (self.p99_before_us, self.p99_now_us)
    }
}

fn highest(leaders: &[RequestLatency]) -> u64 {
    let loaded = leaders.iter().filter(|latency| latency.requests > 0);
    loaded
        .map(|latency| u64::from(latency.p99_us))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaders(p99_ms: &[u32]) -> Vec<RequestLatency> {
        let latency = |&ms: &u32| RequestLatency {
            requests: u32::from(ms > 0),
            p50_us: 0,
            p99_us: ms * 1_000,
        };
        p99_ms.iter().map(latency).collect()
    }

    #[test]
    fn it_gives_way_quickly_and_comes_back() {
        let mut pace = Pace::new(&leaders(&[5, 10, 0]));
        let mut pauses = Vec::new();
        for p99 in [12, 18, 20, 30, 15, 12, 9, 8, 7] {
            pace.observe(&leaders(&[p99, 1]));
            pauses.push(pace.pause().as_millis());
        }
        assert_eq!(pauses, [0, 20, 40, 80, 80, 40, 20, 0, 0]);
        for _ in 0..20 {
            pace.observe(&leaders(&[1_000]));
        }
        assert_eq!(pace.pause(), PAUSE_MAX);
    }

    #[test]
    fn without_load_nobody_suffers() {
        let mut idle = Pace::new(&leaders(&[0, 0]));
        idle.observe(&leaders(&[0]));
        assert_eq!(idle.pause(), Duration::ZERO);
        idle.observe(&leaders(&[50]));
        assert_eq!(
            (idle.pause(), idle.p99_us()),
            (Duration::ZERO, (50_000, 50_000))
        );
        idle.observe(&leaders(&[100]));
        assert_eq!(idle.pause(), PAUSE_MIN);
        let mut resumed = Pace::resumed(10_000, Duration::from_millis(40));
        resumed.observe(&leaders(&[0]));
        assert_eq!(resumed.pause(), Duration::from_millis(20));
    }
}
