//! Reads what the host says of itself. Decides nothing.

use std::env;
use std::fs;
use std::io::Read;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use quorate_config::{ClusterConfig, NodeConfig};
use quorate_runtime::HostLimits;
use quorate_storage::superblock::FILE_NAME;
use rustix::system::uname;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::TRY_RING;
use super::host::{ClockState, HostFacts, Ring};
use crate::node_process::POLL;

/// How long another program may take to say something.
const PROGRAM_WITHIN: Duration = Duration::from_secs(3);
/// What another program prints of interest, at most.
const PRINTED_MAX: u64 = 4096;

/// Looks at the host; `named` are CPUs that a topology names.
///
/// Raises this process's limits on the way, as a node does: what can be raised is there.
#[must_use]
pub fn host(named: &[usize]) -> HostFacts {
    let limits = HostLimits::raise();
    HostFacts {
        kernel: uname().release().to_string_lossy().into_owned(),
        io_uring_disabled: io_uring_disabled(),
        ring: ring(),
        limits,
        clock: clock(),
        cpus: cpus(named),
    }
}

/// Whether an address is this host's: a socket can be bound to it.
#[must_use]
pub fn is_here(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// How many of a node's replicas have not been formatted yet.
#[must_use]
pub fn unformatted(config: &ClusterConfig, node: &NodeConfig) -> usize {
    let hosted = config.replicas_of(node.id).into_iter();
    hosted
        .filter(|&replica| !config.data_dir_of(replica).join(FILE_NAME).exists())
        .count()
}

fn io_uring_disabled() -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

/// Tries in a process of its own, since glommio panics, or ends its process, where it is refused.
fn ring() -> Ring {
    let Ok(own) = env::current_exe() else {
        return Ring::Untried;
    };
    let mut command = Command::new(own);
    match printed(command.args(["doctor", TRY_RING]), PROGRAM_WITHIN) {
        Ended::Well(_) => Ring::Made,
        Ended::Badly => Ring::Refused,
        Ended::NotAtAll => Ring::Untried,
    }
}

/// The kernel knows, but tells only through adjtimex(2), which no safe library here has; timedatectl asks it.
fn clock() -> ClockState {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return ClockState::Synchronised;
    }
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    match printed(&mut command, PROGRAM_WITHIN) {
        Ended::Well(text) if text.trim() == "yes" => ClockState::Synchronised,
        Ended::Well(text) if text.trim() == "no" => ClockState::NotSynchronised,
        Ended::Well(_) | Ended::Badly | Ended::NotAtAll => ClockState::Unknown,
    }
}

/// CPUs of this process's mask, and those named ones that a thread can leave the mask for: an executor may as
/// well, unless a cpuset forbids it.
fn cpus(named: &[usize]) -> Vec<usize> {
    let pinned = |core: usize| {
        let mut only = CpuSet::new();
        only.set(core);
        sched_setaffinity(None, &only).is_ok()
    };
    let look = || {
        let mask = sched_getaffinity(None).unwrap_or_default();
        let all = 0..CpuSet::MAX_CPU;
        all.filter(|&core| mask.is_set(core) || (named.contains(&core) && pinned(core)))
            .collect()
    };
    // In a thread of its own, which is not used any more once it is pinned.
    thread::scope(|scope| scope.spawn(look).join().unwrap_or_default())
}

/// How a program ended, and what it printed.
enum Ended {
    Well(String),
    Badly,
    /// It did not begin, or was still running at the end of its time.
    NotAtAll,
}

fn printed(command: &mut Command, within: Duration) -> Ended {
    let started = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        return Ended::NotAtAll;
    };
    let deadline = Instant::now() + within;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => thread::sleep(POLL),
            Ok(None) | Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Ended::NotAtAll;
            }
        }
    };
    let mut text = String::new();
    let read = child
        .stdout
        .take()
        .map(|stdout| stdout.take(PRINTED_MAX).read_to_string(&mut text));
    match (status.success(), read) {
        (true, Some(Ok(_))) => Ended::Well(text),
        (true, Some(Err(_)) | None) | (false, _) => Ended::Badly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_a_documentation_address_is_not() {
        assert!(is_here("127.0.0.1".parse().unwrap()));
        assert!(!is_here("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_host_has_the_cpus_of_its_mask_and_none_that_do_not_exist() {
        let found = cpus(&[0, 1023, 5000]);
        assert!(!found.is_empty());
        assert!(found.is_sorted());
        assert!(!found.contains(&1023) && !found.contains(&5000));
    }

    #[test]
    fn programs_end_well_badly_or_not_in_time() {
        let mut echo = Command::new("echo");
        let ended = printed(echo.arg("yes"), PROGRAM_WITHIN);
        assert!(matches!(ended, Ended::Well(text) if text == "yes\n"));
        let ended = printed(&mut Command::new("false"), PROGRAM_WITHIN);
        assert!(matches!(ended, Ended::Badly));
        let ended = printed(&mut Command::new("absent-program"), PROGRAM_WITHIN);
        assert!(matches!(ended, Ended::NotAtAll));
        let mut sleep = Command::new("sleep");
        let ended = printed(sleep.arg("60"), Duration::from_millis(20));
        assert!(matches!(ended, Ended::NotAtAll));
    }
}
