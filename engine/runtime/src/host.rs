//! What the process needs of its host before the first executor starts: locked memory and file
//! descriptors. A node checks it at its start, and `quorate doctor` before there is one.

use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fatal::Fatal;
use crate::limits::{HANDSHAKES_MAX, RING_DEPTH};

/// Registered memory of an executor on a core of its own, and of one that shares its core.
const IO_MEMORY_BYTES: usize = 256 << 10;
const IO_MEMORY_BYTES_SHARED: usize = 64 << 10;
/// Locked memory of an executor beside three times its registered memory (measured).
const RING_BYTES: u64 = 100 << 10;
/// glommio refuses to start below this limit.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Files of a node beside its connections: logs, rings, event descriptors.
const FILES_PER_REPLICA: u64 = 64;

/// Registered memory of one executor.
pub(crate) fn io_memory_bytes(share_cores: bool) -> usize {
    if share_cores {
        IO_MEMORY_BYTES_SHARED
    } else {
        IO_MEMORY_BYTES
    }
}

/// What this process may have; `None`: as much as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    pub memlock_bytes: Option<u64>,
    pub files: Option<u64>,
}

impl HostLimits {
    /// Raises the limits as far as this process may, as every node does at its start.
    #[must_use]
    pub fn raise() -> Self {
        Self {
            memlock_bytes: raise(Resource::Memlock),
            files: raise(Resource::Nofile),
        }
    }
}

/// What a node needs of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostNeeds {
    /// With less it does not start.
    pub memlock_bytes: u64,
    /// With less its replicas cannot open their own files.
    pub files_min: u64,
    /// With less it takes fewer connections than are allowed.
    pub files: u64,
}

impl HostNeeds {
    /// Of a node with so many executors, one for each of its replicas.
    #[must_use]
    pub fn of(executors: usize, share_cores: bool, connections_limit: usize) -> Self {
        let executors = count(executors);
        Self {
            memlock_bytes: memlock_needed(executors, count(io_memory_bytes(share_cores))),
            files_min: executors * FILES_PER_REPLICA,
            files: executors * (count(connections_limit + HANDSHAKES_MAX) + FILES_PER_REPLICA),
        }
    }
}

/// Raises the limits as far as this process may, then checks that they suffice.
///
/// Locked memory is counted per user over all processes, so that a node can still fail to start
/// where this check passes; the executor's own message then says so.
pub(crate) fn prepare(
    executors: usize,
    share_cores: bool,
    connections_limit: usize,
) -> Result<(), Fatal> {
    let limits = HostLimits::raise();
    let needs = HostNeeds::of(executors, share_cores, connections_limit);
    let needed = needs.memlock_bytes;
    if let Some(memlock) = limits.memlock_bytes.filter(|&limit| limit < needed) {
        return Err(Fatal::Resources {
            problem: format!(
                "locked memory is limited to {} KiB, {executors} executors need {} KiB: raise \
                 it with `ulimit -l`, LimitMEMLOCK= of the systemd unit, or limits.conf",
                memlock >> 10,
                needed >> 10
            ),
        });
    }
    let wanted = needs.files;
    if let Some(files) = limits.files.filter(|&files| files < wanted) {
        tracing::warn!(
            files,
            wanted,
            "fewer file descriptors than connections are allowed"
        );
    }
    Ok(())
}

/// Makes the rings of one executor, as a node does for each of its replicas, and lets go of them.
///
/// Call it in a process of its own: where the kernel refuses, glommio panics or ends the process, and
/// says so on stdout.
///
/// # Errors
/// There is no executor to be had, and glommio has returned to say why.
pub fn try_executor() -> Result<(), Fatal> {
    let _ = HostLimits::raise();
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(io_memory_bytes(true))
        .ring_depth(RING_DEPTH)
        .make()
        .map(drop)
        .map_err(|error| Fatal::Resources {
            problem: format!("no executor: {error}"),
        })
}

fn memlock_needed(executors: u64, io_memory: u64) -> u64 {
    (executors * (3 * io_memory + RING_BYTES)).max(MEMLOCK_BYTES_MIN)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("a usize fits 64 bits")
}

/// Lifts the soft limit to the hard one; for locked memory also the hard one, which only root may.
/// Returns the limit in force, `None` for unlimited.
fn raise(resource: Resource) -> Option<u64> {
    let found = getrlimit(resource);
    if matches!(resource, Resource::Memlock) {
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        // Refused without CAP_SYS_RESOURCE: then the hard limit is what there is.
        if setrlimit(resource, unlimited).is_ok() {
            return None;
        }
    }
    let lifted = Rlimit {
        current: found.maximum,
        maximum: found.maximum,
    };
    match setrlimit(resource, lifted) {
        Ok(()) => found.maximum,
        Err(_) => found.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_memory_is_budgeted_per_executor() {
        assert_eq!(memlock_needed(1, 64 << 10), MEMLOCK_BYTES_MIN);
        assert_eq!(memlock_needed(9, 256 << 10), 9 * (868 << 10));
    }

    #[test]
    fn a_node_needs_files_for_its_replicas_and_for_each_connection() {
        let needs = HostNeeds::of(3, false, 4096);
        assert_eq!(needs.memlock_bytes, 3 * (868 << 10));
        assert_eq!((needs.files_min, needs.files), (192, 3 * (4096 + 512 + 64)));
    }

    /// A host whose kernel refuses runs none of the other tests of this crate either.
    #[test]
    fn an_executor_is_made_and_let_go_of() {
        try_executor().unwrap();
        try_executor().unwrap();
    }

    #[test]
    fn the_host_of_this_test_suffices_for_one_executor() {
        prepare(1, true, 16).unwrap();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
    }
}
