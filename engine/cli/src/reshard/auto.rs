//! `reshard auto`: plans now and then, and carries out what pays.
//!
//! Two things keep it from running after noise: a plan is carried out only if the gate has allowed one several times
//! running (`--confirm`), and behind each there is a time without plans (`--cooldown`), in which the traffic under
//! the new map is counted.
//!
//! The first plan may move every account. Those behind it follow the traffic: each moves a twentieth of the accounts at most
//! (`--max-moves` says another number), which costs a fraction of the moves of a new map and gives nearly its ratio.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use quorate_client::reshard::driver::unix_ns;
use quorate_client::reshard::record::{Record, Status};
use quorate_client::reshard::shelf::{self, Shelved};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_planner::Decision;
use serde_json::{Value, json};

use super::begin::begin;
use super::drive::{DriveArgs, carry_out, failure};
use super::plan::{Budget, GateArgs, live};
use super::show;
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::print::say;
use crate::target::ClusterFile;

/// Options of `reshard auto`.
#[derive(Args, Debug)]
pub struct AutoArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Time between plans
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = parse_wait)]
    pub interval: Duration,
    /// Plans in a row that the gate has to allow before one is carried out
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub confirm: u32,
    /// Time behind a plan in which none is made
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = parse_wait)]
    pub cooldown: Duration,
    /// End after so many plans were made; without it, on SIGINT or SIGTERM
    #[arg(long, value_name = "N")]
    pub plans: Option<u64>,
    #[command(flatten)]
    pub drive: DriveArgs,
    #[command(flatten)]
    pub gate: GateArgs,
}

/// The longest time to wait.
const WAIT_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);
/// A plan whose moves have been being written for so long has lost its tool: that takes seconds.
const PREPARING_MAX: Duration = Duration::from_secs(60);

/// What is remembered from one plan to the next.
#[derive(Debug, Default)]
struct State {
    /// Plans in a row that the gate has allowed.
    allowed: u32,
    /// The version of a record that says that a plan is being prepared, and since when it has been seen.
    preparing: Option<(u64, Instant)>,
}

/// Runs until it is told to end; a plan that fails, a cluster that does not answer, is tried again next time.
pub fn run(args: &AutoArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let stop = interrupt::watch_once()?;
    let mut made = 0;
    let mut state = State::default();
    let mut carried_out: Vec<Value> = Vec::new();
    while args.plans.is_none_or(|plans| made < plans) && wait(args.interval, &stop) {
        made += 1;
        match plan_once(&config, args, &mut state, &stop) {
            Ok(None) => {}
            Ok(Some(done)) => {
                carried_out.push(done);
                if args.plans.is_none_or(|plans| made < plans) && !wait(args.cooldown, &stop) {
                    break;
                }
            }
            // Nothing more is moved where money is not right.
            Err(wrong @ Failure::CheckFailed(_)) => return Err(wrong),
            Err(failure) => {
                state.allowed = 0;
                say(format_args!("auto: {failure}"));
            }
        }
    }
    let document = json!({ "plans": made, "carried_out": carried_out });
    context.output.print(&document, || {
        format!("{made} plans made, {} carried out", carried_out.len())
    })
}

/// Goes on with a plan that was left, or makes one and carries it out if it was allowed often enough.
fn plan_once(
    config: &ClusterConfig,
    args: &AutoArgs,
    state: &mut State,
    stop: &AtomicBool,
) -> Result<Option<Value>, Failure> {
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    let last = shelf::current(&mut client.catalog(shelf::SHARD));
    let last = last.map_err(|error| failure(error.into()))?;
    if let Some(Shelved {
        record: last,
        version,
    }) = last
        && !last.status.has_ended()
    {
        if last.status == Status::Preparing {
            return prepared_by_somebody(
                &mut client,
                state,
                Shelved {
                    record: last,
                    version,
                },
            );
        }
        // One that somebody has paused says no reason, and waits for them.
        if last.status == Status::Paused && last.reason.is_none() {
            say(format_args!("auto: plan {} is paused", last.number));
            return Ok(None);
        }
        return go_on(config, args, stop).map(Some);
    }
    let plan = live(config, args.gate, budget(&mut client)?)?;
    say(format_args!(
        "auto: {}: {}",
        match plan.decision {
            Decision::Apply => "apply",
            Decision::Refuse => "refuse",
        },
        plan.reason
    ));
    if plan.decision == Decision::Refuse {
        state.allowed = 0;
        return Ok(None);
    }
    state.allowed += 1;
    if state.allowed < args.confirm {
        return Ok(None);
    }
    state.allowed = 0;
    begin(&mut client, config, &plan)?;
    go_on(config, args, stop).map(Some)
}

/// A plan whose moves are being written by another tool, or were by one that has died: nothing of it has moved, and nobody can go
/// on with it. It ends by the version that was seen, so that a slow tool which is through meanwhile keeps its plan.
fn prepared_by_somebody(
    client: &mut BlockingClient,
    state: &mut State,
    seen: Shelved,
) -> Result<Option<Value>, Failure> {
    let Shelved { record, version } = seen;
    let since = match state.preparing {
        Some((of, since)) if of == version => since,
        Some(_) | None => Instant::now(),
    };
    state.preparing = Some((version, since));
    if since.elapsed() < PREPARING_MAX {
        say(format_args!(
            "auto: plan {} is being prepared",
            record.number
        ));
        return Ok(None);
    }
    let ended = Record {
        status: Status::Aborted,
        reason: Some("its tool has died before all moves were written".to_owned()),
        ended_unix_ns: Some(unix_ns()),
        ..record
    };
    let ended = shelf::replace(&mut client.catalog(shelf::SHARD), version, ended);
    let ended = ended.map_err(|error| failure(error.into()))?;
    say(format_args!("auto: {}", show::people(&ended.record)));
    Ok(None)
}

/// Whether a first map stands: some plan was carried out, and not taken back.
fn budget(client: &mut BlockingClient) -> Result<Budget, Failure> {
    let records = shelf::history(&mut client.catalog(shelf::SHARD));
    let records = records.map_err(|error| failure(error.into()))?;
    let done = records.iter().filter(|it| it.status == Status::Done);
    let plans = done.map(|it| (it.number, it.undoes, it.progress.moved));
    Ok(match standing(plans).is_empty() {
        true => Budget::Unbounded,
        false => Budget::OfLaterPlans,
    })
}

/// Which of the plans that were carried out still make the map: of each its number, which one it undoes, and the accounts moved.
fn standing(plans: impl Iterator<Item = (u64, Option<u64>, u64)>) -> BTreeSet<u64> {
    let mut standing = BTreeSet::new();
    for (number, undoes, moved) in plans {
        // What undoes an undo brings the map back.
        let took_back = undoes.is_some_and(|undone| standing.remove(&undone));
        if moved > 0 && !took_back {
            standing.insert(number);
        }
    }
    standing
}

fn go_on(config: &ClusterConfig, args: &AutoArgs, stop: &AtomicBool) -> Result<Value, Failure> {
    let record = carry_out(config, args.drive, stop)?;
    say(format_args!("auto: {}", show::people(&record)));
    Ok(show::document(&record))
}

fn parse_wait(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= WAIT_MAX => Ok(time),
        Ok(_) => Err("more than a year".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// False: it is to end.
fn wait(time: Duration, stop: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while !stop.load(Ordering::Relaxed) {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_was_taken_back_is_no_map() {
        for (plans, numbers) in [
            (&[][..], &[][..]),
            (&[(1, None, 0)], &[]),
            (&[(1, None, 5)], &[1]),
            (&[(1, None, 5), (2, Some(1), 5)], &[]),
            (&[(1, None, 5), (2, Some(1), 5), (3, Some(2), 5)], &[3]),
            (&[(1, None, 5), (2, None, 3), (3, Some(2), 3)], &[1]),
        ] {
            let standing = standing(plans.iter().copied());
            assert_eq!(
                standing.into_iter().collect::<Vec<_>>(),
                numbers,
                "{plans:?}"
            );
        }
    }
}
