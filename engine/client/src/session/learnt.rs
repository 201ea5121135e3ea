//! Accounts that are, or were, not where the default placement puts them, as far as answers told.
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
    epoch: Epoch,
}

/// The account's ownership epoch at its owner.
#[derive(Clone, Copy, Debug)]
enum Epoch {
    /// The owner, or who sent the account there, has said so.
    Told(u32),
    /// A redirect led there, and redirects do not name it: later than what was known before, unless the redirect was old.
    AtLeast(u32),
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
        let least = known.map_or(1, |known| match known.epoch {
            Epoch::Told(epoch) | Epoch::AtLeast(epoch) => epoch.saturating_add(1),
        });
        let epoch = Epoch::AtLeast(least);
        self.insert(account, Owner { shard, epoch });
    }

    /// The shard has answered as the account's owner.
    pub fn found(&mut self, account: AccountId, shard: ShardId, ownership_epoch: u32) {
        let is_news = match self.owner_of(account).map(|known| known.epoch) {
            // One that has never moved is where the default placement puts it.
            None => ownership_epoch > 0,
            Some(Epoch::Told(known)) => known < ownership_epoch,
            // The redirect may have been an old one, which this answer overtook.
            Some(Epoch::AtLeast(_)) => true,
        };
        if is_news {
            let epoch = Epoch::Told(ownership_epoch);
            self.insert(account, Owner { shard, epoch });
        }
    }

    /// `by` says that the account has left it, and is at `shard` from this epoch on. That may be long ago: `by` hears of later
    /// moves when the owners of then tell it.
    pub fn learn_change(
        &mut self,
        by: ShardId,
        account: AccountId,
        shard: ShardId,
        ownership_epoch: u32,
    ) {
        let is_news = self
            .owner_of(account)
            .is_none_or(|known| match known.epoch {
                Epoch::Told(known) => known < ownership_epoch,
                // Whether a redirect that led elsewhere was before or behind that move is not known; it led on, at least.
                Epoch::AtLeast(least) => known.shard == by && least < ownership_epoch,
            });
        if is_news {
            let epoch = Epoch::Told(ownership_epoch);
            self.insert(account, Owner { shard, epoch });
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_later_owner_is_not_taken_back() {
        let mut learnt = Learnt::default();
        let account = AccountId(1);
        for (shard, ownership_epoch, known) in [(2, 2, 2), (3, 1, 2), (3, 2, 2), (3, 3, 3)] {
            learnt.learn_change(ShardId(1), account, ShardId(shard), ownership_epoch);
            assert_eq!(learnt.shard_of(account), Some(ShardId(known)));
        }
        // A redirect comes from the owner of epoch 3.
        learnt.learn(account, ShardId(1));
        learnt.learn_change(ShardId(2), account, ShardId(3), 4);
        assert_eq!(learnt.shard_of(account), Some(ShardId(1)));
    }

    /// Kill -9 at random moments of moves: accounts that had just been read at the third shard were to be moved from the
    /// second, which had forgotten them. Their home still told of the first of their two moves, under its real epoch of 4,
    /// while redirects had been counted from 1.
    #[test]
    fn a_shard_that_has_not_heard_of_the_next_move_does_not_bring_back_the_owner_of_before() {
        let (account, home) = (AccountId(1), ShardId(1));
        for is_found_first in [false, true] {
            let mut learnt = Learnt::default();
            learnt.learn(account, ShardId(2));
            learnt.learn(account, ShardId(3));
            if is_found_first {
                learnt.found(account, ShardId(3), 5);
            }
            learnt.learn_change(home, account, ShardId(2), 4);
            assert_eq!(learnt.shard_of(account), Some(ShardId(3)));
            learnt.found(account, ShardId(3), 5);
            learnt.learn_change(home, account, ShardId(2), 4);
            assert_eq!(learnt.shard_of(account), Some(ShardId(3)));
            learnt.learn_change(ShardId(3), account, home, 6);
            assert_eq!(learnt.shard_of(account), Some(home));
        }
    }

    /// What an account's home has told counts against older news, too.
    #[test]
    fn an_account_that_is_at_home_again_stays_there() {
        let (account, home) = (AccountId(1), ShardId(1));
        let mut found = Learnt::default();
        found.found(account, home, 3);
        let mut redirected = Learnt::default();
        redirected.learn(account, home);
        for mut learnt in [found, redirected] {
            learnt.learn_change(ShardId(3), account, ShardId(2), 2);
            assert_eq!(learnt.shard_of(account), Some(home));
        }
        let mut never_moved = Learnt::default();
        never_moved.found(account, home, 0);
        assert_eq!(never_moved.shard_of(account), None);
    }

    /// A request that was under way was sent the old way round, after another one had found the account.
    #[test]
    fn an_owners_answer_counts_against_an_old_redirect() {
        let account = AccountId(1);
        let mut learnt = Learnt::default();
        learnt.found(account, ShardId(3), 5);
        learnt.learn(account, ShardId(2));
        learnt.found(account, ShardId(3), 5);
        assert_eq!(learnt.shard_of(account), Some(ShardId(3)));
        learnt.learn_change(ShardId(3), account, ShardId(1), 6);
        assert_eq!(learnt.shard_of(account), Some(ShardId(1)));
        // It was on its way while the account moved on.
        learnt.found(account, ShardId(3), 5);
        assert_eq!(learnt.shard_of(account), Some(ShardId(1)));
    }

    #[test]
    fn redirects_of_one_move_count_once() {
        let mut learnt = Learnt::default();
        let account = AccountId(1);
        for _ in 0..5 {
            learnt.learn(account, ShardId(2));
        }
        learnt.learn_change(ShardId(2), account, ShardId(3), 2);
        assert_eq!(learnt.shard_of(account), Some(ShardId(3)));
    }

    #[test]
    fn the_newest_answer_counts_and_memory_is_bounded() {
        let mut learnt = Learnt::default();
        learnt.learn(AccountId(1), ShardId(2));
        learnt.learn(AccountId(1), ShardId(3));
        assert_eq!(learnt.shard_of(AccountId(1)), Some(ShardId(3)));
        let ids = 2..2 + u128::try_from(GENERATION_MAX * 3).unwrap();
        for id in ids {
            learnt.learn(AccountId(id), ShardId(2));
            assert_eq!(learnt.shard_of(AccountId(id)), Some(ShardId(2)));
        }
        assert!(learnt.young.len() + learnt.old.len() <= 2 * GENERATION_MAX);
        assert_eq!(learnt.shard_of(AccountId(1)), None);
    }
}
