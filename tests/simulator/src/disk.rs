//! `SimDisk`: the files of one replica, and what a crash leaves of them.
//!
//! Every write that was not synced lives as a list of versions per sector. A crash of the machine
//! keeps any of them, drops them all, or leaves a mixture of two (a torn sector), for each sector by
//! itself; a crash of the process alone loses nothing that was written. Names are durable only after
//! a sync of the directory. A sync covers what was written before it *started*.
//!
//! The disk keeps no time: the world decides when an operation starts and ends. What it does to bytes
//! that were synced is in `damage`.

mod damage;
mod room;

use std::collections::BTreeMap;

use crate::counters::Counters;
use crate::random::Stream;

/// Names of this module's counters.
pub const FAULT_NAMES: [&str; 16] = [
    "bit_rot",
    "disk_full",
    "disk_lost",
    "log_without_room",
    "name_lost",
    "read_failed",
    "sector_dropped",
    "sector_garbled",
    "sector_garbled_4096",
    "sector_garbled_512",
    "sector_kept",
    "sync_failed",
    "write_failed",
    "write_misdirected",
    "write_stale",
    "write_torn",
];

/// Errors that the next operation of a kind will meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Armed {
    /// The next write fails; any part of it may have landed.
    pub write_error: bool,
    /// The next sync fails; everything landed in a cache, nothing is known to be durable.
    pub sync_error: bool,
    pub read_error: bool,
    /// The next write of a flush lands elsewhere.
    pub misdirect: bool,
    /// The next write of a flush does not land, or not all of it.
    pub stale: bool,
}

/// A file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(u64);

/// A moment in the order of writes: a sync that started here covers all writes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteMark(u64);

#[derive(Clone, Debug, Default)]
struct File {
    /// What the process reads back.
    current: Vec<u8>,
    /// Length that survives a crash.
    durable_length: usize,
    /// Per unsynced sector, by index: the durable bytes first, then one version per write.
    unsynced: BTreeMap<usize, Vec<(u64, Vec<u8>)>>,
}

/// One change of the directory.
#[derive(Clone, Debug)]
enum NameChange {
    Link {
        name: String,
        file: FileId,
    },
    /// The entry `to` names the file itself: it may survive where the entry `from` never did.
    Rename {
        from: String,
        to: String,
        file: FileId,
    },
    Unlink {
        name: String,
    },
}

/// One disk.
#[derive(Debug)]
pub struct SimDisk {
    sector: usize,
    files: BTreeMap<FileId, File>,
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    /// Changes of the directory since its last sync, oldest first.
    changes: Vec<(u64, NameChange)>,
    /// Number of writes and directory changes so far.
    order: u64,
    files_made: u64,
    taken: room::Taken,
    /// Of sectors that rotted in files of the store: what was written there, by file and index.
    written: BTreeMap<FileId, BTreeMap<usize, Vec<u8>>>,
    /// Decides what a crash leaves.
    stream: Stream,
    /// Decides what the disk does by itself.
    fault_stream: Stream,
    pub armed: Armed,
    pub faults: Counters,
}

impl SimDisk {
    /// An empty disk with sectors of `sector` bytes.
    #[must_use]
    pub fn new(sector: usize, stream: Stream) -> Self {
        assert!(sector.is_power_of_two());
        Self {
            sector,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            order: 0,
            files_made: 0,
            taken: room::Taken::default(),
            written: BTreeMap::new(),
            fault_stream: stream.clone(),
            stream,
            armed: Armed::default(),
            faults: Counters::with_names(&FAULT_NAMES),
        }
    }

    /// The same disk with a stream of its own for what it does by itself.
    #[must_use]
    pub fn with_fault_stream(mut self, stream: Stream) -> Self {
        self.fault_stream = stream;
        self
    }

    /// All names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// All names and the sizes of their files in bytes, ascending: a directory's listing.
    pub fn sizes(&self) -> impl Iterator<Item = (String, u64)> {
        self.names.iter().map(|(name, file)| {
            let bytes = self.bytes(*file).len();
            (name.clone(), u64::try_from(bytes).expect("small"))
        })
    }

    /// The file of a name.
    #[must_use]
    pub fn open(&self, name: &str) -> Option<FileId> {
        self.names.get(name).copied()
    }

    /// Makes an empty file, in place of one that has the name.
    pub fn create(&mut self, name: &str) -> FileId {
        self.files_made += 1;
        let file = FileId(self.files_made);
        self.files.insert(file, File::default());
        self.change(NameChange::Link {
            name: name.to_owned(),
            file,
        });
        file
    }

    /// Makes a file of zeros whose content is synced, unlike its name.
    pub fn create_zeroed(&mut self, name: &str, length: usize) -> FileId {
        let id = self.create(name);
        let file = self.files.get_mut(&id).expect("made above");
        file.current = vec![0; length];
        file.durable_length = length;
        id
    }

    /// Gives a file another name, in place of one that has it. False if there is no such file.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        let file = self.open(from);
        if let Some(file) = file {
            self.change(NameChange::Rename {
                from: from.to_owned(),
                to: to.to_owned(),
                file,
            });
        }
        file.is_some()
    }

    /// Removes a name. False if there is no such file.
    pub fn remove(&mut self, name: &str) -> bool {
        let known = self.names.contains_key(name);
        if known {
            self.change(NameChange::Unlink {
                name: name.to_owned(),
            });
        }
        known
    }

    /// What a process reads.
    ///
    /// # Panics
    /// If the file does not exist.
    #[must_use]
    pub fn bytes(&self, file: FileId) -> &[u8] {
        &self.files[&file].current
    }

    /// Writes; a gap behind the end becomes zeros.
    ///
    /// # Panics
    /// If the file does not exist.
    pub fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.order += 1;
        let order = self.order;
        let sector = self.sector;
        let file = self.files.get_mut(&file).expect("callers hold open files");
        let end = offset + bytes.len();
        let first = offset.min(file.current.len()) / sector;
        let last = (end - 1) / sector;
        for index in first..=last {
            file.unsynced
                .entry(index)
                .or_insert_with(|| vec![(0, slice_of(&file.current, index, sector))]);
        }
        if file.current.len() < end {
            file.current.resize(end, 0);
        }
        file.current[offset..end].copy_from_slice(bytes);
        for index in first..=last {
            let version = (order, slice_of(&file.current, index, sector));
            let versions = file.unsynced.get_mut(&index).expect("entered above");
            versions.push(version);
        }
    }

    /// A write that was carried out turns out to have failed: each of its sectors holds the new
    /// bytes, the old ones or a mixture, and none of them for sure.
    ///
    /// # Panics
    /// If the file does not exist.
    pub fn fail_write(&mut self, file: FileId, offset: usize, length: usize) {
        assert!(length > 0);
        self.order += 1;
        let (order, sector) = (self.order, self.sector);
        let file = self.files.get_mut(&file).expect("callers hold open files");
        for index in offset / sector..=(offset + length - 1) / sector {
            let Some(versions) = file.unsynced.get_mut(&index) else {
                continue;
            };
            let (newest, rest) = versions.split_last().expect("never empty");
            let left = match self.fault_stream.below(3) {
                0 => newest.1.clone(),
                1 => rest.last().unwrap_or(newest).1.clone(),
                _ => garbled(&newest.1, &rest[0].1, &mut self.fault_stream),
            };
            put_sector(&mut file.current, index, sector, &left);
            versions.push((order, left));
        }
    }

    /// Where the order of writes is now: the start of a sync.
    #[must_use]
    pub fn mark(&self) -> WriteMark {
        WriteMark(self.order)
    }

    /// The sync of a file that started at `mark` has ended.
    ///
    /// # Panics
    /// If the file does not exist.
    pub fn synced(&mut self, file: FileId, mark: WriteMark) {
        let file = self.files.get_mut(&file).expect("callers hold open files");
        file.durable_length = file.current.len();
        file.unsynced.retain(|_, versions| {
            let durable = versions
                .iter()
                .rposition(|(order, _)| *order <= mark.0)
                .expect("the first version has order 0");
            versions.drain(..durable);
            versions.len() > 1
        });
    }

    /// The sync of the directory that started at `mark` has ended.
    pub fn directory_synced(&mut self, mark: WriteMark) {
        let covered = self.changes.partition_point(|(order, _)| *order <= mark.0);
        for (_, change) in self.changes.drain(..covered) {
            apply(&mut self.durable_names, &change);
        }
        self.collect();
    }

    /// Whether the write at hand fails.
    pub fn take_write_error(&mut self) -> bool {
        let hit = std::mem::take(&mut self.armed.write_error);
        self.count(hit, "write_failed")
    }

    /// Whether the sync at hand fails.
    pub fn take_sync_error(&mut self) -> bool {
        let hit = std::mem::take(&mut self.armed.sync_error);
        self.count(hit, "sync_failed")
    }

    /// Whether the read at hand fails.
    pub fn take_read_error(&mut self) -> bool {
        let hit = std::mem::take(&mut self.armed.read_error);
        self.count(hit, "read_failed")
    }

    fn count(&mut self, hit: bool, name: &'static str) -> bool {
        if hit {
            self.faults.add(name);
        }
        hit
    }

    /// Whether anything would be at risk in a crash of the machine.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.changes.is_empty() || self.files.values().any(|file| !file.unsynced.is_empty())
    }

    /// The machine loses power: decides for each unsynced sector and name what is left of it.
    pub fn crash(&mut self) {
        let changes = core::mem::take(&mut self.changes);
        for (_, change) in changes {
            if self.stream.chance(500_000) {
                apply(&mut self.durable_names, &change);
            } else {
                self.faults.add("name_lost");
            }
        }
        self.names = self.durable_names.clone();
        self.collect();
        self.crash_reserve();
        let style = CrashStyle::draw(&mut self.stream);
        for file in self.files.values_mut() {
            crash_file(file, self.sector, style, &mut self.stream, &mut self.faults);
        }
    }

    fn change(&mut self, change: NameChange) {
        self.order += 1;
        apply(&mut self.names, &change);
        self.changes.push((self.order, change));
    }

    /// Forgets files that no crash can bring back.
    fn collect(&mut self) {
        if !self.changes.is_empty() {
            return;
        }
        let names = &self.names;
        let durable = &self.durable_names;
        self.files.retain(|file, _| {
            names.values().any(|used| used == file) || durable.values().any(|used| used == file)
        });
    }
}

/// How a crash treats unsynced sectors: mostly one by one, sometimes all alike.
#[derive(Clone, Copy)]
enum CrashStyle {
    KeepAll,
    DropAll,
    Each,
}

impl CrashStyle {
    fn draw(stream: &mut Stream) -> Self {
        match stream.below(6) {
            0 => Self::KeepAll,
            1 => Self::DropAll,
            _ => Self::Each,
        }
    }
}

fn crash_file(
    file: &mut File,
    sector: usize,
    style: CrashStyle,
    stream: &mut Stream,
    faults: &mut Counters,
) {
    if file.unsynced.is_empty() {
        return;
    }
    let (mut kept, mut lost) = (0_u64, 0_u64);
    for (index, versions) in core::mem::take(&mut file.unsynced) {
        let (newest, rest) = versions.split_last().expect("never empty");
        let fate = match style {
            CrashStyle::KeepAll => 0,
            CrashStyle::DropAll => 1,
            CrashStyle::Each => stream.below(3),
        };
        let left = match fate {
            0 => {
                kept += 1;
                faults.add("sector_kept");
                newest.1.clone()
            }
            1 => {
                lost += 1;
                faults.add("sector_dropped");
                let choice = match style {
                    CrashStyle::Each => stream.index(rest.len()),
                    CrashStyle::KeepAll | CrashStyle::DropAll => 0,
                };
                rest[choice].1.clone()
            }
            _ => {
                lost += 1;
                faults.add("sector_garbled");
                faults.add(if sector == 512 {
                    "sector_garbled_512"
                } else {
                    "sector_garbled_4096"
                });
                garbled(&newest.1, &rest[0].1, stream)
            }
        };
        put_sector(&mut file.current, index, sector, &left);
    }
    if kept > 0 && lost > 0 {
        faults.add("write_torn");
    }
    // The length is metadata of its own: a grown file may have its old length after the crash.
    if file.durable_length < file.current.len() && matches!(style, CrashStyle::DropAll) {
        file.current.truncate(file.durable_length);
    }
    file.durable_length = file.current.len();
}

/// Half of the new bytes and half of the old, or noise over a part.
fn garbled(newest: &[u8], oldest: &[u8], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = newest.to_vec();
    if bytes.is_empty() {
        return bytes;
    }
    let split = stream.index(bytes.len());
    if stream.chance(500_000) {
        for (at, byte) in bytes.iter_mut().enumerate().skip(split) {
            *byte = oldest.get(at).copied().unwrap_or(0);
        }
    } else {
        for byte in &mut bytes[split..] {
            *byte = stream.bits().to_le_bytes()[0];
        }
    }
    bytes
}

fn slice_of(bytes: &[u8], index: usize, sector: usize) -> Vec<u8> {
    let start = (index * sector).min(bytes.len());
    let end = (start + sector).min(bytes.len());
    bytes[start..end].to_vec()
}

fn put_sector(bytes: &mut [u8], index: usize, sector: usize, content: &[u8]) {
    let start = index * sector;
    let end = (start + sector).min(bytes.len());
    let room = &mut bytes[start..end];
    let known = content.len().min(room.len());
    room[..known].copy_from_slice(&content[..known]);
    room[known..].fill(0);
}

fn apply(names: &mut BTreeMap<String, FileId>, change: &NameChange) {
    match change {
        NameChange::Link { name, file } => {
            names.insert(name.clone(), *file);
        }
        // After a crash the change may meet a directory in which an earlier one was lost.
        NameChange::Rename { from, to, file } => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        NameChange::Unlink { name } => {
            names.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Concern;

    fn disk(seed: u64) -> SimDisk {
        SimDisk::new(512, Stream::new(seed, Concern::Disk, 0))
    }

    fn formatted(seed: u64) -> (SimDisk, FileId) {
        let mut disk = disk(seed);
        let file = disk.create("log");
        disk.write(file, 0, &[1; 4096]);
        let mark = disk.mark();
        disk.synced(file, mark);
        disk.directory_synced(mark);
        (disk, file)
    }

    #[test]
    fn synced_bytes_and_names_survive_every_crash() {
        for seed in 0..100 {
            let (mut disk, _) = formatted(seed);
            assert!(!disk.is_dirty());
            disk.crash();
            let file = disk.open("log").expect("synced name");
            assert_eq!(disk.bytes(file), [1; 4096]);
        }
    }

    #[test]
    fn unsynced_sectors_are_kept_dropped_and_garbled_each_by_itself() {
        let mut faults = Counters::default();
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let (mut disk, file) = formatted(seed);
            disk.write(file, 512, &[2; 1024]);
            disk.crash();
            let bytes = disk.bytes(file);
            assert!(bytes[..512].iter().all(|&b| b == 1), "not written to");
            assert!(bytes[1536..].iter().all(|&b| b == 1), "not written to");
            outcomes.insert([bytes[1023], bytes[1535]].map(|b| b.min(3)));
            faults.merge(&disk.faults);
        }
        for name in [
            "sector_kept",
            "sector_dropped",
            "sector_garbled",
            "write_torn",
        ] {
            assert!(faults.count(name) > 5, "{name}");
        }
        for pair in [[1, 1], [1, 2], [2, 1], [2, 2]] {
            assert!(outcomes.contains(&pair), "{pair:?} of {outcomes:?}");
        }
    }

    #[test]
    fn a_sync_covers_only_what_was_written_before_it_started() {
        for seed in 0..100 {
            let (mut disk, file) = formatted(seed);
            disk.write(file, 0, &[2; 512]);
            let mark = disk.mark();
            disk.write(file, 0, &[3; 512]);
            disk.write(file, 512, &[3; 512]);
            disk.synced(file, mark);
            assert!(disk.is_dirty());
            disk.crash();
            let bytes = disk.bytes(file);
            assert_ne!(bytes[..512], [1; 512], "the first write was synced");
        }
    }

    #[test]
    fn a_process_reads_its_unsynced_writes() {
        let (mut disk, file) = formatted(1);
        disk.write(file, 4000, &[9; 200]);
        assert_eq!(disk.bytes(file)[3999], 1);
        assert_eq!(disk.bytes(file)[4000..], [9; 200]);
    }

    #[test]
    fn names_without_a_directory_sync_can_be_lost_and_old_ones_can_return() {
        let (mut created, mut renamed, mut removed) = (0, 0, 0);
        for seed in 0..200 {
            let (mut disk, _) = formatted(seed);
            disk.create("new");
            assert!(disk.rename("log", "old"));
            assert!(disk.open("log").is_none());
            disk.crash();
            created += u32::from(disk.open("new").is_none());
            renamed += u32::from(disk.open("log").is_some());
            assert_ne!(disk.open("log").is_some(), disk.open("old").is_some());

            let (mut disk, _) = formatted(seed);
            assert!(disk.remove("log"));
            disk.crash();
            removed += u32::from(disk.open("log").is_some());
        }
        for count in [created, renamed, removed] {
            assert!((50..150).contains(&count), "{created} {renamed} {removed}");
        }
    }

    #[test]
    fn a_removed_file_is_forgotten_once_its_removal_is_durable() {
        let (mut disk, _) = formatted(1);
        disk.remove("log");
        let mark = disk.mark();
        disk.directory_synced(mark);
        assert!(disk.files.is_empty());
    }
}
