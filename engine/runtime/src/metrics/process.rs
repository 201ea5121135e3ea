//! What the kernel knows of this process.

use std::fs;
use std::io;

use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};

/// Figures of the whole process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    pub(crate) resident_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) cpu_seconds: f64,
}

impl Process {
    /// As it is now (proc(5): statm counts pages, fd has an entry for each descriptor).
    pub(crate) fn look() -> io::Result<Self> {
        let statm = fs::read_to_string("/proc/self/statm")?;
        let pages: u64 = statm
            .split_ascii_whitespace()
            .nth(1)
            .and_then(|pages| pages.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let page = u64::try_from(page_size()).unwrap_or(u64::MAX);
        // The directory that is read is one of them, and is closed again.
        let open = fs::read_dir("/proc/self/fd")?.count().saturating_sub(1);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Ok(Self {
            resident_bytes: pages * page,
            open_files: u64::try_from(open).unwrap_or(u64::MAX),
            cpu_seconds: seconds(cpu.tv_sec, cpu.tv_nsec),
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a process lives for less than 2^53 seconds"
)]
fn seconds(seconds: i64, nanoseconds: i64) -> f64 {
    seconds as f64 + nanoseconds as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_of_this_test_has_memory_and_descriptors_and_takes_time() {
        let before = Process::look().unwrap();
        assert!(before.resident_bytes > 1 << 20, "{before:?}");
        let kept: Vec<fs::File> = (0..5)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let after = Process::look().unwrap();
        // Other tests open and close theirs meanwhile.
        assert!(after.open_files >= 5, "{after:?}");
        assert!(after.cpu_seconds > before.cpu_seconds);
        drop(kept);
    }
}
