//! One flush: the frames that one write and one sync make durable together.
//!
//! A flush starts on a fresh block and ends on a block boundary, so durable blocks are never
//! rewritten; it lies in one segment. Payloads are shared, not copied, until [`Flush::encode`] writes
//! them into the shell's aligned buffer.

use super::frame::{Header, frame_bytes};
use super::index::Location;
use super::record::Record;
use super::segment::{Chain, SegmentHeader, SegmentNumber};
use crate::BLOCK_BYTES;
use crate::bytes::round_up;
use crate::superblock::{Identity, Seal};

/// A record that waits for its flush, under the caller's number.
#[derive(Clone, Debug)]
pub(crate) struct Appended<P> {
    pub(crate) seq: u64,
    pub(crate) record: Record<P>,
}

/// What to write. The shell allocates [`Flush::length`] bytes of block-aligned memory, lets
/// [`Flush::encode`] fill them, writes them to [`Flush::segment`] at [`Flush::offset`], syncs the
/// file's data, and returns the flush to `Wal::finish_flush`. If the write or the sync fails, the
/// replica stops: neither is ever retried.
#[derive(Debug)]
pub struct Flush<P> {
    pub(crate) seal: Seal,
    pub(crate) number: u64,
    pub(crate) segment: SegmentNumber,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    /// Written first if the flush begins its segment.
    pub(crate) header: Option<SegmentHeader>,
    pub(crate) records: Vec<Appended<P>>,
    /// Before the first frame.
    pub(crate) before: Chain,
    /// After the last frame; known once encoded.
    pub(crate) after: Option<Chain>,
}

/// How the records at the front of a queue fill one flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) segment: SegmentNumber,
    pub(crate) offset: u32,
    /// Whole blocks.
    pub(crate) length: u32,
    /// Records taken.
    pub(crate) records: usize,
}

impl<P: AsRef<[u8]>> Flush<P> {
    /// The file to write to.
    #[must_use]
    pub fn segment(&self) -> SegmentNumber {
        self.segment
    }

    /// Byte offset in the file, a multiple of the block size.
    #[must_use]
    pub fn offset(&self) -> u64 {
        u64::from(self.offset)
    }

    /// Bytes to write, a multiple of the block size.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length as usize
    }

    /// The last record's number: durable when this flush is.
    #[must_use]
    pub fn upto(&self) -> u64 {
        self.records.last().expect("a flush has records").seq
    }

    /// Writes the blocks. Copies every payload once, and checks it in the same pass.
    ///
    /// # Panics
    /// If `out` is not exactly [`Flush::length`] bytes.
    pub fn encode(&mut self, out: &mut [u8]) {
        assert_eq!(out.len(), self.length());
        let mut chain = self.before;
        let mut at = 0;
        if let Some(header) = &self.header {
            out[..BLOCK_BYTES as usize].fill(0);
            header.encode(out);
            at = BLOCK_BYTES as usize;
        }
        for (index, appended) in self.records.iter().enumerate() {
            let payload = appended.record.payload();
            let end = at + frame_bytes(payload.len());
            let header = self.frame_header(chain, at, index, &appended.record);
            let crc = header.encode(payload, self.seal, &mut out[at..end]);
            out[at + super::frame::HEADER_BYTES + payload.len()..end].fill(0);
            chain = chain.with(header.name, crc);
            at = end;
        }
        assert_eq!(round_up(at, BLOCK_BYTES), out.len());
        out[at..].fill(0);
        self.after = Some(chain);
    }

    /// Slot and location of every accepted record.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (u64, Location)> {
        let mut at = self.first_frame_offset();
        self.records.iter().filter_map(move |appended| {
            let payload_bytes = appended.record.payload().len();
            let offset = u32_of(at);
            at += frame_bytes(payload_bytes);
            match appended.record {
                Record::Accepted { ballot, slot, .. } => Some((
                    slot,
                    Location {
                        segment: self.segment,
                        offset,
                        length: u32_of(super::frame::HEADER_BYTES + payload_bytes),
                        ballot,
                    },
                )),
                Record::Promise { .. } | Record::Chosen { .. } | Record::Clean => None,
            }
        })
    }

    fn first_frame_offset(&self) -> usize {
        let header = self.header.map_or(0, |_| BLOCK_BYTES);
        (self.offset + header) as usize
    }

    fn frame_header(&self, before: Chain, at: usize, index: usize, record: &Record<P>) -> Header {
        let name = record.name();
        let after = before.with(name, 0);
        Header {
            segment: self.segment,
            offset: self.offset + u32_of(at),
            number: after.number,
            flush: self.number,
            index: u32_of(index),
            name,
            previous: before.last,
            previous_crc: before.crc,
            promised: after.promised,
            payload_bytes: u32_of(record.payload().len()),
            crc: 0,
        }
    }
}

impl Layout {
    /// Takes records from the front of `queue` for a flush that may start at `offset` of `segment`:
    /// at least one, as many as fit into the segment and into `flush_bytes_max`, the end marker
    /// always alone (so that every earlier record is proved durable by it). `None` if not even the
    /// first fits.
    pub(crate) fn plan<'a, P: AsRef<[u8]> + 'a>(
        queue: impl Iterator<Item = &'a Appended<P>>,
        segment: SegmentNumber,
        offset: u32,
        identity: &Identity,
        flush_bytes_max: u32,
    ) -> Option<Self> {
        let room = usize::try_from(identity.segment_bytes).ok()? - offset as usize;
        let header = if offset == 0 { BLOCK_BYTES as usize } else { 0 };
        let (mut length, mut records) = (header, 0);
        for appended in queue {
            let clean = matches!(appended.record, Record::Clean);
            let end = length + frame_bytes(appended.record.payload().len());
            let full = records > 0 && (clean || end > flush_bytes_max as usize);
            if full || round_up(end, BLOCK_BYTES) > room {
                break;
            }
            (length, records) = (end, records + 1);
            if clean {
                break;
            }
        }
        (records > 0).then(|| Self {
            segment,
            offset,
            length: u32_of(round_up(length, BLOCK_BYTES)),
            records,
        })
    }
}

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("positions and counts in a segment stay below 2^30")
}
