//! One request at a time to the leader of a shard, sent again until it is answered.
//!
//! Knows the replicas by number only: it follows the hint of a replica that does not lead, goes
//! round without one, and gives a silent replica up after a while. What a reply means is decided by
//! who uses it.

use quorate_protocol::client::{Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{ReplicaAddress, ReplicaId, RequestId, ShardId};
use quorate_protocol::time::{MS, Timestamp};

use crate::cluster::preferred;

/// How long a reply may take before the next replica is asked.
const SILENCE_NS: u64 = 400 * MS;
/// Between an answer that settles nothing and the next try.
pub const BACKOFF_NS: u64 = 20 * MS;
/// Deadline of each request at the server, shorter than the servers' own bounds on moves.
const DEADLINE_MS: u32 = 2_000;

/// The sending side of a client.
#[derive(Debug)]
pub struct Caller {
    at: ReplicaAddress,
    replicas: u8,
    requests: u64,
    open: Option<RequestId>,
    seen: Timestamp,
    /// When to send, or to send again; `None` when there is nothing more to say.
    wake_ns: Option<u64>,
}

impl Caller {
    /// Sends first at `start_ns`, to the replica that usually leads the shard.
    #[must_use]
    pub fn new(shard: ShardId, replicas: u8, start_ns: u64) -> Self {
        Self {
            at: ReplicaAddress {
                shard,
                replica: preferred(shard, replicas),
            },
            replicas,
            requests: 0,
            open: None,
            seen: Timestamp::ZERO,
            wake_ns: Some(start_ns),
        }
    }

    /// Whether a request is not answered yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When it wants to be called.
    #[must_use]
    pub fn wake_ns(&self) -> Option<u64> {
        self.wake_ns
    }

    /// The request to send now, and where. A request that is still open was not answered in time.
    pub fn send(&mut self, now_ns: u64, body: RequestBody) -> (ReplicaAddress, Request) {
        if self.open.is_some() {
            self.go_round();
        }
        self.requests += 1;
        let id = RequestId(self.requests);
        self.open = Some(id);
        self.wake_ns = Some(now_ns + SILENCE_NS);
        let request = Request {
            id,
            deadline_ms: DEADLINE_MS,
            seen: self.seen,
            body,
        };
        (self.at, request)
    }

    /// The body of the reply to the open request; `None` if it is not that, or only says that
    /// somebody else leads.
    pub fn take(&mut self, now_ns: u64, reply: Reply) -> Option<ReplyBody> {
        if self.open != Some(reply.id) {
            return None;
        }
        self.open = None;
        self.seen = self.seen.max(reply.clock);
        self.wake_ns = None;
        match reply.body {
            ReplyBody::NotLeader { leader, .. } => {
                match leader {
                    Some(leader) => self.at.replica = leader,
                    None => self.go_round(),
                }
                self.retry_at(now_ns + BACKOFF_NS);
                None
            }
            body => Some(body),
        }
    }

    /// Tries again later.
    pub fn retry_at(&mut self, wake_ns: u64) {
        self.wake_ns = Some(wake_ns);
    }

    /// Turns to another shard.
    pub fn turn_to(&mut self, shard: ShardId) {
        self.at.shard = shard;
    }

    fn go_round(&mut self) {
        self.at.replica = ReplicaId(self.at.replica.0 % self.replicas + 1);
    }
}
