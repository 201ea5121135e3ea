//! What the store wants done to files, one operation at a time.

use super::name::{FileId, Generation};

/// A file operation, carried out and given back to [`super::Store::finish_operation`]. At most one is
/// open. After an error the replica stops, and never tries the operation again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Create the file, empty. One of this name that a crash left behind is emptied.
    Create { file: FileId },
    /// Write whole blocks, right behind everything written to the file before.
    Write {
        file: FileId,
        /// In bytes.
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Sync the file's data and length.
    Sync { file: FileId },
    /// Sync the directory itself: names of files that were created.
    SyncDirectory,
    /// Write `bytes` to a temporary file, sync it, rename it to the manifest's name (over one that may be
    /// there), sync the directory.
    Publish {
        generation: Generation,
        bytes: Vec<u8>,
    },
    /// Remove a manifest that cannot be used, and sync the directory: its files are about to be written
    /// anew, and must not complete it before they are whole.
    Retract { generation: Generation },
    /// Remove the file, which may be absent. Need not be durable.
    Remove { file: FileId },
}

/// An operation without its bytes: what must come back is what was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Create(FileId),
    Write(FileId, u64, usize),
    Sync(FileId),
    SyncDirectory,
    Publish(Generation, usize),
    Retract(Generation),
    Remove(FileId),
}

impl Open {
    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Create { file } => Self::Create(*file),
            Operation::Write {
                file,
                offset,
                bytes,
            } => Self::Write(*file, *offset, bytes.len()),
            Operation::Sync { file } => Self::Sync(*file),
            Operation::SyncDirectory => Self::SyncDirectory,
            Operation::Publish { generation, bytes } => Self::Publish(*generation, bytes.len()),
            Operation::Retract { generation } => Self::Retract(*generation),
            Operation::Remove { file } => Self::Remove(*file),
        }
    }
}
