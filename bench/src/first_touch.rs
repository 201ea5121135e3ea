//! A replay's new accounts beside those that they first trade with.
//!
//! Every account of a recorded file has to be there before its first transfer. Who makes one then knows its counterparty:
//! the first transfer that names it. So the list is read in its order, nobody looks ahead, and each account that has not been
//! touched yet is put where the other side of its first transfer is, under a cap of the load. The
//! accounts are created at their homes, whose logs alone decide creations, and moved before money comes to them, as
//! `account create --near` does it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};

use quorate_client::reshard::AccountMove;
use quorate_planner::first_touch::FirstTouch;
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::limits::LOOKUP_MAX;

use crate::setup::Bank;
use crate::workload::Draw;

/// Where untouched accounts of `draws` are to go before the first of these transfers; `cap` is a shard's load over the average
/// above which it takes none, with respect to the load of the whole list.
///
/// # Errors
/// The cluster does not say where an account is.
///
/// # Panics
/// If there are no shards.
pub fn moves(
    bank: &mut impl Bank,
    draws: &[Draw],
    shards: u32,
    cap: f64,
) -> anyhow::Result<Vec<AccountMove>> {
    let named = draws.iter().flat_map(|draw| [draw.debit, draw.credit]);
    let named: BTreeSet<AccountId> = named.collect();
    let named: Vec<AccountId> = named.into_iter().collect();
    let mut known: BTreeMap<AccountId, ShardId> = BTreeMap::new();
    let mut untouched: BTreeMap<AccountId, ShardId> = BTreeMap::new();
    for part in named.chunks(LOOKUP_MAX) {
        let answers = bank.lookup_accounts(part).context("looking accounts up")?;
        ensure!(answers.len() == part.len(), "one answer per account");
        for (&id, answer) in part.iter().zip(&answers) {
            let AccountAnswer::Found(account) = answer else {
                anyhow::bail!("account {id} did not answer in time");
            };
            let is_new = account.debits_posted == 0 && account.credits_posted == 0;
            let shard = bank.shard_of(id);
            let list = if is_new { &mut untouched } else { &mut known };
            list.insert(id, shard);
        }
    }
    let touches = 2 * u64::try_from(draws.len()).expect("a slice's length fits");
    let mut placer = FirstTouch::new(cap, vec![0; shards as usize], 0.0).expecting(touches);
    let mut moves = Vec::new();
    for draw in draws {
        let part = |id: &AccountId| known.get(id).map(|shard| shard.0 - 1);
        let placed = placer.touch(part(&draw.debit), part(&draw.credit));
        for (account, part) in [(draw.debit, placed.0), (draw.credit, placed.1)] {
            let target = ShardId(part + 1);
            if let Some(source) = untouched.remove(&account)
                && source != target
            {
                moves.push(AccountMove {
                    account,
                    source,
                    target,
                });
            }
            known.insert(account, target);
        }
    }
    Ok(moves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::TransferId;
    use quorate_protocol::ledger::{Account, AccountFlags, ResultRow, Transfer};

    /// Account n is on shard n modulo 3, plus 1; those from 100 on hold money.
    struct Placed;

    impl Bank for Placed {
        fn create_accounts(&mut self, _: &[Account]) -> anyhow::Result<Vec<ResultRow>> {
            unreachable!("nothing is created here")
        }

        fn create_transfers(&mut self, _: &[Transfer]) -> anyhow::Result<Vec<ResultRow>> {
            unreachable!("nothing is paid here")
        }

        fn lookup_accounts(&mut self, ids: &[AccountId]) -> anyhow::Result<Vec<AccountAnswer>> {
            let found = ids.iter().map(|&id| {
                let mut account = Account::new(id, 1, 1, AccountFlags::default());
                account.credits_posted = if id.0 >= 100 { 7 } else { 0 };
                AccountAnswer::Found(account)
            });
            Ok(found.collect())
        }

        fn shard_of(&self, account: AccountId) -> ShardId {
            ShardId(u32::try_from(account.0 % 3).unwrap() + 1)
        }

        fn next_id(&mut self) -> TransferId {
            unreachable!("nothing is paid here")
        }
    }

    fn draws(pairs: &[(u128, u128)]) -> Vec<Draw> {
        let draw = |&(debit, credit)| Draw {
            debit: AccountId(debit),
            credit: AccountId(credit),
            amount: 1,
        };
        pairs.iter().map(draw).collect()
    }

    #[test]
    fn new_accounts_follow_their_first_counterparty_and_touched_ones_stay() {
        // 100 is on shard 2 and holds money; so does 101, on shard 3.
        let list = draws(&[(100, 1), (1, 2), (3, 2), (3, 101), (2, 101)]);
        let moves = moves(&mut Placed, &list, 3, 3.0).unwrap();
        let to: Vec<(u128, u32, u32)> = moves
            .iter()
            .map(|planned| (planned.account.0, planned.source.0, planned.target.0))
            .collect();
        // 1 is on shard 2 already.
        assert_eq!(to, [(2, 3, 2), (3, 1, 2)]);
    }

    #[test]
    fn a_shard_at_its_share_of_the_whole_list_takes_no_more() {
        let star: Vec<(u128, u128)> = (1..=30).map(|id| (100, id)).collect();
        let moves = moves(&mut Placed, &draws(&star), 3, 1.0).unwrap();
        let at = |id: u128| {
            let planned = moves.iter().find(|planned| planned.account.0 == id);
            planned.map_or(Placed.shard_of(AccountId(id)), |planned| planned.target)
        };
        let beside = (1..=30).filter(|&id| at(id) == ShardId(2)).count();
        // 60 touches, of which a third is for shard 2: it is full with ten transfers, and one more looked at the load before.
        assert_eq!(beside, 11);
    }
}
