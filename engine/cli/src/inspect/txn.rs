//! `inspect txn ID`: the records of one transfer or move in every log of this host, and what the
//! running shards say took effect.

use std::fmt::Write;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use quorate_client::{BlockingClient, ClientError, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::ids::{ReplicaAddress, TransferId};
use serde_json::{Value, json};

use super::log_scan::{LogScan, scan};
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;
use crate::target::ClusterFile;
use crate::transfer;

/// The logs are shown whether or not the cluster runs.
const ONLINE_WITHIN: Duration = Duration::from_secs(2);

/// Options of `inspect txn`.
#[derive(Args, Debug)]
pub struct TxnArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Id of a transfer or of a move
    pub id: u128,
}

/// Prints the records by shard, slot and replica; fails if the shards did not say what took effect.
pub fn run(args: &TxnArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut logs: Vec<(ReplicaAddress, LogScan)> = Vec::new();
    for replica in config.all_replicas() {
        if let Some(found) = scan(&config.data_dir_of(replica), args.id)? {
            logs.push((replica, found));
        }
    }
    let effects = online(&config, args.id);
    let (effects_document, effects_text) = match &effects {
        Ok((document, text)) => (document.clone(), text.clone()),
        Err(error) => (Value::Null, format!("not known: {error}")),
    };
    let document = json!({
        "id": args.id.to_string(),
        "records": records(&config, &logs),
        "logs_read": logs.iter().map(|(replica, _)| replica.to_string()).collect::<Vec<_>>(),
        "unreadable": unreadable(&logs),
        "effects": effects_document,
    });
    context
        .output
        .print(&document, || people(&logs, &effects_text))?;
    match effects {
        Ok(_) => Ok(()),
        Err(error) => Err(anyhow!("what took effect is not known: {error}").into()),
    }
}

fn records(config: &ClusterConfig, logs: &[(ReplicaAddress, LogScan)]) -> Vec<Value> {
    let mut rows = Vec::new();
    for (replica, log) in logs {
        for record in &log.records {
            let mut row = record.document(log.chosen_upto);
            row["shard"] = replica.shard.0.into();
            row["replica"] = replica.replica.0.into();
            row["node"] = config.node_of(*replica).id.0.into();
            rows.push(row);
        }
    }
    rows
}

fn unreadable(logs: &[(ReplicaAddress, LogScan)]) -> Vec<String> {
    logs.iter()
        .flat_map(|(replica, log)| {
            log.unreadable
                .iter()
                .map(move |text| format!("{replica}: {text}"))
        })
        .collect()
}

/// What the transfer index of every shard says, for machines and for people.
fn online(config: &ClusterConfig, id: u128) -> Result<(Value, String), ClientError> {
    let options = ClientOptions {
        deadline: ONLINE_WITHIN,
        ..ClientOptions::default()
    };
    let mut client = BlockingClient::connect(config, options);
    let records = client.lookup_transfers(&[TransferId(id)])?;
    let rows: Vec<_> = records.iter().flat_map(transfer::sides).collect();
    let text = match rows.is_empty() {
        true => "no transfer of this id took effect or was refused".to_owned(),
        false => transfer::people(&rows),
    };
    Ok((rows.iter().map(transfer::side_document).collect(), text))
}

fn people(logs: &[(ReplicaAddress, LogScan)], effects: &str) -> String {
    let mut table = table(&[
        "replica",
        "slot",
        "record",
        "ballot",
        "origin",
        "attempt",
        "known chosen",
        "what",
    ]);
    for (replica, log) in logs {
        for record in &log.records {
            table.add_row([
                replica.to_string(),
                record.slot.to_string(),
                record.record.to_owned(),
                record.ballot.to_string(),
                record.origin.to_string(),
                record.attempt.map_or("-".to_owned(), |attempt| {
                    format!("{}/{}", attempt.ballot, attempt.counter)
                }),
                if record.slot <= log.chosen_upto {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
                record.detail.clone(),
            ]);
        }
    }
    let mut text = String::new();
    let read: Vec<String> = logs
        .iter()
        .map(|(replica, _)| replica.to_string())
        .collect();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "logs read: {}", read.join(", "));
    let _ = writeln!(text, "{table}");
    for line in unreadable(logs) {
        let _ = writeln!(text, "unreadable: {line}");
    }
    let _ = write!(text, "took effect:\n{effects}");
    text
}
