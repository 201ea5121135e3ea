//! What the cluster counted, and who owns what: the input of a plan and the balance of its outcome.

use std::collections::BTreeMap;

use anyhow::{Context, bail};

use quorate_planner::WeightedPair;
use quorate_planner::score::{Score, max_over_avg};
use quorate_protocol::client::{ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::limits::{FRAME_PAYLOAD_MAX, TELEMETRY_PAIRS_MAX};

/// Rows asked for at once; a page fits one frame.
const PAIRS_PER_PAGE: u32 = 16_384;
/// Ids asked for at once; a page fits one frame.
const ACCOUNTS_PER_PAGE: u32 = 16_384;
const _: () = assert!(PAIRS_PER_PAGE as usize * 56 <= FRAME_PAYLOAD_MAX);

/// Asks the leader of a shard.
pub trait AskShard {
    /// One request and its reply.
    fn ask(&mut self, shard: ShardId, body: RequestBody) -> anyhow::Result<ReplyBody>;
}

/// Committed pairs of all shards since the last reset.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pub pairs: Vec<WeightedPair>,
    /// Transfers that the leaders' bounded tables could not take.
    pub dropped: u64,
}

/// Forgets what all shards counted.
///
/// # Errors
/// A shard does not answer.
pub fn reset(cluster: &mut impl AskShard, shards: u32) -> anyhow::Result<()> {
    for shard in (1..=shards).map(ShardId) {
        match cluster.ask(shard, RequestBody::ObserveReset)? {
            ReplyBody::Done => {}
            other => bail!("shard {shard} answered ObserveReset with {}", other.name()),
        }
    }
    Ok(())
}

/// Reads what all shards counted.
///
/// # Errors
/// A shard does not answer, or a table does not end.
pub fn window(cluster: &mut impl AskShard, shards: u32) -> anyhow::Result<Window> {
    let mut window = Window::default();
    for shard in (1..=shards).map(ShardId) {
        let mut from = 0;
        loop {
            let limit = PAIRS_PER_PAGE;
            let reply = cluster.ask(shard, RequestBody::Observe { from, limit })?;
            let (rows, total, dropped) = match reply {
                ReplyBody::Pairs {
                    rows,
                    total,
                    dropped,
                    ..
                } => (rows, total, dropped),
                other => bail!("shard {shard} answered Observe with {}", other.name()),
            };
            window.pairs.extend(rows.iter().map(|row| WeightedPair {
                a: row.a,
                b: row.b,
                weight: row.weight,
            }));
            from += u32::try_from(rows.len()).context("a page with too many rows")?;
            if rows.is_empty() || from >= total {
                window.dropped += dropped;
                break;
            }
            if usize::try_from(from)? > TELEMETRY_PAIRS_MAX {
                bail!("shard {shard} counted more pairs than its table holds");
            }
        }
    }
    Ok(window)
}

/// Every account and the shard that owns it.
///
/// # Errors
/// A shard does not answer, or two shards own the same account.
pub fn owners(
    cluster: &mut impl AskShard,
    shards: u32,
) -> anyhow::Result<BTreeMap<AccountId, ShardId>> {
    let mut owners = BTreeMap::new();
    for shard in (1..=shards).map(ShardId) {
        let mut after = AccountId(0);
        loop {
            let limit = ACCOUNTS_PER_PAGE;
            let ids = match cluster.ask(shard, RequestBody::ListAccounts { after, limit })? {
                ReplyBody::AccountList(ids) => ids,
                other => bail!("shard {shard} answered ListAccounts with {}", other.name()),
            };
            let Some(&last) = ids.last() else {
                break;
            };
            if last <= after {
                bail!("shard {shard} listed account {last} after {after}");
            }
            after = last;
            for &id in ids.iter() {
                if let Some(other) = owners.insert(id, shard) {
                    bail!("account {id} is owned by shard {other} and by shard {shard}");
                }
            }
        }
    }
    Ok(owners)
}

/// Load of the busiest shard over the average, each transfer being a load at both of its accounts.
#[must_use]
pub fn load_max_over_avg(
    pairs: &[WeightedPair],
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
) -> f64 {
    let mut score = Score::new(shards);
    for pair in pairs {
        if let (Some(a), Some(b)) = (owners.get(&pair.a), owners.get(&pair.b)) {
            score.count(a.0 - 1, b.0 - 1, pair.weight);
        }
    }
    score.load_max_over_avg()
}

/// Accounts of the fullest shard over the average.
#[must_use]
pub fn accounts_max_over_avg(owners: &BTreeMap<AccountId, ShardId>, shards: u32) -> f64 {
    let mut counts = vec![0; shards as usize];
    for shard in owners.values() {
        counts[shard.0 as usize - 1] += 1;
    }
    max_over_avg(&counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::client::PairRow;
    use quorate_protocol::words::Rows;

    /// Two shards that answer in pages, shard s owning the ids that are s modulo 2.
    struct Pages {
        accounts: u128,
        pairs: u32,
        twice: bool,
    }

    impl AskShard for Pages {
        fn ask(&mut self, shard: ShardId, body: RequestBody) -> anyhow::Result<ReplyBody> {
            Ok(match body {
                RequestBody::ListAccounts { after, limit } => {
                    let own = |id: &u128| self.twice || id % 2 == u128::from(shard.0 % 2);
                    let ids = (after.0 + 1..=self.accounts).filter(own);
                    let page: Vec<AccountId> = ids.take(limit as usize).map(AccountId).collect();
                    ReplyBody::AccountList(Rows::from_slice(&page))
                }
                RequestBody::Observe { from, limit } => {
                    let row = |n: u32| PairRow {
                        a: AccountId(u128::from(n)),
                        b: AccountId(u128::from(n + 1)),
                        weight: 1,
                        reserved: 0,
                    };
                    let page: Vec<PairRow> =
                        (from..self.pairs).take(limit as usize).map(row).collect();
                    ReplyBody::Pairs {
                        rows: Rows::from_slice(&page),
                        total: self.pairs,
                        dropped: 5,
                        local: 0,
                        cross: 0,
                    }
                }
                _ => ReplyBody::Done,
            })
        }
    }

    #[test]
    fn all_pages_are_read_once() {
        let mut pages = Pages {
            accounts: 70_001,
            pairs: 40_000,
            twice: false,
        };
        let owners = owners(&mut pages, 2).unwrap();
        assert_eq!(owners.len(), 70_001);
        assert_eq!(owners[&AccountId(3)], ShardId(1));
        let window = window(&mut pages, 2).unwrap();
        assert_eq!((window.pairs.len(), window.dropped), (80_000, 10));
    }

    #[test]
    fn an_account_with_two_owners_is_an_error() {
        let mut pages = Pages {
            accounts: 10,
            pairs: 0,
            twice: true,
        };
        assert!(
            owners(&mut pages, 2)
                .unwrap_err()
                .to_string()
                .contains("account 1 is owned")
        );
    }

    #[test]
    fn the_balance_counts_both_accounts_of_a_transfer() {
        let owner = |id, shard| (AccountId(id), ShardId(shard));
        let owners = BTreeMap::from([owner(1, 1), owner(2, 1), owner(3, 2)]);
        let pair = |a, b, weight| WeightedPair {
            a: AccountId(a),
            b: AccountId(b),
            weight,
        };
        // Shard 1: 2 x 3 + 1 = 7, shard 2: 1.
        let load = load_max_over_avg(&[pair(1, 2, 3), pair(1, 3, 1)], &owners, 2);
        assert!((load - 7.0 / 4.0).abs() < 1e-9);
        assert!((accounts_max_over_avg(&owners, 2) - 2.0 / 1.5).abs() < 1e-9);
    }
}
