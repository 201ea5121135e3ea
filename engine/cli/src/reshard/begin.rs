//! Making a planner's plan the one that the cluster carries out.

use quorate_client::BlockingClient;
use quorate_client::reshard::AccountMove;
use quorate_client::reshard::begin::begin as begin_moves;
use quorate_client::reshard::record::{Predicted, Record};
use quorate_config::ClusterConfig;
use quorate_planner::Plan;

use super::drive::{failure, tell_of_wait};
use crate::failure::Failure;

/// Keeps a plan in the cluster as the one under way.
pub fn begin(
    client: &mut BlockingClient,
    config: &ClusterConfig,
    plan: &Plan,
) -> Result<Record, Failure> {
    let moves: Vec<AccountMove> = plan
        .moves
        .iter()
        .map(|planned| AccountMove {
            account: planned.account,
            source: planned.source,
            target: planned.target,
        })
        .collect();
    let predicted = Predicted {
        cross_shard_ratio: plan.cross_shard_ratio.backtest,
        load_max_over_avg: plan.load_max_over_avg.planned,
        accounts_max_over_avg: plan.accounts_max_over_avg,
        gain: plan.gate.predicted_gain.least(),
    };
    tell_of_wait(config)?;
    begin_moves(client, config, &moves, Some(predicted), None).map_err(failure)
}
