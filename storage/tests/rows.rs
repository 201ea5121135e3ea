//! One test per row of the recovery table, of that name: the smallest log that shows it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use quorate_storage::superblock::{Identity, IdentityError};
use quorate_storage::wal::{
    Damage, Frame, Harm, Kind, Losses, Lost, Name, Operation, Record, Recovery, RecoveryError, Row,
    SegmentNumber, Wal, frames, recover,
};

use support::{
    Disk, IDENTITY, Log, OPTIONS, SEGMENT_BYTES, Sector, accepted, begin, flush, flushed, prepare,
};

const BLOCK: usize = 4096;

/// A log whose flushes hold these records, and nothing open.
fn log_of(flushes: Vec<Vec<Record<support::Payload>>>) -> (Disk, Log, u64) {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for records in flushes {
        flushed(&mut log, &mut disk, &mut seq, records);
    }
    (disk, log, seq)
}

/// Three flushes of small records: slots 1 and 2, then 3 and 4, then 5.
fn three_flushes() -> Disk {
    let (disk, ..) = log_of(vec![
        vec![accepted(9, 1, 100), accepted(9, 2, 100)],
        vec![accepted(9, 3, 100), accepted(9, 4, 100)],
        vec![accepted(9, 5, 100)],
    ]);
    disk
}

/// Offset of the frame with this number in the first segment.
fn offset_of(disk: &Disk, number: u64) -> usize {
    let bytes = &disk.segments[&SegmentNumber::FIRST];
    let found = frames(bytes, SegmentNumber::FIRST, IDENTITY.seal())
        .filter_map(|found| found.frame.ok())
        .find(|frame| frame.header.number == number);
    found.unwrap().header.offset as usize
}

fn slots(recovery: &Recovery) -> Vec<u64> {
    recovery.index.iter().map(|(slot, _)| slot).collect()
}

fn accepted_name(ballot: u64, slot: u64) -> Name {
    Name {
        kind: Kind::Accepted,
        slot,
        ballot,
    }
}

fn rows(recovery: &Recovery) -> Vec<(Row, Lost)> {
    recovery
        .damage
        .iter()
        .map(|damage| (damage.row, damage.lost))
        .collect()
}

/// Starts a flush and crashes: `fate` by sector of the write.
fn crash_during(
    log: &mut Log,
    disk: &mut Disk,
    seq: u64,
    records: impl IntoIterator<Item = Record<support::Payload>>,
    fate: impl FnMut(usize) -> Sector,
) {
    for (number, record) in (seq + 1..).zip(records) {
        log.append(number, record);
    }
    prepare(log, disk);
    let (flush, bytes) = begin(log).unwrap();
    disk.write(flush.segment(), flush.offset(), &bytes, fate);
}

#[test]
fn clean_end() {
    let recovery = Disk::formatted().recover().unwrap();
    assert_eq!((recovery.tail, recovery.frames), (Row::CleanEnd, 0));
    assert_eq!(
        (recovery.end.segment, recovery.end.offset),
        (SegmentNumber(1), 0)
    );

    let recovery = three_flushes().recover().unwrap();
    assert_eq!(recovery.tail, Row::CleanEnd);
    assert_eq!(slots(&recovery), [1, 2, 3, 4, 5]);
    assert_eq!((recovery.promised, recovery.end.offset), (9, 4 * 4096));
    assert!(!recovery.clean && recovery.damage.is_empty());
}

#[test]
fn next_record_and_next_segment() {
    let (disk, ..) = log_of(vec![
        vec![Record::Promise { ballot: 3 }],
        vec![accepted(4, 1, 40_000)],
        vec![Record::Chosen { upto: 1 }, accepted(4, 2, 40_000)],
        vec![Record::Promise { ballot: 7 }],
    ]);
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.frames, recovery.damage.len()), (5, 0));
    assert_eq!((recovery.promised, recovery.chosen_upto), (7, 1));
    assert_eq!(recovery.end.segment, SegmentNumber(2));
    assert_eq!(recovery.index.locate(2).unwrap().segment, SegmentNumber(2));
}

#[test]
fn clean_stop() {
    let (mut disk, mut log, mut seq) = log_of(vec![vec![accepted(9, 1, 100)]]);
    flushed(&mut log, &mut disk, &mut seq, [Record::Clean]);
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.tail, recovery.clean), (Row::CleanStop, true));
    assert_eq!(recovery.end.chain.number, 1);

    // Opening the log erases the marker: a crash right behind is no orderly stop.
    let (_, mut log) = disk.open();
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.tail, recovery.clean), (Row::CleanEnd, false));

    // What follows takes the marker's place.
    flushed(&mut log, &mut disk, &mut seq, [accepted(9, 2, 100)]);
    assert_eq!(slots(&disk.recover().unwrap()), [1, 2]);
}

#[test]
fn the_end_marker_turns_damage_before_it_into_corruption() {
    let (mut disk, mut log, mut seq) = log_of(vec![vec![accepted(9, 1, 100)]]);
    flushed(
        &mut log,
        &mut disk,
        &mut seq,
        [accepted(9, 2, 100), Record::Clean],
    );
    let at = offset_of(&disk, 2);
    disk.flip(1, at * 8 + 3);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::CorruptMiddle, Lost::Record(accepted_name(9, 2)))]
    );
    assert!(!recovery.clean);

    // And stays corruption: the marker is the only proof, opening the log does not erase it.
    let (_, mut log) = disk.open();
    assert_eq!(disk.recover().unwrap().damage, recovery.damage);
    let mut seq = 0;
    flushed(&mut log, &mut disk, &mut seq, [accepted(9, 3, 100)]);
    assert_eq!(disk.recover().unwrap().damage, recovery.damage);
    assert_eq!(slots(&disk.recover().unwrap()), [1, 3]);
}

#[test]
fn torn_tail() {
    let (mut disk, mut log, seq) = log_of(vec![vec![accepted(9, 1, 100)]]);
    let records = [
        accepted(9, 2, 100),
        accepted(9, 3, 5_000),
        accepted(9, 4, 100),
    ];
    // The middle record loses a sector of its payload; the last is whole.
    crash_during(&mut log, &mut disk, seq, records, |sector| match sector {
        4 => Sector::Lost,
        _ => Sector::Landed,
    });
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.tail, recovery.damage.len()), (Row::TornTail, 0));
    assert_eq!(slots(&recovery), [1, 2]);
    assert_eq!(
        recovery.repairs.len(),
        3,
        "a sync of the directory, a write, a sync"
    );

    // What lies beyond the cut never comes back, whatever is written in front of it.
    let (_, mut log) = disk.open();
    assert_eq!(disk.records().len(), 2);
    let mut seq = 0;
    flushed(&mut log, &mut disk, &mut seq, [accepted(10, 3, 1)]);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        (slots(&recovery), recovery.damage.len()),
        (vec![1, 2, 3], 0)
    );
    assert_eq!(recovery.index.locate(3).unwrap().ballot, 10);
}

#[test]
fn torn_tail_that_lost_its_first_block_does_not_accuse_the_flush_before() {
    let (mut disk, mut log, seq) = log_of(vec![vec![accepted(9, 1, 100)]]);
    let records = [accepted(9, 2, 4_000), accepted(9, 3, 100)];
    crash_during(&mut log, &mut disk, seq, records, |sector| match sector {
        0 => Sector::Garbled,
        _ => Sector::Landed,
    });
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.tail, recovery.damage.len()), (Row::TornTail, 0));
    assert_eq!(slots(&recovery), [1]);
}

#[test]
fn torn_tail_that_lost_a_new_segments_header() {
    let (mut disk, mut log, seq) = log_of(vec![vec![accepted(9, 1, 50_000)]]);
    crash_during(
        &mut log,
        &mut disk,
        seq,
        [accepted(9, 2, 50_000)],
        |sector| match sector {
            0 => Sector::Lost,
            _ => Sector::Landed,
        },
    );
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.tail, recovery.damage.len()), (Row::TornTail, 0));
    assert_eq!(slots(&recovery), [1]);
    let (_, mut log) = disk.open();
    let mut seq = 0;
    flushed(&mut log, &mut disk, &mut seq, [accepted(9, 2, 50_001)]);
    let recovery = disk.recover().unwrap();
    assert_eq!(slots(&recovery), [1, 2]);
    assert_eq!(recovery.damage, []);
}

#[test]
fn corrupt_middle() {
    // The header is rotten: the next frame names the record.
    let mut disk = three_flushes();
    let at = offset_of(&disk, 3);
    disk.flip(1, (at + 30) * 8);
    let recovery = disk.recover().unwrap();
    let lost = Lost::Record(accepted_name(9, 3));
    assert_eq!(
        recovery.damage,
        [Damage {
            row: Row::CorruptMiddle,
            segment: SegmentNumber::FIRST,
            offset: u32::try_from(offset_of(&disk, 2) + 208).unwrap(),
            lost,
        }]
    );
    assert_eq!(recovery.damage[0].harm(), Harm::Slot { slot: 3, ballot: 9 });
    assert_eq!(slots(&recovery), [1, 2, 4, 5]);
    assert_eq!((recovery.tail, recovery.promised), (Row::CleanEnd, 9));
}

#[test]
fn corrupt_middle_of_several_records_names_the_last() {
    let mut disk = three_flushes();
    for number in [2, 3, 4] {
        let at = offset_of(&disk, number);
        disk.segments.get_mut(&SegmentNumber::FIRST).unwrap()[at..at + 96].fill(0xFF);
    }
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [
            (Row::CorruptMiddle, Lost::Unknown { records: 2 }),
            (Row::CorruptMiddle, Lost::Record(accepted_name(9, 4))),
        ]
    );
    assert_eq!(recovery.damage[0].harm(), Harm::Replica);
    assert_eq!(slots(&recovery), [1, 5]);
}

#[test]
fn corrupt_middle_before_a_segment_whose_frames_are_torn() {
    // Nothing of the last flush is readable but its segment header: it proves the record before it.
    let (mut disk, mut log, mut seq) = log_of(vec![vec![accepted(9, 1, 100)]]);
    flushed(&mut log, &mut disk, &mut seq, [accepted(9, 2, 100)]);
    crash_during(
        &mut log,
        &mut disk,
        seq,
        [accepted(9, 3, 55_000)],
        |sector| match sector {
            0 => Sector::Landed,
            _ => Sector::Lost,
        },
    );
    let at = offset_of(&disk, 2);
    disk.flip(1, at * 8);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::CorruptMiddle, Lost::Record(accepted_name(9, 2)))]
    );
    assert_eq!(recovery.end.segment, SegmentNumber(2));
    assert_eq!(recovery.end.offset, 4096);
}

#[test]
fn corrupt_payload() {
    let mut disk = three_flushes();
    let at = offset_of(&disk, 3);
    disk.flip(1, (at + 96 + 50) * 8);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::CorruptPayload, Lost::Record(accepted_name(9, 3)))]
    );
    assert_eq!(slots(&recovery), [1, 2, 4, 5]);
}

#[test]
fn a_lost_record_that_was_written_again_is_superseded() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(8, 1, 100)],
        vec![accepted(9, 1, 100)],
        vec![accepted(9, 2, 100)],
    ]);
    let at = offset_of(&disk, 2);
    disk.flip(1, (at + 100) * 8);
    // The older record of the slot must not pass for the lost one.
    let (recovery, mut log) = disk.open();
    assert_eq!(
        rows(&recovery),
        [(Row::CorruptPayload, Lost::Record(accepted_name(9, 1)))]
    );
    assert_eq!(slots(&recovery), [2]);

    let mut seq = 0;
    flushed(&mut log, &mut disk, &mut seq, [accepted(9, 1, 100)]);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::CorruptPayload, Lost::Superseded(accepted_name(9, 1)))]
    );
    assert_eq!(recovery.damage[0].harm(), Harm::Nothing);
    assert_eq!(slots(&recovery), [1, 2]);
}

#[test]
fn an_older_record_of_the_same_ballot_does_not_pass_for_a_lost_one() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(9, 1, 100)],
        vec![accepted(9, 1, 200)],
        vec![accepted(9, 2, 100)],
    ]);
    let at = offset_of(&disk, 2);
    disk.flip(1, (at + 100) * 8);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::CorruptPayload, Lost::Record(accepted_name(9, 1)))]
    );
    assert_eq!(slots(&recovery), [2]);
}

#[test]
fn a_lost_promise_is_told_by_the_next_frame() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(3, 1, 100)],
        vec![Record::Promise { ballot: 8 }],
        vec![Record::Chosen { upto: 1 }],
    ]);
    let at = offset_of(&disk, 2);
    disk.flip(1, at * 8);
    let recovery = disk.recover().unwrap();
    assert_eq!(recovery.promised, 8);
    let name = Name {
        kind: Kind::Promise,
        slot: 0,
        ballot: 8,
    };
    assert_eq!(rows(&recovery), [(Row::CorruptMiddle, Lost::Record(name))]);
    assert_eq!(recovery.damage[0].harm(), Harm::Nothing);
}

#[test]
fn bad_segment_header() {
    let mut disk = three_flushes();
    disk.flip(1, 60 * 8);
    let recovery = disk.recover().unwrap();
    assert_eq!(rows(&recovery), [(Row::BadSegmentHeader, Lost::Nothing)]);
    assert_eq!(slots(&recovery), [1, 2, 3, 4, 5]);
}

/// Segments 1, 2 and 3 with one large record each, and a small one in 3.
fn three_segments() -> Disk {
    let (disk, ..) = log_of(vec![
        vec![accepted(9, 1, 50_000)],
        vec![accepted(9, 2, 50_000)],
        vec![accepted(9, 3, 50_000)],
        vec![accepted(9, 4, 100)],
    ]);
    disk
}

#[test]
fn missing_segment() {
    let mut disk = three_segments();
    disk.segments.remove(&SegmentNumber(2));
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::MissingSegment, Lost::Record(accepted_name(9, 2)))]
    );
    assert_eq!(slots(&recovery), [1, 3, 4]);

    let mut disk = three_segments();
    disk.segments.remove(&SegmentNumber(1));
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::MissingSegment, Lost::Record(accepted_name(9, 1)))]
    );
    assert_eq!(slots(&recovery), [2, 3, 4]);
}

#[test]
fn missing_segment_at_the_end_stays_missing() {
    let mut disk = three_segments();
    disk.segments
        .insert(SegmentNumber(4), vec![0; SEGMENT_BYTES]);
    disk.segments.remove(&SegmentNumber(3));
    for _ in 0..3 {
        let (recovery, mut log) = disk.open();
        assert_eq!(
            rows(&recovery)[0],
            (Row::MissingSegment, Lost::Unknown { records: 0 })
        );
        assert_eq!(recovery.damage[0].harm(), Harm::Replica);
        let mut seq = 0;
        flushed(
            &mut log,
            &mut disk,
            &mut seq,
            [Record::Promise { ballot: 20 }],
        );
        assert!(!disk.segments.contains_key(&SegmentNumber(3)));
    }
}

#[test]
fn stale_block() {
    // Segment 1 becomes 4: block for block, the old frames lie where new ones will be looked for.
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for slot in 1..=45 {
        flushed(&mut log, &mut disk, &mut seq, [accepted(9, slot, 100)]);
        if slot == 17 {
            log.release_below(16);
        }
    }
    assert_eq!(log.counters().segments_recycled, 1);
    prepare(&mut log, &mut disk);
    let recycled = SegmentNumber(log.segments_open().map(|number| number.0).max().unwrap());
    assert!(!disk.segments.contains_key(&SegmentNumber::FIRST));
    let stale = frames(&disk.segments[&recycled], recycled, IDENTITY.seal()).count();
    assert!(stale > 0, "the recycled segment is not blank");
    while disk.recover().unwrap().end.segment < recycled {
        flushed(&mut log, &mut disk, &mut seq, [accepted(9, 46, 100)]);
    }
    let recovery = disk.recover().unwrap();
    assert_eq!((recovery.tail, recovery.damage.len()), (Row::StaleBlock, 0));
    assert_eq!(recovery.end.offset, 8192);
    assert_eq!(slots(&recovery).last(), Some(&46));

    // An orderly stop in a recycled segment is one, whatever lies behind the marker.
    flushed(&mut log, &mut disk, &mut seq, [Record::Clean]);
    assert!(disk.recover().unwrap().clean);
}

#[test]
fn duplicate_slot() {
    let (disk, ..) = log_of(vec![
        vec![accepted(3, 1, 100), accepted(3, 1, 200)],
        vec![accepted(5, 1, 300)],
    ]);
    let recovery = disk.recover().unwrap();
    let location = recovery.index.locate(1).unwrap();
    assert_eq!((location.ballot, location.length), (5, 396));
    assert_eq!(recovery.damage, []);
}

#[test]
fn lower_duplicate() {
    let (disk, ..) = log_of(vec![vec![accepted(5, 1, 100)], vec![accepted(3, 1, 200)]]);
    let recovery = disk.recover().unwrap();
    assert_eq!(recovery.index.locate(1).unwrap().ballot, 5);
    assert_eq!((recovery.promised, recovery.damage.len()), (5, 0));
}

/// Rewrites the header of a frame, checksums included: what only a faulty writer could leave.
fn forge(disk: &mut Disk, number: u64, change: impl FnOnce(&mut [u8])) {
    let at = offset_of(disk, number);
    let bytes = disk.segments.get_mut(&SegmentNumber::FIRST).unwrap();
    let frame = Frame::decode(
        &bytes[at..],
        SegmentNumber::FIRST,
        u32::try_from(at).unwrap(),
        IDENTITY.seal(),
    );
    let length = 96 + frame.unwrap().payload.len();
    let frame = &mut bytes[at..at + length];
    change(frame);
    IDENTITY.seal().stamp(frame);
}

#[test]
fn promise_below_ballot() {
    let (mut disk, ..) = log_of(vec![
        vec![accepted(5, 1, 100)],
        vec![Record::Chosen { upto: 1 }],
    ]);
    forge(&mut disk, 2, |frame| {
        frame[72..80].copy_from_slice(&4_u64.to_le_bytes())
    });
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::PromiseBelowBallot, Lost::Unknown { records: 1 })]
    );
    assert_eq!(
        (recovery.promised, recovery.damage[0].harm()),
        (5, Harm::Replica)
    );
}

#[test]
fn wild_slot() {
    let (mut disk, ..) = log_of(vec![vec![accepted(5, 1, 100)], vec![accepted(5, 2, 100)]]);
    let wild = 1_u64 << 40;
    forge(&mut disk, 2, |frame| {
        frame[48..56].copy_from_slice(&wild.to_le_bytes())
    });
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::WildSlot, Lost::Record(accepted_name(5, wild)))]
    );
    // A slot that is not believed names nothing, and that is what is told.
    assert_eq!(recovery.damage[0].harm(), Harm::Replica);
    assert_eq!(recovery.losses(), Losses::Unknown);
    assert_eq!(slots(&recovery), [1]);
}

#[test]
fn chain_broken() {
    // A flush that was acknowledged but never reached the disk, over an older frame of its number.
    let (mut disk, ..) = log_of(vec![
        vec![accepted(5, 1, 100)],
        vec![accepted(5, 2, 100)],
        vec![accepted(5, 3, 100)],
    ]);
    forge(&mut disk, 2, |frame| frame[80] ^= 1);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery)[0],
        (Row::ChainBroken, Lost::Unknown { records: 0 })
    );
    assert_eq!(slots(&recovery), [1, 2, 3]);
}

#[test]
fn chain_broken_by_a_frame_with_the_right_name_and_payload() {
    // Equal payloads all along: only the headers tell the frames apart.
    let payload: support::Payload = vec![7; 100].into();
    let record = |ballot, slot| Record::Accepted {
        ballot,
        slot,
        payload: payload.clone(),
    };
    let (mut disk, ..) = log_of(vec![
        vec![record(5, 1)],
        vec![record(5, 2)],
        vec![record(9, 3)],
    ]);
    let bytes = &disk.segments[&SegmentNumber::FIRST];
    let crcs: Vec<_> = frames(bytes, SegmentNumber::FIRST, IDENTITY.seal())
        .map(|found| found.frame.unwrap().header)
        .map(|header| (header.previous_crc, header.crc))
        .collect();
    assert_eq!(crcs.len(), 3);
    for (before, after) in crcs.iter().zip(&crcs[1..]) {
        assert_eq!(before.1, after.0, "each frame repeats the one before");
        assert_ne!(before.1, after.1, "neighbours of equal payloads");
    }
    assert_eq!(rows(&disk.recover().unwrap()), []);

    // Another promise in force: allowed there, but not the frame that the next one was written behind.
    forge(&mut disk, 2, |frame| frame[72] = 7);
    let recovery = disk.recover().unwrap();
    assert_eq!(
        rows(&recovery),
        [(Row::ChainBroken, Lost::Unknown { records: 0 })]
    );
    assert_eq!(slots(&recovery), [1, 2, 3]);
}

#[test]
fn wrong_identity() {
    let disk = three_flushes();
    let files: Vec<(SegmentNumber, &[u8])> = disk
        .segments
        .iter()
        .map(|(number, bytes)| (*number, bytes.as_slice()))
        .collect();
    let open = |change: fn(&mut Identity)| {
        let mut identity = IDENTITY;
        change(&mut identity);
        recover(&files, &identity).unwrap_err()
    };
    assert_eq!(
        open(|id| id.cluster = 9),
        RecoveryError::Identity {
            segment: SegmentNumber::FIRST,
            error: IdentityError::Cluster {
                found: 7,
                expected: 9
            },
        }
    );
    assert!(matches!(
        open(|id| id.created_ns += 1),
        RecoveryError::Identity { .. }
    ));
    assert!(matches!(
        open(|id| id.segment_bytes *= 2),
        RecoveryError::SegmentBytes { .. }
    ));
}

#[test]
fn files_that_cannot_be_this_log_are_refused() {
    let blank = vec![0; SEGMENT_BYTES];
    let open = |files: &[(u64, &[u8])]| {
        let files: Vec<(SegmentNumber, &[u8])> = files
            .iter()
            .map(|(number, bytes)| (SegmentNumber(*number), *bytes))
            .collect();
        recover(&files, &IDENTITY).map(|recovery| recovery.tail)
    };
    assert_eq!(open(&[]), Err(RecoveryError::NoSegments));
    assert!(matches!(
        open(&[(0, &blank)]),
        Err(RecoveryError::Number { .. })
    ));
    assert!(matches!(
        open(&[(u64::MAX, &blank)]),
        Err(RecoveryError::Number { .. })
    ));
    assert!(matches!(
        open(&[(1, &blank), (1, &blank)]),
        Err(RecoveryError::Duplicate { .. })
    ));
    assert!(matches!(
        open(&[(1, &blank[..BLOCK])]),
        Err(RecoveryError::SegmentBytes { .. })
    ));
    // The first segment is gone and nothing tells where the log stood.
    let segment = SegmentNumber(7);
    assert_eq!(
        open(&[(7, &blank)]),
        Err(RecoveryError::Beginning { segment })
    );
}

#[test]
fn a_log_without_its_recycled_segments_begins_at_the_oldest_needed() {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for slot in 1..=6 {
        flushed(
            &mut log,
            &mut disk,
            &mut seq,
            [accepted(slot, slot, 40_000)],
        );
        flushed(
            &mut log,
            &mut disk,
            &mut seq,
            [Record::Chosen { upto: slot }],
        );
        log.release_below(slot);
    }
    flush(&mut log, &mut disk);
    prepare(&mut log, &mut disk);
    assert!(log.counters().segments_recycled > 0);
    let recovery = disk.recover().unwrap();
    assert_eq!(recovery.damage, []);
    assert_eq!((recovery.promised, recovery.chosen_upto), (6, 6));
    assert!(disk.segments.keys().next().unwrap().0 > 1);

    // Its first header is now the only source of promise and watermark, and can rot too.
    let first = disk.segments.keys().next().unwrap().0;
    let mut rotten = disk.clone();
    rotten.flip(first, 0);
    let recovery = rotten.recover().unwrap();
    assert_eq!(recovery.promised, 6);
    assert_eq!(rows(&recovery), [(Row::BadSegmentHeader, Lost::Nothing)]);
}

#[test]
fn nothing_is_recycled_before_a_durable_header_frees_it() {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for slot in 1..=3 {
        flushed(&mut log, &mut disk, &mut seq, [accepted(1, slot, 40_000)]);
    }
    log.release_below(3);
    // Released, but no header says so yet: only fresh segments are asked for.
    while let Some(operation) = log.next_operation() {
        assert!(matches!(operation, Operation::Prepare { .. }));
        disk.perform(operation);
        log.finish_operation(operation);
    }
    flushed(&mut log, &mut disk, &mut seq, [accepted(1, 4, 40_000)]);
    assert_eq!(
        log.next_operation(),
        Some(Operation::Recycle {
            from: SegmentNumber(1),
            to: SegmentNumber(5)
        })
    );
}

/// On a full disk a segment cannot be prepared; while that was the open operation, one that came free in the
/// meantime was never taken instead.
#[test]
fn a_segment_that_was_given_up_is_recycled_as_soon_as_one_is_free() {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for slot in 1..=3 {
        flushed(&mut log, &mut disk, &mut seq, [accepted(1, slot, 40_000)]);
    }
    log.release_below(3);
    prepare(&mut log, &mut disk);
    log.append(99, accepted(1, 4, 40_000));
    let (open, _) = begin(&mut log).unwrap();
    let to = SegmentNumber(5);
    for _ in 0..2 {
        let operation = log.next_operation().unwrap();
        assert_eq!(operation, Operation::Prepare { segment: to });
        log.give_up_operation(operation);
    }
    log.finish_flush(open);
    for _ in 0..2 {
        let from = SegmentNumber(1);
        let operation = log.next_operation().unwrap();
        assert_eq!(operation, Operation::Recycle { from, to });
        log.give_up_operation(operation);
    }
}

#[test]
fn a_resumed_log_recycles_what_it_finds_free() {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for slot in 1..=3 {
        flushed(&mut log, &mut disk, &mut seq, [accepted(1, slot, 40_000)]);
    }
    log.release_below(3);
    prepare(&mut log, &mut disk);
    log.append(99, accepted(1, 4, 40_000));
    let (open, bytes) = begin(&mut log).unwrap();
    disk.write(open.segment(), open.offset(), &bytes, |_| Sector::Landed);
    log.finish_flush(open);
    // Crash before anything was recycled.
    let recovery = disk.recover().unwrap();
    let mut log: Log = Wal::resume(recovery, OPTIONS);
    assert_eq!(
        log.next_operation(),
        Some(Operation::Recycle {
            from: SegmentNumber(1),
            to: SegmentNumber(5)
        })
    );
}
