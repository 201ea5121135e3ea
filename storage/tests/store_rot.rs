//! Every single byte of small files of each kind, and of both manifests, flipped: opening and reading all
//! of the store never gives a wrong row. It gives what was written, the checkpoint before, or a reason.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use std::collections::BTreeMap;
use std::thread;

use quorate_storage::store::{Damage, OpenRow};

use store_support::{BLOCK, Changes, Disk, Image, look_up, read_all, written};

/// Three checkpoints with few rows: every file is a handful of blocks.
fn small() -> (Disk, Vec<Image>) {
    let changes = |changed: &[u128], gone: &[u128]| Changes {
        changed: changed.to_vec(),
        gone: gone.to_vec(),
        effects: 3,
        side_bytes: 40,
        history_from: 0,
    };
    let mut disk = Disk::default();
    let story = [
        changes(&[1, 2, 100, 101], &[]),
        changes(&[3, 4, 100], &[1]),
        changes(&[2, 3, 5], &[101]),
    ];
    let (_, images) = written(&mut disk, &story);
    (disk, images)
}

/// What came of one flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// As written: nothing read it.
    Unharmed,
    Before,
    Refused,
    Damaged,
}

fn outcome(disk: &mut Disk, images: &[Image]) -> Outcome {
    let Ok(opened) = disk.open() else {
        return Outcome::Refused;
    };
    let Ok(image) = read_all(&opened.store, disk) else {
        return Outcome::Damaged;
    };
    let number = usize::try_from(image.number).unwrap();
    assert!(image == images[number], "wrong rows from {:?}", opened.row);
    // Of the generation in use: what only the other one lists is nobody's loss.
    let damaged = |damage: &Damage| matches!(damage, Damage::Block { .. });
    let mut lost = opened.damage.iter().any(damaged);
    for position in image.history.keys() {
        match look_up(&opened.store, disk, *position) {
            Ok((found, _)) => assert_eq!(found, Some(*position)),
            Err(_) => lost = true,
        }
    }
    match (lost, number + 1 == images.len()) {
        (true, _) => Outcome::Damaged,
        (false, true) => Outcome::Unharmed,
        (false, false) => {
            assert!(matches!(
                opened.row,
                OpenRow::NewestIncomplete | OpenRow::OneDamaged
            ));
            Outcome::Before
        }
    }
}

type Outcomes = BTreeMap<String, BTreeMap<Outcome, usize>>;

/// Flips every `step`th byte from the `from`th on, one at a time.
fn flip_every(step: usize, from: usize) -> Outcomes {
    let (mut disk, images) = small();
    assert_eq!(outcome(&mut disk, &images), Outcome::Unharmed);
    let mut outcomes = Outcomes::new();
    for name in disk.names() {
        let kind = name.split('-').next().unwrap().to_owned();
        for at in (from..disk.bytes(&name).len()).step_by(step) {
            disk.bytes(&name)[at] ^= 1 << (at % 8);
            let outcome = outcome(&mut disk, &images);
            disk.bytes(&name)[at] ^= 1 << (at % 8);
            let of_kind = outcomes.entry(kind.clone()).or_default();
            *of_kind.entry(outcome).or_default() += 1;
        }
    }
    assert_eq!(outcome(&mut disk, &images), Outcome::Unharmed);
    outcomes
}

#[test]
fn no_flipped_byte_gives_a_wrong_row() {
    let outcomes = thread::scope(|threads| {
        let odd = threads.spawn(|| flip_every(2, 1));
        [flip_every(2, 0), odd.join().unwrap()]
    });
    let count = |kind: &str, outcome| -> usize {
        let of_kind = outcomes.iter().filter_map(|half| half[kind].get(&outcome));
        of_kind.sum()
    };
    // Every byte is under a checksum; only those of files of the older generation are not read.
    assert_eq!(count("manifest", Outcome::Before), BLOCK);
    assert_eq!(count("manifest", Outcome::Unharmed), BLOCK);
    for kind in ["accounts", "history"] {
        assert!(count(kind, Outcome::Damaged) > 4 * BLOCK, "{outcomes:?}");
        assert!(count(kind, Outcome::Before) >= BLOCK, "{outcomes:?}");
        assert!(count(kind, Outcome::Refused) >= BLOCK, "{outcomes:?}");
    }
    // Account ids that left are read only where fingerprints are shared: their blocks may be unharmed.
    assert_eq!(count("history", Outcome::Unharmed), 0, "{outcomes:?}");
    assert_eq!(count("side", Outcome::Damaged), BLOCK, "{outcomes:?}");
}

/// Whole blocks that are blank, swapped, or another file's.
#[test]
fn no_misplaced_block_gives_a_wrong_row() {
    let (mut disk, images) = small();
    let names: Vec<String> = disk.names();
    let mut refused = 0;
    for to in &names {
        for to_at in (0..disk.bytes(to).len()).step_by(BLOCK) {
            let kept = disk.bytes(to)[to_at..to_at + BLOCK].to_vec();
            let mut others = vec![vec![0; BLOCK]];
            for from in &names {
                others.extend(disk.bytes(from).chunks(BLOCK).map(<[u8]>::to_vec));
            }
            for other in others.into_iter().filter(|other| *other != kept) {
                disk.bytes(to)[to_at..to_at + BLOCK].copy_from_slice(&other);
                refused += usize::from(outcome(&mut disk, &images) != Outcome::Unharmed);
                disk.bytes(to)[to_at..to_at + BLOCK].copy_from_slice(&kept);
            }
        }
    }
    assert!(refused > 300, "{refused}");
}
