//! What can be wrong with a store's files, named so that it can be fetched from a peer.

use thiserror::Error;

use super::block::{BlockError, BlockRef};
use super::footer::FooterError;
use super::manifest::ManifestError;
use super::name::{FileId, Generation};

/// Damages that are listed; what is beyond is found when it is read.
pub const DAMAGE_LISTED_MAX: usize = 1024;

/// What is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("{generation}: {error}")]
    Manifest {
        generation: Generation,
        error: ManifestError,
    },
    /// It belongs under the other name.
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
    /// Its rows do not go on where the file's before end.
    #[error("{file} begins at position {found}, must at {expected}")]
    Base {
        file: FileId,
        found: u64,
        expected: u64,
    },
    #[error("{file} has {found} live rows, {expected} by the manifest")]
    Live {
        file: FileId,
        found: u64,
        expected: u64,
    },
    #[error("{} block {}: {error}", place.file, place.block)]
    Block { place: BlockRef, error: BlockError },
}

/// Why a store is not opened. Nothing was changed.
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
    /// A second checkpoint is begun only after a manifest is durable.
    #[error("no manifest, but {file} exists")]
    ManifestsMissing { file: FileId },
    #[error("no complete checkpoint: {}", first(.damage))]
    Unusable { damage: Vec<Damage> },
}

fn first(damage: &[Damage]) -> String {
    let more = damage.len().saturating_sub(1);
    match damage.first() {
        Some(damage) => format!("{damage} (and {more} more)"),
        None => String::new(),
    }
}
