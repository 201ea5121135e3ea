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
    young: HashMap<AccountId, ShardId>,
    old: HashMap<AccountId, ShardId>,
}

impl Learnt {
    pub fn shard_of(&self, account: AccountId) -> Option<ShardId> {
        if self.young.is_empty() && self.old.is_empty() {
            return None;
        }
        self.young
            .get(&account)
            .or_else(|| self.old.get(&account))
            .copied()
    }

    pub fn learn(&mut self, account: AccountId, shard: ShardId) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(account, shard);
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
