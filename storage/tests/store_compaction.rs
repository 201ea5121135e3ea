//! Compaction of accounts files: the disk stays small whatever is updated, no row is lost or invented, and all
//! replicas write the same bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_storage::store::{
    ACCOUNT_ROW_BYTES, Damage, FileKind, MOVE_BLOCKS_MAX, Manifest, OpenRow,
};

use store_support::{
    Changes, Disk, Image, Node, Random, assert_holds, assert_no_garbage, compacting_story, name,
    read_all, written,
};

fn changes(changed: impl IntoIterator<Item = u128>) -> Changes {
    Changes {
        changed: changed
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        side_bytes: 10,
        ..Changes::default()
    }
}

/// Bytes of accounts files, whichever generation needs them.
fn accounts_bytes(disk: &Disk) -> u64 {
    let listing = disk.listing();
    let accounts = listing
        .iter()
        .filter(|(name, _)| name.starts_with("accounts"));
    accounts.map(|(_, bytes)| bytes).sum()
}

/// How accounts are drawn for updates.
#[derive(Clone, Copy, Debug)]
enum Skew {
    /// All alike.
    Uniform,
    /// Nine of ten updates go to a tenth of the accounts.
    Tenth,
    /// Nearly all updates go to one in a hundred, which move on slowly.
    Drifting,
    /// Half of the updates go to a tenth, and some accounts leave, others come back.
    Leaving,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
struct Scale {
    accounts: u64,
    rows: usize,
    checkpoints: u64,
}

/// By default; the long form runs with `QUORATE_STORAGE_FULL=1`.
const SHORT: Scale = Scale {
    accounts: 20_000,
    rows: 750,
    checkpoints: 150,
};
const FULL: Scale = Scale {
    accounts: 100_000,
    rows: 3_000,
    checkpoints: 400,
};
/// A row and its index entry.
const LIVE_BYTES: usize = ACCOUNT_ROW_BYTES + 12;

fn drawn(accounts: u64, skew: Skew, number: u64, random: &mut Random) -> u128 {
    let id = match skew {
        Skew::Uniform => random.below(accounts),
        Skew::Tenth if random.below(10) > 0 => random.below(accounts / 10),
        Skew::Drifting if random.below(50) > 0 => {
            (number * 20 + random.below(accounts / 100)) % accounts
        }
        Skew::Leaving if random.below(2) > 0 => random.below(accounts / 10),
        Skew::Tenth | Skew::Drifting | Skew::Leaving => random.below(accounts),
    };
    1_000 + u128::from(id)
}

/// The size of the accounts' files and the rows written, with every account written once at the start.
#[test]
fn the_disk_stays_below_two_and_a_half_times_the_live_rows() {
    let full = std::env::var_os("QUORATE_STORAGE_FULL").is_some_and(|value| value == "1");
    let scale = if full { FULL } else { SHORT };
    for skew in [Skew::Uniform, Skew::Tenth, Skew::Drifting, Skew::Leaving] {
        let mut disk = Disk::default();
        let (mut node, _) = disk.start();
        let random = &mut Random(0xACC0);
        let all = (0..scale.accounts).map(|id| 1_000 + u128::from(id));
        let mut image = node.checkpoint(&mut disk, &Image::default(), &changes(all));
        let (mut own, mut ratios, mut first) = (0, Vec::new(), 0);
        let before = node.store.counters();
        for number in 1..=scale.checkpoints {
            let rows = 0..scale.rows;
            let mut next = changes(rows.map(|_| drawn(scale.accounts, skew, number, random)));
            if let Skew::Leaving = skew {
                let here = |id: &u128| image.accounts.contains_key(id);
                let leaving: BTreeSet<u128> = (0..20)
                    .map(|_| 1_000 + u128::from(random.below(scale.accounts)))
                    .filter(here)
                    .collect();
                next.changed.retain(|id| !leaving.contains(id));
                next.gone = leaving.into_iter().collect();
            }
            own += next.changed.len() as u64;
            image = node.checkpoint(&mut disk, &image, &next);
            let live = (image.accounts.len() * LIVE_BYTES) as f64;
            ratios.push(accounts_bytes(&disk) as f64 / live);
            if disk.names().contains(&name(FileKind::Accounts, 1)) {
                first = ratios.len();
            }
        }
        let counters = node.store.counters();
        let written = counters.account_rows - before.account_rows;
        let amplification = written as f64 / own as f64;
        let highest = |ratios: &[f64]| ratios.iter().copied().fold(0.0, f64::max);
        let (before, behind) = ratios.split_at(first);
        println!(
            "{skew:?}: disk / live {:.2} at most while the first file is there, then {:.2}, {:.2} on \
             average; rows written / own rows {amplification:.2}; {:.2} blocks read per row moved; {} files",
            highest(before),
            highest(behind),
            ratios.iter().sum::<f64>() / ratios.len() as f64,
            counters.blocks_swept as f64 / counters.rows_moved as f64,
            node.store.account_files().count(),
        );
        // A checkpoint moves 4,096 rows however few it has: a fifth of all in the short form.
        let step = 4_096.0 / scale.accounts as f64;
        assert!(highest(before) <= 2.5 + step, "{skew:?}");
        assert!(highest(behind) <= 2.0, "{skew:?}");
        assert!(amplification <= 2.6 + step, "{skew:?}: {amplification}");
        assert_holds(&node, &mut disk, &image);
        assert_no_garbage(&mut disk);
        let (node, row) = disk.start();
        assert_eq!(row, OpenRow::Newest);
        assert_holds(&node, &mut disk, &image);
    }
}

/// A replica that starts anew behind every checkpoint has another index, other places, and empty caches.
#[test]
fn replicas_compact_alike_however_often_they_start() {
    let (mut one, mut two) = (Disk::default(), Disk::default());
    let (mut node, _) = one.start();
    let random = &mut Random(7);
    let (mut image, mut moved) = (Image::default(), 0);
    for number in 0..40 {
        let next = match number {
            0 => changes((0..9_000).map(|id| 100 + id)),
            _ => changes((0..800).map(|_| 100 + u128::from(random.below(9_000)))),
        };
        let (mut other, _) = two.start();
        other.checkpoint(&mut two, &image, &next);
        image = node.checkpoint(&mut one, &image, &next);
        moved = node.store.counters().rows_moved;
        assert_eq!(one.names(), two.names());
        for name in one.names() {
            assert!(one.bytes(&name) == two.bytes(&name), "{name}");
        }
    }
    assert!(moved > 10_000, "{moved} rows moved");
    let partly = node.store.manifest().files.iter();
    println!(
        "{moved} rows moved, {} files are swept in part",
        partly.filter(|file| file.swept > 0).count()
    );
}

/// Rot in a victim: the sweep stops before anything of the blocks is moved and says which one it is; once it
/// is whole again, what is written is what would have been.
#[test]
fn a_damaged_block_of_a_victim_is_named_and_costs_no_row() {
    let story = compacting_story();
    let (last, before) = story[..4].split_last().unwrap();
    let mut whole = Disk::default();
    let (mut node, images) = written(&mut whole, before);
    let mut rotten = whole.clone();
    let image = node.checkpoint(&mut whole, &images[3], last);
    assert!(node.store.counters().rows_moved > 0);

    let (mut node, _) = rotten.start();
    node.begin(&images[3], last);
    let mut reads = 0;
    while let Some(run) = node.store.moving() {
        assert!((1..=MOVE_BLOCKS_MAX).contains(&run.blocks));
        let bytes = rotten.read_blocks(run);
        let moved = node.store.counters();
        for at in (5..bytes.len()).step_by(4_096 + 99) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let block = run.first.block + u32::try_from(at / 4_096).unwrap();
            let damage = node.move_rows(&bad).unwrap_err();
            assert!(
                matches!(damage, Damage::Block { place, .. } if place.block == block && place.file == run.first.file),
                "{damage}"
            );
            assert_eq!(node.store.moving(), Some(run));
        }
        assert!(node.move_rows(&bytes[1..]).is_err());
        assert_eq!(node.store.counters(), moved);
        node.move_rows(&bytes).unwrap();
        reads += 1;
    }
    while node.store.step(64) {}
    node.run(&mut rotten).expect("published");
    assert!(reads > 2);
    assert_holds(&node, &mut rotten, &image);
    for name in whole.names() {
        assert!(whole.bytes(&name) == rotten.bytes(&name), "{name}");
    }
}

/// Until rows are moved nothing is published.
#[test]
fn a_checkpoint_that_is_not_fed_is_not_published() {
    let story = compacting_story();
    let mut disk = Disk::default();
    let (mut node, images) = written(&mut disk, &story[..3]);
    node.begin(&images[3], &story[3]);
    assert!(node.store.moving().is_some() && !node.store.step(1 << 20));
    assert_eq!(node.run(&mut disk), None);
    let (node, _) = disk.start();
    assert_holds(&node, &mut disk, &images[3]);
}

/// What the manifest says of a file that is swept in part: no live row lies in what was swept.
#[test]
fn nothing_that_was_swept_is_live() {
    let mut disk = Disk::default();
    let (mut node, _) = disk.start();
    let all = (0..60_000).map(|id| 200 + id);
    let mut image = node.checkpoint(&mut disk, &Image::default(), &changes(all));
    // Half of them, scattered: then the first file is a victim, of more rows than one checkpoint moves.
    for part in 0..6 {
        let odd = (0..60_000).filter(|id| id % 11 == part).map(|id| 200 + id);
        image = node.checkpoint(&mut disk, &image, &changes(odd));
    }
    let mut partly = 0;
    for number in 0..8 {
        image = node.checkpoint(&mut disk, &image, &changes([200 + number]));
        let manifest = node.store.manifest().clone();
        for listed in manifest.files_of(FileKind::Accounts) {
            let swept = u64::from(listed.swept) * 25;
            partly += usize::from(swept > 0);
            let here = node
                .places
                .values()
                .filter_map(|place| node.store.locate_account(*place));
            let blocks: BTreeSet<u32> = here
                .filter(|at| at.place.file == listed.file)
                .map(|at| at.place.block)
                .collect();
            assert!(blocks.iter().all(|block| *block >= listed.swept));
        }
        let newest = manifest.number % 2;
        let bytes = disk.bytes(&format!("manifest-{newest}")).clone();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
    }
    assert!(partly >= 2, "{partly} files were swept in part");
    let first = node.store.account_files().map(|file| file.number).next();
    assert_ne!(first, Some(1), "in the end it is gone");
    assert_holds(&node, &mut disk, &image);
    assert!(!disk.names().contains(&name(FileKind::Accounts, 1)));
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Life {
    /// Every so many accounts from one on change; some leave.
    Checkpoint {
        from: u64,
        step: u64,
        count: u64,
        leave: u64,
    },
    Start,
}

fn life() -> impl Strategy<Value = Vec<Life>> {
    let checkpoint = (0..4_000_u64, 1..9_u64, 1..1_500_u64, 0..40_u64);
    let step = prop_oneof![
        6 => checkpoint.prop_map(|(from, step, count, leave)| Life::Checkpoint { from, step, count, leave }),
        1 => Just(Life::Start),
    ];
    prop::collection::vec(step, 10..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// All ids share their fingerprint with another one.
    #[test]
    fn no_row_is_lost_or_invented_in_any_life(life in life()) {
        let mut disk = Disk::default();
        let (mut node, _) = disk.start();
        let mut image = Image::default();
        let ids = |from: u64, step: u64, count: u64| {
            (0..count).map(move |at| 100 + u128::from((from + at * step) % 4_000))
        };
        for step in life {
            match step {
                Life::Checkpoint { from, step, count, leave } => {
                    let mut next = changes(ids(from, step, count));
                    let here = |id: &u128| image.accounts.contains_key(id);
                    let gone: BTreeSet<u128> = ids(from + 7, 13, leave).filter(here).collect();
                    next.changed.retain(|id| !gone.contains(id));
                    next.gone = gone.into_iter().collect();
                    image = node.checkpoint(&mut disk, &image, &next);
                }
                Life::Start => node = disk.start().0,
            }
            let files = node.store.account_files();
            let live: u64 = files.map(|file| file.live).sum();
            prop_assert_eq!(live, image.accounts.len() as u64);
        }
        let read = read_all(&node.store, &mut disk).unwrap();
        prop_assert!(read == image);
        let (node, _) = disk.start();
        assert_holds(&node, &mut disk, &image);
        assert_no_garbage(&mut disk);
    }
}

/// The index points at the new place as soon as a row is moved.
#[test]
fn a_row_that_is_moved_can_be_read_at_all_times() {
    let story = compacting_story();
    let mut disk = Disk::default();
    let (mut node, images) = written(&mut disk, &story[..3]);
    let before = node.places.clone();
    node.push(&disk, &images[3], &story[3]);
    let stays = |id: &u128| !story[3].changed.contains(id) && !story[3].gone.contains(id);
    let (mut moved, mut own) = (0, 0);
    let row = |node: &Node, disk: &Disk, id: &u128| {
        let at = node.store.locate_account(node.places[id])?;
        let block = disk.read_block(at.place);
        Some(node.store.row(&at, &block).unwrap().to_vec())
    };
    for (id, expected) in &images[3].accounts {
        if stays(id) {
            moved += usize::from(node.places[id] != before[id]);
            assert_eq!(row(&node, &disk, id).as_ref(), Some(expected));
        } else if node.places.contains_key(id) {
            // Of the checkpoint itself: whoever changed it has it in memory.
            assert_eq!(row(&node, &disk, id), None);
            own += 1;
        }
    }
    assert!(moved > 100 && own > 500, "{moved} {own}");
    node.run(&mut disk);
    for (id, expected) in images[3].after(&story[3]).accounts {
        assert_eq!(row(&node, &disk, &id), Some(expected));
    }
}
