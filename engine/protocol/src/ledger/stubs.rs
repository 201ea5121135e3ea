//! Forwarding stubs: where accounts went that have left this shard.
//!
//! | stub | why it is there | goes |
//! | --- | --- | --- |
//! | at the account's default home | the routing of last resort: everybody asks there who knows nothing better | when the account comes back |
//! | at another former owner | it is on the way from older hints to the owner | when the home knows as late an owner |
//!
//! Invariant: *from every shard the way leads to the owner, and meets no shard twice.* Each stub names an owner of a later
//! ownership epoch than any that this shard had, so stubs alone lead forward. A shard without a stub sends to the home. It had
//! one, of epoch `e`, only until the home had said that it knows an owner of `e` or later, and what the home knows
//! only rises: so behind the home the way goes on above `e`, and comes back neither here nor to the home.
//!
//! Where the rows of an account's history begin here is no matter of stubs: it travels with the account
//! (`PreviousOwnerRow::last`).
//!
//! Versions: every entry that changes where accounts went raises the shard's map epoch, and a stub keeps the epoch of its last
//! change. So "what has changed since" is a range, and clients are told no more than that.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ids::{AccountId, ShardId};
use crate::ledger::state::Ledger;
use crate::planted::{Bug, planted};
use crate::txn::plausible::Shards;
use crate::txn::record::RouteRow;

/// Where an account went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    pub shard: ShardId,
    /// The account's ownership epoch over there.
    pub ownership_epoch: u32,
    /// This shard's map epoch with which it was last changed.
    pub changed: u32,
}

/// All of one shard.
#[derive(Debug, Default)]
pub(crate) struct Stubs {
    by_account: BTreeMap<AccountId, Stub>,
    /// Made from it: by their last change.
    by_change: BTreeSet<(u32, AccountId)>,
    epoch: u32,
}

impl Stubs {
    /// Those of a checkpoint.
    pub fn restored(epoch: u32) -> Self {
        Self {
            epoch,
            ..Self::default()
        }
    }

    /// The version of what is known here of where accounts went.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    pub fn len(&self) -> usize {
        self.by_account.len()
    }

    pub fn get(&self, account: AccountId) -> Option<Stub> {
        self.by_account.get(&account).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (AccountId, Stub)> + '_ {
        self.by_account
            .iter()
            .map(|(&account, &stub)| (account, stub))
    }

    /// Changes follow. At the end of the numbers, after years of a thousand moves a second, it stays: clients would be told
    /// more than is new, and nothing else.
    pub fn begin_epoch(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// The account is elsewhere from this epoch on.
    pub fn put(&mut self, account: AccountId, to: ShardId, ownership_epoch: u32) {
        let stub = Stub {
            shard: to,
            ownership_epoch,
            changed: self.epoch,
        };
        self.restore(account, stub);
    }

    /// As a checkpoint has it.
    pub fn restore(&mut self, account: AccountId, stub: Stub) {
        if let Some(before) = self.by_account.insert(account, stub) {
            self.by_change.remove(&(before.changed, account));
        }
        self.by_change.insert((stub.changed, account));
    }

    pub fn remove(&mut self, account: AccountId) -> Option<Stub> {
        let stub = self.by_account.remove(&account)?;
        self.by_change.remove(&(stub.changed, account));
        Some(stub)
    }

    /// Those that have changed behind a place, in the order of their last change.
    pub fn behind(&self, place: (u32, AccountId)) -> impl Iterator<Item = RouteRow> + '_ {
        let behind = (
            core::ops::Bound::Excluded(place),
            core::ops::Bound::Unbounded,
        );
        self.by_change.range(behind).map(|&(epoch, account)| {
            let stub = self.by_account[&account];
            RouteRow {
                account,
                shard: stub.shard,
                ownership_epoch: stub.ownership_epoch,
                epoch,
                reserved: 0,
            }
        })
    }

    /// For tests of what notices a changed stub.
    #[cfg(test)]
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Stub> {
        self.by_account.values_mut()
    }
}

impl Ledger {
    /// The version of what this shard knows of where its accounts went.
    #[must_use]
    pub fn map_epoch(&self) -> u32 {
        self.stubs.epoch()
    }

    /// The stub of an account that has left.
    #[must_use]
    pub fn stub(&self, account: AccountId) -> Option<Stub> {
        self.stubs.get(account)
    }

    /// All stubs, by account.
    pub fn stubs(&self) -> impl Iterator<Item = (AccountId, Stub)> + '_ {
        self.stubs.iter()
    }

    /// At most `limit` accounts of which this shard knows since a place in the order of changes (map epoch, account) where
    /// they went; and whether there are no more.
    #[must_use]
    pub fn map_changes(&self, place: (u32, AccountId), limit: usize) -> (Vec<RouteRow>, bool) {
        let mut behind = self.stubs.behind(place);
        let rows: Vec<RouteRow> = behind.by_ref().take(limit).collect();
        (rows, behind.next().is_none())
    }

    /// Whether this shard is the account's default home.
    #[must_use]
    pub fn is_home(&self, account: AccountId) -> bool {
        self.placement.home(account, self.shards) == self.shard
    }

    /// Whether this shard is the account's home and knows an owner of at least this epoch: its log has it.
    #[must_use]
    pub fn knows_of(&self, account: AccountId, ownership_epoch: u32) -> bool {
        if !self.is_home(account) {
            return false;
        }
        let stub = self.stub(account).map(|stub| stub.ownership_epoch);
        let known = stub.max(self.epoch_of(account));
        let is_lowered = planted(Bug::StubLowered) && stub > Some(ownership_epoch);
        known >= Some(ownership_epoch) && !is_lowered
    }

    /// Whether the home learns something from what a former owner says.
    #[must_use]
    pub fn is_news(&self, row: &RouteRow) -> bool {
        let shards = Shards {
            own: self.shard,
            count: self.shards,
        };
        let is_later = |stub: Stub| {
            stub.ownership_epoch < row.ownership_epoch
                || planted(Bug::StubLowered) && stub.ownership_epoch != row.ownership_epoch
        };
        // Without a stub it is here, or was never anywhere.
        self.is_home(row.account)
            && shards.is_other(row.shard)
            && row.ownership_epoch < u32::MAX
            && self.stub(row.account).is_some_and(is_later)
    }

    /// At the home: former owners have said where accounts went from there.
    pub(crate) fn forward(&mut self, rows: &[RouteRow]) {
        if rows.iter().any(|row| self.is_news(row)) {
            self.stubs.begin_epoch();
        }
        for row in rows {
            if self.is_news(row) {
                self.stubs.put(row.account, row.shard, row.ownership_epoch);
            }
        }
    }

    /// At a former owner: the homes know as much, and said so before it was proposed. Here the stub goes only if it still is the
    /// one that they were asked about: another one came of a return and a later departure, which they were not asked about.
    pub(crate) fn drop_stubs(&mut self, rows: &[RouteRow]) {
        for row in rows {
            let is_it = |stub: Stub| stub.ownership_epoch == row.ownership_epoch;
            let is_last_resort = self.is_home(row.account) && !planted(Bug::HomeStubDropped);
            if !is_last_resort && self.stub(row.account).is_some_and(is_it) {
                self.stubs.remove(row.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: AccountId = AccountId(1);
    const TWO: AccountId = AccountId(2);

    fn accounts(stubs: &Stubs, place: (u32, AccountId)) -> Vec<(AccountId, u32)> {
        let rows = stubs.behind(place);
        rows.map(|row| (row.account, row.epoch)).collect()
    }

    #[test]
    fn changes_come_in_the_order_of_their_last_change_and_none_twice() {
        let mut stubs = Stubs::default();
        stubs.begin_epoch();
        stubs.put(ONE, ShardId(2), 1);
        stubs.put(TWO, ShardId(2), 1);
        assert_eq!(accounts(&stubs, (0, AccountId(0))), [(ONE, 1), (TWO, 1)]);
        assert_eq!(accounts(&stubs, (1, ONE)), [(TWO, 1)]);
        stubs.begin_epoch();
        stubs.put(ONE, ShardId(3), 2);
        assert_eq!(accounts(&stubs, (0, AccountId(0))), [(TWO, 1), (ONE, 2)]);
        assert_eq!(accounts(&stubs, (1, AccountId(u128::MAX))), [(ONE, 2)]);
        assert_eq!(stubs.remove(ONE).map(|stub| stub.shard), Some(ShardId(3)));
        assert_eq!(accounts(&stubs, (0, AccountId(0))), [(TWO, 1)]);
        assert_eq!((stubs.len(), stubs.epoch()), (1, 2));
    }

    #[test]
    fn the_last_epoch_stays_the_last() {
        let mut stubs = Stubs::restored(u32::MAX);
        stubs.begin_epoch();
        stubs.put(ONE, ShardId(2), 1);
        assert_eq!(accounts(&stubs, (u32::MAX - 1, ONE)), [(ONE, u32::MAX)]);
    }
}
