//! `account create`: a range of ids, in batches as large as a request may be; on request beside an account that they will
//! trade with.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use quorate_client::near::{NearError, shard_near};
use quorate_client::reshard::{AccountMove, ApplyOptions, apply};
use quorate_client::{BlockingClient, ClientOptions};
use quorate_config::ClusterConfig;
use quorate_protocol::client::AccountAnswer;
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::ledger::{Account, AccountFlags, ResultCode, ResultRow};
use quorate_protocol::limits::{BATCH_MAX, LOOKUP_MAX};
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
    /// Put them on the shard of this account, with which they will trade, unless it is too busy. Accounts that existed and
    /// have been used stay where they are
    #[arg(long, value_name = "ID")]
    pub near: Option<u128>,
    /// With --near: load over the average above which a shard takes no new account
    #[arg(long, default_value_t = 1.1, value_name = "X", requires = "near", value_parser = parse_cap)]
    pub first_touch_cap: f64,
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
    if args.near.is_some() && flags.contains(AccountFlags::SYSTEM) {
        return Err(Failure::usage(
            "--near: system accounts stay at their default homes",
        ));
    }
    // Before anything is created: a counterparty that does not exist is a mistake.
    let target = args
        .near
        .map(|near| target(&mut client, &config, near, args.first_touch_cap));
    let target = target.transpose()?;
    let (mut moved, mut left) = (0, 0);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut refused = None;
    let mut next = Some(args.ids.first);
    while let Some(first) = next {
        let last = args.ids.batch_end(first);
        let batch: Vec<Account> = (first..=last)
            .map(|id| Account::new(AccountId(id), args.ledger, args.code, flags))
            .collect();
        let results = client.create_accounts(&batch);
        let results = results.map_err(anyhow::Error::from)?;
        let mut there = Vec::new();
        for (account, row) in batch.iter().zip(results) {
            *counts.entry(result_name(&row)).or_default() += 1;
            // Those that exist may be of an earlier try that came no further.
            if succeeded(&row) {
                there.push(account.id);
            }
            if !succeeded(&row) && refused.is_none() {
                refused = Some((account.id, row));
            }
        }
        if let Some(target) = target {
            let placed = place(&mut client, &config, &there, target)?;
            moved += placed.moved;
            left += placed.left;
        }
        next = (last < args.ids.last).then(|| last + 1);
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let (ok, exists) = (ResultCode::Ok.name(), ResultCode::Exists.name());
    let mut document = json!({ "created": count(ok), "existed": count(exists), "results": counts });
    if let Some(target) = target {
        document["shard"] = target.0.into();
        document["moved"] = moved.into();
        document["left_in_use"] = left.into();
    }
    context.output.print(&document, || {
        let lines = counts.iter().map(|(name, n)| format!("{name}: {n}"));
        let placed = target.map(|target| format!("on shard {target}: {moved} moved there"));
        let left = (left > 0)
            .then(|| format!("left where they are: {left} that existed and have been used"));
        lines
            .chain(placed)
            .chain(left)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    match refused {
        None => Ok(()),
        Some((id, row)) if row.result() == Some(ResultCode::NotLeader) => Err(
            Failure::nothing_done(format_args!("account {id}"), &client.connection_failures()),
        ),
        Some((id, row)) => Err(anyhow!("account {id}: {}", result_name(&row)).into()),
    }
}

/// Where accounts near another one belong.
fn target(
    client: &mut BlockingClient,
    config: &ClusterConfig,
    near: u128,
    cap: f64,
) -> Result<ShardId, Failure> {
    let shard = shard_near(client, config.shard_ids(), AccountId(near), cap);
    shard.map_err(|error| match error {
        NearError::NotFound(_) => Failure::usage(format!("--near: {error}")),
        other => Failure::Other(other.into()),
    })
}

/// What became of accounts that were to be put near another one.
struct Placed {
    moved: u64,
    /// Elsewhere, and with a history: to move those is a plan's business.
    left: u64,
}

/// Moves accounts that nobody has used yet to where they were asked to be.
fn place(
    client: &mut BlockingClient,
    config: &ClusterConfig,
    accounts: &[AccountId],
    target: ShardId,
) -> Result<Placed, Failure> {
    let mut unused = Vec::with_capacity(accounts.len());
    for ids in accounts.chunks(LOOKUP_MAX) {
        let answers = client.lookup_accounts(ids).map_err(anyhow::Error::from)?;
        let is_unused = |answer: &AccountAnswer| match answer {
            AccountAnswer::Found(account) => !is_used(account),
            AccountAnswer::NotFound | AccountAnswer::Moved(_) | AccountAnswer::Contended => false,
        };
        let of_these = ids.iter().zip(&answers);
        unused.extend(
            of_these
                .filter(|(_, answer)| is_unused(answer))
                .map(|(id, _)| *id),
        );
    }
    let is_elsewhere = |account: &&AccountId| client.shard_of(**account) != target;
    let elsewhere = accounts.iter().filter(is_elsewhere).count();
    let planned = |&account: &AccountId| AccountMove {
        account,
        source: client.shard_of(account),
        target,
    };
    let moves: Vec<AccountMove> = unused
        .iter()
        .map(planned)
        .filter(|planned| planned.source != target)
        .collect();
    let connect = |_| {
        let client = BlockingClient::connect(config, ClientOptions::default());
        Ok::<_, Infallible>(client)
    };
    let applied = match apply(&moves, ApplyOptions::default(), connect, |_| ()) {
        Ok(applied) => applied,
        Err(never) => match never {},
    };
    match applied.is_complete() {
        true => Ok(Placed {
            moved: applied.moved,
            left: u64::try_from(elsewhere - moves.len()).expect("a usize fits a u64"),
        }),
        false => Err(anyhow!(
            "{} accounts are there, {} of them could not be moved to shard {target}",
            accounts.len(),
            applied.planned - applied.moved - applied.already_there
        )
        .into()),
    }
}

/// Whether a transfer has ever touched it, or holds something of it.
fn is_used(account: &Account) -> bool {
    let sums = [
        account.debits_pending,
        account.debits_posted,
        account.credits_pending,
        account.credits_posted,
    ];
    sums.iter().any(|sum| *sum > 0)
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

fn parse_cap(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(cap) if (1.0..=1000.0).contains(&cap) => Ok(cap),
        _ => Err(format!("`{text}` is not a number from 1 to 1000")),
    }
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
