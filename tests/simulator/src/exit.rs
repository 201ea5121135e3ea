//! Environment faults that end a process, as the runtime ends it.
//!
//! The runtime (`engine/runtime/src/fatal.rs`) retries nothing but what finds no room: after an error of the disk nobody
//! knows what the disk holds, and the log is made to be recovered. The process takes all replicas
//! of its node with it; whoever watches the machine starts it again.

/// Why a process ended by itself. The discriminants are the runtime's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A write failed, or there was no room for a segment that records wait for.
    WriteFailed = 10,
    /// The sync of a new segment or of the directory failed.
    SyncFailed = 11,
    /// The log could not be read.
    ReadFailed = 12,
}

impl Exit {
    /// The exit code of the runtime.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}
