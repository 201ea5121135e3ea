//! The real log on the enumerating disk: workloads, every crash on their way, and what must hold then.
//!
//! A crash of the machine is checked as follows, from each disk that it can leave:
//!
//! 1. Recovery reports no damage and finds a prefix of what was appended with everything that was
//!    acknowledged: records in order, sums, and the newest entry of each slot. The twin says what.
//! 2. The repair can crash as well, before and after each of its writes and syncs, and so can the
//!    repair after that: all disks that this leaves go through the same check.
//! 3. Repaired, the log reads the same again and has nothing left to repair.
//! 4. It goes on: one more record, acknowledged, is found behind the others.

use std::collections::HashSet;
use std::rc::Rc;

use quorate_storage::superblock::Identity;
use quorate_storage::wal::{
    Flush, Frame, Operation, Options, Record, Recovery, Repair, SegmentNumber, Wal, frames, recover,
};

use crate::disk::{Detail, Disk};
use crate::twin::{Kept, Op, Twin};

/// Smaller than the superblock allows in a directory; the log itself knows no least size. A header
/// block and two more: the third short flush begins the next segment.
pub const SEGMENT_BYTES: usize = 3 * 4096;

const IDENTITY: Identity = Identity {
    cluster: 7,
    shard: 2,
    replica: 3,
    segment_bytes: SEGMENT_BYTES as u64,
    created_ns: 1_700_000_000_000_000_000,
};
const OPTIONS: Options = Options {
    flush_bytes_max: 32 << 10,
    segments_ahead: 1,
};

type Log = Wal<Rc<[u8]>>;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worlds {
    /// Moments at which a workload was crashed.
    pub moments: u64,
    /// Disks that those crashes left, crashed repairs included.
    pub crashes: u64,
    /// Different ones among them, per moment: each was recovered, repaired and gone on with.
    pub disks: u64,
    /// Of those, with something to cut.
    pub torn: u64,
    /// Of those, recovered as closed in order.
    pub clean: u64,
}

/// A log that runs.
pub struct LogWorld {
    disk: Disk,
    log: Log,
    twin: Twin,
    seq: u64,
}

/// Sees each moment between two steps of the disk.
pub type Observer<'a> = dyn FnMut(&Disk, &Twin) + 'a;

impl LogWorld {
    /// A log without a record on a formatted disk.
    #[must_use]
    pub fn format() -> Self {
        let mut disk = Disk::default();
        disk.create_zeroed(&SegmentNumber::FIRST.file_name(), SEGMENT_BYTES);
        disk.sync_directory();
        let recovery = read(&disk);
        Self {
            disk,
            log: Wal::resume(recovery, OPTIONS),
            twin: Twin::default(),
            seq: 0,
        }
    }

    /// Goes on with a repaired disk.
    #[must_use]
    pub fn resume(disk: Disk, recovery: Recovery, twin: Twin) -> Self {
        let mut log: Log = Wal::resume(recovery, OPTIONS);
        log.release_below(twin.released);
        Self {
            disk,
            log,
            twin,
            seq: 0,
        }
    }

    /// What should be in it.
    #[must_use]
    pub fn twin(&self) -> &Twin {
        &self.twin
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Gives up the records of all slots below.
    pub fn release_below(&mut self, slot: u64) {
        self.twin.released = slot;
        self.log.release_below(slot);
    }

    /// Appends these together and makes them durable; an orderly stop at the end is followed by a start.
    /// `observer` sees the disk before and after each step on the way.
    pub fn run(&mut self, batch: &[Op], observer: &mut Observer<'_>) {
        for op in batch {
            let record = self.twin.record(*op);
            self.twin.records.push(record.clone());
            self.seq += 1;
            self.log.append(self.seq, record);
        }
        observer(&self.disk, &self.twin);
        while self.log.pending() {
            self.step(observer);
        }
        if batch.last() == Some(&Op::Stop) {
            self.restart();
        }
    }

    fn restart(&mut self) {
        let (mut disk, mut twin) = (self.disk.clone(), self.twin.clone());
        let recovery = read(&disk);
        assert!(recovery.clean, "stopped in order");
        for repair in &recovery.repairs {
            perform(&mut disk, repair);
        }
        twin.records.pop();
        twin.acknowledged = twin.records.len();
        *self = Self::resume(disk, recovery, twin);
    }

    /// The next flush and the next file operation, side by side if both are due, as in the runtime.
    fn step(&mut self, observer: &mut Observer<'_>) {
        let flush = self.log.start_flush().map(|mut flush| {
            let mut bytes = vec![0xEE; flush.length()];
            flush.encode(&mut bytes);
            let offset = usize::try_from(flush.offset()).expect("small");
            self.disk
                .write(&flush.segment().file_name(), offset, &bytes);
            observer(&self.disk, &self.twin);
            flush
        });
        let operation = self.log.next_operation();
        assert!(flush.is_some() || operation.is_some(), "nothing is due");
        if let Some(operation) = operation {
            self.begin_operation(operation, observer);
        }
        if let (Some(flush), Some(_)) = (&flush, operation) {
            // The directory may also be synced first.
            let mut other = self.disk.clone();
            other.sync_directory();
            observer(&other, &self.twin);
            other.sync(&flush.segment().file_name());
            observer(&other, &self.twin);
        }
        if let Some(flush) = flush {
            self.finish_flush(flush);
            observer(&self.disk, &self.twin);
        }
        if let Some(operation) = operation {
            self.disk.sync_directory();
            self.log.finish_operation(operation);
            observer(&self.disk, &self.twin);
        }
    }

    fn begin_operation(&mut self, operation: Operation, observer: &mut Observer<'_>) {
        let (from, to) = match operation {
            Operation::Prepare { segment } => {
                let temporary = format!("{segment}.tmp");
                self.disk.create_zeroed(&temporary, SEGMENT_BYTES);
                observer(&self.disk, &self.twin);
                (temporary, segment)
            }
            Operation::Recycle { from, to } => (from.file_name(), to),
        };
        self.disk.rename(&from, &to.file_name());
        observer(&self.disk, &self.twin);
    }

    fn finish_flush(&mut self, flush: Flush<Rc<[u8]>>) {
        self.disk.sync(&flush.segment().file_name());
        let pending = self.seq - self.log.finish_flush(flush);
        let pending = usize::try_from(pending).expect("small");
        self.twin.acknowledged = self.twin.records.len() - pending;
    }
}

/// Checks every disk that a crash of the machine at this moment can leave. `detail` says how many
/// sectors are told apart: in this crash, in a crash of the repair, in a crash of the next repair, ...
pub fn crash(disk: &Disk, twin: &Twin, detail: &[Detail], worlds: &mut Worlds) {
    crash_in_life(0, disk, twin, detail, worlds);
}

/// As [`crash`], after so many repairs that were begun and not finished.
fn crash_in_life(repairs: usize, disk: &Disk, twin: &Twin, detail: &[Detail], worlds: &mut Worlds) {
    worlds.moments += 1;
    let mut tried = HashSet::new();
    let mut left = Vec::new();
    collect(disk, detail[0], &mut tried, &mut left, worlds);
    for (deeper, life) in detail[1..].iter().map(Some).chain([None]).zip(repairs..) {
        let mut next = Vec::new();
        for disk in left {
            let (repaired, recovery, twin) = check(&disk, twin, life, worlds, |during, worlds| {
                if let Some(detail) = deeper {
                    collect(during, *detail, &mut tried, &mut next, worlds);
                }
            });
            assert!(repaired.is_durable(), "a repair is synced");
            go_on(repaired, recovery, twin);
        }
        left = next;
    }
}

/// The process ends at this moment, the machine does not: what was written is read, synced or not. The
/// next life acknowledges one more record. The machine crashes at any time in it.
pub fn kill(disk: &Disk, twin: &Twin, op: Op, detail: &[Detail], worlds: &mut Worlds) {
    let mut moments = Vec::new();
    let (repaired, recovery, next) = check(disk, twin, 0, worlds, |during, _| {
        moments.push((1, during.clone(), twin.clone()));
    });
    let mut world = LogWorld::resume(repaired, recovery, next);
    world.run(&[op], &mut |during, twin| {
        moments.push((0, during.clone(), twin.clone()));
    });
    for (repairs, disk, twin) in moments {
        crash_in_life(repairs, &disk, &twin, detail, worlds);
    }
}

/// Adds the disks that were not tried yet.
fn collect(
    disk: &Disk,
    detail: Detail,
    tried: &mut HashSet<u64>,
    left: &mut Vec<Disk>,
    worlds: &mut Worlds,
) {
    worlds.crashes += disk.crashes(detail, |after| {
        if tried.insert(after.fingerprint()) {
            left.push(after);
        }
    });
}

/// Recovers and repairs a disk, shows it before each step of the repair, and checks it against the twin.
/// `life` counts repairs that were begun before: they erase the marker of an orderly stop. Returns the repaired disk, how it reads, and the twin of what is on it.
fn check(
    disk: &Disk,
    twin: &Twin,
    life: usize,
    worlds: &mut Worlds,
    mut during: impl FnMut(&Disk, &mut Worlds),
) -> (Disk, Recovery, Twin) {
    worlds.disks += 1;
    let recovery = read(disk);
    assert_eq!(recovery.damage, [], "a crash damages nothing");
    let mut expected = twin.clone();
    let stopped = matches!(expected.records.last(), Some(Record::Clean));
    if stopped && expected.acknowledged == expected.records.len() && life == 0 {
        assert!(recovery.clean, "the marker was durable");
    }
    if stopped {
        // The marker goes when the log is opened.
        expected.records.pop();
        expected.acknowledged = expected.acknowledged.min(expected.records.len());
    }
    if recovery.clean {
        assert!(stopped, "nobody stopped it");
        expected.acknowledged = expected.records.len();
        worlds.clean += 1;
    }
    let count = usize::try_from(recovery.end.chain.number).expect("small");
    assert!(
        (expected.acknowledged..=expected.records.len()).contains(&count),
        "{count} records, {} acknowledged, {} appended",
        expected.acknowledged,
        expected.records.len()
    );
    let mut repaired = disk.clone();
    let writes = |repair: &&Repair| matches!(repair, Repair::Write { .. });
    if recovery.repairs.iter().any(|repair| writes(&repair)) {
        worlds.torn += 1;
    }
    for repair in &recovery.repairs {
        perform(&mut repaired, repair);
        if !repaired.is_durable() {
            during(&repaired, worlds);
        }
    }
    let again = read(&repaired);
    assert_eq!(again.repairs.iter().find(writes), None, "a repair is one");
    assert_eq!(again.damage, []);
    for recovery in [&recovery, &again] {
        assert_eq!(recovery.end.chain, again.end.chain);
        assert_eq!(recovery.end.segment, again.end.segment);
        assert_eq!(recovery.end.offset, again.end.offset);
        compare(&repaired, recovery, &expected, count);
    }
    expected.records.truncate(count);
    expected.acknowledged = count;
    (repaired, again, expected)
}

/// Holds what was recovered against the first `count` records of the twin.
fn compare(disk: &Disk, recovery: &Recovery, twin: &Twin, count: usize) {
    let found = records(disk);
    let first = found.first().map_or(count + 1, |(number, _)| *number);
    let numbers = found.iter().map(|(number, _)| *number);
    assert!(numbers.eq(first..=count), "records in order, without a gap");
    for (number, record) in &found {
        assert_eq!(*record, borrowed(&twin.records[number - 1]));
    }
    let sums = twin.sums(count);
    assert!(recovery.promised >= twin.sums(twin.acknowledged).promised);
    assert_eq!(recovery.promised, sums.promised);
    assert_eq!(recovery.chosen_upto, sums.chosen_upto);
    for (slot, (ballot, payload)) in sums.newest.range(twin.released..) {
        let location = recovery.index.locate(*slot).expect("the slot was accepted");
        let name = location.segment.file_name();
        let (_, bytes) = disk
            .files()
            .find(|(file, _)| **file == name)
            .expect("its file");
        let offset = location.offset as usize;
        let frame = Frame::decode(
            &bytes[offset..],
            location.segment,
            location.offset,
            IDENTITY.seal(),
        );
        let frame = frame.expect("the index points to frames");
        assert_eq!((location.ballot, frame.payload), (*ballot, &payload[..]));
    }
    for (slot, _) in recovery.index.iter() {
        assert!(
            sums.newest.contains_key(&slot),
            "slot {slot} out of nothing"
        );
    }
}

/// One more record, acknowledged, is found behind the others.
fn go_on(disk: Disk, recovery: Recovery, twin: Twin) {
    let mut world = LogWorld::resume(disk, recovery, twin);
    world.run(&[Op::Small], &mut |_, _| {});
    let count = world.twin.records.len();
    assert_eq!(world.twin.acknowledged, count);
    let recovery = read(&world.disk);
    assert_eq!(recovery.end.chain.number, count as u64);
    assert_eq!(recovery.damage, []);
    compare(&world.disk, &recovery, &world.twin, count);
}

fn read(disk: &Disk) -> Recovery {
    recover(&segments(disk), &IDENTITY).expect("no crash makes a log unreadable")
}

fn segments(disk: &Disk) -> Vec<(SegmentNumber, &[u8])> {
    disk.files()
        .filter_map(|(name, bytes)| Some((SegmentNumber::from_file_name(name)?, bytes)))
        .collect()
}

/// Every whole frame of every segment with its number, in log order.
fn records(disk: &Disk) -> Vec<(usize, Record<&[u8]>)> {
    let mut found = Vec::new();
    for (segment, bytes) in segments(disk) {
        let frames = frames(bytes, segment, IDENTITY.seal());
        for frame in frames.filter_map(|found| found.frame.ok()) {
            let number = usize::try_from(frame.header.number).expect("small");
            found.push((number, frame.record()));
        }
    }
    found
}

fn borrowed(record: &Kept) -> Record<&[u8]> {
    match record {
        Record::Promise { ballot } => Record::Promise { ballot: *ballot },
        Record::Accepted {
            ballot,
            slot,
            payload,
        } => Record::Accepted {
            ballot: *ballot,
            slot: *slot,
            payload,
        },
        Record::Chosen { upto } => Record::Chosen { upto: *upto },
        Record::Clean => Record::Clean,
    }
}

fn perform(disk: &mut Disk, repair: &Repair) {
    match repair {
        Repair::Write {
            segment,
            offset,
            bytes,
        } => {
            let offset = usize::try_from(*offset).expect("small");
            disk.write(&segment.file_name(), offset, bytes);
        }
        Repair::Sync { segment } => disk.sync(&segment.file_name()),
        Repair::SyncDirectory => disk.sync_directory(),
    }
}
