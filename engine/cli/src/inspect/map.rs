//! `inspect map`: which accounts are not at their default homes, asked of the leaders.
//!
//! The map of a cluster is its default placement and one exception for each account that has moved. What is shown is who
//! owns what, not what anybody believes: an account that moves while the leaders are asked one after the other is
//! shown where it was listed last.

use std::collections::BTreeMap;

use anyhow::Context as _;
use clap::Args;
use quorate_client::{BlockingClient, ClientOptions, observe};
use quorate_protocol::ids::{AccountId, ShardId};
use quorate_protocol::shard::map::Placement;
use serde_json::{Value, json};

use crate::Context;
use crate::failure::Outcome;
use crate::print::table;
use crate::target::ClusterFile;

/// Exceptions that people are shown.
const SHOWN: usize = 50;

/// Options of `inspect map`.
#[derive(Args, Debug)]
pub struct MapArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
}

/// An account away from its default home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exception {
    account: AccountId,
    home: ShardId,
    owner: ShardId,
}

/// Accounts of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    owned: u64,
    /// Of those: whose default home is elsewhere.
    from_elsewhere: u64,
    /// Whose default home it is, and who are elsewhere.
    gone: u64,
}

/// Prints the placement, what each shard owns, and the exceptions.
pub fn run(args: &MapArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let owners = observe::owners(&mut client, config.shard_ids()).context("list the accounts")?;
    let owners = owners.newest();
    let home = |account| config.placement.home(account, config.shards);
    let exceptions = exceptions(&owners, home);
    let counts = counts(&owners, &exceptions, config.shard_ids());
    let placement = match config.placement {
        Placement::Hash => "hash",
        Placement::Range { .. } => "range",
    };
    let document = json!({
        "placement": placement,
        "accounts": owners.len(),
        "shards": counts
            .iter()
            .map(|(shard, count)| count.document(*shard))
            .collect::<Vec<_>>(),
        "exceptions": exceptions.iter().map(Exception::document).collect::<Vec<_>>(),
    });
    context
        .output
        .print(&document, || people(&counts, &exceptions))
}

fn exceptions(
    owners: &BTreeMap<AccountId, ShardId>,
    home: impl Fn(AccountId) -> ShardId,
) -> Vec<Exception> {
    let all = owners.iter().map(|(&account, &owner)| Exception {
        account,
        home: home(account),
        owner,
    });
    all.filter(|one| one.home != one.owner).collect()
}

fn counts(
    owners: &BTreeMap<AccountId, ShardId>,
    exceptions: &[Exception],
    shards: impl IntoIterator<Item = ShardId>,
) -> BTreeMap<ShardId, Count> {
    let mut counts: BTreeMap<ShardId, Count> = shards
        .into_iter()
        .map(|shard| (shard, Count::default()))
        .collect();
    for &owner in owners.values() {
        counts.entry(owner).or_default().owned += 1;
    }
    for one in exceptions {
        counts.entry(one.owner).or_default().from_elsewhere += 1;
        counts.entry(one.home).or_default().gone += 1;
    }
    counts
}

impl Exception {
    fn document(&self) -> Value {
        json!({
            "account": self.account.to_string(),
            "home": self.home.0,
            "shard": self.owner.0,
        })
    }
}

impl Count {
    fn document(self, shard: ShardId) -> Value {
        json!({
            "shard": shard.0,
            "owned": self.owned,
            "from_elsewhere": self.from_elsewhere,
            "gone": self.gone,
        })
    }
}

fn people(counts: &BTreeMap<ShardId, Count>, exceptions: &[Exception]) -> String {
    let mut shards = table(&["shard", "owns", "from elsewhere", "gone"]);
    for (shard, count) in counts {
        shards.add_row([
            shard.to_string(),
            count.owned.to_string(),
            count.from_elsewhere.to_string(),
            count.gone.to_string(),
        ]);
    }
    if exceptions.is_empty() {
        return format!("{shards}\nevery account is at its default home");
    }
    let mut accounts = table(&["account", "home", "shard"]);
    for one in exceptions.iter().take(SHOWN) {
        accounts.add_row([
            one.account.to_string(),
            one.home.to_string(),
            one.owner.to_string(),
        ]);
    }
    let more = exceptions.len().saturating_sub(SHOWN);
    let more = match more {
        0 => String::new(),
        more => format!("\nand {more} more; --json lists all"),
    };
    format!("{shards}\n\n{accounts}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_are_the_accounts_away_from_home_and_counted_at_both_ends() {
        let owners = [(1, 1), (2, 2), (3, 1), (4, 3)];
        let owners: BTreeMap<AccountId, ShardId> = owners
            .into_iter()
            .map(|(account, shard)| (AccountId(account), ShardId(shard)))
            .collect();
        // Homes by parity: odd ones at 1, even ones at 2.
        let home = |account: AccountId| ShardId(if account.0 % 2 == 1 { 1 } else { 2 });
        let found = exceptions(&owners, home);
        let expected = Exception {
            account: AccountId(4),
            home: ShardId(2),
            owner: ShardId(3),
        };
        assert_eq!(found, [expected]);
        let counts = counts(&owners, &found, (1..=4).map(ShardId));
        let of = |shard| {
            let Count {
                owned,
                from_elsewhere,
                gone,
            } = counts[&ShardId(shard)];
            (owned, from_elsewhere, gone)
        };
        assert_eq!(
            [of(1), of(2), of(3), of(4)],
            [(2, 0, 0), (1, 0, 1), (1, 1, 0), (0, 0, 0)]
        );
        let text = people(&counts, &found);
        assert!(text.contains("gone") && text.contains('4'), "{text}");
    }
}
