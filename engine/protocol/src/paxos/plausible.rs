//! The border: messages that no member of the group can have sent are ignored.
//!
//! Frames, sender and structure are checked before; this is about meaning: who may speak for which
//! ballot, and numbers that arithmetic must not overflow on.

use super::consensus::Consensus;
use super::message::{Message, SlotRecord, SlotReport};
use crate::ids::{Ballot, ReplicaId, Slot};

/// No group gets near this round by electing; a message that names one is not from a peer of ours.
const ROUND_MAX: u64 = 1 << 48;
/// No group gets near this slot.
const SLOT_MAX: Slot = Slot(1 << 56);

impl Consensus {
    /// Whether a member of this group, following the protocol, can have sent this: ballots are led
    /// by who made them up, and nobody answers a question that was not asked of it.
    pub(super) fn is_plausible(&self, from: ReplicaId, message: &Message) -> bool {
        let known = |ballot: Ballot| {
            let member = ballot.replica();
            ballot == Ballot::ZERO
                || (ballot.round() > 0
                    && ballot.round() < ROUND_MAX
                    && (member == self.settings.own || self.settings.peers.contains(&member)))
        };
        let of = |owner: ReplicaId, ballot: Ballot| {
            ballot != Ballot::ZERO && ballot.replica() == owner && known(ballot)
        };
        let own = self.settings.own;
        let slot_known = |slot: Slot| slot < SLOT_MAX;
        let report_known = |report: &SlotReport| {
            slot_known(report.slot)
                && match &report.record {
                    SlotRecord::Nothing => true,
                    SlotRecord::Lost { accepted } | SlotRecord::Accepted { accepted, .. } => {
                        known(*accepted)
                    }
                }
        };
        self.settings.peers.contains(&from)
            && match message {
                Message::PreVote {
                    ballot,
                    chosen_upto: slot,
                    transfer_of,
                }
                | Message::Prepare {
                    ballot,
                    from: slot,
                    transfer_of,
                } => of(from, *ballot) && slot_known(*slot) && known(*transfer_of),
                Message::PreVoteReply {
                    ballot, promised, ..
                }
                | Message::Reject { ballot, promised } => of(own, *ballot) && known(*promised),
                Message::Promise {
                    ballot,
                    chosen_upto,
                    report,
                    ..
                } => {
                    of(own, *ballot)
                        && slot_known(*chosen_upto)
                        && report.as_ref().is_none_or(report_known)
                }
                Message::Accept {
                    ballot,
                    slot,
                    chosen_upto,
                    ..
                } => {
                    of(from, *ballot)
                        && *slot != Slot::ZERO
                        && slot_known(*slot)
                        && slot_known(*chosen_upto)
                }
                Message::Accepted { ballot, slot } => of(own, *ballot) && slot_known(*slot),
                Message::Heartbeat {
                    ballot,
                    chosen_upto,
                    ..
                } => of(from, *ballot) && slot_known(*chosen_upto),
                Message::HeartbeatReply {
                    ballot,
                    chosen_upto,
                    ..
                } => of(own, *ballot) && slot_known(*chosen_upto),
                Message::CatchUp { from: first, upto } => {
                    *first != Slot::ZERO && slot_known(*first) && slot_known(*upto)
                }
                Message::Entries {
                    chosen_upto,
                    report,
                    ..
                } => slot_known(*chosen_upto) && report.as_ref().is_none_or(report_known),
                Message::LeadNow { ballot } => of(from, *ballot),
                Message::Rejoin { nonce: _, floor } => known(*floor),
                Message::RejoinReply { nonce: _, promised } => known(*promised),
            }
    }
}
