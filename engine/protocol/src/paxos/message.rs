//! Messages inside one shard's group.
//!
//! | message | sender -> receiver | when | what ends it |
//! | --- | --- | --- | --- |
//! | `PreVote` / `PreVoteReply` | candidate <-> all | election timeout | a quorum of grants |
//! | `Prepare` / `Promise` / `Reject` | candidate <-> all | pre-vote won, own ballot durable | a quorum of whole promises |
//! | `Accept` / `Accepted` / `Reject` | leader <-> followers | an entry is proposed | the slot is chosen |
//! | `Heartbeat` / `HeartbeatReply` | leader <-> followers | every heartbeat interval, or a read round | - |
//! | `CatchUp` / `Entries` | anyone behind -> anyone ahead | a hole below a known `chosen_upto` | the hole is filled |
//! | `LeadNow` | leader -> chosen successor | leadership transfer | the successor campaigns |
//! | `Rejoin` / `RejoinReply` | who lost its disk <-> all | until it votes again | all have answered, and a later leader has led |

use alloc::vec::Vec;

use crate::entry::Entry;
use crate::ids::{Ballot, Slot};

/// An entry as an acceptor holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEntry {
    pub slot: Slot,
    /// The ballot under which it was accepted (not its origin).
    pub accepted: Ballot,
    pub entry: Entry,
}

/// What an acceptor says of one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotReport {
    pub slot: Slot,
    pub record: SlotRecord,
}

/// The newest record of a slot at one acceptor.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotRecord {
    /// Nothing was ever accepted.
    Nothing,
    /// Something was accepted under this ballot (or a lower one), and is lost.
    Lost {
        accepted: Ballot,
    },
    Accepted {
        accepted: Ballot,
        entry: Entry,
    },
}

impl From<LoggedEntry> for SlotReport {
    fn from(logged: LoggedEntry) -> Self {
        Self {
            slot: logged.slot,
            record: SlotRecord::Accepted {
                accepted: logged.accepted,
                entry: logged.entry,
            },
        }
    }
}

/// A Paxos message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// "Would you promise `ballot`?" Binds nobody. `transfer_of` is the ballot of the leader that
    /// handed over (then stickiness to that leader is waived), or zero.
    PreVote {
        ballot: Ballot,
        chosen_upto: Slot,
        transfer_of: Ballot,
    },
    PreVoteReply {
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
    },
    /// Phase 1 over all slots from `from` on.
    Prepare {
        ballot: Ballot,
        from: Slot,
        transfer_of: Ballot,
    },
    /// One of `parts` parts of a promise, each with the report of at most one slot above the
    /// acceptor's `chosen_upto`; nothing was accepted for the slots that no part reports. A promise
    /// without reports has one part.
    Promise {
        ballot: Ballot,
        chosen_upto: Slot,
        log_start: Slot,
        part: u32,
        parts: u32,
        report: Option<SlotReport>,
    },
    /// Refusal of phase 1 or 2: `ballot` was asked for, `promised` is in the way.
    Reject { ballot: Ballot, promised: Ballot },
    /// Phase 2 for one slot.
    Accept {
        ballot: Ballot,
        slot: Slot,
        chosen_upto: Slot,
        entry: Entry,
    },
    /// `slot` is durable at the sender under `ballot`.
    Accepted { ballot: Ballot, slot: Slot },
    Heartbeat {
        ballot: Ballot,
        round: u64,
        chosen_upto: Slot,
    },
    /// Sent at once; promises the leader of `ballot` one lease.
    HeartbeatReply {
        ballot: Ballot,
        round: u64,
        chosen_upto: Slot,
    },
    /// "Send me the chosen entries of these slots (inclusive)." The sender knows that they are chosen.
    CatchUp { from: Slot, upto: Slot },
    /// Chosen entries in slot order, as many as fit one message. If there are none, what can be said
    /// of the first slot that was asked for.
    Entries {
        entries: Vec<LoggedEntry>,
        chosen_upto: Slot,
        log_start: Slot,
        report: Option<SlotReport>,
    },
    /// The leader of `ballot` hands over; it serves no lease read under it again.
    LeadNow { ballot: Ballot },
    /// "My disk was lost: what have you promised?", with a `floor` of zero. Once all have answered, the
    /// highest answer is the floor, and a leader of a ballot that is not above it should hand over.
    Rejoin { nonce: u64, floor: Ballot },
    /// The answer to the question with this `nonce`.
    RejoinReply { nonce: u64, promised: Ballot },
}
