//! A replica whose disk was lost, until it votes again.
//!
//! It has forgotten what it promised and accepted, so it is no voter: it answers no candidate, accepts
//! nothing, answers no heartbeat (that would promise a lease), does not campaign, and reports nothing of
//! slots that it does not know to be chosen. It learns and serves chosen entries like everybody.
//!
//! ```text
//! lost --Rejoin(0)--> all others: RejoinReply(promised)      floor M = the highest, once ALL have answered
//! learns chosen entries, recorded under ballots of M at least
//! caught up --Rejoin(M)--> a leader of a ballot <= M hands over to another member
//! knows a chosen entry of an origin > M: its own promise of that ballot durable --> votes
//! ```
//!
//! # Why its vote is not missed then
//!
//! Let R be the replica, "before" its lives until the loss, and M its floor.
//!
//! - **Whatever R voted for before, it did under a ballot `b <= M`.** R accepts under `b` what the leader
//!   of `b` proposes. A quorum promised `b` to that leader, durably, and before R was asked to accept: so at
//!   least one member other than R had promised `b` before the loss. A promise never falls, and members
//!   answer `Rejoin` only in lives that are voters, so its answer, given after the loss, is `b` at least.
//!   (The nonce is of this life: an answer to an earlier one may be from before the loss.) If that member
//!   has lost its disk, too, it votes again only above what R had promised then, or waits for R.
//! - **A leader of `B > M` was elected without R.** R promised nothing above M that was ever led, and
//!   promises nothing now. So of the `2f` others `f + 1` promised `B`; of a quorum that accepted something
//!   under `b <= M`, R among them, `f` are others; so one of them is in both and told the leader of `B`.
//!   Whatever was chosen with a vote of R, even one that is still on its way to the leader of `b`, is
//!   therefore at or below the slots that the leader of `B` knew to be chosen or proposed again.
//! - **Entries of origin `B` come after these slots.** R knows one of them as chosen, hence all slots up to
//!   it. Above it no vote of R was ever part of a quorum; up to it, R has what was chosen. So R is an acceptor
//!   that has lost nothing, once it has promised `B`, and before that promise is durable it does not vote.
//! - **What it learns is recorded under ballots of M at least.** In a later life, the watermark may have
//!   been lost and the entries be reported as merely accepted. Under a ballot below `b`, such a report would
//!   lose against what some third member accepted in between, which the vote of R under `b` had outvoted.
//!   So R learns nothing before it has its floor, and raises its promise to it first.
//!
//! A checkpoint that it takes from another replica does not make it vote: whoever takes one starts anew and
//! asks for its floor after that. Two members without disks wait for each other for ever: then what both
//! had acknowledged may be lost, and nobody can tell.
//!
//! An old `Prepare` of R may still arrive somewhere after its floor was told. Its ballot was never led, or a
//! quorum had promised it before the loss, and if R makes up the same ballot again, the answers say the same.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::consensus::{Consensus, Role};
use super::journal::Effect;
use super::message::Message;
use super::transfer::CAUGHT_UP_LAG;
use crate::entry::Entry;
use crate::ids::{Ballot, PersistSeq, ReplicaId, Slot};
use crate::time::{MS, SECOND};

/// How long an asked member has to answer before it is asked again.
const ASK_AGAIN_NS: u64 = 250 * MS;
/// Between two questions to hand over: proposals rest for as long as that takes.
const HAND_OVER_AGAIN_NS: u64 = 2 * SECOND;

/// What a replica without its disk waits for.
#[derive(Debug)]
pub(super) struct Rejoining {
    /// Names this life: answers to an earlier one do not count.
    nonce: u64,
    ask_at_ns: u64,
    /// The highest origin of the entries applied in this life.
    origin_seen: Ballot,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// For the answers of all others.
    Asking { told: BTreeMap<ReplicaId, Ballot> },
    /// For a chosen entry of an origin above.
    Learning { floor: Ballot },
    /// For its own promise.
    Promising { floor: Ballot, record: PersistSeq },
}

impl Rejoining {
    /// What all others have promised at most, once they have told.
    pub(super) fn floor(&self) -> Option<Ballot> {
        match self.stage {
            Stage::Asking { .. } => None,
            Stage::Learning { floor } | Stage::Promising { floor, .. } => Some(floor),
        }
    }

    pub(super) fn note_chosen(&mut self, entry: &Entry) {
        self.origin_seen = self.origin_seen.max(entry.origin());
    }
}

impl Consensus {
    pub(super) fn begin_rejoining(&mut self, now_ns: u64) {
        assert!(!self.settings.is_alone() && self.rejoining.is_none());
        self.rejoining = Some(Rejoining {
            nonce: self.random.draw(),
            ask_at_ns: now_ns,
            origin_seen: Ballot::ZERO,
            stage: Stage::Asking {
                told: BTreeMap::new(),
            },
        });
    }

    /// Whether chosen entries may be recorded: not before the floor is known.
    pub(super) fn may_learn(&self) -> bool {
        (self.rejoining.as_ref()).is_none_or(|rejoining| rejoining.floor().is_some())
    }

    /// Gives back the message if it is handled the same by whoever is no voter.
    pub(super) fn as_member(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        message: Message,
    ) -> Option<Message> {
        if self.rejoining.is_none() {
            return Some(message);
        }
        match message {
            Message::Accept {
                ballot,
                chosen_upto,
                ..
            }
            | Message::Heartbeat {
                ballot,
                chosen_upto,
                ..
            } => {
                self.watch_leader(now_ns, from, ballot, chosen_upto);
                None
            }
            Message::RejoinReply { nonce, promised } => {
                self.on_rejoin_reply(now_ns, from, nonce, promised);
                None
            }
            Message::CatchUp { .. } => Some(message),
            Message::Entries { .. } => self.may_learn().then_some(message),
            // Each asks for a vote, or for what only a voter knows, or answers a question of an earlier life.
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Prepare { .. }
            | Message::Promise { .. }
            | Message::Reject { .. }
            | Message::Accepted { .. }
            | Message::HeartbeatReply { .. }
            | Message::LeadNow { .. }
            | Message::Rejoin { .. } => None,
        }
    }

    /// What a leader, deposed or not, knows to be chosen is chosen.
    fn watch_leader(&mut self, now_ns: u64, from: ReplicaId, ballot: Ballot, chosen_upto: Slot) {
        if ballot >= self.promised && self.may_learn() {
            self.hear_leader(now_ns, ballot);
            self.learn_chosen(now_ns, from, ballot, chosen_upto);
        } else {
            self.fetch.claim(from, chosen_upto);
            self.pursue(now_ns);
        }
    }

    fn on_rejoin_reply(&mut self, now_ns: u64, from: ReplicaId, nonce: u64, promised: Ballot) {
        let all = self.settings.peers.len();
        let Some(rejoining) = &mut self.rejoining else {
            return;
        };
        let Stage::Asking { told } = &mut rejoining.stage else {
            return;
        };
        if nonce != rejoining.nonce {
            return;
        }
        told.insert(from, promised);
        if told.len() < all {
            return;
        }
        let floor = told.values().copied().max().unwrap_or_default();
        rejoining.stage = Stage::Learning { floor };
        // Heartbeats tell meanwhile how much there is to fetch first.
        rejoining.ask_at_ns = now_ns + ASK_AGAIN_NS;
        if floor > self.promised {
            self.raise_promise(now_ns, floor);
        }
        self.pursue(now_ns);
    }

    pub(super) fn tick_rejoining(&mut self, now_ns: u64) {
        let caught_up = self.log.chosen_upto().0 + CAUGHT_UP_LAG >= self.fetch.claimed_upto().0;
        let Some(rejoining) = &mut self.rejoining else {
            return;
        };
        if now_ns < rejoining.ask_at_ns {
            return;
        }
        let nonce = rejoining.nonce;
        let (floor, to, again_ns): (_, Vec<ReplicaId>, _) = match &rejoining.stage {
            Stage::Asking { told } => {
                let peers = self.settings.peers.iter().copied();
                let silent = peers.filter(|peer| !told.contains_key(peer));
                (Ballot::ZERO, silent.collect(), ASK_AGAIN_NS)
            }
            Stage::Learning { floor } if caught_up => {
                (*floor, self.settings.peers.clone(), HAND_OVER_AGAIN_NS)
            }
            Stage::Learning { .. } => (Ballot::ZERO, Vec::new(), ASK_AGAIN_NS),
            Stage::Promising { .. } => return,
        };
        rejoining.ask_at_ns = now_ns + again_ns;
        for peer in to {
            self.journal.send(peer, Message::Rejoin { nonce, floor });
        }
    }

    /// When [`Self::tick_rejoining`] or [`Self::vote_again_if_due`] has something to do.
    pub(super) fn rejoining_deadline_ns(&self) -> u64 {
        let Some(rejoining) = &self.rejoining else {
            return u64::MAX;
        };
        match rejoining.stage {
            Stage::Learning { floor } if rejoining.origin_seen > floor => 0,
            Stage::Asking { .. } | Stage::Learning { .. } => rejoining.ask_at_ns,
            Stage::Promising { .. } => u64::MAX,
        }
    }

    /// The rule by which it votes again.
    pub(super) fn vote_again_if_due(&mut self, now_ns: u64) {
        let Some(rejoining) = &self.rejoining else {
            return;
        };
        let origin = rejoining.origin_seen;
        match rejoining.stage {
            Stage::Learning { floor } if origin > floor => {
                if origin > self.promised {
                    self.raise_promise(now_ns, origin);
                }
                self.journal.log_promise(self.promised);
                let record = self.journal.issued();
                if let Some(rejoining) = &mut self.rejoining {
                    rejoining.stage = Stage::Promising { floor, record };
                }
            }
            Stage::Promising { floor, record } if self.journal.durable() >= record => {
                assert!(floor <= self.promised && matches!(self.role, Role::Follower));
                self.rejoining = None;
                let wait_ns = self.settings.timing.lease_ns;
                self.votes_from_ns = self.votes_from_ns.max(now_ns + wait_ns);
                self.election_at_ns = self.votes_from_ns + self.election_timeout_ns();
                self.journal.push(Effect::Rejoined);
            }
            Stage::Asking { .. } | Stage::Learning { .. } | Stage::Promising { .. } => {}
        }
    }

    /// A member without its disk asks.
    pub(super) fn on_rejoin(&mut self, now_ns: u64, from: ReplicaId, nonce: u64, floor: Ballot) {
        if floor == Ballot::ZERO {
            let promised = self.promised;
            self.journal
                .send(from, Message::RejoinReply { nonce, promised });
            return;
        }
        // The next leader's ballot lies above it, whoever that is.
        self.ballot_floor = self.ballot_floor.max(floor);
        if let Some(successor) = self.successor_above(now_ns, floor, from) {
            self.start_transfer(now_ns, successor);
        }
    }

    /// Who should lead instead of this leader, if its ballot is not above the floor of `without`.
    fn successor_above(&self, now_ns: u64, floor: Ballot, without: ReplicaId) -> Option<ReplicaId> {
        let Role::Leader(leader) = &self.role else {
            return None;
        };
        if leader.ballot() > floor {
            return None;
        }
        let chosen_upto = self.log.chosen_upto();
        let fit = leader.progress.iter().filter(|(peer, progress)| {
            **peer != without
                && progress.is_alive(now_ns, &self.settings.timing)
                && progress.chosen_upto.0 + CAUGHT_UP_LAG >= chosen_upto.0
        });
        fit.max_by_key(|(peer, progress)| (**peer == self.settings.preferred, progress.chosen_upto))
            .map(|(&peer, _)| peer)
    }
}
