//! Looking up what took effect (skeleton).

use super::block::BlockError;
use super::{BlockRef, Store};

/// Blocks that one read of a look-up asks for at most.
pub const LOOKUP_BLOCKS_MAX: u32 = 4;

/// Consecutive blocks of one file, to be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRun {
    pub first: BlockRef,
    /// At least 1, at most [`LOOKUP_BLOCKS_MAX`].
    pub blocks: u32,
}

/// One look-up by fingerprint, newest file first.
#[derive(Debug)]
pub struct Lookup {}

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
    /// The history file that holds it, which also holds its context.
    pub number: u64,
    pub row: &'a [u8],
}

impl Lookup {
    /// Looks for rows with this fingerprint in files whose range of keys includes `key`. Reads nothing yet.
    #[must_use]
    pub fn new(_fingerprint: u64, _key: u128) -> Self {
        unimplemented!()
    }

    /// What to read next. Asked again without feeding, it says the same. A file that was dropped meanwhile is passed over.
    pub fn step(&mut self, _store: &Store) -> LookupStep {
        unimplemented!()
    }

    /// Takes the blocks that [`Lookup::step`] asked for, and yields a candidate if they hold one.
    /// Call `step` again in any case, unless the candidate is the row.
    ///
    /// # Errors
    /// The block that is not what was written. The look-up stays where it is: repair the block, and
    /// feed it again.
    pub fn feed<'a>(
        &mut self,
        _store: &mut Store,
        _bytes: &'a [u8],
    ) -> Result<Option<Candidate<'a>>, (BlockRef, BlockError)> {
        unimplemented!()
    }
}
