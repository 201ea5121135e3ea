//! A walk over all account rows, a few blocks at a time, while the store is written: the caller reads.
//!
//! Files are taken in the order of their numbers, those that are published meanwhile included; one that is
//! dropped is passed over. Which of an account's rows is the newest is for the index to say.

use super::block::{BlockError, Section};
use super::damage::Damage;
use super::lookup::BlockRun;
use super::name::{FileId, FileKind};
use super::places::Place;
use super::state::Store;
use crate::BLOCK_BYTES;

/// Blocks that are asked for at once.
const BLOCKS_MAX: u32 = 64;

/// A walk under way.
#[derive(Debug)]
pub struct RowWalk {
    /// The file that is read, and its next block of rows.
    number: u64,
    next: u32,
}

impl RowWalk {
    /// Begins at the oldest row.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        let first = store.account_files().next();
        Self {
            number: first.map_or(0, |file| file.number),
            next: 0,
        }
    }

    /// What to read next; `None` at the end. Asked again without feeding, it says the same, unless files
    /// have come or gone.
    pub fn wanted(&mut self, store: &Store) -> Option<BlockRun> {
        loop {
            if let Some(footer) = store.footers.get(&accounts(self.number)) {
                let extent = footer.section(Section::AccountRows);
                if self.next < extent.blocks {
                    return Some(BlockRun {
                        first: footer.place(extent.first + self.next),
                        blocks: (extent.blocks - self.next).min(BLOCKS_MAX),
                    });
                }
            }
            let mut files = store.account_files().map(|file| file.number);
            self.number = files.find(|number| *number > self.number)?;
            self.next = 0;
        }
    }

    /// Takes the blocks that were wanted.
    ///
    /// # Errors
    /// The block that is not what was written; the rows before it were handed over.
    pub fn feed(
        &mut self,
        store: &Store,
        bytes: &[u8],
        mut each: impl FnMut(Place, &[u8]),
    ) -> Result<(), Damage> {
        for block in bytes.chunks(BLOCK_BYTES as usize) {
            let file = accounts(self.number);
            let Some(footer) = store.footers.get(&file) else {
                // Dropped while it was read.
                return Ok(());
            };
            let place = footer.place(footer.section(Section::AccountRows).first + self.next);
            let first = u64::from(self.next) * Section::AccountRows.rows_per_block() as u64;
            let first = u32::try_from(first).expect("a section has at most 2^30 rows");
            let damaged = |error| Damage::Block { place, error };
            let rows = store.block(place, block).map_err(damaged)?;
            for (row, bytes) in (first..).zip(rows.chunks(Section::AccountRows.row_bytes())) {
                let at = store.places.place(self.number, row);
                each(at.ok_or(damaged(BlockError::Absent))?, bytes);
            }
            self.next += 1;
        }
        Ok(())
    }
}

fn accounts(number: u64) -> FileId {
    FileId {
        kind: FileKind::Accounts,
        number,
    }
}
