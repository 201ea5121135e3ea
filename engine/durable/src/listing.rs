//! Which accounts the store holds, a page at a time in the order of their ids.
//!
//! Rows lie in the order in which they were written, so a page takes a walk over all of them: as much
//! reading as the store has accounts, in bounded steps. Of an account that has several rows the one counts
//! that the index points to.

use std::collections::BTreeSet;

use quorate_protocol::checkpoint::rows::{AccountRow, account_fingerprint};
use quorate_protocol::ids::AccountId;
use quorate_storage::store::{AccountIndex, BlockRun, Damage, Place, RowWalk, Store};
use zerocopy::FromBytes;

/// A page on its way.
#[derive(Debug)]
pub struct Listing {
    after: AccountId,
    limit: usize,
    walk: RowWalk,
    ids: BTreeSet<AccountId>,
}

impl Listing {
    /// The ids above `after`, at most `limit`. Reads nothing yet.
    #[must_use]
    pub fn new(store: &Store, after: AccountId, limit: usize) -> Self {
        Self {
            after,
            limit,
            walk: RowWalk::new(store),
            ids: BTreeSet::new(),
        }
    }

    /// What to read next; `None`: the page is complete. A file that was dropped meanwhile is passed over: its
    /// rows are in a newer one, which is walked last.
    pub fn wanted(&mut self, store: &Store) -> Option<BlockRun> {
        self.walk.wanted(store)
    }

    /// Takes the blocks that were wanted.
    ///
    /// # Errors
    /// The block that is not what was written, and why. What is wanted then begins with it.
    pub fn feed(
        &mut self,
        store: &Store,
        index: &AccountIndex,
        bytes: &[u8],
    ) -> Result<(), Damage> {
        let Self {
            after,
            limit,
            walk,
            ids,
        } = self;
        let mut take = |place: Place, row: &[u8]| {
            let row = AccountRow::read_from_bytes(row).expect("the section's rows have this size");
            let id = row.account.id;
            let is_newest = || {
                let mut newest = index.candidates(account_fingerprint(id));
                newest.any(|it| store.readable(it) == place)
            };
            if id > *after && is_newest() {
                ids.insert(id);
                if ids.len() > *limit {
                    ids.pop_last();
                }
            }
        };
        walk.feed(store, bytes, &mut take)
    }

    /// The page.
    #[must_use]
    pub fn into_ids(self) -> Vec<AccountId> {
        self.ids.into_iter().collect()
    }
}
