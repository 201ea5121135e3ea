//! Loading accounts when a store is opened: the index from the index sections alone, then, if they are
//! wanted, the rows.
//!
//! The newest row of an account counts, and none once it left. Entries are taken oldest file first, and in
//! a file as they lie: rows, then ids that left. An entry says whether other ids may have its fingerprint:
//!
//! | entry | what it does to older entries of its fingerprint |
//! | --- | --- |
//! | a row | replaces them all: they are the same account's, or of accounts that left since |
//! | gone | removes them all |
//! | a row, shared | stays beside them, until ids are compared |
//! | gone, shared | nothing, until ids are compared |
//!
//! Ids are read, and compared, only for fingerprints whose last word was a shared entry: two ids of
//! 2^64 fingerprints. So a restart reads 12 bytes per row instead of 160, and is exact all the same. Which files
//! between were dropped makes no difference, as long as no file is that says of an id in an older one
//! that it left ([`super::Store`] keeps those).
//!
//! At the end the live rows are counted per file and must be what the manifest says: an index that is not
//! the one of the checkpoint is refused rather than used.

use std::collections::{BTreeMap, VecDeque};

use super::block::{BlockError, BlockRef, ENTRY_BYTES, ID_BYTES, Section};
use super::checkpoint::{ENTRY_GONE, ENTRY_SHARED};
use super::damage::Damage;
use super::footer::{ROWS_MAX, RowAt};
use super::index::{AccountIndex, PARTS, part_of};
use super::name::{FileId, FileKind};
use super::open::{Read, Unreadable};
use super::places::Place;
use super::state::Store;
use crate::BLOCK_BYTES;
use crate::bytes::{u32_at, u64_at};

const BLOCK: usize = BLOCK_BYTES as usize;
/// Blocks that one read asks for at most.
const READ_BLOCKS_MAX: usize = 64;
/// Entries that wait at most, but for those of one step more: 16 MiB in up to twice as much, and as much to sort them.
const WAITING_MAX: usize = 1 << 20;

/// Account rows that are not the newest of their account: a bit per place.
#[derive(Clone, Debug, Default)]
pub struct DeadRows {
    words: Vec<u64>,
}

impl DeadRows {
    /// Whether the row is not the newest of its account.
    #[must_use]
    pub fn contains(&self, place: Place) -> bool {
        let word = self.words.get(place.0 as usize / 64);
        word.is_some_and(|word| word >> (place.0 % 64) & 1 == 1)
    }

    fn insert(&mut self, place: Place) {
        let at = place.0 as usize / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (place.0 % 64);
    }
}

/// Builds the [`AccountIndex`], a few blocks at a time.
///
/// Entries wait until there are many of one file, and are then put in part by part: in the order of the file each one
/// would miss the processor's caches, and this is most of what a start of a large store takes.
#[derive(Debug)]
pub struct IndexLoad {
    blocks: Sections,
    /// Checked and not put in yet, of one file, in its order.
    waiting: Vec<(u64, u32)>,
    index: AccountIndex,
    dead: DeadRows,
    /// Live rows by file.
    live: BTreeMap<u64, u64>,
    /// Fingerprints whose ids have to be compared, with the ids of it that left: file and row.
    shared: BTreeMap<u64, Vec<(u64, u32)>>,
    checked: bool,
}

/// Reads every row that is the newest of its account, a few blocks at a time, in file order.
#[derive(Debug)]
pub struct RowLoad {
    blocks: Sections,
    dead: DeadRows,
}

/// One account of a shared fingerprint: the last that was said about it.
struct Newest {
    /// File, then rows before ids that left.
    order: (u64, bool, u32),
    place: Option<Place>,
}

impl IndexLoad {
    /// Begins. The store must not publish a checkpoint until the loading has finished.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let live = store.account_files().map(|file| file.live).sum::<u64>();
        Self {
            blocks: Sections::new(store, Section::AccountIndex),
            waiting: Vec::new(),
            index: AccountIndex::with_room_for(usize::try_from(live).expect("below 2^32")),
            dead: DeadRows::default(),
            live: store.account_files().map(|file| (file.number, 0)).collect(),
            shared: BTreeMap::new(),
            checked: false,
        }
    }

    /// Reads at most `blocks_max` further blocks, or compares the ids of one shared fingerprint. False once
    /// all is read and checked.
    ///
    /// # Errors
    /// What is not as it was written. After a damaged block: repair it, and call again.
    pub fn step(
        &mut self,
        store: &Store,
        disk: &mut impl Read,
        blocks_max: usize,
    ) -> Result<bool, Damage> {
        if let Some(number) = self.blocks.file() {
            let waiting = &mut self.waiting;
            self.blocks.step(store, disk, blocks_max, |place, rows| {
                check(store, place, rows)?;
                let entries = rows.chunks_exact(ENTRY_BYTES);
                waiting.extend(entries.map(|entry| (u64_at(entry, 0), u32_at(entry, 8))));
                Ok(())
            })?;
            if self.waiting.len() >= WAITING_MAX || self.blocks.file() != Some(number) {
                self.put_in(store, number);
            }
            return Ok(true);
        }
        if let Some((fingerprint, gone)) = self.shared.first_key_value() {
            let (fingerprint, gone) = (*fingerprint, gone.clone());
            self.compare(store, disk, fingerprint, &gone)?;
            self.shared.remove(&fingerprint);
            return Ok(true);
        }
        self.check_live(store)?;
        self.checked = true;
        Ok(false)
    }

    /// The index, and which rows it does not point to.
    ///
    /// # Panics
    /// If [`IndexLoad::step`] did not say that all is read.
    #[must_use]
    pub fn finish(self) -> (AccountIndex, DeadRows) {
        assert!(self.checked);
        (self.index, self.dead)
    }

    /// Puts in what waits, part by part, and in each part in the order of the file: entries of one fingerprint are
    /// of one part.
    fn put_in(&mut self, store: &Store, number: u64) {
        let mut ends = vec![0_usize; PARTS];
        for (fingerprint, _) in &self.waiting {
            ends[part_of(*fingerprint)] += 1;
        }
        let mut begin = 0;
        for end in &mut ends {
            begin += core::mem::replace(end, begin);
        }
        let mut sorted = vec![(0, 0); self.waiting.len()];
        for entry in self.waiting.drain(..) {
            let place = &mut ends[part_of(entry.0)];
            sorted[*place] = entry;
            *place += 1;
        }
        let first = store.places.place(number, 0);
        let mut entries = Entries {
            store,
            index: &mut self.index,
            dead: &mut self.dead,
            live: &mut self.live,
            shared: &mut self.shared,
        };
        let before = entries.index.len() as u64;
        let mut removed = 0;
        for (fingerprint, code) in sorted {
            removed += entries.forget(number, fingerprint, code);
            if code & ENTRY_GONE == 0 {
                let first = first.expect("a file with rows has places");
                let row = code & !ENTRY_SHARED;
                entries.index.insert(fingerprint, Place(first.0 + row));
            }
        }
        let added = entries.index.len() as u64 + removed - before;
        let live = entries.live_of(number);
        *live = live.wrapping_add(added);
    }

    /// Leaves each id of a shared fingerprint the newest that was said about it.
    fn compare(
        &mut self,
        store: &Store,
        disk: &mut impl Read,
        fingerprint: u64,
        gone: &[(u64, u32)],
    ) -> Result<(), Damage> {
        let places: Vec<Place> = self.index.candidates(fingerprint).collect();
        let mut newest: BTreeMap<[u8; ID_BYTES], Newest> = BTreeMap::new();
        let mut say = |id, said: Newest| {
            let known = newest.entry(id).or_insert(Newest {
                order: (0, false, 0),
                place: None,
            });
            if said.order > known.order {
                *known = said;
            }
        };
        for place in &places {
            let (number, row) = store.places.locate(*place).expect("a place of the index");
            let at = store.locate_account(*place).expect("its row");
            let order = (number, false, row);
            let place = Some(*place);
            say(read_id(store, disk, &at)?, Newest { order, place });
        }
        for (number, row) in gone {
            let footer = &store.footers[&accounts(*number)];
            let at = footer.locate(Section::Gone, u64::from(*row));
            let at = at.expect("checked when the entry was taken");
            let order = (*number, true, *row);
            let place = None;
            say(read_id(store, disk, &at)?, Newest { order, place });
        }
        for place in places {
            if !newest.values().any(|newest| newest.place == Some(place)) {
                let (number, _) = store.places.locate(place).expect("a place of the index");
                self.index.remove(fingerprint, place);
                self.dead.insert(place);
                *self.live.get_mut(&number).expect("a file of the store") -= 1;
            }
        }
        Ok(())
    }

    fn check_live(&self, store: &Store) -> Result<(), Damage> {
        for file in store.account_files() {
            let (found, expected) = (self.live[&file.number], file.live);
            if found != expected {
                return Err(Damage::Live {
                    file: accounts(file.number),
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }
}

impl RowLoad {
    /// Begins, with what [`IndexLoad::finish`] said.
    #[must_use]
    pub fn new(store: &Store, dead: DeadRows) -> Self {
        Self {
            blocks: Sections::new(store, Section::AccountRows),
            dead,
        }
    }

    /// Reads at most `blocks_max` further blocks and hands their live rows over. False once all are read.
    ///
    /// # Errors
    /// The block that is not what was written; no row of it was handed over. Repair it, and call again.
    pub fn step(
        &mut self,
        store: &Store,
        disk: &mut impl Read,
        blocks_max: usize,
        mut each: impl FnMut(Place, &[u8]),
    ) -> Result<bool, Damage> {
        let Self { blocks, dead } = self;
        blocks.step(store, disk, blocks_max, |block, rows| {
            for (row, bytes) in
                (block.first_row..).zip(rows.chunks(Section::AccountRows.row_bytes()))
            {
                let place = store.places.place(block.number, row);
                let place = place.expect("a row of the file");
                if !dead.contains(place) {
                    each(place, bytes);
                }
            }
            Ok(())
        })
    }
}

/// Whether a block's entries are rows in order, then ids that left in order: nothing else is written.
fn check(store: &Store, block: BlockAt, rows: &[u8]) -> Result<(), BlockError> {
    let footer = &store.footers[&accounts(block.number)];
    let own = footer.rows(Section::AccountRows);
    for (bytes, entry) in rows
        .chunks_exact(ENTRY_BYTES)
        .zip(u64::from(block.first_row)..)
    {
        let code = u32_at(bytes, 8) & !ENTRY_SHARED;
        let expected = match entry.checked_sub(own) {
            None => entry,
            Some(gone) => gone | u64::from(ENTRY_GONE),
        };
        if u64::from(code) != expected {
            return Err(BlockError::Field {
                field: "index entry",
                found: u64::from(code),
            });
        }
    }
    Ok(())
}

/// Where entries go.
struct Entries<'a> {
    store: &'a Store,
    index: &'a mut AccountIndex,
    dead: &'a mut DeadRows,
    live: &'a mut BTreeMap<u64, u64>,
    shared: &'a mut BTreeMap<u64, Vec<(u64, u32)>>,
}

impl Entries<'_> {
    /// What an entry does to older ones of its fingerprint; how many of them it removes.
    fn forget(&mut self, number: u64, fingerprint: u64, code: u32) -> u64 {
        if code & ENTRY_SHARED != 0 {
            let gone = self.shared.entry(fingerprint).or_default();
            if code & ENTRY_GONE != 0 {
                gone.push((number, code & !(ENTRY_GONE | ENTRY_SHARED)));
            }
            return 0;
        }
        self.shared.remove(&fingerprint);
        let mut removed = 0;
        loop {
            let old = self.index.candidates(fingerprint).next();
            let Some(old) = old else { return removed };
            self.index.remove(fingerprint, old);
            self.dead.insert(old);
            let (number, _) = self.store.places.locate(old).expect("was taken");
            // Of this very file, if an entry should have said that it is shared: then a row is taken away
            // before it is counted. What comes out is checked at the end.
            let live = self.live_of(number);
            *live = live.wrapping_sub(1);
            removed += 1;
        }
    }

    fn live_of(&mut self, number: u64) -> &mut u64 {
        self.live.get_mut(&number).expect("a file of the store")
    }
}

/// A block of a section that is read as a whole.
#[derive(Clone, Copy, Debug)]
struct BlockAt {
    number: u64,
    /// Number of its first row in the section.
    first_row: u32,
}

/// Goes through one section of all accounts files, oldest file first.
#[derive(Debug)]
struct Sections {
    section: Section,
    files: VecDeque<u64>,
    /// Block of the section in the first file that comes next.
    next: u32,
}

impl Sections {
    fn new(store: &Store, section: Section) -> Self {
        Self {
            section,
            files: store.account_files().map(|file| file.number).collect(),
            next: 0,
        }
    }

    /// The file that comes next.
    fn file(&self) -> Option<u64> {
        self.files.front().copied()
    }

    /// Hands over at most `blocks_max` blocks. False once all are.
    fn step(
        &mut self,
        store: &Store,
        disk: &mut impl Read,
        blocks_max: usize,
        mut each: impl FnMut(BlockAt, &[u8]) -> Result<(), BlockError>,
    ) -> Result<bool, Damage> {
        assert!(blocks_max > 0);
        let Some(number) = self.files.front().copied() else {
            return Ok(false);
        };
        let footer = &store.footers[&accounts(number)];
        let extent = footer.section(self.section);
        let left = (extent.blocks - self.next) as usize;
        let blocks = left.min(blocks_max).min(READ_BLOCKS_MAX);
        let mut bytes = vec![0; blocks * BLOCK];
        let first = footer.place(extent.first + self.next);
        let readable = read_run(disk, first, &mut bytes);
        for block in bytes.chunks(BLOCK).take(readable) {
            let place = footer.place(extent.first + self.next);
            let first_row = u64::from(self.next) * self.section.rows_per_block() as u64;
            let at = BlockAt {
                number,
                first_row: u32::try_from(first_row).expect("a section has at most 2^31 rows"),
            };
            let rows = store.block(place, block);
            rows.and_then(|rows| each(at, rows))
                .map_err(|error| Damage::Block { place, error })?;
            self.next += 1;
        }
        if readable < blocks {
            let place = footer.place(extent.first + self.next);
            let error = BlockError::Unreadable;
            return Err(Damage::Block { place, error });
        }
        if self.next == extent.blocks {
            self.files.pop_front();
            self.next = 0;
        }
        Ok(!self.files.is_empty())
    }
}

/// Fills as many blocks as can be read, from the first on; how many these are.
pub(crate) fn read_run(disk: &mut impl Read, first: BlockRef, out: &mut [u8]) -> usize {
    let name = first.file.file_name();
    if out.is_empty() {
        return 0;
    }
    if disk.read(&name, first.offset(), out).is_ok() {
        return out.len() / BLOCK;
    }
    let mut offset = first.offset();
    for (blocks, block) in out.chunks_mut(BLOCK).enumerate() {
        if let Err(Unreadable) = disk.read(&name, offset, block) {
            return blocks;
        }
        offset += BLOCK as u64;
    }
    out.len() / BLOCK
}

fn read_id(store: &Store, disk: &mut impl Read, at: &RowAt) -> Result<[u8; ID_BYTES], Damage> {
    let damaged = |error| Damage::Block {
        place: at.place,
        error,
    };
    let mut bytes = [0; BLOCK];
    let read = disk.read(&at.place.file.file_name(), at.place.offset(), &mut bytes);
    read.map_err(|Unreadable| damaged(BlockError::Unreadable))?;
    let row = store.row(at, &bytes).map_err(damaged)?;
    let id = row.first_chunk::<ID_BYTES>();
    Ok(*id.expect("a row begins with its id"))
}

fn accounts(number: u64) -> FileId {
    FileId {
        kind: FileKind::Accounts,
        number,
    }
}

const _: () = assert!(2 * ROWS_MAX <= u32::MAX as u64);
