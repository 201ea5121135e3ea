//! First touch: where an account is put that has no history, but a first counterparty.
//!
//! On the counterparty's shard, unless that one is too busy already: then on the least busy one. The account is created at
//! its default home, whose log alone decides creations, and moved from there before anybody uses it: the cheapest
//! move there is, and like every move a transaction, so reads and transfers stay strictly serializable around it.

use quorate_protocol::client::{AccountAnswer, TelemetryWindow};
use quorate_protocol::ids::{AccountId, ShardId};
use thiserror::Error;

use crate::blocking::BlockingClient;
use crate::error::ClientError;
use crate::observe::{self, ObserveError};

/// Why it cannot be said where an account belongs.
#[derive(Debug, Error)]
pub enum NearError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("there is no account {0}")]
    NotFound(AccountId),
    #[error("where account {0} is could not be read in time: transactions are open on it")]
    Contended(AccountId),
}

/// The shard for new accounts that will trade with `near`; `cap` is the load over the average above which a shard takes
/// none.
///
/// # Errors
/// There is no such account, or no answer.
pub fn shard_near(
    client: &mut BlockingClient,
    shards: impl IntoIterator<Item = ShardId>,
    near: AccountId,
    cap: f64,
) -> Result<ShardId, NearError> {
    match client.lookup_accounts(&[near])?[..] {
        [AccountAnswer::Found(_)] => {}
        [AccountAnswer::Contended] => return Err(NearError::Contended(near)),
        _ => return Err(NearError::NotFound(near)),
    }
    let wished = client.shard_of(near);
    let windows = observe::windows(client, shards)?;
    let loads: Vec<(ShardId, TelemetryWindow)> = windows
        .iter()
        .map(|(shard, windows)| (*shard, observe::sum(windows)))
        .collect();
    Ok(under_cap(wished, &loads, cap))
}

/// The wished shard if its load is at most `cap` times the average, else the first of the least loaded ones.
fn under_cap(wished: ShardId, counted: &[(ShardId, TelemetryWindow)], cap: f64) -> ShardId {
    let loads = loads(counted);
    let total: f64 = loads.iter().map(|(_, load)| load).sum();
    let average = total / precise(u64::try_from(loads.len()).expect("few shards"));
    let own = loads.iter().find(|(shard, _)| *shard == wished);
    let is_allowed = own.is_none_or(|(_, load)| *load <= cap * average);
    let least = loads.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    match least {
        Some((least, _)) if !is_allowed => *least,
        _ => wished,
    }
}

/// A transfer is a load at both of its accounts. A leader counts those across shards only where the debit account is; the
/// other halves are taken to be spread evenly over the other shards.
fn loads(counted: &[(ShardId, TelemetryWindow)]) -> Vec<(ShardId, f64)> {
    let across: u64 = counted.iter().map(|(_, window)| window.cross).sum();
    let others = u64::try_from(counted.len().saturating_sub(1).max(1)).expect("few shards");
    let load = |window: &TelemetryWindow| {
        let credits = precise(across - window.cross) / precise(others);
        precise(2 * window.local + window.cross) + credits
    };
    counted
        .iter()
        .map(|(shard, window)| (*shard, load(window)))
        .collect()
}

#[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(local_and_cross: &[(u64, u64)]) -> Vec<(ShardId, TelemetryWindow)> {
        let windows = local_and_cross
            .iter()
            .map(|&(local, cross)| TelemetryWindow {
                local,
                cross,
                ..TelemetryWindow::default()
            });
        (1..).map(ShardId).zip(windows).collect()
    }

    #[test]
    fn a_new_account_goes_to_its_counterparty_until_the_cap() {
        let even = counted(&[(100, 50), (100, 50), (100, 50)]);
        assert_eq!(under_cap(ShardId(2), &even, 1.1), ShardId(2));
        let busy = counted(&[(100, 50), (150, 50), (90, 50)]);
        assert_eq!(under_cap(ShardId(2), &busy, 1.1), ShardId(3));
        assert_eq!(under_cap(ShardId(2), &busy, 2.0), ShardId(2));
        let idle = counted(&[(0, 0), (0, 0)]);
        assert_eq!(under_cap(ShardId(2), &idle, 1.1), ShardId(2));
        let alone = counted(&[(10, 0)]);
        assert_eq!(under_cap(ShardId(1), &alone, 1.0), ShardId(1));
    }

    #[test]
    fn both_halves_of_a_transfer_across_shards_count() {
        let loads = loads(&counted(&[(0, 60), (10, 0), (0, 0)]));
        let loads: Vec<f64> = loads.into_iter().map(|(_, load)| load).collect();
        assert_eq!(loads, [60.0, 50.0, 30.0]);
    }
}
