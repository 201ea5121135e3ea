//! Reading a log from its oldest segment to its end: what lies at the next place, what lies beyond,
//! and what has been understood so far. The verdicts are the table's; the reasons why they are right
//! are in [`super::recovery`].

use super::files::Files;
use super::frame::{FrameError, HEADER_BYTES, Header};
use super::index::{Effect, Index};
use super::record::{Kind, Name};
use super::recovery::{DAMAGE_LISTED_MAX, Damage, End, Lost, Recovery, RecoveryError, Repair};
use super::segment::{Chain, SegmentHeader, SegmentNumber, Walk};
use super::table::{Beyond, Content, Here, Observation, Row};
use super::{Location, Written};
use crate::BLOCK_BYTES;
use crate::bytes::{is_zero, round_up};
use crate::planted::{Bug, planted};
use crate::superblock::Identity;

/// The state of reading: everything up to `segment`, `offset` is understood.
pub(super) struct Scan<'a> {
    files: Files<'a>,
    /// Where reading starts.
    oldest: SegmentNumber,
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
    /// Number of the first frame of the last frame's flush.
    flush_first: u64,
    /// The highest frame number that a reported damage concerns.
    damaged_upto: u64,
    /// If the last frame is an end marker.
    marker: Option<Marker>,
    pub(super) tail_gap_reported: bool,
    /// The newest flush beyond the first hole; it is the newest of the log, so one search is enough.
    newest: Option<Option<Newest>>,
    index: Index,
    written: Vec<Written>,
    damage: Vec<Damage>,
    damage_unlisted: u64,
    frames: u64,
}

/// What the observation is about: the next thing of the chain, or behind a hole the first that follows.
#[derive(Clone, Copy)]
pub(super) enum Next {
    Nothing,
    Frame(Header),
    Segment(SegmentHeader),
}

/// The end marker of an orderly stop.
#[derive(Clone, Copy)]
struct Marker {
    offset: usize,
    before: Chain,
    /// Whether it may be erased: not if it is what proves that the flush before it was durable, and
    /// that flush is damaged. Without it the damage would pass for a tear at the next start.
    erasable: bool,
}

/// A flush of which something is readable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Newest {
    flush: u64,
    /// Number of its first frame.
    first: u64,
}

/// How a frame's header fits behind the last frame.
#[derive(PartialEq, Eq)]
enum Link {
    Continues,
    Broken,
    Elsewhere,
}

impl<'a> Scan<'a> {
    pub(super) fn new(
        files: &[(SegmentNumber, &'a [u8])],
        identity: Identity,
    ) -> Result<Self, RecoveryError> {
        let files = Files::new(files, identity)?;
        let oldest = files.oldest()?;
        let begins = oldest == SegmentNumber::FIRST;
        let first = files.headers.get(&oldest).filter(|_| !begins);
        Ok(Self {
            oldest,
            segment: SegmentNumber(oldest.0 - 1),
            offset: usize::try_from(identity.segment_bytes).expect("at most 2^30"),
            chain: first.map_or_else(Chain::default, |header| header.before),
            flush: first.map_or(0, |header| header.flush - 1),
            chain_known: begins || first.is_some(),
            files,
            index_in_flush: 0,
            crc_known: true,
            resumed: false,
            flush_first: 0,
            damaged_upto: 0,
            marker: None,
            tail_gap_reported: false,
            newest: None,
            index: Index::default(),
            written: Vec::new(),
            damage: Vec::new(),
            damage_unlisted: 0,
            frames: 0,
        })
    }

    /// What lies at the place where the next frame should be, and what it is about.
    pub(super) fn look(&mut self) -> (Observation, Next) {
        for (walk, offset) in self.places() {
            let Ok(header) = walk.header(offset) else {
                continue;
            };
            let here = match self.link(&header) {
                Link::Elsewhere => continue,
                Link::Broken => Here::ChainBroken,
                Link::Continues if header.segment != self.segment => Here::HeaderBad,
                Link::Continues => match walk.frame(header) {
                    Ok(_) => Here::Continues(self.content(&header)),
                    Err(_) => Here::PayloadBad,
                },
            };
            let next = Next::Frame(header);
            let beyond = match here {
                Here::HeaderBad | Here::PayloadBad => self.beyond(next),
                _ => Beyond::Nothing,
            };
            return (self.observe(here, beyond), next);
        }
        if let Some(header) = self.next_segment() {
            let seen = self.observe(Here::NextSegment, Beyond::Nothing);
            return (seen, Next::Segment(header));
        }
        let next = self.first_newer();
        let here = if self.segment_missing(next) {
            Here::SegmentMissing
        } else {
            self.blank_or_not()
        };
        let beyond = self.beyond(next);
        (self.observe(here, beyond), next)
    }

    fn observe(&self, here: Here, beyond: Beyond) -> Observation {
        Observation {
            here,
            beyond,
            stopped: self.marker.is_some(),
        }
    }

    /// Where the next frame may lie: behind the last one, or at the next block (a new flush). In the
    /// next segment only if that one's header does not tell what comes next.
    fn places(&self) -> impl Iterator<Item = (Walk<'a>, usize)> + use<'a> {
        let block = round_up(self.offset, BLOCK_BYTES);
        let current = self.files.walk(self.segment);
        let next = self.segment.next();
        let headless = self.files.walk(next);
        let headless = headless.filter(|_| !self.files.headers.contains_key(&next));
        let unaligned = current.filter(|_| self.offset != block);
        let places = [
            unaligned.map(|walk| (walk, self.offset)),
            current.map(|walk| (walk, block)),
            headless.map(|walk| (walk, BLOCK_BYTES as usize)),
        ];
        places.into_iter().flatten()
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
        if (same_flush || new_flush) && chained {
            Link::Continues
        } else if header.flush == self.flush || header.index == 0 {
            Link::Broken
        } else {
            // Its flush begins before the last frame, in place of it.
            Link::Elsewhere
        }
    }

    /// The next segment's header, if it follows the last frame. Then nothing else does: the header
    /// was written when everything before it was durable.
    fn next_segment(&self) -> Option<SegmentHeader> {
        let header = self.files.headers.get(&self.segment.next())?;
        let before = &header.before;
        let follows = self.chain_known
            && before.number == self.chain.number
            && before.last == self.chain.last
            && (!self.crc_known || before.crc == self.chain.crc);
        follows.then_some(*header)
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

    /// Frames beyond this place that are newer than the last one, by their headers.
    fn newer_frames(&self) -> impl Iterator<Item = Header> + '_ {
        self.files.walks_from(self.segment).flat_map(move |walk| {
            let mut from = match walk.segment == self.segment {
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

    /// Segments beyond this place that were begun after the last frame.
    fn newer_segments(&self) -> impl Iterator<Item = &SegmentHeader> {
        let beyond = self.files.headers.range(self.segment.next()..);
        beyond.map(|(_, header)| header).filter(|header| {
            !self.chain_known
                || (header.before.number >= self.chain.number && header.flush > self.flush)
        })
    }

    fn first_newer(&self) -> Next {
        let segment = self.newer_segments().next().copied();
        match (self.newer_frames().next(), segment) {
            (Some(frame), Some(header)) if header.segment <= frame.segment => Next::Segment(header),
            (Some(frame), _) => Next::Frame(frame),
            (None, Some(header)) => Next::Segment(header),
            (None, None) => Next::Nothing,
        }
    }

    /// What the newest flush proves, if there is anything from here on.
    fn beyond(&mut self, next: Next) -> Beyond {
        if matches!(next, Next::Nothing) {
            self.newest.get_or_insert(None);
            return Beyond::Nothing;
        }
        let newest = match self.newest {
            Some(newest) => newest,
            None => {
                let frames = self.newer_frames().map(|header| Newest {
                    flush: header.flush,
                    first: header.flush_first(),
                });
                let segments = self.newer_segments().map(|header| Newest {
                    flush: header.flush,
                    first: header.before.number + 1,
                });
                frames.chain(segments).max()
            }
        };
        self.newest = Some(newest);
        let covers = newest.is_some_and(|newest| newest.first <= self.chain.number + 1);
        // A flush that alone proves damage before it is not cut, or the damage would pass for a tear
        // at the next start: what is missing of it counts as damage, too.
        match covers && self.chain_known && self.damage_is_proved() {
            true => Beyond::SameFlush,
            false => Beyond::LaterFlush,
        }
    }

    /// Whether a segment is absent between the last frame and what follows, or, if nothing does, the
    /// last file: files are created in order.
    fn segment_missing(&self, next: Next) -> bool {
        let upto = match next {
            Next::Frame(header) => header.segment,
            Next::Segment(header) => header.segment,
            Next::Nothing if self.tail_gap_reported => return false,
            Next::Nothing => self.files.last(),
        };
        let from = self.segment.next();
        let present = match from <= upto {
            true => self.files.segments.range(from..=upto).count() as u64,
            false => return false,
        };
        present < upto.0 - self.segment.0
    }

    /// What bytes lie behind the last frame, where no frame of this log does.
    fn blank_or_not(&self) -> Here {
        let block = round_up(self.offset, BLOCK_BYTES);
        let bytes = self.files.bytes(self.segment);
        let padding = bytes.get(self.offset..block).unwrap_or(&[]);
        if !is_zero(padding) || !self.files.untouched_from(self.segment.next()) {
            return Here::Garbage;
        }
        match self.files.walk(self.segment).map(|walk| walk.header(block)) {
            Some(Err(FrameError::Stale { .. })) => Here::Stale,
            _ if self.files.zero_from(self.segment) <= block => Here::Zero,
            _ => Here::Garbage,
        }
    }

    /// Takes the frame that this header begins.
    pub(super) fn take(&mut self, header: Header) {
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
        let marker = (kind == Kind::Clean).then_some(Marker {
            offset: header.offset as usize,
            before: self.chain,
            erasable: self.damage_is_proved(),
        });
        self.advance(header);
        self.crc_known = true;
        self.marker = marker;
    }

    /// Whether the frames up to here prove, without what lies beyond, that the damage before them is no
    /// tear: the last one's flush began behind it.
    fn damage_is_proved(&self) -> bool {
        self.damaged_upto == 0 || self.damaged_upto < self.flush_first
    }

    /// Goes behind a frame whose payload is lost but whose header is good.
    pub(super) fn step_over(&mut self, header: Header) {
        self.damaged_upto = header.number;
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
        self.flush_first = header.flush_first();
        self.index_in_flush = header.index;
        self.segment = header.segment;
        self.offset = header.offset as usize + header.frame_bytes();
        self.resumed = false;
        self.marker = None;
    }

    /// Makes this frame the next one, behind damage that was reported.
    pub(super) fn go_on_at(&mut self, header: Header) {
        self.enter(header.segment);
        self.chain.move_to(&header.before());
        self.chain_known = true;
        self.crc_known = true;
        self.flush = header.flush - u64::from(header.index == 0);
        self.index_in_flush = header.index.saturating_sub(1);
        self.segment = header.segment;
        self.offset = header.offset as usize;
        self.resumed = true;
        self.marker = None;
    }

    /// Goes behind a segment's header.
    pub(super) fn begin(&mut self, header: SegmentHeader) {
        self.enter(header.segment);
        self.chain.move_to(&header.before);
        self.chain_known = true;
        self.crc_known = true;
        self.flush = header.flush - 1;
        self.index_in_flush = 0;
        self.segment = header.segment;
        self.offset = BLOCK_BYTES as usize;
        self.resumed = false;
        self.marker = None;
    }

    fn enter(&mut self, segment: SegmentNumber) {
        if self
            .written
            .last()
            .is_some_and(|last| last.number == segment)
        {
            return;
        }
        self.written.push(Written::new(segment));
    }

    /// Notes that the current segment holds a record of this slot.
    fn mark(&mut self, slot: u64) {
        if let Some(segment) = self.written.last_mut() {
            segment.slot_max = segment.slot_max.max(slot);
        }
    }

    /// Reports what lies between the last frame and `next`, a point of the chain in `segment`.
    pub(super) fn report_gap(&mut self, row: Row, segment: SegmentNumber, next: &Chain) {
        self.damaged_upto = next.number;
        let lost = match self.chain_known {
            true => next.number.saturating_sub(self.chain.number),
            false => 0,
        };
        match next.last {
            Some(last) if lost > 0 => {
                if lost > 1 {
                    self.report(row, Lost::Unknown { records: lost - 1 });
                }
                self.report(row, Lost::Record(last));
            }
            _ => self.report(row, Lost::Unknown { records: lost }),
        }
        // The hole may reach into the segment where the log goes on.
        let lost_max = self.written.last().map_or(0, |segment| segment.slot_max);
        self.enter(segment);
        self.mark(lost_max);
    }

    pub(super) fn report(&mut self, row: Row, lost: Lost) {
        if matches!(row, Row::BadSegmentHeader | Row::ChainBroken) {
            self.damaged_upto = self.chain.number + 1;
        }
        match lost {
            Lost::Unknown { .. } => self.mark(u64::MAX),
            Lost::Record(name) if name.kind == Kind::Accepted => {
                self.mark(name.slot);
                let older = self.index.locate(name.slot);
                if older.is_some_and(|location| location.ballot <= name.ballot) {
                    self.index.remove(name.slot);
                }
            }
            // Its name says all that it held.
            Lost::Record(name) if name.kind == Kind::Chosen => {
                self.chain.chosen_upto = self.chain.chosen_upto.max(name.slot);
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

    /// The log ends here.
    pub(super) fn finish(mut self, tail: Row) -> Result<Recovery, RecoveryError> {
        let marker = self.marker.filter(|marker| marker.erasable);
        if let Some(marker) = marker {
            // It says that nothing follows: it goes before anything does.
            (self.offset, self.chain) = (marker.offset, marker.before);
        }
        let (segment, offset) = self.end()?;
        self.settle_damage();
        let repairs = self.repairs(segment);
        let newest = self.newest.flatten().map_or(0, |newest| newest.flush);
        let flush = self.flush.max(newest).max(self.files.flush_max());
        Ok(Recovery {
            identity: self.files.identity,
            promised: self.chain.promised,
            chosen_upto: self.chain.chosen_upto,
            index: self.index,
            end: End {
                segment,
                offset,
                chain: self.chain,
                flush,
            },
            tail,
            clean: tail == Row::CleanStop && marker.is_some(),
            damage: self.damage,
            damage_unlisted: self.damage_unlisted,
            repairs,
            frames: self.frames,
            written: self.written,
            oldest: self.oldest,
            free: (self.files.segments.range(..self.oldest))
                .map(|(number, _)| *number)
                .collect(),
            ready: std::iter::successors(Some(segment.next()), |number| Some(number.next()))
                .take_while(|number| self.files.segments.contains_key(number))
                .collect(),
        })
    }

    /// Where the log goes on: at the next block, or at the start of a segment without any frame.
    fn end(&self) -> Result<(SegmentNumber, u32), RecoveryError> {
        let (segment, offset) = if self.tail_gap_reported {
            // A lost segment must stay a gap, or the next start would not see the loss.
            (self.files.last(), 0)
        } else if self.segment < self.oldest {
            (self.oldest, 0)
        } else {
            (self.segment, round_up(self.offset, BLOCK_BYTES))
        };
        if !self.chain_known || !self.files.segments.contains_key(&segment) {
            return Err(RecoveryError::Unreadable { segment });
        }
        Ok((segment, u32::try_from(offset).expect("at most 2^30")))
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

    /// A sync of the directory; zeros over everything beyond the end that could be read as a frame or a
    /// segment's header, then a sync of each segment written to and of the one that the log ends in.
    fn repairs(&self, end: SegmentNumber) -> Vec<Repair> {
        let mut repairs = vec![Repair::SyncDirectory];
        for walk in self.files.walks_from(end) {
            let segment = walk.segment;
            let cut = match segment == self.segment {
                true => self.offset,
                false => 0,
            };
            let dirty = self.left_behind(walk, cut);
            let dirty = dirty.filter(|_| !planted(Bug::TearNotRepaired));
            if let Some((start, end)) = dirty {
                let mut bytes = walk.bytes[start..end].to_vec();
                // Good frames in front of the cut share its first block only with their own flush.
                bytes[cut.saturating_sub(start)..].fill(0);
                repairs.push(Repair::Write {
                    segment,
                    offset: start as u64,
                    bytes,
                });
            }
            if dirty.is_some() || segment == end && !planted(Bug::SeenIsDurable) {
                repairs.push(Repair::Sync { segment });
            }
        }
        repairs
    }

    /// The blocks behind the cut from the first to the last with something that could be read.
    fn left_behind(&self, walk: Walk<'_>, cut: usize) -> Option<(usize, usize)> {
        let block = BLOCK_BYTES as usize;
        let headed = cut == 0 && self.files.headers.contains_key(&walk.segment);
        let mut dirty = headed.then_some((0, block));
        let mut from = cut.max(block);
        while let Some(header) = walk.seek(from, |_| true) {
            let offset = header.offset as usize;
            from = offset + HEADER_BYTES;
            let start = dirty.map_or(offset - offset % block, |(start, _)| start);
            dirty = Some((start, round_up(from, BLOCK_BYTES)));
        }
        dirty
    }
}
