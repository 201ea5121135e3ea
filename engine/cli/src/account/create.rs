//! `account create`: a range of ids, in batches as large as a request may be.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use quorate_client::{BlockingClient, ClientOptions};
use quorate_protocol::ids::AccountId;
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow};
use quorate_protocol::limits::BATCH_MAX;
use serde_json::json;

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::print::result_name;
use crate::target::ClusterFile;

/// A batch that has no result by then is told as `unknown`; creating it again is safe.
const BATCH_WITHIN: Duration = Duration::from_secs(30);

/// Options of `account create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// Ids, both ends included; one id without `..`
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    pub ids: IdRange,
    /// Ledger of the accounts; transfers stay inside one ledger
    #[arg(long, value_name = "L")]
    pub ledger: u32,
    /// Kind of account, of the user's own numbering
    #[arg(long, value_name = "C")]
    pub code: u16,
    /// Comma-separated: debits-must-not-exceed-credits, credits-must-not-exceed-debits, closed, system
    #[arg(long, value_name = "FLAGS", value_delimiter = ',', value_parser = parse_flag)]
    pub flags: Vec<AccountFlags>,
}

/// Ids from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: u128,
    last: u128,
}

/// Creates them, and counts the results by code.
pub fn run(args: &CreateArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let options = ClientOptions {
        deadline: BATCH_WITHIN,
        ..ClientOptions::default()
    };
    let mut client = BlockingClient::connect(&config, options);
    let flags = args
        .flags
        .iter()
        .copied()
        .fold(AccountFlags::default(), AccountFlags::union);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut refused = None;
    let mut next = Some(args.ids.first);
    while let Some(first) = next {
        let last = args.ids.batch_end(first);
        let batch: Vec<Account> = (first..=last)
            .map(|id| Account::new(AccountId(id), args.ledger, args.code, flags))
            .collect();
        for (account, row) in batch.iter().zip(
            client
                .create_accounts(&batch)
                .map_err(anyhow::Error::from)?,
        ) {
            *counts.entry(result_name(&row)).or_default() += 1;
            if !succeeded(&row) && refused.is_none() {
                refused = Some((account.id, row));
            }
        }
        next = (last < args.ids.last).then(|| last + 1);
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let (ok, exists) = (ResultCode::Ok.name(), ResultCode::Exists.name());
    let document = json!({ "created": count(ok), "existed": count(exists), "results": counts });
    context.output.print(&document, || {
        let lines: Vec<String> = counts
            .iter()
            .map(|(name, n)| format!("{name}: {n}"))
            .collect();
        lines.join("\n")
    })?;
    match refused {
        None => Ok(()),
        Some((id, row)) if row.result() == Some(ResultCode::NotLeader) => Err(
            Failure::nothing_done(format_args!("account {id}"), &client.connection_failures()),
        ),
        Some((id, row)) => Err(anyhow!("account {id}: {}", result_name(&row)).into()),
    }
}

fn succeeded(row: &ResultRow) -> bool {
    row.result().is_some_and(ResultCode::is_success)
}

impl IdRange {
    /// The last id of the batch that starts with `first`.
    fn batch_end(self, first: u128) -> u128 {
        let batch = u128::try_from(BATCH_MAX).expect("a small number");
        first.saturating_add(batch - 1).min(self.last)
    }
}

fn parse_range(text: &str) -> Result<IdRange, String> {
    let number = |text: &str| {
        text.trim()
            .parse::<u128>()
            .map_err(|_| format!("`{text}` is not an id from 0 to 2^128-1"))
    };
    let (first, last) = match text.split_once("..") {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    if first > last {
        return Err(format!("{first} is above {last}"));
    }
    Ok(IdRange { first, last })
}

fn parse_flag(text: &str) -> Result<AccountFlags, String> {
    let found = AccountFlags::NAMES.iter().find(|(_, name)| *name == text);
    found.map(|(flag, _)| *flag).ok_or_else(|| {
        let known: Vec<&str> = AccountFlags::NAMES.iter().map(|(_, name)| *name).collect();
        format!("no flag `{text}`, there are {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_both_ends() {
        let range = parse_range("3..5").unwrap();
        assert_eq!((range.first, range.last), (3, 5));
        let range = parse_range("7").unwrap();
        assert_eq!((range.first, range.last), (7, 7));
        for wrong in ["5..3", "..", "a..b", "1..=2", "-1", ""] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn batches_end_at_the_range_and_at_the_largest_id() {
        let range = parse_range("1..10000").unwrap();
        assert_eq!(range.batch_end(1), 8190);
        assert_eq!(range.batch_end(8191), 10000);
        let top = IdRange {
            first: u128::MAX - 1,
            last: u128::MAX,
        };
        assert_eq!(top.batch_end(u128::MAX - 1), u128::MAX);
    }

    #[test]
    fn flags_have_the_names_of_the_ledger() {
        assert_eq!(
            parse_flag("debits-must-not-exceed-credits"),
            Ok(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
        );
        assert!(parse_flag("frozen").unwrap_err().contains("closed"));
    }
}
