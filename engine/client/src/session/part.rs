//! One request of a piece of work: rows for one shard, and what became of earlier sends.

use std::collections::BTreeMap;

use quorate_protocol::client::RequestBody;
use quorate_protocol::ids::{AccountId, ReplicaAddress, ShardId};
use quorate_protocol::ledger::{Account, Transfer};
use quorate_protocol::limits::{BATCH_MAX, LOOKUP_MAX};
use quorate_protocol::words::{Row, Rows};

use super::OpId;
use super::router::Router;

/// Room for the frame and the fields around the rows.
const REQUEST_OVERHEAD_BYTES: usize = 256;

#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    Leader(ShardId),
    Exact(ReplicaAddress),
}

impl Route {
    pub fn shard(self) -> ShardId {
        match self {
            Self::Leader(shard) => shard,
            Self::Exact(address) => address.shard,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Payload {
    Accounts(Rows<Account>),
    Transfers(Rows<Transfer>),
    Lookups(Rows<AccountId>),
    Whole(RequestBody),
}

impl Payload {
    /// The request's body; rows are shared, not copied.
    pub fn body(&self) -> RequestBody {
        match self {
            Self::Accounts(rows) => RequestBody::CreateAccounts(rows.clone()),
            Self::Transfers(rows) => RequestBody::CreateTransfers(rows.clone()),
            Self::Lookups(rows) => RequestBody::LookupAccounts(rows.clone()),
            Self::Whole(body) => body.clone(),
        }
    }

    /// Estimate of the frame.
    pub fn bytes(&self) -> usize {
        REQUEST_OVERHEAD_BYTES
            + match self {
                Self::Accounts(rows) => rows.words().as_bytes().len(),
                Self::Transfers(rows) => rows.words().as_bytes().len(),
                Self::Lookups(rows) => rows.words().as_bytes().len(),
                Self::Whole(RequestBody::MoveAccounts { accounts, .. }) => {
                    accounts.words().as_bytes().len()
                }
                Self::Whole(RequestBody::LookupTransfers(ids)) => ids.words().as_bytes().len(),
                Self::Whole(_) => 0,
            }
    }

    /// The account that decides the shard of a row.
    pub fn account(&self, position: usize) -> AccountId {
        match self {
            Self::Accounts(rows) => rows[position].id,
            Self::Transfers(rows) => rows[position].debit_account_id,
            Self::Lookups(rows) => rows[position],
            Self::Whole(_) => unreachable!("a whole request has no rows"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Accounts(rows) => rows.len(),
            Self::Transfers(rows) => rows.len(),
            Self::Lookups(rows) => rows.len(),
            Self::Whole(_) => unreachable!("a whole request has no rows"),
        }
    }

    /// Rows per request.
    fn chunk_max(&self) -> usize {
        match self {
            Self::Accounts(_) | Self::Transfers(_) => BATCH_MAX,
            Self::Lookups(_) => LOOKUP_MAX,
            Self::Whole(_) => unreachable!("a whole request has no rows"),
        }
    }

    fn subset(&self, positions: &[u32]) -> Self {
        match self {
            Self::Accounts(rows) => Self::Accounts(pick(rows, positions)),
            Self::Transfers(rows) => Self::Transfers(pick(rows, positions)),
            Self::Lookups(rows) => Self::Lookups(pick(rows, positions)),
            Self::Whole(_) => unreachable!("a whole request has no rows"),
        }
    }
}

fn pick<T: Row>(rows: &Rows<T>, positions: &[u32]) -> Rows<T> {
    if positions.len() == rows.len() {
        // All of them, and positions never repeat or change their order.
        return rows.clone();
    }
    let picked: Vec<T> = positions
        .iter()
        .map(|&position| rows[index(position)])
        .collect();
    Rows::from_slice(&picked)
}

/// A position as an index.
pub(super) fn index(position: u32) -> usize {
    usize::try_from(position).expect("a u32 fits a usize here")
}

#[derive(Debug)]
pub(super) struct Part {
    pub op: OpId,
    pub route: Route,
    pub payload: Payload,
    /// For each row its position in the piece of work; empty for whole requests.
    pub items: Vec<u32>,
    /// `moved` answers followed so far.
    pub redirects: u32,
    /// Hints to another leader followed without waiting.
    pub hints: u32,
    /// Waits so far; the next one is longer.
    pub tries: u32,
    pub sends: u32,
    /// An earlier send got no definite answer: it may still take effect.
    pub uncertain: bool,
    pub first_sent_ns: Option<u64>,
}

impl Part {
    pub fn whole(op: OpId, route: Route, body: RequestBody) -> Self {
        Self::new(op, route, Payload::Whole(body), Vec::new())
    }

    /// Splits rows by shard and into requests of bounded size; rows of one shard keep their order.
    pub fn split(op: OpId, payload: &Payload, router: &Router) -> Vec<Self> {
        let mut shards: BTreeMap<ShardId, Vec<u32>> = BTreeMap::new();
        for position in 0..payload.len() {
            let shard = router.shard_of(payload.account(position));
            let position = u32::try_from(position).expect("a batch has fewer than 2^32 rows");
            shards.entry(shard).or_default().push(position);
        }
        let mut parts = Vec::new();
        for (shard, items) in shards {
            for chunk in items.chunks(payload.chunk_max()) {
                let rows = payload.subset(chunk);
                parts.push(Self::new(op, Route::Leader(shard), rows, chunk.to_vec()));
            }
        }
        parts
    }

    /// A part with some of this one's rows (given by their places in this part).
    pub fn some(&self, places: &[u32]) -> Self {
        Self {
            op: self.op,
            route: self.route,
            payload: self.payload.subset(places),
            items: places
                .iter()
                .map(|&place| self.items[index(place)])
                .collect(),
            redirects: self.redirects,
            hints: self.hints,
            tries: self.tries,
            sends: self.sends,
            uncertain: self.uncertain,
            first_sent_ns: self.first_sent_ns,
        }
    }

    fn new(op: OpId, route: Route, payload: Payload, items: Vec<u32>) -> Self {
        Self {
            op,
            route,
            payload,
            items,
            redirects: 0,
            hints: 0,
            tries: 0,
            sends: 0,
            uncertain: false,
            first_sent_ns: None,
        }
    }
}
