//! `inspect account`: one account as the newest checkpoint of a stopped replica has it, and its history as
//! far back as that is on disk.
//!
//! Found as a running replica finds it, through the index of the accounts files, and without building a
//! ledger. What the log holds behind the checkpoint is not in it.

use std::fmt::Write;

use clap::Args;
use quorate_durable::offline::{find_account, history_of, index_of};
use quorate_durable::restore::LoadError;
use quorate_protocol::checkpoint::rows::AccountRow;
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::history::{ChainQuestion, HistoryPosition, Record};
use quorate_storage::store::{self, RowAt};
use serde_json::{Value, json};

use super::generations::Store;
use super::stopped::{Files, Seen, Stopped, StoppedArgs, each};
use crate::Context;
use crate::account::{self, sides};
use crate::failure::Outcome;
use crate::print::table;

/// Options of `inspect account`.
#[derive(Args, Debug)]
pub struct AccountArgs {
    #[command(flatten)]
    pub stopped: StoppedArgs,
    /// Id of an account
    pub id: u128,
    /// Rows of history at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
}

/// Prints the account's row and its history; fails if what may hold them is damaged.
pub fn run(args: &AccountArgs, context: Context) -> Outcome {
    each(&args.stopped, context, |stopped| look(stopped, args))
}

/// What a checkpoint says of the account.
#[derive(Debug, Default)]
struct Found {
    row: Option<(RowAt, AccountRow)>,
    history: Vec<(HistoryPosition, Record)>,
    /// Where the history goes on.
    next: HistoryPosition,
}

fn look(stopped: &Stopped, args: &AccountArgs) -> Result<Seen, anyhow::Error> {
    let mut disk = stopped.files();
    let store = Store::read(stopped, &mut disk)?;
    let mut found = Found::default();
    let mut damage = Vec::new();
    let (mut number, mut slot) = (None, None);
    match &store.opened {
        Err(_) => damage.extend(store.damage()),
        Ok(opened) => {
            let manifest = opened.store.manifest();
            (number, slot) = (Some(manifest.number), Some(manifest.slot));
            let read = found.read(&opened.store, args, &mut disk);
            damage.extend(read.err().map(|error| error.to_string()));
        }
    }
    let id = AccountId(args.id);
    let document = json!({
        "id": args.id.to_string(),
        "checkpoint": number,
        "slot": slot,
        "account": found.row.as_ref().map(|(at, row)| row_document(stopped, at, row)),
        "history": found.history.iter().map(|(position, record)| {
            row_of_history(id, *position, record)
        }).collect::<Vec<_>>(),
        "history_next": (found.next != HistoryPosition::NONE).then_some(found.next.0),
        "damage": damage,
    });
    let mut text = found.people(id, slot);
    for damage in &damage {
        // Writing to a string cannot fail.
        let _ = write!(text, "\ndamage: {damage}");
    }
    Ok(Seen {
        document,
        text,
        damaged: !damage.is_empty(),
    })
}

impl Found {
    fn read(
        &mut self,
        store: &store::Store,
        args: &AccountArgs,
        disk: &mut Files<'_>,
    ) -> Result<(), LoadError> {
        let index = index_of(store, disk)?;
        let account = AccountId(args.id);
        self.row = find_account(store, &index, account, disk)?;
        if let Some((_, row)) = &self.row {
            let chain = ChainQuestion {
                account,
                from: HistoryPosition(row.last),
                rows_max: args.limit,
            };
            (self.history, self.next) = history_of(store, chain, disk)?;
        }
        Ok(())
    }

    fn people(&self, id: AccountId, slot: Option<u64>) -> String {
        let Some((at, row)) = &self.row else {
            return match slot {
                Some(slot) => format!("the checkpoint at slot {slot} has no account {id}"),
                None => "there is no checkpoint to look into".to_owned(),
            };
        };
        let account = &row.account;
        let mut text = format!(
            "account {id} as of slot {}: debits {}, credits {}, version {}, in {} block {}",
            slot.unwrap_or(0),
            account.debits_posted,
            account.credits_posted,
            row.version,
            at.place.file,
            at.place.block,
        );
        if !self.history.is_empty() {
            let mut rows = table(&[
                "position",
                "slot",
                "commit ts",
                "id",
                "side",
                "other",
                "amount",
            ]);
            for (position, record) in &self.history {
                let (side, other) = sides(id, &record.transfer());
                rows.add_row([
                    position.0.to_string(),
                    record.slot.to_string(),
                    record.commit_ts.0.to_string(),
                    record.id.to_string(),
                    side.to_owned(),
                    other.to_string(),
                    record.amount.to_string(),
                ]);
            }
            let _ = write!(text, "\n{rows}");
        }
        if self.next != HistoryPosition::NONE {
            let _ = write!(text, "\nolder rows from position {} on", self.next.0);
        }
        text
    }
}

fn row_document(stopped: &Stopped, at: &RowAt, row: &AccountRow) -> Value {
    let mut document = account::document(&row.account, stopped.replica.shard.0);
    document["version"] = row.version.into();
    document["id_max"] = row.id_max.to_string().into();
    document["last"] = row.last.into();
    document["place"] = json!({
        "file": at.place.file.file_name(),
        "block": at.place.block,
        "offset": at.at,
    });
    document
}

fn row_of_history(account: AccountId, position: HistoryPosition, record: &Record) -> Value {
    let transfer = record.transfer();
    let (side, other) = sides(account, &transfer);
    json!({
        "position": position.0,
        "slot": record.slot.0,
        "id": record.id.to_string(),
        "side": side,
        "other": other.to_string(),
        "amount": record.amount.to_string(),
        "ledger": record.ledger,
        "code": record.code,
        "user_data": record.user_data.to_string(),
        "commit_ts": record.commit_ts.0.to_string(),
        "applied_ts": record.applied_ts.0.to_string(),
        "coordinator": record.coordinator.0,
        "before": record.before(account).0,
    })
}
