//! A machine: a clock, the processes on it, and whether it is up, paused or down.

use crate::clock::SimClock;
use crate::faults::Fault;

/// A crash that waits for its moment in the order of events, not in time: machines die in the middle
/// of their work more often than clocks alone would have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuse {
    pub aim: Aim,
    /// It does not wait longer.
    pub until_ns: u64,
    /// `PowerLoss` or `Kill`.
    pub fault: Fault,
}

/// The moment that a crash waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// This many events of the machine.
    Events(u64),
    /// A flush is on its way to a disk.
    InFlush,
    /// A segment has its name, the directory is not synced.
    UnsyncedName,
    /// Something was sent, and nothing happened since.
    AfterSend,
    /// A replica has transactions in doubt.
    InDoubt,
    /// It leads a shard that accounts are being moved from or to.
    InMove,
    /// A file operation of a store is under way.
    InCheckpoint,
}

impl Aim {
    /// The counter that proves it.
    #[must_use]
    pub fn counter(self) -> Option<&'static str> {
        match self {
            Self::Events(_) => None,
            Self::InFlush => Some("crash_in_flush"),
            Self::UnsyncedName => Some("crash_unsynced_name"),
            Self::AfterSend => Some("crash_after_send"),
            Self::InDoubt => Some("crash_in_doubt"),
            Self::InMove => Some("crash_in_move"),
            Self::InCheckpoint => Some("crash_in_checkpoint"),
        }
    }
}

/// One machine.
#[derive(Debug)]
pub struct Node<E> {
    pub clock: SimClock,
    /// Indices of its processes.
    pub processes: Vec<usize>,
    /// Number of its present life, or of the last one if it is down. Events of earlier lives are
    /// void.
    pub life: u64,
    pub up: bool,
    pub paused: bool,
    /// When it went down or started last.
    pub changed_ns: u64,
    /// Goes down at a moment to come.
    pub fuse: Option<Fuse>,
    /// What would have happened to it while it was paused.
    pub backlog: Vec<E>,
}

impl<E> Node<E> {
    /// A machine that was never started.
    #[must_use]
    pub fn new(clock: SimClock, processes: Vec<usize>) -> Self {
        Self {
            clock,
            processes,
            life: 0,
            up: false,
            paused: false,
            changed_ns: 0,
            fuse: None,
            backlog: Vec::new(),
        }
    }
}
