//! Winning leadership: pre-vote, phase 1, and the choice of values.
//!
//! ```text
//! follower --timeout / LeadNow--> pre-candidate --quorum of grants--> candidate
//! candidate: own ballot durable -> Prepare to all -> quorum of whole promises
//!            -> fetch everything that one of them knows to be chosen
//!            -> leader: re-propose the highest accepted entry per slot, fill holes
//! ```
//!
//! Every attempt draws a new timeout and ends with it. A promise comes in parts, one entry each; a
//! repeated question may be answered with other parts, since the acceptor may have learned more in
//! between, so parts are never mixed over different `(chosen_upto, parts)`. For one ballot both only
//! grow, and the entries reported under one such pair cover the same slots: a promise to a ballot
//! stops acceptance below it, and learning a slot moves the pair.

use alloc::collections::BTreeMap;

use super::consensus::{Consensus, Role};
use super::journal::Effect;
use super::leader::Leader;
use super::message::{LoggedEntry, Message};
use super::quorum::ReplicaSet;
use crate::entry::Entry;
use crate::ids::{Ballot, PersistSeq, ReplicaId, Slot};
use crate::limits::{ACCEPT_RESEND_NS, WINDOW_MAX};
use crate::time::Timestamp;

/// A question that binds nobody: would an election with this ballot succeed?
#[derive(Debug)]
pub(super) struct PreVotes {
    ballot: Ballot,
    /// The leader that handed over to this replica, or zero.
    transfer_of: Ballot,
    grants: ReplicaSet,
}

impl PreVotes {
    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn transfer_of(&self) -> Ballot {
        self.transfer_of
    }
}

/// Phase 1 of one ballot.
#[derive(Debug)]
pub(super) struct Campaign {
    ballot: Ballot,
    transfer_of: Ballot,
    /// The record of our own promise.
    own_promise: PersistSeq,
    /// What phase 1 asks about starts here.
    first: Slot,
    promises: BTreeMap<ReplicaId, PromiseParts>,
    resend_at_ns: u64,
}

/// What came in so far of one acceptor's promise.
#[derive(Debug)]
struct PromiseParts {
    chosen_upto: Slot,
    parts: u32,
    /// Part number to entry; the single part of an empty promise has none.
    received: BTreeMap<u32, Option<LoggedEntry>>,
}

impl PromiseParts {
    fn new(chosen_upto: Slot, parts: u32) -> Self {
        Self {
            chosen_upto,
            parts,
            received: BTreeMap::new(),
        }
    }

    fn is_whole(&self) -> bool {
        u32::try_from(self.received.len()).is_ok_and(|received| received == self.parts)
    }
}

impl Campaign {
    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn resend_at_ns(&self) -> u64 {
        self.resend_at_ns
    }

    /// Takes one part in; parts that contradict themselves or come late are ignored.
    fn take_part(
        &mut self,
        from: ReplicaId,
        chosen_upto: Slot,
        (part, parts): (u32, u32),
        accepted: Option<LoggedEntry>,
    ) {
        let fits = match &accepted {
            None => parts == 1,
            Some(logged) => {
                logged.slot > chosen_upto
                    && logged.slot.0 <= chosen_upto.0 + WINDOW_MAX
                    && logged.accepted <= self.ballot
            }
        };
        if part >= parts || u64::from(parts) > WINDOW_MAX || !fits {
            return;
        }
        let promise = self
            .promises
            .entry(from)
            .or_insert_with(|| PromiseParts::new(chosen_upto, parts));
        if promise.is_whole() || (chosen_upto, parts) < (promise.chosen_upto, promise.parts) {
            return;
        }
        if (chosen_upto, parts) > (promise.chosen_upto, promise.parts) {
            *promise = PromiseParts::new(chosen_upto, parts);
        }
        promise.received.insert(part, accepted);
    }

    fn whole(&self) -> impl Iterator<Item = &PromiseParts> {
        self.promises.values().filter(|promise| promise.is_whole())
    }

    fn has_whole(&self, from: ReplicaId) -> bool {
        self.promises.get(&from).is_some_and(PromiseParts::is_whole)
    }
}

impl Consensus {
    pub(super) fn on_pre_vote_reply(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
    ) {
        self.ballot_floor = self.ballot_floor.max(promised);
        let Role::PreCandidate(votes) = &mut self.role else {
            return;
        };
        if granted && ballot == votes.ballot {
            votes.grants.insert(from);
            self.campaign_if_wanted(now_ns);
        }
    }

    pub(super) fn on_promise(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        chosen_upto: Slot,
        part: (u32, u32),
        accepted: Option<LoggedEntry>,
    ) {
        let Role::Candidate(campaign) = &mut self.role else {
            return;
        };
        if ballot != campaign.ballot {
            return;
        }
        campaign.take_part(from, chosen_upto, part, accepted);
        self.fetch.claim(from, chosen_upto);
        self.lead_if_elected(now_ns);
    }

    pub(super) fn on_reject(&mut self, now_ns: u64, ballot: Ballot, promised: Ballot) {
        self.ballot_floor = self.ballot_floor.max(promised);
        let refused = match &self.role {
            Role::Follower | Role::PreCandidate(_) => false,
            Role::Candidate(campaign) => campaign.ballot == ballot && promised > ballot,
            Role::Leader(leader) => leader.ballot() == ballot && promised > ballot,
        };
        if refused {
            self.become_follower(now_ns);
        }
    }

    pub(super) fn tick_election(&mut self, now_ns: u64) {
        if let Role::Candidate(campaign) = &self.role
            && campaign.resend_at_ns <= now_ns
        {
            self.send_prepare(now_ns);
        }
        let transfer_of = match &self.role {
            Role::Leader(_) => return,
            Role::Follower => Ballot::ZERO,
            Role::PreCandidate(votes) => votes.transfer_of,
            Role::Candidate(campaign) => campaign.transfer_of,
        };
        if now_ns < self.election_at_ns {
            return;
        }
        let sticky = self.following.is_some_and(|following| {
            now_ns < following.heard_ns + self.settings.timing.election_min_ns
        });
        if sticky || self.log.is_replaying() || now_ns < self.votes_from_ns {
            // Handed-over leadership could not be won and the old leader still speaks; or too early.
            self.become_follower(now_ns);
        } else {
            self.start_pre_vote(now_ns, transfer_of);
        }
    }

    pub(super) fn start_pre_vote(&mut self, now_ns: u64, transfer_of: Ballot) {
        assert!(now_ns >= self.votes_from_ns && !self.log.is_replaying());
        assert!(!matches!(self.role, Role::Leader(_)));
        let own = self.settings.own;
        let ballot = Ballot::new(self.ballot_floor.round() + 1, own);
        self.role = Role::PreCandidate(PreVotes {
            ballot,
            transfer_of,
            grants: ReplicaSet::of(own),
        });
        self.election_at_ns = now_ns + self.election_timeout_ns();
        for &peer in &self.settings.peers {
            self.journal.send(
                peer,
                Message::PreVote {
                    ballot,
                    chosen_upto: self.log.chosen_upto(),
                    transfer_of,
                },
            );
        }
        self.campaign_if_wanted(now_ns);
    }

    /// A quorum would support us: promise to ourselves, and ask for real once that is durable.
    fn campaign_if_wanted(&mut self, now_ns: u64) {
        let Role::PreCandidate(votes) = &self.role else {
            return;
        };
        if votes.grants.len() < self.settings.quorum {
            return;
        }
        let (ballot, transfer_of) = (votes.ballot, votes.transfer_of);
        assert!(ballot > self.promised);
        self.promised = ballot;
        self.ballot_floor = self.ballot_floor.max(ballot);
        self.following = None;
        self.journal.log_promise(ballot);
        self.role = Role::Candidate(Campaign {
            ballot,
            transfer_of,
            own_promise: self.journal.issued(),
            first: self.log.chosen_upto().next(),
            promises: BTreeMap::new(),
            resend_at_ns: 0,
        });
        self.send_prepare(now_ns);
    }

    /// Asks everybody who has not answered in full. Waits for the own promise to be durable.
    fn send_prepare(&mut self, now_ns: u64) {
        let Role::Candidate(campaign) = &mut self.role else {
            return;
        };
        campaign.resend_at_ns = now_ns + ACCEPT_RESEND_NS;
        for &peer in &self.settings.peers {
            if !campaign.has_whole(peer) {
                self.journal.send_durable(
                    peer,
                    Message::Prepare {
                        ballot: campaign.ballot,
                        from: campaign.first,
                        transfer_of: campaign.transfer_of,
                    },
                );
            }
        }
    }

    /// Leads if a quorum promised and everything that one of them knows to be chosen is here.
    pub(super) fn lead_if_elected(&mut self, now_ns: u64) {
        let Role::Candidate(campaign) = &self.role else {
            return;
        };
        let promised = campaign.whole().count() + 1;
        if self.journal.durable() < campaign.own_promise || promised < self.settings.quorum {
            return;
        }
        let chosen = campaign.whole().map(|promise| promise.chosen_upto).max();
        if chosen.is_some_and(|chosen| chosen > self.log.chosen_upto()) {
            self.pursue(now_ns);
            return;
        }
        self.lead(now_ns);
    }

    fn lead(&mut self, now_ns: u64) {
        let Role::Candidate(campaign) = &self.role else {
            unreachable!("only a candidate is elected")
        };
        let ballot = campaign.ballot;
        let values = self.values_to_propose(campaign);
        let first = self.log.chosen_upto().next();
        self.role = Role::Leader(Leader::new(ballot, first, self.round_last, now_ns));
        for entry in values {
            self.propose_next(now_ns, entry);
        }
        self.journal.push(Effect::BecameLeader { ballot });
        self.send_round(now_ns);
    }

    /// For each slot above our `chosen_upto`, without gaps: the entry accepted under the highest
    /// ballot, unchanged; where nobody accepted anything, a no-op of the lowest origin, which
    /// fences nothing.
    fn values_to_propose(&self, campaign: &Campaign) -> alloc::vec::Vec<Entry> {
        let chosen_upto = self.log.chosen_upto();
        let mut best: BTreeMap<Slot, (Ballot, Entry)> = BTreeMap::new();
        let own = self
            .log
            .above(chosen_upto)
            .map(|(slot, held)| (slot, held.accepted, &held.entry));
        let theirs = campaign
            .whole()
            .flat_map(|promise| promise.received.values().flatten())
            .filter(|logged| logged.slot > chosen_upto)
            .map(|logged| (logged.slot, logged.accepted, &logged.entry));
        for (slot, accepted, entry) in own.chain(theirs) {
            match best.get(&slot) {
                Some((highest, _)) if *highest >= accepted => {}
                Some(_) | None => {
                    best.insert(slot, (accepted, entry.clone()));
                }
            }
        }
        let last = best.last_key_value().map_or(chosen_upto, |(&slot, _)| slot);
        (chosen_upto.0 + 1..=last.0)
            .map(|slot| match best.remove(&Slot(slot)) {
                Some((_, entry)) => entry,
                None => Entry::noop(Ballot::ZERO, Timestamp::ZERO),
            })
            .collect()
    }

    /// A new election timeout, drawn for every attempt.
    pub(super) fn election_timeout_ns(&mut self) -> u64 {
        let timing = &self.settings.timing;
        self.random
            .range(timing.election_min_ns, timing.election_max_ns)
    }

    /// The first timeout after the wait at start: short for the preferred leader, so that the
    /// leaders of many groups spread without a second election.
    pub(super) fn first_timeout_ns(&mut self) -> u64 {
        if self.settings.preferred == self.settings.own {
            self.settings.timing.election_min_ns / 2
        } else {
            self.election_timeout_ns()
        }
    }
}
