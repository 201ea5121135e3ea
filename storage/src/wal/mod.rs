//! The write-ahead log: appended records in, whole flushes out, and back after a crash.
//!
//! ```text
//!            append(seq, record)                     Flush: write at, sync
//!   caller ----------------------> Wal ------------------------------------> shell
//!            durable seq                             finish_flush
//!          <---------------------------------------------------------------
//!                                      Operation: prepare or recycle a segment, ahead of need
//! ```
//!
//! # Invariants
//!
//! 1. **One flush at a time.** A flush starts only after the one before is durable. So after a crash
//!    only the newest flush can be incomplete, and a frame of flush `f` proves that every frame of
//!    every flush before `f` was durable.
//! 2. **Fresh blocks only.** A flush starts on a block boundary behind everything written before.
//!    Durable blocks are never rewritten; recovery rewrites blocks of a torn flush, which was never
//!    acknowledged, and the end marker, which carries nothing (see [`recovery`]).
//! 3. **One chain.** Frames are numbered 1, 2, 3 ... over all segments; each repeats checksum and
//!    name of the one before. A hole that the chain closes is padding; a hole that it does not close
//!    is loss, and the numbers say how much.
//! 4. **Bound to a place.** Segment and offset are under the frame's checksum, and the checksum starts
//!    at the directory's seal: nothing is valid anywhere but where it was written.
//! 5. **Flush numbers are used once.** A new flush is numbered above everything that recovery could
//!    see, so what a torn flush left behind never continues a later one.
//! 6. **Segments exist before they are needed.** They are zero-filled (or recycled) and synced, with
//!    their directory, before the first flush into them.
//! 7. **Recycling waits for proof.** A segment is given back only after a durable segment header says
//!    that it is not needed (`oldest`), so a missing segment is either provably free or provably lost.
//!
//! What the log does not do: it does not write, read, wait, or retry. It does not judge ballots: it
//! keeps the highest promise it was told, and the highest accepted ballot of each slot.

mod files;
mod flush;
pub mod frame;
mod index;
mod record;
pub mod recovery;
mod scan;
mod segment;
mod table;

use std::collections::VecDeque;

pub use flush::Flush;
pub use frame::{Frame, FrameError, Header as FrameHeader};
pub use index::{Index, Location, SLOT_JUMP_MAX};
pub use record::{Kind, Name, Record};
pub use recovery::{
    Damage, End, Harm, Losses, Lost, LostRecord, Recovery, RecoveryError, Repair, SegmentUse,
    recover,
};
pub use segment::{Chain, Found, SegmentHeader, SegmentHeaderError, SegmentNumber, frames};
pub use table::Row;

use flush::{Appended, Layout};
use index::Effect;

use crate::BLOCK_BYTES;
use crate::superblock::Identity;

/// What may be chosen per directory without changing its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A flush takes no further record beyond this many bytes. A single larger record is a flush of
    /// its own.
    pub flush_bytes_max: u32,
    /// Segments that are kept ready beyond the active one.
    pub segments_ahead: usize,
}

impl Default for Options {
    /// 4 MiB: at 1.8 GB/s two milliseconds, so that a small record never waits longer for a large
    /// batch. Two segments ahead: one is filled while the other is being prepared.
    fn default() -> Self {
        Self {
            flush_bytes_max: 4 << 20,
            segments_ahead: 2,
        }
    }
}

/// A file operation beside the flushes. At most one is open; flushes go on meanwhile. After an error
/// the replica stops, unless there was no room and [`Wal::give_up_operation`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create a file of `segment_bytes` zeros under a temporary name, sync it, rename it to the
    /// segment's name (over a file that may be there), sync the directory.
    Prepare { segment: SegmentNumber },
    /// Rename the file of `from` to the name of `to` (over a file that may be there), sync the
    /// directory. What it holds stays: it is bound to `from` and not valid in `to`.
    Recycle {
        from: SegmentNumber,
        to: SegmentNumber,
    },
}

/// What was written, for write amplification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub records: u64,
    /// Bytes that callers wanted stored.
    pub payload_bytes: u64,
    /// With headers and alignment.
    pub frame_bytes: u64,
    /// With padding to blocks and segment headers: what went to the disk.
    pub flushed_bytes: u64,
    pub flushes: u64,
    pub segments_prepared: u64,
    /// Zeros written ahead of need, counted apart.
    pub prepared_bytes: u64,
    pub segments_recycled: u64,
}

/// A segment with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) number: SegmentNumber,
    /// Highest slot among its accepted records; `u64::MAX` if a record in it is lost without a name.
    pub(crate) slot_max: u64,
}

impl Written {
    pub(crate) fn new(number: SegmentNumber) -> Self {
        Self {
            number,
            slot_max: 0,
        }
    }
}

/// The log of one replica.
///
/// `P` is a shared payload whose clone copies no bytes.
#[derive(Debug)]
pub struct Wal<P> {
    identity: Identity,
    options: Options,
    /// The segment that takes the next flush if it has room.
    active: SegmentNumber,
    /// The last segment that a flush was started in: `active`, or the one after it while the flush
    /// that begins it is open.
    begun: SegmentNumber,
    /// First free byte in `active`, a multiple of the block size; 0 = not even its header is written.
    offset: u32,
    /// Up to the last durable frame.
    chain: Chain,
    flush_number: u64,
    flush_open: bool,
    pending: VecDeque<Appended<P>>,
    pending_bytes: usize,
    seq_last: Option<u64>,
    /// Kept between flushes to spare an allocation.
    records_spare: Vec<Appended<P>>,
    index: Index,
    /// `oldest..=active`, ascending.
    written: VecDeque<Written>,
    /// What the next segment header will call the oldest segment needed.
    oldest: SegmentNumber,
    /// Provably free: files that may be recycled.
    free: VecDeque<SegmentNumber>,
    /// Segments behind the active one that exist and are synced.
    ready: VecDeque<SegmentNumber>,
    operation_open: Option<Operation>,
    counters: Counters,
}

/// Largest payload that fits one segment of this size behind both headers.
#[must_use]
pub fn payload_bytes_max(segment_bytes: u64) -> usize {
    let segment_bytes = usize::try_from(segment_bytes).expect("at most 2^30");
    segment_bytes - BLOCK_BYTES as usize - frame::HEADER_BYTES
}

fn bytes_of<P: AsRef<[u8]>>(records: &[Appended<P>]) -> usize {
    records
        .iter()
        .map(|appended| frame::frame_bytes(appended.record.payload().len()))
        .sum()
}

impl<P: AsRef<[u8]> + Clone> Wal<P> {
    /// Goes on behind what was recovered, once its repairs are carried out and every map of the
    /// segments is dropped.
    ///
    /// # Panics
    /// If an option is zero.
    #[must_use]
    pub fn resume(recovery: Recovery, options: Options) -> Self {
        assert!(options.flush_bytes_max > 0 && options.segments_ahead > 0);
        Self {
            identity: recovery.identity,
            options,
            active: recovery.end.segment,
            begun: recovery.end.segment,
            offset: recovery.end.offset,
            chain: recovery.end.chain,
            flush_number: recovery.end.flush,
            flush_open: false,
            pending: VecDeque::new(),
            pending_bytes: 0,
            seq_last: None,
            records_spare: Vec::new(),
            index: recovery.index,
            written: recovery.written.into(),
            oldest: recovery.oldest,
            free: recovery.free.into(),
            ready: recovery.ready.into(),
            operation_open: None,
            counters: Counters::default(),
        }
    }

    /// Largest payload that a record may have: it fits one segment behind both headers.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        payload_bytes_max(self.identity.segment_bytes)
    }

    /// Queues a record under the caller's number. Copies nothing. The caller bounds what it has in
    /// flight (see [`Wal::pending_bytes`]).
    ///
    /// # Panics
    /// If `seq` does not grow, the slot is 0 or further than [`SLOT_JUMP_MAX`] from the known ones, or
    /// the payload is larger than [`Wal::payload_bytes_max`]: each would be lost at the next start.
    pub fn append(&mut self, seq: u64, record: Record<P>) {
        assert!(self.seq_last.is_none_or(|last| last < seq), "seq {seq}");
        let payload_bytes = record.payload().len();
        assert!(
            payload_bytes <= self.payload_bytes_max(),
            "payload of {payload_bytes} bytes"
        );
        if let Record::Accepted { slot, ballot, .. } = record {
            assert!(slot > 0 && self.index.effect(slot, ballot) != Effect::Wild);
        }
        self.seq_last = Some(seq);
        self.pending_bytes += frame::frame_bytes(payload_bytes);
        self.pending.push_back(Appended { seq, record });
    }

    /// Whether records wait for a flush.
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Bytes of the frames that wait for a flush.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Takes what was appended, as much as one flush holds. `None` if nothing waits, a flush is open,
    /// or the next segment is not ready (finish the open [`Operation`] and ask again).
    pub fn start_flush(&mut self) -> Option<Flush<P>> {
        if self.flush_open {
            return None;
        }
        let layout = self.next_layout()?;
        let header = (layout.offset == 0).then(|| SegmentHeader {
            identity: self.identity,
            segment: layout.segment,
            oldest: self.oldest,
            flush: self.flush_number + 1,
            before: self.chain,
        });
        if layout.segment != self.active {
            let ready = self.ready.pop_front();
            assert_eq!(ready, Some(layout.segment));
        }
        self.begun = layout.segment;
        self.flush_open = true;
        let mut records = std::mem::take(&mut self.records_spare);
        records.extend(self.pending.drain(..layout.records));
        self.pending_bytes -= bytes_of(&records);
        Some(Flush {
            seal: self.identity.seal(),
            number: self.flush_number + 1,
            segment: layout.segment,
            offset: layout.offset,
            length: layout.length,
            header,
            records,
            before: self.chain,
            after: None,
        })
    }

    /// The flush is on stable storage. Returns the number of its last record: that one and all before
    /// are durable, and can be located.
    ///
    /// # Panics
    /// If the flush is not the open one, or was not encoded.
    pub fn finish_flush(&mut self, flush: Flush<P>) -> u64 {
        assert!(self.flush_open && flush.number == self.flush_number + 1);
        let chain = flush
            .after
            .expect("a flush is encoded before it is written");
        assert_eq!(chain.number, self.chain.number + flush.records.len() as u64);
        let upto = flush.upto();
        if let Some(header) = flush.header {
            self.written.push_back(Written::new(flush.segment));
            self.free_below(header.oldest);
        }
        let segment = self.written.back_mut().expect("the flush's segment");
        assert_eq!(segment.number, flush.segment);
        for (slot, location) in flush.accepted() {
            segment.slot_max = segment.slot_max.max(slot);
            let effect = self.index.insert(slot, location);
            assert_ne!(effect, Effect::Wild, "slot {slot}");
        }
        self.count(&flush);
        self.active = flush.segment;
        self.offset = flush.offset + flush.length;
        self.chain = chain;
        self.flush_number = flush.number;
        self.flush_open = false;
        self.records_spare = flush.records;
        self.records_spare.clear();
        upto
    }

    /// The next file operation to carry out, if one is due and none is open.
    pub fn next_operation(&mut self) -> Option<Operation> {
        if self.operation_open.is_some() || self.ready.len() >= self.options.segments_ahead {
            return None;
        }
        let last = self.ready.back().copied().unwrap_or(self.begun);
        let segment = last.next();
        let operation = match self.free.pop_front() {
            Some(from) => Operation::Recycle { from, to: segment },
            None => Operation::Prepare { segment },
        };
        self.operation_open = Some(operation);
        Some(operation)
    }

    /// The operation is done, its directory synced.
    ///
    /// # Panics
    /// If it is not the open one.
    pub fn finish_operation(&mut self, operation: Operation) {
        assert_eq!(self.operation_open.take(), Some(operation));
        let segment = match operation {
            Operation::Prepare { segment } => {
                self.counters.segments_prepared += 1;
                self.counters.prepared_bytes += self.identity.segment_bytes;
                segment
            }
            Operation::Recycle { to, .. } => {
                self.counters.segments_recycled += 1;
                to
            }
        };
        self.ready.push_back(segment);
    }

    /// The operation cannot be carried out now, and left nothing behind. What is due then, perhaps with a
    /// segment that has come free since, [`Wal::next_operation`] says anew.
    ///
    /// # Panics
    /// If it is not the open one.
    pub fn give_up_operation(&mut self, operation: Operation) {
        assert_eq!(self.operation_open.take(), Some(operation));
        if let Operation::Recycle { from, .. } = operation {
            self.free.push_front(from);
        }
    }

    /// How many segments exist behind the one that is being written.
    #[must_use]
    pub fn segments_ready(&self) -> usize {
        self.ready.len()
    }

    /// Where the newest durable accepted record of `slot` lies.
    #[must_use]
    pub fn locate(&self, slot: u64) -> Option<Location> {
        self.index.locate(slot)
    }

    /// Reads the frame at the front of `bytes`, which the shell read from `location`.
    ///
    /// # Errors
    /// Why it is not the frame that was written there.
    pub fn decode<'a>(
        &self,
        bytes: &'a [u8],
        location: &Location,
    ) -> Result<Frame<'a>, FrameError> {
        Frame::decode(
            bytes,
            location.segment,
            location.offset,
            self.identity.seal(),
        )
    }

    /// The accepted records of all slots below are not needed any more. Segments that hold nothing
    /// else are recycled once the next segment's header is durable.
    pub fn release_below(&mut self, slot: u64) {
        self.index.release_below(slot);
        let needed = self
            .written
            .iter()
            .find(|segment| segment.slot_max >= slot)
            .map_or(self.active, |segment| segment.number);
        self.oldest = self.oldest.max(needed.min(self.active));
    }

    /// The highest promise that is durable.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.chain.promised
    }

    /// The segment that is being filled and those behind it that are ready.
    pub fn segments_open(&self) -> impl Iterator<Item = SegmentNumber> {
        std::iter::once(self.active).chain(self.ready.iter().copied())
    }

    /// What was written since the log was resumed.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn next_layout(&self) -> Option<Layout> {
        let plan = |segment, offset| {
            Layout::plan(
                self.pending.iter(),
                segment,
                offset,
                &self.identity,
                self.options.flush_bytes_max,
            )
        };
        if self.pending.is_empty() {
            return None;
        }
        if let Some(layout) = plan(self.active, self.offset) {
            return Some(layout);
        }
        assert_ne!(self.offset, 0, "append refuses what a segment cannot hold");
        let next = self.active.next();
        if self.ready.front() != Some(&next) {
            return None;
        }
        plan(next, 0)
    }

    fn free_below(&mut self, oldest: SegmentNumber) {
        while let Some(first) = self.written.front()
            && first.number < oldest
        {
            self.free.push_back(first.number);
            self.written.pop_front();
        }
    }

    fn count(&mut self, flush: &Flush<P>) {
        let counters = &mut self.counters;
        counters.records += flush.records.len() as u64;
        counters.frame_bytes += bytes_of(&flush.records) as u64;
        counters.payload_bytes += flush
            .records
            .iter()
            .map(|appended| appended.record.payload().len() as u64)
            .sum::<u64>();
        counters.flushed_bytes += u64::from(flush.length);
        counters.flushes += 1;
    }
}
