//! How long requests take at their leader, from arrival to reply. Volatile.
//!
//! What slows the clients down is seen here by whoever has to give way to them: a tool that moves accounts. Buckets are an
//! eighth of a power of two wide, so a quantile is right to 12.5 %.

use crate::client::RequestLatency;
use crate::time::SECOND;

/// Of powers of two from a microsecond to a minute, and more.
const OCTAVES: usize = 27;
const LEAST_LOG2: u32 = 10;
const BUCKETS: usize = OCTAVES * 8;
/// A span of time that is told about.
const SPAN_NS: u64 = SECOND;

/// Requests of the present span, and what the last one was like.
#[derive(Debug)]
pub(crate) struct Latencies {
    counts: [u32; BUCKETS],
    requests: u32,
    began_ns: u64,
    last: RequestLatency,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            requests: 0,
            began_ns: 0,
            last: RequestLatency::default(),
        }
    }
}

impl Latencies {
    pub fn record(&mut self, ns: u64) {
        let bucket = &mut self.counts[bucket(ns)];
        *bucket = bucket.saturating_add(1);
        self.requests += 1;
    }

    /// Ends the span if it is over.
    pub fn tick(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.began_ns) < SPAN_NS {
            return;
        }
        self.last = RequestLatency {
            requests: self.requests,
            p50_us: self.quantile_us(500),
            p99_us: self.quantile_us(990),
        };
        self.counts = [0; BUCKETS];
        self.requests = 0;
        self.began_ns = now_ns;
    }

    /// Of the last span that is over.
    pub fn last(&self) -> RequestLatency {
        self.last
    }

    fn quantile_us(&self, per_mille: u64) -> u32 {
        let rank = (u64::from(self.requests) * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|&count| {
            seen += u64::from(count);
            seen >= rank
        });
        let us = found.map_or(0, upper_ns).div_ceil(1_000);
        u32::try_from(us).unwrap_or(u32::MAX)
    }
}

fn bucket(ns: u64) -> usize {
    let log2 = ns.max(1 << LEAST_LOG2).ilog2();
    let eighth = (ns.max(1 << LEAST_LOG2) >> (log2 - 3)) & 7;
    let octave = usize::try_from(log2 - LEAST_LOG2).expect("a u32 fits");
    let eighth = usize::try_from(eighth).expect("below 8");
    (octave * 8 + eighth).min(BUCKETS - 1)
}

/// The end of a bucket.
fn upper_ns(bucket: usize) -> u64 {
    let number = u64::try_from(bucket).expect("few") + 1;
    (8 + number % 8) << (u64::from(LEAST_LOG2) - 3 + number / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_above_what_is_in_it_by_an_eighth_at_most() {
        for ns in (0..3_000).chain((10..37).flat_map(|log2| {
            let around = 1_u64 << log2;
            [around - 1, around, around + 1, around + around / 3]
        })) {
            let upper = upper_ns(bucket(ns));
            assert!(upper > ns, "{ns} {upper}");
            assert!(upper <= (ns + ns / 8 + 1).max(1024 + 128), "{ns} {upper}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_last_span() {
        let mut latencies = Latencies::default();
        for request in 1..=100 {
            latencies.record(request * 100_000);
        }
        latencies.tick(SPAN_NS);
        let last = latencies.last();
        assert_eq!(last.requests, 100);
        assert!((5_000..5_700).contains(&last.p50_us), "{last:?}");
        assert!((9_900..11_200).contains(&last.p99_us), "{last:?}");
        latencies.tick(2 * SPAN_NS);
        assert_eq!(latencies.last(), RequestLatency::default());
    }
}
