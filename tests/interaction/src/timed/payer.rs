//! A client with one command to carry out, and the patience to send it until its end is known.

use quorate_protocol::client::{Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{ReplicaAddress, ShardId};
use quorate_protocol::ledger::{Account, CodeKind, ResultCode, Transfer};
use quorate_protocol::words::Rows;

use super::caller::{BACKOFF_NS, Caller};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    Create(Account),
    Pay(Transfer),
}

/// A client.
#[derive(Debug)]
pub struct Payer {
    order: Order,
    caller: Caller,
    outcome: Option<ResultCode>,
}

impl Payer {
    /// Sends its order first at `start_ns`, to `shard`.
    #[must_use]
    pub fn new(order: Order, shard: ShardId, replicas: u8, start_ns: u64) -> Self {
        Self {
            order,
            caller: Caller::new(shard, replicas, start_ns),
            outcome: None,
        }
    }

    /// What it was told to do.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// The final answer, once there is one.
    #[must_use]
    pub fn outcome(&self) -> Option<ResultCode> {
        self.outcome
    }

    /// Whether it waits for an answer.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.caller.is_open()
    }

    /// When it wants to be called.
    #[must_use]
    pub fn wake_ns(&self) -> Option<u64> {
        self.caller.wake_ns()
    }

    /// Sends its order.
    pub fn wake(&mut self, now_ns: u64) -> (ReplicaAddress, Request) {
        let body = match self.order {
            Order::Create(account) => RequestBody::CreateAccounts(Rows::from_slice(&[account])),
            Order::Pay(transfer) => RequestBody::CreateTransfers(Rows::from_slice(&[transfer])),
        };
        self.caller.send(now_ns, body)
    }

    /// Hears an answer.
    ///
    /// # Panics
    /// If it makes no sense for one transfer or account.
    pub fn hear(&mut self, now_ns: u64, reply: Reply) {
        let Some(body) = self.caller.take(now_ns, reply) else {
            return;
        };
        let ReplyBody::Results(rows) = body else {
            assert!(
                matches!(body, ReplyBody::Busy | ReplyBody::Unknown),
                "{:?} was answered {body:?}",
                self.order
            );
            return self.caller.retry_at(now_ns + BACKOFF_NS);
        };
        let row = rows[0];
        let code = row.result().expect("a known code");
        match code.kind() {
            CodeKind::Unlogged if code == ResultCode::Moved => {
                self.caller.turn_to(row.shard);
                self.caller.retry_at(now_ns);
            }
            CodeKind::Unlogged => self.caller.retry_at(now_ns + BACKOFF_NS),
            CodeKind::Success
            | CodeKind::Malformed
            | CodeKind::Recorded
            | CodeKind::Used
            | CodeKind::Expired => {
                self.outcome = Some(code);
            }
        }
    }
}
