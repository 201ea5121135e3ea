//! Rows of accounts by id: which blocks to read, in any order and as many at once as one likes.
//!
//! The index knows places by fingerprints, so a row that was read may be another account's: whoever asked
//! compares ids. An account without a candidate is not in the store, and costs no read.

use std::collections::BTreeMap;

use quorate_protocol::checkpoint::rows::{AccountRow, account_fingerprint};
use quorate_protocol::ids::AccountId;
use quorate_storage::store::{AccountIndex, BlockRef, RowAt, Store};
use zerocopy::FromBytes;

/// Reads for a set of accounts.
#[derive(Debug, Default)]
pub struct AccountReads {
    /// What is wanted of each block that was not fed yet.
    left: BTreeMap<(u64, u32), (BlockRef, Vec<RowAt>)>,
    rows: Vec<AccountRow>,
}

impl AccountReads {
    /// Looks up where the rows may lie.
    #[must_use]
    pub fn new(store: &Store, index: &AccountIndex, ids: &[AccountId]) -> Self {
        let mut left: BTreeMap<_, (BlockRef, Vec<RowAt>)> = BTreeMap::new();
        for id in ids {
            for place in index.candidates(account_fingerprint(*id)) {
                // A row that is not published yet is in memory: nobody has to read it.
                let Some(at) = store.locate_account(place) else {
                    continue;
                };
                let key = (at.place.file.number, at.place.block);
                let (_, rows) = left.entry(key).or_insert((at.place, Vec::new()));
                rows.push(at);
            }
        }
        Self {
            left,
            rows: Vec::new(),
        }
    }

    /// The blocks that were not fed yet, by file and place.
    pub fn blocks(&self) -> impl Iterator<Item = BlockRef> {
        self.left.values().map(|(place, _)| *place)
    }

    /// Takes the bytes of a block.
    ///
    /// # Errors
    /// Why these are not what was written; the block is still wanted.
    pub fn feed(&mut self, store: &Store, place: BlockRef, bytes: &[u8]) -> Result<(), String> {
        let key = (place.file.number, place.block);
        let Some((_, wanted)) = self.left.get(&key) else {
            return Ok(());
        };
        let mut found = Vec::with_capacity(wanted.len());
        for at in wanted {
            let row = store.row(at, bytes).map_err(|error| error.to_string())?;
            let row = AccountRow::read_from_bytes(row);
            found.push(row.map_err(|_| "not a row of an account".to_owned())?);
        }
        self.rows.append(&mut found);
        self.left.remove(&key);
        Ok(())
    }

    /// The rows, once nothing is left to read.
    #[must_use]
    pub fn into_rows(self) -> Vec<AccountRow> {
        self.rows
    }
}
