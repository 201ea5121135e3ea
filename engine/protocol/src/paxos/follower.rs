//! Following a leader: hearing it, and what its `chosen_upto` proves here.

use super::consensus::{Consensus, Role};
use super::message::Message;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::planted::{Bug, planted};

/// The leader of the promised ballot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Following {
    pub(super) ballot: Ballot,
    /// When it was heard last.
    pub(super) heard_ns: u64,
}

impl Consensus {
    pub(super) fn on_heartbeat(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        round: u64,
        chosen_upto: Slot,
    ) {
        if ballot < self.promised {
            self.journal.send(
                from,
                Message::Reject {
                    ballot,
                    promised: self.promised,
                },
            );
            return;
        }
        // From here on this replica keeps the promise that the answer makes: `heard_ns` is now.
        self.hear_leader(now_ns, ballot);
        self.learn_chosen(now_ns, from, ballot, chosen_upto);
        self.journal.send(
            from,
            Message::HeartbeatReply {
                ballot,
                round,
                chosen_upto: self.log.chosen_upto(),
            },
        );
    }

    /// The leader of `ballot`, which is not below our promise, speaks.
    pub(super) fn hear_leader(&mut self, now_ns: u64, ballot: Ballot) {
        assert!(ballot >= self.promised && ballot.replica() != self.settings.own);
        if ballot > self.promised {
            self.raise_promise(now_ns, ballot);
        }
        self.following = Some(Following {
            ballot,
            heard_ns: now_ns,
        });
        match &self.role {
            // The leader that handed over goes on speaking until it is replaced.
            Role::PreCandidate(votes) if votes.transfer_of() == ballot => {}
            Role::Follower | Role::PreCandidate(_) => self.become_follower(now_ns),
            Role::Candidate(_) | Role::Leader(_) => {
                unreachable!("the promised ballot is our own")
            }
        }
    }

    /// The sender, leader of `ballot`, knows that all slots up to `upto` are chosen. That proves an
    /// entry here only if it was accepted under the same ballot: then it is the leader's own. The
    /// rest has to be fetched.
    pub(super) fn learn_chosen(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        upto: Slot,
    ) {
        self.fetch.claim(from, upto);
        while self.log.chosen_upto() < upto
            && let Some(held) = self.log.get(self.log.chosen_upto().next())
            && (held.accepted == ballot || planted(Bug::ChosenUnderAnyBallot))
        {
            self.log.choose_next();
        }
        self.pursue(now_ns);
    }

    /// Back to following, with a new election timeout.
    pub(super) fn become_follower(&mut self, now_ns: u64) {
        self.depose();
        self.role = Role::Follower;
        self.election_at_ns = now_ns + self.election_timeout_ns();
    }
}
