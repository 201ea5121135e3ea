//! Opening: from a directory's files back to the store, by the table of [`super::table`].
//!
//! # Why the verdicts are right
//!
//! - *A complete manifest was published.* A manifest appears under its name by one rename, after all that
//!   it names was durable. So one whose checksum holds is a checkpoint, and if one of its files is not as
//!   it says, that file rotted or was lost later.
//! - *The older generation is whole.* Nothing that it lists is removed before two later checkpoints are
//!   published. The log behind its slot is kept as well, so falling back to it loses nothing.
//! - *Seen is not durable.* After the crash of the process alone, the rename that was seen may not be on
//!   disk. So the first repair is a sync of the directory: whoever recycles the log because of what was
//!   opened does so behind it.
//! - *Garbage is what no generation lists*: files of a checkpoint that was not published, or whose removal
//!   a crash undid. It is removed at once if both manifests can be read (or are absent). Otherwise only
//!   the next checkpoint, which replaces the one that cannot, proves that nobody needs those files.
//!
//! Only footers, bucket offsets and filters are read here. Every other block is checked when it is read, so a
//! damaged one costs what lies in it, until it is repaired from a peer; a damaged filter costs reads.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use thiserror::Error;

use super::accounts::read_run;
use super::block::{BlockError, BlockRef, Section};
use super::compaction::SLACK_BLOCKS;
use super::damage::{DAMAGE_LISTED_MAX, Damage, OpenError};
use super::filter::FILTER_BYTES_MAX;
use super::footer::{Footer, FooterError};
use super::history::{HistoryFile, HistoryFiles};
use super::manifest::{Listed, Manifest, ManifestError, length_valid};
use super::name::{Binding, FileId, FileKind, Generation};
use super::operation::Operation;
use super::places::Places;
use super::state::{Counters, Older, Store};
use super::table::{Here, Observation, OpenRow, Refusal, classify};
use crate::BLOCK_BYTES;

const BLOCK: usize = BLOCK_BYTES as usize;
/// Blocks of filters that one read asks for at most.
const READ_BLOCKS_MAX: u32 = 64;
const READ_BLOCKS: usize = READ_BLOCKS_MAX as usize;

/// Bytes of the directory's files, from wherever the shell has them: a map, a direct read, memory.
pub trait Read {
    /// Fills `out` from `offset` (in bytes) of the file called `name`.
    ///
    /// # Errors
    /// If the file is absent or too short, or the device fails; the shell logs which.
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable>;

    /// So many `bytes` from `offset` on will probably be read soon.
    fn expect(&mut self, _name: &str, _offset: u64, _bytes: u64) {}
}

/// A read gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unreadable")]
pub struct Unreadable;

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    /// Which generation is used, and why.
    pub row: OpenRow,
    /// What is damaged, of either generation. The store works without it; what it needs of it is repaired
    /// from peers. At most [`DAMAGE_LISTED_MAX`].
    pub damage: Vec<Damage>,
    /// To be carried out, in order, before anything in here is acted upon. They are not given back to
    /// the store.
    pub repairs: Vec<Operation>,
}

/// A manifest as found.
#[derive(Debug)]
enum Found {
    Absent,
    Damaged,
    Refused(Refusal, Generation, ManifestError),
    /// With what is wrong with its files.
    Readable(Manifest, Vec<Damage>),
}

/// Reads a store. `listing` is every file of the directory, by name, with its length in bytes.
///
/// # Errors
/// If there is no checkpoint to go on from, and nothing proves that there never was one; or if the files
/// are not this store's.
pub fn open(
    listing: &[(String, u64)],
    disk: &mut impl Read,
    binding: Binding,
) -> Result<Opened, OpenError> {
    let mut directory = Directory::new(listing, disk, binding);
    let mut damage = Vec::new();
    let even = directory.find(Generation::Even, &mut damage);
    let odd = directory.find(Generation::Odd, &mut damage);
    let ((newest, used), (other, beside)) = match even.number() >= odd.number() {
        true => ((even, Generation::Even), (odd, Generation::Odd)),
        false => ((odd, Generation::Odd), (even, Generation::Even)),
    };
    for wrong in newest.wrong().iter().chain(other.wrong()) {
        if damage.len() < DAMAGE_LISTED_MAX && !damage.contains(wrong) {
            damage.push(*wrong);
        }
    }
    let later = directory.files.keys().find(|file| file.number > 1).copied();
    let row = classify(&Observation {
        newest: newest.here(),
        other: other.here(),
        later_files: later.is_some(),
        refusal: newest.refusal().max(other.refusal()),
    });
    let (current, older, unusable) = match row {
        OpenRow::Newest | OpenRow::OlderIncomplete | OpenRow::Only => {
            (newest.manifest(), other.older(), None)
        }
        OpenRow::OneDamaged => (newest.manifest(), None, Some(beside)),
        OpenRow::NewestIncomplete => (other.manifest(), newest.older(), Some(used)),
        OpenRow::Empty => (None, None, None),
        OpenRow::ManifestsMissing => {
            let file = later.expect("the row says so");
            return Err(OpenError::ManifestsMissing { file });
        }
        OpenRow::Unusable => return Err(OpenError::Unusable { damage }),
        OpenRow::Foreign | OpenRow::Version => return Err(refused(row, &[newest, other])),
    };
    let current = current.unwrap_or_else(|| Manifest::empty(binding));
    Ok(directory.opened(row, current, older, unusable, damage))
}

/// The error of the manifest that a refusing row is about.
fn refused(row: OpenRow, found: &[Found; 2]) -> OpenError {
    let errors = found.iter().filter_map(|found| match found {
        Found::Refused(refusal, generation, error) => Some((*refusal, *generation, *error)),
        Found::Absent | Found::Damaged | Found::Readable(..) => None,
    });
    let (refusal, generation, error) = errors
        .max_by_key(|(refusal, ..)| *refusal)
        .expect("the row is about one");
    assert_eq!(row == OpenRow::Foreign, refusal == Refusal::Foreign);
    match refusal {
        Refusal::Foreign => OpenError::Foreign { generation, error },
        Refusal::Version => OpenError::Version { generation, error },
    }
}

impl Found {
    fn here(&self) -> Here {
        match self {
            Self::Absent => Here::Absent,
            Self::Damaged | Self::Refused(..) => Here::Damaged,
            Self::Readable(_, wrong) if wrong.is_empty() => Here::Complete,
            Self::Readable(..) => Here::Incomplete,
        }
    }

    /// What orders two: a readable one before any other, bytes before none.
    fn number(&self) -> (bool, bool, u64) {
        match self {
            Self::Absent => (false, false, 0),
            Self::Damaged | Self::Refused(..) => (false, true, 0),
            Self::Readable(manifest, _) => (true, true, manifest.number),
        }
    }

    /// What is wrong with its files.
    fn wrong(&self) -> &[Damage] {
        match self {
            Self::Readable(_, wrong) => wrong,
            Self::Absent | Self::Damaged | Self::Refused(..) => &[],
        }
    }

    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Refused(refusal, ..) => Some(*refusal),
            Self::Absent | Self::Damaged | Self::Readable(..) => None,
        }
    }

    fn manifest(self) -> Option<Manifest> {
        match self {
            Self::Readable(manifest, _) => Some(manifest),
            Self::Absent | Self::Damaged | Self::Refused(..) => None,
        }
    }

    fn older(self) -> Option<Older> {
        match self {
            Self::Readable(manifest, wrong) => Some(Older {
                manifest,
                complete: wrong.is_empty(),
            }),
            Self::Absent | Self::Damaged | Self::Refused(..) => None,
        }
    }
}

/// The files that were found, and what was read of them.
struct Directory<'a, R> {
    disk: &'a mut R,
    binding: Binding,
    /// Lengths in bytes.
    manifests: BTreeMap<Generation, u64>,
    files: BTreeMap<FileId, u64>,
    /// Of files that one of the manifests lists.
    footers: BTreeMap<FileId, Footer>,
}

impl<'a, R: Read> Directory<'a, R> {
    fn new(listing: &[(String, u64)], disk: &'a mut R, binding: Binding) -> Self {
        let mut directory = Self {
            disk,
            binding,
            manifests: BTreeMap::new(),
            files: BTreeMap::new(),
            footers: BTreeMap::new(),
        };
        for (name, bytes) in listing {
            if let Some(generation) = Generation::from_file_name(name) {
                directory.manifests.insert(generation, *bytes);
            } else if let Some(file) = FileId::from_file_name(name) {
                directory.files.insert(file, *bytes);
            }
        }
        directory
    }

    /// Reads a manifest and holds its files against it.
    fn find(&mut self, generation: Generation, damage: &mut Vec<Damage>) -> Found {
        let Some(bytes) = self.manifests.get(&generation).copied() else {
            return Found::Absent;
        };
        let manifest = match self.read_manifest(generation, bytes) {
            Ok(manifest) => manifest,
            Err(error @ ManifestError::Version { .. }) => {
                return Found::Refused(Refusal::Version, generation, error);
            }
            Err(error) => {
                damage.push(Damage::Manifest { generation, error });
                return Found::Damaged;
            }
        };
        if let Err(error) = manifest.check_owner(&self.binding) {
            return Found::Refused(Refusal::Foreign, generation, error);
        }
        let number = manifest.number;
        if Generation::of(number) != generation {
            damage.push(Damage::Parity { generation, number });
            return Found::Damaged;
        }
        let wrong = self.check_files(&manifest);
        Found::Readable(manifest, wrong)
    }

    fn read_manifest(
        &mut self,
        generation: Generation,
        length: u64,
    ) -> Result<Manifest, ManifestError> {
        if !length_valid(length) {
            return Err(ManifestError::Length { found: length });
        }
        let length = usize::try_from(length).expect("a manifest is at most 2 MiB");
        let mut bytes = vec![0; length];
        let read = self.disk.read(generation.file_name(), 0, &mut bytes);
        read.map_err(|Unreadable| ManifestError::Unreadable)?;
        Manifest::decode(&bytes)
    }

    fn check_files(&mut self, manifest: &Manifest) -> Vec<Damage> {
        let mut wrong = Vec::new();
        for listed in &manifest.files {
            if let Err(damage) = self.check_file(listed) {
                wrong.push(damage);
            }
        }
        if wrong.is_empty() {
            wrong.extend(self.check_positions(manifest).err());
        }
        wrong
    }

    fn check_file(&mut self, listed: &Listed) -> Result<(), Damage> {
        let file = listed.file;
        let found = self.files.get(&file).copied();
        let found = found.ok_or(Damage::Missing { file })?;
        let expected = u64::from(listed.blocks) * u64::from(BLOCK_BYTES);
        if found != expected {
            return Err(Damage::Length {
                file,
                found,
                expected,
            });
        }
        if !self.footers.contains_key(&file) {
            let footer = self.read_footer(listed);
            let footer = footer.map_err(|error| Damage::Footer { file, error })?;
            self.footers.insert(file, footer);
        }
        let footer = &self.footers[&file];
        let (found, expected) = (footer.content, listed.content);
        if found != expected {
            return Err(Damage::Content {
                file,
                found,
                expected,
            });
        }
        let swept = u64::from(listed.swept) * Section::AccountRows.rows_per_block() as u64;
        let rows = footer.rows(Section::AccountRows).saturating_sub(swept);
        if listed.live > rows {
            return Err(Damage::Live {
                file,
                found: rows,
                expected: listed.live,
            });
        }
        Ok(())
    }

    fn read_footer(&mut self, listed: &Listed) -> Result<Footer, FooterError> {
        let place = BlockRef {
            file: listed.file,
            block: listed.blocks - 1,
        };
        let mut bytes = [0; BLOCK];
        read_block(self.disk, place, &mut bytes)?;
        Footer::decode(&bytes, &self.binding, listed.file, listed.blocks)
    }

    /// Whether the history files hold every position once, up to the next one.
    fn check_positions(&self, manifest: &Manifest) -> Result<(), Damage> {
        let mut expected = None;
        for listed in manifest.files_of(FileKind::History) {
            let (file, footer) = (listed.file, &self.footers[&listed.file]);
            let expected_here = expected.unwrap_or(footer.base);
            if footer.base != expected_here {
                return Err(Damage::Base {
                    file,
                    found: footer.base,
                    expected: expected_here,
                });
            }
            let end = footer.base + footer.rows(Section::HistoryRows);
            if end > manifest.history_next {
                return Err(Damage::Base {
                    file,
                    found: end,
                    expected: manifest.history_next,
                });
            }
            expected = Some(end);
        }
        Ok(())
    }

    fn opened(
        mut self,
        row: OpenRow,
        current: Manifest,
        other: Option<Older>,
        unusable: Option<Generation>,
        mut damage: Vec<Damage>,
    ) -> Opened {
        self.footers.retain(|file, _| current.lists(*file));
        let repairs = self.repairs(row, &current, other.as_ref());
        let (places, history) = (self.places(), self.history(&mut damage));
        let store = Store {
            binding: self.binding,
            current,
            other,
            unusable,
            footers: self.footers,
            history,
            places,
            on_disk: self.files.into_keys().collect::<BTreeSet<_>>(),
            running: None,
            slack_blocks: SLACK_BLOCKS,
            publishing: None,
            removals: VecDeque::new(),
            operation_open: None,
            counters: Counters::default(),
        };
        Opened {
            store,
            row,
            damage,
            repairs,
        }
    }

    /// What has to be done first; forgets the files that it removes.
    fn repairs(
        &mut self,
        row: OpenRow,
        current: &Manifest,
        other: Option<&Older>,
    ) -> Vec<Operation> {
        let mut repairs = vec![Operation::SyncDirectory];
        if row != OpenRow::OneDamaged {
            let listed = |file: &FileId| {
                current.lists(*file) || other.is_some_and(|other| other.manifest.lists(*file))
            };
            let garbage = self.files.keys().filter(|file| !listed(file));
            repairs.extend(garbage.map(|file| Operation::Remove { file: *file }));
            self.files.retain(|file, _| listed(file));
        }
        repairs
    }

    fn places(&self) -> Places {
        let mut places = Places::default();
        for (file, footer) in &self.footers {
            if file.kind == FileKind::Accounts {
                let rows = footer.rows(Section::AccountRows);
                let rows = u32::try_from(rows).expect("a section has at most 2^30 rows");
                let first = places.assign(file.number, rows);
                first.expect("a running store had places for them all");
            }
        }
        places
    }

    fn history(&mut self, damage: &mut Vec<Damage>) -> HistoryFiles {
        let mut history = HistoryFiles::default();
        for (file, footer) in &self.footers {
            if file.kind != FileKind::History {
                continue;
            }
            let mut found = HistoryFile::new(footer.clone());
            for block in found.offset_blocks() {
                let place = footer.place(block);
                let mut bytes = [0; BLOCK];
                let adopted = read_block(self.disk, place, &mut bytes)
                    .and_then(|()| footer.decode_block(block, &bytes, &self.binding))
                    .and_then(|block| found.adopt(place.block, block.rows));
                if let Err(error) = adopted
                    && damage.len() < DAMAGE_LISTED_MAX
                {
                    damage.push(Damage::Block { place, error });
                }
            }
            history.insert(found);
        }
        let mut bytes = 0;
        for file in history.newest_first() {
            bytes += file.keep_filter();
            if bytes > FILTER_BYTES_MAX {
                break;
            }
            self.read_filter(file, damage);
        }
        history.bound_filters(FILTER_BYTES_MAX);
        history
    }

    fn read_filter(&mut self, file: &mut HistoryFile, damage: &mut Vec<Damage>) {
        let blocks = file.filter_blocks();
        let mut next = blocks.start;
        let mut bytes = vec![0; READ_BLOCKS * BLOCK];
        while next < blocks.end {
            let run = (blocks.end - next).min(READ_BLOCKS_MAX) as usize;
            let place = file.footer.place(next);
            let readable = read_run(self.disk, place, &mut bytes[..run * BLOCK]);
            for (index, block) in bytes.chunks(BLOCK).take(run).enumerate() {
                let place = file.footer.place(next);
                let decoded = match index < readable {
                    true => file.footer.decode_block(next, block, &self.binding),
                    false => Err(BlockError::Unreadable),
                };
                match decoded {
                    Ok(found) => file.adopt_filter(next, found.rows),
                    Err(error) if damage.len() < DAMAGE_LISTED_MAX => {
                        damage.push(Damage::Block { place, error });
                    }
                    Err(_) => {}
                }
                next += 1;
            }
        }
    }
}

fn read_block(disk: &mut impl Read, place: BlockRef, out: &mut [u8]) -> Result<(), BlockError> {
    let read = disk.read(&place.file.file_name(), place.offset(), out);
    read.map_err(|Unreadable| BlockError::Unreadable)
}
