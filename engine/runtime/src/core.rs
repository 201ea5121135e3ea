//! The replica that an executor runs, or what answers in its place.
//!
//! A replica that could not start, or that the core stopped, is *parked*: it says why when asked for
//! its status, sends every other client on, and is silent towards peers. One that takes a checkpoint of its
//! group is parked meanwhile. No decision is taken here.

use quorate_protocol::client::{
    Reply, ReplyBody, Request, RequestBody, RequestLatency, Role, Status,
};
use quorate_protocol::ids::{Ballot, ReplicaAddress, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::output::{Output, StopReason};
use quorate_protocol::replica::Replica;
use quorate_protocol::time::{Now, Timestamp};

use crate::pace::Progress;

/// What steps.
pub(crate) enum Core {
    Running(Box<Replica>),
    Parked(Parked),
}

/// What a replica is in its group, as the log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) role: Role,
    pub(crate) ballot: Ballot,
    pub(crate) serves: bool,
}

/// A replica that does not run.
#[derive(Debug)]
pub(crate) struct Parked {
    address: ReplicaAddress,
    role: Role,
    reason: String,
    replies: Vec<Output>,
}

impl Parked {
    pub(crate) fn new(address: ReplicaAddress, reason: String) -> Self {
        Self {
            address,
            role: Role::Stopped,
            reason,
            replies: Vec::new(),
        }
    }

    /// A replica that takes a checkpoint of its group, and will run again.
    pub(crate) fn rebuilding(address: ReplicaAddress) -> Self {
        Self {
            role: Role::Recovering,
            ..Self::new(address, "takes a checkpoint of its group".to_owned())
        }
    }

    fn step(&mut self, now: Now, input: Input) {
        let Input::Client {
            connection,
            request,
        } = input
        else {
            return;
        };
        let reply = self.answer(now, &request);
        self.replies.push(Output::Reply { connection, reply });
    }

    fn answer(&self, now: Now, request: &Request) -> Reply {
        let body = if request.body == RequestBody::Status {
            ReplyBody::Status(self.status())
        } else {
            ReplyBody::NotLeader {
                ballot: Ballot::ZERO,
                leader: None,
            }
        };
        Reply {
            id: request.id,
            clock: Timestamp(now.wall_ns),
            body,
        }
    }

    fn status(&self) -> Status {
        Status {
            shard: self.address.shard,
            replica: self.address.replica,
            role: self.role,
            ballot: Ballot::ZERO,
            leader: None,
            serving: false,
            chosen_upto: Slot::ZERO,
            applied_upto: Slot::ZERO,
            epoch: 0,
            accounts: 0,
            transfers: 0,
            in_doubt: 0,
            committed_local: 0,
            committed_cross: 0,
            latency: RequestLatency::default(),
            reason: self.reason.clone(),
        }
    }
}

impl Core {
    /// Takes one input; drain [`Self::poll_output`] before the next.
    pub(crate) fn step(&mut self, now: Now, input: Input) {
        match self {
            Self::Running(replica) => replica.step(now, input),
            Self::Parked(parked) => parked.step(now, input),
        }
    }

    /// The next effect, if any.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        match self {
            Self::Running(replica) => replica.poll_output(),
            Self::Parked(parked) => parked.replies.pop(),
        }
    }

    /// Its part in its group.
    pub(crate) fn part(&self) -> Part {
        match self {
            Self::Running(replica) => Part {
                role: replica.role(),
                ballot: replica.ballot(),
                serves: replica.serving().is_some(),
            },
            Self::Parked(parked) => Part {
                role: parked.role,
                ballot: Ballot::ZERO,
                serves: false,
            },
        }
    }

    /// How it stands with the replica.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Running(replica) => replica.status(),
            Self::Parked(parked) => parked.status(),
        }
    }

    /// How far the checkpoint under way has got, if there is one.
    pub(crate) fn checkpoint_progress(&self) -> Option<Progress> {
        let Self::Running(replica) = self else {
            return None;
        };
        let (passed, due) = replica.checkpoint_passed()?;
        Some(Progress {
            number: replica.ledger().checkpoint(),
            passed,
            due,
        })
    }

    /// Whether the next tick is there to apply an entry, which may wait for a moment.
    pub(crate) fn is_apply_put_off(&self) -> bool {
        match self {
            Self::Running(replica) => replica.is_apply_put_off(),
            Self::Parked(_) => false,
        }
    }

    /// When the next tick is due: monotonic nanoseconds.
    pub(crate) fn deadline_ns(&self) -> u64 {
        match self {
            Self::Running(replica) => replica.deadline_ns(),
            Self::Parked(_) => u64::MAX,
        }
    }
}

/// What an operator reads in the status of a replica that stopped itself.
pub(crate) fn stop_reason(reason: &StopReason) -> String {
    match reason {
        StopReason::LogLost { slot } => {
            format!("the log lacks slot {slot}, which was reported durable")
        }
        StopReason::CopiesLost { slot } => {
            format!(
                "so many copies of slot {slot} are lost that an acknowledged entry may be among \
                 them: restore the data directory of a replica that has it"
            )
        }
        StopReason::Diverged { slot } => {
            format!("a peer holds another entry for slot {slot}, which is chosen here")
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::{ConnectionId, ReplicaId, RequestId, ShardId};

    use super::*;

    const NOW: Now = Now {
        mono_ns: 1,
        wall_ns: 2,
    };

    fn answer_to(body: RequestBody) -> ReplyBody {
        let address = ReplicaAddress {
            shard: ShardId(1),
            replica: ReplicaId(2),
        };
        let mut core = Core::Parked(Parked::new(address, "disk on fire".to_owned()));
        let request = Request {
            id: RequestId(7),
            deadline_ms: 0,
            seen: Timestamp::ZERO,
            body,
        };
        let connection = ConnectionId(3);
        core.step(NOW, Input::Tick);
        assert!(core.poll_output().is_none());
        let input = Input::Client {
            connection,
            request,
        };
        core.step(NOW, input);
        let Some(Output::Reply { reply, .. }) = core.poll_output() else {
            panic!("no reply");
        };
        assert_eq!(reply.id, RequestId(7));
        reply.body
    }

    #[test]
    fn a_parked_replica_says_why_and_sends_other_requests_on() {
        let ReplyBody::Status(status) = answer_to(RequestBody::Status) else {
            panic!("no status");
        };
        assert_eq!(status.role, Role::Stopped);
        assert_eq!(status.reason, "disk on fire");
        let body = answer_to(RequestBody::InDoubt);
        let expected = ReplyBody::NotLeader {
            ballot: Ballot::ZERO,
            leader: None,
        };
        assert_eq!(body, expected);
    }
}
