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
//!   flush of which a frame or a segment header is found beyond the hole. If `f <= n + 1`, all that can be missing belongs to that
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
//!   drive's cache. So the last repair is always a sync of the segment that the log ends in. The same
//!   holds for names: a segment that was renamed just before may be seen and lose its name in the next
//!   power cut, with everything flushed into it since. So the first repair is always a sync of the
//!   directory (`a_name_that_was_seen_is_made_durable_before_it_is_built_upon`).
//!
//! - *The end marker* is a flush of its own, so it proves that everything before it was durable. The
//!   repair erases it: a log that is open has no marker, and what follows takes its number and place.
//!   It is the one durable block that is rewritten, and it carries nothing. Only a marker that is the
//!   sole proof against a damaged flush before it stays, as one more frame of the chain.
//!
//! - *Damage does not heal by restarting.* It is reported again at every start, for as long as the
//!   segment exists. If only the newest flush proves that damage before it is no tear, that flush is
//!   not cut: what is missing of it is reported as damage, too.
//!
//! Rot of exactly the newest flush looks like a tear, or, if it turned into zeros, like nothing at all.
//! Only [`Recovery::clean`] excludes it.

use std::collections::BTreeMap;

use thiserror::Error;

use super::Written;
use super::index::Index;
use super::record::{Kind, Name};
use super::scan::{Next, Scan};
use super::segment::{Chain, SegmentNumber};
use super::table::{Row, classify};
use crate::superblock::{Identity, IdentityError};

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
    /// The log was closed in order and its last flush is whole. Otherwise the last flush may be lost
    /// without a trace.
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
    /// Sync the directory itself.
    SyncDirectory,
}

/// All that the damage of a log cost its replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Losses {
    /// These accepted records, ascending by slot, each slot once, under the highest ballot lost.
    Records(Vec<LostRecord>),
    /// Records of which nothing is known.
    Unknown,
}

/// An accepted record that was durable and is gone, but for its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecord {
    pub slot: u64,
    pub ballot: u64,
}

/// Why the log cannot be opened at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecoveryError {
    /// Formatting creates the first segment before the superblock, so this is no new directory.
    #[error("no log segment in a formatted directory")]
    NoSegments,
    #[error("{segment} cannot be a segment of a log")]
    Number { segment: SegmentNumber },
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
    /// Segments before the first file may have held records: no header says that they were free.
    #[error("the first file is {segment}, and no header says that nothing before it is needed")]
    Beginning { segment: SegmentNumber },
    /// The log does not begin at the beginning, and nothing says where it does.
    #[error("no frame is readable from {segment} on")]
    Unreadable { segment: SegmentNumber },
}

/// What the log makes of one of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentUse {
    /// Not needed any more: it will be recycled.
    Free,
    /// Part of the log.
    Written,
    /// Behind the end of the log, without anything that counts.
    Ready,
}

impl Recovery {
    /// What the log makes of a segment.
    #[must_use]
    pub fn used(&self, segment: SegmentNumber) -> SegmentUse {
        if segment < self.oldest {
            SegmentUse::Free
        } else if segment <= self.end.segment {
            SegmentUse::Written
        } else {
            SegmentUse::Ready
        }
    }

    /// What the damage means for the replica, all in all.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let mut records = BTreeMap::new();
        for damage in &self.damage {
            match damage.harm() {
                Harm::Nothing => {}
                Harm::Slot { slot, ballot } => {
                    let highest = records.entry(slot).or_insert(ballot);
                    *highest = ballot.max(*highest);
                }
                Harm::Replica => return Losses::Unknown,
            }
        }
        if self.damage_unlisted > 0 {
            return Losses::Unknown;
        }
        let records = records.into_iter();
        Losses::Records(
            records
                .map(|(slot, ballot)| LostRecord { slot, ballot })
                .collect(),
        )
    }
}

impl Damage {
    /// What it means for the replica. A lost promise or watermark means nothing: the promise is
    /// repeated by every frame, the watermark is a hint.
    #[must_use]
    pub fn harm(&self) -> Harm {
        match self.lost {
            Lost::Nothing | Lost::Superseded(_) => Harm::Nothing,
            // A slot that is not believed names nothing.
            Lost::Record(_) if self.row == Row::WildSlot => Harm::Replica,
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
        let (seen, next) = scan.look();
        let row = classify(&seen);
        match (row, next) {
            (Row::NextRecord | Row::DuplicateSlot | Row::LowerDuplicate, Next::Frame(header)) => {
                scan.take(header);
            }
            (Row::NextSegment, Next::Segment(header)) => scan.begin(header),
            (Row::PromiseBelowBallot, Next::Frame(header)) => {
                scan.report(row, Lost::Unknown { records: 1 });
                scan.take(header);
            }
            (Row::WildSlot, Next::Frame(header)) => {
                scan.report(row, Lost::Record(header.name));
                scan.take(header);
            }
            (Row::CorruptPayload, Next::Frame(header)) => {
                scan.report(row, Lost::Record(header.name));
                scan.step_over(header);
            }
            (Row::BadSegmentHeader, Next::Frame(header)) => {
                scan.report(row, Lost::Nothing);
                scan.go_on_at(header);
            }
            (Row::ChainBroken, Next::Frame(header)) => {
                scan.report(row, Lost::Unknown { records: 0 });
                scan.go_on_at(header);
            }
            (Row::CorruptMiddle | Row::MissingSegment, Next::Frame(header)) => {
                scan.report_gap(row, header.segment, &header.before());
                scan.go_on_at(header);
            }
            (Row::CorruptMiddle | Row::MissingSegment, Next::Segment(header)) => {
                scan.report_gap(row, header.segment, &header.before);
                scan.begin(header);
            }
            (Row::MissingSegment, Next::Nothing) => {
                scan.report(row, Lost::Unknown { records: 0 });
                scan.tail_gap_reported = true;
            }
            (Row::TornTail | Row::CleanStop | Row::CleanEnd | Row::StaleBlock, _) => {
                return scan.finish(row);
            }
            (
                Row::NextRecord
                | Row::DuplicateSlot
                | Row::LowerDuplicate
                | Row::NextSegment
                | Row::PromiseBelowBallot
                | Row::WildSlot
                | Row::ChainBroken
                | Row::BadSegmentHeader
                | Row::CorruptPayload
                | Row::CorruptMiddle,
                _,
            ) => unreachable!("{row:?} comes with what it is about"),
        }
    }
}
