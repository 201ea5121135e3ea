//! Mirror of `client::Request`.
//!
//! How many rows a request may carry is checked by the replica, which can say so in a reply.

use quorate_protocol::client::{MapPlace, Request, RequestBody};
use quorate_protocol::ids::{AccountId, DocumentKey, MoveId, ReplicaId, RequestId, ShardId};
use quorate_protocol::time::Timestamp;
use quorate_protocol::words::Words;
use rkyv::{Archive, Serialize};

use super::history::HistoryQueryMirror;
use crate::error::FrameError;
use crate::run::{self, Run};

#[derive(Archive, Serialize)]
pub(crate) struct RequestMirror {
    id: u64,
    deadline_ms: u32,
    seen: u64,
    body: BodyMirror,
}

#[derive(Archive, Serialize)]
enum BodyMirror {
    CreateAccounts(#[rkyv(with = Run)] Words),
    CreateTransfers(#[rkyv(with = Run)] Words),
    LookupAccounts(#[rkyv(with = Run)] Words),
    LookupTransfers(#[rkyv(with = Run)] Words),
    AccountHistory(HistoryQueryMirror),
    ListAccounts {
        after: u128,
        limit: u32,
    },
    Status,
    InDoubt,
    MoveAccounts {
        id: u128,
        target: u32,
        #[rkyv(with = Run)]
        accounts: Words,
    },
    CutRegister {
        at: u64,
    },
    CutSums {
        at: u64,
    },
    CutDigest {
        at: u64,
    },
    Observe {
        from: u32,
        limit: u32,
    },
    ObserveOperations {
        from: u32,
        limit: u32,
    },
    BeginWindow,
    ObserveReset,
    PutDocument {
        key: u128,
        expected: u64,
        bytes: Vec<u8>,
    },
    GetDocument {
        key: u128,
    },
    ListDocuments,
    TransferLeadership {
        to: u8,
    },
    MapChanges {
        epoch: u32,
        account: u128,
        limit: u32,
    },
}

impl RequestMirror {
    pub fn of(request: &Request) -> Self {
        Self {
            id: request.id.0,
            deadline_ms: request.deadline_ms,
            seen: request.seen.0,
            body: BodyMirror::of(&request.body),
        }
    }
}

impl ArchivedRequestMirror {
    pub fn read(&self) -> Result<Request, FrameError> {
        Ok(Request {
            id: RequestId(self.id.to_native()),
            deadline_ms: self.deadline_ms.to_native(),
            seen: Timestamp(self.seen.to_native()),
            body: self.body.read()?,
        })
    }
}

impl BodyMirror {
    fn of(body: &RequestBody) -> Self {
        match body {
            RequestBody::CreateAccounts(rows) => Self::CreateAccounts(rows.words().clone()),
            RequestBody::CreateTransfers(rows) => Self::CreateTransfers(rows.words().clone()),
            RequestBody::LookupAccounts(rows) => Self::LookupAccounts(rows.words().clone()),
            RequestBody::LookupTransfers(rows) => Self::LookupTransfers(rows.words().clone()),
            RequestBody::AccountHistory(query) => {
                Self::AccountHistory(HistoryQueryMirror::of(query))
            }
            RequestBody::ListAccounts { after, limit } => Self::ListAccounts {
                after: after.0,
                limit: *limit,
            },
            RequestBody::Status => Self::Status,
            RequestBody::InDoubt => Self::InDoubt,
            RequestBody::MoveAccounts {
                id,
                target,
                accounts,
            } => Self::MoveAccounts {
                id: id.0,
                target: target.0,
                accounts: accounts.words().clone(),
            },
            RequestBody::CutRegister { at } => Self::CutRegister { at: at.0 },
            RequestBody::CutSums { at } => Self::CutSums { at: at.0 },
            RequestBody::CutDigest { at } => Self::CutDigest { at: at.0 },
            RequestBody::Observe { from, limit } => Self::Observe {
                from: *from,
                limit: *limit,
            },
            RequestBody::ObserveOperations { from, limit } => Self::ObserveOperations {
                from: *from,
                limit: *limit,
            },
            RequestBody::BeginWindow => Self::BeginWindow,
            RequestBody::ObserveReset => Self::ObserveReset,
            RequestBody::PutDocument {
                key,
                expected,
                bytes,
            } => Self::PutDocument {
                key: key.0,
                expected: *expected,
                bytes: bytes.clone(),
            },
            RequestBody::GetDocument { key } => Self::GetDocument { key: key.0 },
            RequestBody::ListDocuments => Self::ListDocuments,
            RequestBody::TransferLeadership { to } => Self::TransferLeadership { to: to.0 },
            RequestBody::MapChanges { place, limit } => Self::MapChanges {
                epoch: place.epoch,
                account: place.account.0,
                limit: *limit,
            },
        }
    }
}

impl ArchivedBodyMirror {
    fn read(&self) -> Result<RequestBody, FrameError> {
        let at = |at: &rkyv::rend::u64_le| Timestamp(at.to_native());
        Ok(match self {
            Self::CreateAccounts(run) => RequestBody::CreateAccounts(run::rows(run, "accounts")?),
            Self::CreateTransfers(run) => {
                RequestBody::CreateTransfers(run::rows(run, "transfers")?)
            }
            Self::LookupAccounts(run) => {
                RequestBody::LookupAccounts(run::rows(run, "account ids")?)
            }
            Self::LookupTransfers(run) => {
                RequestBody::LookupTransfers(run::rows(run, "transfer ids")?)
            }
            Self::AccountHistory(query) => RequestBody::AccountHistory(query.read()),
            Self::ListAccounts { after, limit } => RequestBody::ListAccounts {
                after: AccountId(after.to_native()),
                limit: limit.to_native(),
            },
            Self::Status => RequestBody::Status,
            Self::InDoubt => RequestBody::InDoubt,
            Self::MoveAccounts {
                id,
                target,
                accounts,
            } => RequestBody::MoveAccounts {
                id: MoveId(id.to_native()),
                target: ShardId(target.to_native()),
                accounts: run::rows(accounts, "account ids")?,
            },
            Self::CutRegister { at: cut } => RequestBody::CutRegister { at: at(cut) },
            Self::CutSums { at: cut } => RequestBody::CutSums { at: at(cut) },
            Self::CutDigest { at: cut } => RequestBody::CutDigest { at: at(cut) },
            Self::Observe { from, limit } => RequestBody::Observe {
                from: from.to_native(),
                limit: limit.to_native(),
            },
            Self::ObserveOperations { from, limit } => RequestBody::ObserveOperations {
                from: from.to_native(),
                limit: limit.to_native(),
            },
            Self::BeginWindow => RequestBody::BeginWindow,
            Self::ObserveReset => RequestBody::ObserveReset,
            Self::PutDocument {
                key,
                expected,
                bytes,
            } => RequestBody::PutDocument {
                key: DocumentKey(key.to_native()),
                expected: expected.to_native(),
                bytes: bytes.as_slice().to_vec(),
            },
            Self::GetDocument { key } => RequestBody::GetDocument {
                key: DocumentKey(key.to_native()),
            },
            Self::ListDocuments => RequestBody::ListDocuments,
            Self::TransferLeadership { to } => {
                RequestBody::TransferLeadership { to: ReplicaId(*to) }
            }
            Self::MapChanges {
                epoch,
                account,
                limit,
            } => RequestBody::MapChanges {
                place: MapPlace {
                    epoch: epoch.to_native(),
                    account: AccountId(account.to_native()),
                },
                limit: limit.to_native(),
            },
        })
    }
}
