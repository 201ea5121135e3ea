//! Commands that wait for an account: it is frozen for a move, has arrived but is not decided, is
//! under a read barrier, or its open reservations decide. Volatile; every item ends by its deadline.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::ids::AccountId;
use crate::ledger::Transfer;
use crate::limits::{WAIT_ROUNDS_MAX, WAITING_MAX};
use crate::replica::requests::Waiter;
use crate::txn::record::PrepareRow;

/// A command that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Item {
    Transfer(Transfer, Waiter),
    Prepare(PrepareRow),
}

#[derive(Debug, Default)]
struct Queue {
    /// With the monotonic time at which each ends.
    items: VecDeque<(u64, Item)>,
    /// How often the queue was tried in vain.
    rounds: u32,
}

/// All that waits, by account.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queues: BTreeMap<AccountId, Queue>,
    count: usize,
}

impl Waiting {
    /// Queues an item; false if there is no room.
    pub fn push(&mut self, account: AccountId, deadline_ns: u64, item: Item) -> bool {
        if self.count >= WAITING_MAX {
            return false;
        }
        self.count += 1;
        self.queues
            .entry(account)
            .or_default()
            .items
            .push_back((deadline_ns, item));
        true
    }

    pub fn is_waited_for(&self, account: AccountId) -> bool {
        self.queues.contains_key(&account)
    }

    /// Whether waiters of the account have been passed over so often that new prepares on it must
    /// stand back.
    pub fn is_starving(&self, account: AccountId) -> bool {
        self.queues
            .get(&account)
            .is_some_and(|queue| queue.rounds >= WAIT_ROUNDS_MAX)
    }

    /// Takes all that waits for an account, to be tried again. `rounds` goes to [`Self::tried`].
    pub fn take(&mut self, account: AccountId) -> Option<(Vec<Item>, u32)> {
        let queue = self.queues.remove(&account)?;
        self.count -= queue.items.len();
        Some((
            queue.items.into_iter().map(|(_, item)| item).collect(),
            queue.rounds,
        ))
    }

    /// Counts a round for those that had to queue again.
    pub fn tried(&mut self, account: AccountId, rounds: u32) {
        if let Some(queue) = self.queues.get_mut(&account) {
            queue.rounds = rounds + 1;
        }
    }

    /// Takes the items whose time is up.
    pub fn expired(&mut self, now_ns: u64) -> Vec<Item> {
        let mut out = Vec::new();
        self.queues.retain(|_, queue| {
            queue.items.retain(|&(deadline_ns, item)| {
                let keep = deadline_ns > now_ns;
                if !keep {
                    out.push(item);
                }
                keep
            });
            !queue.items.is_empty()
        });
        self.count -= out.len();
        out
    }

    pub fn clear(&mut self) {
        self.queues.clear();
        self.count = 0;
    }
}
