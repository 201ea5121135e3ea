//! `SimClock`: the two clocks of one host, derived from true time.
//!
//! The monotonic clock runs at its own rate (drift, within what the lease allows for) and never goes
//! back. The wall clock has an offset that jumps both ways, within the bound that messages between
//! replicas tolerate.

use quorate_protocol::time::Now;

use crate::random::Stream;

/// Nanoseconds since 1970 at the start of every run (in September 2020).
pub const EPOCH_NS: u64 = 1_600_000_000_000_000_000;

/// Clock of one host.
#[derive(Clone, Debug)]
pub struct SimClock {
    /// Monotonic time at true time 0: hosts were not started together.
    base_ns: u64,
    /// Gain of the monotonic clock per million of true time, around zero.
    drift_ppm: i64,
    /// Wall clock against true time.
    offset_ns: i64,
    offset_limit_ns: i64,
}

impl SimClock {
    /// Draws a clock with at most this drift and this offset.
    #[must_use]
    pub fn draw(stream: &mut Stream, drift_limit_ppm: u32, offset_limit_ns: u64) -> Self {
        let drift = i64::try_from(stream.below(u64::from(drift_limit_ppm) * 2 + 1))
            .expect("twice a u32 fits");
        let mut clock = Self {
            base_ns: stream.below(1 << 40),
            drift_ppm: drift - i64::from(drift_limit_ppm),
            offset_ns: 0,
            offset_limit_ns: i64::try_from(offset_limit_ns).expect("an offset of seconds"),
        };
        clock.jump(stream);
        clock
    }

    /// The clocks at a true time.
    #[must_use]
    pub fn now(&self, true_ns: u64) -> Now {
        Now {
            mono_ns: self.mono_ns(true_ns),
            wall_ns: (EPOCH_NS + true_ns)
                .checked_add_signed(self.offset_ns)
                .expect("offsets are seconds, the epoch is decades"),
        }
    }

    /// The earliest true time at which the monotonic clock shows at least `mono_ns`; `None` if that
    /// is centuries away.
    #[must_use]
    pub fn true_ns(&self, mono_ns: u64) -> Option<u64> {
        let passed = mono_ns.saturating_sub(self.base_ns);
        if passed > u64::MAX / 4 {
            return None;
        }
        let guess = u128::from(passed) * 1_000_000 / self.rate();
        let mut at = u64::try_from(guess).ok()?;
        while self.mono_ns(at) < mono_ns {
            at += 1;
        }
        Some(at)
    }

    /// Sets the wall clock to another offset within the limit, before or after the present one.
    pub fn jump(&mut self, stream: &mut Stream) {
        let span = u64::try_from(self.offset_limit_ns * 2).expect("limits are positive");
        let drawn = i64::try_from(stream.below(span + 1)).expect("spans are seconds");
        self.offset_ns = drawn - self.offset_limit_ns;
    }

    fn mono_ns(&self, true_ns: u64) -> u64 {
        let passed = u128::from(true_ns) * self.rate() / 1_000_000;
        self.base_ns + u64::try_from(passed).expect("runs last minutes")
    }

    fn rate(&self) -> u128 {
        u128::try_from(1_000_000 + self.drift_ppm).expect("drift is a few percent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Concern;

    #[test]
    fn deadlines_convert_back_to_the_first_instant_that_reaches_them() {
        let mut stream = Stream::new(3, Concern::Clock, 0);
        for _ in 0..200 {
            let clock = SimClock::draw(&mut stream, 20_000, 1_000_000_000);
            let deadline = clock.now(0).mono_ns + stream.below(1 << 36);
            let at = clock.true_ns(deadline).expect("near");
            assert!(clock.now(at).mono_ns >= deadline);
            assert!(at == 0 || clock.now(at - 1).mono_ns < deadline);
        }
    }

    #[test]
    fn the_far_future_has_no_instant() {
        let clock = SimClock::draw(&mut Stream::new(3, Concern::Clock, 0), 0, 0);
        assert_eq!(clock.true_ns(u64::MAX), None);
    }

    #[test]
    fn jumps_stay_within_the_limit_and_leave_the_monotonic_clock_alone() {
        let mut stream = Stream::new(4, Concern::Clock, 0);
        let mut clock = SimClock::draw(&mut stream, 100, 5_000);
        let before = clock.now(1_000_000);
        let mut walls = std::collections::BTreeSet::new();
        for _ in 0..100 {
            clock.jump(&mut stream);
            let now = clock.now(1_000_000);
            assert_eq!(now.mono_ns, before.mono_ns);
            let offset = now.wall_ns.abs_diff(EPOCH_NS + 1_000_000);
            assert!(offset <= 5_000);
            walls.insert(now.wall_ns);
        }
        assert!(walls.len() > 10, "it does jump");
    }
}
