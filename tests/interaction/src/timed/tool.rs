//! The operator's tool: carries out a plan of moves from one source, batch after batch.
//!
//! The same rules as `engine/client/src/reshard.rs`, which this crate may not depend on: one batch at
//! a time with an id of its own, the same id again until the answer is final, an account found
//! elsewhere is taken out of its batch, a batch that stays contended is split. The tool keeps nothing
//! that outlives it; a new one starts the plan from its beginning with ids of its own.

use std::collections::VecDeque;

use quorate_protocol::client::{MoveAnswer, Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{AccountId, MoveId, ReplicaAddress, ShardId};
use quorate_protocol::words::Rows;

use super::caller::{BACKOFF_NS, Caller};

/// Contended answers after which a batch is split.
const CONTENDED_BEFORE_SPLIT: u32 = 3;
/// Ids of one life of the tool; the lives never share any.
const IDS_PER_LIFE: u128 = 1_000;

/// What is to be moved.
#[derive(Clone, Debug)]
pub struct Plan {
    pub source: ShardId,
    pub target: ShardId,
    pub accounts: Vec<AccountId>,
    /// Accounts per move.
    pub batch_max: usize,
}

#[derive(Debug)]
struct Batch {
    id: MoveId,
    accounts: Vec<AccountId>,
    contended: u32,
}

/// One life of the tool.
#[derive(Debug)]
pub struct Tool {
    plan: Plan,
    caller: Caller,
    waiting: VecDeque<Vec<AccountId>>,
    batch: Option<Batch>,
    ids: u128,
    moved: usize,
    already_there: usize,
}

impl Tool {
    /// Starts the plan from its beginning at `start_ns`.
    #[must_use]
    pub fn new(plan: Plan, life: u32, replicas: u8, start_ns: u64) -> Self {
        let batches = plan.accounts.chunks(plan.batch_max);
        let waiting = batches.map(<[AccountId]>::to_vec).collect();
        Self {
            caller: Caller::new(plan.source, replicas, start_ns),
            waiting,
            batch: None,
            ids: u128::from(life) * IDS_PER_LIFE,
            moved: 0,
            already_there: 0,
            plan,
        }
    }

    /// Whether every account of the plan is known to be at its target.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.moved + self.already_there == self.plan.accounts.len()
    }

    /// Whether it waits for the end of a move.
    #[must_use]
    pub fn has_asked(&self) -> bool {
        self.batch.is_some()
    }

    /// When it wants to be called.
    #[must_use]
    pub fn wake_ns(&self) -> Option<u64> {
        if self.is_done() {
            return None;
        }
        self.caller.wake_ns()
    }

    /// Sends its batch, the next one if none is open.
    ///
    /// # Panics
    /// If the plan is done.
    pub fn wake(&mut self, now_ns: u64) -> (ReplicaAddress, Request) {
        let batch = self.batch.get_or_insert_with(|| {
            self.ids += 1;
            Batch {
                id: MoveId(self.ids),
                accounts: self.waiting.pop_front().expect("the plan is not done"),
                contended: 0,
            }
        });
        let body = RequestBody::MoveAccounts {
            id: batch.id,
            target: self.plan.target,
            accounts: Rows::from_slice(&batch.accounts),
        };
        self.caller.send(now_ns, body)
    }

    /// Hears an answer.
    ///
    /// # Panics
    /// If the plan turns out to be impossible: the scenarios have none such.
    pub fn hear(&mut self, now_ns: u64, reply: Reply) {
        let Some(body) = self.caller.take(now_ns, reply) else {
            return;
        };
        let batch = self.batch.as_mut().expect("an answer to an open batch");
        let mut wake_ns = now_ns + BACKOFF_NS;
        match body {
            ReplyBody::Move(MoveAnswer::Moved { accounts, .. }) => {
                let all = usize::try_from(accounts).expect("few accounts");
                assert!(all == batch.accounts.len(), "{all} of {batch:?} moved");
                self.moved += all;
                self.batch = None;
                wake_ns = now_ns;
            }
            ReplyBody::Move(MoveAnswer::NotOwned { account, shard }) => {
                assert!(shard == self.plan.target, "account {account} is at {shard}");
                self.already_there += 1;
                let gone = |id: &AccountId| *id == account;
                let rest = batch.accounts.iter().copied().filter(|id| !gone(id));
                let rest: Vec<AccountId> = rest.collect();
                assert!(rest.len() + 1 == batch.accounts.len(), "{batch:?}");
                self.put_back(rest);
                wake_ns = now_ns;
            }
            ReplyBody::Move(MoveAnswer::Contended) => {
                batch.contended += 1;
                if batch.contended == CONTENDED_BEFORE_SPLIT && batch.accounts.len() > 1 {
                    let (first, second) = batch.accounts.split_at(batch.accounts.len() / 2);
                    let (first, second) = (first.to_vec(), second.to_vec());
                    self.put_back(second);
                    self.put_back(first);
                }
            }
            ReplyBody::Busy | ReplyBody::Unknown => {}
            other => panic!("the tool was answered {other:?}"),
        }
        self.caller.retry_at(wake_ns);
    }

    fn put_back(&mut self, accounts: Vec<AccountId>) {
        self.batch = None;
        if !accounts.is_empty() {
            self.waiting.push_front(accounts);
        }
    }
}
