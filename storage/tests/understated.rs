//! Damage is never understated: whatever was acknowledged is whole, is named as lost under a ballot not
//! below its own, or is told as an unknown loss. Random logs whose slots are accepted again under rising
//! ballots, damaged in several places and over several starts, with a torn flush behind.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use quorate_storage::wal::{Frame, Losses, Record, Recovery, SegmentNumber, Wal};

use support::{Disk, IDENTITY, Log, OPTIONS, Payload, Sector, accepted, begin, flushed, prepare};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % bound
    }
}

/// What was acknowledged.
#[derive(Clone, Debug, Default)]
struct Truth {
    promised: u64,
    chosen_upto: u64,
    /// By slot: the highest ballot accepted, and the payload.
    slots: BTreeMap<u64, (u64, Payload)>,
}

impl Truth {
    fn note(&mut self, record: &Record<Payload>) {
        match record {
            Record::Promise { ballot } => self.promised = self.promised.max(*ballot),
            Record::Accepted {
                ballot,
                slot,
                payload,
            } => {
                self.promised = self.promised.max(*ballot);
                self.slots.insert(*slot, (*ballot, payload.clone()));
            }
            Record::Chosen { upto } => self.chosen_upto = *upto,
            Record::Clean => {}
        }
    }
}

/// A leader proposes one entry for a slot.
fn proposed(ballot: u64, slot: u64) -> Record<Payload> {
    let bytes = (ballot * 911 + slot * 613) % 3_000;
    accepted(ballot, slot, usize::try_from(bytes).unwrap())
}

/// The next record that an acceptor could write.
fn next_record(truth: &mut Truth, random: &mut Random) -> Record<Payload> {
    let last = truth.slots.keys().next_back().copied().unwrap_or(0);
    let record = match random.below(8) {
        0 => Record::Promise {
            ballot: truth.promised + 1,
        },
        1 if last > truth.chosen_upto => Record::Chosen {
            upto: truth.chosen_upto + 1,
        },
        2 | 3 if last > 0 => {
            let slot = last - u64::try_from(random.below(4)).unwrap().min(last - 1);
            proposed(truth.promised.max(1), slot)
        }
        _ => proposed(truth.promised.max(1), last + 1),
    };
    truth.note(&record);
    record
}

fn write_flushes(
    log: &mut Log,
    disk: &mut Disk,
    seq: &mut u64,
    truth: &mut Truth,
    random: &mut Random,
) {
    for _ in 0..=random.below(8) {
        let records: Vec<_> = (0..=random.below(4))
            .map(|_| next_record(truth, random))
            .collect();
        flushed(log, disk, seq, records);
    }
}

/// The place behind the last whole frame.
fn end_of(disk: &Disk) -> (SegmentNumber, usize) {
    let end = disk.recover().unwrap().end;
    (end.segment, end.offset as usize)
}

/// Damages the log in front of `end`.
fn harm(disk: &mut Disk, end: (SegmentNumber, usize), random: &mut Random) {
    let segments: Vec<SegmentNumber> = disk
        .segments
        .range(..=end.0)
        .map(|(number, _)| *number)
        .collect();
    let to = segments[random.below(segments.len())];
    let room = if to == end.0 {
        end.1
    } else {
        disk.segments[&to].len()
    };
    if room < 4096 {
        return;
    }
    match random.below(16) {
        0 if to != end.0 => {
            disk.segments.remove(&to);
        }
        0..=5 => disk.flip(to.0, random.below(room * 8)),
        6..=10 => {
            let length = [16, 512, 4096][random.below(3)];
            let at = random.below(room / length) * length;
            disk.segments.get_mut(&to).unwrap()[at..at + length].fill(0);
        }
        _ => {
            let from = segments[random.below(segments.len())];
            let read_at = random.below(disk.segments[&from].len() / 4096) * 4096;
            let at = random.below(room / 4096) * 4096;
            let block = disk.segments[&from][read_at..read_at + 4096].to_vec();
            disk.segments.get_mut(&to).unwrap()[at..at + 4096].copy_from_slice(&block);
        }
    }
}

/// A flush that the crash interrupts; nobody was told of it.
fn tear(log: &mut Log, disk: &mut Disk, seq: u64, truth: &Truth, random: &mut Random) {
    let mut unheard = truth.clone();
    for number in 1..=1 + u64::try_from(random.below(4)).unwrap() {
        log.append(seq + number, next_record(&mut unheard, random));
    }
    prepare(log, disk);
    let (flush, bytes) = begin(log).unwrap();
    disk.write(flush.segment(), flush.offset(), &bytes, |_| {
        [Sector::Landed, Sector::Lost, Sector::Garbled][random.below(3)]
    });
}

/// Whether the replica may go on.
fn check(disk: &Disk, recovery: &Recovery, truth: &Truth, stamp: &str) -> bool {
    let Losses::Records(lost) = recovery.losses() else {
        return false;
    };
    let lost: BTreeMap<u64, u64> = lost
        .into_iter()
        .map(|record| (record.slot, record.ballot))
        .collect();
    let named = lost.values().copied().max().unwrap_or(0);
    assert!(
        recovery.promised.max(named) >= truth.promised,
        "{stamp}: promise"
    );
    for (slot, (ballot, payload)) in &truth.slots {
        if let Some(location) = recovery.index.locate(*slot) {
            assert!(!lost.contains_key(slot), "{stamp}: slot {slot} is both");
            assert!(
                location.ballot >= *ballot,
                "{stamp}: slot {slot} fell back to {location:?} from {ballot}"
            );
            let bytes = &disk.segments[&location.segment][location.offset as usize..];
            let frame =
                Frame::decode(bytes, location.segment, location.offset, IDENTITY.seal()).unwrap();
            if location.ballot == *ballot && frame.payload != &payload[..] {
                panic!("{stamp}: slot {slot}: another payload of ballot {ballot}");
            }
        } else {
            let named = lost.get(slot).copied();
            assert!(
                named >= Some(*ballot),
                "{stamp}: slot {slot} of {ballot}: {named:?}"
            );
        }
    }
    true
}

#[test]
fn what_was_acknowledged_is_whole_or_named_or_unknown() {
    let (mut whole, mut named, mut unknown) = (0, 0, 0);
    for seed in 1..=6_000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut disk = Disk::formatted();
        let (_, mut log) = disk.open();
        let (mut seq, mut truth) = (0, Truth::default());
        for start in 0..4 {
            write_flushes(&mut log, &mut disk, &mut seq, &mut truth, &mut random);
            let end = end_of(&disk);
            // The newest flush that was acknowledged is not harmed: its rot is a tear.
            flushed(
                &mut log,
                &mut disk,
                &mut seq,
                [Record::Promise {
                    ballot: truth.promised,
                }],
            );
            if random.below(2) == 0 {
                tear(&mut log, &mut disk, seq, &truth, &mut random);
            }
            for _ in 0..random.below(3) {
                harm(&mut disk, end, &mut random);
            }
            let stamp = format!("seed {seed}, start {start}");
            let Ok(recovery) = disk.recover() else {
                unknown += 1;
                break;
            };
            if !check(&disk, &recovery, &truth, &stamp) {
                unknown += 1;
                break;
            }
            match recovery.damage.is_empty() {
                true => whole += 1,
                false => named += 1,
            }
            disk.repair(&recovery.repairs);
            let again = disk.recover().unwrap();
            assert_eq!(again.losses(), recovery.losses(), "{stamp}");
            // Seen frames of a torn flush are as good as acknowledged from now on.
            for (slot, location) in again.index.iter() {
                let bytes = &disk.segments[&location.segment][location.offset as usize..];
                let frame =
                    Frame::decode(bytes, location.segment, location.offset, IDENTITY.seal())
                        .unwrap();
                truth
                    .slots
                    .insert(slot, (location.ballot, frame.payload.into()));
            }
            truth.promised = truth.promised.max(again.promised);
            truth.chosen_upto = truth.chosen_upto.max(again.chosen_upto);
            log = Wal::resume(again, OPTIONS);
            seq = 0;
        }
    }
    println!("{whole} whole, {named} named, {unknown} unknown");
    assert!(whole > 1_000 && named > 1_000 && unknown > 500);
}
