//! `account show`: linearizable reads, each account by itself.

use anyhow::anyhow;
use clap::Args;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::AccountId;
use serde_json::Value;

use super::{document, flag_names};
use crate::Context;
use crate::failure::Outcome;
use crate::print::table;
use crate::target::ClusterFile;

/// Options of `account show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Ids of accounts
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<u128>,
}

/// Prints those that exist; fails if one does not.
pub fn run(args: &ShowArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let ids: Vec<AccountId> = args.ids.iter().copied().map(AccountId).collect();
    let answers = client.lookup_accounts(&ids).map_err(anyhow::Error::from)?;
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for (&id, answer) in ids.iter().zip(answers) {
        match answer {
            AccountAnswer::Found(account) => found.push((account, client.shard_of(id).0)),
            AccountAnswer::NotFound => problems.push(format!("account {id} does not exist")),
            AccountAnswer::Moved(shard) => {
                problems.push(format!(
                    "account {id} is moving, last seen at shard {shard}"
                ));
            }
            AccountAnswer::Contended => {
                problems.push(format!(
                    "account {id} has open transactions that did not resolve"
                ));
            }
        }
    }
    let rows: Value = found
        .iter()
        .map(|(account, shard)| document(account, *shard))
        .collect();
    context.output.print(&rows, || {
        let mut table = table(&[
            "id", "shard", "ledger", "code", "debits", "credits", "flags",
        ]);
        for (account, shard) in &found {
            table.add_row([
                account.id.to_string(),
                shard.to_string(),
                account.ledger.to_string(),
                account.code.to_string(),
                account.debits_posted.to_string(),
                account.credits_posted.to_string(),
                flag_names(account.flags).join(","),
            ]);
        }
        table.to_string()
    })?;
    match problems.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(problems.join("; ")).into()),
    }
}
