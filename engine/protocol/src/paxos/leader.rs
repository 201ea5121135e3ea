//! Leading: phase 2 for up to a pipeline of slots, check-quorum.
//!
//! The leader's own vote counts when its record is durable, like everybody's. It announces a slot
//! as chosen under its ballot only if the entry is the one that it proposed there (followers take
//! that as proof); a leader that learns otherwise has been deposed and stops at once.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::consensus::{Consensus, Role};
use super::journal::{Effect, Journal};
use super::lease::Rounds;
use super::log::Log;
use super::message::Message;
use super::progress::Progress;
use super::quorum::ReplicaSet;
use super::transfer::Transfer;
use crate::entry::Entry;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::{ACCEPT_RESEND_NS, PIPELINE_MAX, Timing};
use crate::planted::{Bug, planted};
use crate::time::Now;

/// A slot that is proposed and not known to be chosen.
#[derive(Debug)]
struct Flight {
    /// Followers that voted; the own vote is a question to the journal.
    votes: ReplicaSet,
    sent_ns: u64,
}

/// The state of one leadership.
#[derive(Debug)]
pub(super) struct Leader {
    ballot: Ballot,
    next_slot: Slot,
    flights: BTreeMap<Slot, Flight>,
    /// The slot of the own no-op.
    opening: Option<Slot>,
    /// The entry of the opening slot is applied, and it is our own.
    serving: bool,
    pub(super) progress: BTreeMap<ReplicaId, Progress>,
    began_ns: u64,
    pub(super) rounds: Rounds,
    pub(super) heartbeat_at_ns: u64,
    pub(super) transfer: Option<Transfer>,
    /// A transfer was sent under this ballot: no lease read under it again.
    pub(super) lease_given_up: bool,
    pub(super) next_preferred_transfer_ns: u64,
}

impl Leader {
    pub(super) fn new(ballot: Ballot, first: Slot, round_last: u64, now_ns: u64) -> Self {
        Self {
            ballot,
            next_slot: first,
            flights: BTreeMap::new(),
            opening: None,
            serving: planted(Bug::ServesBeforeOpening),
            progress: BTreeMap::new(),
            began_ns: now_ns,
            rounds: Rounds::new(round_last, now_ns),
            heartbeat_at_ns: now_ns,
            transfer: None,
            lease_given_up: false,
            next_preferred_transfer_ns: 0,
        }
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn next_slot(&self) -> Slot {
        self.next_slot
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Whether nobody else can lead now, and no transfer has put that in doubt.
    pub(super) fn lease_holds(&self, now_ns: u64, timing: &Timing) -> bool {
        !self.lease_given_up && self.rounds.lease_holds(now_ns, timing)
    }

    /// An entry was applied: serving starts with the own opening.
    pub(super) fn note_applied(&mut self, slot: Slot, entry: &Entry) {
        if self.opening == Some(slot) {
            self.serving = entry.origin() == self.ballot;
        }
    }

    pub(super) fn deadline_ns(&self, timing: &Timing) -> u64 {
        let resend_ns = self
            .flights
            .values()
            .map(|flight| flight.sent_ns + ACCEPT_RESEND_NS)
            .min();
        self.heartbeat_at_ns
            .min(self.rounds.quorum_lost_ns(timing))
            .min(resend_ns.unwrap_or(u64::MAX))
            .min(self.transfer.as_ref().map_or(u64::MAX, Transfer::until_ns))
    }

    /// Proposals of these slots, unless `peer` has voted.
    fn send_again(
        &self,
        peer: ReplicaId,
        slots: impl Iterator<Item = Slot>,
        log: &Log,
        journal: &mut Journal,
    ) {
        for slot in slots {
            if !self.flights[&slot].votes.contains(peer) {
                let held = log.get(slot).expect("a proposer holds its proposals");
                let accept = Message::Accept {
                    ballot: self.ballot,
                    slot,
                    chosen_upto: log.chosen_upto(),
                    entry: held.entry.clone(),
                };
                journal.send(peer, accept);
            }
        }
    }

    /// The least that a follower is known to know as chosen.
    pub(super) fn chosen_everywhere(&self, peers: &[ReplicaId]) -> Slot {
        let known = |peer| {
            self.progress
                .get(peer)
                .map_or(Slot::ZERO, |progress| progress.chosen_upto)
        };
        peers.iter().map(known).min().unwrap_or(Slot(u64::MAX))
    }

    fn has_room(&self) -> bool {
        u64::try_from(self.flights.len()).is_ok_and(|flights| flights < PIPELINE_MAX)
    }
}

impl Consensus {
    /// Whether [`Self::propose`] takes a command entry now: leads, has opened, the pipeline has
    /// room, no handing over is under way, apply does not lag.
    #[must_use]
    pub fn can_propose(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => {
                leader.opening.is_some()
                    && leader.transfer.is_none()
                    && leader.has_room()
                    && !self.log.is_full()
            }
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Whether the leader's first own entry is due: the caller proposes a no-op of the own ballot,
    /// stamped by its clock after it has observed the stamps of the entries proposed again (see
    /// [`Self::inherited`]).
    #[must_use]
    pub fn needs_opening(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.opening.is_none() && leader.has_room(),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Accepted entries that are not applied yet: a new leader's clock must not stamp below them.
    pub fn inherited(&self) -> impl Iterator<Item = &Entry> {
        self.log
            .above(self.log.applied_upto())
            .map(|(_, held)| &held.entry)
    }

    /// Leader: whether the last proposal is not durable here yet.
    #[must_use]
    pub fn own_flush_open(&self) -> bool {
        match &self.role {
            Role::Leader(_) => self
                .log
                .get(self.log.accepted_upto())
                .is_some_and(|held| held.seq > self.journal.durable()),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Proposes an entry of the own ballot for the next slot. Only if [`Self::can_propose`], or as
    /// the opening if [`Self::needs_opening`].
    pub fn propose(&mut self, now: Now, entry: Entry) -> Slot {
        let opens = self.needs_opening();
        assert!(
            opens || self.can_propose(),
            "the leader has no room to propose"
        );
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader can propose")
        };
        assert!(
            entry.origin() == leader.ballot,
            "a proposal of another ballot"
        );
        if opens {
            leader.opening = Some(leader.next_slot);
        }
        let slot = self.propose_next(now.mono_ns, entry);
        self.check();
        slot
    }

    /// The own ballot once phase 1 is complete.
    #[must_use]
    pub fn leading(&self) -> Option<Ballot> {
        match &self.role {
            Role::Leader(leader) => Some(leader.ballot),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// The own ballot once the entry of the own no-op is applied and was not replaced: everything
    /// chosen before is applied, and this leader may answer clients and other shards.
    #[must_use]
    pub fn serving(&self) -> Option<Ballot> {
        match &self.role {
            Role::Leader(leader) => leader.serving.then_some(leader.ballot),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }

    /// Puts an entry, own or inherited, into the next slot.
    pub(super) fn propose_next(&mut self, now_ns: u64, entry: Entry) -> Slot {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader proposes")
        };
        let (ballot, slot) = (leader.ballot, leader.next_slot);
        leader.next_slot = slot.next();
        leader.flights.insert(
            slot,
            Flight {
                votes: ReplicaSet::default(),
                sent_ns: now_ns,
            },
        );
        let chosen_upto = self.log.chosen_upto();
        for &peer in &self.settings.peers {
            let progress = leader.progress.entry(peer).or_default();
            let silent_ns = now_ns - progress.heard_ns.unwrap_or(leader.began_ns);
            progress.is_owed |= !progress.takes_in(chosen_upto)
                || silent_ns >= self.settings.timing.election_min_ns;
            if !progress.is_owed {
                let accept = Message::Accept {
                    ballot,
                    slot,
                    chosen_upto,
                    entry: entry.clone(),
                };
                self.journal.send(peer, accept);
            }
        }
        self.record_accepted(ballot, slot, entry, 0);
        slot
    }

    pub(super) fn on_accepted(&mut self, now_ns: u64, from: ReplicaId, ballot: Ballot, slot: Slot) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.ballot != ballot {
            return;
        }
        leader.progress.entry(from).or_default().note_vote(slot);
        self.send_owed(from);
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("it led just now")
        };
        if let Some(flight) = leader.flights.get_mut(&slot) {
            flight.votes.insert(from);
            self.count_votes();
            self.advance_transfer(now_ns);
        }
    }

    /// Moves `chosen_upto` over slots with a quorum of votes.
    pub(super) fn count_votes(&mut self) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        while let Some(flight) = leader.flights.first_entry() {
            let slot = *flight.key();
            assert!(slot == self.log.chosen_upto().next());
            let held = self.log.get(slot).expect("a proposer holds its proposals");
            assert!(held.accepted == leader.ballot);
            let durable = held.seq <= self.journal.durable() || planted(Bug::OwnVoteBeforeWal);
            let own = usize::from(durable);
            if flight.get().votes.len() + own < self.settings.quorum {
                return;
            }
            flight.remove();
            self.log.choose_next();
        }
    }

    /// The next slot became known as chosen by other means: it is no longer in flight.
    pub(super) fn land_flight(&mut self, slot: Slot) {
        if let Role::Leader(leader) = &mut self.role {
            leader.flights.remove(&slot);
        }
    }

    pub(super) fn tick_leader(&mut self, now_ns: u64) {
        let Role::Leader(leader) = &self.role else {
            return;
        };
        let lost_ns = leader.rounds.quorum_lost_ns(&self.settings.timing);
        if now_ns >= lost_ns && !self.settings.is_alone() {
            self.become_follower(now_ns);
            return;
        }
        if now_ns >= leader.heartbeat_at_ns {
            self.send_round(now_ns);
            self.prefer_leader(now_ns);
        }
        self.resend_accepts(now_ns);
        self.advance_transfer(now_ns);
    }

    /// Proposals that nobody answered for a while go out again, to those who have not voted.
    fn resend_accepts(&mut self, now_ns: u64) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let mut overdue = Vec::new();
        for (&slot, flight) in &mut leader.flights {
            if now_ns >= flight.sent_ns + ACCEPT_RESEND_NS {
                flight.sent_ns = now_ns;
                overdue.push(slot);
            }
        }
        for &peer in &self.settings.peers {
            let progress = leader.progress.entry(peer).or_default();
            if progress.takes_in(self.log.chosen_upto()) {
                let slots = overdue.iter().copied();
                leader.send_again(peer, slots, &self.log, &mut self.journal);
            }
        }
    }

    /// A follower has answered: what was proposed while it was too far behind or silent goes to it, unless
    /// it is still behind.
    pub(super) fn send_owed(&mut self, peer: ReplicaId) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let progress = leader.progress.entry(peer).or_default();
        if progress.takes_in(self.log.chosen_upto()) && core::mem::take(&mut progress.is_owed) {
            let slots: Vec<Slot> = leader.flights.keys().copied().collect();
            leader.send_again(peer, slots.into_iter(), &self.log, &mut self.journal);
        }
    }

    /// Ends leadership, if there is one, without saying what comes next.
    pub(super) fn depose(&mut self) {
        if let Role::Leader(leader) = &self.role {
            let ballot = leader.ballot;
            self.journal.push(Effect::Deposed { ballot });
            self.role = Role::Follower;
        }
    }
}
