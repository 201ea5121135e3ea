//! The newest checkpoint of an opened store, back into a ledger.

use quorate_protocol::checkpoint::restore::{Restore, RestoreError, RestoredLedger};
use quorate_protocol::checkpoint::rows::AccountRow;
use quorate_protocol::config::ReplicaConfig;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{AccountIndex, BlockRef, Damage, IndexLoad, Read, RowLoad, Store};
use thiserror::Error;
use zerocopy::FromBytes;

use crate::accounts::AccountReads;
use crate::offline::mark_of;

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

/// What a start takes over from its store.
#[derive(Debug)]
pub struct Loaded {
    /// `None`: there is no checkpoint.
    pub ledger: Option<RestoredLedger>,
    pub index: AccountIndex,
    /// In the store; some of them are in memory.
    pub accounts: u64,
}

/// Reads the side tables of the newest checkpoint, the index of its accounts, and of the accounts those that
/// have to be in memory; if there are few, all. Blocks: nothing is served yet.
///
/// # Errors
/// What of it cannot be read, or does not fit together.
pub fn load(
    store: &Store,
    config: &ReplicaConfig,
    disk: &mut impl Read,
) -> Result<Loaded, LoadError> {
    let manifest = store.manifest();
    if manifest.number == 0 {
        return Ok(Loaded {
            ledger: None,
            index: AccountIndex::new(),
            accounts: 0,
        });
    }
    let mark = mark_of(manifest)?;
    let side = side(store, disk)?;
    let mut restore = Restore::tables(config, manifest.number, &mark, &side)?;
    let mut entries = IndexLoad::new(store);
    while entries.step(store, disk, BLOCKS)? {}
    let (index, dead) = entries.finish();
    if index.len() <= config.accounts_in_memory_max.min(LOADED_AT_START_MAX) {
        let mut rows = RowLoad::new(store, dead);
        while rows.step(store, disk, BLOCKS, |_, row| {
            let row = AccountRow::read_from_bytes(row).expect("the section's rows have this size");
            restore.account(&row);
        })? {}
    } else {
        let wanted = restore.wanted();
        let mut reads = AccountReads::new(store, &index, &wanted);
        let mut bytes = vec![0; BLOCK_BYTES as usize];
        let blocks: Vec<BlockRef> = reads.blocks().collect();
        for place in blocks {
            read_block(place, disk, &mut bytes)?;
            let fed = reads.feed(store, place, &bytes);
            fed.map_err(|problem| block_error(place, problem))?;
        }
        for row in reads.into_rows() {
            if wanted.binary_search(&row.account.id).is_ok() {
                restore.account(&row);
            }
        }
    }
    let accounts = u64::try_from(index.len()).expect("a count fits 64 bits");
    let ledger = restore.finish(accounts)?;
    Ok(Loaded {
        accounts,
        ledger: Some(ledger),
        index,
    })
}

fn block_error(place: BlockRef, problem: impl ToString) -> LoadError {
    LoadError::Block {
        file: place.file.file_name(),
        block: place.block,
        problem: problem.to_string(),
    }
}

fn read_block(place: BlockRef, disk: &mut impl Read, out: &mut [u8]) -> Result<(), LoadError> {
    let read = disk.read(&place.file.file_name(), place.offset(), out);
    read.map_err(|error| block_error(place, error))
}

fn side(store: &Store, disk: &mut impl Read) -> Result<Vec<u8>, LoadError> {
    let mut side = Vec::new();
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    for place in store.side_blocks() {
        read_block(place, disk, &mut bytes)?;
        let rows = store.block(place, &bytes);
        side.extend_from_slice(rows.map_err(|error| block_error(place, error))?);
    }
    Ok(side)
}
