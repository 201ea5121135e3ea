//! One account of a store that no replica runs on, without building a ledger: for people who look at files.

use quorate_protocol::checkpoint::rows::{AccountRow, Mark, account_fingerprint};
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::history::{ChainQuestion, HistoryPosition, Record};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{AccountIndex, BlockRef, IndexLoad, Manifest, Read, RowAt, Store};
use zerocopy::FromBytes;

use crate::chain::ChainWalk;
use crate::question::Wanted;
use crate::restore::LoadError;

/// Blocks per step of the index; the caller blocks anyway.
const BLOCKS: usize = 256;

/// What the mark of a manifest says.
///
/// # Errors
/// If it has another length.
pub fn mark_of(manifest: &Manifest) -> Result<Mark, LoadError> {
    let found = manifest.mark.len();
    Mark::read_from_bytes(&manifest.mark).map_err(|_| LoadError::Mark { found })
}

/// Reads the index of all accounts: 12 bytes for each row that was ever written and is kept.
///
/// # Errors
/// What of it is not as it was written.
pub fn index_of(store: &Store, disk: &mut impl Read) -> Result<AccountIndex, LoadError> {
    let mut load = IndexLoad::new(store);
    while load.step(store, disk, BLOCKS)? {}
    Ok(load.finish().0)
}

/// The newest row of an account in the newest checkpoint, and where it lies; `None` if that has none.
///
/// # Errors
/// If a block that may hold it is not as it was written.
pub fn find_account(
    store: &Store,
    index: &AccountIndex,
    id: AccountId,
    disk: &mut impl Read,
) -> Result<Option<(RowAt, AccountRow)>, LoadError> {
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    for place in index.candidates(account_fingerprint(id)) {
        let at = store
            .locate_account(place)
            .expect("an index of this store leads to its rows");
        read(disk, at.place, &mut bytes)?;
        let row = store
            .row(&at, &bytes)
            .map_err(|error| wrong(at.place, error.to_string()))?;
        let row = AccountRow::read_from_bytes(row).expect("the section's rows have this size");
        // Another account may have the same fingerprint.
        if row.account.id == id {
            return Ok(Some((at, row)));
        }
    }
    Ok(None)
}

/// Rows of an account's history, newest first, each with its position; and the position of the next one,
/// which is not in the store if fewer came than were wanted.
///
/// # Errors
/// If a block on the way is not as it was written.
pub fn history_of(
    store: &Store,
    chain: ChainQuestion,
    disk: &mut impl Read,
) -> Result<(Vec<(HistoryPosition, Record)>, HistoryPosition), LoadError> {
    let mut walk = ChainWalk::new(chain);
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    while let Wanted::Blocks(run) = walk.wanted(store) {
        read(disk, run.first, &mut bytes)?;
        walk.feed(store, &bytes)
            .map_err(|(place, problem)| wrong(place, problem))?;
    }
    Ok(walk.finish())
}

fn read(disk: &mut impl Read, place: BlockRef, out: &mut [u8]) -> Result<(), LoadError> {
    disk.read(&place.file.file_name(), place.offset(), out)
        .map_err(|error| wrong(place, error.to_string()))
}

fn wrong(place: BlockRef, problem: String) -> LoadError {
    LoadError::Block {
        file: place.file.file_name(),
        block: place.block,
        problem,
    }
}
