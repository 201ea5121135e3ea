//! Winning leadership: pre-vote, phase 1, and the choice of values.
//!
//! ```text
//! follower --timeout / LeadNow--> pre-candidate --quorum of grants--> candidate
//! candidate: own ballot durable -> Prepare to all -> quorum of whole promises
//!            -> fetch everything that one of them knows to be chosen
//!            -> leader: re-propose the choice per slot (see `choice`), fill holes
//! ```
//!
//! A slot of which too many copies are lost keeps the candidate waiting for further promises; if there
//! are none to come, it stops and names the slot.
//!
//! Every attempt draws a new timeout and ends with it. A promise comes in parts, one slot each; a
//! repeated question may be answered with other parts, since the acceptor may have learned more in
//! between, so parts are never mixed over different `(chosen_upto, parts)`. For one ballot both only
//! grow, and the reports under one such pair cover the same slots: a promise to a ballot stops
//! acceptance below it, and learning a slot, lost before or not, moves the pair. Under one pair a
//! record may still turn from held to lost, by a restart, so parts are counted by their slots: a
//! promise is whole when it has spoken of as many slots as it said, not when so many parts came.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::choice::Choice;
use super::consensus::{Consensus, Role};
use super::journal::Effect;
use super::leader::Leader;
use super::message::{Message, SlotRecord, SlotReport};
use super::quorum::ReplicaSet;
use crate::entry::Entry;
use crate::ids::{Ballot, PersistSeq, ReplicaId, Slot};
use crate::limits::{ACCEPT_RESEND_NS, WINDOW_MAX};
use crate::output::StopReason;
use crate::planted::{Bug, planted};
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

/// What phase 1 says that the new leader has to propose.
enum Values {
    /// For the slots above `chosen_upto`, without gaps.
    All(Vec<Entry>),
    /// More promises are needed.
    Open,
    /// This slot's copies are lost.
    Gone(Slot),
}

/// What came in so far of one acceptor's promise.
#[derive(Debug)]
struct PromiseParts {
    chosen_upto: Slot,
    parts: u32,
    /// By slot; the single part of an empty promise has none.
    received: BTreeMap<Option<Slot>, Option<SlotReport>>,
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
        let some = planted(Bug::PartialPromise) && !self.received.is_empty();
        some || u32::try_from(self.received.len()).is_ok_and(|received| received == self.parts)
    }

    fn reports(&self) -> impl Iterator<Item = &SlotReport> {
        self.received.values().flatten()
    }

    /// What this acceptor reports of a slot above its `chosen_upto`.
    fn record(&self, slot: Slot) -> &SlotRecord {
        self.reports()
            .find(|report| report.slot == slot)
            .map_or(&SlotRecord::Nothing, |report| &report.record)
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
        report: Option<SlotReport>,
    ) {
        let fits = match &report {
            None => parts == 1,
            Some(report) => {
                let possible = match &report.record {
                    SlotRecord::Nothing => false,
                    SlotRecord::Lost { accepted } | SlotRecord::Accepted { accepted, .. } => {
                        *accepted <= self.ballot
                    }
                };
                possible && report.slot > chosen_upto && report.slot.0 <= chosen_upto.0 + WINDOW_MAX
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
        // Two reports on one slot under one pair are both true of the promise.
        let slot = report.as_ref().map(|report| report.slot);
        promise.received.entry(slot).or_insert(report);
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
        report: Option<SlotReport>,
    ) {
        let Role::Candidate(campaign) = &mut self.role else {
            return;
        };
        if ballot != campaign.ballot {
            return;
        }
        campaign.take_part(from, chosen_upto, part, report);
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
            Role::Follower if self.rejoining.is_some() => return,
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
        assert!(self.rejoining.is_none(), "no voter campaigns");
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
        let behind = chosen.is_some_and(|chosen| chosen > self.log.chosen_upto());
        if behind && !planted(Bug::LeadsBeforeFetching) {
            self.pursue(now_ns);
            return;
        }
        match self.values_to_propose(campaign) {
            Values::All(values) => self.lead(now_ns, values),
            Values::Open => {}
            Values::Gone(slot) => self.stop(StopReason::CopiesLost { slot }),
        }
    }

    fn lead(&mut self, now_ns: u64, values: Vec<Entry>) {
        let Role::Candidate(campaign) = &self.role else {
            unreachable!("only a candidate is elected")
        };
        let ballot = campaign.ballot;
        let first = self.log.chosen_upto().next();
        self.role = Role::Leader(Leader::new(ballot, first, self.round_last, now_ns));
        for entry in values {
            self.propose_next(now_ns, entry);
        }
        self.journal.push(Effect::BecameLeader { ballot });
        self.send_round(now_ns);
    }

    /// For each slot above our `chosen_upto`, without gaps: the choice, unchanged; where it is free, a
    /// no-op of the lowest origin, which fences nothing.
    fn values_to_propose(&self, campaign: &Campaign) -> Values {
        let chosen_upto = self.log.chosen_upto();
        let own = self.log.above(chosen_upto).map(|(slot, _)| slot);
        let own_lost = self.lost.within(chosen_upto.next()..).map(|(slot, _)| slot);
        let theirs = campaign.whole().flat_map(PromiseParts::reports);
        let last = own
            .chain(own_lost)
            .chain(theirs.map(|report| report.slot))
            .max()
            .unwrap_or(chosen_upto);
        let mut values = Vec::new();
        for slot in (chosen_upto.0 + 1..=last.0).map(Slot) {
            let mut tally = self.own_tally(slot);
            for promise in campaign.whole() {
                tally.add(promise.record(slot));
            }
            values.push(
                match tally.choice(self.settings.members(), self.settings.quorum) {
                    Choice::Entry(entry) => entry.clone(),
                    Choice::Free => Entry::noop(Ballot::ZERO, Timestamp::ZERO),
                    Choice::Open => return Values::Open,
                    Choice::Gone => return Values::Gone(slot),
                },
            );
        }
        Values::All(values)
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
