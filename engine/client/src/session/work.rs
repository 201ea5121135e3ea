//! What is asked of a session, and what it answers.

use quorate_protocol::client::{AccountAnswer, ReplyBody, RequestBody};
use quorate_protocol::ids::{AccountId, ReplicaAddress, ShardId};
use quorate_protocol::ledger::{Account, ResultRow, Transfer};
use quorate_protocol::words::Rows;

/// One piece of work; any number of rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Answered by `Outcome::Results`.
    CreateAccounts(Rows<Account>),
    /// Answered by `Outcome::Results`.
    CreateTransfers(Rows<Transfer>),
    /// Answered by `Outcome::Accounts`.
    LookupAccounts(Rows<AccountId>),
    /// To the shard's leader, again and again until it is answered or the deadline has passed: only
    /// for requests that may be carried out twice. Answered by `Outcome::Reply`.
    Shard(ShardId, RequestBody),
    /// To exactly this replica, once. Answered by `Outcome::Reply`, whatever it says.
    Replica(ReplicaAddress, RequestBody),
}

/// The end of a piece of work.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Results(Completed),
    /// In the order of the ids.
    Accounts(Vec<AccountAnswer>),
    Reply(ReplyBody),
    /// The deadline passed (or, for one replica, the connection failed) without an answer.
    NoAnswer(Cause),
    /// A replica refused a request as a whole: a difference of versions or a bug.
    BadRequest(String),
}

impl Outcome {
    /// What it is, in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Results(_) => "results",
            Self::Accounts(_) => "accounts",
            Self::Reply(reply) => reply.name(),
            Self::NoAnswer(_) => "no_answer",
            Self::BadRequest(_) => "bad_request",
        }
    }
}

/// Results of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completed {
    /// One per row, in the order of the rows.
    pub rows: Vec<ResultRow>,
    /// The requests into which the batch was split, as they were answered. Each row that got an
    /// answer is in exactly one; rows given up at the deadline are in none.
    pub parts: Vec<PartResult>,
}

/// One request of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartResult {
    pub shard: ShardId,
    /// Positions in the batch.
    pub items: Vec<u32>,
    /// Any of its transfers ran across shards, as the cluster says.
    pub cross: bool,
    /// When it was sent first and when it was answered for good: nanoseconds of the caller's clock.
    pub sent_ns: u64,
    pub answered_ns: u64,
    /// How often it was sent.
    pub sends: u32,
}

/// Why there is no answer: what happened last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing could be sent yet.
    NotSent,
    /// No connection.
    Unreachable,
    /// The connection broke after the request was sent.
    Disconnected,
    /// Nothing came back in time.
    TimedOut,
    /// No replica that was asked leads the shard.
    NotLeader,
    /// The leader was busy.
    Busy,
    /// The leader could not tell the outcome.
    Unknown,
}

impl Cause {
    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotSent => "nothing could be sent",
            Self::Unreachable => "no connection",
            Self::Disconnected => "the connection broke",
            Self::TimedOut => "no answer in time",
            Self::NotLeader => "no leader found",
            Self::Busy => "busy",
            Self::Unknown => "outcome unknown",
        }
    }
}
