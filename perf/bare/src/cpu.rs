//! CPU time of another process by thread, from /proc, and of the calling thread.
//!
//! `schedstat` has nanoseconds in all; `stat` has user and system apart, in ticks. So the ticks only say
//! how to divide the nanoseconds. What the kernel does for the process on threads of its own (the end of
//! a durable write, soft interrupts while another thread runs) is in neither.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// What one thread has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    cpu_ns: u64,
    user_ticks: u64,
    system_ticks: u64,
}

/// All threads of a process at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sample(BTreeMap<u32, Used>);

/// CPU time per record of a serving process. Its executor is the thread that used most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ServeCpu {
    pub executor_ns_per_record: f64,
    pub executor_user_ns_per_record: f64,
    pub executor_system_ns_per_record: f64,
    pub other_threads_ns_per_record: f64,
    /// Of one core.
    pub executor_share: f64,
}

impl Sample {
    /// Reads what the threads of `process` have used.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let tasks = format!("/proc/{process}/task");
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let path = entry?.path();
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            let read = |name: &str| fs::read_to_string(path.join(name));
            // A thread may end while this looks at it.
            if let (Ok(stat), Ok(schedstat)) = (read("stat"), read("schedstat")) {
                let used = used(&stat, &schedstat).with_context(|| format!("{tasks}/{id}"))?;
                threads.insert(id.parse()?, used);
            }
        }
        ensure!(!threads.is_empty(), "{tasks}: no thread");
        Ok(Self(threads))
    }

    /// What was used since `earlier`, per record.
    pub(crate) fn since(&self, earlier: &Self, records: u64, elapsed: Duration) -> ServeCpu {
        let spent = self.0.iter().map(|(id, now)| {
            let before = earlier.0.get(id).copied().unwrap_or_default();
            Used {
                cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
                user_ticks: now.user_ticks.saturating_sub(before.user_ticks),
                system_ticks: now.system_ticks.saturating_sub(before.system_ticks),
            }
        });
        let all_ns: u64 = spent.clone().map(|used| used.cpu_ns).sum();
        let executor = spent.max_by_key(|used| used.cpu_ns).unwrap_or_default();
        let per_record = |cpu_ns: u64| float(cpu_ns) / float(records.max(1));
        let ticks = executor.user_ticks + executor.system_ticks;
        let user_share = float(executor.user_ticks) / float(ticks.max(1));
        let in_all = per_record(executor.cpu_ns);
        ServeCpu {
            executor_ns_per_record: in_all,
            executor_user_ns_per_record: in_all * user_share,
            executor_system_ns_per_record: in_all * (1.0 - user_share),
            other_threads_ns_per_record: per_record(all_ns - executor.cpu_ns),
            executor_share: Duration::from_nanos(executor.cpu_ns).as_secs_f64()
                / elapsed.as_secs_f64(),
        }
    }
}

/// What the calling thread has used.
pub(crate) fn own() -> Duration {
    let used = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
    used.expect("CPU time is not negative")
}

/// Nearest floating-point number; figures here are below 2^53.
#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people has fewer digits"
)]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

fn used(stat: &str, schedstat: &str) -> anyhow::Result<Used> {
    // The name of a thread may hold spaces and parentheses: fields are counted behind the last one.
    let (_, fields) = stat.rsplit_once(')').context("a stat without a name")?;
    let mut ticks = fields.split_whitespace().skip(11);
    let mut tick = || ticks.next().and_then(|field| field.parse().ok());
    let cpu_ns = schedstat.split_whitespace().next();
    Ok(Used {
        cpu_ns: cpu_ns
            .and_then(|field| field.parse().ok())
            .context("no schedstat")?,
        user_ticks: tick().context("no user time")?,
        system_ticks: tick().context("no system time")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_have_any_name() {
        let stat = "17 (a) b (c) d) R 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        let expected = Used {
            cpu_ns: 3_000_000_123,
            user_ticks: 250,
            system_ticks: 50,
        };
        assert_eq!(used(stat, "3000000123 5 6\n").unwrap(), expected);
        assert!(used("17 (name) R 1 2", "3 5 6").is_err());
        assert!(used(stat, "").is_err());
    }

    #[test]
    fn the_executor_is_the_busiest_since_the_first_sample() {
        let thread = |cpu_ns, user_ticks, system_ticks| Used {
            cpu_ns,
            user_ticks,
            system_ticks,
        };
        let earlier = Sample([(1, thread(9_000, 9, 0)), (2, thread(100, 0, 0))].into());
        let threads = [
            (1, thread(9_100, 9, 0)),
            (2, thread(1_100, 3, 1)),
            (3, thread(50, 0, 0)),
        ];
        let cpu = Sample(threads.into()).since(&earlier, 10, Duration::from_nanos(2_000));
        let expected = ServeCpu {
            executor_ns_per_record: 100.0,
            executor_user_ns_per_record: 75.0,
            executor_system_ns_per_record: 25.0,
            other_threads_ns_per_record: 15.0,
            executor_share: 0.5,
        };
        assert_eq!(cpu, expected);
    }

    #[test]
    fn this_process_uses_time() {
        let before = (Sample::of(std::process::id()).unwrap(), own());
        while own() < before.1 + Duration::from_millis(20) {}
        let after = Sample::of(std::process::id()).unwrap();
        let cpu = after.since(&before.0, 1, Duration::from_secs(1));
        assert!(cpu.executor_ns_per_record > 10e6, "{cpu:?}");
    }
}
