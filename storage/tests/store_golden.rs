//! The bytes of a store, pinned: one file of each kind and their manifest. A version that writes other
//! bytes under the same version number is a bug: replicas compare and exchange these files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod store_support;

use std::path::PathBuf;

use quorate_storage::store::{FileKind, OpenRow};

use store_support::{Changes, Disk, Image, assert_holds, name, written};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/store")
        .join(name)
}

/// Two checkpoints; an account leaves, ids share a fingerprint, and the history needs two buckets.
fn disk() -> (Disk, Image) {
    let changes = |changed: &[u128], gone: &[u128], effects| Changes {
        changed: changed.to_vec(),
        gone: gone.to_vec(),
        effects,
        side_bytes: 4_070,
        history_from: 0,
    };
    let mut disk = Disk::default();
    let story = [
        changes(&[1, 2, 100], &[], 2),
        changes(&[2, 3, 101], &[1], 300),
    ];
    let (_, mut images) = written(&mut disk, &story);
    (disk, images.pop().unwrap())
}

fn names() -> Vec<String> {
    let kinds = FileKind::ALL.into_iter();
    let mut names: Vec<String> = kinds.map(|kind| name(kind, 2)).collect();
    names.push("manifest-0".to_owned());
    names
}

#[test]
fn a_checkpoint_is_written_as_ever() {
    let (mut disk, _) = disk();
    for name in names() {
        let path = golden(&name);
        assert!(
            std::fs::read(&path).unwrap() == *disk.bytes(&name),
            "the store writes other bytes than {}",
            path.display()
        );
    }
}

#[test]
fn an_old_checkpoint_is_read_as_ever() {
    let (mut disk, image) = disk();
    for name in names() {
        disk.put(&name, std::fs::read(golden(&name)).unwrap());
    }
    let (node, row) = disk.start();
    assert_eq!(row, OpenRow::Newest);
    assert_holds(&node, &mut disk, &image);
}

/// Rewrites the fixtures: `cargo test -p quorate-storage --test store_golden -- --ignored`. Only together
/// with a new version of what they pin.
#[test]
#[ignore = "writes the fixtures instead of checking them"]
fn write_the_fixtures() {
    let (mut disk, _) = disk();
    std::fs::create_dir_all(golden("")).unwrap();
    for name in names() {
        std::fs::write(golden(&name), disk.bytes(&name)).unwrap();
    }
}
