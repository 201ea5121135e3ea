//! One byte of one file of a replica's directory is another one: superblock, log, manifests, accounts,
//! history, side tables. Opening and reading everything gives what was written, or what the checkpoint before
//! wrote, or says what is damaged. It never gives anything else, and nothing panics.
//!
//! Each kind of file gets as many flips, at random places. The short form runs by default;
//! `QUORATE_STORAGE_FULL=1` flips 20,000 bytes. (`store_rot.rs` flips every byte of smaller files, `rot.rs` every
//! kind of larger rot in a log.)

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;
mod support;

use std::collections::BTreeMap;

use quorate_storage::superblock::{Genesis, Superblock};
use quorate_storage::wal::{Frame, Harm, Losses, Record, SegmentNumber};

use store_support::{Changes, Image, Random, look_up, read_all, written};
use support::{IDENTITY, accepted, flushed};

const SLOTS: u64 = 60;
const FLIPS: usize = 600;
const FLIPS_FULL: usize = 20_000;

/// What came of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// All is as written: the byte means nothing, or nothing reads it any more.
    Unharmed,
    /// The checkpoint before is used, and that is said.
    Before,
    /// Named as damaged; what else was read is right.
    Damaged,
    /// Nothing is opened.
    Refused,
}

/// All files of one replica.
struct Directory {
    superblock: Vec<u8>,
    log: support::Disk,
    /// Payloads by slot.
    records: BTreeMap<u64, Vec<u8>>,
    promised: u64,
    chosen_upto: u64,
    store: store_support::Disk,
    images: Vec<Image>,
}

#[derive(Clone, Debug)]
enum File {
    Superblock,
    Segment(SegmentNumber),
    Store(String),
}

impl Directory {
    fn new() -> Self {
        let (log, records) = log();
        let recovery = log.recover().unwrap();
        assert!(recovery.clean);
        let mut store = store_support::Disk::default();
        let (node, images) = written(&mut store, &story());
        assert!(node.store.counters().rows_moved > 0);
        Self {
            superblock: superblock().encode().to_vec(),
            promised: recovery.promised,
            chosen_upto: recovery.chosen_upto,
            log,
            records,
            store,
            images,
        }
    }

    /// Files by kind.
    fn files(&self) -> BTreeMap<String, Vec<File>> {
        let mut files: BTreeMap<String, Vec<File>> = BTreeMap::new();
        files.insert("superblock".to_owned(), vec![File::Superblock]);
        let segments = self.log.segments.keys().copied().map(File::Segment);
        files.insert("wal".to_owned(), segments.collect());
        for name in self.store.names() {
            let kind = name.split('-').next().unwrap().to_owned();
            files.entry(kind).or_default().push(File::Store(name));
        }
        files
    }

    fn bytes(&mut self, file: &File) -> &mut Vec<u8> {
        match file {
            File::Superblock => &mut self.superblock,
            File::Segment(segment) => self.log.segments.get_mut(segment).unwrap(),
            File::Store(name) => self.store.bytes(name),
        }
    }

    /// Opens and reads what the file belongs to.
    fn read(&mut self, file: &File) -> Outcome {
        match file {
            File::Superblock => match Superblock::decode(&self.superblock) {
                Ok(found) if found == superblock() => Outcome::Unharmed,
                Ok(found) => panic!("{found:?}"),
                Err(_) => Outcome::Refused,
            },
            File::Segment(_) => self.read_log(),
            File::Store(_) => self.read_store(),
        }
    }

    fn read_log(&self) -> Outcome {
        let Ok(recovery) = self.log.recover() else {
            return Outcome::Refused;
        };
        let mut found = BTreeMap::new();
        for (slot, location) in recovery.index.iter() {
            let bytes = &self.log.segments[&location.segment][location.offset as usize..];
            let frame = Frame::decode(
                &bytes[..location.length as usize],
                location.segment,
                location.offset,
                IDENTITY.seal(),
            );
            found.insert(
                slot,
                frame.expect("an indexed frame is whole").payload.to_vec(),
            );
        }
        for (slot, payload) in &found {
            assert!(self.records.get(slot) == Some(payload), "slot {slot}");
        }
        assert_eq!(recovery.promised, self.promised);
        assert!(recovery.chosen_upto <= self.chosen_upto);
        // Whatever is not there is said to be lost, by name or as a whole.
        let lost: Vec<u64> = match recovery.losses() {
            Losses::Unknown => return Outcome::Damaged,
            Losses::Records(lost) => lost.iter().map(|lost| lost.slot).collect(),
        };
        let missing = self.records.keys().filter(|slot| !found.contains_key(slot));
        assert!(missing.copied().eq(lost), "nothing is lost silently");
        let harmed = |damage: &quorate_storage::wal::Damage| damage.harm() != Harm::Nothing;
        match recovery.damage.iter().any(harmed) || found.len() < self.records.len() {
            true => Outcome::Damaged,
            false => Outcome::Unharmed,
        }
    }

    fn read_store(&mut self) -> Outcome {
        let Ok(opened) = self.store.open() else {
            return Outcome::Refused;
        };
        let Ok(image) = read_all(&opened.store, &mut self.store) else {
            return Outcome::Damaged;
        };
        let number = usize::try_from(image.number).unwrap();
        assert!(image == self.images[number], "wrong rows, {:?}", opened.row);
        let newest = number + 1 == self.images.len();
        assert!(newest || number + 2 == self.images.len());
        assert!(newest || !opened.damage.is_empty(), "silently older");
        let mut lost = false;
        for position in image.history.keys() {
            match look_up(&opened.store, &self.store, *position) {
                Ok((found, _)) => assert_eq!(found, Some(*position)),
                Err(_) => lost = true,
            }
        }
        for position in 1_000_000..1_000_040 {
            let found = look_up(&opened.store, &self.store, position);
            assert!(
                !matches!(found, Ok((Some(_), _))),
                "an id that was never used"
            );
        }
        match (lost || !opened.damage.is_empty(), newest) {
            (true, true) => Outcome::Damaged,
            (false, true) => Outcome::Unharmed,
            (_, false) => Outcome::Before,
        }
    }
}

fn superblock() -> Superblock {
    Superblock {
        identity: IDENTITY,
        genesis: Genesis::of("shards = 3, replicas = 3, placement = hash"),
    }
}

/// Three segments of records of many sizes, closed in order.
fn log() -> (support::Disk, BTreeMap<u64, Vec<u8>>) {
    let mut disk = support::Disk::formatted();
    let (_, mut log) = disk.open();
    let (mut seq, mut payloads) = (0, BTreeMap::new());
    for slot in 1..=SLOTS {
        let bytes = usize::try_from(slot * 613 % 5_000).unwrap();
        let record = accepted(slot / 10 + 1, slot, bytes);
        payloads.insert(slot, record.payload().to_vec());
        let mut records = vec![record];
        if slot % 4 == 0 {
            records.push(Record::Chosen { upto: slot - 1 });
            records.push(Record::Promise {
                ballot: slot / 10 + 1,
            });
        }
        flushed(&mut log, &mut disk, &mut seq, records);
    }
    flushed(&mut log, &mut disk, &mut seq, [Record::Clean]);
    assert!(disk.segments.len() >= 3);
    (disk, payloads)
}

/// Most accounts leave at the second checkpoint, which moves the others.
fn story() -> Vec<Changes> {
    let changes = |changed: Vec<u128>, gone: Vec<u128>| Changes {
        changed,
        gone,
        effects: 150,
        side_bytes: 9_000,
        history_from: 0,
    };
    vec![
        changes((1..=2_000).collect(), vec![]),
        changes(vec![1, 2], (101..=2_000).collect()),
        changes((20..=60).collect(), vec![5, 6]),
        changes((50..=150).collect(), vec![7]),
        changes(vec![3, 101, 500], vec![149]),
    ]
}

#[test]
fn no_flipped_byte_of_any_file_gives_wrong_data() {
    let full = std::env::var_os("QUORATE_STORAGE_FULL").is_some_and(|value| value == "1");
    let flips = if full { FLIPS_FULL } else { FLIPS };
    let mut directory = Directory::new();
    let files = directory.files();
    let kinds: Vec<&str> = files.keys().map(String::as_str).collect();
    let expected = [
        "accounts",
        "history",
        "manifest",
        "side",
        "superblock",
        "wal",
    ];
    assert_eq!(kinds, expected);
    let random = &mut Random(0xF119);
    let mut below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap();
    let mut outcomes: BTreeMap<&str, BTreeMap<Outcome, usize>> = BTreeMap::new();
    for flip in 0..flips {
        let kind = kinds[flip % kinds.len()];
        let file = &files[kind][below(files[kind].len())];
        let at = below(directory.bytes(file).len());
        let change = u8::try_from(1 + below(255)).unwrap();
        directory.bytes(file)[at] ^= change;
        let outcome = directory.read(file);
        directory.bytes(file)[at] ^= change;
        *outcomes
            .entry(kind)
            .or_default()
            .entry(outcome)
            .or_default() += 1;
    }
    for (kind, outcomes) in &outcomes {
        println!("{kind}: {outcomes:?}");
    }
    for file in files.values().flatten() {
        assert_eq!(directory.read(file), Outcome::Unharmed, "{file:?}");
    }
    let count = |kind: &str, outcome| outcomes[kind].get(&outcome).copied().unwrap_or(0);
    let each = flips / kinds.len();
    assert_eq!(count("superblock", Outcome::Refused), each);
    assert_eq!(
        count("manifest", Outcome::Unharmed),
        0,
        "both are under checksums"
    );
    assert_eq!(count("history", Outcome::Unharmed), 0, "all of it is read");
    for kind in ["accounts", "history", "side", "wal"] {
        assert!(count(kind, Outcome::Damaged) > each / 4, "{kind}");
    }
}
