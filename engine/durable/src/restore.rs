//! The newest checkpoint of an opened store, back into a ledger.

use quorate_protocol::checkpoint::restore::{Restore, RestoreError, RestoredLedger};
use quorate_protocol::checkpoint::rows::AccountRow;
use quorate_protocol::config::ReplicaConfig;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{AccountIndex, Damage, IndexLoad, Read, RowLoad, Store};
use thiserror::Error;
use zerocopy::FromBytes;

use crate::offline::mark_of;

/// Blocks per step; the caller blocks anyway.
const BLOCKS: usize = 256;

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
    pub accounts: u64,
}

/// Reads every account and the side tables of the newest checkpoint. Blocks: nothing is served yet.
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
    let mut entries = IndexLoad::new(store);
    while entries.step(store, disk, BLOCKS)? {}
    let (index, dead) = entries.finish();
    let mut restore = Restore::new(config);
    let mut accounts = 0;
    let mut rows = RowLoad::new(store, dead);
    loop {
        let more = rows.step(store, disk, BLOCKS, |_, row| {
            let row = AccountRow::read_from_bytes(row).expect("the section's rows have this size");
            restore.account(&row);
            accounts += 1;
        })?;
        if !more {
            break;
        }
    }
    let side = side(store, disk)?;
    let ledger = restore.finish(manifest.number, &mark, &side)?;
    Ok(Loaded {
        ledger: Some(ledger),
        index,
        accounts,
    })
}

fn side(store: &Store, disk: &mut impl Read) -> Result<Vec<u8>, LoadError> {
    let mut side = Vec::new();
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    for place in store.side_blocks() {
        let file = place.file.file_name();
        let wrong = |problem: String| LoadError::Block {
            file: file.clone(),
            block: place.block,
            problem,
        };
        disk.read(&file, place.offset(), &mut bytes)
            .map_err(|error| wrong(error.to_string()))?;
        let rows = store
            .block(place, &bytes)
            .map_err(|error| wrong(error.to_string()))?;
        side.extend_from_slice(rows);
    }
    Ok(side)
}
