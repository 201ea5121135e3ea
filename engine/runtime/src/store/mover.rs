//! Rows that a checkpoint moves out of older files: blocks are read far ahead, and fed a piece at a time.
//!
//! ```text
//! step (the core's task)    Read(run) -> in what was read ahead? -> feed
//!                                     -> else wanted ------------> mover: read from there on, feed the first piece
//! ```
//!
//! A read is fed some two turns of the loop after it was wanted, however long these take ([`crate::pace`]).

use std::ops::Range;

use glommio::io::ReadResult;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRef, BlockRun, Damage};

use super::Shared;
use crate::fatal::{Fatal, end_process};

const BLOCK: usize = BLOCK_BYTES as usize;

/// Blocks of one file, one behind the other.
pub(super) struct Ahead {
    first: BlockRef,
    bytes: ReadResult,
}

/// Where a run lies in blocks that begin at `first`, in bytes; `None` if before.
fn place_of(run: BlockRun, first: BlockRef) -> Option<Range<usize>> {
    let before = run.first.block.checked_sub(first.block)? as usize;
    let is_same = run.first.file == first.file;
    is_same.then(|| before * BLOCK..(before + run.blocks as usize) * BLOCK)
}

impl Shared {
    /// Gives the keeper the blocks that it asked for, if they were read; they are read again if they are damaged.
    pub(super) fn feed_moved(&self, run: BlockRun) -> Option<Result<(), Damage>> {
        let mut ahead = self.ahead.borrow_mut();
        let fed = {
            let ahead = ahead.as_ref()?;
            let bytes = ahead.bytes.get(place_of(run, ahead.first)?)?;
            self.keeper.borrow_mut().feed(bytes)
        };
        if fed.is_err() {
            *ahead = None;
        }
        self.write_wanted.set();
        Some(fed)
    }

    pub(super) async fn move_for_ever(&self) {
        loop {
            let damage = self.damage_moved.borrow_mut().take();
            if let Some(damage) = damage
                && !self.mend_damage(damage).await
            {
                // It was reported: this store is not gone on with.
                return;
            }
            let Some(run) = self.moving.borrow_mut().take() else {
                self.move_wanted.wait().await;
                continue;
            };
            let read = match self.read_from(run).await {
                Ok(read) => read,
                Err(fault) => end_process(&fault),
            };
            let Some(bytes) = read else {
                return self.damaged(run.first, "is gone");
            };
            let first = run.first;
            *self.ahead.borrow_mut() = Some(Ahead { first, bytes });
            let fed = self.feed_moved(run).expect("it was read");
            *self.damage_moved.borrow_mut() = fed.err();
            self.inbox.nudge();
        }
    }

    /// The run, and what follows in its file if that can be read: what nobody asked for is no reason to do without
    /// what somebody did.
    async fn read_from(&self, run: BlockRun) -> Result<Option<ReadResult>, Fatal> {
        let ahead = self.ahead_of(run);
        if ahead.blocks > run.blocks
            && let Ok(Some(read)) = self.read(ahead).await
        {
            return Ok(Some(read));
        }
        self.read(run).await
    }

    fn ahead_of(&self, run: BlockRun) -> BlockRun {
        let keeper = self.keeper.borrow();
        let file = keeper.store().manifest().find(run.first.file);
        let left = file.map_or(0, |file| file.blocks.saturating_sub(run.first.block));
        let wanted = u32::try_from(self.ahead_bytes.get() / BLOCK).expect("some megabytes");
        BlockRun {
            blocks: wanted.min(left).max(run.blocks),
            ..run
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::store::{FileId, FileKind};

    use super::*;

    #[test]
    fn a_run_is_found_in_what_was_read_of_its_file() {
        let at = |number, block| BlockRef {
            file: FileId {
                kind: FileKind::Accounts,
                number,
            },
            block,
        };
        let run = |number, block| BlockRun {
            first: at(number, block),
            blocks: 16,
        };
        assert_eq!(place_of(run(3, 40), at(3, 40)), Some(0..16 * BLOCK));
        assert_eq!(
            place_of(run(3, 56), at(3, 40)),
            Some(16 * BLOCK..32 * BLOCK)
        );
        assert_eq!(place_of(run(3, 39), at(3, 40)), None);
        assert_eq!(place_of(run(4, 56), at(3, 40)), None);
    }
}
