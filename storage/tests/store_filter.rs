//! Filters of history files: look-ups of random ids that were never used read next to nothing, whatever the
//! number of files; and no filter, whole, damaged or repaired, ever hides a row.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use quorate_storage::store::{
    BlockError, Damage, FileKind, Finish, Lookup, LookupStep, OpenRow, Store,
};

use store_support::{
    BLOCK, Changes, Disk, history_fingerprint, history_row, look_up, mix, name, written,
};

const FILES: u64 = 60;
const ROWS: u64 = 2_000;

/// Ids are drawn from all of 128 bits: every file's range of keys is nearly everything.
fn key(position: u64) -> u128 {
    u128::from(mix(position * 7 + 1)) << 64 | u128::from(mix(position))
}

fn fingerprint(key: u128) -> u64 {
    let half = u64::try_from(key >> 64).unwrap();
    mix(half ^ 0x1234)
}

fn filled(disk: &mut Disk) -> Store {
    let mut store = disk.open().unwrap().store;
    for file in 0..FILES {
        store.begin(store.manifest().slot + 1, 0).unwrap();
        for position in file * ROWS + 1..=(file + 1) * ROWS {
            let key = key(position);
            store.history(&history_row(position), fingerprint(key), key);
        }
        store.finish(Finish {
            mark: b"",
            history_from: 0,
        });
        while store.step(500) {}
        while let Some(operation) = store.next_operation() {
            disk.perform(&operation);
            store.finish_operation(operation);
        }
    }
    store
}

/// Positions found, and blocks read for it.
fn asked(store: &Store, disk: &Disk, key: u128) -> (Vec<u64>, u32) {
    let mut lookup = Lookup::new(fingerprint(key), key);
    let (mut found, mut blocks) = (Vec::new(), 0);
    while let LookupStep::Read(run) = lookup.step(store) {
        blocks += run.blocks;
        let bytes = disk.read_blocks(run);
        let fed = lookup.feed(store, &bytes).unwrap();
        found.extend(fed.map(|row| row.position));
    }
    (found, blocks)
}

#[test]
fn ids_that_were_never_used_cost_next_to_no_read_in_any_number_of_files() {
    let mut disk = Disk::default();
    let store = filled(&mut disk);
    let opened = disk.open().unwrap();
    assert_eq!((opened.row, opened.damage.len()), (OpenRow::Newest, 0));
    for store in [&store, &opened.store] {
        let unused = 5_000;
        let blocks = |range: std::ops::Range<u64>, expected: bool| -> u32 {
            let each = range.map(|position| {
                let (found, blocks) = asked(store, &disk, key(position));
                assert_eq!(found, if expected { vec![position] } else { vec![] });
                blocks
            });
            each.sum()
        };
        let end = FILES * ROWS + 1;
        let in_vain = f64::from(blocks(end..end + unused, false)) / unused as f64;
        let used = f64::from(blocks(1..unused + 1, true)) / unused as f64;
        println!(
            "{FILES} files: {in_vain:.2} blocks read per id that was never used, {used:.2} per one that was, \
             {:.2} bytes of memory a row",
            store.filter_bytes() as f64 / (FILES * ROWS) as f64
        );
        // Without filters some 100: a bucket of each file, in one block or two.
        assert!(in_vain < 0.6, "{in_vain}");
        assert!((2.0..3.6).contains(&used), "{used}");
        assert!(store.filter_bytes() < FILES * ROWS * 8 / 5);
    }
}

/// Its blocks are checked like all others. Without them more is read, and the same is found.
#[test]
fn a_damaged_filter_is_reported_and_hides_nothing() {
    let mut disk = Disk::default();
    let story = [Changes {
        effects: 30_000,
        side_bytes: 3,
        ..Changes::default()
    }];
    let (node, _) = written(&mut disk, &story);
    let history = name(FileKind::History, 1);
    let good = disk.bytes(&history).clone();
    // 1,407 rows of 32 bytes, in twelve blocks in front of the footer.
    let (blocks, filter) = (good.len() / BLOCK, 12);
    let reads = |store: &Store, disk: &Disk| -> usize {
        let used = (1..30_000).step_by(61).map(|position| {
            let (found, reads) = look_up(store, disk, position).unwrap();
            assert_eq!(found, Some(position));
            reads
        });
        // Of no row of the file, with a key that it may have.
        let unused = (40_000..43_000).map(|position| {
            let mut lookup = Lookup::new(history_fingerprint(position), 15_000);
            let mut reads = 0;
            while let LookupStep::Read(run) = lookup.step(store) {
                let bytes = disk.read_blocks(run);
                assert_eq!(lookup.feed(store, &bytes), Ok(None));
                reads += 1;
            }
            reads
        });
        used.sum::<usize>() + unused.sum::<usize>()
    };
    let whole = reads(&node.store, &disk);
    for block in blocks - 1 - filter..blocks - 1 {
        let at = block * BLOCK + 40 + block;
        disk.bytes(&history)[at] ^= 4;
        let mut opened = disk.open().unwrap();
        let [Damage::Block { place, error }] = opened.damage[..] else {
            panic!("{:?}", opened.damage);
        };
        assert_eq!(place.block as usize, block);
        assert!(matches!(error, BlockError::Crc { .. }));
        let more = reads(&opened.store, &disk);
        assert!(more > whole + 10, "{more} reads, {whole} before");

        disk.bytes(&history)[at] ^= 4;
        let repaired = &good[block * BLOCK..][..BLOCK];
        opened.store.adopt_repaired(place, repaired).unwrap();
        assert_eq!(reads(&opened.store, &disk), whole);
    }
    // All of it.
    for block in blocks - 1 - filter..blocks - 1 {
        disk.bytes(&history)[block * BLOCK] ^= 1;
    }
    let opened = disk.open().unwrap();
    assert_eq!(opened.damage.len(), filter);
    assert!(reads(&opened.store, &disk) > whole + 2_000);
}
