//! The acceptor: answers candidates and accepts entries.
//!
//! One `promised` for all slots, checked in both phases, never going back. A promise and an
//! acceptance leave only when they are durable. Refusals, pre-votes and heartbeat answers bind
//! nobody beyond this process and leave at once.
//!
//! Stickiness: who heard a live leader within the minimum election timeout ignores candidates. The
//! lease rests on it (see `lease`), so the only way round is a candidate to which that very leader
//! handed over, having given up its lease before.

use alloc::vec::Vec;

use super::choice::Tally;
use super::consensus::{Consensus, Role};
use super::log::Held;
use super::message::{Message, SlotRecord, SlotReport};
use crate::entry::Entry;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::limits::WINDOW_MAX;
use crate::planted::{Bug, planted};

impl Consensus {
    pub(super) fn on_pre_vote(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        chosen_upto: Slot,
        transfer_of: Ballot,
    ) {
        let granted = ballot > self.promised
            && self.may_vote(now_ns, transfer_of)
            && !self.should_lead_before(chosen_upto);
        self.journal.send(
            from,
            Message::PreVoteReply {
                ballot,
                granted,
                promised: self.promised,
            },
        );
    }

    pub(super) fn on_prepare(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        first: Slot,
        transfer_of: Ballot,
    ) {
        if ballot < self.promised {
            self.reject(from, ballot);
            return;
        }
        // A repeated question is answered again, unless its candidate leads by now.
        if !self.may_vote(now_ns, transfer_of) {
            return;
        }
        if ballot > self.promised {
            self.raise_promise(now_ns, ballot);
        }
        self.journal.log_promise(ballot);
        self.send_promise(from, ballot, first);
    }

    pub(super) fn on_accept(
        &mut self,
        now_ns: u64,
        from: ReplicaId,
        ballot: Ballot,
        slot: Slot,
        chosen_upto: Slot,
        entry: Entry,
    ) {
        if ballot < self.promised {
            self.reject(from, ballot);
            return;
        }
        self.hear_leader(now_ns, ballot);
        if self.accept(ballot, slot, entry) {
            self.journal
                .send_durable(from, Message::Accepted { ballot, slot });
        }
        self.learn_chosen(now_ns, from, ballot, chosen_upto);
    }

    /// Takes the entry in. True if this replica votes for it: that is, holds exactly this entry
    /// under exactly this ballot.
    fn accept(&mut self, ballot: Ballot, slot: Slot, entry: Entry) -> bool {
        assert!(ballot == self.promised && self.rejoining.is_none());
        if let Some(held) = self.log.get(slot)
            && held.accepted == ballot
        {
            // Not equal only if the entry here was fetched as chosen and the leader of `ballot` is
            // deposed without knowing it.
            return held.entry == entry;
        }
        // A chosen slot keeps its entry; the leader learns of it from our `chosen_upto`.
        let in_window = slot > self.log.chosen_upto()
            && slot.0 <= self.log.chosen_upto().0 + WINDOW_MAX
            && !self.log.is_full();
        if in_window {
            self.record_accepted(ballot, slot, entry, 0);
        }
        in_window
    }

    /// Holds and persists an entry under `ballot`. The watermark goes before it, so that the window
    /// bounds what recovery finds above the watermark; a run of fetched entries may lag by
    /// `watermark_lag` slots.
    pub(super) fn record_accepted(
        &mut self,
        ballot: Ballot,
        slot: Slot,
        entry: Entry,
        watermark_lag: u64,
    ) {
        assert!(ballot == self.promised);
        self.journal
            .log_chosen(self.log.chosen_upto(), watermark_lag);
        let fetched = watermark_lag > 0;
        let lowered = fetched && planted(Bug::FetchLowersBallot);
        let lowest = Ballot::new(1, ReplicaId(1));
        let logged = if lowered { lowest } else { ballot };
        let seq = self.journal.log_accepted(logged, slot, entry.clone());
        self.lost.replace(slot, ballot, seq);
        self.log.put(
            slot,
            Held {
                accepted: ballot,
                entry,
                seq,
            },
        );
    }

    /// Whether this replica is free to support a candidate.
    fn may_vote(&self, now_ns: u64, transfer_of: Ballot) -> bool {
        if now_ns < self.votes_from_ns {
            return false;
        }
        if let Role::Leader(leader) = &self.role {
            return !leader.lease_holds(now_ns, &self.settings.timing);
        }
        match self.following {
            Some(following) => {
                following.ballot == transfer_of
                    || now_ns >= following.heard_ns + self.settings.timing.election_min_ns
                    || planted(Bug::NotSticky)
            }
            None => true,
        }
    }

    /// Whether a candidate with this `chosen_upto` is so far behind that this replica, which could
    /// campaign itself, is the better leader.
    fn should_lead_before(&self, chosen_upto: Slot) -> bool {
        !self.log.is_replaying() && self.log.chosen_upto().0 > chosen_upto.0 + WINDOW_MAX
    }

    /// A higher ballot is around: whoever led or campaigned below it stops.
    pub(super) fn raise_promise(&mut self, now_ns: u64, ballot: Ballot) {
        assert!(ballot > self.promised);
        self.promised = ballot;
        self.ballot_floor = self.ballot_floor.max(ballot);
        self.following = None;
        self.become_follower(now_ns);
    }

    fn reject(&mut self, to: ReplicaId, ballot: Ballot) {
        assert!(ballot < self.promised);
        self.journal.send(
            to,
            Message::Reject {
                ballot,
                promised: self.promised,
            },
        );
    }

    /// One part per slot above our `chosen_upto` with a record, lost or not; what lies below is
    /// fetched as chosen.
    fn send_promise(&mut self, to: ReplicaId, ballot: Ballot, first: Slot) {
        let chosen_upto = self.log.chosen_upto();
        let above = chosen_upto.max(Slot(first.0.saturating_sub(1)));
        let reports = self.reports_above(above);
        let parts = u32::try_from(reports.len()).expect("the window bounds accepted entries");
        let log_start = self.log.wal_start();
        let message = |part, report| Message::Promise {
            ballot,
            chosen_upto,
            log_start,
            part,
            parts: parts.max(1),
            report,
        };
        if parts == 0 {
            self.journal.send_durable(to, message(0, None));
        }
        for (part, report) in (0..).zip(reports) {
            self.journal.send_durable(to, message(part, Some(report)));
        }
    }

    /// The own report on a slot above `chosen_upto`, or on a lost one, as the first of a tally. Who has
    /// lost its disk holds only what is chosen, and may have accepted whatever it does not hold.
    pub(super) fn own_tally(&self, slot: Slot) -> Tally<'_> {
        let mut tally = Tally::default();
        if let Some(held) = self.log.get(slot) {
            tally.add_entry(held.accepted, &held.entry);
        } else if let Some(accepted) = self.lost.accepted(slot) {
            tally.add_lost(accepted);
        } else if self.rejoining.is_none() {
            tally.add_nothing();
        }
        tally
    }

    /// In slot order, so that the number of a part stands for one slot whether its record is held or
    /// lost.
    fn reports_above(&self, above: Slot) -> Vec<SlotReport> {
        let held = self.log.above(above).map(|(slot, held)| SlotReport {
            slot,
            record: SlotRecord::Accepted {
                accepted: held.accepted,
                entry: held.entry.clone(),
            },
        });
        let lost = self
            .lost
            .within(above.next()..)
            .map(|(slot, accepted)| SlotReport {
                slot,
                record: SlotRecord::Lost { accepted },
            });
        let mut reports: Vec<SlotReport> = held.chain(lost).collect();
        reports.sort_by_key(|report| report.slot);
        reports
    }
}
