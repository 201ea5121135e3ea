//! Carrying a plan out from this process: progress on stderr, the money at the end, the document.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use quorate_client::reshard::ApplyOptions;
use quorate_client::reshard::driver::{DriveError, SILENCE, drive};
use quorate_client::reshard::record::{Record, Status};
use quorate_client::reshard::shelf::{self, ShelfError};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::limits::MOVE_ACCOUNTS_MAX;

use super::show;
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::print::say;
use crate::verify;

const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const VERIFY_WITHIN: Duration = Duration::from_secs(30);

/// How accounts are moved.
#[derive(Args, Clone, Copy, Debug)]
pub struct DriveArgs {
    /// Accounts per move; only those in flight wait
    #[arg(long, default_value_t = ApplyOptions::default().batch_max, value_name = "N", value_parser = parse_batch)]
    pub batch: usize,
    /// Behind each batch its source is left alone for so many times as long as the batch waited
    #[arg(long, default_value_t = ApplyOptions::default().rest, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000))]
    pub rest: u32,
}

impl DriveArgs {
    fn options(self) -> ApplyOptions {
        ApplyOptions {
            batch_max: self.batch,
            rest: self.rest,
            ..ApplyOptions::default()
        }
    }
}

/// Carries the plan of now out, checks the money, and prints what became of it.
pub fn run(config: &ClusterConfig, args: DriveArgs, context: Context) -> Outcome {
    let stop = interrupt::watch_once()?;
    let record = carry_out(config, args, &stop)?;
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    let report = client.verify(VERIFY_WITHIN).map_err(anyhow::Error::from)?;
    let mut document = show::document(&record);
    document["verify"] = verify::document(&report);
    context.output.print(&document, || {
        let money = if report.ok { "ok" } else { "FAILED" };
        format!("{}\nmoney check: {money}", show::people(&record))
    })?;
    if !report.ok {
        return Err(Failure::CheckFailed(report.problems.join("; ")));
    }
    outcome(&record)
}

/// Carries it out until it has ended, or `stop` says so; the money was checked.
pub fn carry_out(
    config: &ClusterConfig,
    args: DriveArgs,
    stop: &AtomicBool,
) -> Result<Record, Failure> {
    let mut told = Instant::now();
    let mut progress = |record: &Record| {
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            say(format_args!("{}", show::progress_line(record)));
        }
    };
    tell_of_wait(config)?;
    let driven = drive(config, args.options(), stop, &mut progress).map_err(left_running)?;
    Ok(driven.record)
}

/// Taking over from a tool that may live takes as long as it may be silent.
pub fn tell_of_wait(config: &ClusterConfig) -> Outcome {
    let mut client = BlockingClient::connect(config, ClientOptions::default());
    let current = shelf::current(&mut client.catalog(shelf::SHARD));
    let current = current.map_err(|error| failure(error.into()))?;
    let record = current.map(|shelved| shelved.record);
    if let Some(record) = record.filter(|it| it.driver.is_some() && it.status != Status::Paused) {
        say(format_args!(
            "plan {} had a tool at work: waiting up to {} s for a sign of it",
            record.number,
            SILENCE.as_secs()
        ));
    }
    Ok(())
}

/// What ends the work of this process and not the plan.
fn left_running(error: DriveError) -> Failure {
    match failure(error) {
        Failure::Other(error) => Failure::Other(error.context(
            "the plan is left as it is; `quorate reshard resume` goes on with it, `abort` ends it",
        )),
        other => other,
    }
}

/// Success is a plan whose accounts are all where they were to go.
fn outcome(record: &Record) -> Outcome {
    let progress = &record.progress;
    let reason = record.reason.as_deref().unwrap_or(match record.status {
        Status::Running => "; `quorate reshard resume` goes on with it, `abort` ends it",
        _ => "",
    });
    let elsewhere = progress.elsewhere_before + progress.elsewhere;
    let astray = elsewhere + progress.refused;
    match record.status {
        Status::Done if astray == 0 => Ok(()),
        Status::Done => Err(anyhow!(
            "{astray} accounts are not at their targets: {elsewhere} are owned by another shard or by none, {} may not \
             be moved (system accounts)",
            progress.refused
        )
        .into()),
        Status::Preparing | Status::Paused | Status::Aborted | Status::Running => Err(anyhow!(
            "plan {} is {}, with {} of {} accounts settled{reason}",
            record.number,
            record.status.name(),
            progress.settled(),
            record.moves
        )
        .into()),
    }
}

/// What stands in the way of a plan, by who can do something about it.
pub fn failure(error: DriveError) -> Failure {
    match &error {
        DriveError::Money(..) => Failure::CheckFailed(error.to_string()),
        DriveError::Nonsense(_)
        | DriveError::Ended(..)
        | DriveError::DrivenByAnother(_)
        | DriveError::Shelf(
            ShelfError::UnderWay(_)
            | ShelfError::Nothing
            | ShelfError::MovesGone(_)
            | ShelfError::TooManyMoves(_),
        ) => Failure::Usage(error.into()),
        DriveError::Overtaken(_)
        | DriveError::Shelf(_)
        | DriveError::Observe(_)
        | DriveError::Client(_) => Failure::Other(error.into()),
    }
}

fn parse_batch(text: &str) -> Result<usize, String> {
    let batch = text.parse::<usize>().map_err(|error| error.to_string())?;
    match (1..=MOVE_ACCOUNTS_MAX).contains(&batch) {
        true => Ok(batch),
        false => Err(format!("{batch} is not between 1 and {MOVE_ACCOUNTS_MAX}")),
    }
}
