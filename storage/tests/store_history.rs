//! Look-ups of what took effect, against a dumb twin; and what a checkpoint's driver promises its caller.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_storage::store::{
    BlockError, BlockRef, EXTENT_BYTES, FileKind, Finish, LOOKUP_BLOCKS_MAX, Lookup, LookupStep,
    Operation, Store,
};

use store_support::{BLOCK, Changes, Disk, Image, history_row, mix, story, written};

/// A history row as the test knows it.
#[derive(Clone, Copy, Debug)]
struct Row {
    position: u64,
    number: u64,
    fingerprint: u64,
    key: u128,
}

/// Publishes one checkpoint with these rows.
fn publish(store: &mut Store, disk: &mut Disk, rows: &[(u64, u128)], from: u64) -> Vec<Row> {
    let number = store.begin(store.manifest().slot + 1, 0).unwrap();
    let mut written = Vec::new();
    for (fingerprint, key) in rows {
        let position = store.manifest().history_next + written.len() as u64;
        assert_eq!(
            store.history(&history_row(position), *fingerprint, *key),
            position
        );
        written.push(Row {
            position,
            number,
            fingerprint: *fingerprint,
            key: *key,
        });
    }
    store.finish(Finish {
        mark: b"",
        history_from: from,
    });
    while store.step(100) {}
    while let Some(operation) = store.next_operation() {
        disk.perform(&operation);
        store.finish_operation(operation);
    }
    assert!(!store.is_running());
    written
}

fn read(disk: &Disk, first: BlockRef, blocks: u32) -> Vec<u8> {
    (0..blocks)
        .flat_map(|index| {
            let block = first.block + index;
            disk.read_block(BlockRef { block, ..first })
        })
        .collect()
}

/// Positions of all candidates, in the order in which they come.
fn candidates(store: &Store, disk: &Disk, fingerprint: u64, key: u128) -> Vec<u64> {
    let mut lookup = Lookup::new(fingerprint, key);
    let mut found = Vec::new();
    while let LookupStep::Read(run) = lookup.step(store) {
        assert!((1..=LOOKUP_BLOCKS_MAX).contains(&run.blocks));
        let bytes = read(disk, run.first, run.blocks);
        if let Some(candidate) = lookup.feed(store, &bytes).unwrap() {
            assert_eq!(candidate.row, history_row(candidate.position));
            assert_eq!(candidate.number, run.first.file.number);
            found.push(candidate.position);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Few fingerprints: buckets of any size, some far larger than one read.
    #[test]
    fn a_look_up_yields_every_row_of_its_fingerprint_newest_first(
        files in prop::collection::vec(
            prop::collection::vec((0..12_u64, 0..50_u64), 1..3_000), 1..5),
        dropped in 0..2_usize,
        reopened in any::<bool>(),
    ) {
        let mut disk = Disk::default();
        let mut store = disk.open().unwrap().store;
        let mut rows = Vec::new();
        for (number, file) in files.iter().enumerate() {
            // Half of all rows have one fingerprint.
            let row = |(fingerprint, key): &(u64, u64)| {
                (mix(fingerprint.saturating_sub(6)), u128::from(*key) + 30 * number as u128)
            };
            let file: Vec<_> = file.iter().map(row).collect();
            rows.extend(publish(&mut store, &mut disk, &file, 0));
        }
        if dropped > 0 {
            let from = rows.iter().find(|row| row.number == 2).map_or(0, |row| row.position);
            publish(&mut store, &mut disk, &[], from);
            rows.retain(|row| row.position >= from);
        }
        if reopened {
            store = disk.open().unwrap().store;
        }
        prop_assert_eq!(store.history_positions().1, store.manifest().history_next);
        let keys: Vec<(u64, u128, u128)> = rows.chunk_by(|a, b| a.number == b.number)
            .map(|file| {
                let keys = file.iter().map(|row| row.key);
                (file[0].number, keys.clone().min().unwrap(), keys.max().unwrap())
            })
            .collect();
        for fingerprint in (0..7).map(mix) {
            for key in [0, 25, 40, 100, 500] {
                let covers = |row: &&Row| {
                    let range = keys.iter().find(|(number, ..)| *number == row.number).unwrap();
                    row.fingerprint == fingerprint && (range.1..=range.2).contains(&key)
                };
                let mut expected: Vec<u64> = rows.iter().filter(covers).map(|row| row.position).collect();
                expected.reverse();
                prop_assert_eq!(candidates(&store, &disk, fingerprint, key), expected);
            }
        }
    }
}

#[test]
fn a_damaged_block_holds_a_look_up_up_and_loses_nothing() {
    let mut disk = Disk::default();
    let mut store = disk.open().unwrap().store;
    publish(&mut store, &mut disk, &[(5, 1), (6, 2), (5, 3)], 0);
    let mut lookup = Lookup::new(5, 2);
    let mut found = Vec::new();
    while let LookupStep::Read(run) = lookup.step(&store) {
        let bytes = read(&disk, run.first, run.blocks);
        let mut rotten = bytes.clone();
        rotten[100] ^= 1;
        let (place, error) = lookup.feed(&store, &rotten).unwrap_err();
        assert_eq!(place, run.first);
        assert!(matches!(error, BlockError::Crc { .. }));
        let (_, error) = lookup.feed(&store, &[]).unwrap_err();
        assert_eq!(error, BlockError::Length { found: 0 });
        assert_eq!(lookup.step(&store), LookupStep::Read(run));
        found.extend(lookup.feed(&store, &bytes).unwrap().map(|row| row.position));
    }
    assert_eq!(found, [3, 1]);
}

/// Retention drops a file while a look-up reads it.
#[test]
fn a_file_that_is_dropped_meanwhile_is_passed_over() {
    let mut disk = Disk::default();
    let mut store = disk.open().unwrap().store;
    publish(&mut store, &mut disk, &[(5, 1)], 0);
    publish(&mut store, &mut disk, &[(5, 1)], 0);
    let mut lookup = Lookup::new(5, 1);
    let LookupStep::Read(run) = lookup.step(&store) else {
        panic!("the newest file has the key");
    };
    let bytes = read(&disk, run.first, run.blocks);
    publish(&mut store, &mut disk, &[(9, 9)], 3);
    assert_eq!(store.history_positions(), (3, 4));
    assert_eq!(lookup.feed(&store, &bytes), Ok(None));
    assert_eq!(lookup.step(&store), LookupStep::Done);
    assert_eq!(store.locate_history(2), None);
    assert!(store.locate_history(3).is_some());
}

/// Writes begin while rows are pushed, are bounded, and are what waits.
#[test]
fn what_waits_is_what_is_handed_out() {
    let mut disk = Disk::default();
    let mut store = disk.open().unwrap().store;
    store.begin(1, 20_000).unwrap();
    let (mut most, mut longest) = (0, 0);
    let mut names = BTreeSet::new();
    let mut run = |store: &mut Store| {
        while let Some(operation) = store.next_operation() {
            assert!(store.next_operation().is_none(), "one at a time");
            if let Operation::Write { file, bytes, .. } = &operation {
                assert!(bytes.len().is_multiple_of(BLOCK));
                longest = longest.max(bytes.len());
                names.insert(file.kind);
            }
            disk.perform(&operation);
            if let Some(published) = store.finish_operation(operation) {
                assert_eq!(published.number, 1);
            }
        }
    };
    for id in 0..20_000_u128 {
        let row = store_support::account_row(id, 1);
        store.account(&row, store_support::fingerprint(id + 1_000), true, None);
        most = most.max(store.ready_bytes());
        run(&mut store);
    }
    assert!(most <= EXTENT_BYTES, "{most} bytes waited");
    store.finish(Finish {
        mark: b"m",
        history_from: 0,
    });
    while store.step(1_000) {
        assert!(store.ready_bytes() <= 2 * EXTENT_BYTES);
        run(&mut store);
    }
    run(&mut store);
    assert!(!store.is_running() && store.ready_bytes() == 0);
    assert!(longest <= 2 * EXTENT_BYTES, "{longest} bytes in a write");
    assert!(names.into_iter().eq([FileKind::Accounts, FileKind::Side]));
    let counters = store.counters();
    assert_eq!((counters.checkpoints, counters.account_rows), (1, 20_000));
    let written = disk.listing().iter().map(|(_, bytes)| bytes).sum::<u64>();
    assert_eq!(counters.file_bytes + counters.manifest_bytes, written);
}

/// 97.5 bytes of its row, 12.1 of its bucket's entry, 1.5 of the filter, and four bytes per 128 to 256 rows.
#[test]
fn a_history_row_costs_its_row_and_its_index() {
    let mut disk = Disk::default();
    let mut store = disk.open().unwrap().store;
    let rows: Vec<(u64, u128)> = (0..100_000)
        .map(|row| (mix(row), u128::from(row)))
        .collect();
    publish(&mut store, &mut disk, &rows, 0);
    let each = store.counters().file_bytes as f64 / rows.len() as f64;
    assert!((110.5..112.0).contains(&each), "{each} bytes a row");
    // None for an id that the filter denies, one if it does not, two for one that is there.
    let mut lookup = Lookup::new(1, 500);
    let mut reads = 0;
    while let LookupStep::Read(run) = lookup.step(&store) {
        assert!(run.blocks <= 3);
        lookup
            .feed(&store, &read(&disk, run.first, run.blocks))
            .unwrap();
        reads += 1;
    }
    assert!(reads <= 1);
}

#[test]
fn accounts_files_without_live_rows_are_dropped() {
    let mut disk = Disk::default();
    let (mut node, mut images) = written(&mut disk, &story());
    let accounts = |node: &store_support::Node| -> Vec<(u64, u64)> {
        let files = node.store.account_files();
        files.map(|file| (file.number, file.live)).collect()
    };
    let live =
        |node: &store_support::Node| accounts(node).iter().map(|(_, live)| live).sum::<u64>();
    assert_eq!(live(&node), images.last().unwrap().accounts.len() as u64);
    // Everything is written anew: one file is left.
    let last: Image = images.pop().unwrap();
    let all = Changes {
        changed: last.accounts.keys().copied().collect(),
        ..Changes::default()
    };
    node.checkpoint(&mut disk, &last, &all);
    assert_eq!(accounts(&node), [(8, last.accounts.len() as u64)]);
}
