//! Messages between the leaders of different shards. All are idempotent by [`super::record::TxnId`].
//!
//! | message | sender -> receiver | when | what ends it |
//! | --- | --- | --- | --- |
//! | `PrepareTxn` | coordinator -> participant | a cross-shard transfer was admitted | `Votes`, or the attempt gives up |
//! | `PrepareMove` | source -> target | the batch is frozen and quiet | `Votes`, or the attempt gives up |
//! | `Votes` | participant -> coordinator | `Prepared` was applied; of a move, `Resolved` also: arrived | - |
//! | `Decides` | coordinator -> participant | `Commit` was applied | `Resolved` is applied; of a move, `Votes` |
//! | `QueryDecisions` | participant -> coordinator | in doubt for `in_doubt_query_after` | `Decides` |
//! | `LookUps` | new owner -> previous owner | a transfer on a moved account may be a retry | `LookedUp` |
//! | `Acknowledged` | participant -> coordinator, all replicas | now and then, if history is dropped | - |
//! | `Forwards` | former owner -> home | an account has left for another shard | `ForwardsKnown` |
//! | `ForwardsKnown` | home -> former owner | at once; the rows that its log has, possibly none | - |
//! | `NotLeading` | anyone -> sender | the receiver does not lead | the sender asks the hint |

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{AccountId, Ballot, ReplicaId, ShardId, TransferId};
use crate::ledger::Transfer;
use crate::time::Timestamp;
use crate::txn::record::{AcknowledgedRow, PrepareRow, RouteRow, TxnRow};
use crate::words::{Rows, Words};

/// A message of two-phase commit, of a move or of an idempotency look-up.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    PrepareTxn(Rows<PrepareRow>),
    /// The bytes of [`crate::entry::MoveSection`].
    PrepareMove(Words),
    Votes(Rows<TxnRow>),
    /// Decisions, pushed or as answers to queries (then `Pending` is possible).
    Decides(Rows<TxnRow>),
    QueryDecisions(Rows<TxnRow>),
    LookUps(Rows<LookUpRow>),
    LookedUp(Rows<LookedUpRow>),
    NotLeading {
        shard: ShardId,
        ballot: Ballot,
        leader: Option<ReplicaId>,
    },
    /// Up to when nothing is in doubt: whose decisions nobody will ask for.
    Acknowledged(Rows<AcknowledgedRow>),
    /// Where accounts went from the sender.
    Forwards(Rows<RouteRow>),
    /// Of these accounts the sender knows as late an owner.
    ForwardsKnown(Rows<RouteRow>),
}

/// "Did this id run on that account while you owned it under that epoch?"
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LookUpRow {
    pub transfer_id: TransferId,
    pub account: AccountId,
    pub ownership_epoch: u32,
    pub reserved: u32,
    /// Commit timestamp of the move by which it left: whoever has applied that much of your log knows that it has.
    pub left: Timestamp,
}

const _: () = assert!(size_of::<LookUpRow>() == 48);

/// The answer to a [`LookUpRow`]; only a replica that has applied the move away gives one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LookedUpRow {
    /// The recorded transfer if `found` is 1; else only its `id` is set.
    pub transfer: Transfer,
    pub account: AccountId,
    pub timestamp: Timestamp,
    pub ownership_epoch: u32,
    /// The recorded result code.
    pub code: u16,
    pub found: u16,
}

const _: () = assert!(size_of::<LookedUpRow>() == 160);
