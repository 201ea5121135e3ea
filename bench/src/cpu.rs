//! How busy the generator's thread was while it measured.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The calling thread's share of one core between two times; sampled now and then.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuShare {
    first: Option<(u64, Duration)>,
    share: f64,
}

impl CpuShare {
    /// Takes a sample at `now_ns` if that lies within `from_ns..=end_ns`.
    pub fn sample(&mut self, now_ns: u64, from_ns: u64, end_ns: u64) {
        if now_ns < from_ns || now_ns > end_ns {
            return;
        }
        let used = Duration::try_from(clock_gettime(ClockId::ThreadCPUTime));
        let used = used.expect("CPU time is not negative");
        match self.first {
            None => self.first = Some((now_ns, used)),
            Some((start_ns, start_used)) if now_ns > start_ns => {
                let elapsed = Duration::from_nanos(now_ns - start_ns);
                self.share = (used - start_used).as_secs_f64() / elapsed.as_secs_f64();
            }
            Some(_) => {}
        }
    }

    /// From the first sample to the last; 0 with fewer than two.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_busy_thread_uses_more_of_a_core_than_one_that_waits() {
        let share = |work: fn()| {
            let (start, mut cpu) = (Instant::now(), CpuShare::default());
            let now = |start: Instant| u64::try_from(start.elapsed().as_nanos()).unwrap();
            cpu.sample(now(start), 0, u64::MAX);
            work();
            cpu.sample(now(start), 0, u64::MAX);
            cpu.share()
        };
        let busy = share(|| {
            let until = Instant::now() + Duration::from_millis(50);
            while Instant::now() < until {}
        });
        let idle = share(|| std::thread::park_timeout(Duration::from_millis(50)));
        assert!(busy > idle, "{busy} busy, {idle} idle");
        assert!(idle < 0.2, "{idle}");
    }

    #[test]
    fn samples_outside_of_the_measured_time_do_not_count() {
        let mut cpu = CpuShare::default();
        cpu.sample(5, 10, 20);
        cpu.sample(30, 10, 20);
        assert!(cpu.first.is_none());
    }
}
