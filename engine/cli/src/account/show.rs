//! `account show`: linearizable reads, each account by itself; or the balances of a time in the past.

use anyhow::anyhow;
use clap::Args;
use quorate_client::{AccountAt, BlockingClient, ClientOptions};
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::Account;
use quorate_protocol::time::Timestamp;
use serde_json::Value;

use super::{document, flag_names};
use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::moment;
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
    /// Balances of a time in the past, by what had committed: nanoseconds since 1970, or RFC 3339
    #[arg(long, value_name = moment::TIME, value_parser = moment::parse)]
    pub at: Option<Timestamp>,
}

/// Accounts with their shards, and why others are missing.
#[derive(Default)]
struct Found {
    accounts: Vec<(Account, u32)>,
    problems: Vec<String>,
}

/// Prints those that exist; fails if one does not.
pub fn run(args: &ShowArgs, context: Context) -> Outcome {
    if args.at.is_some_and(|at| at > moment::now()) {
        return Err(Failure::usage("--at: lies in the future"));
    }
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let ids: Vec<AccountId> = args.ids.iter().copied().map(AccountId).collect();
    let found = match args.at {
        None => now(&mut client, &ids)?,
        Some(at) => then(&mut client, &ids, at)?,
    };
    let rows: Value = found
        .accounts
        .iter()
        .map(|(account, shard)| document(account, *shard))
        .collect();
    context.output.print(&rows, || people(&found))?;
    match found.problems.is_empty() {
        true => Ok(()),
        false => Err(anyhow!(found.problems.join("; ")).into()),
    }
}

fn now(client: &mut BlockingClient, ids: &[AccountId]) -> Result<Found, Failure> {
    let answers = client.lookup_accounts(ids).map_err(anyhow::Error::from)?;
    let mut found = Found::default();
    for (&id, answer) in ids.iter().zip(answers) {
        match answer {
            AccountAnswer::Found(account) => {
                found.accounts.push((account, client.shard_of(id).0));
            }
            AccountAnswer::NotFound => {
                found.problems.push(format!("account {id} does not exist"));
            }
            AccountAnswer::Moved(shard) => {
                found.problems.push(format!(
                    "account {id} is moving, last seen at shard {shard}"
                ));
            }
            AccountAnswer::Contended => {
                found.problems.push(format!(
                    "account {id} has open transactions that did not resolve"
                ));
            }
        }
    }
    Ok(found)
}

fn then(client: &mut BlockingClient, ids: &[AccountId], at: Timestamp) -> Result<Found, Failure> {
    let mut found = Found::default();
    for &id in ids {
        match client.account_at(id, at).map_err(anyhow::Error::from)? {
            AccountAt::Found(account, shard) => found.accounts.push((account, shard.0)),
            AccountAt::NotFound => found.problems.push(format!("account {id} does not exist")),
            AccountAt::NotYet { created } => found.problems.push(format!(
                "account {id} was created later, at {}",
                moment::render(created)
            )),
            AccountAt::Dropped => found.problems.push(format!(
                "the history of account {id} is not kept back to that time"
            )),
        }
    }
    Ok(found)
}

fn people(found: &Found) -> String {
    let mut table = table(&[
        "id", "shard", "ledger", "code", "debits", "credits", "flags",
    ]);
    for (account, shard) in &found.accounts {
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
}
