//! A machine: a clock, the processes on it, and whether it is up, paused or down.

use crate::clock::SimClock;

/// A crash that waits for its moment in the order of events, not in time: machines die in the middle
/// of their work more often than clocks alone would have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuse {
    pub events: u64,
    pub power_loss: bool,
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
    /// Goes down before this many of its events have happened.
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
