//! Heartbeat rounds from the leader's side, and the reads that rest on them.

use super::consensus::{Consensus, Role};
use super::leader::Leader;
use super::message::Message;
use super::quorum::reached_by;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::planted::{Bug, planted};
use crate::time::Now;

impl Consensus {
    /// Whether a read of applied state is linearizable now by the lease. Ask at the moment the
    /// value is read. `false` for ever after a transfer was sent under the ballot: use
    /// [`Self::start_read_round`] then.
    #[must_use]
    pub fn lease_valid(&self, now: Now) -> bool {
        match &self.role {
            Role::Leader(leader) => {
                leader.is_serving()
                    && (self.settings.is_alone()
                        || planted(Bug::StaleLeaseRead)
                        || leader.lease_holds(now.mono_ns, &self.settings.timing))
            }
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// The number of a heartbeat round that covers reads arrived up to now: once
    /// [`Self::confirmed_round`] has reached it (and this replica serves, under the same ballot),
    /// they may be answered from applied state. `u64::MAX`, never confirmed, unless leading.
    /// Bounded: while several rounds are open, reads share the next one.
    pub fn start_read_round(&mut self, now: Now) -> u64 {
        let Role::Leader(leader) = &mut self.role else {
            return u64::MAX;
        };
        let (round, send_now) = leader.rounds.cover_reads();
        if send_now {
            let sent = self.send_round(now.mono_ns);
            assert!(sent == round);
        }
        round
    }

    /// The highest heartbeat round that a quorum of voters answered under the own ballot; 0 unless
    /// leading.
    #[must_use]
    pub fn confirmed_round(&self) -> u64 {
        match &self.role {
            Role::Leader(leader) => leader.rounds.confirmed(),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => 0,
        }
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        round: u64,
        chosen_upto: Slot,
    ) {
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        if leader.ballot() != ballot {
            return;
        }
        let progress = leader.progress.entry(from).or_default();
        progress.note_reply(
            now_ns,
            round,
            chosen_upto,
            self.log.chosen_upto(),
            &self.settings.timing,
        );
        let confirmed = leader.confirmed_by(self.settings.quorum - 1);
        if leader.rounds.confirm(confirmed) {
            self.send_round(now_ns);
        }
        self.send_owed(from);
        self.fetch.claim(from, chosen_upto);
        self.pursue(now_ns);
        self.advance_transfer(now_ns);
    }

    /// Sends a heartbeat round to everybody; its number.
    pub(super) fn send_round(&mut self, now_ns: u64) -> u64 {
        let Role::Leader(leader) = &mut self.role else {
            unreachable!("only a leader sends heartbeats")
        };
        let round = leader.rounds.send(now_ns);
        self.round_last = round;
        leader.heartbeat_at_ns = now_ns + self.settings.timing.heartbeat_ns;
        for &peer in &self.settings.peers {
            self.journal.send(
                peer,
                Message::Heartbeat {
                    ballot: leader.ballot(),
                    round,
                    chosen_upto: self.log.chosen_upto(),
                },
            );
        }
        if self.settings.is_alone() {
            leader.rounds.confirm(round);
        }
        round
    }
}

impl Leader {
    /// The last round answered by this many followers.
    fn confirmed_by(&self, followers: usize) -> u64 {
        reached_by(
            followers,
            self.progress.values().map(|progress| progress.round),
        )
    }
}
