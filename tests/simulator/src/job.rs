//! One thing that a client wants done, through all its retries, and the requests that carry it.

use quorate_protocol::client::{HistoryQuery, HistoryStart, MapPlace, RequestBody};
use quorate_protocol::ids::{AccountId, ReplicaId, ShardId, TransferId};

use quorate_protocol::words::{Row, Rows};

use crate::history::{DocumentWant, History};

/// Accounts per page of a listing; small, so that audits turn pages.
pub const LIST_LIMIT: u32 = 64;

/// Rows per page of a shard's map; likewise.
pub const CHANGES_LIMIT: u32 = 5;

/// What is wanted. Numbers are indices into the [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    Create(usize),
    Transfer(usize),
    Read(usize),
    /// The next page of an account's history.
    History(usize),
    Move(usize),
    Lead(ReplicaId),
    CutRegister(usize),
    CutSums(usize),
    /// Write or read a document.
    Document(usize),
    /// Audit: the accounts that a shard owns.
    List(AccountId),
    /// Audit: where accounts went from a shard, as its map says behind a place.
    Changes(MapPlace),
    /// Audit: an account at the shard that listed it.
    Inspect(AccountId),
    /// Audit: what a shard recorded of a transfer id.
    Records(TransferId),
}

/// Which wants can share a request: those of one class for one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Create,
    Transfer,
    Read,
    Inspect,
    Records,
    /// A request of its own.
    Alone(Want),
}

impl Want {
    /// The class that it is sent with.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::Create(_) => Class::Create,
            Self::Transfer(_) => Class::Transfer,
            Self::Read(_) => Class::Read,
            Self::Inspect(_) => Class::Inspect,
            Self::Records(_) => Class::Records,
            Self::History(_)
            | Self::Move(_)
            | Self::Lead(_)
            | Self::CutRegister(_)
            | Self::CutSums(_)
            | Self::Document(_)
            | Self::Changes(_)
            | Self::List(_) => Class::Alone(self),
        }
    }

    /// How often it is sent before the client lets it go; `None` = until it is answered.
    #[must_use]
    pub fn tries_max(self) -> Option<u32> {
        match self {
            Self::Create(_)
            | Self::Transfer(_)
            | Self::Read(_)
            | Self::History(_)
            | Self::List(_)
            | Self::Changes(_)
            | Self::Inspect(_)
            | Self::Records(_) => None,
            Self::Move(_) => Some(40),
            Self::Lead(_) => Some(3),
            Self::CutRegister(_) | Self::CutSums(_) | Self::Document(_) => Some(20),
        }
    }
}

/// A want with its place in time and space.
#[derive(Clone, Debug)]
pub struct Job {
    pub want: Want,
    /// Where it is sent next.
    pub shard: ShardId,
    /// Not sent before.
    pub due_ns: u64,
    pub tries: u32,
    /// It was sent and no answer said that nothing was done: it may have taken effect.
    pub is_unsure: bool,
}

impl Job {
    /// A job that is due now.
    #[must_use]
    pub fn new(want: Want, shard: ShardId) -> Self {
        Self {
            want,
            shard,
            due_ns: 0,
            tries: 0,
            is_unsure: false,
        }
    }
}

/// The request that carries these jobs, which are of one class.
#[must_use]
pub fn request_body(jobs: &[Job], history: &History) -> RequestBody {
    match jobs[0].want.class() {
        Class::Create => RequestBody::CreateAccounts(rows(jobs, |want| match want {
            Want::Create(number) => Some(history.creations[number].account),
            _ => None,
        })),
        Class::Transfer => RequestBody::CreateTransfers(rows(jobs, |want| match want {
            Want::Transfer(number) => Some(history.transfers[number].transfer),
            _ => None,
        })),
        Class::Read => RequestBody::LookupAccounts(rows(jobs, |want| match want {
            Want::Read(number) => Some(history.reads[number].account),
            _ => None,
        })),
        Class::Inspect => RequestBody::LookupAccounts(rows(jobs, |want| match want {
            Want::Inspect(account) => Some(account),
            _ => None,
        })),
        Class::Records => RequestBody::LookupTransfers(rows(jobs, |want| match want {
            Want::Records(id) => Some(id),
            _ => None,
        })),
        Class::Alone(want) => lonely_body(want, history),
    }
}

fn lonely_body(want: Want, history: &History) -> RequestBody {
    match want {
        Want::Move(number) => {
            let one = &history.moves[number];
            RequestBody::MoveAccounts {
                id: one.id,
                target: one.target,
                accounts: Rows::from_slice(&one.accounts),
            }
        }
        Want::History(number) => {
            let one = &history.histories[number];
            let passed = one.passed;
            let next = one.next().map(|(_, start)| start);
            RequestBody::AccountHistory(HistoryQuery {
                account: one.account,
                start: next.unwrap_or(HistoryStart::Newest { passed }),
                ts_first: one.first,
                ts_last: one.last,
                limit: one.limit,
            })
        }
        Want::Lead(to) => RequestBody::TransferLeadership { to },
        Want::CutRegister(number) => RequestBody::CutRegister {
            at: history.cuts[number].at,
        },
        Want::CutSums(number) => RequestBody::CutSums {
            at: history.cuts[number].at,
        },
        Want::Document(number) => {
            let one = &history.documents[number];
            let key = one.key;
            match &one.want {
                DocumentWant::Read => RequestBody::GetDocument { key },
                DocumentWant::Put { expected, bytes } => RequestBody::PutDocument {
                    key,
                    expected: *expected,
                    bytes: bytes.clone(),
                },
            }
        }
        Want::List(after) => RequestBody::ListAccounts {
            after,
            limit: LIST_LIMIT,
        },
        Want::Changes(place) => RequestBody::MapChanges {
            place,
            limit: CHANGES_LIMIT,
        },
        Want::Create(_)
        | Want::Transfer(_)
        | Want::Read(_)
        | Want::Inspect(_)
        | Want::Records(_) => unreachable!("has a class of its own"),
    }
}

fn rows<T: Row>(jobs: &[Job], row: impl Fn(Want) -> Option<T>) -> Rows<T> {
    let rows: Vec<T> = jobs
        .iter()
        .map(|job| row(job.want).expect("jobs of one class"))
        .collect();
    Rows::from_slice(&rows)
}
