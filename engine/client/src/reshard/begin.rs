//! Making moves the plan that the cluster carries out.

use quorate_config::ClusterConfig;
use quorate_protocol::client::TelemetryWindow;

use super::AccountMove;
use super::driver::{DriveError, nonsense, to_be_moved, unix_ns, wait_for_last_driver};
use super::record::{Predicted, Progress, Record, Status, Traffic};
use super::shelf;
use crate::blocking::BlockingClient;
use crate::observe::{self, ObserveError};

/// Keeps moves in the cluster as the plan under way: with what was promised, or with the plan that they undo.
///
/// # Errors
/// The moves make no sense, another plan is under way, or there is no answer.
pub fn begin(
    client: &mut BlockingClient,
    config: &ClusterConfig,
    moves: &[AccountMove],
    predicted: Option<Predicted>,
    undoes: Option<u64>,
) -> Result<Record, DriveError> {
    if let Some(problem) = nonsense(moves, config.shards) {
        return Err(DriveError::Nonsense(problem));
    }
    // Owners are listed behind this reading, and step 1 is written over it: nobody else's plan can have moved them since.
    let place = wait_for_last_driver(client)?;
    let before = traffic_so_far(client, config)?;
    let owners = observe::owners(client, config.shard_ids())?.newest();
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
    let begun = shelf::begin(&mut client.catalog(shelf::SHARD), place, record, &moves)?;
    Ok(begun.record)
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

/// Windows as one span of time that ends at `now_ns`, in nanoseconds by the leaders' clocks.
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
