//! When an open-loop generator means to send: fixed before the run, whatever the cluster does.
//!
//! Latency is counted from these times, so a cluster that stalls is charged for every request that
//! should have been sent meanwhile (Tene, "How NOT to measure latency": coordinated omission).

use rand::SeedableRng;
use rand_distr::{Distribution, Exp1};

use quorate_protocol::shard::map::splitmix64;

use crate::workload::Stream;

/// Tells the arrival stream of a seed from its payment streams.
const ARRIVALS: u64 = 0x6172_7269_7661_6c73;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// Independent of each other: exponential gaps.
    Poisson,
}

/// Intended send times in nanoseconds since the start, ascending.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    gap_ns: f64,
    next_ns: f64,
    stream: Stream,
}

impl Schedule {
    /// `rate` requests a second.
    ///
    /// # Panics
    /// If the rate is not positive and finite.
    #[must_use]
    pub fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        assert!(rate.is_finite() && rate > 0.0);
        Self {
            arrivals,
            gap_ns: 1e9 / rate,
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
        let gaps = match self.arrivals {
            Arrivals::Constant => 1.0,
            Arrivals::Poisson => Exp1.sample(&mut self.stream),
        };
        self.next_ns += self.gap_ns * gaps;
        Some(intended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(mut schedule: Schedule, end_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.due(end_ns)).collect()
    }

    #[test]
    fn constant_arrivals_do_not_drift() {
        let times = until(
            Schedule::new(Arrivals::Constant, 3_000.0, 1),
            10_000_000_000,
        );
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
        let mut schedule = Schedule::new(Arrivals::Constant, 100.0, 1);
        assert_eq!(schedule.due(0), Some(0));
        let late: Vec<u64> = std::iter::from_fn(|| schedule.due(1_000_000_000)).collect();
        assert_eq!(late.len(), 100);
        assert_eq!(late[0], 10_000_000);
        assert_eq!(schedule.peek(), 1_010_000_000);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let times = until(
            Schedule::new(Arrivals::Poisson, 1_000.0, 7),
            100_000_000_000,
        );
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
}
