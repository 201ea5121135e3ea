//! A replica whose disk was replaced: formatted anew, and no voter before its core says so.
//!
//! What the runtime keeps in a file beside the superblock is a field here: it is written before the
//! replica can start at all, and removed after the core has said so.

use quorate_storage::superblock::{FILE_NAME, Superblock};
use quorate_storage::wal::SegmentNumber;

use super::{Process, length};
use crate::disk::SimDisk;

/// What a superblock promises: a directory that has one is complete.
pub(super) fn format_disk(disk: &mut SimDisk, block: &Superblock) {
    let first = SegmentNumber::FIRST.file_name();
    disk.create_zeroed(&first, length(block.identity.segment_bytes));
    let superblock = disk.create(FILE_NAME);
    disk.write(superblock, 0, &block.encode());
    let mark = disk.mark();
    disk.synced(superblock, mark);
    disk.directory_synced(mark);
}

impl Process {
    /// The disk is replaced by an empty one, and that formatted for recovery.
    pub fn lose_disk(&mut self) {
        assert!(
            self.running.is_none(),
            "a process does not survive its disk"
        );
        self.disk.lose();
        self.health.disk_lost();
        // Another life of the directory: frames of the one before are never valid here.
        self.superblock.identity.created_ns += 1;
        format_disk(&mut self.disk, &self.superblock);
        self.rejoins = true;
        self.is_refused = false;
    }

    /// Its start refused what is on its disk.
    pub fn note_refused(&mut self) {
        self.is_refused = true;
    }

    /// Whether it can only go on with an empty disk, as a non-voter.
    #[must_use]
    pub fn needs_another_disk(&self) -> bool {
        self.is_refused || self.is_out_of_service()
    }

    /// Whether its disk was replaced and it is no voter yet.
    #[must_use]
    pub fn is_rejoining(&self) -> bool {
        self.rejoins
    }

    /// Whether it must not start at all: it may have forgotten, and nobody has told it so.
    #[must_use]
    pub fn is_out_of_service(&self) -> bool {
        self.health.is_lost() && !self.rejoins
    }

    /// Its core votes again.
    pub fn note_rejoined(&mut self) {
        assert!(self.rejoins, "said once");
        self.rejoins = false;
        self.health.rejoined();
    }
}
