//! Rare events that show in a message between replicas when it arrives.

use quorate_protocol::entry::MoveSection;
use quorate_protocol::ids::Ballot;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::paxos::message::{Message as Paxos, SlotRecord};
use quorate_protocol::txn::message::Message as Txn;
use quorate_protocol::txn::record::{Subject, TxnRow, Verdict};

use crate::counters::Counters;

/// All names of this file.
pub const NAMES: [&str; 21] = [
    "ballot_rejected",
    "campaign_after_transfer",
    "decided_abort",
    "entries_fetched",
    "fetch_answered_empty",
    "in_doubt_asked",
    "leadership_handed_over",
    "look_up_asked",
    "look_up_denied",
    "look_up_found",
    "move_decided_abort",
    "move_of_a_moved_account",
    "peer_turned_away",
    "pre_vote_refused",
    "promise_in_parts",
    "promise_reports_lost_record",
    "query_answered_pending",
    "snapshot_message",
    "vote_contended",
    "vote_moved",
    "vote_no",
];

/// What a replica is told.
pub fn of_message(rare: &mut Counters, message: &PeerMessage) {
    match &message.body {
        PeerBody::Paxos(message) => of_paxos(rare, message),
        PeerBody::Txn(message) => of_txn(rare, message),
        PeerBody::Snapshot(_) => rare.add("snapshot_message"),
    }
}

fn of_paxos(rare: &mut Counters, message: &Paxos) {
    match message {
        Paxos::PreVoteReply { granted: false, .. } => rare.add("pre_vote_refused"),
        Paxos::PreVote { transfer_of, .. } if *transfer_of != Ballot::ZERO => {
            rare.add("campaign_after_transfer");
        }
        Paxos::Promise { part, parts, .. } if *part == 0 && *parts > 1 => {
            rare.add("promise_in_parts");
        }
        Paxos::Reject { .. } => rare.add("ballot_rejected"),
        Paxos::Entries { entries, .. } if entries.is_empty() => rare.add("fetch_answered_empty"),
        Paxos::Entries { .. } => rare.add("entries_fetched"),
        Paxos::LeadNow { .. } => rare.add("leadership_handed_over"),
        Paxos::Rejoin { floor, .. } if *floor == Ballot::ZERO => rare.add("rejoin_asked"),
        Paxos::Rejoin { .. } => rare.add("rejoin_waits_for_a_later_leader"),
        _ => {}
    }
    if let Paxos::Promise { report, .. } = message
        && report
            .as_ref()
            .is_some_and(|report| matches!(report.record, SlotRecord::Lost { .. }))
    {
        rare.add("promise_reports_lost_record");
    }
}

fn of_txn(rare: &mut Counters, message: &Txn) {
    match message {
        Txn::PrepareTxn(_) => {}
        Txn::PrepareMove(words) => {
            let parts = MoveSection::parse(words.as_bytes());
            if parts.is_some_and(|parts| !parts.owners.is_empty()) {
                rare.add("move_of_a_moved_account");
            }
        }
        Txn::Votes(rows) | Txn::Decides(rows) => {
            for row in rows.iter() {
                of_row(rare, row);
            }
        }
        Txn::QueryDecisions(_) => rare.add("in_doubt_asked"),
        Txn::LookUps(_) => rare.add("look_up_asked"),
        Txn::LookedUp(rows) => {
            for row in rows.iter() {
                rare.add(match row.found {
                    1 => "look_up_found",
                    _ => "look_up_denied",
                });
            }
        }
        Txn::Acknowledged(_) | Txn::Forwards(_) | Txn::ForwardsKnown(_) => {}
        Txn::NotLeading { .. } => rare.add("peer_turned_away"),
    }
}

fn of_row(rare: &mut Counters, row: &TxnRow) {
    let Some((txn, verdict)) = row.parse() else {
        return;
    };
    match (verdict, txn.subject) {
        (Verdict::No, _) => rare.add("vote_no"),
        (Verdict::Contended, _) => rare.add("vote_contended"),
        (Verdict::Moved, _) => rare.add("vote_moved"),
        (Verdict::Abort, Subject::Transfer) => rare.add("decided_abort"),
        (Verdict::Abort, Subject::Move) => rare.add("move_decided_abort"),
        (Verdict::Pending, _) => rare.add("query_answered_pending"),
        (Verdict::None | Verdict::Yes | Verdict::Commit, _) => {}
    }
}
