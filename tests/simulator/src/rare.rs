//! Named rare events: situations that a good set of seeds must have visited.

pub mod messages;
pub mod rejoin;

use quorate_protocol::client::{CutAnswer, HistoryAnswer, MoveAnswer, Reply, ReplyBody, Role};
use quorate_protocol::entry::{Entry, Section};
use quorate_protocol::ids::{ReplicaAddress, Slot};
use quorate_protocol::ledger::ResultCode;
use quorate_protocol::shard::catalog::PutAnswer;
use quorate_protocol::txn::record::CommitKind;

use crate::counters::Counters;
use crate::process::{Process, Reader, Started};
use crate::world::World;

/// The names that no submodule has.
const NAMES: [&str; 83] = [
    "account_read_from_disk",
    "accounts_listed_from_disk",
    "answer_busy",
    "answer_contended",
    "answer_debit_account_not_found",
    "answer_exceeds_credits",
    "answer_exceeds_debits",
    "answer_exists",
    "answer_exists_with_different_field",
    "answer_id_already_failed",
    "answer_id_from_the_future",
    "answer_id_too_old",
    "answer_moved",
    "answer_not_leader",
    "answer_unknown",
    "block_asked_for",
    "block_left_damaged",
    "block_repaired_by_scrubber",
    "block_repaired_for_reader",
    "checkpoint_published",
    "checkpoint_without_room",
    "chunk_refused",
    "crash_during_checkpoint",
    "crash_during_flush",
    "crash_of_leader",
    "crash_while_rebuilding",
    "crash_with_in_doubt",
    "cut_counted_by_two",
    "cut_refused",
    "cut_summed",
    "disk_found_full",
    "disk_found_with_room",
    "document_conflict",
    "document_read",
    "document_removed",
    "document_written",
    "entry_fenced",
    "entry_with_abort",
    "entry_with_acknowledgement",
    "entry_with_dropped_stubs",
    "entry_with_forward",
    "entry_with_commit_and_transfers",
    "entry_with_move",
    "history_dropped",
    "history_inverted",
    "history_page",
    "history_page_dropped",
    "history_page_turned",
    "history_read_from_disk",
    "history_walk_in_store",
    "input_before_apply",
    "leader_change",
    "leader_change_with_in_doubt",
    "leader_stepped_down_unchallenged",
    "log_holds_back",
    "log_starved",
    "map_changes_in_pages",
    "move_acknowledged",
    "move_contended",
    "move_of_what_is_not_here",
    "noop_hole_filled",
    "pause_of_leader",
    "peer_served_from_log",
    "power_loss_during_flush",
    "proposed_on_full_disk",
    "reader_met_damage",
    "rebuild_begun_again",
    "rebuild_without_room",
    "refusal_by_participant",
    "refusal_without_prepare",
    "repair_refused",
    "replica_rebuilds",
    "replica_rebuilt",
    "request_on_dead_connection",
    "restart_within_lease",
    "rows_moved",
    "segment_made",
    "segment_without_room",
    "start_from_checkpoint",
    "start_with_accepted_tail",
    "start_with_torn_flush",
    "store_damage_stays",
    "store_scrubbed",
];

/// A counter for every event, so that a report shows those that never happened.
#[must_use]
pub fn counters() -> Counters {
    let mut counters = Counters::with_names(&NAMES);
    counters.merge(&Counters::with_names(&messages::NAMES));
    counters.merge(&Counters::with_names(&rejoin::NAMES));
    counters
}

/// What a client was told.
pub fn of_reply(rare: &mut Counters, reply: &Reply) {
    match &reply.body {
        ReplyBody::Results(rows) => {
            for code in rows.iter().filter_map(|row| row.result()) {
                if let Some(name) = of_code(code) {
                    rare.add(name);
                }
            }
        }
        ReplyBody::Move(MoveAnswer::Moved { .. }) => rare.add("move_acknowledged"),
        ReplyBody::Move(MoveAnswer::Contended) => rare.add("move_contended"),
        ReplyBody::Move(MoveAnswer::NotOwned { .. }) => rare.add("move_of_what_is_not_here"),
        ReplyBody::PutDocument(PutAnswer::Written { .. }) => rare.add("document_written"),
        ReplyBody::PutDocument(PutAnswer::Conflict { .. }) => rare.add("document_conflict"),
        ReplyBody::Document(document) if document.is_there() => rare.add("document_read"),
        ReplyBody::Cut(CutAnswer::Sums(_)) => rare.add("cut_summed"),
        ReplyBody::Cut(CutAnswer::Refused) => rare.add("cut_refused"),
        ReplyBody::History(answer) => of_history(rare, answer),
        ReplyBody::MapChanges { has_more: true, .. } => rare.add("map_changes_in_pages"),
        ReplyBody::Unknown => rare.add("answer_unknown"),
        ReplyBody::Busy => rare.add("answer_busy"),
        ReplyBody::NotLeader { .. } => rare.add("answer_not_leader"),
        ReplyBody::Move(MoveAnswer::Refused)
        | ReplyBody::Cut(_)
        | ReplyBody::Accounts(_)
        | ReplyBody::Transfers(_)
        | ReplyBody::AccountList(_)
        | ReplyBody::Status(_)
        | ReplyBody::InDoubt(_)
        | ReplyBody::Pairs { .. }
        | ReplyBody::Operations { .. }
        | ReplyBody::PutDocument(PutAnswer::Full)
        | ReplyBody::Document(_)
        | ReplyBody::Documents(_)
        | ReplyBody::MapChanges { .. }
        | ReplyBody::Done
        | ReplyBody::BadRequest(_) => {}
    }
}

fn of_history(rare: &mut Counters, answer: &HistoryAnswer) {
    let HistoryAnswer::Page(page) = answer else {
        return;
    };
    rare.add("history_page");
    if page.head.is_none() {
        rare.add("history_page_turned");
    }
    if page.dropped {
        rare.add("history_page_dropped");
    }
    let mut rows = page.rows.windows(2);
    if rows.any(|pair| pair[0].recorded.commit_ts < pair[1].recorded.commit_ts) {
        rare.add("history_inverted");
    }
}

fn of_code(code: ResultCode) -> Option<&'static str> {
    Some(match code {
        ResultCode::Exists => "answer_exists",
        ResultCode::ExistsWithDifferentCreditAccountId
        | ResultCode::ExistsWithDifferentAmount
        | ResultCode::ExistsWithDifferentUserData
        | ResultCode::ExistsWithDifferentCode => "answer_exists_with_different_field",
        ResultCode::IdAlreadyFailed => "answer_id_already_failed",
        ResultCode::IdFromTheFuture => "answer_id_from_the_future",
        ResultCode::IdTooOld => "answer_id_too_old",
        ResultCode::ExceedsCredits => "answer_exceeds_credits",
        ResultCode::ExceedsDebits => "answer_exceeds_debits",
        ResultCode::DebitAccountNotFound => "answer_debit_account_not_found",
        ResultCode::Moved => "answer_moved",
        ResultCode::Contended => "answer_contended",
        ResultCode::Unknown => "answer_unknown",
        _ => return None,
    })
}

/// What took effect.
pub fn of_entry(rare: &mut Counters, entry: &Entry) {
    if entry.is_noop() && entry.origin() == quorate_protocol::ids::Ballot::ZERO {
        rare.add("noop_hole_filled");
    }
    let (mut transfers, mut commits) = (false, false);
    for section in entry.sections() {
        match section {
            Section::Transfers(_) => transfers = true,
            Section::Commit(rows) => {
                commits = true;
                for row in rows {
                    match CommitKind::from_u16(row.kind) {
                        Some(CommitKind::Refuse) => rare.add("refusal_by_participant"),
                        Some(CommitKind::Evaluate) => rare.add("refusal_without_prepare"),
                        Some(CommitKind::Prepared) | None => {}
                    }
                }
            }
            Section::CommitMove { .. } => rare.add("entry_with_move"),
            Section::Acknowledged(_) => rare.add("entry_with_acknowledgement"),
            Section::Forward(_) => rare.add("entry_with_forward"),
            Section::DropStubs(_) => rare.add("entry_with_dropped_stubs"),
            Section::Resolve(rows) => {
                let abort = quorate_protocol::txn::record::Verdict::Abort.to_u16();
                if rows.iter().any(|row| row.verdict == abort) {
                    rare.add("entry_with_abort");
                }
            }
            Section::PutDocument(write) => {
                if write.bytes.is_empty() {
                    rare.add("document_removed");
                }
            }
            Section::CreateAccounts(_)
            | Section::Prepare(_)
            | Section::PrepareMove(_)
            | Section::CutRegister { .. }
            | Section::CutPass { .. } => {}
        }
    }
    if transfers && commits {
        rare.add("entry_with_commit_and_transfers");
    }
}

/// Who leads now, and who did.
pub fn of_leader(
    rare: &mut Counters,
    earlier: Option<ReplicaAddress>,
    now: ReplicaAddress,
    in_doubt: u64,
) {
    if earlier.is_some_and(|earlier| earlier != now) {
        rare.add("leader_change");
        if in_doubt > 0 {
            rare.add("leader_change_with_in_doubt");
        }
    }
}

/// What a process found on its disk.
pub fn of_start(rare: &mut Counters, started: &Started) {
    if started.torn {
        rare.add("start_with_torn_flush");
    }
    if started.tail > 0 {
        rare.add("start_with_accepted_tail");
    }
    if started.checkpoint > Slot::ZERO {
        rare.add("start_from_checkpoint");
    }
}

/// A process ends.
pub fn of_crash(rare: &mut Counters, process: &Process, power_loss: bool) {
    if process.is_rebuilding() {
        rare.add("crash_while_rebuilding");
    }
    if process.is_writing_store() {
        rare.add("crash_during_checkpoint");
    }
    let Some(status) = process.status() else {
        return;
    };
    if process.is_flushing() {
        rare.add("crash_during_flush");
        if power_loss {
            rare.add("power_loss_during_flush");
        }
    }
    if status.role == Role::Leader {
        rare.add("crash_of_leader");
    }
    if status.in_doubt > 0 {
        rare.add("crash_with_in_doubt");
    }
}

/// A read of the log has started: the replay of a start, or for a peer that is far behind.
pub fn of_log_read(rare: &mut Counters, process: &Process, from: Slot) {
    let status = process.status();
    if status.is_some_and(|status| status.applied_upto >= from) {
        rare.add("peer_served_from_log");
    }
}

/// A machine stands still.
pub fn of_pause(world: &mut World, node: usize) {
    for &process in &world.nodes[node].processes {
        let status = world.processes[process].status();
        if status.is_some_and(|status| status.role == Role::Leader) {
            world.rare.add("pause_of_leader");
        }
    }
}

/// A read of the store began.
pub fn of_read(reader: Reader) -> &'static str {
    match reader {
        Reader::Question => "history_read_from_disk",
        Reader::Accounts => "account_read_from_disk",
        Reader::Page => "accounts_listed_from_disk",
        Reader::Keeper => "rows_moved",
    }
}
