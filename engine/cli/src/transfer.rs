//! `transfer`: moves money once, or shows what became of a transfer id.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use quorate_client::{BlockingClient, ClientOptions, TransferRecord};
use quorate_config::ClusterConfig;
use quorate_protocol::client::RecordedTransfer;
use quorate_protocol::ids::{AccountId, ShardId, TransferId};
use quorate_protocol::ledger::{ResultCode, Transfer};
use quorate_protocol::txn::record::Attempt;
use serde_json::{Value, json};

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::inspect::attempt_document;
use crate::print::{Output, result_name, table};
use crate::target::ClusterFile;

/// Options of `transfer`, or its subcommand. What the plain form needs is required by clap unless
/// the subcommand is there; hence the options.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct TransferArgs {
    #[command(subcommand)]
    pub command: Option<TransferCommand>,
    /// Topology of the cluster (see `quorate cluster init`)
    #[arg(
        short = 'f',
        long = "file",
        value_name = "cluster.toml",
        env = "QUORATE_CLUSTER",
        hide_env_values = true,
        required = true
    )]
    pub path: Option<PathBuf>,
    /// Account that pays
    #[arg(long, value_name = "A", required = true)]
    pub debit: Option<u128>,
    /// Account that is paid
    #[arg(long, value_name = "B", required = true)]
    pub credit: Option<u128>,
    /// In the ledger's smallest unit
    #[arg(long, value_name = "X", required = true)]
    pub amount: Option<u128>,
    /// Ledger of both accounts
    #[arg(long, value_name = "L", required = true)]
    pub ledger: Option<u32>,
    /// Kind of transfer, of the user's own numbering
    #[arg(long, value_name = "C", required = true)]
    pub code: Option<u16>,
    /// Idempotency key: the same id takes effect once [default: a new ULID]
    #[arg(long)]
    pub id: Option<u128>,
}

/// What else to do with transfers.
#[derive(Subcommand, Debug)]
pub enum TransferCommand {
    /// Show what every shard recorded for a transfer id
    Show(ShowArgs),
}

/// Which transfer to show.
#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Id of the transfer
    pub id: u128,
}

/// Runs the command.
pub fn run(args: &TransferArgs, context: Context) -> Outcome {
    match &args.command {
        Some(TransferCommand::Show(show_args)) => show(show_args, context),
        None => create(args, context),
    }
}

fn create(args: &TransferArgs, context: Context) -> Outcome {
    let (Some(path), Some(debit), Some(credit), Some(amount), Some(ledger), Some(code)) = (
        &args.path,
        args.debit,
        args.credit,
        args.amount,
        args.ledger,
        args.code,
    ) else {
        return Err(Failure::usage(
            "transfer: -f, --debit, --credit, --amount, --ledger, --code",
        ));
    };
    let config = ClusterConfig::load(path)?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let id = args.id.map_or_else(|| client.new_transfer_id(), TransferId);
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    let transfer = Transfer::new(id, debit, credit, amount, ledger, code);
    let rows = client
        .create_transfers(&[transfer])
        .map_err(anyhow::Error::from)?;
    let row = rows
        .first()
        .ok_or_else(|| anyhow!("no result for one transfer"))?;
    let result = result_name(row);
    let document = json!({
        "id": id.to_string(),
        "result": result,
        "timestamp": row.timestamp.0.to_string(),
        "cross_shard": row.cross_shard(),
    });
    context
        .output
        .print(&document, || format!("{id}  {result}"))?;
    match row.result() {
        Some(code) if code.is_success() => Ok(()),
        Some(ResultCode::Unknown) => {
            Err(anyhow!("transfer {id}: outcome unknown; sending the same id again is safe").into())
        }
        Some(ResultCode::NotLeader) => Err(Failure::nothing_done(
            format_args!("transfer {id}"),
            &client.connection_failures(),
        )),
        _ => Err(anyhow!("transfer {id}: {result}").into()),
    }
}

fn show(args: &ShowArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let id = TransferId(args.id);
    let records = client
        .lookup_transfers(&[id])
        .map_err(anyhow::Error::from)?;
    let record = records
        .first()
        .ok_or_else(|| anyhow!("no answer for one id"))?;
    let rows = sides(record);
    let document = json!({
        "id": id.to_string(),
        "sides": rows.iter().map(side_document).collect::<Vec<_>>(),
    });
    if context.output == Output::Machine || !rows.is_empty() {
        context.output.print(&document, || people(&rows))?;
    }
    match rows.is_empty() {
        true => Err(anyhow!("no shard has recorded transfer {id}").into()),
        false => Ok(()),
    }
}

type Side<'a> = (&'static str, ShardId, &'a RecordedTransfer);

/// What every shard recorded: the debit side decided, the credit side posted.
#[must_use]
pub fn sides(record: &TransferRecord) -> Vec<Side<'_>> {
    let debits = record
        .debits
        .iter()
        .map(|(shard, found)| ("debit", *shard, found));
    let credits = record
        .credits
        .iter()
        .map(|(shard, found)| ("credit", *shard, found));
    debits.chain(credits).collect()
}

/// One side as documents show it.
#[must_use]
pub fn side_document(&(side, shard, found): &Side<'_>) -> Value {
    let transfer = &found.transfer;
    json!({
        "side": side,
        "shard": shard.0,
        "result": code_name(found.code),
        "debit": transfer.debit_account_id.to_string(),
        "credit": transfer.credit_account_id.to_string(),
        "amount": transfer.amount.to_string(),
        "ledger": transfer.ledger,
        "code": transfer.code,
        "user_data": transfer.user_data.to_string(),
        "slot": found.slot.0,
        "timestamp": found.commit_ts.0.to_string(),
        "attempt": (found.attempt != Attempt::default()).then(|| attempt_document(found.attempt)),
    })
}

/// The sides as a table.
#[must_use]
pub fn people(rows: &[Side<'_>]) -> String {
    let mut table = table(&[
        "side", "shard", "result", "debit", "credit", "amount", "ledger", "slot",
    ]);
    for (side, shard, found) in rows {
        let transfer = &found.transfer;
        table.add_row([
            (*side).to_owned(),
            shard.to_string(),
            code_name(found.code),
            transfer.debit_account_id.to_string(),
            transfer.credit_account_id.to_string(),
            transfer.amount.to_string(),
            transfer.ledger.to_string(),
            found.slot.to_string(),
        ]);
    }
    table.to_string()
}

fn code_name(number: u16) -> String {
    ResultCode::from_u16(number)
        .map_or_else(|| format!("code {number}"), |code| code.name().to_owned())
}
