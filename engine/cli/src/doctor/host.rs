//! What the host gives to every process on it: facts in, findings out, no IO.

use quorate_protocol::ids::NodeId;
use quorate_protocol::limits::{CLOCK_AHEAD_NS_MAX, CONNECTIONS_MAX};
use quorate_protocol::time::SECOND;
use quorate_runtime::{HostLimits, HostNeeds};

use super::check::{Check, Finding, Verdict};

/// The oldest kernel that has what glommio asks io_uring for.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// What was read of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// As `uname -r` prints it.
    pub kernel: String,
    /// The sysctl `kernel.io_uring_disabled`; `None` where the kernel (before 6.6) has none.
    pub io_uring_disabled: Option<u32>,
    pub ring: Ring,
    pub limits: HostLimits,
    pub clock: ClockState,
    /// CPUs that a thread of this user can be pinned to, ascending.
    pub cpus: Vec<usize>,
}

/// Whether a process of this user gets the rings of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Made,
    Refused,
    /// The process that should try could not be started, or did not end.
    Untried,
}

/// Whether something keeps the wall clock right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    Synchronised,
    NotSynchronised,
    /// Nobody was there to ask.
    Unknown,
}

pub fn kernel(facts: &HostFacts) -> Finding {
    let (major, minor) = KERNEL_MIN;
    let needed = format!("{major}.{minor} or newer");
    let finding = Finding::ok(Check::Kernel, None, &facts.kernel, needed);
    match kernel_version(&facts.kernel) {
        Some(version) if version >= KERNEL_MIN => finding,
        Some(_) => finding.but(
            Verdict::Fault,
            "the kernel lacks operations of io_uring: install a newer one",
        ),
        None => finding.but(Verdict::Warning, "that is no version of Linux known here"),
    }
}

/// The first two numbers: `6.18.44-fc` is 6.18.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    Some((major, minor))
}

/// A ring that was made proves more than any setting; the setting says why there is none.
pub fn io_uring(facts: &HostFacts) -> Finding {
    let disabled = facts.io_uring_disabled;
    let setting = disabled.map_or("no io_uring_disabled".to_owned(), |value| {
        format!("io_uring_disabled = {value}")
    });
    let rings = match facts.ring {
        Ring::Made => "rings made",
        Ring::Refused => "no ring to be had",
        Ring::Untried => "not tried",
    };
    let finding = Finding::ok(
        Check::IoUring,
        None,
        format!("{rings}, {setting}"),
        "rings made",
    );
    let allow = "set `sysctl kernel.io_uring_disabled=0`";
    let memlock_min = HostNeeds::of(0, true, 0).memlock_bytes;
    match (facts.ring, disabled) {
        (Ring::Made, _) => finding,
        (Ring::Refused | Ring::Untried, Some(2..)) => finding.but(Verdict::Fault, allow),
        (Ring::Refused, Some(1)) => finding.but(
            Verdict::Fault,
            format!("{allow}, or put the user into the group of kernel.io_uring_group"),
        ),
        (Ring::Refused, Some(0) | None) if !suffices(facts.limits.memlock_bytes, memlock_min) => {
            finding.but(
                Verdict::Fault,
                "less memory may be locked than one executor asks for: see memlock",
            )
        }
        (Ring::Refused, Some(0) | None) => finding.but(
            Verdict::Fault,
            "in a container, allow io_uring_setup, io_uring_enter and io_uring_register in its \
             seccomp profile; else the kernel is too old or was built without io_uring",
        ),
        (Ring::Untried, Some(0 | 1) | None) => finding.but(
            Verdict::Warning,
            "start a node and see whether it ends with exit code 17",
        ),
    }
}

/// Without a topology: of a single executor.
pub fn memlock(facts: &HostFacts) -> Finding {
    let needed = HostNeeds::of(1, false, CONNECTIONS_MAX).memlock_bytes;
    memlock_of(None, facts.limits, needed, 1)
}

/// Of a node with so many replicas.
pub fn memlock_of(
    node: Option<NodeId>,
    limits: HostLimits,
    needed: u64,
    replicas: usize,
) -> Finding {
    let limit = limits.memlock_bytes;
    let of = executors(replicas);
    let finding = Finding::ok(
        Check::Memlock,
        node,
        kibibytes(limit),
        format!("{} for {of}", kibibytes(Some(needed))),
    );
    match suffices(limit, needed) {
        true => finding,
        false => finding.but(
            Verdict::Fault,
            "raise it with `ulimit -l`, LimitMEMLOCK= of the systemd unit, or limits.conf",
        ),
    }
}

/// Of several nodes under one user: the kernel counts per user.
pub fn memlock_of_all(limits: HostLimits, needed: u64, replicas: usize) -> Finding {
    let finding = memlock_of(None, limits, needed, replicas);
    match finding.verdict {
        Verdict::Ok => finding,
        Verdict::Warning | Verdict::Fault => finding.but(
            Verdict::Warning,
            "locked memory is counted per user over all processes: raise it, or run the nodes \
             under different users",
        ),
    }
}

/// Without a topology: of a single replica with as many connections as it takes by default.
pub fn nofile(facts: &HostFacts) -> Finding {
    let needs = HostNeeds::of(1, false, CONNECTIONS_MAX);
    nofile_of(None, facts.limits, needs, 1)
}

/// Of a node with so many replicas.
pub fn nofile_of(
    node: Option<NodeId>,
    limits: HostLimits,
    needs: HostNeeds,
    replicas: usize,
) -> Finding {
    let limit = limits.files;
    let raise = "raise it with `ulimit -n`, LimitNOFILE= of the systemd unit, or limits.conf";
    let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |n| n.to_string());
    let finding = |needed: u64| {
        let needed = format!("{needed} for {}", executors(replicas));
        Finding::ok(Check::Nofile, node, number(limit), needed)
    };
    if !suffices(limit, needs.files_min) {
        finding(needs.files_min).but(Verdict::Fault, raise)
    } else if !suffices(limit, needs.files) {
        let few = format!("it takes fewer connections than are allowed: {raise}");
        finding(needs.files).but(Verdict::Warning, few)
    } else {
        finding(needs.files)
    }
}

pub fn clock(facts: &HostFacts) -> Finding {
    let found = match facts.clock {
        ClockState::Synchronised => "synchronised",
        ClockState::NotSynchronised => "not synchronised",
        ClockState::Unknown => "unknown",
    };
    let finding = Finding::ok(Check::Clock, None, found, "synchronised");
    let bound = CLOCK_AHEAD_NS_MAX / SECOND;
    match facts.clock {
        ClockState::Synchronised => finding,
        ClockState::NotSynchronised => finding.but(
            Verdict::Warning,
            format!(
                "run chronyd, ntpd or systemd-timesyncd: other replicas do not hear one whose \
                 clock is {bound} s ahead of theirs"
            ),
        ),
        ClockState::Unknown => finding.but(
            Verdict::Warning,
            format!(
                "neither systemd-timesyncd nor timedatectl is there to ask: see yourself that \
                 the clock stays within {bound} s of the other hosts'"
            ),
        ),
    }
}

/// Whether a limit, which is none if `None`, leaves as much as is needed.
fn suffices(limit: Option<u64>, needed: u64) -> bool {
    limit.is_none_or(|limit| limit >= needed)
}

fn executors(replicas: usize) -> String {
    match replicas {
        1 => "1 replica".to_owned(),
        _ => format!("{replicas} replicas"),
    }
}

fn kibibytes(bytes: Option<u64>) -> String {
    bytes.map_or("unlimited".to_owned(), |bytes| {
        format!("{} KiB", bytes >> 10)
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A host that lacks nothing.
    pub fn well() -> HostFacts {
        HostFacts {
            kernel: "6.18.44-fc-v1098".to_owned(),
            io_uring_disabled: Some(0),
            ring: Ring::Made,
            limits: HostLimits {
                memlock_bytes: None,
                files: None,
            },
            clock: ClockState::Synchronised,
            cpus: vec![0, 1, 2, 3],
        }
    }

    #[test]
    fn kernels_from_5_8_on_will_do() {
        for (release, verdict) in [
            ("6.18.44-fc-v1098", Verdict::Ok),
            ("5.8.0", Verdict::Ok),
            ("5.8", Verdict::Ok),
            ("5.10.0-28-amd64", Verdict::Ok),
            ("10.0.0", Verdict::Ok),
            ("5.7.19", Verdict::Fault),
            ("4.18.0-553.el8", Verdict::Fault),
            ("6", Verdict::Warning),
            ("", Verdict::Warning),
            ("unknown", Verdict::Warning),
        ] {
            let facts = HostFacts {
                kernel: release.to_owned(),
                ..well()
            };
            assert_eq!(kernel(&facts).verdict, verdict, "{release}");
        }
    }

    #[test]
    fn a_ring_that_was_made_counts_and_a_refusal_is_explained() {
        let (made, refused, untried) = (Ring::Made, Ring::Refused, Ring::Untried);
        for (ring, disabled, verdict, hint) in [
            (made, Some(0), Verdict::Ok, ""),
            (made, Some(1), Verdict::Ok, ""),
            (made, None, Verdict::Ok, ""),
            (refused, Some(0), Verdict::Fault, "seccomp"),
            (refused, None, Verdict::Fault, "seccomp"),
            (refused, Some(1), Verdict::Fault, "io_uring_group"),
            (refused, Some(2), Verdict::Fault, "sysctl"),
            (untried, Some(0), Verdict::Warning, "exit code 17"),
            (untried, Some(1), Verdict::Warning, "exit code 17"),
            (untried, None, Verdict::Warning, "exit code 17"),
            (untried, Some(2), Verdict::Fault, "sysctl"),
            (untried, Some(3), Verdict::Fault, "sysctl"),
        ] {
            let facts = HostFacts {
                ring,
                io_uring_disabled: disabled,
                ..well()
            };
            let finding = io_uring(&facts);
            assert_eq!(finding.verdict, verdict, "{facts:?}");
            let said = finding.hint.unwrap_or_default();
            assert!(said.contains(hint), "{facts:?}: {said}");
        }
    }

    #[test]
    fn a_ring_refused_for_want_of_memory_is_not_laid_to_the_kernel() {
        let bounded = |bytes| HostFacts {
            ring: Ring::Refused,
            limits: HostLimits {
                memlock_bytes: Some(bytes),
                files: None,
            },
            ..well()
        };
        let hint = |bytes| io_uring(&bounded(bytes)).hint.unwrap();
        assert!(hint((512 << 10) - 1).contains("see memlock"));
        assert!(hint(512 << 10).contains("seccomp"));
    }

    #[test]
    fn memlock_has_to_reach_what_the_executors_lock() {
        let needed = HostNeeds::of(3, false, 8).memlock_bytes;
        for (limit, verdict, of_all) in [
            (None, Verdict::Ok, Verdict::Ok),
            (Some(needed), Verdict::Ok, Verdict::Ok),
            (Some(needed - 1), Verdict::Fault, Verdict::Warning),
            (Some(0), Verdict::Fault, Verdict::Warning),
        ] {
            let limits = HostLimits {
                memlock_bytes: limit,
                files: None,
            };
            let node = Some(NodeId(1));
            assert_eq!(memlock_of(node, limits, needed, 3).verdict, verdict);
            assert_eq!(memlock_of_all(limits, needed, 3).verdict, of_all);
        }
        let finding = memlock(&well());
        assert_eq!(finding.found, "unlimited");
        assert_eq!(finding.needed, "868 KiB for 1 replica");
    }

    #[test]
    fn too_few_files_for_connections_is_a_warning_and_for_the_log_a_fault() {
        let needs = HostNeeds::of(3, false, 4096);
        for (limit, verdict, needed) in [
            (None, Verdict::Ok, "14016 for 3 replicas"),
            (Some(14_016), Verdict::Ok, "14016 for 3 replicas"),
            (Some(14_015), Verdict::Warning, "14016 for 3 replicas"),
            (Some(192), Verdict::Warning, "14016 for 3 replicas"),
            (Some(191), Verdict::Fault, "192 for 3 replicas"),
        ] {
            let limits = HostLimits {
                memlock_bytes: None,
                files: limit,
            };
            let finding = nofile_of(None, limits, needs, 3);
            assert_eq!(finding.verdict, verdict, "{limit:?}");
            assert_eq!(finding.needed, needed, "{limit:?}");
        }
        assert_eq!(nofile(&well()).needed, "4672 for 1 replica");
    }

    #[test]
    fn a_clock_that_nobody_keeps_is_a_warning() {
        for (state, verdict) in [
            (ClockState::Synchronised, Verdict::Ok),
            (ClockState::NotSynchronised, Verdict::Warning),
            (ClockState::Unknown, Verdict::Warning),
        ] {
            let facts = HostFacts {
                clock: state,
                ..well()
            };
            let finding = clock(&facts);
            assert_eq!(finding.verdict, verdict);
            assert_eq!(finding.hint.is_some(), verdict != Verdict::Ok);
        }
    }
}
