//! What a chosen move must satisfy before it has any effect. No honest shard sends another; but a
//! chosen entry is applied by every replica and again at every replay, so one that could make an
//! apply panic would stop the shard for good.

use alloc::collections::BTreeSet;

use crate::entry::MoveSection;
use crate::ids::{AccountId, ShardId};
use crate::ledger::history::HistoryPosition;
use crate::limits::MOVE_ACCOUNTS_MAX;
use crate::txn::record::{MoveHead, MoveVersionRow, MovedAccountRow, PreviousOwnerRow};

/// Versions count changes; half of the numbers leave room for the rest of an account's life.
const VERSION_MAX: u64 = u64::MAX / 2;

/// A shard as its peers see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shards {
    pub own: ShardId,
    /// How many there are.
    pub count: u32,
}

impl Shards {
    /// Whether it is a shard, and not this one.
    pub fn is_other(self, shard: ShardId) -> bool {
        shard != self.own && self.exists(shard)
    }

    /// Whether there is such a shard.
    pub fn exists(self, shard: ShardId) -> bool {
        (1..=self.count).contains(&shard.0)
    }
}

/// Whether accounts can arrive here like this, where the next row of history gets the position `next`.
pub(crate) fn can_arrive(parts: &MoveSection<'_>, shards: Shards, next: HistoryPosition) -> bool {
    let head = parts.head;
    let ids = parts.accounts.iter().map(|row| row.account.id);
    let Some(distinct) = distinct(ids) else {
        return false;
    };
    let sound_account = |row: &MovedAccountRow| {
        row.version <= VERSION_MAX && row.account.ownership_epoch < u32::MAX - 1
    };
    // A chain of rows leads back: what is here comes before the next one.
    let sound_chain = |row: &PreviousOwnerRow| row.shard != shards.own || row.last < next;
    let sound_owner = |row: &PreviousOwnerRow| {
        shards.exists(row.shard) && distinct.contains(&row.account) && sound_chain(row)
    };
    shards.is_other(head.source)
        && head.target == shards.own
        && parts.accounts.iter().all(sound_account)
        && parts.owners.iter().all(sound_owner)
}

/// Whether accounts can leave from here like this.
pub(crate) fn can_leave(head: &MoveHead, accounts: &[MoveVersionRow], shards: Shards) -> bool {
    let ids = accounts.iter().map(|row| row.account);
    head.source == shards.own && shards.is_other(head.target) && distinct(ids).is_some()
}

/// The accounts of a batch as a set; `None` if there are none, too many, or one twice.
fn distinct(ids: impl ExactSizeIterator<Item = AccountId>) -> Option<BTreeSet<AccountId>> {
    let count = ids.len();
    if count == 0 || count > MOVE_ACCOUNTS_MAX {
        return None;
    }
    let set: BTreeSet<AccountId> = ids.collect();
    (set.len() == count).then_some(set)
}
