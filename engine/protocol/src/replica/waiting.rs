//! Commands that wait for an account: it is frozen for a move, has arrived but is not decided, is
//! under a read barrier, or its open reservations decide. Volatile; every item ends by its deadline.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use crate::ids::AccountId;
use crate::ledger::Transfer;
use crate::limits::{WAIT_ROUNDS_MAX, WAITING_MAX};
use crate::replica::requests::Waiter;
use crate::time::SECOND;
use crate::txn::record::PrepareRow;

/// How long the rounds of an empty queue are remembered: longer than a trip through the log, and
/// not so long that an account stays closed to prepares for waiters that are gone.
const ROUNDS_KEPT_NS: u64 = SECOND;

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
    /// How often the queue was tried and nobody of it has been served since.
    rounds: u32,
    /// Of an empty queue: until when its rounds are remembered. Its items are being tried, which
    /// takes a trip through the log; whoever comes back must not start at zero.
    rounds_until_ns: u64,
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
        self.queues
            .get(&account)
            .is_some_and(|queue| !queue.items.is_empty())
    }

    /// Whether waiters of the account have been passed over so often that new prepares on it must
    /// stand back.
    pub fn is_starving(&self, account: AccountId) -> bool {
        self.queues
            .get(&account)
            .is_some_and(|queue| queue.rounds >= WAIT_ROUNDS_MAX)
    }

    /// Takes all that waits for an account, to be tried again, and counts a round.
    pub fn take(&mut self, account: AccountId, now_ns: u64) -> Vec<Item> {
        let Some(queue) = self.queues.get_mut(&account) else {
            return Vec::new();
        };
        self.count -= queue.items.len();
        // A prepare that waits behind a read is not passed over by other prepares.
        if queue
            .items
            .iter()
            .any(|(_, item)| matches!(item, Item::Transfer(..)))
        {
            queue.rounds += 1;
            queue.rounds_until_ns = now_ns + ROUNDS_KEPT_NS;
        }
        let items = core::mem::take(&mut queue.items);
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// A command on the account has got its answer: if it was the last that waited, new prepares
    /// are welcome again.
    pub fn served(&mut self, account: AccountId) {
        if !self.queues.is_empty()
            && let Some(queue) = self.queues.get(&account)
            && queue.items.is_empty()
        {
            self.queues.remove(&account);
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
            !queue.items.is_empty() || queue.rounds_until_ns > now_ns
        });
        self.count -= out.len();
        out
    }

    pub fn clear(&mut self) {
        self.queues.clear();
        self.count = 0;
    }
}
