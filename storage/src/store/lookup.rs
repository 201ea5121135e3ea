//! One look-up of what took effect, by fingerprint, as a state machine: it says which blocks to read, is
//! fed their bytes, and yields the rows that have the fingerprint.
//!
//! | state | reads | then |
//! | --- | --- | --- |
//! | `Next` | nothing | the next older file whose range of keys includes the key and whose filter does not deny the fingerprint; none: done |
//! | `Offsets` | a block of offsets, if it was damaged at the last look | `Bucket` |
//! | `Bucket` | the bucket's blocks, from its end back, a few at a time | rows with the fingerprint: `Row`; no more: `Next` |
//! | `Row` | the row's block | yields it; then `Row` or `Bucket` |
//!
//! Newest first: by file, and within a file by row. Of the files that do not have the fingerprint one in 200 is
//! read, and those whose filter is not in memory; one read finds that a bucket does not have it, a second one has
//! the row. A look-up sees the files that were published when it comes to
//! them; what is published later lies, for as long as the look-up was begun before, in the caller's memory.

use std::collections::VecDeque;

use super::block::{BlockError, BlockRef, ENTRY_BYTES, Section};
use super::buckets::bucket_of;
use super::history::HistoryFile;
use super::name::{FileId, FileKind};
use super::state::Store;
use crate::BLOCK_BYTES;
use crate::bytes::{u32_at, u64_at};
use crate::planted::{Bug, planted};

/// Blocks that one read of a look-up asks for at most: a bucket of 256 rows lies in two at most.
pub const LOOKUP_BLOCKS_MAX: u32 = 4;

/// Consecutive blocks of one file, to be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRun {
    pub first: BlockRef,
    /// At least 1. Of a look-up at most [`LOOKUP_BLOCKS_MAX`], of a compaction [`super::MOVE_BLOCKS_MAX`].
    pub blocks: u32,
}

/// What a look-up wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupStep {
    /// These blocks, given to [`Lookup::feed`].
    Read(BlockRun),
    /// No further row has this fingerprint.
    Done,
}

/// A row with the fingerprint looked for; whether it is the one is for the caller to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Among all history rows of the shard's life, from 1.
    pub position: u64,
    /// Number of the history file that holds it, and its context.
    pub number: u64,
    /// [`super::HISTORY_ROW_BYTES`] bytes.
    pub row: &'a [u8],
}

/// One look-up by fingerprint, newest file first.
#[derive(Clone, Debug)]
pub struct Lookup {
    fingerprint: u64,
    key: u128,
    /// Files with a lower number are still to be looked at.
    below: u64,
    state: State,
    /// Rows of file `below` that have the fingerprint and were not yielded, newest first. At most what
    /// one read holds.
    matches: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Next,
    /// In file `below`. The entry range is known except for what is `None`.
    Offsets {
        begin: Option<u32>,
        end: Option<u32>,
    },
    /// Entries `begin..end` of file `below` are still to be read.
    Bucket {
        begin: u32,
        end: u32,
    },
}

impl Lookup {
    /// Looks for rows with this fingerprint in files whose range of keys includes `key`. Reads nothing
    /// yet.
    #[must_use]
    pub fn new(fingerprint: u64, key: u128) -> Self {
        Self {
            fingerprint,
            key,
            below: u64::MAX,
            state: State::Next,
            matches: VecDeque::new(),
        }
    }

    /// What to read next. Asked again without feeding, it says the same. A file that was dropped
    /// meanwhile is passed over.
    pub fn step(&mut self, store: &Store) -> LookupStep {
        loop {
            if self.state == State::Next {
                let Some(file) = store
                    .history
                    .newest_below(self.below, self.key, self.fingerprint)
                else {
                    return LookupStep::Done;
                };
                if self.below != u64::MAX && planted(Bug::LookUpNewestOnly) {
                    return LookupStep::Done;
                }
                self.below = file.footer.file.number;
                self.state = match file.bucket(self.bucket(file)) {
                    Ok((begin, end)) => State::Bucket { begin, end },
                    Err(_) => State::Offsets {
                        begin: None,
                        end: None,
                    },
                };
            }
            match store.history.file(self.below).map(|file| self.run(file)) {
                Some(Some(run)) => return LookupStep::Read(run),
                Some(None) | None => self.leave(),
            }
        }
    }

    /// Takes the blocks that [`Lookup::step`] asked for, and yields a candidate if they hold one. Call
    /// `step` again in any case, unless the candidate is the row that was looked for.
    ///
    /// # Errors
    /// The block that is not what was written. The look-up stays where it is: repair the block, and feed
    /// it again.
    ///
    /// # Panics
    /// If `step` did not ask for blocks.
    pub fn feed<'a>(
        &mut self,
        store: &Store,
        bytes: &'a [u8],
    ) -> Result<Option<Candidate<'a>>, (BlockRef, BlockError)> {
        assert_ne!(self.state, State::Next, "nothing was asked for");
        let Some(file) = store.history.file(self.below) else {
            // Dropped while it was read: nothing in it is wanted any more.
            self.leave();
            return Ok(None);
        };
        let run = self.run(file).expect("step asked for blocks");
        if bytes.len() != run.blocks as usize * BLOCK_BYTES as usize {
            let found = bytes.len();
            return Err((run.first, BlockError::Length { found }));
        }
        if !self.matches.is_empty() {
            return self.feed_row(store, file, run, bytes).map(Some);
        }
        match self.state {
            State::Next => unreachable!("asserted above"),
            State::Offsets { .. } => self.feed_offsets(store, file, run, bytes)?,
            State::Bucket { begin, end } => {
                self.feed_bucket(store, file, run, bytes, (begin, end))?;
            }
        }
        Ok(None)
    }

    fn leave(&mut self) {
        self.state = State::Next;
        self.matches.clear();
    }

    fn bucket(&self, file: &HistoryFile) -> usize {
        bucket_of(self.fingerprint, file.bits)
    }

    /// The blocks to read in this file; `None` if it has nothing more.
    fn run(&self, file: &HistoryFile) -> Option<BlockRun> {
        if let Some(row) = self.matches.front() {
            let at = file.footer.locate(Section::HistoryRows, u64::from(*row));
            return Some(BlockRun {
                first: at.expect("rows of matches are the file's").place,
                blocks: 1,
            });
        }
        match self.state {
            State::Next => None,
            State::Offsets { begin, .. } => {
                let offset = self.bucket(file) + usize::from(begin.is_some());
                let at = file.footer.locate(Section::Offsets, offset as u64);
                Some(BlockRun {
                    first: at.expect("a bucket has two offsets").place,
                    blocks: 1,
                })
            }
            State::Bucket { begin, end } => {
                let last = end.checked_sub(1).filter(|last| *last >= begin)?;
                let block = |entry: u32| {
                    let at = file.footer.locate(Section::Buckets, u64::from(entry));
                    at.expect("entries up to the rows of the file").place
                };
                let (first, last) = (block(begin), block(last));
                let from = first
                    .block
                    .max((last.block + 1).saturating_sub(LOOKUP_BLOCKS_MAX));
                Some(BlockRun {
                    first: file.footer.place(from),
                    blocks: last.block - from + 1,
                })
            }
        }
    }

    fn feed_offsets(
        &mut self,
        store: &Store,
        file: &HistoryFile,
        run: BlockRun,
        bytes: &[u8],
    ) -> Result<(), (BlockRef, BlockError)> {
        let State::Offsets { begin, end } = self.state else {
            unreachable!("called in this state");
        };
        let rows = rows_of(store, run.first, bytes)?;
        let bucket = self.bucket(file);
        let read = |offset: usize| {
            let at = file.footer.locate(Section::Offsets, offset as u64)?;
            (at.place == run.first).then(|| u32_at(rows, at.at))
        };
        let begin = begin.or_else(|| read(bucket));
        let end = end.or_else(|| read(bucket + 1));
        self.state = match (begin, end) {
            (Some(begin), Some(end)) if begin > end || u64::from(end) > file.rows() => {
                let field = "offsets";
                let found = u64::from(end);
                return Err((run.first, BlockError::Field { field, found }));
            }
            (Some(begin), Some(end)) => State::Bucket { begin, end },
            (begin, end) => State::Offsets { begin, end },
        };
        Ok(())
    }

    /// Collects the entries of the run that have the fingerprint, from the last one back.
    fn feed_bucket(
        &mut self,
        store: &Store,
        file: &HistoryFile,
        run: BlockRun,
        bytes: &[u8],
        (begin, mut end): (u32, u32),
    ) -> Result<(), (BlockRef, BlockError)> {
        let section = file.footer.section(Section::Buckets);
        let per_block = u32::try_from(Section::Buckets.rows_per_block()).expect("some hundred");
        let mut found = VecDeque::new();
        for index in (0..run.blocks).rev() {
            let place = file.footer.place(run.first.block + index);
            let block = &bytes[index as usize * BLOCK_BYTES as usize..][..BLOCK_BYTES as usize];
            let rows = rows_of(store, place, block)?;
            let block_first = (place.block - section.first) * per_block;
            while end > begin.max(block_first) {
                end -= 1;
                let at = (end - block_first) as usize * ENTRY_BYTES;
                if u64_at(rows, at) != self.fingerprint {
                    continue;
                }
                let row = u32_at(rows, at + 8);
                if u64::from(row) >= file.rows() {
                    let (field, found) = ("row", u64::from(row));
                    return Err((place, BlockError::Field { field, found }));
                }
                found.push_back(row);
            }
        }
        self.matches = found;
        self.state = State::Bucket { begin, end };
        Ok(())
    }

    fn feed_row<'a>(
        &mut self,
        store: &Store,
        file: &HistoryFile,
        run: BlockRun,
        bytes: &'a [u8],
    ) -> Result<Candidate<'a>, (BlockRef, BlockError)> {
        let row = u64::from(*self.matches.front().expect("called with a match"));
        let at = file.footer.locate(Section::HistoryRows, row);
        let at = at.expect("rows of matches are the file's");
        let found = store.row(&at, bytes).map_err(|error| (run.first, error))?;
        self.matches.pop_front();
        Ok(Candidate {
            position: file.footer.base + row,
            number: file.footer.file.number,
            row: found,
        })
    }
}

fn rows_of<'a>(
    store: &Store,
    place: BlockRef,
    bytes: &'a [u8],
) -> Result<&'a [u8], (BlockRef, BlockError)> {
    let FileId { kind, .. } = place.file;
    assert_eq!(kind, FileKind::History);
    store.block(place, bytes).map_err(|error| (place, error))
}
