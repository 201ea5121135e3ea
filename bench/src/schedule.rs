//! When an open-loop generator means to send: fixed before the run, whatever the cluster does.
//!
//! Latency is counted from these times, so a cluster that stalls is charged for every request that
//! should have been sent meanwhile (Tene, "How NOT to measure latency": coordinated omission).

use std::time::Duration;

use rand::SeedableRng;
use rand_distr::{Distribution, Exp1};

use quorate_protocol::shard::map::splitmix64;

use crate::workload::Stream;

/// Tells the arrival stream of a seed from its payment streams.
const ARRIVALS: u64 = 0x6172_7269_7661_6c73;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// Independent of each other: exponential gaps.
    Poisson,
    /// At `from` a second while warming up, then ever faster or slower, evenly, up to the rate at the end.
    Ramp { from: f64 },
}

impl Arrivals {
    /// The name as it is typed and reported.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Poisson => "poisson",
            Self::Ramp { .. } => "ramp",
        }
    }

    /// Where a ramp begins.
    #[must_use]
    pub fn rate_from(self) -> Option<f64> {
        match self {
            Self::Ramp { from } => Some(from),
            Self::Constant | Self::Poisson => None,
        }
    }
}

/// Intended send times in nanoseconds since the start, ascending.
#[derive(Debug)]
pub struct Schedule {
    course: Course,
    next_ns: f64,
    stream: Stream,
}

/// How one intended time follows from the last.
#[derive(Debug)]
enum Course {
    Even { gap_ns: f64 },
    Poisson { mean_gap_ns: f64 },
    Ramp(Ramp),
}

/// Rates in requests per nanosecond, times in nanoseconds.
#[derive(Debug)]
struct Ramp {
    from: f64,
    to: f64,
    begin: f64,
    length: f64,
    /// Number of the next request.
    number: f64,
}

impl Ramp {
    /// When the next request is due: computed from its number, so that errors do not add up.
    fn next(&mut self) -> f64 {
        let number = self.number;
        self.number += 1.0;
        let before = self.from * self.begin;
        if number < before {
            return number / self.from;
        }
        // The requests of a ramp up to t are from * t + slope * t^2 / 2.
        let (number, slope) = (number - before, (self.to - self.from) / self.length);
        let on_ramp = self.length * (self.from + self.to) / 2.0;
        let after = if number < on_ramp {
            let root = (self.from * self.from + 2.0 * slope * number)
                .max(0.0)
                .sqrt();
            2.0 * number / (self.from + root)
        } else {
            self.length + (number - on_ramp) / self.to
        };
        self.begin + after
    }
}

impl Schedule {
    /// `rate` requests a second. A ramp leaves its first rate at the end of `warmup` and has the second
    /// `length` later.
    ///
    /// # Panics
    /// If a rate, or the length of a ramp, is not positive and finite.
    #[must_use]
    pub fn new(
        arrivals: Arrivals,
        rate: f64,
        warmup: Duration,
        length: Duration,
        seed: u64,
    ) -> Self {
        let is_rate = |rate: f64| rate.is_finite() && rate > 0.0;
        assert!(is_rate(rate));
        let course = match arrivals {
            Arrivals::Constant => Course::Even { gap_ns: 1e9 / rate },
            Arrivals::Poisson => Course::Poisson {
                mean_gap_ns: 1e9 / rate,
            },
            Arrivals::Ramp { from } => {
                assert!(is_rate(from) && !length.is_zero());
                Course::Ramp(Ramp {
                    from: from / 1e9,
                    to: rate / 1e9,
                    begin: warmup.as_secs_f64() * 1e9,
                    length: length.as_secs_f64() * 1e9,
                    number: 1.0,
                })
            }
        };
        Self {
            course,
            next_ns: 0.0,
            stream: Stream::seed_from_u64(splitmix64(seed) ^ ARRIVALS),
        }
    }

    /// The next intended time, left in place.
    #[must_use]
    pub fn peek(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and below 2^53 for a hundred days of nanoseconds"
        )]
        let next = self.next_ns as u64;
        next
    }

    /// Takes the next intended time if it is not after `now_ns`.
    pub fn due(&mut self, now_ns: u64) -> Option<u64> {
        let intended = self.peek();
        if intended > now_ns {
            return None;
        }
        self.next_ns = match &mut self.course {
            Course::Even { gap_ns } => self.next_ns + *gap_ns,
            Course::Poisson { mean_gap_ns } => {
                let gap: f64 = Exp1.sample(&mut self.stream);
                self.next_ns + *mean_gap_ns * gap
            }
            Course::Ramp(ramp) => ramp.next(),
        };
        Some(intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule(arrivals: Arrivals, rate: f64, seed: u64) -> Schedule {
        Schedule::new(arrivals, rate, SECOND, 10 * SECOND, seed)
    }

    fn until(mut schedule: Schedule, end_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.due(end_ns)).collect()
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        let times = until(schedule(Arrivals::Constant, 3_000.0, 1), 10_000_000_000);
        assert_eq!(times.len(), 30_001);
        for (n, time) in (0_u64..).zip(&times) {
            assert!(
                time.abs_diff(n * 1_000_000 / 3) <= 1,
                "arrival {n} at {time}"
            );
        }
    }

    /// The point of an open loop: a generator that was held up for a second still owes every
    /// arrival of that second, with its own time.
    #[test]
    fn a_late_generator_gets_the_arrivals_it_missed_with_their_times() {
        let mut schedule = schedule(Arrivals::Constant, 100.0, 1);
        assert_eq!(schedule.due(0), Some(0));
        let late: Vec<u64> = std::iter::from_fn(|| schedule.due(1_000_000_000)).collect();
        assert_eq!(late.len(), 100);
        assert_eq!(late[0], 10_000_000);
        assert_eq!(schedule.peek(), 1_010_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let times = until(schedule(Arrivals::Poisson, 1_000.0, 7), 100_000_000_000);
        // Mean 100,000, standard deviation 316.
        assert!((98_500..101_500).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64 / 1e6)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential: the variance is the square of the mean (1 ms).
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    /// One second of warm-up at the first rate, ten in which it changes evenly, the second rate behind.
    #[test]
    fn a_ramp_has_its_rate_at_every_time_up_and_down() {
        for (from, to) in [(100.0, 1_100.0), (1_100.0, 100.0), (500.0, 500.0)] {
            let times = until(schedule(Arrivals::Ramp { from }, to, 1), 12_000_000_000);
            assert!(times.is_sorted());
            for second in 0..12_u32 {
                let range =
                    u64::from(second) * 1_000_000_000..u64::from(second + 1) * 1_000_000_000;
                let found = times.iter().filter(|time| range.contains(time)).count();
                // The rate in the middle of a second is its mean.
                let on_ramp = (f64::from(second) - 0.5).clamp(0.0, 10.0);
                let expected = match second {
                    11 => to,
                    _ => from + (to - from) * on_ramp / 10.0,
                };
                let expected = if second == 0 { from } else { expected };
                let error = (found as f64 - expected).abs();
                assert!(error <= 1.5, "{from} to {to}, second {second}: {found}");
            }
        }
    }
}
