//! Rot: flipped bits, overwritten ranges, misdirected blocks, truncated files, forged frames. It is
//! reported, it never yields wrong bytes, and nothing panics.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use quorate_storage::wal::{
    Frame, Harm, Location, Record, Recovery, RecoveryError, SegmentNumber, Wal, frames, recover,
};

use support::{Disk, IDENTITY, OPTIONS, SEGMENT_BYTES, Sector, accepted, begin, flushed, prepare};

/// Small and reproducible; the order of tests does not matter to it.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound
    }
}

const SLOTS: u64 = 60;

/// Three segments of records of many sizes, closed in order.
fn stopped_log() -> Disk {
    let mut disk = Disk::formatted();
    let (_, mut log) = disk.open();
    let mut seq = 0;
    for slot in 1..=SLOTS {
        let bytes = usize::try_from(slot * 613 % 5_000).unwrap();
        let mut records = vec![accepted(slot / 10 + 1, slot, bytes)];
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
    disk
}

fn read<'a>(disk: &'a Disk, location: &Location) -> Frame<'a> {
    let bytes = &disk.segments[&location.segment][location.offset as usize..];
    Frame::decode(
        &bytes[..location.length as usize],
        location.segment,
        location.offset,
        IDENTITY.seal(),
    )
    .expect("the index points to whole frames")
}

/// Every record that the index shows is the one that was written.
fn check_records(original: &BTreeMap<u64, Vec<u8>>, disk: &Disk, recovery: &Recovery) {
    for (slot, location) in recovery.index.iter() {
        let frame = read(disk, &location);
        assert_eq!(frame.header.name.slot, slot);
        assert_eq!(frame.payload, original[&slot]);
    }
}

fn originals(disk: &Disk) -> BTreeMap<u64, Vec<u8>> {
    let recovery = disk.recover().unwrap();
    assert!(recovery.clean);
    recovery
        .index
        .iter()
        .map(|(slot, location)| (slot, read(disk, &location).payload.to_vec()))
        .collect()
}

/// The byte ranges of frames (header and payload) with the slot of each, the end marker apart.
fn frame_ranges(disk: &Disk) -> BTreeMap<(SegmentNumber, usize), (usize, Option<u64>)> {
    let mut ranges = BTreeMap::new();
    for (segment, bytes) in &disk.segments {
        for frame in frames(bytes, *segment, IDENTITY.seal()).filter_map(|found| found.frame.ok()) {
            let start = frame.header.offset as usize;
            let slot = match frame.record() {
                Record::Accepted { slot, .. } => Some(slot),
                Record::Promise { .. } | Record::Chosen { .. } => None,
                Record::Clean => continue,
            };
            ranges.insert((*segment, start), (start + 96 + frame.payload.len(), slot));
        }
    }
    ranges
}

#[test]
fn every_flipped_bit_of_a_frame_is_reported_and_costs_that_frame_only() {
    let disk = stopped_log();
    let original = originals(&disk);
    let ranges = frame_ranges(&disk);
    let whole = disk.recover().unwrap();
    let mut random = Random(0x5EED);
    let segments: Vec<SegmentNumber> = disk.segments.keys().copied().collect();
    let (mut in_frames, mut elsewhere) = (0, 0);
    for _ in 0..4_000 {
        let segment = segments[random.below(segments.len())];
        let bit = random.below(SEGMENT_BYTES * 8);
        let mut rotten = disk.clone();
        rotten.flip(segment.0, bit);
        let recovery = rotten.recover().unwrap();
        check_records(&original, &rotten, &recovery);
        assert_eq!(recovery.promised, whole.promised);
        let hit = ranges
            .range(..=(segment, bit / 8))
            .next_back()
            .filter(|((other, _), (end, _))| *other == segment && bit / 8 < *end);
        let mut expected: Vec<u64> = (1..=SLOTS).collect();
        if let Some((_, (_, slot))) = hit {
            in_frames += 1;
            assert_eq!(recovery.damage.len(), 1);
            expected.retain(|other| Some(*other) != *slot);
            let harm = match slot {
                Some(slot) => Harm::Slot {
                    slot: *slot,
                    ballot: slot / 10 + 1,
                },
                None => Harm::Nothing,
            };
            assert_eq!(recovery.damage[0].harm(), harm);
        } else {
            // A segment header, padding, or the end marker: nothing is lost.
            elsewhere += 1;
            assert!(
                recovery
                    .damage
                    .iter()
                    .all(|damage| damage.harm() == Harm::Nothing)
            );
        }
        let found: Vec<u64> = recovery.index.iter().map(|(slot, _)| slot).collect();
        assert_eq!(found, expected);
    }
    assert!(
        in_frames > 1_000 && elsewhere > 100,
        "{in_frames} {elsewhere}"
    );
}

/// The same log, killed while a last flush of four records was being written: some of it landed.
fn torn_log(random: &mut Random) -> Disk {
    let mut disk = stopped_log();
    let (_, mut log) = disk.open();
    for slot in 1..=4 {
        log.append(slot, accepted(9, SLOTS + slot, 700));
    }
    prepare(&mut log, &mut disk);
    let (flush, bytes) = begin(&mut log).unwrap();
    disk.write(flush.segment(), flush.offset(), &bytes, |_| {
        [Sector::Landed, Sector::Lost, Sector::Garbled][random.below(3)]
    });
    disk
}

/// Overwrites one range with zeros, noise or a copy from elsewhere.
fn overwrite(disk: &mut Disk, random: &mut Random) {
    let segments: Vec<SegmentNumber> = disk.segments.keys().copied().collect();
    let from = segments[random.below(segments.len())];
    let to = segments[random.below(segments.len())];
    let length = [16, 512, 4096, 12_288][random.below(4)];
    let unit = [16, 512, 4096][random.below(3)];
    let read_at = random.below((SEGMENT_BYTES - length) / unit) * unit;
    let write_at = random.below((SEGMENT_BYTES - length) / unit) * unit;
    let bytes = match random.below(3) {
        0 => vec![0; length],
        1 => vec![0xA5; length],
        _ => disk.segments[&from][read_at..read_at + length].to_vec(),
    };
    disk.segments.get_mut(&to).unwrap()[write_at..write_at + length].copy_from_slice(&bytes);
}

#[test]
fn overwritten_ranges_and_misdirected_blocks_never_yield_wrong_bytes() {
    let stopped = stopped_log();
    let mut original = originals(&stopped);
    for slot in SLOTS + 1..=SLOTS + 4 {
        original.insert(slot, accepted(9, slot, 700).payload().to_vec());
    }
    let mut random = Random(0xB10C);
    for round in 0..3_000 {
        let mut rotten = match round % 2 {
            0 => stopped.clone(),
            _ => torn_log(&mut random),
        };
        for _ in 0..=random.below(3) {
            overwrite(&mut rotten, &mut random);
        }
        let recovery = rotten.recover().unwrap();
        check_records(&original, &rotten, &recovery);
        let last = recovery.index.slot_max().unwrap_or(0);
        let complete = (1..=last).all(|slot| recovery.index.locate(slot).is_some());
        assert!(complete || !recovery.damage.is_empty());
        assert!(!recovery.clean || !recovery.damage.is_empty() || last >= SLOTS);

        // What was reported is still reported after the repair and after the next flush, and the log
        // goes on where it ended.
        rotten.repair(&recovery.repairs);
        let again = rotten.recover().unwrap();
        assert_eq!(again.damage, recovery.damage);
        assert_eq!(again.end.chain, recovery.end.chain);
        assert_eq!(
            (again.end.segment, again.end.offset),
            (recovery.end.segment, recovery.end.offset)
        );
        let damage = recovery.damage.clone();
        let mut log = Wal::resume(recovery, OPTIONS);
        flushed(&mut log, &mut rotten, &mut 0, [accepted(99, 999, 10)]);
        let later = rotten.recover().unwrap();
        assert_eq!(later.damage, damage);
        assert_eq!(later.index.slot_max(), Some(999));
    }
}

#[test]
fn every_truncation_is_refused_by_recovery_and_walked_up_to_its_end() {
    let disk = stopped_log();
    let bytes = &disk.segments[&SegmentNumber::FIRST];
    let whole: Vec<u32> = frames(bytes, SegmentNumber::FIRST, IDENTITY.seal())
        .map(|found| found.frame.unwrap())
        .map(|frame| frame.header.offset + 96 + frame.header.payload_bytes)
        .collect();
    for length in 0..bytes.len() {
        let cut = &bytes[..length];
        assert!(matches!(
            recover(&[(SegmentNumber::FIRST, cut)], &IDENTITY),
            Err(RecoveryError::SegmentBytes { .. })
        ));
        if length % 16 > 1 {
            continue;
        }
        let ends = frames(cut, SegmentNumber::FIRST, IDENTITY.seal())
            .filter_map(|found| found.frame.ok())
            .map(|frame| frame.header.offset + 96 + frame.header.payload_bytes);
        let expected = whole.iter().copied().filter(|end| *end as usize <= length);
        assert!(ends.eq(expected), "{length}");
    }
}

#[test]
fn frames_with_good_checksums_and_any_fields_never_panic() {
    let disk = stopped_log();
    let ranges: Vec<_> = frame_ranges(&disk).into_iter().collect();
    let mut random = Random(0xF0F0);
    for _ in 0..4_000 {
        let mut forged = disk.clone();
        for _ in 0..=random.below(3) {
            let ((segment, start), (end, _)) = ranges[random.below(ranges.len())];
            let frame = &mut forged.segments.get_mut(&segment).unwrap()[start..end];
            let field = [5, 6, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 84][random.below(14)];
            let value = match random.below(4) {
                0 => 0,
                1 => u64::MAX,
                2 => u64::try_from(random.below(200)).unwrap(),
                _ => u64::try_from(random.below(1 << 40)).unwrap(),
            };
            let width = if (16..80).contains(&field) { 8 } else { 1 };
            frame[field..field + width].copy_from_slice(&value.to_le_bytes()[..width]);
            IDENTITY.seal().stamp(frame);
        }
        if let Ok(recovery) = forged.recover() {
            forged.repair(&recovery.repairs);
            let log: support::Log = Wal::resume(recovery, OPTIONS);
            assert!(!log.pending());
        }
    }
}
