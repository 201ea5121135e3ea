//! What a disk does to bytes that were safe: rot, writes that land elsewhere or nowhere, the end.
//!
//! All of it happens in silence and at once: a crash brings nothing back.

use std::ops::Range;

use super::{FileId, SimDisk, put_sector, slice_of};

impl SimDisk {
    /// A synced sector of the range does not read as it was written: bits flip, or the whole sector
    /// becomes noise or zeros. False if nothing there is both written and synced.
    pub fn rot(&mut self, file: FileId, range: Range<usize>) -> bool {
        let sector = self.sector;
        let Some(content) = self.files.get(&file) else {
            return false;
        };
        let end = range.end.min(content.current.len());
        if range.start >= end {
            return false;
        }
        let at = range.start + self.fault_stream.index(end - range.start);
        let index = at / sector;
        let mut bytes = slice_of(&content.current, index, sector);
        if content.unsynced.contains_key(&index) || bytes.iter().all(|byte| *byte == 0) {
            return false;
        }
        let before = bytes.clone();
        match self.fault_stream.below(4) {
            0 => bytes.fill(0),
            1 => {
                for byte in &mut bytes {
                    *byte = self.fault_stream.bits().to_le_bytes()[0];
                }
            }
            _ => {
                for _ in 0..=self.fault_stream.below(4) {
                    let place = self.fault_stream.index(bytes.len());
                    bytes[place] ^= 1 << self.fault_stream.below(8);
                }
            }
        }
        let content = self.files.get_mut(&file).expect("looked up above");
        put_sector(&mut content.current, index, sector, &bytes);
        let hit = bytes != before;
        self.count(hit, "bit_rot")
    }

    /// The same, and what was written there is kept in mind.
    pub fn rot_known(&mut self, file: FileId, range: Range<usize>) -> bool {
        self.damage_known(file, |disk| disk.rot(file, range))
    }

    /// Does harm to a file, and keeps in mind what was written in the sectors that it changes: what harm before it
    /// has left there is not that.
    fn damage_known<T>(&mut self, file: FileId, harm: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.bytes(file).to_vec();
        let done = harm(self);
        let after = &self.files[&file].current;
        let sectors = before.chunks(self.sector).zip(after.chunks(self.sector));
        let written = self.written.entry(file).or_default();
        for (index, (before, after)) in sectors.enumerate() {
            if before != after {
                written.entry(index).or_insert_with(|| before.to_vec());
            }
        }
        done
    }

    /// Whether a range of a file holds anything else than what was written there.
    #[must_use]
    pub fn is_rotten(&self, file: FileId, range: &Range<usize>) -> bool {
        let Some(written) = self.written.get(&file) else {
            return false;
        };
        let sectors = range.start / self.sector..range.end.div_ceil(self.sector);
        let mut sectors = written.range(sectors);
        sectors.any(|(index, written)| {
            slice_of(&self.files[&file].current, *index, self.sector) != *written
        })
    }

    /// The write at hand lands at another place of the same or of another file of the same size, if it
    /// is to. Where it belongs the old bytes stay.
    pub fn take_misdirection(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> bool {
        let length = self.files[&file].current.len();
        let hit = std::mem::take(&mut self.armed.misdirect) && bytes.len() < length;
        if !hit {
            return false;
        }
        let alike: Vec<FileId> = self
            .files
            .iter()
            .filter(|(_, other)| other.current.len() == length)
            .map(|(id, _)| *id)
            .collect();
        let target = self.fault_stream.pick(&alike);
        let places = (length - bytes.len()) / self.sector + 1;
        let mut place = self.fault_stream.index(places) * self.sector;
        if (target, place) == (file, offset) {
            place = if offset == 0 { self.sector } else { 0 };
        }
        // Another file may be one of the store, whose blocks nobody writes again but to repair them.
        match target == file {
            true => self.land(target, place, bytes),
            false => self.damage_known(target, |disk| disk.land(target, place, bytes)),
        }
        self.count(true, "write_misdirected")
    }

    /// Some or all sectors of the write at hand never reach the disk, though it says so, if that is to
    /// be: what was there before is read back.
    pub fn take_stale_write(&mut self, file: FileId, offset: usize, bytes: &[u8]) -> bool {
        let hit = std::mem::take(&mut self.armed.stale);
        if !hit {
            return false;
        }
        if self.fault_stream.chance(500_000) {
            for (number, sector) in bytes.chunks(self.sector).enumerate() {
                if self.fault_stream.chance(500_000) {
                    self.land(file, offset + number * self.sector, sector);
                }
            }
        }
        self.count(true, "write_stale")
    }

    /// Everything on the disk is gone.
    pub fn lose(&mut self) {
        self.files.clear();
        self.names.clear();
        self.durable_names.clear();
        self.changes.clear();
        self.give_back();
        self.count(true, "disk_lost");
    }

    /// Bytes at a place, for good: neither a sync nor a crash decides about them.
    fn land(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        self.write(file, offset, bytes);
        let sector = self.sector;
        let file = self.files.get_mut(&file).expect("callers hold open files");
        for index in offset / sector..=(offset + bytes.len() - 1) / sector {
            file.unsynced.remove(&index);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::{Armed, FileId, SimDisk};
    use crate::random::{Concern, Stream};

    fn two_files(seed: u64) -> (SimDisk, [FileId; 2]) {
        let stream = |concern| Stream::new(seed, concern, 0);
        let mut disk =
            SimDisk::new(512, stream(Concern::Disk)).with_fault_stream(stream(Concern::DiskFault));
        let files = ["a", "b"].map(|name| {
            let file = disk.create(name);
            disk.write(file, 0, &[7; 8192]);
            let mark = disk.mark();
            disk.synced(file, mark);
            disk.directory_synced(mark);
            file
        });
        (disk, files)
    }

    fn changed(disk: &SimDisk, file: FileId) -> usize {
        disk.bytes(file).iter().filter(|byte| **byte != 7).count()
    }

    #[test]
    fn rot_changes_one_synced_sector_for_good() {
        for seed in 0..50 {
            let (mut disk, [file, other]) = two_files(seed);
            assert!(disk.rot(file, 1024..2048));
            disk.crash();
            let wrong: Vec<usize> = (0..8192).filter(|at| disk.bytes(file)[*at] != 7).collect();
            assert!(!wrong.is_empty() && wrong.iter().all(|at| (1024..2048).contains(at)));
            assert_eq!(
                wrong.first().map(|at| at / 512),
                wrong.last().map(|at| at / 512)
            );
            assert_eq!(changed(&disk, other), 0);
            assert_eq!(disk.faults.count("bit_rot"), 1);
        }
    }

    #[test]
    fn a_place_is_rotten_until_it_holds_again_what_was_written() {
        let (mut disk, [file, _]) = two_files(1);
        for _ in 0..5 {
            assert!(disk.rot_known(file, 1024..1536));
        }
        assert!(disk.is_rotten(file, &(0..4096)) && !disk.is_rotten(file, &(4096..8192)));
        // Neither old bytes that a crash brings back nor others are what was written.
        disk.write(file, 1024, &[8; 512]);
        assert!(disk.is_rotten(file, &(0..4096)));
        disk.write(file, 1024, &[7; 512]);
        assert!(!disk.is_rotten(file, &(0..4096)));
    }

    /// The story: a write of the log landed in a file of the store that was as long as a segment, the block rotted
    /// on top of that, and its repair was held against what the misdirected write had left there (seed 4802).
    #[test]
    fn a_misdirected_write_is_not_what_was_written_there() {
        for seed in 0..20 {
            let (mut disk, [file, other]) = two_files(seed);
            disk.armed.misdirect = true;
            assert!(disk.take_misdirection(file, 1024, &[9; 1024]));
            if changed(&disk, other) == 0 {
                continue;
            }
            let whole = 0..disk.bytes(other).len();
            assert!(disk.is_rotten(other, &whole));
            disk.rot_known(other, whole.clone());
            disk.write(other, 0, &vec![7; whole.end]);
            assert!(!disk.is_rotten(other, &whole));
            return;
        }
        panic!("no write landed in the other file");
    }

    #[test]
    fn zeros_and_what_is_not_synced_do_not_rot() {
        let (mut disk, [file, _]) = two_files(1);
        disk.write(file, 0, &[9; 512]);
        assert!(!disk.rot(file, 0..512));
        let zeros = disk.create_zeroed("zeros", 4096);
        assert!(!disk.rot(zeros, 0..4096));
        assert_eq!(disk.faults.count("bit_rot"), 0);
    }

    #[test]
    fn a_misdirected_write_lands_once_and_never_where_it_belongs() {
        let (mut same, mut other_file) = (0, 0);
        for seed in 0..100 {
            let (mut disk, [file, other]) = two_files(seed);
            assert!(!disk.take_misdirection(file, 1024, &[9; 1024]));
            disk.armed = Armed {
                misdirect: true,
                ..Armed::default()
            };
            assert!(disk.take_misdirection(file, 1024, &[9; 1024]));
            assert!(!disk.is_dirty());
            assert_eq!(changed(&disk, file) + changed(&disk, other), 1024);
            assert_ne!(disk.bytes(file)[1024..2048], [9; 1024]);
            same += usize::from(changed(&disk, file) > 0);
            other_file += usize::from(changed(&disk, other) > 0);
        }
        assert!(same > 20 && other_file > 20, "{same} {other_file}");
    }

    #[test]
    fn a_stale_write_leaves_old_bytes_in_all_or_some_sectors() {
        let (mut whole, mut part) = (0, 0);
        for seed in 0..100 {
            let (mut disk, [file, _]) = two_files(seed);
            disk.armed.stale = true;
            assert!(disk.take_stale_write(file, 0, &[9; 4096]));
            assert!(!disk.is_dirty());
            match changed(&disk, file) {
                0 => whole += 1,
                landed => part += usize::from(landed < 4096),
            }
        }
        assert!(whole > 30 && part > 30, "{whole} {part}");
    }

    #[test]
    fn a_lost_disk_is_empty() {
        let (mut disk, _) = two_files(1);
        disk.lose();
        disk.crash();
        assert_eq!(disk.names().count(), 0);
    }
}
