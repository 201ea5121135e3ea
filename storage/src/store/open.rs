//! Opening a store (skeleton).

use thiserror::Error;

use super::block::BlockError;
use super::footer::FooterError;
use super::manifest::ManifestError;
use super::{Binding, BlockRef, FileId, Generation, Operation, Store};

/// Bytes of the directory's files, from wherever the shell has them (a map, a direct read, memory).
pub trait Read {
    /// Fills `out` from `offset` of the file called `name`.
    ///
    /// # Errors
    /// If the file is absent, too short, or the device fails; the shell logs which.
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable>;
}

/// A read gave no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("unreadable")]
pub struct Unreadable;

/// A row of the open table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenRow {
    /// Nothing was ever published.
    Empty,
    /// One manifest, complete; the other was never written.
    Only,
    /// Both are complete; the newer is used.
    Newest,
    /// The newer is complete, the older names a file that is missing or wrong.
    OlderIncomplete,
    /// The newer names a file that is missing or wrong; the older is used.
    NewestIncomplete,
    /// One is no manifest; the other is complete and used.
    OneDamaged,
    /// A manifest is of another cluster or shard. Refused.
    Foreign,
    /// A manifest is of a version that is not supported. Refused.
    Version,
    /// There is no manifest, but files of later checkpoints than the first. Refused.
    ManifestsMissing,
    /// No manifest is complete. Refused.
    Unusable,
}

/// What is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("{generation}: {error}")]
    Manifest {
        generation: Generation,
        error: ManifestError,
    },
    /// Lies under the name of the other generation.
    #[error("{generation} holds checkpoint {number}")]
    Parity { generation: Generation, number: u64 },
    #[error("{file} is missing")]
    Missing { file: FileId },
    #[error("{file} has {found} bytes, must have {expected}")]
    Length {
        file: FileId,
        found: u64,
        expected: u64,
    },
    #[error("{file}: {error}")]
    Footer { file: FileId, error: FooterError },
    #[error("{file} has content {found:016x}, must have {expected:016x}")]
    Content {
        file: FileId,
        found: u64,
        expected: u64,
    },
    #[error("{} block {}: {error}", place.file, place.block)]
    Block { place: BlockRef, error: BlockError },
}

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    pub store: Store,
    /// Which generation is used, and why.
    pub row: OpenRow,
    /// What is damaged. The store works without; blocks are repaired from peers.
    pub damage: Vec<Damage>,
    /// To be carried out, in order, before anything in here is acted upon: a sync of the directory (what
    /// was seen need not be durable), then the removal of files that no generation lists.
    pub repairs: Vec<Operation>,
}

/// Why a store is not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    #[error("{generation}: {error}")]
    Foreign {
        generation: Generation,
        error: ManifestError,
    },
    #[error("{generation}: {error}")]
    Version {
        generation: Generation,
        error: ManifestError,
    },
    #[error("no manifest, but {file} exists")]
    ManifestsMissing { file: FileId },
    #[error("no usable checkpoint: {}", damage.first().map_or_else(String::new, ToString::to_string))]
    Unusable { damage: Vec<Damage> },
}

/// Reads a store. `listing` is every file of the directory, by name, with its length in bytes.
///
/// # Errors
/// If there is no checkpoint to go on from, and nothing proves that there never was one.
pub fn open(
    _listing: &[(String, u64)],
    _disk: &mut impl Read,
    _binding: Binding,
) -> Result<Opened, OpenError> {
    unimplemented!()
}
