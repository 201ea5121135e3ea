//! Open client requests of a leader: who waits for what until when. Volatile.
//!
//! Every request that was taken gets exactly one reply: when its last part is settled, when its
//! deadline comes, or when leadership ends.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::client::{AccountAnswer, ReplyBody};
use crate::ids::{AccountId, ConnectionId, DocumentKey, MoveId, RequestId, TransferId};
use crate::ledger::{ResultCode, ResultRow};
use crate::limits::{REQUEST_ROWS_MAX, REQUESTS_MAX};
use crate::replica::history::HistoryRead;
use crate::table::Arena;
use crate::time::Timestamp;
use crate::words::Rows;

/// A request that is or was open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestKey {
    index: u32,
    generation: u64,
}

/// One row of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub request: RequestKey,
    pub row: u32,
}

/// What a request waits for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// Results of rows, `remaining` of them not settled.
    Results {
        rows: Vec<ResultRow>,
        remaining: usize,
    },
    /// Reads of accounts; `None` is not answered yet.
    Accounts {
        ids: Rows<AccountId>,
        answers: Vec<Option<AccountAnswer>>,
        read: ReadPermit,
    },
    /// Reads that need no barrier.
    Transfers {
        ids: Rows<TransferId>,
        read: ReadPermit,
    },
    List {
        after: AccountId,
        limit: usize,
        read: ReadPermit,
    },
    History(Box<HistoryRead>),
    Move {
        id: MoveId,
    },
    PutDocument,
    Document {
        key: DocumentKey,
        read: ReadPermit,
    },
    Documents {
        read: ReadPermit,
    },
    CutRegister {
        at: Timestamp,
    },
    CutSums {
        at: Timestamp,
        proposed: bool,
    },
}

/// How far a read is on its way to being linearizable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadPermit {
    /// The heartbeat round that has to be confirmed, if the lease is not used.
    pub round: Option<u64>,
}

/// An open request.
#[derive(Debug)]
pub(crate) struct Open {
    pub connection: ConnectionId,
    pub id: RequestId,
    pub opened_ns: u64,
    pub deadline_ns: u64,
    pub pending: Pending,
    generation: u64,
}

/// No row has this code.
const UNSETTLED: u16 = u16::MAX;

/// All open requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: Arena<Open>,
    deadlines: BTreeSet<(u64, RequestKey)>,
    connections: BTreeSet<(ConnectionId, RequestKey)>,
    generation: u64,
    /// Rows of all open requests.
    rows: usize,
}

impl Requests {
    /// Whether nothing more is taken in, with this many open requests at most.
    pub fn is_full(&self, requests_max: usize) -> bool {
        self.open.len() >= requests_max.min(REQUESTS_MAX) || self.rows >= REQUEST_ROWS_MAX
    }

    pub fn open(
        &mut self,
        connection: ConnectionId,
        id: RequestId,
        opened_ns: u64,
        deadline_ns: u64,
        pending: Pending,
    ) -> RequestKey {
        self.generation += 1;
        self.rows += pending.rows();
        let generation = self.generation;
        let index = self.open.insert(Open {
            connection,
            id,
            opened_ns,
            deadline_ns,
            pending,
            generation,
        });
        let key = RequestKey { index, generation };
        self.deadlines.insert((deadline_ns, key));
        self.connections.insert((connection, key));
        key
    }

    /// Rows that wait for results.
    pub fn results(rows: usize) -> Pending {
        let unsettled = ResultRow {
            code: UNSETTLED,
            ..ResultRow::default()
        };
        Pending::Results {
            rows: alloc::vec![unsettled; rows],
            remaining: rows,
        }
    }

    pub fn get(&self, key: RequestKey) -> Option<&Open> {
        self.open
            .get(key.index)
            .filter(|open| open.generation == key.generation)
    }

    pub fn get_mut(&mut self, key: RequestKey) -> Option<&mut Open> {
        self.get(key)?;
        Some(self.open.at_mut(key.index))
    }

    pub fn close(&mut self, key: RequestKey) -> Option<Open> {
        self.get(key)?;
        let open = self.open.remove(key.index);
        self.rows -= open.pending.rows();
        self.deadlines.remove(&(open.deadline_ns, key));
        self.connections.remove(&(open.connection, key));
        Some(open)
    }

    /// Settles one row; returns the request if it was the last.
    pub fn settle(&mut self, waiter: Waiter, row: ResultRow) -> Option<(Open, ReplyBody)> {
        let open = self.get_mut(waiter.request)?;
        let Pending::Results { rows, remaining } = &mut open.pending else {
            return None;
        };
        let place = rows.get_mut(usize::try_from(waiter.row).ok()?)?;
        if place.code != UNSETTLED {
            return None;
        }
        *place = row;
        *remaining -= 1;
        if *remaining > 0 {
            return None;
        }
        let rows = Rows::from_slice(rows);
        Some((self.close(waiter.request)?, ReplyBody::Results(rows)))
    }

    /// The next request whose deadline has come.
    pub fn expired(&self, now_ns: u64) -> Option<RequestKey> {
        let &(deadline_ns, key) = self.deadlines.first()?;
        (deadline_ns <= now_ns).then_some(key)
    }

    /// The requests of a connection.
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<RequestKey> {
        let from = RequestKey {
            index: 0,
            generation: 0,
        };
        self.connections
            .range((connection, from)..)
            .take_while(|(of, _)| *of == connection)
            .map(|&(_, key)| key)
            .collect()
    }

    /// All open requests, oldest deadline first.
    pub fn all(&self) -> Vec<RequestKey> {
        self.deadlines.iter().map(|&(_, key)| key).collect()
    }
}

impl Pending {
    /// Rows that it keeps in memory; the same from its opening to its end.
    fn rows(&self) -> usize {
        match self {
            Self::Results { rows, .. } => rows.len(),
            Self::Accounts { ids, .. } => ids.len(),
            Self::Transfers { ids, .. } => ids.len(),
            Self::History(read) => read.limit(),
            Self::List { .. }
            | Self::Move { .. }
            | Self::PutDocument
            | Self::Document { .. }
            | Self::Documents { .. }
            | Self::CutRegister { .. }
            | Self::CutSums { .. } => 0,
        }
    }

    /// The reply to a request that has to end now: settled rows stay, the rest is `open_code`.
    pub fn cut_short(self, open_code: ResultCode) -> ReplyBody {
        match self {
            Self::Results { mut rows, .. } => {
                for row in rows.iter_mut().filter(|row| row.code == UNSETTLED) {
                    *row = ResultRow::unlogged(open_code);
                }
                ReplyBody::Results(Rows::from_slice(&rows))
            }
            Self::Accounts { answers, .. } if answers.iter().any(Option::is_some) => {
                let answer = |a: Option<AccountAnswer>| a.unwrap_or(AccountAnswer::Contended);
                ReplyBody::Accounts(answers.into_iter().map(answer).collect())
            }
            // What was found stands, and the next page goes on behind it.
            Self::History(read) => read
                .into_page()
                .map_or(ReplyBody::Unknown, ReplyBody::History),
            Self::Accounts { .. }
            | Self::Transfers { .. }
            | Self::List { .. }
            | Self::Move { .. }
            | Self::PutDocument
            | Self::Document { .. }
            | Self::Documents { .. }
            | Self::CutRegister { .. }
            | Self::CutSums { .. } => ReplyBody::Unknown,
        }
    }
}
