//! Making a plan the one that the cluster carries out.

use quorate_client::BlockingClient;
use quorate_client::observe::{self, ObserveError};
use quorate_client::reshard::AccountMove;
use quorate_client::reshard::driver::{
    DriveError, nonsense, to_be_moved, unix_ns, wait_for_last_driver,
};
use quorate_client::reshard::record::{Predicted, Progress, Record, Status, Traffic};
use quorate_client::reshard::shelf;
use quorate_config::ClusterConfig;
use quorate_planner::Plan;
use quorate_protocol::client::TelemetryWindow;

use super::drive::failure;
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
    begin_moves(client, config, &moves, Some(predicted), None)
}

/// The same for moves that no planner made.
pub fn begin_moves(
    client: &mut BlockingClient,
    config: &ClusterConfig,
    moves: &[AccountMove],
    predicted: Option<Predicted>,
    undoes: Option<u64>,
) -> Result<Record, Failure> {
    if let Some(problem) = nonsense(moves, config.shards) {
        return Err(Failure::usage(problem));
    }
    wait_for_last_driver(client).map_err(failure)?;
    let before = traffic_so_far(client, config).map_err(|error| failure(error.into()))?;
    let owners = observe::owners(client, config.shard_ids());
    let owners = owners.map_err(|error| failure(error.into()))?.newest();
    let (moves, already_there, elsewhere) = to_be_moved(moves, &owners);
    let record = Record {
        number: 0,
        undoes,
        status: Status::Preparing,
        reason: None,
        created_unix_ns: unix_ns(),
        ended_unix_ns: None,
        predicted,
        before,
        moves: u64::try_from(moves.len()).expect("a usize fits 64 bits"),
        chunks: 0,
        chunks_named: 0,
        progress: Progress {
            already_there,
            elsewhere_before: elsewhere,
            ..Progress::default()
        },
        driver: None,
        windows_after: Vec::new(),
    };
    let begun = shelf::begin(&mut client.catalog(shelf::SHARD), record, &moves);
    Ok(begun
        .map_err(|error| failure(DriveError::from(error)))?
        .record)
}

/// What the leaders have counted in the windows that they tell apart.
fn traffic_so_far(
    client: &mut BlockingClient,
    config: &ClusterConfig,
) -> Result<Traffic, ObserveError> {
    let windows = observe::windows(client, config.shard_ids())?;
    let now = client.seen().0;
    Ok(traffic(
        windows.iter().flat_map(|(_, windows)| windows),
        now,
    ))
}

/// Windows as one span of time that ends at `now`, in nanoseconds by the leaders' clocks.
pub fn traffic<'a>(windows: impl Iterator<Item = &'a TelemetryWindow>, now_ns: u64) -> Traffic {
    let sum = observe::sum(windows);
    let seconds = match sum.began.0 {
        0 => 0.0,
        began_ns => std::time::Duration::from_nanos(now_ns.saturating_sub(began_ns)).as_secs_f64(),
    };
    Traffic {
        local: sum.local,
        cross: sum.cross,
        seconds,
    }
}
