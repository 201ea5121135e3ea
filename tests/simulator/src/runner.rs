//! Runs many seeds, on several threads, and survives the death of any of them.
//!
//! An assertion of the core is a finding like any other. It cannot be caught by unwinding, because
//! release builds abort on panic; so the panic hook itself reports the seed and then never returns,
//! and another thread takes over the remaining seeds.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Once};

use serde_json::{Value, json};

use crate::counters::Counters;
use crate::outcome::Outcome;
use crate::parameters::Parameters;
use crate::phases;
use crate::trace::Trace;

/// How one seed ended.
#[derive(Clone, Debug)]
pub enum SeedResult {
    Finished(Box<Outcome>),
    /// The core, the storage or the simulator panicked.
    Panicked {
        seed: u64,
        message: String,
    },
}

impl SeedResult {
    /// Its seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        match self {
            Self::Finished(outcome) => outcome.parameters.seed,
            Self::Panicked { seed, .. } => *seed,
        }
    }

    /// What went wrong, if anything did.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Finished(outcome) => {
                let violations = outcome.violations.iter();
                violations.map(ToString::to_string).collect()
            }
            Self::Panicked { message, .. } => vec![format!("panic: {message}")],
        }
    }
}

/// Everything about a range of seeds.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub seeds: u64,
    /// Seeds with a violation, ascending.
    pub failed: Vec<u64>,
    pub simulated_ns: u64,
    pub committed: u64,
    pub sent: u64,
    pub reads: u64,
    pub events: u64,
    pub faults: Counters,
    pub rare_events: Counters,
}

impl Summary {
    /// Adds a seed.
    pub fn add(&mut self, result: &SeedResult) {
        self.seeds += 1;
        if !result.problems().is_empty() {
            let at = self.failed.partition_point(|seed| *seed < result.seed());
            self.failed.insert(at, result.seed());
        }
        if let SeedResult::Finished(outcome) = result {
            self.simulated_ns += outcome.simulated_ns;
            self.committed += outcome.committed;
            self.sent += outcome.sent;
            self.reads += outcome.reads;
            self.events += outcome.events;
            self.faults.merge(&outcome.faults);
            self.rare_events.merge(&outcome.rare_events);
        }
    }

    /// Rare events that no seed has visited.
    #[must_use]
    pub fn rare_missing(&self) -> Vec<&'static str> {
        let never = self.rare_events.iter().filter(|(_, count)| *count == 0);
        never.map(|(name, _)| name).collect()
    }

    /// The document of `sim --json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let counts = |counters: &Counters| -> Value {
            let pairs = counters.iter();
            Value::Object(pairs.map(|(k, n)| (k.to_owned(), json!(n))).collect())
        };
        json!({
            "seeds": self.seeds,
            "failed": self.failed,
            "simulated_seconds": self.simulated_ns / 1_000_000_000,
            "committed": self.committed,
            "sent": self.sent,
            "reads": self.reads,
            "events": self.events,
            "faults": counts(&self.faults),
            "rare_events": counts(&self.rare_events),
            "rare_events_missing": self.rare_missing(),
        })
    }
}

thread_local! {
    /// The seed that this thread runs, and who wants to know if it panics.
    static RUNNING: RefCell<Option<(u64, Sender<SeedResult>)>> = const { RefCell::new(None) };
}

/// Runs one seed on this thread. A panic is the caller's.
#[must_use]
pub fn run_seed(seed: u64, trace: Trace) -> Outcome {
    phases::run(Parameters::draw(seed), trace)
}

/// Runs seeds on `jobs` threads; results come in any order.
pub fn run_seeds(seeds: Range<u64>, jobs: usize, mut on_result: impl FnMut(SeedResult)) {
    run_seeds_until(seeds, jobs, |result| {
        on_result(result);
        ControlFlow::Continue(())
    });
}

/// As [`run_seeds`], but begins no further seed once `on_result` breaks. Those that have begun, every
/// lower one among them, are waited for.
pub fn run_seeds_until(
    seeds: Range<u64>,
    jobs: usize,
    mut on_result: impl FnMut(SeedResult) -> ControlFlow<()>,
) {
    install_hook();
    let mut expected = seeds.end.saturating_sub(seeds.start);
    let next = Arc::new(AtomicU64::new(seeds.start));
    let (sender, results): (Sender<SeedResult>, Receiver<SeedResult>) = channel();
    for _ in 0..jobs.max(1) {
        spawn_worker(&next, seeds.end, &sender);
    }
    let mut received = 0;
    while received < expected {
        let result = results.recv().expect("this function holds a sender");
        received += 1;
        let panicked = matches!(result, SeedResult::Panicked { .. });
        if on_result(result).is_break() {
            let begun = next.swap(seeds.end, Ordering::Relaxed).min(seeds.end);
            expected = expected.min(begun - seeds.start);
        } else if panicked {
            spawn_worker(&next, seeds.end, &sender);
        }
    }
}

fn spawn_worker(next: &Arc<AtomicU64>, end: u64, sender: &Sender<SeedResult>) {
    let (next, sender) = (Arc::clone(next), sender.clone());
    // The thread is not joined: if its seed panics, it never ends.
    std::thread::spawn(move || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            RUNNING.with_borrow_mut(|running| *running = Some((seed, sender.clone())));
            let outcome = run_seed(seed, Trace::default());
            RUNNING.with_borrow_mut(|running| *running = None);
            let result = SeedResult::Finished(Box::new(outcome));
            if sender.send(result).is_err() {
                return;
            }
        }
    });
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let running = RUNNING.with_borrow_mut(Option::take);
            let Some((seed, sender)) = running else {
                return earlier(panic);
            };
            let message = message_of(panic);
            let reported = sender.send(SeedResult::Panicked { seed, message });
            if reported.is_err() {
                return earlier(panic);
            }
            loop {
                std::thread::park();
            }
        }));
    });
}

fn message_of(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    // In one line with the place, which tells whose assertion it was.
    let text = text.replace('\n', ",");
    let place = panic
        .location()
        .map_or_else(String::new, |place| format!(" at {place}"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        format!("{text}{place}\n{backtrace}")
    } else {
        format!("{text}{place}")
    }
}
