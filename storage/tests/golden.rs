//! The bytes on disk, pinned: a log written today must be readable by every later version, and a later
//! version that writes other bytes under the same version number is a bug.
//!
//! `tests/golden/wal-0000000000000001` and `tests/golden/superblock` hold the bytes up to the last
//! block with content. `docs/reference/storage-format.md` describes them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::PathBuf;

use quorate_storage::superblock::{Genesis, Superblock};
use quorate_storage::wal::{Record, SegmentHeader, SegmentNumber, frames};

use support::{Disk, IDENTITY, SEGMENT_BYTES, accepted, flushed, owned};

const WRITTEN_BYTES: usize = 5 * 4096;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn records() -> Vec<Vec<Record<support::Payload>>> {
    vec![
        vec![Record::Promise { ballot: 0x0102 }],
        vec![
            accepted(0x0102, 1, 128),
            accepted(0x0102, 2, 33),
            Record::Chosen { upto: 1 },
        ],
        vec![accepted(0x0203, 2, 0)],
        vec![Record::Clean],
    ]
}

fn written() -> Vec<u8> {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for flush in records() {
        flushed(&mut log, &mut disk, &mut seq, flush);
    }
    disk.segments.remove(&SegmentNumber::FIRST).unwrap()
}

#[test]
fn a_segment_is_written_as_ever() {
    let bytes = written();
    assert!(bytes[WRITTEN_BYTES..].iter().all(|&byte| byte == 0));
    let path = golden("wal-0000000000000001");
    assert!(
        std::fs::read(&path).unwrap() == bytes[..WRITTEN_BYTES],
        "the log writes other bytes than {}",
        path.display()
    );
}

#[test]
fn an_old_segment_is_read_as_ever() {
    let mut bytes = std::fs::read(golden("wal-0000000000000001")).unwrap();
    assert_eq!(bytes.len(), WRITTEN_BYTES);
    bytes.resize(SEGMENT_BYTES, 0);
    let header = SegmentHeader::decode(&bytes).unwrap();
    assert_eq!(header.identity, IDENTITY);
    assert_eq!((header.segment.0, header.oldest.0, header.flush), (1, 1, 1));
    let found: Vec<_> = frames(&bytes, SegmentNumber::FIRST, IDENTITY.seal())
        .map(|found| owned(&found.frame.unwrap().record()))
        .collect();
    let expected: Vec<_> = records().iter().flatten().map(owned).collect();
    assert_eq!(found, expected);

    let mut disk = Disk::default();
    disk.segments.insert(SegmentNumber::FIRST, bytes);
    let recovery = disk.recover().unwrap();
    assert!(recovery.clean);
    assert_eq!((recovery.promised, recovery.chosen_upto), (0x0203, 1));
    assert_eq!(recovery.index.locate(2).unwrap().ballot, 0x0203);
}

#[test]
fn the_superblock_is_as_ever() {
    let bytes = std::fs::read(golden("superblock")).unwrap();
    assert!(superblock().encode() == bytes[..]);
    assert_eq!(Superblock::decode(&bytes), Ok(superblock()));
}

fn superblock() -> Superblock {
    Superblock {
        identity: IDENTITY,
        genesis: Genesis::of(
            "shards = 3, replicas = 3, placement = hash, ids = ulid, lease = 400ms",
        ),
    }
}

/// Rewrites the fixtures: `cargo test -p quorate-storage --test golden -- --ignored`. Only together with
/// a new format version.
#[test]
#[ignore = "writes the fixtures instead of checking them"]
fn write_the_fixtures() {
    std::fs::create_dir_all(golden("")).unwrap();
    std::fs::write(golden("wal-0000000000000001"), &written()[..WRITTEN_BYTES]).unwrap();
    std::fs::write(golden("superblock"), superblock().encode()).unwrap();
}
