//! `account history`: what happened to an account, newest first, through all shards that have owned it.

use anyhow::anyhow;
use clap::Args;
use quorate_client::history::HistoryRow;
use quorate_client::{AccountHistory, BlockingClient, ClientOptions, TimeRange};
use quorate_protocol::ids::AccountId;
use quorate_protocol::time::Timestamp;
use serde_json::{Value, json};

use super::sides;
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::moment;
use crate::print::table;
use crate::target::ClusterFile;

/// Options of `account history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Id of an account
    pub id: u128,
    /// Only what committed at or after this time: nanoseconds since 1970, or RFC 3339
    #[arg(long, value_name = moment::TIME, value_parser = moment::parse)]
    pub from: Option<Timestamp>,
    /// Only what committed up to this time; what is shown of the past is final
    #[arg(long, value_name = moment::TIME, value_parser = moment::parse)]
    pub to: Option<Timestamp>,
    /// Rows at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// Prints the rows; fails if there is no such account, or older rows are not kept any more.
pub fn run(args: &HistoryArgs, context: Context) -> Outcome {
    let range = TimeRange {
        first: args.from.unwrap_or(TimeRange::ALL.first),
        last: args.to.unwrap_or(TimeRange::ALL.last),
    };
    if range.first > range.last {
        return Err(Failure::usage("--from: lies behind --to"));
    }
    if args.limit == 0 {
        return Err(Failure::usage("--limit: no rows"));
    }
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let account = AccountId(args.id);
    let is_past = range.last <= moment::now();
    let found = client.account_history(account, range, is_past, args.limit);
    let Some(found) = found.map_err(anyhow::Error::from)? else {
        return Err(anyhow!("account {account} does not exist").into());
    };
    let document = json!({
        "id": account.to_string(),
        "shard": found.shard.0,
        "rows": found.rows.iter().map(|row| document(account, row)).collect::<Vec<_>>(),
        "more": found.more,
        "dropped": found.dropped,
    });
    context
        .output
        .print(&document, || people(account, &found))?;
    match found.dropped {
        false => Ok(()),
        true => Err(anyhow!("older rows of account {account} are not kept any more").into()),
    }
}

fn document(account: AccountId, row: &HistoryRow) -> Value {
    let HistoryRow { shard, entry } = row;
    let recorded = &entry.recorded;
    let transfer = &recorded.transfer;
    let (side, other) = sides(account, transfer);
    json!({
        "shard": shard.0,
        "position": entry.position,
        "id": transfer.id.to_string(),
        "side": side,
        "other": other.to_string(),
        "amount": transfer.amount.to_string(),
        "ledger": transfer.ledger,
        "code": transfer.code,
        "user_data": transfer.user_data.to_string(),
        "commit_ts": recorded.commit_ts.0.to_string(),
        "applied_ts": entry.applied_ts.0.to_string(),
        "slot": recorded.slot.0,
        "coordinator": match entry.coordinator.0 {
            0 => shard.0,
            coordinator => coordinator,
        },
    })
}

fn people(account: AccountId, found: &AccountHistory) -> String {
    let mut rows = table(&[
        "committed",
        "shard",
        "side",
        "other",
        "amount",
        "code",
        "id",
    ]);
    for row in &found.rows {
        let recorded = &row.entry.recorded;
        let (side, other) = sides(account, &recorded.transfer);
        rows.add_row([
            moment::render(recorded.commit_ts),
            row.shard.to_string(),
            side.to_owned(),
            other.to_string(),
            recorded.transfer.amount.to_string(),
            recorded.transfer.code.to_string(),
            recorded.transfer.id.to_string(),
        ]);
    }
    let mut text = match found.rows.is_empty() {
        true => format!("nothing happened to account {account} in this time"),
        false => rows.to_string(),
    };
    if found.more {
        text += "\nthere are older rows; --limit shows more";
    }
    text
}
