//! `quorate account`: creates accounts, shows them, and what happened to them.

mod create;
mod history;
mod show;

use clap::Subcommand;
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{Account, AccountFlags, Transfer};
use serde_json::{Value, json};

use crate::Context;
use crate::failure::Outcome;

/// What to do with accounts.
#[derive(Subcommand, Debug)]
pub enum AccountCommand {
    /// Create a range of accounts with the same properties
    Create(create::CreateArgs),
    /// Show accounts with their balances, wherever they live; now, or at a time in the past
    Show(show::ShowArgs),
    /// Show what happened to an account, newest first, wherever it has lived
    #[command(after_help = HISTORY_DOCUMENT)]
    History(history::HistoryArgs),
}

const HISTORY_DOCUMENT: &str = r#"Rows come in the order in which they took effect, newest first. Their commit times need not fall: a
transfer from another shard may take effect behind a local one that committed later.

With --json: {"id","shard","rows":[{"shard","position","id","side":"debit|credit","other","amount",
"ledger","code","user_data","commit_ts","applied_ts","slot","coordinator"}],"more","dropped"}"#;

/// Runs the command.
pub fn run(command: AccountCommand, context: Context) -> Outcome {
    match command {
        AccountCommand::Create(args) => create::run(&args, context),
        AccountCommand::Show(args) => show::run(&args, context),
        AccountCommand::History(args) => history::run(&args, context),
    }
}

/// The names of the flags that are set.
fn flag_names(flags: AccountFlags) -> Vec<&'static str> {
    AccountFlags::NAMES
        .iter()
        .filter(|(flag, _)| flags.contains(*flag))
        .map(|(_, name)| *name)
        .collect()
}

/// Which side of a transfer an account is on, and who is on the other.
pub fn sides(account: AccountId, transfer: &Transfer) -> (&'static str, AccountId) {
    match transfer.debit_account_id == account {
        true => ("debit", transfer.credit_account_id),
        false => ("credit", transfer.debit_account_id),
    }
}

/// The contract's document of one account.
pub fn document(account: &Account, shard: u32) -> Value {
    json!({
        "id": account.id.to_string(),
        "shard": shard,
        "ledger": account.ledger,
        "code": account.code,
        "flags": flag_names(account.flags),
        "debits_pending": account.debits_pending.to_string(),
        "debits_posted": account.debits_posted.to_string(),
        "credits_pending": account.credits_pending.to_string(),
        "credits_posted": account.credits_posted.to_string(),
        "user_data": account.user_data.to_string(),
        "ownership_epoch": account.ownership_epoch,
        "timestamp": account.timestamp.0.to_string(),
    })
}
