//! What the leaders counted and who owns what: the input of a live plan.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use quorate_client::BlockingClient;
use quorate_config::ClusterConfig;
use quorate_planner::WeightedPair;
use quorate_protocol::client::{ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::limits::TELEMETRY_PAIRS_MAX;

/// Rows per question; an answer of that many fits one frame.
const ROWS_PER_PAGE: u32 = 16_384;

/// Committed pairs of all shards.
#[derive(Debug, Default)]
pub struct Counted {
    pub pairs: Vec<WeightedPair>,
    /// Transfers that the leaders' bounded tables could not take.
    pub dropped: u64,
    pub local: u64,
    pub cross: u64,
}

/// Reads every leader's table of pairs.
pub fn counted(client: &mut BlockingClient, config: &ClusterConfig) -> anyhow::Result<Counted> {
    let mut counted = Counted::default();
    for shard in config.shard_ids() {
        add_pairs(client, shard, &mut counted).context("observe the traffic")?;
    }
    Ok(counted)
}

fn add_pairs(
    client: &mut BlockingClient,
    shard: ShardId,
    counted: &mut Counted,
) -> anyhow::Result<()> {
    let mut from = 0_u32;
    loop {
        let body = RequestBody::Observe {
            from,
            limit: ROWS_PER_PAGE,
        };
        let ReplyBody::Pairs {
            rows,
            total,
            dropped,
            local,
            cross,
        } = client.shard_request(shard, body)?
        else {
            bail!("shard {shard} gave an answer to another question");
        };
        counted
            .pairs
            .extend(rows.iter().copied().map(WeightedPair::from));
        from += u32::try_from(rows.len()).context("a page with too many rows")?;
        if rows.is_empty() || from >= total {
            counted.dropped += dropped;
            counted.local += local;
            counted.cross += cross;
            return Ok(());
        }
        if usize::try_from(from)? > TELEMETRY_PAIRS_MAX {
            bail!("more pairs than a table holds");
        }
    }
}

/// Every account and the shard that owns it. Accounts that move meanwhile may be missing: the plan
/// leaves them where they are.
pub fn owners(
    client: &mut BlockingClient,
    config: &ClusterConfig,
) -> anyhow::Result<BTreeMap<AccountId, ShardId>> {
    let mut owners = BTreeMap::new();
    for shard in config.shard_ids() {
        let mut after = AccountId(0);
        loop {
            let body = RequestBody::ListAccounts {
                after,
                limit: ROWS_PER_PAGE,
            };
            let reply = client.shard_request(shard, body)?;
            let ReplyBody::AccountList(ids) = reply else {
                bail!("shard {shard} gave an answer to another question");
            };
            let Some(&last) = ids.last() else { break };
            if last <= after {
                return Err(anyhow!("shard {shard} listed account {last} after {after}"));
            }
            owners.extend(ids.iter().map(|&id| (id, shard)));
            after = last;
        }
    }
    Ok(owners)
}
