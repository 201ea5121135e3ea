//! A client with one question, and the patience to send it until it is answered.

use quorate_protocol::client::{Reply, ReplyBody, Request, RequestBody};
use quorate_protocol::ids::{ReplicaAddress, ShardId};

use super::caller::{BACKOFF_NS, Caller};

/// A client.
#[derive(Debug)]
pub struct Asker {
    body: RequestBody,
    caller: Caller,
    answer: Option<ReplyBody>,
}

impl Asker {
    /// Asks first at `start_ns`, the leader of `shard`.
    #[must_use]
    pub fn new(body: RequestBody, shard: ShardId, replicas: u8, start_ns: u64) -> Self {
        Self {
            body,
            caller: Caller::new(shard, replicas, start_ns),
            answer: None,
        }
    }

    /// The answer, once there is one.
    #[must_use]
    pub fn answer(&self) -> Option<&ReplyBody> {
        self.answer.as_ref()
    }

    /// When it wants to be called.
    #[must_use]
    pub fn wake_ns(&self) -> Option<u64> {
        self.caller.wake_ns()
    }

    /// Sends its question.
    pub fn wake(&mut self, now_ns: u64) -> (ReplicaAddress, Request) {
        self.caller.send(now_ns, self.body.clone())
    }

    /// Hears an answer.
    pub fn hear(&mut self, now_ns: u64, reply: Reply) {
        match self.caller.take(now_ns, reply) {
            Some(ReplyBody::Busy | ReplyBody::Unknown) => {
                self.caller.retry_at(now_ns + BACKOFF_NS);
            }
            Some(body) => self.answer = Some(body),
            None => {}
        }
    }
}
