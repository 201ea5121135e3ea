//! Why planning cannot start. A plan that should not be carried out is not an error: it is a plan
//! whose decision is `refuse`.

use quorate_protocol::ids::{AccountId, ShardId};

/// Input that no plan can be made from, or a partitioner that failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("option {name}: {value} is not {allowed}")]
    Option {
        name: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error("the trace has {transfers} transfers, fewer than the {epochs} epochs to cut it into")]
    ShortTrace { transfers: usize, epochs: u32 },
    #[error("the interaction graph has {0} edges or accounts, the limit is {1}")]
    TooLarge(usize, usize),
    #[error(
        "{accounts} accounts on {shards} shards are more than a plan has memory for: at most {} divided by the number of shards",
        crate::candidate::LINKS_MAX
    )]
    TooWide { accounts: usize, shards: usize },
    #[error("account {0} has transfers but no owner in the current map")]
    NoOwner(AccountId),
    #[error("account {account} is on shard {shard} in the current map, the cluster has {shards}")]
    OwnerOutOfRange {
        account: AccountId,
        shard: ShardId,
        shards: u32,
    },
    #[error("metis: {0}")]
    Metis(String),
}
