//! `reshard report`: what a plan promised, and what the traffic since then shows.
//!
//! Achieved is what was committed in windows that began behind the last move: no transfer of the old map is in it. Where a
//! leader has changed since, what it counted before is gone, and the report is of less.

use anyhow::Context as _;
use clap::Args;
use quorate_client::observe;
use quorate_client::reshard::record::{Record, Traffic};
use quorate_client::reshard::shelf;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::client::TelemetryWindow;
use serde_json::json;

use super::drive::failure;
use super::show;
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::target::ClusterFile;
use quorate_client::reshard::begin::traffic;

/// Options of `reshard report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// Prints before, predicted and achieved of the last plan.
pub fn run(args: &ReportArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let current = shelf::current(&mut client.catalog(shelf::SHARD));
    let current = current.map_err(|error| failure(error.into()))?;
    let Some(record) = current.map(|current| current.record) else {
        return Err(Failure::usage("no plan was carried out so far"));
    };
    if !record.status.has_ended() {
        return Err(Failure::usage(format!(
            "plan {} is {}; there is a report once it has ended",
            record.number,
            record.status.name()
        )));
    }
    let after = achieved(&mut client, &config, &record)?;
    let predicted = record
        .predicted
        .map(|predicted| predicted.cross_shard_ratio);
    let off = match (predicted, after.cross_shard_ratio()) {
        (Some(predicted), Some(achieved)) => Some((achieved - predicted) * 100.0),
        _ => None,
    };
    let document = json!({
        "plan": show::document(&record),
        "cross_shard_ratio": {
            "before": record.before.cross_shard_ratio(),
            "predicted": predicted,
            "achieved": after.cross_shard_ratio(),
            "off_by_points": off,
        },
        "throughput_tps": {
            "before": record.before.throughput(),
            "predicted": predicted_throughput(&record),
            "after": after.throughput(),
        },
        "transfers_since": after.local + after.cross,
    });
    context.output.print(&document, || {
        let share = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.0}/s"));
        format!(
            "{}\ncross-shard ratio   before {}  predicted {}  achieved {} (of {} transfers since)\nthroughput          before {}  predicted {}  after {}",
            show::people(&record),
            share(record.before.cross_shard_ratio()),
            share(predicted),
            share(after.cross_shard_ratio()),
            after.local + after.cross,
            rate(record.before.throughput()),
            rate(predicted_throughput(&record)),
            rate(after.throughput()),
        )
    })
}

/// Of a cluster that its cores limit, under a load that asks for more.
fn predicted_throughput(record: &Record) -> Option<f64> {
    let (before, predicted) = record.before.throughput().zip(record.predicted)?;
    Some(before * (1.0 + predicted.gain))
}

fn achieved(
    client: &mut BlockingClient,
    config: &ClusterConfig,
    record: &Record,
) -> anyhow::Result<Traffic> {
    let windows = observe::windows(client, config.shard_ids()).context("observe the traffic")?;
    let began = |shard: u32| {
        let mut after = record.windows_after.iter();
        after.find_map(|&(of, began_ns)| (of == shard).then_some(began_ns))
    };
    let since: Vec<TelemetryWindow> = windows
        .iter()
        .filter_map(|(shard, windows)| Some((began(shard.0)?, windows)))
        .flat_map(|(began_ns, windows)| {
            let after = move |window: &&TelemetryWindow| window.began.0 >= began_ns;
            windows.iter().filter(after).copied()
        })
        .collect();
    Ok(traffic(since.iter(), client.seen().0))
}
