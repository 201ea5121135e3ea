//! Handing leadership over, on request or to the preferred leader.
//!
//! ```text
//! leader     stops proposing -> nothing in flight -> successor has it all -> LeadNow (lease given up)
//! successor  campaigns at once, naming the leader's ballot: its followers waive stickiness
//! leader     meets the higher ballot and steps down; or, after a timeout, proposes again
//! ```
//!
//! A leader that sent `LeadNow` under a ballot serves no lease read under it again: the message may
//! arrive at any later time. Its reads go by heartbeat rounds until the next ballot.

use super::consensus::{Consensus, Role};
use super::message::Message;
use super::progress::Progress;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::{PIPELINE_MAX, Timing};
use crate::planted::{Bug, planted};
use crate::time::{Now, SECOND};

/// How long the preferred leader must have been alive and caught up before it takes over.
const PREFERRED_STABLE_NS: u64 = 2 * SECOND;
/// Between two attempts to hand over to the preferred leader.
const PREFERRED_RETRY_NS: u64 = 10 * SECOND;
/// A follower this close behind counts as caught up: its answer is a round trip old.
pub(super) const CAUGHT_UP_LAG: u64 = 4 * PIPELINE_MAX;

/// A transfer under way; proposals rest meanwhile.
#[derive(Debug)]
pub(super) struct Transfer {
    to: ReplicaId,
    until_ns: u64,
    /// What was chosen when the successor was asked, with nothing in flight, and the heartbeat
    /// round that asked: an older answer does not show that it is still there.
    asked: Option<(Slot, u64)>,
    sent: bool,
}

impl Transfer {
    pub(super) fn until_ns(&self) -> u64 {
        self.until_ns
    }
}

impl Progress {
    /// An answer to a heartbeat came.
    pub(super) fn note_reply(
        &mut self,
        now_ns: u64,
        round: u64,
        chosen_upto: Slot,
        leader_chosen_upto: Slot,
        timing: &Timing,
    ) {
        let in_time = self.is_alive(now_ns, timing);
        let close = chosen_upto.0 + CAUGHT_UP_LAG >= leader_chosen_upto.0;
        self.caught_up_since_ns = match self.caught_up_since_ns {
            Some(since_ns) if in_time && close => Some(since_ns),
            Some(_) | None => close.then_some(now_ns),
        };
        self.round = self.round.max(round);
        self.chosen_upto = self.chosen_upto.max(chosen_upto);
        self.heard_ns = Some(now_ns);
    }

    pub(super) fn is_alive(&self, now_ns: u64, timing: &Timing) -> bool {
        self.heard_ns
            .is_some_and(|heard_ns| now_ns < heard_ns + timing.election_min_ns)
    }
}

impl Consensus {
    /// Starts to hand over. False, and nothing happens, unless this replica serves, `to` is another
    /// member that answered lately, and no transfer is under way.
    pub fn transfer_leadership(&mut self, now: Now, to: ReplicaId) -> bool {
        let started = self.start_transfer(now.mono_ns, to);
        self.check();
        started
    }

    pub(super) fn start_transfer(&mut self, now_ns: u64, to: ReplicaId) -> bool {
        let timing = self.settings.timing;
        let Role::Leader(leader) = &mut self.role else {
            return false;
        };
        let alive = leader
            .progress
            .get(&to)
            .is_some_and(|progress| progress.is_alive(now_ns, &timing));
        if !alive || !leader.is_serving() || leader.transfer.is_some() {
            return false;
        }
        leader.transfer = Some(Transfer {
            to,
            until_ns: now_ns + timing.election_max_ns,
            asked: None,
            sent: false,
        });
        self.advance_transfer(now_ns);
        true
    }

    /// Does the next step of a transfer, if it is due.
    pub(super) fn advance_transfer(&mut self, now_ns: u64) {
        let chosen_upto = self.log.chosen_upto();
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let idle = leader.is_idle();
        let Some(transfer) = &mut leader.transfer else {
            return;
        };
        if now_ns >= transfer.until_ns {
            leader.transfer = None;
            return;
        }
        if !idle || transfer.sent {
            return;
        }
        let to = transfer.to;
        let asked_round = match transfer.asked {
            Some((upto, round)) if upto == chosen_upto => round,
            Some(_) | None => {
                let round = self.send_round(now_ns);
                if let Role::Leader(leader) = &mut self.role
                    && let Some(transfer) = &mut leader.transfer
                {
                    transfer.asked = Some((chosen_upto, round));
                }
                return;
            }
        };
        let has_all = leader.progress.get(&to).is_some_and(|progress| {
            progress.round >= asked_round && progress.chosen_upto >= chosen_upto
        });
        if has_all {
            transfer.sent = true;
            transfer.until_ns = now_ns + self.settings.timing.election_max_ns;
            // The lease ends before the message that may break it exists.
            leader.lease_given_up = !planted(Bug::LeaseAfterTransfer);
            let ballot = leader.ballot();
            self.journal.send(to, Message::LeadNow { ballot });
        }
    }

    /// Hands over to the preferred leader once it has been well for a while.
    pub(super) fn prefer_leader(&mut self, now_ns: u64) {
        let preferred = self.settings.preferred;
        let timing = self.settings.timing;
        let Role::Leader(leader) = &mut self.role else {
            return;
        };
        let stable = leader.progress.get(&preferred).is_some_and(|progress| {
            progress.is_alive(now_ns, &timing)
                && progress
                    .caught_up_since_ns
                    .is_some_and(|since_ns| now_ns >= since_ns + PREFERRED_STABLE_NS)
        });
        if stable && now_ns >= leader.next_preferred_transfer_ns {
            leader.next_preferred_transfer_ns = now_ns + PREFERRED_RETRY_NS;
            self.start_transfer(now_ns, preferred);
        }
    }

    pub(super) fn on_lead_now(&mut self, now_ns: u64, ballot: Ballot) {
        if ballot < self.promised {
            return;
        }
        self.hear_leader(now_ns, ballot);
        let free = matches!(self.role, Role::Follower)
            && now_ns >= self.votes_from_ns
            && !self.log.is_replaying();
        if free {
            self.start_pre_vote(now_ns, ballot);
        }
    }
}
