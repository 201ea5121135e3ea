//! Accounts that are not where the default placement puts them, as far as answers told.
//!
//! Only a hint: a wrong or forgotten entry costs one redirect. Bounded by two generations: when the
//! young one is full it becomes the old one, and what was old and is not asked for is forgotten.

use std::collections::HashMap;

use quorate_protocol::ids::{AccountId, ShardId};

/// Entries of one generation.
const GENERATION_MAX: usize = 1 << 18;

#[derive(Debug, Default)]
pub(super) struct Learnt {
    young: HashMap<AccountId, Owner>,
    old: HashMap<AccountId, Owner>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    shard: ShardId,
    /// The account's ownership epoch there: what is known of a later one is not taken back. Redirects do not name it; they
    /// lead to later owners.
    ownership_epoch: u32,
}

impl Learnt {
    pub fn shard_of(&self, account: AccountId) -> Option<ShardId> {
        self.owner_of(account).map(|owner| owner.shard)
    }

    /// A redirect led there.
    pub fn learn(&mut self, account: AccountId, shard: ShardId) {
        let known = self.owner_of(account);
        // Two requests under way were redirected by one move.
        if known.is_some_and(|known| known.shard == shard) {
            return;
        }
        let ownership_epoch = known.map_or(1, |known| known.ownership_epoch.saturating_add(1));
        self.insert(
            account,
            Owner {
                shard,
                ownership_epoch,
            },
        );
    }

    /// A shard says that the account is there from this epoch on.
    pub fn learn_change(&mut self, account: AccountId, shard: ShardId, ownership_epoch: u32) {
        let known = self.owner_of(account);
        if known.is_none_or(|known| known.ownership_epoch < ownership_epoch) {
            self.insert(
                account,
                Owner {
                    shard,
                    ownership_epoch,
                },
            );
        }
    }

    fn owner_of(&self, account: AccountId) -> Option<Owner> {
        if self.young.is_empty() && self.old.is_empty() {
            return None;
        }
        self.young
            .get(&account)
            .or_else(|| self.old.get(&account))
            .copied()
    }

    fn insert(&mut self, account: AccountId, owner: Owner) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(account, owner);
    }

    /// The account is where the default placement puts it.
    pub fn forget(&mut self, account: AccountId) {
        self.young.remove(&account);
        self.old.remove(&account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_later_owner_is_not_taken_back() {
        let mut learnt = Learnt::default();
        let account = AccountId(1);
        for (shard, ownership_epoch, known) in [(2, 2, 2), (3, 1, 2), (3, 2, 2), (3, 3, 3)] {
            learnt.learn_change(account, ShardId(shard), ownership_epoch);
            assert_eq!(learnt.shard_of(account), Some(ShardId(known)));
        }
        // A redirect comes from the owner of epoch 3.
        learnt.learn(account, ShardId(1));
        learnt.learn_change(account, ShardId(3), 4);
        assert_eq!(learnt.shard_of(account), Some(ShardId(1)));
    }

    #[test]
    fn redirects_of_one_move_count_once() {
        let mut learnt = Learnt::default();
        let account = AccountId(1);
        for _ in 0..5 {
            learnt.learn(account, ShardId(2));
        }
        learnt.learn_change(account, ShardId(3), 2);
        assert_eq!(learnt.shard_of(account), Some(ShardId(3)));
    }

    #[test]
    fn the_newest_answer_counts_and_memory_is_bounded() {
        let mut learnt = Learnt::default();
        learnt.learn(AccountId(1), ShardId(2));
        learnt.learn(AccountId(1), ShardId(3));
        assert_eq!(learnt.shard_of(AccountId(1)), Some(ShardId(3)));
        let ids = 2..2 + u128::try_from(GENERATION_MAX * 3).unwrap();
        for id in ids.clone() {
            learnt.learn(AccountId(id), ShardId(2));
            assert_eq!(learnt.shard_of(AccountId(id)), Some(ShardId(2)));
        }
        assert!(learnt.young.len() + learnt.old.len() <= 2 * GENERATION_MAX);
        assert_eq!(learnt.shard_of(AccountId(1)), None);
        learnt.forget(AccountId(ids.end - 1));
        assert_eq!(learnt.shard_of(AccountId(ids.end - 1)), None);
    }
}
