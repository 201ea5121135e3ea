//! Environment faults: a closed list, each with its own exit code.
//!
//! | code | variant | cause |
//! | --- | --- | --- |
//! | 10 | `WriteFailed` | a write to the log or the store failed (EIO, no space left for a segment that is needed now; the store waits for space) |
//! | 11 | `SyncFailed` | a flush of the log, the store or their directory failed; never retried: the page cache may have dropped the data |
//! | 12 | `ReadFailed` | the log, the store or the superblock cannot be read |
//! | 13 | `CannotListen` | a port is in use, or an address is not this host's |
//! | 14 | `DataDirectory` | a data directory is missing rights, read-only, or without direct IO |
//! | 15 | `DirectoryLocked` | another process runs on the data directory |
//! | 16 | `WrongIdentity` | the data directory belongs to another cluster, node, shard or replica, to another genesis, or to another version |
//! | 17 | `Resources` | locked memory, file descriptors, a CPU or io_uring are not to be had |
//! | 18 | `ClockWentBack` | the wall clock was set back by more than peers tolerate, or the monotonic clock went back |
//! | 19 | `LogCorrupt` | the log or the superblock holds damage that recovery must not cut away |
//! | 19 | `StoreCorrupt` | no checkpoint can be read, and there is no other replica to take one from |
//! | 1 | `NotStopped` | a replica did not end within the time that a stop may take; what it had acknowledged is durable all the same |
//!
//! At run time a fault ends the process ([`end_process`]). At start it parks the replica that has
//! it, but for a lock that is taken and a wrong identity: these are the node's. If no replica can run,
//! [`crate::run_node`] returns the first one.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_protocol::ids::ReplicaAddress;

/// An environment fault. The message says what and where.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    #[error("{}: write failed: {source}", path.display())]
    WriteFailed { path: PathBuf, source: io::Error },
    #[error("{}: sync failed: {source}", path.display())]
    SyncFailed { path: PathBuf, source: io::Error },
    #[error("{}: read failed: {source}", path.display())]
    ReadFailed { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    CannotListen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("data directory {}: {problem}", path.display())]
    DataDirectory { path: PathBuf, problem: String },
    #[error("data directory {}: another process holds its lock", path.display())]
    DirectoryLocked { path: PathBuf },
    #[error("data directory {}: {problem}", path.display())]
    WrongIdentity { path: PathBuf, problem: String },
    #[error("{problem}")]
    Resources { problem: String },
    #[error("clock {clock} went back by {by_ns} ns")]
    ClockWentBack { clock: &'static str, by_ns: u64 },
    #[error("{}: {problem}; if the rest of its group is sound, delete this replica's directory and start its node with --recover", path.display())]
    LogCorrupt { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    StoreCorrupt { path: PathBuf, problem: String },
    #[error("{} did not stop in time", listed(replicas))]
    NotStopped { replicas: Vec<ReplicaAddress> },
}

impl Fatal {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::WriteFailed { .. } => 10,
            Self::SyncFailed { .. } => 11,
            Self::ReadFailed { .. } => 12,
            Self::CannotListen { .. } => 13,
            Self::DataDirectory { .. } => 14,
            Self::DirectoryLocked { .. } => 15,
            Self::WrongIdentity { .. } => 16,
            Self::Resources { .. } => 17,
            Self::ClockWentBack { .. } => 18,
            Self::LogCorrupt { .. } | Self::StoreCorrupt { .. } => 19,
            Self::NotStopped { .. } => 1,
        }
    }

    /// Whether there was no room for what should be written.
    pub(crate) fn is_full_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::WriteFailed { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    pub(crate) fn write(path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        Self::WriteFailed { path, source }
    }

    pub(crate) fn sync(path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        Self::SyncFailed { path, source }
    }

    pub(crate) fn read(path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        Self::ReadFailed { path, source }
    }

    pub(crate) fn corrupt(path: &Path, problem: impl Into<String>) -> Self {
        let (path, problem) = (path.to_owned(), problem.into());
        Self::LogCorrupt { path, problem }
    }

    pub(crate) fn directory(path: &Path, problem: impl Into<String>) -> Self {
        let (path, problem) = (path.to_owned(), problem.into());
        Self::DataDirectory { path, problem }
    }
}

fn listed(replicas: &[ReplicaAddress]) -> String {
    let names: Vec<String> = replicas.iter().map(ToString::to_string).collect();
    format!("replica {}", names.join(", "))
}

/// Ends the process at once: what the fault put in doubt must not be built upon, and the log is
/// made to be recovered after a crash.
pub(crate) fn end_process(fatal: &Fatal) -> ! {
    let code = fatal.exit_code();
    tracing::error!(code, "fatal: {fatal}");
    std::process::exit(i32::from(code))
}
