//! How much a disk holds: what others leave of it, what the replica keeps back, what its files take.

use super::SimDisk;

/// Bytes that a disk holds. The files of a run take some MiB.
const CAPACITY: u64 = 1 << 30;

/// Who has room on a disk beside the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Others, whoever they are.
    others: u64,
    /// Others also take whatever comes free beyond so much.
    leaves: Option<u64>,
    /// The reserve: a file that nobody reads.
    reserve: u64,
}

impl SimDisk {
    /// Bytes that may still be written. A file that lost its name takes none.
    #[must_use]
    pub fn free(&self) -> u64 {
        let named = self.names.values();
        let used: usize = named.map(|file| self.files[file].current.len()).sum();
        let used = u64::try_from(used).expect("a usize fits 64 bits");
        let free = CAPACITY.saturating_sub(used + self.taken.others + self.taken.reserve);
        self.taken.leaves.map_or(free, |leaves| free.min(leaves))
    }

    /// Whether so many bytes find room.
    pub fn finds_room(&mut self, bytes: usize) -> bool {
        let bytes = u64::try_from(bytes).expect("a usize fits 64 bits");
        let finds = bytes <= self.free();
        self.count(!finds, "disk_full");
        finds
    }

    /// Others take room until only so many bytes are free.
    pub fn leave_free(&mut self, bytes: u64) {
        self.taken.others += self.free().saturating_sub(bytes);
    }

    /// The same, and they take what comes free later.
    pub fn leave_only(&mut self, bytes: u64) {
        self.taken.leaves = Some(bytes);
    }

    /// Others give back what they took.
    pub fn empty_out(&mut self) {
        self.taken.others = 0;
        self.taken.leaves = None;
    }

    /// Whether so much is kept back.
    #[must_use]
    pub fn has_reserve(&self, bytes: u64) -> bool {
        self.taken.reserve == bytes
    }

    /// Keeps room back. False if there is not so much.
    pub fn keep_back(&mut self, bytes: u64) -> bool {
        self.taken.reserve = 0;
        let is_there = bytes <= self.free();
        if is_there {
            self.taken.reserve = bytes;
        }
        is_there
    }

    /// Gives back what was kept back. False if nothing was.
    pub fn give_back(&mut self) -> bool {
        std::mem::take(&mut self.taken.reserve) > 0
    }

    /// The reserve's name was never synced: a crash may forget the file, or bring it back.
    pub(super) fn crash_reserve(&mut self) {
        if self.taken.reserve > 0 && self.stream.chance(300_000) {
            self.taken.reserve = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::SimDisk;
    use crate::random::{Concern, Stream};

    #[test]
    fn files_the_reserve_and_others_share_the_room() {
        let mut disk = SimDisk::new(512, Stream::new(1, Concern::Disk, 0));
        let whole = disk.free();
        let file = disk.create("a");
        disk.write(file, 0, &[7; 8192]);
        assert_eq!(disk.free(), whole - 8192);
        assert!(disk.keep_back(4096) && disk.has_reserve(4096));
        disk.leave_free(1000);
        assert!(disk.finds_room(1000) && !disk.finds_room(1001));
        assert_eq!(disk.faults.count("disk_full"), 1);
        assert!(disk.give_back() && !disk.give_back());
        assert_eq!(disk.free(), 5096);
        assert!(!disk.keep_back(5097) && disk.keep_back(5096));
        disk.remove("a");
        assert_eq!(disk.free(), 8192);
        disk.empty_out();
        assert_eq!(disk.free(), whole - 5096);
        disk.leave_only(10);
        assert!(disk.give_back() && disk.free() == 10);
        disk.empty_out();
        assert_eq!(disk.free(), whole);
    }
}
