//! Mirror of `txn::message::Message`.

use quorate_protocol::entry::MoveSection;
use quorate_protocol::ids::{Ballot, ShardId};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::txn::message::{LookedUpRow, Message};
use quorate_protocol::txn::record::{TxnRow, Verdict};
use quorate_protocol::words::{Rows, Words};
use rkyv::{Archive, Serialize};

use super::{number, read_replica, replica_of};
use crate::error::FrameError;
use crate::run::{self, ArchivedRun, Run};

#[derive(Archive, Serialize)]
pub(crate) enum TxnMirror {
    PrepareTxn(#[rkyv(with = Run)] Words),
    PrepareMove(#[rkyv(with = Run)] Words),
    Votes(#[rkyv(with = Run)] Words),
    Decides(#[rkyv(with = Run)] Words),
    QueryDecisions(#[rkyv(with = Run)] Words),
    LookUps(#[rkyv(with = Run)] Words),
    LookedUp(#[rkyv(with = Run)] Words),
    NotLeading {
        shard: u32,
        ballot: u64,
        leader: Option<u8>,
    },
    Acknowledged(#[rkyv(with = Run)] Words),
    Forwards(#[rkyv(with = Run)] Words),
    ForwardsKnown(#[rkyv(with = Run)] Words),
}

impl TxnMirror {
    pub fn of(message: &Message) -> Self {
        match message {
            Message::PrepareTxn(rows) => Self::PrepareTxn(rows.words().clone()),
            Message::PrepareMove(words) => Self::PrepareMove(words.clone()),
            Message::Votes(rows) => Self::Votes(rows.words().clone()),
            Message::Decides(rows) => Self::Decides(rows.words().clone()),
            Message::QueryDecisions(rows) => Self::QueryDecisions(rows.words().clone()),
            Message::LookUps(rows) => Self::LookUps(rows.words().clone()),
            Message::LookedUp(rows) => Self::LookedUp(rows.words().clone()),
            Message::Acknowledged(rows) => Self::Acknowledged(rows.words().clone()),
            Message::Forwards(rows) => Self::Forwards(rows.words().clone()),
            Message::ForwardsKnown(rows) => Self::ForwardsKnown(rows.words().clone()),
            Message::NotLeading {
                shard,
                ballot,
                leader,
            } => Self::NotLeading {
                shard: shard.0,
                ballot: ballot.0,
                leader: replica_of(*leader),
            },
        }
    }
}

impl ArchivedTxnMirror {
    pub fn read(&self) -> Result<Message, FrameError> {
        Ok(match self {
            Self::PrepareTxn(run) => Message::PrepareTxn(run::rows(run, "prepare rows")?),
            Self::PrepareMove(run) => Message::PrepareMove(read_move(run)?),
            Self::Votes(run) => Message::Votes(read_statements(run, "vote rows")?),
            Self::Decides(run) => Message::Decides(read_statements(run, "decision rows")?),
            Self::QueryDecisions(run) => {
                Message::QueryDecisions(read_statements(run, "query rows")?)
            }
            Self::LookUps(run) => Message::LookUps(run::rows(run, "look-up rows")?),
            Self::LookedUp(run) => Message::LookedUp(read_looked_up(run)?),
            Self::Acknowledged(run) => Message::Acknowledged(run::rows(run, "acknowledgements")?),
            Self::Forwards(run) => Message::Forwards(run::rows(run, "forwards")?),
            Self::ForwardsKnown(run) => Message::ForwardsKnown(run::rows(run, "known forwards")?),
            Self::NotLeading {
                shard,
                ballot,
                leader,
            } => Message::NotLeading {
                shard: ShardId(shard.to_native()),
                ballot: Ballot(ballot.to_native()),
                leader: read_replica(leader)?,
            },
        })
    }
}

fn read_move(run: &ArchivedRun) -> Result<Words, FrameError> {
    let words = run::words(run);
    let bytes = words.as_bytes();
    if MoveSection::parse(bytes).is_none() {
        return Err(FrameError::Rows {
            rows: "sections of a move",
            bytes: bytes.len(),
        });
    }
    Ok(words)
}

/// Subject, verdict and (with a refusal) code of every row mean something.
fn read_statements(run: &ArchivedRun, name: &'static str) -> Result<Rows<TxnRow>, FrameError> {
    let rows: Rows<TxnRow> = run::rows(run, name)?;
    for row in rows.iter() {
        match row.parse() {
            None if Verdict::from_u16(row.verdict).is_some() => {
                return Err(number("transaction subject", row.subject));
            }
            None => return Err(number("verdict", row.verdict)),
            Some((_, Verdict::No)) if ResultCode::from_u16(row.code).is_none() => {
                return Err(number("result code", row.code));
            }
            Some(_) => {}
        }
    }
    Ok(rows)
}

fn read_looked_up(run: &ArchivedRun) -> Result<Rows<LookedUpRow>, FrameError> {
    let rows: Rows<LookedUpRow> = run::rows(run, "looked-up rows")?;
    for row in rows.iter() {
        match row.found {
            0 => {}
            1 if ResultCode::from_u16(row.code).is_some() => {}
            1 => return Err(number("result code", row.code)),
            found => return Err(number("found flag", found)),
        }
    }
    Ok(rows)
}
