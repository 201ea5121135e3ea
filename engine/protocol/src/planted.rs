//! Planted bugs: mistakes that the simulator can switch on, to show that its checkers see them.
//!
//! A place that could go wrong asks [`planted`] whether it should. In this package as it ships the
//! answer is a `const` no without any state, and the compiler removes the question. Only the twin
//! package `quorate-protocol-planted` (`tests/simulator/planted/protocol`), which compiles these same
//! files and on which nothing but the simulator depends, has a switch behind it. It is a package of
//! its own because features are unified over a build: a feature of this package would reach every
//! binary that is built together with the simulator. `tests/tidy` keeps the two apart.
//!
//! What each bug breaks is told in `tests/simulator/src/bugs/list.rs`.

/// A mistake that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    AbortWhileAlive = 1,
    AcknowledgeBeforeWal,
    AdmitsOnFullDisk,
    AnswersKept,
    ApplyOnPrepare,
    ArrivesAtPrepare,
    CheckpointHidden,
    ChosenUnderAnyBallot,
    CreationAtTwoShards,
    CreditTwice,
    CutByArrival,
    DecisionForgotten,
    DeposedDenies,
    DropsNeededRows,
    FenceOnlyCommit,
    FetchLowersBallot,
    ForgetDedupe,
    FrozenAfterAbort,
    HistoryBeforePassed,
    HistoryIgnoresInversion,
    HistoryPageSkips,
    HistoryStoredSkips,
    HomeStubDropped,
    ImageNotKept,
    InDoubtForgotten,
    LateDuplicateOfMove,
    LeadsBeforeFetching,
    LeaseAfterTransfer,
    LogReleasedEarly,
    LookUpByAnyone,
    LostCountsAsAbsent,
    LowestBallotWins,
    MoveForgotten,
    MoveOvertakesPrepared,
    NeverAsk,
    NoLookUp,
    NotLoadedIsUnused,
    NotSticky,
    OriginForgotten,
    OverdraftAtCommit,
    OwnVoteBeforeWal,
    OwnersNotCarried,
    PartialPromise,
    PromiseNotDurable,
    PutIgnoresVersion,
    QuorumOfHalf,
    ReadUnderReservation,
    ReadWithoutRound,
    RefusalUnderCredit,
    RefusedIdsStay,
    RejoinVotesAtOnce,
    ReplaySkipsSlot,
    ScanCountsLate,
    ScanMissesWritten,
    ServesBeforeOpening,
    SkipFence,
    StaleLeaseRead,
    StoredIdsForgotten,
    StubDroppedUnasked,
    StubLowered,
    StubNotKept,
    TailForgotten,
    TwoOwners,
    TxnIdWithoutCoordinator,
    VoteAfterRestart,
    VoteOfAnyAttempt,
}

/// Whether this mistake is to be made.
#[cfg(not(feature = "planted"))]
#[must_use]
pub const fn planted(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
pub use self::switch::{planted, switch_on};

#[cfg(feature = "planted")]
mod switch {
    use core::sync::atomic::{AtomicU8, Ordering};

    use super::Bug;

    /// The number of the bug that is on; 0 = none.
    static ON: AtomicU8 = AtomicU8::new(0);

    /// Whether this mistake is to be made.
    #[must_use]
    pub fn planted(bug: Bug) -> bool {
        ON.load(Ordering::Relaxed) == bug as u8
    }

    /// Switches one bug on for the whole process, or all off. Between runs only.
    pub fn switch_on(bug: Option<Bug>) {
        ON.store(bug.map_or(0, |bug| bug as u8), Ordering::Relaxed);
    }
}
