//! The consensus core of one group: its state, its public functions, the order of its pointers.
//!
//! Guarantees: a slot is never decided twice differently, whatever is lost, doubled, reordered or
//! crashes; messages are idempotent; one leader per ballot. Left to others: what entries mean, the
//! ballot fence at apply, time stamps, answering clients.
//!
//! One call, then drain [`Consensus::poll_effect`]; then apply what [`Consensus::next_chosen`] gives
//! (and drain again, it may ask for a read of the log).

use alloc::vec::Vec;

use super::catch_up::Fetch;
use super::election::{Campaign, PreVotes};
use super::follower::Following;
use super::journal::{Effect, Journal};
use super::leader::Leader;
use super::log::{Kept, Log};
use super::lost::LostRecords;
use super::message::{LoggedEntry, Message};
use super::rejoin::Rejoining;
use super::serving::LogReads;
use crate::client;
use crate::config::{LostRecord, Recovered, ReplicaConfig};
use crate::entry::Entry;
use crate::ids::{Ballot, PersistSeq, ReplicaId, Slot};
use crate::limits::{Timing, WINDOW_MAX};
use crate::output::StopReason;
use crate::planted::{Bug, planted};
use crate::prng::Prng;
use crate::time::Now;

/// What a replica is in its group, with what only that role needs.
#[derive(Debug)]
pub(super) enum Role {
    Follower,
    /// Asks whether an election would succeed; binds nobody.
    PreCandidate(PreVotes),
    Candidate(Campaign),
    Leader(Leader),
}

/// The fixed part of the configuration.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) own: ReplicaId,
    pub(super) peers: Vec<ReplicaId>,
    pub(super) quorum: usize,
    pub(super) timing: Timing,
    pub(super) preferred: ReplicaId,
}

impl Settings {
    /// Members of the group, this one included.
    pub(super) fn members(&self) -> usize {
        self.peers.len() + 1
    }

    /// A group of one decides alone: nobody else can have been promised a lease.
    pub(super) fn is_alone(&self) -> bool {
        self.peers.is_empty()
    }
}

/// The consensus core of one replica of one group.
#[derive(Debug)]
pub struct Consensus {
    pub(super) settings: Settings,
    pub(super) random: Prng,
    pub(super) role: Role,
    /// Nothing below is promised or accepted any more. Never falls. May be ahead of the disk; a
    /// promise given to others is not.
    pub(super) promised: Ballot,
    /// The highest ballot heard of: the next own ballot lies above.
    pub(super) ballot_floor: Ballot,
    pub(super) log: Log,
    pub(super) lost: LostRecords,
    pub(super) journal: Journal,
    /// The leader heard last under `promised`, and when.
    pub(super) following: Option<Following>,
    /// When to campaign, unless leading.
    pub(super) election_at_ns: u64,
    /// No vote and no campaign before: a promise of a lease may have died with the last process.
    pub(super) votes_from_ns: u64,
    /// When to write the chosen watermark although nothing else is written.
    pub(super) watermark_at_ns: Option<u64>,
    /// The last heartbeat round sent in any leadership.
    pub(super) round_last: u64,
    pub(super) fetch: Fetch,
    pub(super) reads: LogReads,
    /// No voter: its disk was lost.
    pub(super) rejoining: Option<Rejoining>,
    stopped: Option<StopReason>,
}

impl Consensus {
    /// Starts from what the log holds, as a follower that first replays its chosen entries.
    #[must_use]
    pub fn new(config: &ReplicaConfig, mut recovered: Recovered, now: Now) -> Self {
        assert!(config.timing.is_sound());
        let own = config.address.replica;
        let settings = Settings {
            own,
            peers: config.peers().collect(),
            quorum: config.quorum(),
            timing: config.timing,
            preferred: config.preferred_leader,
        };
        let seed = config.seed ^ u64::from(own.0) << 32 ^ u64::from(config.address.shard.0);
        // An accepted ballot is a promise, whatever the promise records say.
        let intact = recovered.tail.iter().map(|logged| logged.accepted);
        let damaged = recovered.lost.iter().map(|lost| lost.accepted);
        let promised = intact.chain(damaged).fold(recovered.promised, Ballot::max);
        let mut lost = LostRecords::default();
        let mut lost_last = Slot::ZERO;
        for record in core::mem::take(&mut recovered.lost) {
            lost_last = lost_last.max(record.slot);
            lost.add(record);
        }
        assert!(
            !recovered.rejoins || config.replicas > 1,
            "nobody to learn from"
        );
        let rejoins = recovered.rejoins;
        let covered = recovered.checkpoint;
        let chosen_logged = recovered.chosen_upto.max(covered);
        let mut log = Log::new(recovered, config.tail_bytes_max);
        // What a checkpoint covers need not be read again, and cannot be served from here.
        if let Some(unreadable) = lost.forget_upto(covered) {
            log.release_below(unreadable.next());
        }
        let mut consensus = Self {
            journal: Journal::new(promised, chosen_logged),
            log,
            lost,
            settings,
            random: Prng::new(seed),
            role: Role::Follower,
            promised,
            ballot_floor: promised,
            following: None,
            election_at_ns: now.mono_ns,
            votes_from_ns: now.mono_ns,
            watermark_at_ns: None,
            round_last: 0,
            fetch: Fetch::default(),
            reads: LogReads::default(),
            rejoining: None,
            stopped: None,
        };
        if rejoins && planted(Bug::RejoinVotesAtOnce) {
            consensus.journal.push(Effect::Rejoined);
        } else if rejoins {
            consensus.begin_rejoining(now.mono_ns);
        }
        let waits = !planted(Bug::VoteAfterRestart);
        if waits && !consensus.settings.is_alone() {
            consensus.votes_from_ns += consensus.settings.timing.lease_ns;
            consensus.election_at_ns = consensus.votes_from_ns + consensus.first_timeout_ns();
        }
        if lost_last.0 > consensus.log.chosen_upto().0 + WINDOW_MAX {
            // Nothing was ever accepted so far ahead: the log names what it cannot have held.
            consensus.stop(StopReason::LogLost { slot: lost_last });
        } else {
            consensus.pump_log_reads();
            consensus.pursue(now.mono_ns);
        }
        consensus.check();
        consensus
    }

    /// Takes a message of a member of the group. One that no member can have sent is ignored.
    pub fn on_message(&mut self, now: Now, from: ReplicaId, message: Message) {
        if self.stopped.is_some() || !self.is_plausible(from, &message) {
            return;
        }
        let now_ns = now.mono_ns;
        let Some(message) = self.as_member(now_ns, from, message) else {
            self.settle(now_ns);
            return;
        };
        match message {
            Message::PreVote {
                ballot,
                chosen_upto,
                transfer_of,
            } => self.on_pre_vote(now_ns, from, ballot, chosen_upto, transfer_of),
            Message::PreVoteReply {
                ballot,
                granted,
                promised,
            } => self.on_pre_vote_reply(now_ns, from, ballot, granted, promised),
            Message::Prepare {
                ballot,
                from: slot,
                transfer_of,
            } => self.on_prepare(now_ns, from, ballot, slot, transfer_of),
            Message::Promise {
                ballot,
                chosen_upto,
                log_start: _,
                part,
                parts,
                report,
            } => self.on_promise(now_ns, from, ballot, chosen_upto, (part, parts), report),
            Message::Reject { ballot, promised } => self.on_reject(now_ns, ballot, promised),
            Message::Accept {
                ballot,
                slot,
                chosen_upto,
                entry,
            } => self.on_accept(now_ns, from, ballot, slot, chosen_upto, entry),
            Message::Accepted { ballot, slot } => self.on_accepted(now_ns, from, ballot, slot),
            Message::Heartbeat {
                ballot,
                round,
                chosen_upto,
            } => self.on_heartbeat(now_ns, from, ballot, round, chosen_upto),
            Message::HeartbeatReply {
                ballot,
                round,
                chosen_upto,
            } => self.on_heartbeat_reply(now_ns, from, ballot, round, chosen_upto),
            Message::CatchUp { from: first, upto } => self.on_catch_up(from, first, upto),
            Message::Entries {
                entries,
                chosen_upto,
                log_start,
                report,
            } => {
                if !entries.is_empty() || !self.want_snapshot(from, log_start) {
                    self.on_entries(now_ns, from, entries, chosen_upto, report);
                }
            }
            Message::LeadNow { ballot } => self.on_lead_now(now_ns, ballot),
            Message::Rejoin { nonce, floor } => self.on_rejoin(now_ns, from, nonce, floor),
            // To an earlier question.
            Message::RejoinReply { .. } => {}
        }
        self.settle(now_ns);
    }

    /// Everything issued up to `upto` is on stable storage.
    pub fn on_durable(&mut self, now: Now, upto: PersistSeq) {
        if self.stopped.is_some() {
            return;
        }
        self.journal.on_durable(upto);
        self.log.trim(self.journal.durable());
        self.lost.on_durable(self.journal.durable());
        self.pump_log_reads();
        self.count_votes();
        self.advance_transfer(now.mono_ns);
        self.lead_if_elected(now.mono_ns);
        self.settle(now.mono_ns);
    }

    /// Time has passed. Harmless at any moment.
    pub fn on_tick(&mut self, now: Now) {
        if self.stopped.is_some() {
            return;
        }
        let now_ns = now.mono_ns;
        self.tick_leader(now_ns);
        self.tick_election(now_ns);
        self.tick_rejoining(now_ns);
        self.tick_fetch(now_ns);
        if self.watermark_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.journal.log_chosen(self.log.chosen_upto(), 0);
        }
        self.settle(now_ns);
    }

    /// The answer to [`Effect::ReadLog`].
    pub fn on_log_read(
        &mut self,
        now: Now,
        from: Slot,
        entries: Vec<LoggedEntry>,
        lost: Option<LostRecord>,
    ) {
        if self.stopped.is_some() {
            return;
        }
        self.take_log_read(now.mono_ns, from, entries, lost);
        self.settle(now.mono_ns);
    }

    /// The entry that [`Self::next_chosen`] would give.
    #[must_use]
    pub fn peek_chosen(&self) -> Option<&Entry> {
        let slot = self.log.applied_upto().next();
        if self.stopped.is_some() || slot > self.log.chosen_upto() {
            return None;
        }
        if self.log.is_replaying() {
            self.reads.peek_replayed()
        } else {
            self.log.get(slot).map(|held| &held.entry)
        }
    }

    /// Whether chosen entries of the own log are still to be applied after a start.
    pub fn is_replaying(&self) -> bool {
        self.log.is_replaying()
    }

    /// A checkpoint of the state at `upto` is durable, beside the one before it; it is the first to cover entries of this
    /// weight. Entries that weigh `kept` stay in the log; at a leader up to `kept_max`, while it knows of a member that
    /// does not have them.
    pub fn on_checkpoint(&mut self, upto: Slot, weight: u64, kept: u64, kept_max: u64) {
        if self.stopped.is_some() {
            return;
        }
        let known_everywhere = match &self.role {
            Role::Leader(leader) => leader.chosen_everywhere(&self.settings.peers),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => Slot(u64::MAX),
        };
        let kept = Kept {
            weight: kept,
            weight_max: kept_max,
            known_everywhere,
        };
        let below = self.log.cover(upto, weight, kept);
        self.lost.forget_upto(Slot(below.0 - 1));
        self.journal.push(Effect::ReleaseLog { below });
    }

    /// The next entry to apply, in slot order, the replay after a start included. `None` if it is
    /// not known to be chosen, or is being read from the log.
    pub fn next_chosen(&mut self) -> Option<(Slot, Entry)> {
        let slot = self.log.applied_upto().next();
        if self.stopped.is_some() || slot > self.log.chosen_upto() {
            return None;
        }
        let entry = if self.log.is_replaying() {
            let entry = self.reads.next_replayed(slot)?;
            self.log.apply_next();
            self.pump_log_reads();
            if !self.log.is_replaying() && self.settings.is_alone() {
                self.election_at_ns = 0;
            }
            entry
        } else {
            self.log
                .apply_next()
                .expect("chosen slots above the start are held")
        };
        if let Role::Leader(leader) = &mut self.role {
            leader.note_applied(slot, &entry);
        }
        if let Some(rejoining) = &mut self.rejoining {
            rejoining.note_chosen(&entry);
        }
        self.log.trim(self.journal.durable());
        self.check();
        Some((slot, entry))
    }

    /// The next effect, in the order in which they were decided.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.journal.poll()
    }

    /// When to call [`Self::on_tick`]; a time in the past means now.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        if self.stopped.is_some() {
            return u64::MAX;
        }
        let role_ns = match &self.role {
            Role::Leader(leader) => leader.deadline_ns(&self.settings.timing),
            Role::Candidate(campaign) => self.election_at_ns.min(campaign.resend_at_ns()),
            // Only the end of the replay can make this replica campaign.
            Role::Follower if self.log.is_replaying() && self.settings.is_alone() => u64::MAX,
            Role::Follower if self.rejoining.is_some() => self.rejoining_deadline_ns(),
            Role::Follower | Role::PreCandidate(_) => self.election_at_ns,
        };
        role_ns
            .min(self.watermark_at_ns.unwrap_or(u64::MAX))
            .min(self.fetch.retry_at_ns().unwrap_or(u64::MAX))
    }

    /// The role as users see it.
    #[must_use]
    pub fn role(&self) -> client::Role {
        if self.stopped.is_some() {
            return client::Role::Stopped;
        }
        match &self.role {
            Role::Leader(_) => client::Role::Leader,
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_)
                if self.log.is_replaying() || self.rejoining.is_some() =>
            {
                client::Role::Recovering
            }
            Role::Candidate(_) | Role::PreCandidate(_) => client::Role::Candidate,
            Role::Follower => client::Role::Follower,
        }
    }

    /// The highest ballot promised.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.promised
    }

    /// Who leads, as far as known here.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        match &self.role {
            Role::Leader(_) => Some(self.settings.own),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.following.map(|following| following.ballot.replica())
            }
        }
    }

    /// All slots up to here are chosen, and held or in the log here.
    #[must_use]
    pub fn chosen_upto(&self) -> Slot {
        self.log.chosen_upto()
    }

    /// All slots up to here were given out by [`Self::next_chosen`].
    #[must_use]
    pub fn applied_upto(&self) -> Slot {
        self.log.applied_upto()
    }

    /// The highest slot with an accepted entry here, chosen or not.
    #[must_use]
    pub fn accepted_upto(&self) -> Slot {
        self.log.accepted_upto()
    }

    /// An accepted entry, if it is in memory; chosen only up to [`Self::chosen_upto`].
    #[must_use]
    pub fn log_entry(&self, slot: Slot) -> Option<&Entry> {
        self.log.get(slot).map(|held| &held.entry)
    }

    /// Why this replica stopped.
    #[must_use]
    pub fn stopped(&self) -> Option<&StopReason> {
        self.stopped.as_ref()
    }

    pub(super) fn stop(&mut self, reason: StopReason) {
        if self.stopped.is_none() {
            self.depose();
            self.journal.close(reason.clone());
            self.stopped = Some(reason);
        }
    }

    /// The end of every step: the lazy watermark gets its deadline, the invariants are checked.
    fn settle(&mut self, now_ns: u64) {
        self.vote_again_if_due(now_ns);
        if self.journal.chosen_logged() == self.log.chosen_upto() {
            self.watermark_at_ns = None;
        } else if self.watermark_at_ns.is_none() {
            self.watermark_at_ns = Some(now_ns + self.settings.timing.heartbeat_ns);
        }
        self.check();
    }

    /// States the order of the pointers and of the ballots.
    pub(super) fn check(&self) {
        // applied <= chosen <= accepted; whatever is chosen here is held here or in the WAL.
        self.log.check();
        assert!(self.journal.chosen_logged() <= self.log.chosen_upto());
        assert!(self.journal.durable() <= self.journal.issued());
        assert!(self.promised <= self.ballot_floor);
        if let Some(rejoining) = &self.rejoining {
            assert!(
                matches!(self.role, Role::Follower),
                "no voter campaigns or leads"
            );
            assert!(rejoining.floor().is_none_or(|floor| floor <= self.promised));
        }
        if let Some(following) = self.following {
            assert!(following.ballot == self.promised);
            assert!(following.ballot.replica() != self.settings.own);
        }
        match &self.role {
            Role::Follower => {}
            Role::PreCandidate(votes) => assert!(votes.ballot() > self.promised),
            Role::Candidate(campaign) => {
                assert!(campaign.ballot() == self.promised);
                assert!(self.following.is_none());
            }
            Role::Leader(leader) => {
                assert!(leader.ballot() == self.promised);
                assert!(self.following.is_none());
                assert!(leader.next_slot() == self.log.accepted_upto().next());
                assert!(!self.log.is_replaying());
            }
        }
    }
}
