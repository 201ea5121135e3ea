//! What the process needs of its host before the first executor starts: locked memory and file
//! descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::fatal::Fatal;

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

/// Raises the limits as far as this process may, then checks that they suffice.
///
/// Locked memory is counted per user over all processes, so that a node can still fail to start
/// where this check passes; the executor's own message then says so.
pub(crate) fn prepare(
    executors: usize,
    share_cores: bool,
    connections_limit: usize,
) -> Result<(), Fatal> {
    let executors = count(executors);
    let memlock = raise(Resource::Memlock);
    let needed = memlock_needed(executors, count(io_memory_bytes(share_cores)));
    if memlock.is_some_and(|limit| limit < needed) {
        return Err(Fatal::Resources {
            problem: format!(
                "locked memory is limited to {} KiB, {executors} executors need {} KiB: raise \
                 it with `ulimit -l`, LimitMEMLOCK= of the systemd unit, or limits.conf",
                memlock.unwrap_or(0) >> 10,
                needed >> 10
            ),
        });
    }
    let files = raise(Resource::Nofile);
    let wanted = executors * (count(connections_limit) + FILES_PER_REPLICA);
    if let Some(files) = files.filter(|&files| files < wanted) {
        tracing::warn!(
            files,
            wanted,
            "fewer file descriptors than connections are allowed"
        );
    }
    Ok(())
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
    fn the_host_of_this_test_suffices_for_one_executor() {
        prepare(1, true, 16).unwrap();
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
    }
}
