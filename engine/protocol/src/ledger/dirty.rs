//! Which accounts have changed since the last checkpoint.
//!
//! Time is cut into intervals by checkpoints. An account enters the list of its interval with its
//! first change in it, so the list is in the order of the log and the same on every replica.
//!
//! ```text
//!   interval n            | checkpoint n writes ......... |
//!   changed: a, b, c      | frozen: a, b, c               |
//!                         | interval n+1                  |
//!                         | b changes: its state as of the checkpoint is kept aside first
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::checkpoint::image::Image;
use crate::ids::AccountId;
use crate::ledger::cut::Tally;
use crate::ledger::state::{Ledger, OwnedAccount, digest_of_account};

/// The accounts that the next checkpoint has to write.
#[derive(Debug)]
pub(crate) struct Dirty {
    /// Number of the present interval, from 1.
    pub interval: u32,
    /// Changed in this interval, in the order of their first change. Some may have left since.
    pub changed: Vec<AccountId>,
    /// Those of `changed` that have left.
    left: BTreeSet<AccountId>,
    /// Accounts that have left in this interval, some of which may be back, with whether the store holds
    /// a row of theirs.
    gone: BTreeMap<AccountId, bool>,
    /// Of the accounts that are as the last checkpoint wrote them, cold ones included.
    pub written: Written,
}

/// Sums over accounts as they were written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    /// Sum of their digests.
    pub digest: u128,
    pub tally: Tally,
}

impl Written {
    pub fn add(&mut self, owned: &OwnedAccount) {
        self.digest = self.digest.wrapping_add(digest_of_account(owned));
        self.tally.add_account(&owned.account);
    }

    fn take(&mut self, owned: &OwnedAccount) {
        self.digest = self.digest.wrapping_sub(digest_of_account(owned));
        self.tally.take_account(&owned.account);
    }
}

impl Default for Dirty {
    fn default() -> Self {
        Self {
            interval: 1,
            changed: Vec::new(),
            left: BTreeSet::new(),
            gone: BTreeMap::new(),
            written: Written::default(),
        }
    }
}

impl Dirty {
    /// The account is about to change for the first time in this interval.
    pub fn changes(&mut self, owned: &mut OwnedAccount, image: Option<&mut Image>) {
        assert_ne!(owned.interval, self.interval);
        self.release(owned, image);
        owned.is_written = false;
        owned.enter(self.interval);
        let id = owned.account.id;
        if !self.left.remove(&id) {
            self.changed.push(id);
        }
    }

    /// The account has left.
    pub fn removed(&mut self, owned: &OwnedAccount, image: Option<&mut Image>) {
        self.release(owned, image);
        if owned.interval == self.interval {
            self.left.insert(owned.account.id);
        }
        self.gone.insert(owned.account.id, owned.is_stored);
    }

    /// Whether the account has left in this interval and the store still holds a row of it.
    pub fn left_a_row(&self, id: AccountId) -> bool {
        self.gone.get(&id).is_some_and(|&is_stored| is_stored)
    }

    /// The checkpoint under way writes a row of an account that has changed, or left, since.
    pub fn writes_older(&mut self, id: AccountId) {
        if let Some(is_stored) = self.gone.get_mut(&id) {
            *is_stored = true;
        }
    }

    /// Begins the next interval; gives out what has changed in the one before.
    pub fn freeze(&mut self) -> (Vec<AccountId>, BTreeMap<AccountId, bool>) {
        self.interval += 1;
        self.left.clear();
        let changed = core::mem::take(&mut self.changed);
        (changed, core::mem::take(&mut self.gone))
    }

    /// What the store or the checkpoint under way has of the account is about to be out of date.
    fn release(&mut self, owned: &OwnedAccount, image: Option<&mut Image>) {
        if owned.is_written {
            self.written.take(owned);
        } else if let Some(image) = image
            && image.interval() == owned.interval
        {
            image.keep(owned);
        }
    }
}

impl Ledger {
    /// Accounts that are not as the last checkpoint wrote them.
    pub(crate) fn unwritten_accounts(&self) -> impl Iterator<Item = &OwnedAccount> {
        let interval = self.dirty.interval;
        let changed = self.dirty.changed.iter();
        let changed = changed
            .filter_map(|id| self.account(*id))
            .filter(move |owned| owned.interval == interval);
        let image = self.image.as_ref();
        let waiting = image.into_iter().flat_map(|image| {
            image.waiting().iter().filter_map(|id| {
                let owned = self.account(*id)?;
                (owned.interval == image.interval() && !owned.is_written).then_some(owned)
            })
        });
        changed.chain(waiting)
    }
}
