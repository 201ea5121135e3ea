//! One round over all blocks of a store's published files: what is not what was written is named, so that it is
//! repaired while a peer still can. How fast, and by what reads, is the shell's.

use std::collections::VecDeque;

use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::{BlockRef, BlockRun, FileId, Store};

/// Blocks of one read: what comes behind it waits for some 50 us.
pub const BLOCKS_AT_ONCE: u32 = 16;

/// A round on its way.
#[derive(Debug)]
pub struct Round {
    /// As of its beginning, with their numbers of blocks: what is published later comes in the next round.
    files: VecDeque<(FileId, u32)>,
    /// Of the first file.
    next: u32,
}

impl Round {
    /// Begins; reads nothing.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self {
            files: store.files().collect(),
            next: 0,
        }
    }

    /// What to read next, without what was dropped meanwhile. Each run is said once. `None`: the round is over.
    pub fn next_run(&mut self, store: &Store) -> Option<BlockRun> {
        loop {
            let (file, blocks) = *self.files.front()?;
            if self.next == blocks || !store.has(file) {
                let skipped = if planted(Bug::ScrubberSkipsFile) {
                    2
                } else {
                    1
                };
                self.files.drain(..skipped.min(self.files.len()));
                self.next = 0;
                continue;
            }
            let first = BlockRef {
                file,
                block: self.next,
            };
            let blocks = (blocks - self.next).min(BLOCKS_AT_ONCE);
            self.next += blocks;
            return Some(BlockRun { first, blocks });
        }
    }
}

/// The blocks of a run that are not what was written; `None`: its bytes cannot be had at all.
#[must_use]
pub fn damaged(store: &Store, run: BlockRun, bytes: Option<&[u8]>) -> Vec<BlockRef> {
    let BlockRef { file, block } = run.first;
    let is_whole = |index: u32| {
        let at = index as usize * BLOCK_BYTES as usize;
        let bytes = bytes.and_then(|bytes| bytes.get(at..at + BLOCK_BYTES as usize));
        bytes.is_some_and(|bytes| {
            let checked = store.check_block(file.kind, file.number, block + index, bytes);
            checked.is_ok()
        })
    };
    let damaged = (0..run.blocks).filter(|index| !is_whole(*index));
    damaged
        .map(|index| BlockRef {
            file,
            block: block + index,
        })
        .collect()
}
