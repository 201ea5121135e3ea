//! The client's half of the protocol, without IO and without a clock.
//!
//! A session splits work by shard, chooses the replica for each request, follows `not_leader` and
//! `moved`, waits where a replica is busy, sends again what was lost, and ends every piece of work
//! at its deadline. Whoever drives it owns sockets and time:
//!
//! ```text
//! submit --> tick --> poll_send* --> (sockets) --> on_reply / on_dial_failed / on_disconnected --> poll_done*
//! ```
//!
//! Guarantees: every submitted row gets exactly one final result; ids are never changed, so a row
//! that is sent again takes effect once; a row whose outcome is open at the deadline is `unknown`,
//! and one that certainly did nothing keeps the reason. Requests and bytes in flight per replica stay
//! within the limits of the protocol.

mod learnt;
mod op;
mod part;
mod router;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_protocol::client::{AccountAnswer, Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{ReplicaAddress, RequestId, ShardId};
use quorate_protocol::ledger::{CodeKind, ResultCode, ResultRow};
use quorate_protocol::limits::{
    BYTES_PER_CONNECTION_MAX, REDIRECTS_MAX, REQUESTS_PER_CONNECTION_MAX,
};
use quorate_protocol::time::{MS, SECOND};

use self::op::Op;
use self::part::{Part, Payload, Route};
pub use self::router::Router;
pub use self::work::{Cause, Completed, Outcome, PartResult, Work};

/// Pieces of work that are open at once; callers ask [`Session::is_full`] first.
pub const OPS_MAX: usize = 4096;
/// How long one send is waited for before another replica is asked.
const ATTEMPT_NS: u64 = 2 * SECOND;
/// Changes of a shard's map that are asked for at a time: their rows stand before other replies on the connection.
const CHANGES_PER_QUESTION: u32 = 1_024;
/// What a reply may take beyond the deadline that its request named.
const REPLY_GRACE_NS: u64 = 200 * MS;

/// Number of a piece of work in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(u64);

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub to: ReplicaAddress,
    pub request: Request,
}

/// Work in progress.
#[derive(Debug)]
pub struct Session {
    router: Router,
    last_op: u64,
    ops: BTreeMap<OpId, Op>,
    /// Those that nobody has submitted: which shard is asked what has left it. One of each shard at most.
    asking: BTreeMap<OpId, ShardId>,
    deadlines: BTreeSet<(u64, OpId)>,
    /// Ready to be sent: one queue per shard's leader, then one per replica.
    ready: Vec<VecDeque<Part>>,
    next_queue: usize,
    /// Waiting for their time.
    delayed: BTreeMap<(u64, u64), Part>,
    last_delayed: u64,
    in_flight: BTreeMap<RequestId, Sent>,
    timeouts: BTreeSet<(u64, RequestId)>,
    /// By replica.
    load: Vec<Load>,
    done: VecDeque<(OpId, Outcome)>,
}

#[derive(Debug)]
struct Sent {
    part: Part,
    to: ReplicaAddress,
    bytes: usize,
    timeout_ns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

impl Load {
    /// A lone request may be of any size.
    fn admits(self, bytes: usize) -> bool {
        self.requests == 0
            || (self.requests < REQUESTS_PER_CONNECTION_MAX
                && self.bytes + bytes <= BYTES_PER_CONNECTION_MAX)
    }
}

impl Session {
    /// A session that starts from what `router` knows.
    #[must_use]
    pub fn new(router: Router) -> Self {
        let shards = router.topology().shard_ids().count();
        let replicas = router.topology().all_replicas().count();
        Self {
            router,
            last_op: 0,
            ops: BTreeMap::new(),
            asking: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ready: std::iter::repeat_with(VecDeque::new)
                .take(shards + replicas)
                .collect(),
            next_queue: 0,
            delayed: BTreeMap::new(),
            last_delayed: 0,
            in_flight: BTreeMap::new(),
            timeouts: BTreeSet::new(),
            load: vec![Load::default(); replicas],
            done: VecDeque::new(),
        }
    }

    /// What was learnt, for the next session. Work in progress is dropped.
    #[must_use]
    pub fn into_router(self) -> Router {
        self.router
    }

    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Whether no more work may be submitted now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ops.len() - self.asking.len() >= OPS_MAX
    }

    /// Whether all submitted work has ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ops.len() == self.asking.len()
    }

    /// Starts a piece of work that ends at `deadline_ns` at the latest.
    ///
    /// # Panics
    /// If the session is full, or the work names a shard or replica that the cluster does not have.
    pub fn submit(&mut self, work: Work, deadline_ns: u64) -> OpId {
        assert!(!self.is_full(), "the caller asks is_full first");
        self.last_op += 1;
        let id = OpId(self.last_op);
        let (op, parts) = match work {
            Work::CreateAccounts(rows) => {
                let op = Op::results(rows.len(), deadline_ns);
                (op, Part::split(id, &Payload::Accounts(rows), &self.router))
            }
            Work::CreateTransfers(rows) => {
                let op = Op::results(rows.len(), deadline_ns);
                (op, Part::split(id, &Payload::Transfers(rows), &self.router))
            }
            Work::LookupAccounts(rows) => {
                let op = Op::lookups(rows.len(), deadline_ns);
                (op, Part::split(id, &Payload::Lookups(rows), &self.router))
            }
            Work::Shard(shard, body) => {
                let part = Part::whole(id, Route::Leader(shard), body);
                (Op::whole(deadline_ns), vec![part])
            }
            Work::Replica(address, body) => {
                let part = Part::whole(id, Route::Exact(address), body);
                (Op::whole(deadline_ns), vec![part])
            }
        };
        self.deadlines.insert((deadline_ns, id));
        self.ops.insert(id, op);
        for part in parts {
            self.enqueue(part);
        }
        self.end_if_complete(id);
        id
    }

    /// Time has come to `now_ns`: ends what is due, and makes ready what has waited.
    pub fn tick(&mut self, now_ns: u64) {
        while let Some(&(at, request)) = self.timeouts.first() {
            if at > now_ns {
                break;
            }
            let sent = self.take_sent(request).expect("a timeout has its request");
            self.lost(sent.part, sent.to, Cause::TimedOut, now_ns);
        }
        while let Some(&(at, id)) = self.deadlines.first() {
            if at > now_ns {
                break;
            }
            let op = self.ops.remove(&id).expect("a deadline has its work");
            self.deadlines.remove(&(at, id));
            self.finish(id, op.into_outcome());
        }
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now_ns {
                break;
            }
            let part = entry.remove();
            self.enqueue(part);
        }
    }

    /// When to call [`Self::tick`] at the latest; `u64::MAX` for never.
    #[must_use]
    pub fn next_wakeup_ns(&self) -> u64 {
        let timeout = self.timeouts.first().map(|entry| entry.0);
        let deadline = self.deadlines.first().map(|entry| entry.0);
        let delayed = self.delayed.first_key_value().map(|(key, _)| key.0);
        [timeout, deadline, delayed]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
    }

    /// The next request to be sent, if a replica may get one.
    pub fn poll_send(&mut self, now_ns: u64) -> Option<Outgoing> {
        for _ in 0..self.ready.len() {
            let queue = self.next_queue;
            self.next_queue = (queue + 1) % self.ready.len();
            while let Some(part) = self.ready[queue].front() {
                if !self.ops.contains_key(&part.op) {
                    self.ready[queue].pop_front();
                    continue;
                }
                let to = match part.route {
                    Route::Leader(shard) => self.router.leader(shard),
                    Route::Exact(address) => address,
                };
                let bytes = part.payload.bytes();
                let replica = self.router.topology().replica_index(to);
                if !self.load[replica].admits(bytes) {
                    break;
                }
                let part = self.ready[queue].pop_front().expect("it was at the front");
                return Some(self.send(part, to, bytes, now_ns));
            }
        }
        None
    }

    /// A reply came from `from`. One that nobody waits for any more is ignored.
    pub fn on_reply(&mut self, from: ReplicaAddress, reply: Reply, now_ns: u64) {
        self.router.observe(reply.clock);
        if self
            .in_flight
            .get(&reply.id)
            .is_none_or(|sent| sent.to != from)
        {
            return;
        }
        let sent = self.take_sent(reply.id).expect("it is in flight");
        if self.ops.contains_key(&sent.part.op) {
            self.settle(sent.part, from, reply.body, now_ns);
        }
    }

    /// There is no connection to `replica`; nothing that was handed out for it was written.
    pub fn on_dial_failed(&mut self, replica: ReplicaAddress, now_ns: u64) {
        for sent in self.take_sent_to(replica) {
            self.undone(&sent.part, ResultCode::NotLeader, Cause::Unreachable);
            self.elsewhere(sent.part, replica, now_ns);
        }
    }

    /// The cluster will have nothing to do with this client: work for `replica` ends.
    pub fn on_refused(&mut self, replica: ReplicaAddress, reason: &str) {
        for sent in self.take_sent_to(replica) {
            self.end(sent.part.op, Outcome::BadRequest(reason.to_owned()));
        }
    }

    /// The connection to `replica` broke; what was handed out for it may have arrived.
    pub fn on_disconnected(&mut self, replica: ReplicaAddress, now_ns: u64) {
        for sent in self.take_sent_to(replica) {
            self.lost(sent.part, replica, Cause::Disconnected, now_ns);
        }
    }

    /// The request cannot be sent as it is (it does not fit a frame): its work ends.
    pub fn on_unsendable(&mut self, request: RequestId, reason: String) {
        if let Some(sent) = self.take_sent(request) {
            self.end(sent.part.op, Outcome::BadRequest(reason));
        }
    }

    /// Work that has ended.
    pub fn poll_done(&mut self) -> Option<(OpId, Outcome)> {
        self.done.pop_front()
    }

    fn send(&mut self, mut part: Part, to: ReplicaAddress, bytes: usize, now_ns: u64) -> Outgoing {
        let op = self.ops.get_mut(&part.op).expect("checked by poll_send");
        op.sent(&part.items);
        part.first_sent_ns.get_or_insert(now_ns);
        part.sends += 1;
        let wait_ns = op.deadline_ns.saturating_sub(now_ns).min(ATTEMPT_NS);
        let deadline_ms = wait_ns.div_ceil(MS).max(1);
        let id = self.router.next_request();
        let request = Request {
            id,
            deadline_ms: u32::try_from(deadline_ms).expect("at most ATTEMPT_NS"),
            seen: self.router.seen(),
            body: part.payload.body(),
        };
        let load = &mut self.load[self.router.topology().replica_index(to)];
        load.requests += 1;
        load.bytes += bytes;
        let timeout_ns = now_ns + wait_ns + REPLY_GRACE_NS;
        self.timeouts.insert((timeout_ns, id));
        self.in_flight.insert(
            id,
            Sent {
                part,
                to,
                bytes,
                timeout_ns,
            },
        );
        Outgoing { to, request }
    }

    fn take_sent(&mut self, id: RequestId) -> Option<Sent> {
        let sent = self.in_flight.remove(&id)?;
        self.timeouts.remove(&(sent.timeout_ns, id));
        let load = &mut self.load[self.router.topology().replica_index(sent.to)];
        load.requests -= 1;
        load.bytes -= sent.bytes;
        Some(sent)
    }

    fn take_sent_to(&mut self, replica: ReplicaAddress) -> Vec<Sent> {
        let ids: Vec<RequestId> = self
            .in_flight
            .iter()
            .filter(|(_, sent)| sent.to == replica)
            .map(|(&id, _)| id)
            .collect();
        ids.into_iter()
            .filter_map(|id| self.take_sent(id))
            .collect()
    }

    fn settle(&mut self, part: Part, from: ReplicaAddress, body: ReplyBody, now_ns: u64) {
        if let Route::Exact(_) = part.route {
            return self.end(part.op, Outcome::Reply(body));
        }
        match (&part.payload, body) {
            (_, ReplyBody::NotLeader { ballot, leader }) => {
                self.undone(&part, ResultCode::NotLeader, Cause::NotLeader);
                let hint = self.router.not_leader(from, ballot, leader);
                self.follow_hint(part, hint, now_ns);
            }
            (_, ReplyBody::Busy) => {
                self.undone(&part, ResultCode::Busy, Cause::Busy);
                self.wait(part, now_ns);
            }
            (_, ReplyBody::Unknown) => self.unclear(part, Cause::Unknown, now_ns),
            (_, ReplyBody::BadRequest(reason)) => self.end(part.op, Outcome::BadRequest(reason)),
            (Payload::Whole(_), body) => self.end(part.op, Outcome::Reply(body)),
            (Payload::Accounts(_) | Payload::Transfers(_), ReplyBody::Results(rows))
                if rows.len() == part.items.len() =>
            {
                self.settle_results(&part, &rows, now_ns);
            }
            (Payload::Lookups(_), ReplyBody::Accounts(answers))
                if answers.len() == part.items.len() =>
            {
                self.settle_lookups(&part, answers, now_ns);
            }
            (_, body) => {
                let reason = format!("{from} answered {} to something else", body.name());
                self.end(part.op, Outcome::BadRequest(reason));
            }
        }
    }

    fn settle_results(&mut self, part: &Part, rows: &[ResultRow], now_ns: u64) {
        let op = self.ops.get_mut(&part.op).expect("checked by on_reply");
        let mut rest = Rest::default();
        for (place, (&item, row)) in (0..).zip(part.items.iter().zip(rows)) {
            match next_step(row) {
                Step::Final => {
                    op.finish_result(item, clear(row, part.uncertain));
                    rest.settled.push(item);
                }
                Step::Moved(shard)
                    if part.redirects < self.router.topology().redirects_max()
                        && self.router.topology().has_shard(shard) =>
                {
                    op.item_did_nothing(item, *row, part.uncertain);
                    rest.moved.entry(shard).or_default().push(place);
                }
                // Moved once too often.
                Step::Moved(_) => {
                    op.finish_result(item, clear(row, part.uncertain));
                    rest.settled.push(item);
                }
                Step::Wait => {
                    op.item_did_nothing(item, *row, part.uncertain);
                    rest.waiting.push(place);
                }
                Step::Unclear => rest.unclear.push(place),
            }
        }
        let cross = rows.iter().any(ResultRow::cross_shard);
        self.go_on(part, rest, cross, now_ns);
    }

    fn settle_lookups(&mut self, part: &Part, answers: Vec<AccountAnswer>, now_ns: u64) {
        let op = self.ops.get_mut(&part.op).expect("checked by on_reply");
        let mut rest = Rest::default();
        for (place, (&item, answer)) in (0..).zip(part.items.iter().zip(answers)) {
            match answer {
                AccountAnswer::Moved(shard)
                    if part.redirects < self.router.topology().redirects_max()
                        && self.router.topology().has_shard(shard) =>
                {
                    rest.moved.entry(shard).or_default().push(place);
                }
                // Transactions were open, or leadership was lost while they were: a read is worth as
                // much patience as a transfer.
                AccountAnswer::Contended => {
                    op.postpone_lookup(item, AccountAnswer::Contended);
                    rest.waiting.push(place);
                }
                answer => {
                    if let AccountAnswer::Found(account) = &answer {
                        let shard = part.route.shard();
                        self.router
                            .found(account.id, shard, account.ownership_epoch);
                    }
                    op.finish_lookup(item, answer);
                    rest.settled.push(item);
                }
            }
        }
        self.go_on(part, rest, false, now_ns);
    }

    /// Sends on the rows of an answered part that have no final result.
    fn go_on(&mut self, part: &Part, rest: Rest, cross: bool, now_ns: u64) {
        let Rest {
            settled,
            moved,
            waiting,
            unclear,
        } = rest;
        let op = self.ops.get_mut(&part.op).expect("checked by on_reply");
        if !settled.is_empty() {
            op.answered(PartResult {
                shard: part.route.shard(),
                items: settled,
                cross,
                sent_ns: part.first_sent_ns.expect("it was sent"),
                answered_ns: now_ns,
                sends: part.sends,
            });
        }
        for (shard, places) in moved {
            let by = part.route.shard();
            for &place in &places {
                let account = part.payload.account(part::index(place));
                self.router.redirected(by, account, shard);
            }
            self.ask_for_changes(by, now_ns);
            let mut child = part.some(&places);
            child.route = Route::Leader(shard);
            child.redirects += 1;
            self.enqueue(child);
        }
        if !waiting.is_empty() {
            self.wait(part.some(&waiting), now_ns);
        }
        if !unclear.is_empty() {
            self.unclear(part.some(&unclear), Cause::Unknown, now_ns);
        }
        self.end_if_complete(part.op);
    }

    /// What was sent last certainly did nothing.
    fn undone(&mut self, part: &Part, code: ResultCode, cause: Cause) {
        if let Some(op) = self.ops.get_mut(&part.op) {
            op.did_nothing(&part.items, code, part.uncertain);
            op.cause = cause;
        }
    }

    /// What was sent last got no answer from `to`.
    fn lost(&mut self, mut part: Part, to: ReplicaAddress, cause: Cause, now_ns: u64) {
        part.uncertain = true;
        if let Some(op) = self.ops.get_mut(&part.op) {
            op.cause = cause;
        }
        self.elsewhere(part, to, now_ns);
    }

    /// What was sent last got an answer that decides nothing.
    fn unclear(&mut self, mut part: Part, cause: Cause, now_ns: u64) {
        part.uncertain = true;
        if let Some(op) = self.ops.get_mut(&part.op) {
            op.cause = cause;
        }
        self.wait(part, now_ns);
    }

    /// `replica` cannot be asked.
    fn elsewhere(&mut self, part: Part, replica: ReplicaAddress, now_ns: u64) {
        match part.route {
            Route::Leader(_) => {
                self.router.go_round(replica);
                self.wait(part, now_ns);
            }
            Route::Exact(_) => {
                if let Some(op) = self.ops.get(&part.op) {
                    let cause = op.cause;
                    self.end(part.op, Outcome::NoAnswer(cause));
                }
            }
        }
    }

    /// A hint is followed at once, but not round in circles.
    fn follow_hint(&mut self, mut part: Part, hint: bool, now_ns: u64) {
        if hint && part.hints < REDIRECTS_MAX {
            part.hints += 1;
            self.enqueue(part);
        } else {
            self.wait(part, now_ns);
        }
    }

    fn wait(&mut self, mut part: Part, now_ns: u64) {
        if !self.ops.contains_key(&part.op) {
            return;
        }
        let at = now_ns + self.router.backoff_ns(part.tries);
        part.tries += 1;
        part.hints = 0;
        self.last_delayed += 1;
        self.delayed.insert((at, self.last_delayed), part);
    }

    fn enqueue(&mut self, part: Part) {
        let topology = self.router.topology();
        let queue = match part.route {
            Route::Leader(shard) => topology.shard_index(shard),
            Route::Exact(address) => topology.shard_ids().count() + topology.replica_index(address),
        };
        self.ready[queue].push_back(part);
    }

    fn end_if_complete(&mut self, id: OpId) {
        if self.ops.get(&id).is_some_and(Op::is_complete) {
            let op = self.ops.remove(&id).expect("it was there");
            self.deadlines.remove(&(op.deadline_ns, id));
            self.finish(id, op.into_outcome());
        }
    }

    /// Asks a shard that redirects much what else has left it. Only a hint comes of it: nobody waits for the answer, and a lost
    /// one is made up for by the next.
    fn ask_for_changes(&mut self, shard: ShardId, now_ns: u64) {
        let is_asked = self.asking.values().any(|&asked| asked == shard);
        let Some(place) = self.router.asks_for_changes(shard).filter(|_| !is_asked) else {
            return;
        };
        self.last_op += 1;
        let id = OpId(self.last_op);
        let deadline_ns = now_ns + ATTEMPT_NS;
        let body = RequestBody::MapChanges {
            place,
            limit: CHANGES_PER_QUESTION,
        };
        self.ops.insert(id, Op::whole(deadline_ns));
        self.deadlines.insert((deadline_ns, id));
        self.asking.insert(id, shard);
        self.enqueue(Part::whole(id, Route::Leader(shard), body));
    }

    fn finish(&mut self, id: OpId, outcome: Outcome) {
        let Some(shard) = self.asking.remove(&id) else {
            return self.done.push_back((id, outcome));
        };
        let answer = match &outcome {
            Outcome::Reply(answer) => Some(answer),
            _ => None,
        };
        self.router.learn_changes(shard, answer);
    }

    fn end(&mut self, id: OpId, outcome: Outcome) {
        if let Some(op) = self.ops.remove(&id) {
            self.deadlines.remove(&(op.deadline_ns, id));
            self.finish(id, outcome);
        }
    }
}

/// Rows of an answered part by what happens to them next: places in the part, except `settled`.
#[derive(Default)]
struct Rest {
    /// Positions in the piece of work.
    settled: Vec<u32>,
    moved: BTreeMap<ShardId, Vec<u32>>,
    waiting: Vec<u32>,
    unclear: Vec<u32>,
}

enum Step {
    Final,
    Moved(ShardId),
    /// Nothing was done; the same again after a while.
    Wait,
    /// It may have been done; the same again after a while.
    Unclear,
}

fn next_step(row: &ResultRow) -> Step {
    match row.result() {
        Some(ResultCode::Moved) => Step::Moved(row.shard),
        Some(ResultCode::Busy | ResultCode::NotLeader | ResultCode::Contended) => Step::Wait,
        Some(ResultCode::Unknown) => Step::Unclear,
        // Every other answer stands, one of a newer version included.
        _ => Step::Final,
    }
}

/// "Nothing was done" is only about the last send: if an earlier one may have run, nobody knows.
fn clear(row: &ResultRow, uncertain: bool) -> ResultRow {
    match row.result().map(ResultCode::kind) {
        Some(CodeKind::Unlogged) if uncertain => ResultRow::unlogged(ResultCode::Unknown),
        _ => *row,
    }
}
