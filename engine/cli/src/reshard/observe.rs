//! `reshard observe`: what the leaders have counted, without a plan.

use anyhow::Context as _;
use clap::Args;
use quorate_client::observe;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_protocol::client::{OperationsRow, TelemetryWindow};
use quorate_protocol::ids::ShardId;
use serde_json::{Value, json};

use super::show;
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;
use crate::target::ClusterFile;
use quorate_client::reshard::begin::traffic;

/// Options of `reshard observe`.
#[derive(Args, Debug)]
pub struct ObserveArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// How many of the most used accounts are listed
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub hottest: usize,
    /// Begin a new window afterwards, so that what comes is counted apart
    #[arg(long)]
    pub begin_window: bool,
}

/// Prints the windows of every shard, and the accounts that are used most.
pub fn run(args: &ObserveArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let counted =
        observe::counted(&mut client, config.shard_ids()).context("observe the traffic")?;
    let mut used = observe::operations(&mut client, config.shard_ids())
        .context("observe the use of accounts")?;
    used.sort_unstable_by_key(|(_, row)| (std::cmp::Reverse(row.operations), row.account));
    let accounts = used.len();
    used.truncate(args.hottest);
    let now_ns = client.seen().0;
    if args.begin_window {
        observe::begin_window(&mut client, config.shard_ids()).context("begin a window")?;
    }
    let all = counted.windows.iter().flat_map(|(_, windows)| windows);
    let total = traffic(all, now_ns);
    let dropped = counted.sum().dropped;
    let document = json!({
        "shards": counted.windows.iter().map(shard).collect::<Vec<_>>(),
        "total": show::traffic(&total),
        "pairs": counted.pairs.len(),
        "dropped": dropped,
        "accounts_used": accounts,
        "hottest": used.iter().map(hot).collect::<Vec<_>>(),
    });
    context.output.print(&document, || {
        let mut rows = table(&["shard", "window", "local", "across", "not counted"]);
        for (shard, windows) in &counted.windows {
            for (age, window) in windows.iter().enumerate() {
                rows.add_row([
                    shard.to_string(),
                    format!("-{age}"),
                    window.local.to_string(),
                    window.cross.to_string(),
                    window.dropped.to_string(),
                ]);
            }
        }
        let ratio = total
            .cross_shard_ratio()
            .map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        let mut text = format!(
            "{rows}\n\ncross-shard ratio {ratio}; {} pairs, {dropped} transfers of pairs that found no room; {accounts} accounts used",
            counted.pairs.len()
        );
        for (shard, row) in &used {
            text += &format!("\n  account {} at shard {shard}: {} postings, older ones halved", row.account, row.operations);
        }
        text
    })
}

fn shard((shard, windows): &(ShardId, Vec<TelemetryWindow>)) -> Value {
    let window = |window: &TelemetryWindow| {
        json!({
            "began": window.began.0.to_string(),
            "local": window.local,
            "cross": window.cross,
            "dropped": window.dropped,
        })
    };
    json!({
        "shard": shard.0,
        "windows": windows.iter().map(window).collect::<Vec<_>>(),
    })
}

fn hot((shard, row): &(ShardId, OperationsRow)) -> Value {
    json!({
        "account": row.account.to_string(),
        "shard": shard.0,
        "operations": row.operations,
    })
}
