//! A disk of segments in memory that can lose any sectors of what was not synced, and a log on it.

#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_storage::superblock::Identity;
use quorate_storage::wal::{
    Flush, Operation, Options, Record, Recovery, RecoveryError, Repair, SegmentNumber, Wal, frames,
    recover,
};

pub const SECTOR: usize = 512;
pub const SEGMENT_BYTES: usize = 64 << 10;
pub const IDENTITY: Identity = Identity {
    cluster: 7,
    shard: 2,
    replica: 3,
    segment_bytes: SEGMENT_BYTES as u64,
    created_ns: 1_700_000_000_000_000_000,
};
pub const OPTIONS: Options = Options {
    flush_bytes_max: 32 << 10,
    segments_ahead: 1,
};

pub type Payload = Rc<[u8]>;
pub type Log = Wal<Payload>;

/// What becomes of one sector that was written but not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sector {
    Landed,
    Lost,
    Garbled,
}

/// Segment files. What is in here survives a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub segments: BTreeMap<SegmentNumber, Vec<u8>>,
}

impl Disk {
    /// As formatting leaves it: one segment of zeros.
    pub fn formatted() -> Self {
        let mut disk = Self::default();
        disk.perform(Operation::Prepare {
            segment: SegmentNumber::FIRST,
        });
        disk
    }

    pub fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Prepare { segment } => {
                self.segments.insert(segment, vec![0; SEGMENT_BYTES]);
            }
            Operation::Recycle { from, to } => {
                let bytes = self.segments.remove(&from).expect("the file is there");
                self.segments.insert(to, bytes);
            }
        }
    }

    /// A write that the crash interrupts: `fate` decides for each sector.
    pub fn write(
        &mut self,
        segment: SegmentNumber,
        offset: u64,
        bytes: &[u8],
        mut fate: impl FnMut(usize) -> Sector,
    ) {
        assert!(offset.is_multiple_of(4096) && bytes.len().is_multiple_of(4096));
        let offset = usize::try_from(offset).unwrap();
        let file = self.segments.get_mut(&segment).expect("the file is there");
        for (number, from) in bytes.chunks(SECTOR).enumerate() {
            let at = offset + number * SECTOR;
            let to = &mut file[at..at + SECTOR];
            match fate(number) {
                Sector::Landed => to.copy_from_slice(from),
                Sector::Lost => {}
                Sector::Garbled => {
                    for (place, byte) in to.iter_mut().enumerate() {
                        *byte = byte.wrapping_mul(31) ^ u8::try_from(place % 251).unwrap() ^ 0x5A;
                    }
                }
            }
        }
    }

    pub fn recover(&self) -> Result<Recovery, RecoveryError> {
        let files: Vec<(SegmentNumber, &[u8])> = self
            .segments
            .iter()
            .map(|(number, bytes)| (*number, bytes.as_slice()))
            .collect();
        recover(&files, &IDENTITY)
    }

    pub fn repair(&mut self, repairs: &[Repair]) {
        for repair in repairs {
            if let Repair::Write {
                segment,
                offset,
                bytes,
            } = repair
            {
                self.write(*segment, *offset, bytes, |_| Sector::Landed);
            }
        }
    }

    /// Recovers, repairs and goes on.
    pub fn open(&mut self) -> (Recovery, Log) {
        let recovery = self.recover().expect("the log opens");
        self.repair(&recovery.repairs);
        let again = self.recover().expect("the log opens");
        let log = Wal::resume(again, OPTIONS);
        (recovery, log)
    }

    /// Every whole frame of every segment with its number, in log order.
    pub fn records(&self) -> Vec<(u64, Record<Vec<u8>>)> {
        let seal = IDENTITY.seal();
        let mut found = Vec::new();
        for (segment, bytes) in &self.segments {
            for frame in frames(bytes, *segment, seal).filter_map(|found| found.frame.ok()) {
                found.push((frame.header.number, owned(&frame.record())));
            }
        }
        found
    }

    pub fn flip(&mut self, segment: u64, bit: usize) {
        let file = self.segments.get_mut(&SegmentNumber(segment)).unwrap();
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

pub fn owned<P: AsRef<[u8]>>(record: &Record<P>) -> Record<Vec<u8>> {
    match record {
        Record::Promise { ballot } => Record::Promise { ballot: *ballot },
        Record::Accepted {
            ballot,
            slot,
            payload,
        } => Record::Accepted {
            ballot: *ballot,
            slot: *slot,
            payload: payload.as_ref().to_vec(),
        },
        Record::Chosen { upto } => Record::Chosen { upto: *upto },
        Record::Clean => Record::Clean,
    }
}

pub fn accepted(ballot: u64, slot: u64, bytes: usize) -> Record<Payload> {
    let seed = usize::try_from(slot.wrapping_mul(7) ^ ballot).unwrap();
    let payload: Vec<u8> = (0..bytes)
        .map(|at| u8::try_from((at * 13 + seed) % 256).unwrap())
        .collect();
    Record::Accepted {
        ballot,
        slot,
        payload: payload.into(),
    }
}

/// Performs what the log wants prepared.
pub fn prepare(log: &mut Log, disk: &mut Disk) {
    while let Some(operation) = log.next_operation() {
        disk.perform(operation);
        log.finish_operation(operation);
    }
}

/// Starts a flush and encodes it, but writes nothing.
pub fn begin(log: &mut Log) -> Option<(Flush<Payload>, Vec<u8>)> {
    let mut flush = log.start_flush()?;
    let mut bytes = vec![0xEE; flush.length()];
    flush.encode(&mut bytes);
    Some((flush, bytes))
}

/// Makes everything that was appended durable.
pub fn flush(log: &mut Log, disk: &mut Disk) {
    while log.pending() {
        prepare(log, disk);
        let (flush, bytes) = begin(log).expect("segments are ready");
        disk.write(flush.segment(), flush.offset(), &bytes, |_| Sector::Landed);
        log.finish_flush(flush);
    }
}

/// One durable flush of these records.
pub fn flushed(
    log: &mut Log,
    disk: &mut Disk,
    seq: &mut u64,
    records: impl IntoIterator<Item = Record<Payload>>,
) {
    for record in records {
        *seq += 1;
        log.append(*seq, record);
    }
    flush(log, disk);
}
