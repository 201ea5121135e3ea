//! A disk in memory that tells every way in which a crash can leave it.
//!
//! Unlike the simulator's disk it draws nothing: [`Disk::crashes`] goes through all of them. Each
//! unsynced sector keeps the newest version written to it, falls back to any older one, or is left as
//! noise or as half of the newest version with noise behind; each unsynced change of the directory
//! happened or did not, independent of the others.
//!
//! If more sectors are unsynced than the caller wants to tell apart, neighbours share their fate.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

/// What is written or lost as one.
pub const SECTOR_BYTES: usize = 512;
/// All combinations of all fates up to this many; above, each subset of kept sectors with one fate
/// for all the others.
const COMBINATIONS_MAX: usize = 256;

/// How closely crashes are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// Sectors with a fate of their own; if there are more, neighbours share one.
    pub sectors: usize,
    pub losses: Losses,
}

/// Which disks there are for one set of sectors that are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// One for each way to lose them; if there are few sectors, one for each way to lose each.
    Every,
    /// One, the ways take turns from set to set.
    InTurns,
}

/// A file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct FileId(u32);

type Sector = [u8; SECTOR_BYTES];

#[derive(Clone, Debug, Default)]
struct File {
    /// What a process reads.
    current: Rc<Vec<u8>>,
    /// Sum of the digests of all its sectors that something was written to.
    digest: u64,
    /// Per unsynced sector its versions, the durable one first, the newest last.
    unsynced: BTreeMap<usize, Vec<Sector>>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, file: FileId },
    Rename { from: String, to: String },
}

/// What the directory says. Clones share it.
#[derive(Clone, Debug, Default)]
struct Names(BTreeMap<String, FileId>);

/// The files of one directory.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: BTreeMap<FileId, File>,
    names: Rc<Names>,
    durable_names: Rc<Names>,
    changes: Vec<NameChange>,
    files_made: u32,
}

impl Disk {
    /// Makes a file of zeros whose content is synced, unlike its name.
    pub fn create_zeroed(&mut self, name: &str, bytes: usize) {
        self.files_made += 1;
        let file = FileId(self.files_made);
        let content = File {
            current: Rc::new(vec![0; bytes]),
            digest: 0,
            unsynced: BTreeMap::new(),
        };
        self.files.insert(file, content);
        self.change(NameChange::Link {
            name: name.to_owned(),
            file,
        });
    }

    /// Gives a file another name, in place of one that has it.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn rename(&mut self, from: &str, to: &str) {
        assert!(self.names.0.contains_key(from), "no file {from}");
        self.change(NameChange::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        });
    }

    /// Writes whole sectors.
    ///
    /// # Panics
    /// If the file does not exist or is too short.
    pub fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) {
        assert!(offset.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES));
        let file = self.names.0[name];
        let file = self.files.get_mut(&file).expect("named files exist");
        for (sector, new) in (offset / SECTOR_BYTES..).zip(bytes.as_chunks().0) {
            if let Some(before) = file.put(sector, new) {
                let versions = file.unsynced.entry(sector);
                versions.or_insert_with(|| vec![before]).push(*new);
            }
        }
    }

    /// The data of a file is on stable storage.
    pub fn sync(&mut self, name: &str) {
        let file = self.names.0[name];
        self.files
            .get_mut(&file)
            .expect("named files exist")
            .unsynced
            .clear();
    }

    /// The names are on stable storage.
    pub fn sync_directory(&mut self) {
        self.changes.clear();
        self.durable_names = Rc::clone(&self.names);
        let names = &self.names.0;
        self.files
            .retain(|file, _| names.values().any(|used| used == file));
    }

    /// Names and contents as a process reads them.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.names
            .0
            .iter()
            .map(|(name, file)| (name.as_str(), self.files[file].current.as_slice()))
    }

    /// Whether a crash of the machine would leave everything as it is.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.changes.is_empty() && self.files.values().all(|file| file.unsynced.is_empty())
    }

    /// Tells two contents apart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (name, file) in &self.names.0 {
            (name, self.files[file].digest).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Every disk that a crash of the machine can leave, the untouched one first; returns how many.
    pub fn crashes(&self, detail: Detail, mut visit: impl FnMut(Self)) -> u64 {
        let groups = self.groups(detail.sectors);
        let combinations = combinations(&groups, detail.losses);
        let newest = self.all_synced();
        let mut count = 0;
        for happened in 0..1_u32 << self.changes.len() {
            let mut names = Names::clone(&self.durable_names);
            let changes = self.changes.iter().enumerate();
            for (_, change) in changes.filter(|(at, _)| happened & 1 << at == 0) {
                apply(&mut names, change);
            }
            let names = Rc::new(names);
            for fates in &combinations {
                let mut disk = newest.clone();
                disk.names = Rc::clone(&names);
                disk.durable_names = Rc::clone(&names);
                for (group, fate) in groups.iter().zip(fates) {
                    for (file, sector) in &group.sectors {
                        let versions = &self.files[file].unsynced[sector];
                        disk.decide(*file, *sector, versions, *fate);
                    }
                }
                visit(disk);
                count += 1;
            }
        }
        count
    }

    fn all_synced(&self) -> Self {
        let mut disk = self.clone();
        disk.changes.clear();
        for file in disk.files.values_mut() {
            file.unsynced.clear();
        }
        disk
    }

    fn decide(&mut self, file: FileId, sector: usize, versions: &[Sector], fate: Fate) {
        let file = self.files.get_mut(&file).expect("groups name files");
        let newest = versions.last().expect("at least two");
        let left = match fate {
            Fate::Newest => return,
            Fate::Version(at) => *versions.get(at).unwrap_or(newest),
            Fate::Noise => noise(),
            Fate::Half => {
                let mut half = noise();
                half[..SECTOR_BYTES / 2].copy_from_slice(&newest[..SECTOR_BYTES / 2]);
                half
            }
        };
        file.put(sector, &left);
    }

    /// The unsynced sectors, neighbours together if there are too many.
    fn groups(&self, groups_max: usize) -> Vec<Group> {
        let sectors: Vec<(FileId, usize, usize)> = self
            .files
            .iter()
            .flat_map(|(id, file)| {
                let sectors = file.unsynced.iter();
                sectors.map(|(sector, versions)| (*id, *sector, versions.len()))
            })
            .collect();
        let size = sectors.len().div_ceil(groups_max).max(1);
        sectors
            .chunks(size)
            .map(|chunk| Group {
                sectors: chunk
                    .iter()
                    .map(|(file, sector, _)| (*file, *sector))
                    .collect(),
                versions: chunk.iter().map(|(_, _, versions)| *versions).max(),
            })
            .collect()
    }

    fn change(&mut self, change: NameChange) {
        apply(Rc::make_mut(&mut self.names), &change);
        self.changes.push(change);
    }
}

impl File {
    /// Puts a sector in place and returns what was there, if that is another.
    fn put(&mut self, sector: usize, new: &Sector) -> Option<Sector> {
        let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
        let before: Sector = self.current[range.clone()].try_into().expect("a sector");
        if before == *new {
            return None;
        }
        let digest = self.digest.wrapping_sub(digest_of(sector, &before));
        self.digest = digest.wrapping_add(digest_of(sector, new));
        Rc::make_mut(&mut self.current)[range].copy_from_slice(new);
        Some(before)
    }
}

/// Tells contents of a sector apart; 0 for zeros.
fn digest_of(sector: usize, bytes: &Sector) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let words = bytes.as_chunks().0.iter().copied().map(u64::from_le_bytes);
    let sum = words.fold(0_u64, |sum, word| {
        (sum ^ word).wrapping_mul(ODD).rotate_left(29)
    });
    sum.wrapping_mul(ODD.wrapping_add(2 * sector as u64))
}

/// Sectors with one fate.
struct Group {
    sectors: Vec<(FileId, usize)>,
    versions: Option<usize>,
}

impl Group {
    fn fates(&self) -> Vec<Fate> {
        let versions = self.versions.expect("no group is empty");
        let older = (0..versions - 1).map(Fate::Version);
        let mut fates = vec![Fate::Newest];
        fates.extend(older);
        fates.extend([Fate::Noise, Fate::Half]);
        fates
    }
}

/// What is left of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Newest,
    /// An older one, counted from the durable one.
    Version(usize),
    Noise,
    /// The first half of the newest, then noise.
    Half,
}

/// Every combination of fates, the one that keeps everything first.
fn combinations(groups: &[Group], losses: Losses) -> Vec<Vec<Fate>> {
    let fates: Vec<Vec<Fate>> = groups.iter().map(Group::fates).collect();
    let all = fates
        .iter()
        .try_fold(1_usize, |all, fates| all.checked_mul(fates.len()));
    if losses == Losses::Every && all.is_some_and(|all| all <= COMBINATIONS_MAX) {
        return fates.iter().fold(vec![Vec::new()], |all, fates| {
            let longer = |start: Vec<Fate>| {
                fates.iter().map(move |fate| {
                    let mut start = start.clone();
                    start.push(*fate);
                    start
                })
            };
            all.into_iter().flat_map(longer).collect()
        });
    }
    let widest = fates.iter().max_by_key(|fates| fates.len());
    let others = widest.map_or(&[][..], |fates| &fates[1..]);
    let mut all = vec![vec![Fate::Newest; groups.len()]];
    for lost in 1..1_usize << groups.len() {
        let chosen = match losses {
            Losses::Every => others,
            Losses::InTurns => &others[lost % others.len()..][..1],
        };
        all.extend(chosen.iter().map(|other| {
            let fate = |at: usize| match lost & 1 << at {
                0 => Fate::Newest,
                _ => *other,
            };
            (0..groups.len()).map(fate).collect()
        }));
    }
    all
}

/// The same noise everywhere, so that noise over noise is nothing new.
fn noise() -> Sector {
    std::array::from_fn(|at| (at * 167 + 91).to_le_bytes()[0] | 1)
}

fn apply(Names(names): &mut Names, change: &NameChange) {
    match change {
        NameChange::Link { name, file } => {
            names.insert(name.clone(), *file);
        }
        // In a crash the change that made the file's name may be lost.
        NameChange::Rename { from, to } => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: Detail = Detail {
        sectors: 8,
        losses: Losses::Every,
    };

    fn formatted() -> Disk {
        let mut disk = Disk::default();
        disk.create_zeroed("a", 8 * SECTOR_BYTES);
        disk.sync_directory();
        disk
    }

    /// The first byte of each sector of "a", in every world.
    fn worlds(disk: &Disk) -> BTreeSet<Vec<u8>> {
        let mut worlds = BTreeSet::new();
        disk.crashes(ALL, |disk| {
            assert!(disk.is_durable());
            let (_, bytes) = disk.files().next().expect("the file");
            worlds.insert(bytes.chunks(SECTOR_BYTES).map(|s| s[0]).collect());
        });
        worlds
    }

    #[test]
    fn what_is_synced_has_one_future() {
        let mut disk = formatted();
        disk.write("a", 0, &[1; SECTOR_BYTES]);
        disk.sync("a");
        assert_eq!(disk.crashes(ALL, |after| assert!(after.is_durable())), 1);
        assert_eq!(worlds(&disk), [vec![1, 0, 0, 0, 0, 0, 0, 0]].into());
    }

    #[test]
    fn each_unsynced_sector_is_kept_lost_or_garbled_by_itself() {
        let mut disk = formatted();
        disk.write("a", 0, &[2; 2 * SECTOR_BYTES]);
        let mut count = 0;
        count += disk.crashes(ALL, |_| {});
        assert_eq!(count, 16, "two sectors with four fates");
        let firsts: BTreeSet<Vec<u8>> = worlds(&disk).iter().map(|w| w[..2].to_vec()).collect();
        for pair in [[2, 2], [2, 0], [0, 2], [0, 0], [noise()[0], 2]] {
            assert!(firsts.contains(&pair[..]), "{pair:?} of {firsts:?}");
        }
    }

    #[test]
    fn every_subset_of_eight_sectors_is_kept() {
        let mut disk = formatted();
        disk.write("a", 0, &[3; 8 * SECTOR_BYTES]);
        assert_eq!(disk.crashes(ALL, |_| {}), 1 + 255 * 3);
        let kept: BTreeSet<Vec<bool>> = worlds(&disk)
            .iter()
            .map(|world| world.iter().map(|byte| *byte == 3).collect())
            .collect();
        assert_eq!(kept.len(), 256);
        let turns = Detail {
            losses: Losses::InTurns,
            ..ALL
        };
        assert_eq!(disk.crashes(turns, |_| {}), 256);
    }

    #[test]
    fn a_sector_written_twice_can_fall_back_to_each_version() {
        let mut disk = formatted();
        disk.write("a", 0, &[4; SECTOR_BYTES]);
        disk.write("a", 0, &[5; SECTOR_BYTES]);
        let firsts: BTreeSet<u8> = worlds(&disk).iter().map(|world| world[0]).collect();
        assert!(firsts.is_superset(&[0, 4, 5].into()));
    }

    #[test]
    fn writing_what_is_there_puts_nothing_at_risk() {
        let mut disk = formatted();
        disk.write("a", 0, &[0; 8 * SECTOR_BYTES]);
        assert!(disk.is_durable());
    }

    #[test]
    fn names_are_kept_and_lost_in_every_combination() {
        let mut disk = formatted();
        disk.create_zeroed("tmp", SECTOR_BYTES);
        disk.rename("tmp", "b");
        disk.rename("a", "c");
        let mut worlds = BTreeSet::new();
        let count = disk.crashes(ALL, |disk| {
            let names: Vec<String> = disk.files().map(|(name, _)| name.to_owned()).collect();
            worlds.insert(names.join(" "));
        });
        assert_eq!(count, 8);
        let expected = ["a", "a b", "a tmp", "b c", "c", "c tmp"];
        assert_eq!(worlds, expected.map(str::to_owned).into());
    }
}
