//! Recovery: from the bytes of the segments back to the records, by the table of [`super::table`].
//!
//! # Why the verdicts are right
//!
//! Flushes are written one at a time, so a crash leaves every flush whole except the newest one, of
//! which any set of sectors may have landed. Frames say which flush they belong to and how many frames
//! of it lie before them, so each frame names the first frame of its flush, and everything before that
//! one was durable when this one was written.
//!
//! - *A hole is torn or corrupt.* Let `n` be the last good frame and `f` the first frame of the newest
//!   flush that is found beyond the hole. If `f <= n + 1`, all that can be missing belongs to that
//!   flush: it was never durable as a whole, the hole is a tear. If `f > n + 1`, frames `n + 1 .. f`
//!   were durable: corruption, reported, never cut.
//! - *What a tear left behind never comes back.* Beyond the cut, frames of the torn flush can be whole.
//!   The repair overwrites every one of them with zeros before anything else happens; if the crash
//!   comes during the repair, the next recovery finds the same tear and repairs again. Frames that are
//!   not whole cannot become whole later: a new flush overwrites whole blocks, and a block of which
//!   only some sectors land holds two different frames' bytes, which the checksum refuses. On top of
//!   it, new flushes are numbered above everything that was found.
//! - *The cut block.* The torn flush may have left good frames in front of the cut, in the same block.
//!   They are kept; the repair writes them back unchanged. A crash there may cost them, and harms
//!   nobody: they belong to a flush that was never acknowledged, and nothing is done with them before
//!   the repair is synced.
//! - *Seen is not durable.* After the crash of the process alone, the bytes read may still lie in the
//!   drive's cache. So the last repair is always a sync of the segment that the log ends in.
//!
//! Rot of exactly the newest flush looks like a tear. Only [`Recovery::clean`] excludes it: then the
//! end marker, a flush of its own, proves that everything before it was durable.

use std::collections::BTreeMap;

use thiserror::Error;

use super::frame::{FrameError, HEADER_BYTES, Header};
use super::index::{Effect, Index};
use super::record::{Kind, Name};
use super::segment::{Chain, SegmentHeader, SegmentHeaderError, SegmentNumber, Walk};
use super::table::{Beyond, Content, Here, Observation, Row, classify};
use super::{Location, Written};
use crate::BLOCK_BYTES;
use crate::bytes::round_up;
use crate::superblock::{Identity, IdentityError, Seal};

/// Damages that are listed one by one; of more than these only the number is kept.
pub const DAMAGE_LISTED_MAX: usize = 1024;

/// What a log holds, and where it goes on.
#[derive(Debug)]
pub struct Recovery {
    pub identity: Identity,
    /// The highest promise that any frame or header tells of.
    pub promised: u64,
    /// The highest watermark of chosen slots that was written.
    pub chosen_upto: u64,
    /// The newest accepted record of every slot. A slot whose newest record is lost has none.
    pub index: Index,
    /// Where the log goes on.
    pub end: End,
    /// How it ended: `CleanEnd`, `CleanStop`, `StaleBlock` or `TornTail`.
    pub tail: Row,
    /// The log was closed in order. Otherwise the last flush may be lost without a trace.
    pub clean: bool,
    /// What is damaged, in log order.
    pub damage: Vec<Damage>,
    /// Damages beyond [`DAMAGE_LISTED_MAX`].
    pub damage_unlisted: u64,
    /// To be carried out, in order, before anything in here is acted upon.
    pub repairs: Vec<Repair>,
    /// Whole frames that were read.
    pub frames: u64,
    pub(crate) written: Vec<Written>,
    pub(crate) oldest: SegmentNumber,
    pub(crate) free: Vec<SegmentNumber>,
    pub(crate) ready: Vec<SegmentNumber>,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub segment: SegmentNumber,
    /// First free block, as a byte offset; 0 if not even the header was written.
    pub offset: u32,
    /// Up to the last good frame.
    pub chain: Chain,
    /// Highest flush number found.
    pub flush: u64,
}

/// A stretch of the log that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    pub row: Row,
    /// Where the good part before it ends.
    pub segment: SegmentNumber,
    pub offset: u32,
    pub lost: Lost,
}

/// What a damage cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing: everything in it is repeated elsewhere.
    Nothing,
    /// This record.
    Record(Name),
    /// An accepted record that a later one for the same slot, of an equal or higher ballot, replaced.
    Superseded(Name),
    /// This many records, or some if 0, of which nothing is known.
    Unknown { records: u64 },
}

/// What a loss means for the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    Nothing,
    /// It cannot speak for this slot until it has the record back.
    Slot {
        slot: u64,
        ballot: u64,
    },
    /// It cannot speak at all.
    Replica,
}

/// One step of making the log what recovery says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Write whole blocks over what a torn flush left.
    Write {
        segment: SegmentNumber,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Sync the file's data.
    Sync { segment: SegmentNumber },
}

/// Why the log cannot be opened at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecoveryError {
    /// Formatting creates the first segment before the superblock, so this is no new directory.
    #[error("no log segment in a formatted directory")]
    NoSegments,
    #[error("{segment} is listed twice")]
    Duplicate { segment: SegmentNumber },
    #[error("{segment} has {found} bytes, must have {expected}")]
    SegmentBytes {
        segment: SegmentNumber,
        found: u64,
        expected: u64,
    },
    #[error("{segment} belongs to another replica: {error}")]
    Identity {
        segment: SegmentNumber,
        error: IdentityError,
    },
    #[error("{segment} is of log version {found}, which is not supported")]
    Version { segment: SegmentNumber, found: u8 },
    /// The log does not begin at the beginning, and nothing says where it does.
    #[error("no frame is readable from {segment} on")]
    Unreadable { segment: SegmentNumber },
}

impl Damage {
    /// What it means for the replica. A lost promise or watermark means nothing: the promise is
    /// repeated by every frame, the watermark is a hint.
    #[must_use]
    pub fn harm(&self) -> Harm {
        match self.lost {
            Lost::Nothing | Lost::Superseded(_) => Harm::Nothing,
            Lost::Record(name) => match name.kind {
                Kind::Accepted => Harm::Slot {
                    slot: name.slot,
                    ballot: name.ballot,
                },
                Kind::Promise | Kind::Chosen | Kind::Clean => Harm::Nothing,
            },
            Lost::Unknown { .. } => Harm::Replica,
        }
    }
}

/// Reads a log back. `segments` are the files of the directory whose names are segments, in any
/// order, each with all its bytes; `identity` is the superblock's.
///
/// # Errors
/// If the files cannot be this replica's log. Damage inside the log is not an error: it is reported in
/// [`Recovery::damage`].
pub fn recover(
    segments: &[(SegmentNumber, &[u8])],
    identity: &Identity,
) -> Result<Recovery, RecoveryError> {
    let mut scan = Scan::new(segments, *identity)?;
    loop {
        let (seen, found) = scan.look();
        let row = classify(&seen);
        match (row, found) {
            (Row::NextRecord | Row::DuplicateSlot | Row::LowerDuplicate, Some(header)) => {
                scan.take(header);
            }
            (Row::PromiseBelowBallot, Some(header)) => {
                scan.report(row, Lost::Unknown { records: 1 });
                scan.take(header);
            }
            (Row::WildSlot, Some(header)) => {
                scan.report(row, Lost::Record(header.name));
                scan.take(header);
            }
            (Row::CorruptPayload, Some(header)) => {
                scan.report(row, Lost::Record(header.name));
                scan.step_over(header);
            }
            (Row::BadSegmentHeader, Some(header)) => {
                scan.report(row, Lost::Nothing);
                scan.go_on_at(header);
            }
            (Row::ChainBroken, Some(header)) => {
                scan.report(row, Lost::Unknown { records: 0 });
                scan.go_on_at(header);
            }
            (Row::CorruptMiddle | Row::MissingSegment, Some(header)) => {
                scan.report_gap(row, header);
                scan.go_on_at(header);
            }
            (Row::MissingSegment, None) => {
                scan.report(row, Lost::Unknown { records: 0 });
                scan.tail_gap_reported = true;
            }
            (Row::TornTail | Row::CleanStop | Row::CleanEnd | Row::StaleBlock, _) => {
                return scan.finish(row);
            }
            (_, None) => unreachable!("{row:?} is matched by a frame"),
        }
    }
}

/// The state of reading: everything up to `segment`, `offset` is understood.
struct Scan<'a> {
    identity: Identity,
    seal: Seal,
    /// All segments from `oldest` on.
    segments: BTreeMap<SegmentNumber, &'a [u8]>,
    /// Headers that are this log's and their segment's own.
    headers: BTreeMap<SegmentNumber, SegmentHeader>,
    oldest: SegmentNumber,
    free: Vec<SegmentNumber>,
    /// Of the last frame; one before `oldest` until the first frame is found.
    segment: SegmentNumber,
    /// Behind the last frame, not rounded up to a block.
    offset: usize,
    chain: Chain,
    /// Flush and index of the last frame.
    flush: u64,
    index_in_flush: u32,
    /// Whether `chain` is known; not if the log's first header is unreadable.
    chain_known: bool,
    /// Whether `chain.crc` is; not behind a frame whose payload is lost.
    crc_known: bool,
    /// The frame here is the one to go on with, whatever the chain says: damage was reported.
    resumed: bool,
    stopped: bool,
    tail_gap_reported: bool,
    /// The newest header beyond the first hole; it is the newest of the log, so one search is enough.
    newest: Option<Option<Header>>,
    index: Index,
    written: Vec<Written>,
    damage: Vec<Damage>,
    damage_unlisted: u64,
    frames: u64,
}

/// How a frame's header fits behind the last frame.
#[derive(PartialEq, Eq)]
enum Link {
    Continues,
    Broken,
    Elsewhere,
}

impl<'a> Scan<'a> {
    fn new(files: &[(SegmentNumber, &'a [u8])], identity: Identity) -> Result<Self, RecoveryError> {
        let mut segments = collect(files, &identity)?;
        let headers = read_headers(&segments, &identity)?;
        let (lowest, _) = segments
            .first_key_value()
            .ok_or(RecoveryError::NoSegments)?;
        let oldest = headers
            .values()
            .next_back()
            .map_or_else(|| *lowest, |header| header.oldest);
        let needed = segments.split_off(&oldest);
        let free = segments.into_keys().collect();
        let first = headers
            .get(&oldest)
            .filter(|_| oldest > SegmentNumber::FIRST);
        Ok(Self {
            identity,
            seal: identity.seal(),
            segments: needed,
            oldest,
            free,
            segment: SegmentNumber(oldest.0 - 1),
            offset: usize::try_from(identity.segment_bytes).expect("at most 2^30"),
            chain: first.map_or_else(Chain::default, |header| header.before),
            flush: first.map_or(0, |header| header.flush - 1),
            index_in_flush: 0,
            chain_known: first.is_some() || oldest == SegmentNumber::FIRST,
            headers,
            crc_known: true,
            resumed: false,
            stopped: false,
            tail_gap_reported: false,
            newest: None,
            index: Index::default(),
            written: Vec::new(),
            damage: Vec::new(),
            damage_unlisted: 0,
            frames: 0,
        })
    }

    /// What lies at the place where the next frame should be, and the frame it speaks of: the next
    /// one, or behind a hole the first that follows.
    fn look(&mut self) -> (Observation, Option<Header>) {
        for (walk, offset) in self.places() {
            let Ok(header) = walk.header(offset) else {
                continue;
            };
            let here = match self.link(&header) {
                Link::Elsewhere => continue,
                Link::Broken => Here::ChainBroken,
                Link::Continues if self.enters_badly(&header) => Here::HeaderBad,
                Link::Continues => match walk.frame(header) {
                    Ok(_) => Here::Continues(self.content(&header)),
                    Err(_) => Here::PayloadBad,
                },
            };
            let beyond = match here {
                Here::HeaderBad | Here::PayloadBad => self.beyond(Some(header)),
                _ => Beyond::Nothing,
            };
            return (self.observe(here, beyond), Some(header));
        }
        let found = self.first_newer();
        let here = if self.segment_missing(found.as_ref()) {
            Here::SegmentMissing
        } else {
            self.blank_or_not()
        };
        let beyond = self.beyond(found);
        (self.observe(here, beyond), found)
    }

    fn observe(&self, here: Here, beyond: Beyond) -> Observation {
        Observation {
            here,
            beyond,
            stopped: self.stopped,
        }
    }

    /// Where the next frame may lie: behind the last one, at the next block (a new flush), or behind
    /// the next segment's header.
    fn places(&self) -> impl Iterator<Item = (Walk<'a>, usize)> + use<'a> {
        let block = round_up(self.offset, BLOCK_BYTES);
        let current = self.walk(self.segment);
        let next = self.walk(self.segment.next());
        let unaligned = current.filter(|_| self.offset != block);
        let places = [
            unaligned.map(|walk| (walk, self.offset)),
            current.map(|walk| (walk, block)),
            next.map(|walk| (walk, BLOCK_BYTES as usize)),
        ];
        places.into_iter().flatten()
    }

    fn walk(&self, segment: SegmentNumber) -> Option<Walk<'a>> {
        self.segments.get(&segment).map(|bytes| Walk {
            bytes,
            segment,
            seal: self.seal,
        })
    }

    fn link(&self, header: &Header) -> Link {
        let here = header.segment == self.segment && header.offset as usize == self.offset;
        if self.resumed && here {
            return Link::Continues;
        }
        if !self.chain_known {
            return match header.index {
                0 => Link::Continues,
                _ => Link::Elsewhere,
            };
        }
        if header.number != self.chain.number + 1 || header.flush < self.flush {
            return Link::Elsewhere;
        }
        let same_flush =
            header.flush == self.flush && header.index == self.index_in_flush + 1 && here;
        let new_flush = header.flush > self.flush
            && header.index == 0
            && header.offset.is_multiple_of(BLOCK_BYTES);
        let chained = header.previous == self.chain.last
            && (!self.crc_known || header.previous_crc == self.chain.crc);
        match (same_flush || new_flush) && chained {
            true => Link::Continues,
            false => Link::Broken,
        }
    }

    /// Whether the frame begins a segment whose header is not good.
    fn enters_badly(&self, header: &Header) -> bool {
        header.segment != self.segment && !self.headers.contains_key(&header.segment)
    }

    fn content(&self, header: &Header) -> Content {
        let Name { kind, slot, ballot } = header.name;
        if header.promised < self.chain.promised.max(ballot) {
            return Content::PromiseLow;
        }
        match kind {
            Kind::Promise | Kind::Chosen | Kind::Clean => Content::New,
            Kind::Accepted => match self.index.effect(slot, ballot) {
                Effect::New => Content::New,
                Effect::Replaces => Content::Replaces,
                Effect::Ignored => Content::Ignored,
                Effect::Wild => Content::Wild,
            },
        }
    }

    /// Headers beyond this place that are newer than the last frame.
    fn newer(&self) -> impl Iterator<Item = Header> + '_ {
        self.segments
            .range(self.segment..)
            .flat_map(move |(segment, _)| {
                let walk = self.walk(*segment).expect("it is in the map");
                let mut from = match *segment == self.segment {
                    true => self.offset,
                    false => BLOCK_BYTES as usize,
                };
                std::iter::from_fn(move || {
                    let header = walk.seek(from, |header| self.is_newer(header))?;
                    from = header.offset as usize + header.frame_bytes();
                    Some(header)
                })
            })
    }

    fn is_newer(&self, header: &Header) -> bool {
        !self.chain_known || (header.number > self.chain.number && header.flush >= self.flush)
    }

    fn first_newer(&self) -> Option<Header> {
        self.newer().next()
    }

    /// What the newest flush proves, if anything is `found` from here on.
    fn beyond(&mut self, found: Option<Header>) -> Beyond {
        if self.newest.is_none() {
            self.newest = Some(
                self.newer()
                    .max_by_key(|header| (header.flush, header.number)),
            );
        }
        let newest = self.newest.flatten();
        match (found, newest) {
            (None, _) => Beyond::Nothing,
            (Some(_), Some(newest))
                if self.chain_known && newest.flush_first() <= self.chain.number + 1 =>
            {
                Beyond::SameFlush
            }
            (Some(_), _) => Beyond::LaterFlush,
        }
    }

    /// Whether a segment is absent between the last frame and the one that was found, or, if none
    /// was, the last file: files are created in order.
    fn segment_missing(&self, found: Option<&Header>) -> bool {
        let upto = match found {
            Some(header) => header.segment,
            None if self.tail_gap_reported => return false,
            None => match self.segments.last_key_value() {
                Some((last, _)) => *last,
                None => return false,
            },
        };
        let from = self.segment.next();
        let present = match from <= upto {
            true => self.segments.range(from..=upto).count() as u64,
            false => return false,
        };
        present < upto.0 - self.segment.0
    }

    /// What bytes lie behind the last frame, where no frame of this log does.
    fn blank_or_not(&self) -> Here {
        let block = round_up(self.offset, BLOCK_BYTES);
        let bytes = self.segments.get(&self.segment).copied().unwrap_or(&[]);
        let padding = bytes.get(self.offset..block).unwrap_or(&[]);
        let rest = bytes.get(block..).unwrap_or(&[]);
        let untouched = self
            .segments
            .range(self.segment.next()..)
            .all(|(segment, bytes)| is_untouched(*segment, bytes, &self.identity));
        if !is_zero(padding) || !untouched {
            return Here::Garbage;
        }
        match self.walk(self.segment).map(|walk| walk.header(block)) {
            Some(Err(FrameError::Stale { .. })) => Here::Stale,
            _ if is_zero(rest) => Here::Zero,
            _ => Here::Garbage,
        }
    }

    /// Takes the frame that this header begins.
    fn take(&mut self, header: Header) {
        self.enter(header.segment);
        let Name { kind, slot, ballot } = header.name;
        if kind == Kind::Accepted {
            let length = HEADER_BYTES + header.payload_bytes as usize;
            self.index.insert(
                slot,
                Location {
                    segment: header.segment,
                    offset: header.offset,
                    length: u32::try_from(length).expect("a frame fits its segment"),
                    ballot,
                },
            );
            self.mark(slot);
        }
        self.frames += 1;
        self.advance(header);
        self.crc_known = true;
    }

    /// Goes behind a frame whose payload is lost but whose header is good.
    fn step_over(&mut self, header: Header) {
        self.enter(header.segment);
        self.advance(header);
        self.crc_known = false;
    }

    fn advance(&mut self, header: Header) {
        // The number is the frame's own: behind an unreadable start it is the first one known.
        self.chain.number = header.number - 1;
        self.chain = self.chain.with(header.name, header.crc);
        self.chain.promised = self.chain.promised.max(header.promised);
        self.chain_known = true;
        self.flush = header.flush;
        self.index_in_flush = header.index;
        self.segment = header.segment;
        self.offset = header.offset as usize + header.frame_bytes();
        self.resumed = false;
        self.stopped = header.name.kind == Kind::Clean;
    }

    /// Makes this frame the next one, behind damage that was reported.
    fn go_on_at(&mut self, header: Header) {
        self.enter(header.segment);
        self.chain.number = header.number - 1;
        self.chain.crc = header.previous_crc;
        self.chain.last = header.previous;
        self.chain_known = true;
        self.crc_known = true;
        self.flush = header.flush - u64::from(header.index == 0);
        self.index_in_flush = header.index.saturating_sub(1);
        self.segment = header.segment;
        self.offset = header.offset as usize;
        self.resumed = true;
        self.stopped = false;
    }

    fn enter(&mut self, segment: SegmentNumber) {
        if self
            .written
            .last()
            .is_some_and(|last| last.number == segment)
        {
            return;
        }
        self.written.push(Written {
            number: segment,
            slot_max: 0,
        });
        if let Some(header) = self.headers.get(&segment) {
            self.chain.promised = self.chain.promised.max(header.before.promised);
            self.chain.chosen_upto = self.chain.chosen_upto.max(header.before.chosen_upto);
        }
    }

    /// Notes that the current segment holds a record of this slot.
    fn mark(&mut self, slot: u64) {
        if let Some(segment) = self.written.last_mut() {
            segment.slot_max = segment.slot_max.max(slot);
        }
    }

    fn report_gap(&mut self, row: Row, next: Header) {
        let lost = match self.chain_known {
            true => next.number - self.chain.number - 1,
            false => 0,
        };
        match next.previous {
            Some(last) if lost > 0 => {
                if lost > 1 {
                    self.report(row, Lost::Unknown { records: lost - 1 });
                }
                self.report(row, Lost::Record(last));
            }
            _ => self.report(row, Lost::Unknown { records: lost }),
        }
    }

    fn report(&mut self, row: Row, lost: Lost) {
        match lost {
            Lost::Unknown { .. } => self.mark(u64::MAX),
            Lost::Record(name) if name.kind == Kind::Accepted => {
                self.mark(name.slot);
                let older = self.index.locate(name.slot);
                if older.is_some_and(|location| location.ballot <= name.ballot) {
                    self.index.remove(name.slot);
                }
            }
            Lost::Record(_) | Lost::Superseded(_) | Lost::Nothing => {}
        }
        if self.damage.len() == DAMAGE_LISTED_MAX {
            self.damage_unlisted += 1;
            return;
        }
        self.damage.push(Damage {
            row,
            segment: self.segment,
            offset: u32::try_from(self.offset).expect("at most 2^30"),
            lost,
        });
    }

    fn finish(mut self, tail: Row) -> Result<Recovery, RecoveryError> {
        let begun = self.segment >= self.oldest;
        let segment = if begun { self.segment } else { self.oldest };
        if !self.chain_known || !self.segments.contains_key(&segment) {
            return Err(RecoveryError::Unreadable { segment });
        }
        self.settle_damage();
        let repairs = self.repairs(segment);
        let offset = if begun {
            round_up(self.offset, BLOCK_BYTES)
        } else {
            0
        };
        let flushes = [
            self.flush,
            self.newest.flatten().map_or(0, |header| header.flush),
            self.headers
                .values()
                .map(|header| header.flush)
                .max()
                .unwrap_or(0),
        ];
        let mut ready = Vec::new();
        let mut next = segment.next();
        while self.segments.contains_key(&next) {
            ready.push(next);
            next = next.next();
        }
        Ok(Recovery {
            identity: self.identity,
            promised: self.chain.promised,
            chosen_upto: self.chain.chosen_upto,
            index: self.index,
            end: End {
                segment,
                offset: u32::try_from(offset).expect("at most 2^30"),
                chain: self.chain,
                flush: flushes.into_iter().max().unwrap_or(0),
            },
            tail,
            clean: tail == Row::CleanStop && self.damage.is_empty(),
            damage: self.damage,
            damage_unlisted: self.damage_unlisted,
            repairs,
            frames: self.frames,
            written: self.written,
            oldest: self.oldest,
            free: self.free,
            ready,
        })
    }

    /// A lost record that was written again is no loss; a slot must not fall back to an older one.
    fn settle_damage(&mut self) {
        for damage in &mut self.damage {
            let Lost::Record(name) = damage.lost else {
                continue;
            };
            if name.kind != Kind::Accepted {
                continue;
            }
            match self.index.locate(name.slot) {
                Some(location) if location.ballot >= name.ballot => {
                    damage.lost = Lost::Superseded(name);
                }
                Some(_) => self.index.remove(name.slot),
                None => {}
            }
        }
    }

    /// Zeros over everything beyond the end that could be read as a frame or a segment's header, then
    /// a sync of each segment written to and of the one that the log ends in.
    fn repairs(&self, end: SegmentNumber) -> Vec<Repair> {
        let mut repairs = Vec::new();
        for (segment, bytes) in self.segments.range(end..) {
            let walk = self.walk(*segment).expect("it is in the map");
            let cut = if *segment == self.segment {
                self.offset
            } else {
                0
            };
            let mut dirty_end = match self.headers.contains_key(segment) && cut == 0 {
                true => BLOCK_BYTES as usize,
                false => 0,
            };
            let mut from = cut.max(BLOCK_BYTES as usize);
            while let Some(header) = walk.seek(from, |_| true) {
                from = header.offset as usize + HEADER_BYTES;
                dirty_end = round_up(from, BLOCK_BYTES);
            }
            let start = cut - cut % BLOCK_BYTES as usize;
            if dirty_end > start {
                let mut whole = bytes[start..dirty_end].to_vec();
                whole[cut - start..].fill(0);
                repairs.push(Repair::Write {
                    segment: *segment,
                    offset: start as u64,
                    bytes: whole,
                });
            }
            if dirty_end > start || *segment == end {
                repairs.push(Repair::Sync { segment: *segment });
            }
        }
        repairs
    }
}

fn collect<'a>(
    files: &[(SegmentNumber, &'a [u8])],
    identity: &Identity,
) -> Result<BTreeMap<SegmentNumber, &'a [u8]>, RecoveryError> {
    let mut segments = BTreeMap::new();
    for (segment, bytes) in files {
        if bytes.len() as u64 != identity.segment_bytes {
            return Err(RecoveryError::SegmentBytes {
                segment: *segment,
                found: bytes.len() as u64,
                expected: identity.segment_bytes,
            });
        }
        if segments.insert(*segment, *bytes).is_some() {
            return Err(RecoveryError::Duplicate { segment: *segment });
        }
    }
    Ok(segments)
}

/// The headers that say what their segment is. A header of another number is what a recycled segment
/// still holds from before; any other that cannot be read is left to the table.
fn read_headers(
    segments: &BTreeMap<SegmentNumber, &[u8]>,
    identity: &Identity,
) -> Result<BTreeMap<SegmentNumber, SegmentHeader>, RecoveryError> {
    let mut headers = BTreeMap::new();
    for (segment, bytes) in segments {
        match SegmentHeader::decode(bytes) {
            Ok(header) => {
                check_identity(&header.identity, identity).map_err(|error| {
                    RecoveryError::Identity {
                        segment: *segment,
                        error,
                    }
                })?;
                if header.segment == *segment {
                    headers.insert(*segment, header);
                }
            }
            Err(SegmentHeaderError::Version { found }) => {
                return Err(RecoveryError::Version {
                    segment: *segment,
                    found,
                });
            }
            Err(
                SegmentHeaderError::Blank
                | SegmentHeaderError::Short { .. }
                | SegmentHeaderError::Magic { .. }
                | SegmentHeaderError::Crc { .. }
                | SegmentHeaderError::Field { .. },
            ) => {}
        }
    }
    Ok(headers)
}

fn check_identity(found: &Identity, expected: &Identity) -> Result<(), IdentityError> {
    found.check(expected)?;
    if found.created_ns != expected.created_ns {
        return Err(IdentityError::Created {
            found: found.created_ns,
            expected: expected.created_ns,
        });
    }
    if found.segment_bytes != expected.segment_bytes {
        return Err(IdentityError::SegmentBytes {
            found: found.segment_bytes,
        });
    }
    Ok(())
}

/// Whether nothing was ever written to this segment under its number.
fn is_untouched(segment: SegmentNumber, bytes: &[u8], identity: &Identity) -> bool {
    match SegmentHeader::decode(bytes) {
        Ok(header) => header.segment < segment && header.identity == *identity,
        Err(_) => is_zero(bytes),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}
