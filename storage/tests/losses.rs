//! What damage means for the replica all in all, and the repairs that precede everything.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use quorate_storage::wal::{
    Losses, LostRecord, Record, RecoveryError, Repair, SegmentNumber, Wal, frames,
};

use support::{Disk, IDENTITY, Log, OPTIONS, Sector, accepted, begin, flush, flushed, prepare};

fn log_of(flushes: Vec<Vec<Record<support::Payload>>>) -> (Disk, Log, u64) {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for records in flushes {
        flushed(&mut log, &mut disk, &mut seq, records);
    }
    (disk, log, seq)
}

/// Turns a bit in the payload of the frame with this number.
fn rot(disk: &mut Disk, number: u64) {
    let bytes = &disk.segments[&SegmentNumber::FIRST];
    let found = frames(bytes, SegmentNumber::FIRST, IDENTITY.seal())
        .filter_map(|found| found.frame.ok())
        .find(|frame| frame.header.number == number);
    let offset = found.unwrap().header.offset as usize;
    disk.flip(1, (offset + 100) * 8);
}

fn lost(slot: u64, ballot: u64) -> LostRecord {
    LostRecord { slot, ballot }
}

#[test]
fn an_intact_log_has_lost_nothing() {
    let (disk, ..) = log_of(vec![vec![accepted(9, 1, 100)]]);
    let recovery = disk.recover().unwrap();
    assert_eq!(recovery.losses(), Losses::Records(vec![]));
}

#[test]
fn lost_records_are_listed_once_per_slot_under_their_highest_ballot() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(7, 2, 100)],
        vec![accepted(7, 1, 100)],
        vec![accepted(8, 2, 100)],
        vec![accepted(9, 3, 100)],
        vec![accepted(9, 4, 100)],
    ]);
    rot(&mut disk, 1);
    rot(&mut disk, 3);
    rot(&mut disk, 2);
    let recovery = disk.recover().unwrap();
    let expected = Losses::Records(vec![lost(1, 7), lost(2, 8)]);
    assert_eq!(recovery.losses(), expected);
    // The record that replaces a lost one ends the loss, for good.
    let (_, mut log) = disk.open();
    let mut seq = 0;
    flushed(&mut log, &mut disk, &mut seq, [accepted(9, 2, 100)]);
    let expected = Losses::Records(vec![lost(1, 7)]);
    assert_eq!(disk.recover().unwrap().losses(), expected);
}

#[test]
fn a_missing_segment_is_an_unknown_loss_unless_it_held_one_record() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(9, 1, 50_000)],
        vec![accepted(9, 2, 50_000)],
        vec![accepted(9, 3, 40_000)],
        vec![accepted(9, 4, 100)],
        vec![accepted(9, 5, 50_000)],
    ]);
    let mut twice = disk.clone();
    disk.segments.remove(&SegmentNumber(2));
    let expected = Losses::Records(vec![lost(2, 9)]);
    assert_eq!(disk.recover().unwrap().losses(), expected);
    twice.segments.remove(&SegmentNumber(3));
    assert_eq!(twice.recover().unwrap().losses(), Losses::Unknown);
}

#[test]
fn a_lost_watermark_is_known_by_its_name() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(9, 1, 100)],
        vec![Record::Chosen { upto: 1 }],
        vec![accepted(9, 2, 100)],
    ]);
    let bytes = &disk.segments[&SegmentNumber::FIRST];
    let found = frames(bytes, SegmentNumber::FIRST, IDENTITY.seal())
        .filter_map(|found| found.frame.ok())
        .find(|frame| frame.header.number == 2);
    let offset = found.unwrap().header.offset as usize;
    disk.flip(1, (offset + 20) * 8);
    let recovery = disk.recover().unwrap();
    assert_eq!(recovery.damage.len(), 1);
    assert_eq!(recovery.chosen_upto, 1);
    assert_eq!(recovery.losses(), Losses::Records(vec![]));
}

/// The first file is gone, and the header of the second is rotten. Its frames are whole, so the log
/// seemed to begin there with nothing lost, and the replica voted as if it had never accepted slot 1.
#[test]
fn a_log_without_its_first_segment_does_not_begin_at_the_second_unless_a_header_says_so() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(9, 1, 60_000)],
        vec![accepted(9, 2, 20_000)],
        vec![accepted(9, 3, 100)],
    ]);
    let whole = disk.clone();
    disk.segments.remove(&SegmentNumber::FIRST);
    let expected = Losses::Records(vec![lost(1, 9)]);
    assert_eq!(disk.recover().unwrap().losses(), expected);
    disk.flip(2, 0);
    let segment = SegmentNumber(2);
    let refused = disk.recover().map(|recovery| recovery.losses());
    assert_eq!(refused, Err(RecoveryError::Beginning { segment }));
    // With the first file there, a header is only a copy.
    let mut rotten = whole;
    rotten.flip(2, 0);
    assert_eq!(rotten.recover().unwrap().losses(), Losses::Records(vec![]));
}

/// A process renames a new segment to its name and dies before it syncs the directory. The next one
/// sees the name, writes records into the segment and acknowledges them; then the power fails, and
/// only names that were synced are left.
#[test]
fn a_name_that_was_seen_is_made_durable_before_it_is_built_upon() {
    let (mut disk, mut log, _) = log_of(vec![vec![accepted(9, 1, 50_000)]]);
    let durable = |disk: &Disk| disk.segments.keys().copied().collect::<BTreeSet<_>>();
    disk.segments
        .retain(|number, _| *number == SegmentNumber::FIRST);
    let mut names = durable(&disk);
    log = {
        drop(log);
        Wal::resume(disk.recover().unwrap(), OPTIONS)
    };
    prepare(&mut log, &mut disk);
    assert!(!names.contains(&SegmentNumber(2)), "seen, not synced");
    drop(log);

    let recovery = disk.recover().unwrap();
    for repair in &recovery.repairs {
        match repair {
            Repair::SyncDirectory => names = durable(&disk),
            Repair::Write { .. } | Repair::Sync { .. } => {}
        }
    }
    disk.repair(&recovery.repairs);
    let mut log: Log = Wal::resume(recovery, OPTIONS);
    log.append(1, accepted(9, 2, 50_000));
    let (open, bytes) = begin(&mut log).expect("the segment is ready");
    assert_eq!(open.segment(), SegmentNumber(2));
    disk.write(open.segment(), open.offset(), &bytes, |_| Sector::Landed);
    log.finish_flush(open);
    flush(&mut log, &mut disk);

    disk.segments.retain(|number, _| names.contains(number));
    let recovery = disk.recover().unwrap();
    assert!(recovery.index.locate(2).is_some(), "it was acknowledged");
}
