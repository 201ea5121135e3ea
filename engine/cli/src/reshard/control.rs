//! `reshard status`, `pause`, `resume`, `abort`, `undo`, `history`: what is done about the plan that the cluster keeps.

use anyhow::Context as _;
use clap::Args;
use quorate_client::reshard::AccountMove;
use quorate_client::reshard::begin::begin;
use quorate_client::reshard::driver::{self, DriveError, backwards, begin_windows, unix_ns};
use quorate_client::reshard::record::{Record, Status};
use quorate_client::reshard::shelf::{self, ShelfError};
use quorate_client::{BlockingClient, ClientOptions, observe};
use quorate_config::ClusterConfig;
use serde_json::Value;

use super::drive::{self, DriveArgs, failure, tell_of_wait};
use super::show;
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::target::ClusterFile;

/// The cluster, and nothing else.
#[derive(Args, Debug)]
pub struct ControlArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// Options of `reshard resume`.
#[derive(Args, Debug)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    #[command(flatten)]
    pub drive: DriveArgs,
}

/// Options of `reshard undo`.
#[derive(Args, Debug)]
pub struct UndoArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// The plan to undo; the last one by default. The moves of the newest four are kept
    #[arg(long, value_name = "N")]
    pub number: Option<u64>,
    #[command(flatten)]
    pub drive: DriveArgs,
}

fn connect(cluster: &ClusterFile) -> Result<(ClusterConfig, BlockingClient), Failure> {
    let config = cluster.load()?;
    let client = BlockingClient::connect(&config, ClientOptions::default());
    Ok((config, client))
}

/// Prints how far the plan of now, or the last one, is.
pub fn status(args: &ControlArgs, context: Context) -> Outcome {
    let (_, mut client) = connect(&args.cluster)?;
    let shelved = shelf::current(&mut client.catalog(shelf::SHARD)).map_err(of_shelf)?;
    let record = shelved.map(|shelved| shelved.record);
    let document = record.as_ref().map_or(Value::Null, show::document);
    context.output.print(&document, || match &record {
        None => "no plan was carried out so far".to_owned(),
        Some(record) => show::people(record),
    })
}

/// Lets the driver stop behind the batches under way.
pub fn pause(args: &ControlArgs, context: Context) -> Outcome {
    let (_, mut client) = connect(&args.cluster)?;
    let record = driver::change(&mut client, |record| match record.status {
        Status::Running | Status::Paused => {
            record.status = Status::Paused;
            record.reason = None;
            Ok(())
        }
        ended @ (Status::Preparing | Status::Aborted | Status::Done) => {
            Err(DriveError::Ended(record.number, ended.name()))
        }
    });
    print(&record.map_err(failure)?, context)
}

/// Ends the plan behind the batches under way; what has moved stays where it is.
pub fn abort(args: &ControlArgs, context: Context) -> Outcome {
    let (config, mut client) = connect(&args.cluster)?;
    // To stop is worth more than to know when: a shard may have no leader just now.
    let windows = begin_windows(&mut client, &config).unwrap_or_default();
    let record = driver::change(&mut client, |record| match record.status {
        Status::Preparing | Status::Running | Status::Paused => {
            record.status = Status::Aborted;
            record.reason = None;
            record.ended_unix_ns = Some(unix_ns());
            record.windows_after.clone_from(&windows);
            Ok(())
        }
        ended @ (Status::Aborted | Status::Done) => {
            Err(DriveError::Ended(record.number, ended.name()))
        }
    });
    print(&record.map_err(failure)?, context)
}

/// Goes on with a plan that is paused, or whose tool has died.
pub fn resume(args: &ResumeArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    drive::run(&config, args.drive, context)
}

/// Brings back what a plan has moved, by a plan of its own.
pub fn undo(args: &UndoArgs, context: Context) -> Outcome {
    let (config, mut client) = connect(&args.cluster)?;
    let catalog = &mut client.catalog(shelf::SHARD);
    let records = shelf::history(catalog).map_err(of_shelf)?;
    let chosen = match args.number {
        None => records.last(),
        Some(number) => records.iter().find(|record| record.number == number),
    };
    let record = match (chosen, args.number) {
        (Some(record), _) => record,
        (None, None) => return Err(of_shelf(ShelfError::Nothing)),
        (None, Some(number)) => {
            return Err(Failure::usage(format!(
                "--number: there is no plan {number}"
            )));
        }
    };
    if !record.status.has_ended() {
        return Err(of_shelf(ShelfError::UnderWay(record.number)));
    }
    let number = record.number;
    let nothing = || {
        Failure::usage(format!(
            "plan {number} has moved nothing; history tells which have, --number names one"
        ))
    };
    let has_told = record.progress.moved > 0;
    if !has_told && record.moves == 0 {
        return Err(nothing());
    }
    let moves = shelf::moves(catalog, record).map_err(of_shelf)?;
    // A tool that was killed may have moved more than it has told.
    if !has_told {
        let owners = observe::owners(&mut client, config.shard_ids());
        let owners = owners.context("list the accounts")?.newest();
        let is_there = |it: &AccountMove| owners.get(&it.account) == Some(&it.target);
        if !moves.iter().any(is_there) {
            return Err(nothing());
        }
    }
    tell_of_wait(&config)?;
    begin(&mut client, &config, &backwards(&moves), None, Some(number)).map_err(failure)?;
    drive::run(&config, args.drive, context)
}

/// Prints the plans that the cluster remembers.
pub fn history(args: &ControlArgs, context: Context) -> Outcome {
    let (_, mut client) = connect(&args.cluster)?;
    let records = shelf::history(&mut client.catalog(shelf::SHARD)).map_err(of_shelf)?;
    let document = records.iter().map(show::document).collect::<Vec<_>>();
    context.output.print(&document.into(), || {
        if records.is_empty() {
            return "no plan was carried out so far".to_owned();
        }
        let texts: Vec<String> = records.iter().map(show::people).collect();
        texts.join("\n\n")
    })
}

fn print(record: &Record, context: Context) -> Outcome {
    let document = show::document(record);
    context.output.print(&document, || show::people(record))
}

fn of_shelf(error: ShelfError) -> Failure {
    failure(error.into())
}
