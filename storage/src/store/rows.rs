//! Reading a store: where each row of the published files lies, and the rows of blocks that the caller read
//! from there.
//!
//! Nothing is read here: a place goes out, the block's bytes come in, and are checked before a row of them
//! is handed on. A repaired block is written to its place by the shell, once [`Store::check_block`] agrees with
//! it.

use super::block::{BlockError, BlockRef, Section};
#[cfg(doc)]
use super::filter::FILTER_BYTES_MAX;
use super::footer::RowAt;
use super::name::{FileId, FileKind};
use super::places::Place;
use super::state::Store;

/// What lies in one accounts file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountFile {
    pub number: u64,
    pub rows: u64,
    /// Rows that are the newest of their account.
    pub live: u64,
}

impl Store {
    /// Where an account row lies: of a published checkpoint, or one that the running checkpoint has moved, which
    /// is read from where it lay before. `None` if it is a row of the running checkpoint itself, or its file was
    /// dropped.
    #[must_use]
    pub fn locate_account(&self, place: Place) -> Option<RowAt> {
        let (number, row) = self.places.locate(self.readable(place))?;
        let kind = FileKind::Accounts;
        let footer = self.footers.get(&FileId { kind, number })?;
        footer.locate(Section::AccountRows, u64::from(row))
    }

    /// Where the row of a place can be read now: one that is being moved, at its old place until its new one is
    /// published.
    #[must_use]
    pub fn readable(&self, place: Place) -> Place {
        let running = self.running.as_ref();
        let moved = running.and_then(|running| running.moved_from(place));
        moved.unwrap_or(place)
    }

    /// Where the history row of this position lies. `None` if it was not published yet, or was dropped.
    #[must_use]
    pub fn locate_history(&self, position: u64) -> Option<RowAt> {
        let (file, row) = self.history.locate(position)?;
        file.footer.locate(Section::HistoryRows, row)
    }

    /// Where a context of a history file lies.
    #[must_use]
    pub fn locate_context(&self, number: u64, row: u32) -> Option<RowAt> {
        let file = self.history.file(number)?;
        file.footer.locate(Section::Contexts, u64::from(row))
    }

    /// Positions of the published history rows that are kept: the first, and the end (exclusive).
    #[must_use]
    pub fn history_positions(&self) -> (u64, u64) {
        let end = self.current.history_next;
        (self.history.first().unwrap_or(end), end)
    }

    /// The row, in the bytes of its block.
    ///
    /// # Errors
    /// Why the bytes are not that block.
    pub fn row<'a>(&self, at: &RowAt, bytes: &'a [u8]) -> Result<&'a [u8], BlockError> {
        let rows = self.block(at.place, bytes)?;
        let end = at.at + at.section.row_bytes();
        rows.get(at.at..end).ok_or(BlockError::Absent)
    }

    /// All rows of a block of a published file.
    ///
    /// # Errors
    /// Why the bytes are not that block.
    pub fn block<'a>(&self, place: BlockRef, bytes: &'a [u8]) -> Result<&'a [u8], BlockError> {
        let footer = self.footers.get(&place.file).ok_or(BlockError::Absent)?;
        let block = footer.decode_block(place.block, bytes, &self.binding)?;
        Ok(block.rows)
    }

    /// Whether bytes are what was written there: for the scrubber, and for what a peer sends as a repair.
    ///
    /// # Errors
    /// Why not.
    pub fn check_block(
        &self,
        kind: FileKind,
        number: u64,
        block: u32,
        bytes: &[u8],
    ) -> Result<(), BlockError> {
        let file = FileId { kind, number };
        self.block(BlockRef { file, block }, bytes)?;
        Ok(())
    }

    /// A block was damaged when the store was opened, and is whole again on disk: what is kept of it in
    /// memory is taken from it. Without this a look-up that needs it reads it every time, or asks a file in vain.
    ///
    /// # Errors
    /// Why the bytes are not that block.
    pub fn adopt_repaired(&mut self, place: BlockRef, bytes: &[u8]) -> Result<(), BlockError> {
        let rows = self.block(place, bytes)?;
        if place.file.kind == FileKind::History
            && let Some(file) = self.history.file_mut(place.file.number)
        {
            if file.offset_blocks().contains(&place.block) {
                file.adopt(place.block, rows)?;
            } else if file.filter_blocks().contains(&place.block) {
                file.adopt_filter(place.block, rows);
            }
        }
        Ok(())
    }

    /// The blocks of the side tables, in order; each holds the next bytes ([`Store::block`]).
    pub fn side_blocks(&self) -> impl Iterator<Item = BlockRef> {
        let listed = self.current.files_of(FileKind::Side).next_back();
        let footer = listed.and_then(|listed| self.footers.get(&listed.file));
        footer.into_iter().flat_map(|footer| {
            let extent = footer.section(Section::Side);
            (0..extent.blocks).map(|block| footer.place(block))
        })
    }

    /// The published files with their numbers of blocks, for the scrubber.
    pub fn files(&self) -> impl Iterator<Item = (FileId, u32)> {
        let files = self.current.files.iter();
        files.map(|listed| (listed.file, listed.blocks))
    }

    /// Whether the file is of the last published checkpoint.
    #[must_use]
    pub fn has(&self, file: FileId) -> bool {
        self.footers.contains_key(&file)
    }

    /// Bytes of memory that the filters of history files take: at most [`FILTER_BYTES_MAX`].
    #[must_use]
    pub fn filter_bytes(&self) -> u64 {
        self.history.filter_bytes()
    }

    /// How much of each accounts file is alive, ascending by number.
    pub fn account_files(&self) -> impl Iterator<Item = AccountFile> {
        let files = self.current.files_of(FileKind::Accounts);
        files.map(|listed| AccountFile {
            number: listed.file.number,
            rows: self.footers[&listed.file].rows(Section::AccountRows),
            live: listed.live,
        })
    }
}
