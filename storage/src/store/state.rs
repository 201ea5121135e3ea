//! The store itself (skeleton).

use super::block::{ACCOUNT_ROW_BYTES, BlockError, CONTEXT_BYTES, HISTORY_ROW_BYTES, ID_BYTES};
use super::{Binding, BlockRef, FileId, FileKind, Generation, Manifest, Place, RowAt};

/// A file operation, carried out and given back by [`Store::finish_operation`]. At most one is open. After an
/// error the replica stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create the file, empty; one of this name is left from a crash and is emptied.
    Create { file: FileId },
    /// Write whole blocks behind everything written to the file before.
    Write {
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Sync the file's data and length.
    Sync { file: FileId },
    /// Sync the directory itself.
    SyncDirectory,
    /// Write `bytes` to a temporary file, sync it, rename it to the manifest's name, sync the directory.
    Publish {
        generation: Generation,
        bytes: Vec<u8>,
    },
    /// Remove the file. Need not be durable. It may be absent.
    Remove { file: FileId },
}

/// A checkpoint is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub number: u64,
    pub slot: u64,
}

/// What was written since the store was opened, for write amplification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub checkpoints: u64,
    pub account_rows: u64,
    pub history_rows: u64,
    /// Bytes of data files, headers and padding included.
    pub file_bytes: u64,
    pub manifest_bytes: u64,
    pub files_removed: u64,
}

/// What a checkpoint lets go of, and the caller's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish<'a> {
    /// Kept in the manifest; at most [`super::MARK_BYTES_MAX`] bytes.
    pub mark: &'a [u8],
    /// History rows below this position are not needed any more; files that hold nothing else are dropped. 0 keeps all.
    pub history_from: u64,
}

/// The store of one replica.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// The manifest of the last published checkpoint; number 0 if there is none.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        unimplemented!()
    }

    /// The log is needed from behind this slot on: the older generation's, which may have to be used at the next start.
    #[must_use]
    pub fn log_needed_from(&self) -> u64 {
        unimplemented!()
    }

    #[must_use]
    pub fn binding(&self) -> Binding {
        unimplemented!()
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        unimplemented!()
    }

    // --- checkpoint

    /// Begins the next checkpoint. Its number is the last one's plus one. `account_rows_max` places are set aside.
    ///
    /// # Panics
    /// If one is running, its slot is below the last one's, or places or files ran out.
    pub fn begin(&mut self, _slot: u64, _account_rows_max: u32) -> u64 {
        unimplemented!()
    }

    /// Whether a checkpoint is running: begun, and not yet published.
    #[must_use]
    pub fn is_running(&self) -> bool {
        unimplemented!()
    }

    /// An account as of the checkpoint, once per account. `superseded` is where its newest row lies until now.
    /// `shared`: another id with this fingerprint has a row in the store, or was pushed in this checkpoint before.
    /// The place is readable once the checkpoint is published.
    pub fn account(
        &mut self,
        _row: &[u8; ACCOUNT_ROW_BYTES],
        _fingerprint: u64,
        _shared: bool,
        _superseded: Option<Place>,
    ) -> Place {
        unimplemented!()
    }

    /// An account that has a row in the store left the shard. After all accounts.
    pub fn gone(
        &mut self,
        _id: &[u8; ID_BYTES],
        _fingerprint: u64,
        _shared: bool,
        _superseded: Place,
    ) {
        unimplemented!()
    }

    /// The next thing that took effect. Returns its position.
    pub fn history(
        &mut self,
        _row: &[u8; HISTORY_ROW_BYTES],
        _fingerprint: u64,
        _key: u128,
    ) -> u64 {
        unimplemented!()
    }

    /// A context of this checkpoint's history rows, after all of them. Returns its row in the file's contexts, from 0.
    pub fn context(&mut self, _context: &[u8; CONTEXT_BYTES]) -> u32 {
        unimplemented!()
    }

    /// Further bytes of the side tables.
    pub fn side(&mut self, _bytes: &[u8]) {
        unimplemented!()
    }

    /// All is pushed.
    pub fn finish(&mut self, _finish: Finish<'_>) {
        unimplemented!()
    }

    /// After `finish`: builds indexes, at most about `rows_max` rows per call. False once nothing is left to do.
    pub fn step(&mut self, _rows_max: usize) -> bool {
        unimplemented!()
    }

    /// Bytes that wait to be written. The caller pushes and steps no further while these are too many.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        unimplemented!()
    }

    /// The next file operation to carry out, if one is due and none is open.
    pub fn next_operation(&mut self) -> Option<Operation> {
        unimplemented!()
    }

    /// The operation is done. Says so if that published the checkpoint.
    pub fn finish_operation(&mut self, _operation: Operation) -> Option<Published> {
        unimplemented!()
    }

    // --- reading

    /// Where an account row of a published checkpoint lies.
    #[must_use]
    pub fn locate_account(&self, _place: Place) -> Option<RowAt> {
        unimplemented!()
    }

    /// Where the history row of this position lies; `None` if it was dropped, or is not published.
    #[must_use]
    pub fn locate_history(&self, _position: u64) -> Option<RowAt> {
        unimplemented!()
    }

    /// Where a context of a history file lies.
    #[must_use]
    pub fn locate_context(&self, _number: u64, _row: u32) -> Option<RowAt> {
        unimplemented!()
    }

    /// Positions of published history rows that are kept: first (inclusive) and end (exclusive).
    #[must_use]
    pub fn history_positions(&self) -> (u64, u64) {
        unimplemented!()
    }

    /// The row, in the bytes of its block.
    ///
    /// # Errors
    /// Why the bytes are not that block.
    pub fn row<'a>(&self, _at: &RowAt, _bytes: &'a [u8]) -> Result<&'a [u8], BlockError> {
        unimplemented!()
    }

    /// Blocks of the side tables, in order: each holds the next bytes ([`Store::block`]). Empty if there are none.
    pub fn side_blocks(&self) -> impl Iterator<Item = BlockRef> {
        std::iter::empty()
    }

    /// The rows of a block of a published file, for whoever reads one as a whole.
    ///
    /// # Errors
    /// Why the bytes are not that block.
    pub fn block<'a>(&self, _place: BlockRef, _bytes: &'a [u8]) -> Result<&'a [u8], BlockError> {
        unimplemented!()
    }

    /// Whether bytes are what was written there: for the scrubber, and for what a peer sends as a repair.
    ///
    /// # Errors
    /// Why not.
    pub fn check_block(
        &self,
        _kind: FileKind,
        _number: u64,
        _block: u32,
        _bytes: &[u8],
    ) -> Result<(), BlockError> {
        unimplemented!()
    }

    /// The files of the published checkpoint with their number of blocks, for the scrubber.
    pub fn files(&self) -> impl Iterator<Item = (FileId, u32)> {
        std::iter::empty()
    }

    /// Live rows and all rows of each accounts file, ascending by number.
    pub fn account_files(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        std::iter::empty()
    }
}
