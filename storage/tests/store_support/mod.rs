//! A directory in memory that forgets what was not synced, a model of what a store should hold, and a
//! full read of one.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use quorate_storage::store::{
    ACCOUNT_ROW_BYTES, AccountIndex, Binding, BlockRef, BlockRun, CONTEXT_BYTES, Damage, FileId,
    Finish, Generation, HISTORY_ROW_BYTES, IndexLoad, Lookup, LookupStep, OpenError, OpenRow,
    Opened, Operation, Place, Published, Read, RowLoad, Store, Unreadable, open,
};

pub const BLOCK: usize = 4096;
pub const BINDING: Binding = Binding {
    cluster: 7,
    shard: 2,
};

/// A file's bytes: as they are read now, and as they are after a power cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    pub seen: Vec<u8>,
    pub durable: Vec<u8>,
}

/// A directory: names as they are read now, and as they are after a power cut.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Kept,
    /// Every second one: block of a file, name of the directory.
    Half,
}

pub const FATES: [Fate; 3] = [Fate::Lost, Fate::Kept, Fate::Half];

impl Disk {
    pub fn perform(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { file } => self.create(&file.file_name()),
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                assert!(bytes.len().is_multiple_of(BLOCK) && !bytes.is_empty());
                let seen = &mut self.inode(&file.file_name()).seen;
                assert_eq!(seen.len() as u64, *offset, "behind everything written");
                seen.extend_from_slice(bytes);
            }
            Operation::Sync { file } => self.sync(&file.file_name()),
            Operation::SyncDirectory => self.durable = self.seen.clone(),
            Operation::Publish { generation, bytes } => {
                self.rename_manifest(*generation, bytes);
                self.durable = self.seen.clone();
            }
            Operation::Retract { generation } => {
                self.seen.remove(generation.file_name());
                self.durable = self.seen.clone();
            }
            Operation::Remove { file } => {
                self.seen.remove(&file.file_name());
            }
        }
    }

    /// An operation that the power cut interrupts: as far as it can get without being done.
    pub fn perform_partly(&mut self, operation: &Operation) {
        match operation {
            Operation::Publish { generation, bytes } => self.rename_manifest(*generation, bytes),
            Operation::Retract { generation } => {
                self.seen.remove(generation.file_name());
            }
            Operation::Create { .. } | Operation::Write { .. } | Operation::Remove { .. } => {
                self.perform(operation);
            }
            Operation::Sync { .. } | Operation::SyncDirectory => {}
        }
    }

    pub fn power_cut(&mut self, writes: Fate, names: Fate) {
        for inode in &mut self.inodes {
            let seen = inode.seen.clone();
            match writes {
                Fate::Lost => {}
                Fate::Kept => inode.durable = seen,
                Fate::Half => {
                    inode.durable.resize(seen.len(), 0);
                    for (index, block) in seen.chunks(BLOCK).enumerate() {
                        // The footer, too: length and footer alone prove nothing.
                        if index % 2 == 1 || (index + 1) * BLOCK == seen.len() {
                            inode.durable[index * BLOCK..][..block.len()].copy_from_slice(block);
                        }
                    }
                }
            }
            inode.seen = inode.durable.clone();
        }
        let either = self.seen.keys().chain(self.durable.keys());
        let changed = either.filter(|name| self.seen.get(*name) != self.durable.get(*name));
        let mut changed: Vec<String> = changed.cloned().collect();
        changed.sort();
        changed.dedup();
        for (index, name) in changed.into_iter().enumerate() {
            let keeps = match names {
                Fate::Lost => false,
                Fate::Kept => true,
                Fate::Half => index % 2 == 0,
            };
            if keeps {
                match self.seen.get(&name) {
                    Some(inode) => self.durable.insert(name, *inode),
                    None => self.durable.remove(&name),
                };
            }
        }
        self.seen = self.durable.clone();
    }

    pub fn listing(&self) -> Vec<(String, u64)> {
        let files = self.seen.iter();
        files
            .map(|(name, inode)| (name.clone(), self.inodes[*inode].seen.len() as u64))
            .collect()
    }

    pub fn names(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    pub fn bytes(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.inode(name).seen
    }

    pub fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.create(name);
        *self.bytes(name) = bytes;
        self.sync(name);
        self.durable = self.seen.clone();
    }

    pub fn remove(&mut self, name: &str) {
        assert!(self.seen.remove(name).is_some(), "{name} is there");
        self.durable = self.seen.clone();
    }

    pub fn open(&mut self) -> Result<Opened, OpenError> {
        let listing = self.listing();
        open(&listing, self, BINDING)
    }

    /// Opens, repairs, and reads the index.
    pub fn start(&mut self) -> (Node, OpenRow) {
        let opened = self.open().expect("the store opens");
        for repair in &opened.repairs {
            self.perform(repair);
        }
        let row = opened.row;
        let store = opened.store;
        let (index, accounts) = load_accounts(&store, self).expect("the accounts are whole");
        let places = accounts.iter().map(|(id, (place, _))| (*id, *place));
        let node = Node {
            places: places.collect(),
            store,
            index,
        };
        (node, row)
    }

    pub fn read_block(&self, place: BlockRef) -> Vec<u8> {
        let inode = self.seen[&place.file.file_name()];
        let offset = usize::try_from(place.offset()).unwrap();
        self.inodes[inode].seen[offset..offset + BLOCK].to_vec()
    }

    pub fn read_blocks(&self, run: BlockRun) -> Vec<u8> {
        (run.first.block..run.first.block + run.blocks)
            .flat_map(|block| self.read_block(BlockRef { block, ..run.first }))
            .collect()
    }

    fn create(&mut self, name: &str) {
        match self.seen.get(name) {
            Some(inode) => self.inodes[*inode].seen.clear(),
            None => {
                self.seen.insert(name.to_owned(), self.inodes.len());
                self.inodes.push(Inode::default());
            }
        }
    }

    fn sync(&mut self, name: &str) {
        let inode = self.inode(name);
        inode.durable = inode.seen.clone();
    }

    fn rename_manifest(&mut self, generation: Generation, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        let inode = Inode {
            seen: bytes.clone(),
            durable: bytes,
        };
        let name = generation.file_name().to_owned();
        self.seen.insert(name, self.inodes.len());
        self.inodes.push(inode);
    }

    fn inode(&mut self, name: &str) -> &mut Inode {
        &mut self.inodes[*self.seen.get(name).expect("the file is there")]
    }
}

impl Read for Disk {
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        let inode = self.seen.get(name).ok_or(Unreadable)?;
        let offset = usize::try_from(offset).unwrap();
        let bytes = self.inodes[*inode].seen.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(Unreadable)?);
        Ok(())
    }
}

/// A store with its index, as a replica keeps it.
pub struct Node {
    pub store: Store,
    pub index: AccountIndex,
    pub places: BTreeMap<u128, Place>,
}

/// What a store should hold, as of one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub number: u64,
    pub slot: u64,
    pub mark: Vec<u8>,
    /// Rows by id.
    pub accounts: BTreeMap<u128, Vec<u8>>,
    /// By position.
    pub history: BTreeMap<u64, Vec<u8>>,
    pub side: Vec<u8>,
}

/// What happens between two checkpoints.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub changed: Vec<u128>,
    pub gone: Vec<u128>,
    pub effects: u64,
    pub side_bytes: usize,
    pub history_from: u64,
}

/// Pairs of ids from 100 on share their fingerprint.
pub fn fingerprint(id: u128) -> u64 {
    let id = if id >= 100 { id & !1 } else { id };
    mix(u64::try_from(id).unwrap())
}

pub fn mix(value: u64) -> u64 {
    let mixed = (value ^ 0x5DEE_CE66_D1CE_5EED).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

pub fn account_row(id: u128, number: u64) -> [u8; ACCOUNT_ROW_BYTES] {
    let mut row = [u8::try_from(number % 251).unwrap(); ACCOUNT_ROW_BYTES];
    row[..16].copy_from_slice(&id.to_le_bytes());
    row
}

/// Positions are their ids.
pub fn history_row(position: u64) -> [u8; HISTORY_ROW_BYTES] {
    let mut row = [u8::try_from(position % 253).unwrap(); HISTORY_ROW_BYTES];
    row[..8].copy_from_slice(&position.to_le_bytes());
    row
}

/// Two neighbours share their fingerprint.
pub fn history_fingerprint(position: u64) -> u64 {
    mix(position / 2)
}

impl Image {
    /// The checkpoint behind this one.
    pub fn after(&self, changes: &Changes) -> Self {
        let number = self.number + 1;
        let mut next = self.clone();
        next.number = number;
        next.slot += 10;
        next.mark = format!("mark {number}").into_bytes();
        for id in &changes.changed {
            next.accounts.insert(*id, account_row(*id, number).to_vec());
        }
        for id in &changes.gone {
            assert!(next.accounts.remove(id).is_some());
        }
        let first = next
            .history
            .last_key_value()
            .map_or(1, |(last, _)| last + 1);
        for position in first..first + changes.effects {
            next.history
                .insert(position, history_row(position).to_vec());
        }
        let side = 0..changes.side_bytes;
        next.side = side
            .map(|at| u8::try_from((at + usize::try_from(number).unwrap()) % 255).unwrap())
            .collect();
        next
    }
}

impl Node {
    /// Begins the next checkpoint and pushes everything; moves what it wants moved.
    pub fn push(&mut self, disk: &Disk, before: &Image, changes: &Changes) {
        self.begin(before, changes);
        while let Some(run) = self.store.moving() {
            self.move_rows(&disk.read_blocks(run)).unwrap();
        }
        while self.store.step(64) {}
        assert_eq!(self.store.moving(), None);
    }

    /// Begins the next checkpoint and pushes everything.
    pub fn begin(&mut self, before: &Image, changes: &Changes) {
        let Self {
            store,
            index,
            places,
        } = self;
        let after = before.after(changes);
        let accounts = u32::try_from(changes.changed.len()).unwrap();
        assert_eq!(store.begin(after.slot, accounts + 5), Ok(after.number));
        for id in &changes.changed {
            let own = places.get(id).copied();
            let fingerprint = fingerprint(*id);
            let shared = index
                .candidates(fingerprint)
                .any(|place| Some(place) != own);
            let place = store.account(&account_row(*id, after.number), fingerprint, shared, own);
            match own {
                Some(own) => index.replace(fingerprint, own, place),
                None => index.insert(fingerprint, place),
            }
            places.insert(*id, place);
        }
        for id in &changes.gone {
            let own = places.remove(id).expect("it has a row");
            let fingerprint = fingerprint(*id);
            let shared = index.candidates(fingerprint).any(|place| place != own);
            store.gone(&id.to_le_bytes(), fingerprint, shared, own);
            index.remove(fingerprint, own);
        }
        let last = before.history.last_key_value().map_or(0, |(last, _)| *last);
        for (position, row) in after.history.range(last + 1..) {
            let row = row.as_slice().try_into().unwrap();
            let key = u128::from(*position);
            let pushed = store.history(row, history_fingerprint(*position), key);
            assert_eq!(pushed, *position);
        }
        if changes.effects > 0 {
            let context = [u8::try_from(after.number).unwrap(); CONTEXT_BYTES];
            assert_eq!(store.context(&context), 0);
        }
        for part in after.side.chunks(700) {
            store.side(part);
        }
        store.finish(Finish {
            mark: &after.mark,
            history_from: changes.history_from,
        });
    }

    /// Feeds what is wanted, and follows the rows.
    pub fn move_rows(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let seen = RefCell::new(Vec::new());
        let Self {
            store,
            index,
            places,
        } = self;
        let before = index.len();
        store.move_rows(index, bytes, |id| {
            let id = u128::from_le_bytes(*id);
            seen.borrow_mut().push(id);
            fingerprint(id)
        })?;
        assert_eq!(index.len(), before);
        for id in seen.into_inner() {
            let candidates: BTreeSet<Place> = index.candidates(fingerprint(id)).collect();
            if places
                .get(&id)
                .is_some_and(|place| !candidates.contains(place))
            {
                // Moved, like another of its fingerprint perhaps: the lower of the new places is the first one's.
                let known: BTreeSet<Place> = [id, id ^ 1]
                    .iter()
                    .filter_map(|id| places.get(id).copied())
                    .collect();
                let new = candidates.difference(&known).next();
                places.insert(id, *new.expect("its new place"));
            }
        }
        Ok(())
    }

    /// Carries out everything that is due.
    pub fn run(&mut self, disk: &mut Disk) -> Option<Published> {
        let mut published = None;
        while let Some(operation) = self.store.next_operation() {
            disk.perform(&operation);
            let finished = self.store.finish_operation(operation);
            published = published.or(finished);
        }
        published
    }

    pub fn checkpoint(&mut self, disk: &mut Disk, before: &Image, changes: &Changes) -> Image {
        self.push(disk, before, changes);
        let after = before.after(changes);
        let published = self.run(disk).expect("the checkpoint is published");
        assert_eq!(
            (published.number, published.slot),
            (after.number, after.slot)
        );
        after
    }
}

/// The index, and place and row of each account.
pub type Accounts = BTreeMap<u128, (Place, Vec<u8>)>;

pub fn load_accounts(
    store: &Store,
    disk: &mut impl Read,
) -> Result<(AccountIndex, Accounts), Damage> {
    let mut load = IndexLoad::new(store);
    while load.step(store, disk, 2)? {}
    let (index, dead) = load.finish();
    let mut accounts = BTreeMap::new();
    let mut rows = RowLoad::new(store, dead);
    while rows.step(store, disk, 3, |place, row| {
        let id = u128::from_le_bytes(*row.first_chunk().unwrap());
        let before = accounts.insert(id, (place, row.to_vec()));
        assert!(before.is_none(), "account {id} twice");
        let candidates: Vec<Place> = index.candidates(fingerprint(id)).collect();
        assert!(candidates.contains(&place), "account {id} is indexed");
    })? {}
    assert_eq!(index.len(), accounts.len());
    Ok((index, accounts))
}

/// Everything that a store holds, read block by block. History from the first position that is kept.
pub fn read_all(store: &Store, disk: &mut Disk) -> Result<Image, String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    let (_, accounts) = load_accounts(store, disk).map_err(|error| said(&error))?;
    let mut image = Image {
        number: store.manifest().number,
        slot: store.manifest().slot,
        mark: store.manifest().mark.clone(),
        accounts: accounts
            .into_iter()
            .map(|(id, (_, row))| (id, row))
            .collect(),
        ..Image::default()
    };
    let (first, end) = store.history_positions();
    for position in first..end {
        let at = store.locate_history(position).expect("a kept position");
        let block = disk.read_block(at.place);
        let row = store.row(&at, &block).map_err(|error| said(&error))?;
        image.history.insert(position, row.to_vec());
        let context = store.locate_context(at.place.file.number, 0).unwrap();
        let block = disk.read_block(context.place);
        let row = store.row(&context, &block).map_err(|error| said(&error))?;
        assert_eq!(u64::from(row[0]), at.place.file.number);
    }
    for place in store.side_blocks() {
        let block = disk.read_block(place);
        let bytes = store.block(place, &block).map_err(|error| said(&error))?;
        image.side.extend_from_slice(bytes);
    }
    Ok(image)
}

/// Looks for a position as a replica does: by fingerprint and key, comparing candidates.
pub fn look_up(store: &Store, disk: &Disk, position: u64) -> Result<(Option<u64>, usize), String> {
    let mut lookup = Lookup::new(history_fingerprint(position), u128::from(position));
    let mut reads = 0;
    while let LookupStep::Read(run) = lookup.step(store) {
        assert_eq!(lookup.step(store), LookupStep::Read(run));
        reads += 1;
        let bytes = disk.read_blocks(run);
        let fed = lookup.feed(store, &bytes);
        let fed =
            fed.map_err(|(place, error)| format!("{} {}: {error}", place.file, place.block))?;
        if let Some(candidate) = fed
            && candidate.row == history_row(position)
        {
            return Ok((Some(candidate.position), reads));
        }
    }
    Ok((None, reads))
}

/// Whether a store holds exactly what it should, and nothing else lies beside it.
pub fn assert_holds(node: &Node, disk: &mut Disk, expected: &Image) {
    let image = read_all(&node.store, disk).unwrap();
    let (first, end) = node.store.history_positions();
    let mut expected = expected.clone();
    expected.history.retain(|position, _| *position >= first);
    assert_eq!(image.number, expected.number);
    assert!(image == expected, "checkpoint {}", image.number);
    let places: BTreeMap<u128, Vec<u8>> = node
        .places
        .iter()
        .map(|(id, place)| {
            let at = node.store.locate_account(*place).unwrap();
            let row = node
                .store
                .row(&at, &disk.read_block(at.place))
                .unwrap()
                .to_vec();
            (*id, row)
        })
        .collect();
    assert!(places == image.accounts);
    for position in image.history.keys().step_by(37) {
        assert_eq!(
            look_up(&node.store, disk, *position).unwrap().0,
            Some(*position)
        );
    }
    assert_eq!(look_up(&node.store, disk, end).unwrap().0, None);
}

/// The data files and manifests that lie there, against those that one of the manifests lists.
pub fn assert_no_garbage(disk: &mut Disk) {
    let mut expected = Vec::new();
    for generation in Generation::ALL {
        let name = generation.file_name();
        if disk.names().iter().any(|found| found == name) {
            expected.push(name.to_owned());
            let manifest = quorate_storage::store::Manifest::decode(disk.bytes(name)).unwrap();
            expected.extend(manifest.files.iter().map(|listed| listed.file.file_name()));
        }
    }
    expected.sort();
    expected.dedup();
    assert_eq!(disk.names(), expected);
}

/// A few checkpoints that do everything: change, leave, come back, share fingerprints, drop files.
pub fn story() -> Vec<Changes> {
    let changes = |changed: &[u128], gone: &[u128], effects, side_bytes, history_from| Changes {
        changed: changed.to_vec(),
        gone: gone.to_vec(),
        effects,
        side_bytes,
        history_from,
    };
    let many: Vec<u128> = (1..=60).chain(100..110).collect();
    vec![
        changes(&many, &[], 400, 0, 0),
        changes(&[1, 2, 100, 103, 200], &[3, 101, 104], 3, 9_000, 0),
        // An account that left is back; one whose fingerprint is shared left, and its twin changed.
        changes(&[3, 101, 106, 201], &[107, 102], 0, 10, 0),
        changes(&[], &[], 90, 1, 300),
        // Nothing of the first two accounts files is left alive.
        changes(&[&many[..], &[200, 201][..]].concat(), &[], 1, 5_000, 401),
        changes(&[], &[60, 100, 200], 0, 0, 401),
        changes(&[100], &[], 2, 3, 401),
    ]
}

/// The fourth checkpoint moves what the first one still holds: 300 rows.
pub fn compacting_story() -> Vec<Changes> {
    let changes = |changed: Vec<u128>, gone: &[u128]| Changes {
        changed,
        gone: gone.to_vec(),
        effects: 2,
        side_bytes: 10,
        history_from: 0,
    };
    let range = |digits: std::ops::Range<u128>| {
        let ids = 1..=3_000;
        ids.filter(|id| digits.contains(&(id % 10))).collect()
    };
    vec![
        changes((1..=3_000).collect(), &[]),
        // Scattered, in files of their own: little is wasted yet.
        changes(range(0..2), &[]),
        changes(range(2..4), &[]),
        changes(range(4..9), &[19, 200]),
        changes(vec![3, 9, 109, 19], &[29, 300]),
        changes(vec![5], &[]),
    ]
}

/// Small and reproducible.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0 ^ self.0 >> 31) % bound
    }
}

/// Writes these checkpoints; the images before and after each.
pub fn written(disk: &mut Disk, story: &[Changes]) -> (Node, Vec<Image>) {
    let (mut node, row) = disk.start();
    assert_eq!(row, OpenRow::Empty);
    let mut images = vec![Image::default()];
    for changes in story {
        let before = images.last().unwrap();
        let after = node.checkpoint(disk, before, changes);
        images.push(after);
    }
    (node, images)
}

/// A file of the store by kind and number.
pub fn name(kind: quorate_storage::store::FileKind, number: u64) -> String {
    FileId { kind, number }.file_name()
}
