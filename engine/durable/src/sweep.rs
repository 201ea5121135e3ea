//! Rows of many accounts in one pass over the store, in the order in which they lie. For a start: blocks.
//!
//! A replay touches some millions of accounts, a good part of all blocks of a store. Asked for entry by
//! entry each of them would be a read of its own; in the order of their places they are a few thousand long
//! ones, and each block is checked once.

use quorate_protocol::checkpoint::rows::{AccountRow, account_fingerprint};
use quorate_protocol::ids::AccountId;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{AccountIndex, BlockRef, Place, Read, RowAt, Store};
use zerocopy::FromBytes;

use crate::restore::LoadError;

const BLOCK: usize = BLOCK_BYTES as usize;
/// Blocks of the longest read: 1 MiB.
const RUN_BLOCKS_MAX: u32 = 256;
/// Bytes behind a long read that are expected to be read next.
const AHEAD_BYTES: u64 = 8 << 20;
/// Blocks that nobody asked for and that are read all the same: a new read costs more than these.
const GAP_BLOCKS_MAX: u32 = 8;

/// Blocks that cannot be read, or are not what was written.
#[derive(Debug, Default)]
pub struct Unread {
    pub blocks: u64,
    /// What is wrong with the first.
    pub first: Option<LoadError>,
}

impl Unread {
    fn add(&mut self, place: BlockRef, problem: impl ToString) {
        self.blocks += 1;
        self.first
            .get_or_insert_with(|| LoadError::block(place, problem));
    }
}

/// Gives out the newest rows of these accounts, each once, and of others that share a fingerprint with one. Rows of
/// blocks that cannot be had are left out.
pub fn sweep<'a>(
    store: &Store,
    index: &AccountIndex,
    accounts: impl Iterator<Item = &'a AccountId>,
    disk: &mut impl Read,
    mut found: impl FnMut(&AccountRow),
) -> Unread {
    let mut unread = Unread::default();
    let candidates = |id: &AccountId| index.candidates(account_fingerprint(*id));
    let mut places: Vec<Place> = accounts.flat_map(candidates).collect();
    places.sort_unstable();
    places.dedup();
    let mut rows = places
        .into_iter()
        .map(|place| {
            store
                .locate_account(place)
                .expect("all of them are published")
        })
        .peekable();
    let mut bytes = vec![0; RUN_BLOCKS_MAX as usize * BLOCK];
    let mut run: Vec<RowAt> = Vec::new();
    while let Some(first) = rows.next() {
        run.clear();
        run.push(first);
        let mut last = first.place;
        while let Some(next) = rows.next_if(|next| joins(first.place, last, next.place)) {
            last = next.place;
            run.push(next);
        }
        let length = (last.block - first.place.block + 1) as usize * BLOCK;
        let bytes = &mut bytes[..length];
        let name = first.place.file.file_name();
        if first.place.block + RUN_BLOCKS_MAX <= last.block + GAP_BLOCKS_MAX {
            // The run is as long as one may be: what follows will be, too.
            disk.expect(&name, last.offset() + u64::from(BLOCK_BYTES), AHEAD_BYTES);
        }
        let is_read = disk.read(&name, first.place.offset(), bytes).is_ok();
        for rows in run.chunk_by(|one, other| one.place == other.place) {
            let place = rows[0].place;
            let at = (place.block - first.place.block) as usize * BLOCK;
            let bytes = &mut bytes[at..at + BLOCK];
            // A block that nobody needs may be what made the whole read fail.
            if !is_read && let Err(error) = disk.read(&name, place.offset(), bytes) {
                unread.add(place, error);
                continue;
            }
            let block = match store.block(place, bytes) {
                Ok(block) => block,
                Err(error) => {
                    unread.add(place, error);
                    continue;
                }
            };
            for row in rows {
                let row = &block[row.at..row.at + size_of::<AccountRow>()];
                found(
                    &AccountRow::read_from_bytes(row).expect("the section's rows have this size"),
                );
            }
        }
    }
    unread
}

/// Whether one read takes a block as well.
fn joins(first: BlockRef, last: BlockRef, next: BlockRef) -> bool {
    next.file == first.file
        && next.block - last.block <= GAP_BLOCKS_MAX + 1
        && next.block - first.block < RUN_BLOCKS_MAX
}

#[cfg(test)]
mod tests {
    use quorate_storage::store::{FileId, FileKind};

    use super::*;

    #[test]
    fn a_read_spans_small_gaps_of_one_file_and_is_never_longer_than_its_buffer() {
        let at = |number, block| BlockRef {
            file: FileId {
                kind: FileKind::Accounts,
                number,
            },
            block,
        };
        assert!(joins(at(1, 5), at(1, 5), at(1, 5)));
        assert!(joins(at(1, 5), at(1, 5), at(1, 6 + GAP_BLOCKS_MAX)));
        assert!(!joins(at(1, 5), at(1, 5), at(1, 7 + GAP_BLOCKS_MAX)));
        assert!(!joins(at(1, 5), at(1, 5), at(2, 6)));
        assert!(joins(at(1, 0), at(1, 254), at(1, 255)));
        assert!(!joins(at(1, 0), at(1, 255), at(1, 256)));
    }
}
