//! Accounts that are only in the store.
//!
//! Memory holds every account that has changed since the last checkpoint, and as many others as
//! `accounts_in_memory_max` allows. The rest is *cold*: the store has its newest row. An account that is
//! not in memory is therefore one of three:
//!
//! | in memory | may be owned here | the store said that it has none | then it is |
//! | --- | --- | --- | --- |
//! | yes | | | [`Presence::Here`] |
//! | no | no | | [`Presence::NotHere`] |
//! | no | yes, and nothing is cold | | [`Presence::NotHere`] |
//! | no | yes | yes | [`Presence::NotHere`] |
//! | no | yes | not asked | [`Presence::NotLoaded`] |
//!
//! Nobody may take the last one for "no such account": the replica asks the store first
//! (`replica::loads`), before it applies an entry and before it answers.
//!
//! # Invariants
//!
//! 1. *Which accounts are in memory is no state*: replicas with different ones compute the same. Sums and
//!    digests over all accounts are over rows as they were written, and over what has changed since.
//! 2. *Nothing is forgotten that the store cannot give back*: an account leaves memory only if it is as a
//!    finished checkpoint wrote it, and nothing is open on it.
//! 3. *A row from the store is never older than memory*: it is taken only for an account that is not in
//!    memory and may be owned here. One that has changed since it was written is in memory, one that has
//!    left is not owned here.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::checkpoint::rows::AccountRow;
use crate::ids::AccountId;
use crate::ledger::state::{Ledger, OwnedAccount};
use crate::limits::LOADED_MAX;

/// What is known of an account.
#[derive(Clone, Copy, Debug)]
pub enum Presence<'a> {
    /// This shard owns it.
    Here(&'a OwnedAccount),
    /// This shard does not own it; [`Ledger::elsewhere`] says where it may be.
    NotHere,
    /// The store has to be asked.
    NotLoaded,
}

/// What is not in memory.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    /// Accounts that the shard owns, cold ones included.
    pub owned: u64,
    /// Not owned here, says the store.
    absent: BTreeSet<AccountId>,
    /// The place at which the search for accounts to forget goes on.
    hand: u32,
    /// Accounts in memory when it last ended.
    searched_len: usize,
    /// Places that it still has to look at.
    search_owed: usize,
}

/// Places that are looked at for each account that came since the last search.
const SEARCH_PER_ACCOUNT: usize = 4;
/// Places that are looked at in any case: about a microsecond. While most accounts in memory have changed since
/// the last checkpoint, none of them may go, and looking at all of them again behind every entry is in vain.
const SEARCH_LEAST: usize = 64;
/// Places that one call looks at: a few milliseconds, should none of them be in the processor's caches. What is
/// owed beyond that is done behind the next entries.
const SEARCH_MOST: usize = 1 << 18;

impl Ledger {
    /// What is known of an account.
    #[must_use]
    pub fn presence(&self, id: AccountId) -> Presence<'_> {
        match self.account(id) {
            Some(owned) => Presence::Here(owned),
            None if self.is_unloaded(id) => Presence::NotLoaded,
            None => Presence::NotHere,
        }
    }

    /// Whether the account is not in memory and the store may have it.
    pub(crate) fn is_unloaded(&self, id: AccountId) -> bool {
        self.cold_accounts() > 0
            && self.place_of(id).is_none()
            && self.may_own(id)
            && !self.cold.absent.contains(&id)
    }

    /// Accounts that are only in the store.
    pub(crate) fn cold_accounts(&self) -> u64 {
        let in_memory = u64::try_from(self.records.len()).expect("a count fits 64 bits");
        self.cold.owned - in_memory
    }

    /// Whether the account can be here: it was created here and has not left, or it has arrived.
    pub(crate) fn may_own(&self, id: AccountId) -> bool {
        self.owners.contains_key(&id) || self.elsewhere(id).is_none()
    }

    /// The ownership epoch of an account, if it is owned here; known without its row.
    pub(crate) fn epoch_of(&self, id: AccountId) -> Option<u32> {
        match self.presence(id) {
            Presence::Here(owned) => Some(owned.account.ownership_epoch),
            Presence::NotHere => None,
            Presence::NotLoaded => {
                let owners = self.previous_owners(id).iter();
                let last = owners.map(|owner| owner.ownership_epoch).max();
                Some(last.map_or(0, |last| last + 1))
            }
        }
    }

    /// The same for one that was looked for in memory already.
    pub(crate) fn epoch_at(&self, place: Option<u32>, id: AccountId) -> Option<u32> {
        match place {
            Some(place) => Some(self.records.at(place).account.ownership_epoch),
            None => self.epoch_of(id),
        }
    }

    /// Takes the store's answer about `ids`: the rows that it has, and that the others have none. Rows of
    /// other accounts may be among them.
    pub(crate) fn learn_accounts(&mut self, ids: &[AccountId], rows: &[AccountRow]) {
        let asked: BTreeSet<AccountId> = ids.iter().copied().collect();
        for row in rows {
            let id = row.account.id;
            if asked.contains(&id) && self.is_unloaded(id) {
                self.load_account(row);
            }
        }
        if self.cold.absent.len() + ids.len() > LOADED_MAX {
            self.cold.absent.clear();
        }
        let missing: Vec<AccountId> = asked
            .into_iter()
            .filter(|id| self.is_unloaded(*id))
            .collect();
        self.cold.absent.extend(missing);
    }

    /// Puts an account into memory as the last checkpoint wrote it.
    ///
    /// # Panics
    /// If it is there.
    pub(crate) fn load_account(&mut self, row: &AccountRow) -> u32 {
        let mut owned = row.owned();
        owned.is_written = true;
        owned.was_used = true;
        self.records.insert(owned)
    }

    /// Lets accounts that were not used lately leave memory, as far as there are more than `max`. The work is
    /// bounded by what came since the last call; of the accounts that may go, each is passed over once after
    /// its last use.
    pub(crate) fn forget_accounts(&mut self, max: usize) {
        let came = self.records.len().saturating_sub(self.cold.searched_len);
        let owed = self.cold.search_owed + came * SEARCH_PER_ACCOUNT + SEARCH_LEAST;
        let now = owed.min(SEARCH_MOST);
        self.cold.search_owed = owed - now;
        for _ in 0..now {
            if self.records.len() <= max {
                self.cold.search_owed = 0;
                break;
            }
            self.cold.hand = (self.cold.hand + 1) % self.records.end();
            let place = self.cold.hand;
            if self.records.get(place).is_none() || !self.may_forget(place) {
                continue;
            }
            let owned = self.records.at_mut(place);
            if core::mem::take(&mut owned.was_used) {
                continue;
            }
            let id = owned.account.id;
            self.records.remove(place);
            self.cold.absent.remove(&id);
        }
        self.cold.searched_len = self.records.len();
    }

    /// Whether the store can give the account back as it is.
    fn may_forget(&self, place: u32) -> bool {
        let owned = self.records.at(place);
        let is_published = match &self.image {
            Some(image) => owned.interval != image.interval(),
            None => true,
        };
        owned.is_written
            && is_published
            && owned.open == 0
            && owned.attempts == 0
            && owned.held == 0
    }
}
