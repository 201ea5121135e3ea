//! The planted bugs by name, with what each of them does wrong.
//!
//! A name is stable: notes and commands use it. The places are where the code asks for the variant.

use quorate_protocol_planted::planted::Bug as Core;
use quorate_storage_planted::planted::Bug as Log;

/// Where a bug is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// In the pure core.
    Core(Core),
    /// In the write-ahead log, in the store, or in what drives them.
    Log(Log),
}

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    pub name: &'static str,
    /// What the code does wrong while it is on.
    pub line: &'static str,
    pub switch: Switch,
}

const fn core(name: &'static str, bug: Core, line: &'static str) -> Planted {
    let switch = Switch::Core(bug);
    Planted { name, line, switch }
}

const fn log(name: &'static str, bug: Log, line: &'static str) -> Planted {
    let switch = Switch::Log(bug);
    Planted { name, line, switch }
}

/// Each has its row in the table of `docs/testing.md`: disk, consensus, reads, transactions, moves, checkpoints,
/// room, repair, histories.
pub const ALL: &[Planted] = &[
    log(
        "skip_sync",
        Log::SkipSync,
        "a flush counts as durable without its sync",
    ),
    log(
        "skip_directory_sync",
        Log::SkipDirectorySync,
        "a new segment is used before its name is durable",
    ),
    log(
        "seen_is_durable",
        Log::SeenIsDurable,
        "a start builds on bytes that it read but did not sync",
    ),
    log(
        "checksum_ignored",
        Log::ChecksumIgnored,
        "a record is taken although its payload's checksum is wrong",
    ),
    log(
        "tear_not_repaired",
        Log::TearNotRepaired,
        "recovery leaves the frames of a torn flush behind the cut",
    ),
    core(
        "acknowledge_before_wal",
        Core::AcknowledgeBeforeWal,
        "a promise or a vote leaves before its record is durable",
    ),
    core(
        "own_vote_before_wal",
        Core::OwnVoteBeforeWal,
        "a leader counts its own vote before its record is durable",
    ),
    core(
        "promise_not_durable",
        Core::PromiseNotDurable,
        "a promise is answered without a record of it",
    ),
    core(
        "put_ignores_version",
        Core::PutIgnoresVersion,
        "a document is written whatever version it has",
    ),
    core(
        "accepted_tail_forgotten",
        Core::TailForgotten,
        "a restart forgets accepted entries above the watermark",
    ),
    core(
        "quorum_of_half",
        Core::QuorumOfHalf,
        "n/2 members count as a quorum of n",
    ),
    core(
        "partial_promise_counts",
        Core::PartialPromise,
        "the first part of a promise counts as all of it",
    ),
    core(
        "lowest_ballot_wins",
        Core::LowestBallotWins,
        "a new leader proposes the entry accepted under the lowest ballot",
    ),
    core(
        "lost_counts_as_absent",
        Core::LostCountsAsAbsent,
        "a lost accepted record counts as if nothing had been accepted",
    ),
    core(
        "rejoin_votes_at_once",
        Core::RejoinVotesAtOnce,
        "a replica whose disk was lost votes as if it were new",
    ),
    core(
        "leads_before_fetching",
        Core::LeadsBeforeFetching,
        "a candidate leads without the chosen entries that others know",
    ),
    core(
        "chosen_under_any_ballot",
        Core::ChosenUnderAnyBallot,
        "a leader's watermark proves an entry accepted under another ballot",
    ),
    core(
        "fetch_lowers_ballot",
        Core::FetchLowersBallot,
        "a fetched entry is recorded under a lower ballot than the one it replaces",
    ),
    core(
        "vote_right_after_restart",
        Core::VoteAfterRestart,
        "a restarted replica votes while a lease it supported may last",
    ),
    core(
        "vote_against_live_leader",
        Core::NotSticky,
        "a follower votes for a candidate while it hears its leader",
    ),
    core(
        "skip_ballot_fence",
        Core::SkipFence,
        "an older leader's entry takes effect behind a newer leader's",
    ),
    core(
        "fence_only_commit",
        Core::FenceOnlyCommit,
        "behind a newer leader's entry only `Commit` records are held back",
    ),
    core(
        "serves_before_opening",
        Core::ServesBeforeOpening,
        "a new leader serves before its inherited entries are applied",
    ),
    core(
        "stale_lease_read",
        Core::StaleLeaseRead,
        "a leader reads from its state without a lease",
    ),
    core(
        "lease_after_transfer",
        Core::LeaseAfterTransfer,
        "a leader that handed over goes on reading by its lease",
    ),
    core(
        "read_without_round",
        Core::ReadWithoutRound,
        "a quorum read does not wait for its heartbeat round",
    ),
    core(
        "read_under_reservation",
        Core::ReadUnderReservation,
        "an account is read while a prepared transfer is open on it",
    ),
    core(
        "forget_dedupe",
        Core::ForgetDedupe,
        "apply does not look whether a transfer's id was used",
    ),
    core(
        "credit_twice",
        Core::CreditTwice,
        "a resolved transfer credits its account twice",
    ),
    core(
        "apply_on_prepare",
        Core::ApplyOnPrepare,
        "the credit is posted when it is prepared, committed or not",
    ),
    core(
        "deposed_leader_denies",
        Core::DeposedDenies,
        "a deposed leader calls what it had proposed not done",
    ),
    core(
        "vote_of_any_attempt",
        Core::VoteOfAnyAttempt,
        "a vote on an earlier attempt counts for the present one",
    ),
    core(
        "txn_id_without_coordinator",
        Core::TxnIdWithoutCoordinator,
        "a participant asks the debit account's home, not the coordinator",
    ),
    core(
        "commit_record_dropped",
        Core::DecisionForgotten,
        "a commit is forgotten before its participant has acknowledged it",
    ),
    core(
        "needed_rows_dropped",
        Core::DropsNeededRows,
        "history is dropped whether or not it is needed",
    ),
    core(
        "abort_while_alive",
        Core::AbortWhileAlive,
        "a query is answered \"aborted\" while the attempt may still commit",
    ),
    core(
        "never_ask",
        Core::NeverAsk,
        "a participant waits for a lost decision without asking",
    ),
    core(
        "final_refusal_under_open_credit",
        Core::RefusalUnderCredit,
        "a debit is refused for good while a prepared credit could fund it",
    ),
    core(
        "overdraft_at_commit",
        Core::OverdraftAtCommit,
        "a cross-shard debit is posted without a second look at the limit",
    ),
    core(
        "cut_by_arrival",
        Core::CutByArrival,
        "a credit counts for a cut by its arrival, not by its commit",
    ),
    core(
        "move_overtakes_prepared",
        Core::MoveOvertakesPrepared,
        "an account moves with a prepared transfer open on it",
    ),
    core(
        "late_duplicate_of_move",
        Core::LateDuplicateOfMove,
        "a second copy of a finished move's message is staged again",
    ),
    core(
        "creation_at_two_shards",
        Core::CreationAtTwoShards,
        "an account that has moved away is created again at its home",
    ),
    core(
        "two_owners_after_move",
        Core::TwoOwners,
        "the source of a move keeps the account",
    ),
    core(
        "arrives_at_prepare",
        Core::ArrivesAtPrepare,
        "the target of a move serves the accounts before the source has decided",
    ),
    core(
        "move_forgotten",
        Core::MoveForgotten,
        "the source of a move keeps no record of its decision",
    ),
    core(
        "stub_not_kept",
        Core::StubNotKept,
        "the source of a move does not remember where the accounts went",
    ),
    core(
        "stub_dropped_unasked",
        Core::StubDroppedUnasked,
        "a former owner forgets where an account went before the home knows it",
    ),
    core(
        "home_stub_dropped",
        Core::HomeStubDropped,
        "an account's home forgets where it went",
    ),
    core(
        "stub_lowered",
        Core::StubLowered,
        "a late word of where an account went takes back a newer one",
    ),
    core(
        "frozen_after_abort",
        Core::FrozenAfterAbort,
        "a move that was given up leaves its accounts frozen",
    ),
    core(
        "owners_not_carried",
        Core::OwnersNotCarried,
        "a second move forgets who owned the account before the first one",
    ),
    core(
        "no_look_up",
        Core::NoLookUp,
        "a new owner does not ask the previous ones about an id",
    ),
    core(
        "look_up_answered_by_anyone",
        Core::LookUpByAnyone,
        "a look-up is answered by a replica that has not seen the account leave",
    ),
    core(
        "refused_ids_stay_behind",
        Core::RefusedIdsStay,
        "a refused id does not raise the id up to which look-ups are made",
    ),
    log(
        "checkpoint_not_synced",
        Log::CheckpointNotSynced,
        "a checkpoint is published before its files are synced",
    ),
    log(
        "last_step_waits",
        Log::LastStepWaits,
        "the step that completes a checkpoint's files says that it waits, and nobody writes their ends",
    ),
    log(
        "manifest_not_synced",
        Log::ManifestNotSynced,
        "a manifest gets its name before its bytes are synced",
    ),
    log(
        "files_removed_early",
        Log::FilesRemovedEarly,
        "files that the older of two checkpoints still lists are removed",
    ),
    log(
        "gone_forgotten",
        Log::GoneForgotten,
        "a file that says which accounts left goes while an older one has rows of them",
    ),
    log(
        "row_misfiled",
        Log::RowMisfiled,
        "the store files a refused id where no look-up finds it",
    ),
    log(
        "look_up_newest_only",
        Log::LookUpNewestOnly,
        "a look-up ends at the newest history file that may hold the id",
    ),
    log(
        "chunk_unchecked",
        Log::ChunkUnchecked,
        "a rebuild takes the blocks of a chunk without checking them",
    ),
    log(
        "rebuild_not_synced",
        Log::RebuildNotSynced,
        "a rebuild publishes files that it has not synced",
    ),
    log(
        "rebuild_ends_early",
        Log::RebuildEndsEarly,
        "a rebuild publishes its checkpoint when the first file is there",
    ),
    core(
        "image_not_kept",
        Core::ImageNotKept,
        "an account that changes during a checkpoint is not kept as it was",
    ),
    core(
        "log_released_early",
        Core::LogReleasedEarly,
        "the log is released when a checkpoint begins, not when it is durable",
    ),
    core(
        "checkpoint_hidden",
        Core::CheckpointHidden,
        "who asks for released slots is not told that only a checkpoint has them",
    ),
    core(
        "replay_skips_slot",
        Core::ReplaySkipsSlot,
        "a start from a checkpoint replays from one slot too high",
    ),
    core(
        "in_doubt_forgotten",
        Core::InDoubtForgotten,
        "a start from a checkpoint forgets what was prepared",
    ),
    core(
        "origin_forgotten",
        Core::OriginForgotten,
        "a start from a checkpoint forgets the highest origin it has applied",
    ),
    core(
        "stored_ids_forgotten",
        Core::StoredIdsForgotten,
        "a start from a checkpoint forgets up to which id the store has rows",
    ),
    core(
        "not_loaded_is_unused",
        Core::NotLoadedIsUnused,
        "an id that the store was not asked about counts as unused",
    ),
    core(
        "answers_kept",
        Core::AnswersKept,
        "the store's \"no such id\" counts after rows have gone to the store",
    ),
    core(
        "admits_on_full_disk",
        Core::AdmitsOnFullDisk,
        "new work is taken although the disk is full",
    ),
    log(
        "room_not_seen",
        Log::RoomNotSeen,
        "a disk that was full counts as full when it has room again",
    ),
    log(
        "checkpoint_not_retried",
        Log::CheckpointNotRetried,
        "a checkpoint that found no room is not gone on with",
    ),
    log(
        "repair_unchecked",
        Log::RepairUnchecked,
        "a repair writes a peer's block without checking that it is the block of that place",
    ),
    log(
        "damaged_block_kept",
        Log::DamagedBlockKept,
        "a block is kept in memory before it was checked, and still is when it is repaired on disk",
    ),
    log(
        "scrubber_skips_file",
        Log::ScrubberSkipsFile,
        "a scrubber passes over every second file",
    ),
    core(
        "history_page_skips",
        Core::HistoryPageSkips,
        "a page of history leaves out the row at which it begins",
    ),
    core(
        "history_stored_skips",
        Core::HistoryStoredSkips,
        "a history leaves out the last of the rows that the store gives at once",
    ),
    core(
        "history_ignores_inversion",
        Core::HistoryIgnoresInversion,
        "a history ends at the first row that committed before the time asked for",
    ),
    core(
        "history_before_passed",
        Core::HistoryBeforePassed,
        "a past balance is told while effects up to its time can still come",
    ),
    core(
        "scan_counts_late",
        Core::ScanCountsLate,
        "an account that changes while a cut is counted is counted as it is afterwards",
    ),
    core(
        "scan_misses_written",
        Core::ScanMissesWritten,
        "an account that a checkpoint writes while a cut is counted is not counted",
    ),
];

/// The bug of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Planted> {
    ALL.iter().find(|bug| bug.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_switches_are_distinct() {
        for (index, bug) in ALL.iter().enumerate() {
            for other in &ALL[index + 1..] {
                assert_ne!(bug.name, other.name);
                assert_ne!(bug.switch, other.switch);
            }
        }
        assert!(ALL.len() >= 20);
    }
}
