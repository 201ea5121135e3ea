//! `inspect in-doubt`: transactions that a participant has prepared and whose decision it does not
//! know, as every replica sees them.
//!
//! While the coordinator's shard has no quorum they stay open, and reads and dependent debits of
//! their accounts wait; nothing else does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use clap::Args;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_protocol::client::{InDoubtRow, ReplyBody, RequestBody};
use quorate_protocol::ids::ReplicaAddress;
use serde_json::{Value, json};

use super::attempt_document;
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;
use crate::target::ClusterFile;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Options of `inspect in-doubt`.
#[derive(Args, Debug)]
pub struct InDoubtArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// Prints one row per transaction and replica; fails if a replica did not say what it holds.
pub fn run(args: &InDoubtArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let options = ClientOptions {
        deadline: ANSWER_WITHIN,
        ..ClientOptions::default()
    };
    let mut client = BlockingClient::connect(&config, options);
    let mut rows: Vec<(ReplicaAddress, InDoubtRow)> = Vec::new();
    let mut silent = Vec::new();
    for replica in config.all_replicas() {
        match client.replica_request(replica, RequestBody::InDoubt) {
            Ok(ReplyBody::InDoubt(found)) => {
                rows.extend(found.into_iter().map(|row| (replica, row)));
            }
            Ok(ReplyBody::NotLeader { .. }) => {
                silent.push(format!(
                    "{replica} is out of service; `quorate status` says why"
                ));
            }
            Ok(other) => silent.push(format!("{replica} answered {}", other.name())),
            Err(error) => silent.push(error.to_string()),
        }
    }
    let now_ns = now_ns();
    let node = |replica| config.node_of(replica).id.0;
    let document = json!({
        "in_doubt": rows
            .iter()
            .map(|(replica, row)| row_document(*replica, node(*replica), row, now_ns))
            .collect::<Vec<_>>(),
        "no_answer": silent,
    });
    context
        .output
        .print(&document, || people(&rows, &silent, now_ns))?;
    match silent.len() {
        0 => Ok(()),
        // What a silent replica holds is not known, and may be in doubt.
        count => Err(anyhow!("{count} replicas gave no answer").into()),
    }
}

fn row_document(replica: ReplicaAddress, node: u32, row: &InDoubtRow, now_ns: u64) -> Value {
    json!({
        "shard": replica.shard.0,
        "replica": replica.replica.0,
        "node": node,
        "id": row.id.to_string(),
        "subject": subject(row),
        "coordinator": row.coordinator.0,
        "attempt": attempt_document(row.attempt),
        "prepare_ts": row.prepare_ts.0.to_string(),
        "slot": row.slot.0,
        "age_ms": now_ns.saturating_sub(row.prepare_ts.0) / 1_000_000,
    })
}

fn people(rows: &[(ReplicaAddress, InDoubtRow)], silent: &[String], now_ns: u64) -> String {
    let mut text = match (rows.is_empty(), silent.is_empty()) {
        (true, true) => "nothing is in doubt".to_owned(),
        (true, false) => "no replica that answered has anything in doubt".to_owned(),
        (false, _) => {
            let mut table = table(&["replica", "subject", "id", "coordinator", "slot", "age ms"]);
            for (replica, row) in rows {
                table.add_row([
                    replica.to_string(),
                    subject(row).to_owned(),
                    row.id.to_string(),
                    row.coordinator.to_string(),
                    row.slot.to_string(),
                    (now_ns.saturating_sub(row.prepare_ts.0) / 1_000_000).to_string(),
                ]);
            }
            table.to_string()
        }
    };
    for reason in silent {
        text += &format!("\nno answer: {reason}");
    }
    text
}

fn subject(row: &InDoubtRow) -> &'static str {
    match row.is_move {
        true => "move",
        false => "transfer",
    }
}

fn now_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
