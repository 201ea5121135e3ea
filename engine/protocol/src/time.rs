//! Time as an argument. This crate never reads a clock: the shell (or the simulator) makes a `Now`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;
/// One second in nanoseconds.
pub const SECOND: u64 = 1_000 * MS;

/// The two clocks at the moment of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds that go on while the host sleeps (CLOCK_BOOTTIME). Timeouts and leases
    /// use only this one.
    pub mono_ns: u64,
    /// Nanoseconds since 1970 (CLOCK_REALTIME). Only timestamps use it, merged so that they never
    /// go back.
    pub wall_ns: u64,
}

/// Hybrid timestamp: nanoseconds since 1970, monotone per shard, merged from every message.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before everything.
    pub const ZERO: Self = Self(0);
}

/// The hybrid clock of one replica: `max(physical, last + 1, what messages brought)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: Timestamp,
}

impl HybridClock {
    /// The newest timestamp seen or given out.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Takes over a timestamp of an applied or re-proposed entry: never refused.
    pub fn observe(&mut self, seen: Timestamp) {
        self.last = self.last.max(seen);
    }

    /// Merges the clock of a message. Returns false, and merges nothing, if it lies more than
    /// `ahead_max_ns` ahead of the physical clock.
    #[must_use]
    pub fn merge(&mut self, now: Now, seen: Timestamp, ahead_max_ns: u64) -> bool {
        if seen.0 > now.wall_ns.saturating_add(ahead_max_ns) {
            return false;
        }
        self.observe(seen);
        true
    }

    /// A new timestamp, above all earlier ones.
    #[must_use]
    pub fn stamp(&mut self, now: Now) -> Timestamp {
        let next = self
            .last
            .0
            .checked_add(1)
            .expect("nanoseconds fit 64 bits until 2554");
        self.last = Timestamp(next.max(now.wall_ns));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_while_the_physical_clock_goes_back() {
        let mut clock = HybridClock::default();
        let first = clock.stamp(Now {
            mono_ns: 0,
            wall_ns: 500,
        });
        let second = clock.stamp(Now {
            mono_ns: 1,
            wall_ns: 100,
        });
        assert_eq!(first, Timestamp(500));
        assert_eq!(second, Timestamp(501));
    }

    #[test]
    fn a_clock_too_far_ahead_is_refused_and_leaves_no_trace() {
        let mut clock = HybridClock::default();
        let now = Now {
            mono_ns: 0,
            wall_ns: 100,
        };
        assert!(!clock.merge(now, Timestamp(111), 10));
        assert!(clock.merge(now, Timestamp(110), 10));
        assert_eq!(clock.stamp(now), Timestamp(111));
    }
}
