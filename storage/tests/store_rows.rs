//! One test per row of the open table, of that name: the smallest directory that shows it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use quorate_storage::store::{
    Binding, Damage, FileKind, Listed, Manifest, ManifestError, OpenError, OpenRow, Operation, open,
};

use store_support::{
    BINDING, BLOCK, Changes, Disk, Image, Node, assert_holds, assert_no_garbage, name, story,
    written,
};

const EVEN: &str = "manifest-0";
const ODD: &str = "manifest-1";

/// Three checkpoints: `manifest-0` is the second, `manifest-1` the third.
fn three() -> (Disk, Vec<Image>) {
    let mut disk = Disk::default();
    let (_, images) = written(&mut disk, &story()[..3]);
    (disk, images)
}

/// Opens, and checks that nothing is lost and everything goes on.
fn opens(mut disk: Disk, row: OpenRow, damage: usize, expected: &Image) {
    let opened = disk.open().unwrap();
    assert_eq!((opened.row, opened.damage.len()), (row, damage));
    assert_eq!(opened.repairs[0], Operation::SyncDirectory);
    let (mut node, _) = disk.start();
    assert_holds(&node, &mut disk, expected);
    let next = node.checkpoint(&mut disk, expected, &Changes::default());
    let (node, row) = disk.start();
    let first = next.number == 1;
    assert_eq!(row == OpenRow::Only, first);
    assert_eq!(row == OpenRow::Newest, !first);
    assert_holds(&node, &mut disk, &next);
    assert_no_garbage(&mut disk);
}

/// Is refused, and nothing is touched.
fn refused(mut disk: Disk) -> OpenError {
    let before = disk.names();
    let error = disk.open().unwrap_err();
    assert_eq!(disk.names(), before);
    error
}

fn with_manifest(disk: &mut Disk, file: &str, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = Manifest::decode(disk.bytes(file)).unwrap();
    change(&mut manifest);
    disk.put(file, manifest.encode());
}

#[test]
fn empty() {
    opens(Disk::default(), OpenRow::Empty, 0, &Image::default());

    // The first checkpoint was not published: its files are garbage.
    let (mut disk, _) = three();
    let mut first = Disk::default();
    first.put(
        "accounts-0000000000000001",
        disk.bytes(&name(FileKind::Accounts, 1)).clone(),
    );
    first.put("wal-0000000000000001", vec![7; 100]);
    let opened = first.open().unwrap();
    assert_eq!(opened.row, OpenRow::Empty);
    assert_eq!(opened.repairs.len(), 2);
    let (node, _) = first.start();
    assert_holds(&node, &mut first, &Image::default());
    assert_eq!(first.names(), ["wal-0000000000000001"]);
}

#[test]
fn only() {
    let mut disk = Disk::default();
    let (_, images) = written(&mut disk, &story()[..1]);
    opens(disk, OpenRow::Only, 0, &images[1]);

    // A store that was begun, but holds nothing yet, may have files of any number.
    let mut disk = Disk::default();
    disk.put(EVEN, Manifest::empty(BINDING).encode());
    disk.put(&name(FileKind::History, 900), vec![1; BLOCK]);
    let (node, row) = disk.start();
    assert_eq!((row, node.store.manifest().number), (OpenRow::Only, 0));
    assert_eq!(disk.names(), [EVEN]);
}

#[test]
fn newest() {
    let (disk, images) = three();
    opens(disk, OpenRow::Newest, 0, &images[3]);

    // Files that neither lists, and names that are none of the store's.
    let (mut disk, _) = three();
    for garbage in [FileKind::Accounts, FileKind::History, FileKind::Side] {
        disk.put(&name(garbage, 4), vec![9; 3 * BLOCK]);
    }
    let others = ["manifest-2", "manifest-1.tmp", "side-1", "superblock"];
    for other in others {
        disk.put(other, vec![9; 17]);
    }
    let (node, _) = disk.start();
    assert_holds(&node, &mut disk, &images[3]);
    assert!(!disk.names().contains(&name(FileKind::Side, 4)));
    for other in others {
        disk.remove(other);
    }
    assert_no_garbage(&mut disk);
}

#[test]
fn newest_incomplete() {
    let (mut disk, images) = three();
    disk.remove(&name(FileKind::Side, 3));
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);

    // A file of the wrong length, of rotten footer, of another content.
    let (mut disk, _) = three();
    disk.bytes(&name(FileKind::Accounts, 3)).extend([0; BLOCK]);
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);
    let (mut disk, _) = three();
    *disk.bytes(&name(FileKind::Accounts, 3)).last_mut().unwrap() ^= 1;
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);
    let (mut disk, _) = three();
    with_manifest(&mut disk, ODD, |manifest| manifest.files[0].content ^= 1);
    let damage = disk.open().unwrap().damage;
    assert!(matches!(damage[..], [Damage::Content { .. }]), "{damage:?}");
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);
}

/// The files of one checkpoint under another's manifest: same names, other content.
#[test]
fn files_of_another_life_are_not_taken_for_the_manifests_own() {
    let (mut disk, images) = three();
    let mut other_story = story();
    other_story[2].side_bytes += 1;
    let mut other = Disk::default();
    written(&mut other, &other_story[..3]);
    let side = name(FileKind::Side, 3);
    disk.put(&side, other.bytes(&side).clone());
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);
}

#[test]
fn older_incomplete() {
    let (mut disk, images) = three();
    disk.remove(&name(FileKind::Side, 2));
    let opened = disk.open().unwrap();
    assert_eq!(opened.store.log_needed_from(), images[3].slot);
    opens(disk, OpenRow::OlderIncomplete, 1, &images[3]);
}

#[test]
fn one_damaged() {
    for (torn, left) in [(ODD, 2), (EVEN, 3)] {
        for length in [0, 1, 100, BLOCK] {
            let (mut disk, images) = three();
            let bytes = disk.bytes(torn);
            bytes.truncate(length);
            if length == BLOCK {
                bytes[100] ^= 4;
            }
            // What only the damaged one may list is kept until the next checkpoint replaces it.
            let files = disk.names();
            disk.start();
            assert_eq!(disk.names(), files);
            opens(disk, OpenRow::OneDamaged, 1, &images[left]);
        }
    }
}

/// A manifest that was copied or renamed to the other's name proves nothing.
#[test]
fn a_manifest_under_the_others_name_is_none() {
    let (mut disk, images) = three();
    let newest = disk.bytes(ODD).clone();
    disk.put(EVEN, newest);
    let opened = disk.open().unwrap();
    assert_eq!(opened.damage.len(), 1);
    assert_eq!(
        opened.damage[0].to_string(),
        "manifest-0 holds checkpoint 3"
    );
    opens(disk, OpenRow::OneDamaged, 1, &images[3]);
}

#[test]
fn manifests_missing() {
    let (mut disk, _) = three();
    disk.remove(EVEN);
    disk.remove(ODD);
    let error = refused(disk).to_string();
    assert_eq!(error, "no manifest, but accounts-0000000000000002 exists");
}

#[test]
fn unusable() {
    let (mut disk, _) = three();
    disk.remove(EVEN);
    disk.bytes(ODD)[9] ^= 1;
    assert!(matches!(refused(disk), OpenError::Unusable { damage } if damage.len() == 1));

    // Both need the first accounts file.
    let (mut disk, _) = three();
    disk.remove(&name(FileKind::Accounts, 1));
    let error = refused(disk).to_string();
    let expected = "no complete checkpoint: accounts-0000000000000001 is missing (and 0 more)";
    assert_eq!(error, expected);

    let (mut disk, _) = three();
    disk.bytes(EVEN)[9] ^= 1;
    disk.bytes(ODD)[9] ^= 1;
    assert!(matches!(refused(disk), OpenError::Unusable { damage } if damage.len() == 2));

    let (mut disk, _) = three();
    disk.bytes(EVEN)[9] ^= 1;
    disk.remove(&name(FileKind::Side, 3));
    assert!(matches!(refused(disk), OpenError::Unusable { damage } if damage.len() == 2));
}

#[test]
fn foreign() {
    for file in [EVEN, ODD] {
        let (mut disk, _) = three();
        with_manifest(&mut disk, file, |manifest| manifest.binding.cluster = 8);
        let error = refused(disk).to_string();
        assert_eq!(error, format!("{file}: cluster id 8 on disk, 7 in config"));
    }
    let (mut disk, _) = three();
    let binding = Binding {
        shard: 3,
        ..BINDING
    };
    let listing = disk.listing();
    let error = open(&listing, &mut disk, binding).unwrap_err();
    assert_eq!(
        error.to_string(),
        "manifest-1: shard 2 on disk, 3 in config"
    );
}

#[test]
fn version() {
    let (mut disk, _) = three();
    let bytes = disk.bytes(EVEN);
    bytes[8] = 3;
    let crc_at = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..crc_at]);
    bytes[crc_at..].copy_from_slice(&crc.to_le_bytes());
    let error = refused(disk);
    assert!(matches!(
        error,
        OpenError::Version {
            error: ManifestError::Version { found: 3 },
            ..
        }
    ));
    assert_eq!(
        error.to_string(),
        "manifest-0: manifest version 3, 2 supported"
    );
}

/// History files must hold every position once, and no more live rows are believed than there are rows.
#[test]
fn manifests_that_contradict_their_files_are_incomplete() {
    let (mut disk, images) = three();
    with_manifest(&mut disk, ODD, |manifest| manifest.history_next -= 1);
    let damage = disk.open().unwrap().damage;
    assert!(matches!(damage[..], [Damage::Base { .. }]), "{damage:?}");
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);

    let (mut disk, _) = three();
    with_manifest(&mut disk, ODD, |manifest| manifest.files[0].live = 71);
    let damage = disk.open().unwrap().damage;
    assert!(matches!(damage[..], [Damage::Live { .. }]), "{damage:?}");
    opens(disk, OpenRow::NewestIncomplete, 1, &images[2]);

    // Files 2, 4 and 5 hold positions 401 to 494: the oldest may be dropped, none between.
    for (dropped, gap) in [(2, false), (4, true)] {
        let mut disk = Disk::default();
        written(&mut disk, &story()[..5]);
        with_manifest(&mut disk, ODD, |manifest| {
            let dropped = |listed: &Listed| {
                listed.file.kind == FileKind::History && listed.file.number == dropped
            };
            manifest.files.retain(|listed| !dropped(listed));
        });
        let damage = disk.open().unwrap().damage;
        assert_eq!(damage.len(), usize::from(gap));
    }
}

/// The live rows of every file are what the index ends up with; otherwise it is not that checkpoint's.
#[test]
fn an_index_of_other_live_rows_is_refused() {
    let (mut disk, _) = three();
    with_manifest(&mut disk, ODD, |manifest| manifest.files[0].live -= 1);
    let store = disk.open().unwrap().store;
    let loaded = store_support::load_accounts(&store, &mut disk);
    assert!(matches!(loaded, Err(Damage::Live { .. })));
}

/// A damaged block of bucket offsets costs look-ups in that file, until it is repaired.
#[test]
fn damaged_offsets_are_reported_and_repaired() {
    let mut disk = Disk::default();
    let (node, _) = written(&mut disk, &story()[..1]);
    let history = name(FileKind::History, 1);
    let good = disk.bytes(&history).clone();
    // In front of the filter and the footer.
    let at = good.len() - 3 * BLOCK;
    let block = u32::try_from(at / BLOCK).unwrap();
    disk.bytes(&history)[at + 40] ^= 1;
    let mut opened = disk.open().unwrap();
    assert!(matches!(opened.damage[..], [Damage::Block { place, .. }] if place.block == block));
    let looked = store_support::look_up(&opened.store, &disk, 77);
    assert!(looked.unwrap_err().starts_with("history-0000000000000001"));

    *disk.bytes(&history) = good.clone();
    let (found, reads) = store_support::look_up(&opened.store, &disk, 77).unwrap();
    assert_eq!(found, Some(77));
    let Damage::Block { place, .. } = opened.damage[0] else {
        unreachable!("matched above");
    };
    opened
        .store
        .adopt_repaired(place, &good[at..at + BLOCK])
        .unwrap();
    let (_, fewer) = store_support::look_up(&opened.store, &disk, 77).unwrap();
    assert!(fewer < reads, "{fewer} reads, {reads} before");
    let Node { store, .. } = node;
    assert_eq!(
        store.check_block(FileKind::History, 1, block, &good[at..at + BLOCK]),
        Ok(())
    );
    assert!(
        store
            .check_block(FileKind::History, 1, block + 1, &good[at..at + BLOCK])
            .is_err()
    );
    assert!(
        store
            .check_block(FileKind::History, 2, block, &good[at..at + BLOCK])
            .is_err()
    );
}
