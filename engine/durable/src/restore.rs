//! The newest checkpoint of an opened store, back into a ledger.

use quorate_protocol::checkpoint::restore::{Restore, RestoreError, RestoredLedger};
use quorate_protocol::checkpoint::rows::AccountRow;
use quorate_protocol::config::ReplicaConfig;
use quorate_protocol::ids::AccountId;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{
    AccountIndex, BlockRef, Damage, DeadRows, IndexLoad, Read, RowLoad, Store,
};
use thiserror::Error;
use zerocopy::FromBytes;

use crate::offline::mark_of;
use crate::sweep::{Unread, sweep};

/// Blocks per step; the caller blocks anyway.
const BLOCKS: usize = 256;
/// Stores with so many accounts are loaded whole, in about a second; of larger ones the accounts come when
/// they are used.
const LOADED_AT_START_MAX: usize = 1 << 19;

/// Why a store cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{0}")]
    Damage(#[from] Damage),
    #[error("{file} block {block}: {problem}")]
    Block {
        file: String,
        block: u32,
        problem: String,
    },
    #[error("the manifest's mark has {found} bytes")]
    Mark { found: usize },
    #[error("{0}")]
    Restore(#[from] RestoreError),
}

/// Where the newest row of every account lies.
#[derive(Debug)]
pub struct Index {
    pub accounts: AccountIndex,
    dead: DeadRows,
}

/// Reads the index of the newest checkpoint's accounts. Blocks: nothing is served yet.
///
/// # Errors
/// What of it cannot be read, or does not fit together.
pub fn load_index(store: &Store, disk: &mut impl Read) -> Result<Index, LoadError> {
    let mut entries = IndexLoad::new(store);
    while entries.step(store, disk, BLOCKS)? {}
    let (accounts, dead) = entries.finish();
    Ok(Index { accounts, dead })
}

/// What a start takes over from its store.
#[derive(Debug, Default)]
pub struct Loaded {
    /// `None`: there is no checkpoint.
    pub ledger: Option<RestoredLedger>,
    /// Of accounts that are not needed yet.
    pub unread: Unread,
}

/// Reads the side tables of the newest checkpoint, and of the accounts those that have to be in memory and those that
/// are `touched` by what the log holds above it; if there are few accounts, all. Touched ones may be missing: they are
/// asked for when they are used, and whoever asks mends the block. Blocks: nothing is served yet.
///
/// # Errors
/// What is needed and cannot be read, or does not fit together.
pub fn load_ledger(
    store: &Store,
    index: &Index,
    config: &ReplicaConfig,
    touched: &[AccountId],
    disk: &mut impl Read,
) -> Result<Loaded, LoadError> {
    let manifest = store.manifest();
    if manifest.number == 0 {
        return Ok(Loaded::default());
    }
    let mark = mark_of(manifest)?;
    let side = side(store, disk)?;
    let mut restore = Restore::tables(config, manifest.number, &mark, &side)?;
    let accounts = index.accounts.len();
    let mut unread = Unread::default();
    if accounts <= config.accounts_in_memory_max.min(LOADED_AT_START_MAX) {
        let mut rows = RowLoad::new(store, index.dead.clone());
        while rows.step(store, disk, BLOCKS, |_, row| {
            let row = AccountRow::read_from_bytes(row).expect("the section's rows have this size");
            restore.account(&row);
        })? {}
    } else {
        let mut wanted = restore.wanted();
        restore.expect(wanted.len() + touched.len());
        wanted.retain(|id| touched.binary_search(id).is_err());
        let wanted = wanted.iter().chain(touched);
        unread = sweep(store, &index.accounts, wanted, disk, |row| {
            restore.account(row);
        });
    }
    let accounts = u64::try_from(accounts).expect("a count fits 64 bits");
    match (restore.finish(accounts), unread.first.take()) {
        (Ok(ledger), first) => Ok(Loaded {
            ledger: Some(ledger),
            unread: Unread { first, ..unread },
        }),
        // What is missing was needed.
        (Err(_), Some(damage)) => Err(damage),
        (Err(error), None) => Err(error.into()),
    }
}

impl LoadError {
    pub(crate) fn block(place: BlockRef, problem: impl ToString) -> Self {
        Self::Block {
            file: place.file.file_name(),
            block: place.block,
            problem: problem.to_string(),
        }
    }
}

fn read_block(place: BlockRef, disk: &mut impl Read, out: &mut [u8]) -> Result<(), LoadError> {
    let read = disk.read(&place.file.file_name(), place.offset(), out);
    read.map_err(|error| LoadError::block(place, error))
}

fn side(store: &Store, disk: &mut impl Read) -> Result<Vec<u8>, LoadError> {
    let mut side = Vec::new();
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    for place in store.side_blocks() {
        read_block(place, disk, &mut bytes)?;
        let rows = store.block(place, &bytes);
        side.extend_from_slice(rows.map_err(|error| LoadError::block(place, error))?);
    }
    Ok(side)
}
