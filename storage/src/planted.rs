//! Planted bugs of the log, of the store and of what drives them: mistakes that the simulator can switch
//! on, to show that its checkers see them.
//!
//! As it ships, [`planted`] is a `const` no without any state. Only the twin package
//! `quorate-storage-planted` (`tests/simulator/planted/storage`), which compiles these same files and
//! on which nothing but the simulator depends, has a switch behind it; `planted.rs` of
//! `quorate-protocol` tells why.

/// A mistake that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    CheckpointNotSynced = 1,
    /// The shell's: a checkpoint that found no room is not gone on with.
    CheckpointNotRetried,
    ChecksumIgnored,
    ChunkUnchecked,
    /// The shell's: a block is kept in memory before it was found to be what was written.
    DamagedBlockKept,
    FilesRemovedEarly,
    GoneForgotten,
    LastStepWaits,
    LookUpNewestOnly,
    /// The shell's: no sync of a manifest before it gets its name.
    ManifestNotSynced,
    RebuildEndsEarly,
    RebuildNotSynced,
    RepairUnchecked,
    RoomNotSeen,
    RowMisfiled,
    ScrubberSkipsFile,
    SeenIsDurable,
    /// The shell's: no sync of the directory behind a new name.
    SkipDirectorySync,
    /// The shell's: no sync of a flush.
    SkipSync,
    TearNotRepaired,
}

/// Whether this mistake is to be made.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use self::switch::{planted, switch_on};

#[cfg(feature = "planted")]
mod switch {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    /// The number of the bug that is on; 0 = none.
    static ON: AtomicU8 = AtomicU8::new(0);

    /// Whether this mistake is to be made.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        ON.load(Ordering::Relaxed) == bug as u8
    }

    /// Switches one bug on for the whole process, or all off. Between runs only.
    pub fn switch_on(bug: Option<Bug>) {
        ON.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
    }
}
