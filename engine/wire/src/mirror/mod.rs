//! Mirrors: the archived shape of every message, and the conversions both ways.
//!
//! The types of `quorate-protocol` know nothing of archives. Each mirror has the fields of one of
//! them as plain integers and runs of words; a field or variant added there breaks the build here.
//! `of` makes a mirror (runs are shared, not copied), `read` checks an archived one and makes the
//! protocol's type: every number that stands for something must have a meaning.

pub(crate) mod document;
pub(crate) mod handshake;
pub(crate) mod history;
pub(crate) mod paxos;
pub(crate) mod peer;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod snapshot;
pub(crate) mod txn;

use quorate_protocol::ids::{Ballot, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::txn::record::Attempt;
use rkyv::option::ArchivedOption;
use rkyv::{Archive, Serialize};

use crate::error::FrameError;

/// `ReplicaAddress`.
#[derive(Archive, Serialize)]
pub(crate) struct AddressMirror {
    shard: u32,
    replica: u8,
}

impl AddressMirror {
    pub fn of(address: ReplicaAddress) -> Self {
        Self {
            shard: address.shard.0,
            replica: address.replica.0,
        }
    }
}

impl ArchivedAddressMirror {
    pub fn read(&self) -> ReplicaAddress {
        ReplicaAddress {
            shard: ShardId(self.shard.to_native()),
            replica: ReplicaId(self.replica),
        }
    }
}

/// `Attempt`.
#[derive(Archive, Serialize)]
pub(crate) struct AttemptMirror {
    ballot: u64,
    counter: u64,
}

impl AttemptMirror {
    pub fn of(attempt: Attempt) -> Self {
        Self {
            ballot: attempt.ballot.0,
            counter: attempt.counter,
        }
    }
}

impl ArchivedAttemptMirror {
    pub fn read(&self) -> Attempt {
        Attempt {
            ballot: Ballot(self.ballot.to_native()),
            counter: self.counter.to_native(),
        }
    }
}

fn replica_of(replica: Option<ReplicaId>) -> Option<u8> {
    replica.map(|replica| replica.0)
}

/// A named replica; 0 would mean "none" twice.
fn read_replica(replica: &ArchivedOption<u8>) -> Result<Option<ReplicaId>, FrameError> {
    match replica {
        ArchivedOption::None => Ok(None),
        ArchivedOption::Some(0) => Err(number("replica", 0_u8)),
        ArchivedOption::Some(replica) => Ok(Some(ReplicaId(*replica))),
    }
}

fn number(what: &'static str, number: impl Into<u64>) -> FrameError {
    FrameError::Number {
        what,
        number: number.into(),
    }
}
