//! A closed loop of clients, one thread and connection each, and what they measured.
//!
//! Counted like `quorate-bench`: by the time at which a transfer was sent, and then whatever
//! becomes of it; the measured time ends with the last commit if that is after the end of sending.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;

use crate::payments::{Payment, Work};

/// Longest latency that is told apart: five minutes, as in quorate-bench.
const LATENCY_NS_MAX: u64 = 300_000_000_000;

/// The final outcome of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Committed,
    /// The debit account had too little.
    ExceedsCredits,
}

/// One connection that carries out transfers.
pub trait Bank: Send {
    /// Carries out one transfer; durable when it returns.
    ///
    /// # Errors
    /// The system failed; an outcome of the transfer is no error.
    fn transfer(&mut self, payment: &Payment) -> anyhow::Result<Outcome>;

    /// Attempts so far that lost against another client and were made again.
    fn retried(&self) -> u64;
}

/// What a run measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Nanoseconds of committed transfers.
    pub latency: Histogram<u64>,
    pub exceeds_credits: u64,
    /// From the end of the warm-up to the end of sending, or to the last commit if that was later.
    pub measured: Duration,
    /// Every commit, those of the warm-up included: what the final state has to hold.
    pub committed_ever: u64,
    /// Over the whole run, the warm-up included.
    pub retried: u64,
}

impl Measured {
    /// Transfers that count.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.latency.len()
    }

    /// Counts of refusals by name, as in the documents of quorate-bench.
    #[must_use]
    pub fn rejected(&self) -> BTreeMap<&'static str, u64> {
        let refused = self.exceeds_credits;
        (refused > 0)
            .then_some(("exceeds_credits", refused))
            .into_iter()
            .collect()
    }

    fn nothing(measured: Duration) -> Self {
        Self {
            latency: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
                .expect("bounds and digits are in range"),
            exceeds_credits: 0,
            measured,
            committed_ever: 0,
            retried: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("histograms of the same bounds");
        self.exceeds_credits += other.exceeds_credits;
        self.measured = self.measured.max(other.measured);
        self.committed_ever += other.committed_ever;
        self.retried += other.retried;
    }
}

/// Runs `work` on `banks`, one client each. All of them are closed when it returns.
///
/// # Errors
/// The first failure of a bank; it ends the run for all.
pub fn drive<B: Bank>(
    banks: Vec<B>,
    work: &Work,
    warmup: Duration,
    measured: Duration,
) -> anyhow::Result<Measured> {
    assert!(!banks.is_empty(), "a load needs clients");
    let failed = AtomicBool::new(false);
    let span = Span {
        start: Instant::now(),
        warmup,
        measured,
    };
    let results: Vec<anyhow::Result<Measured>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..)
            .zip(banks)
            .map(|(client, bank)| {
                let (failed, span) = (&failed, &span);
                scope.spawn(move || {
                    let result = closed_loop(bank, work, client, span, failed);
                    if result.is_err() {
                        failed.store(true, Ordering::Relaxed);
                    }
                    result.with_context(|| format!("client {client}"))
                })
            })
            .collect();
        let join = |client: thread::ScopedJoinHandle<'_, _>| {
            client.join().expect("a client does not panic")
        };
        clients.into_iter().map(join).collect()
    });
    let mut total = Measured::nothing(measured);
    for result in results {
        total.add(&result?);
    }
    Ok(total)
}

/// When a run starts, measures and ends.
struct Span {
    start: Instant,
    warmup: Duration,
    measured: Duration,
}

fn closed_loop<B: Bank>(
    mut bank: B,
    work: &Work,
    client: u32,
    span: &Span,
    failed: &AtomicBool,
) -> anyhow::Result<Measured> {
    let mut result = Measured::nothing(span.measured);
    for payment in work.payments(client) {
        let sent = span.start.elapsed();
        if sent >= span.warmup + span.measured || failed.load(Ordering::Relaxed) {
            break;
        }
        let outcome = bank.transfer(&payment)?;
        let answered = span.start.elapsed();
        let counts = sent >= span.warmup;
        match outcome {
            Outcome::Committed => {
                result.committed_ever += 1;
                if counts {
                    let latency_ns = (answered - sent).as_nanos();
                    let latency_ns = u64::try_from(latency_ns).unwrap_or(u64::MAX);
                    result.latency.saturating_record(latency_ns);
                    result.measured = result.measured.max(answered - span.warmup);
                }
            }
            Outcome::ExceedsCredits => result.exceeds_credits += u64::from(counts),
        }
    }
    result.retried = bank.retried();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::Kind;
    use anyhow::bail;

    const WORK: Work = Work {
        kind: Kind::Local,
        accounts: 100,
        seed: 1,
    };

    /// Answers after a fixed time; refuses or fails where it is told to.
    struct Fake {
        time: Duration,
        transfers: u64,
        refuse_every: u64,
        fail_after: u64,
    }

    impl Bank for Fake {
        fn transfer(&mut self, _: &Payment) -> anyhow::Result<Outcome> {
            self.transfers += 1;
            if self.transfers > self.fail_after {
                bail!("the disk is gone");
            }
            let begun = Instant::now();
            while begun.elapsed() < self.time {
                thread::yield_now();
            }
            Ok(if self.transfers.is_multiple_of(self.refuse_every) {
                Outcome::ExceedsCredits
            } else {
                Outcome::Committed
            })
        }

        fn retried(&self) -> u64 {
            2
        }
    }

    fn fakes(clients: usize, fail_after: u64) -> Vec<Fake> {
        let fake = |_| Fake {
            time: Duration::from_micros(200),
            transfers: 0,
            refuse_every: 4,
            fail_after,
        };
        (0..clients).map(fake).collect()
    }

    #[test]
    fn what_was_sent_in_the_warm_up_is_not_counted_but_remembered() {
        let half = Duration::from_millis(150);
        let measured = drive(fakes(2, u64::MAX), &WORK, half, half).expect("a run");
        assert!(measured.committed() > 0 && measured.exceeds_credits > 0);
        assert!(measured.committed_ever > measured.committed());
        assert!(measured.measured >= half);
        assert!(
            measured.latency.min() >= 199_000,
            "{:?}",
            measured.latency.min()
        );
        assert_eq!(measured.retried, 4);
        assert_eq!(
            measured.rejected()["exceeds_credits"],
            measured.exceeds_credits
        );
    }

    #[test]
    fn the_failure_of_one_client_ends_the_run() {
        let hour = Duration::from_secs(3_600);
        let error = drive(fakes(3, 20), &WORK, Duration::ZERO, hour).expect_err("a failure");
        assert!(
            format!("{error:#}").contains("the disk is gone"),
            "{error:#}"
        );
    }
}
