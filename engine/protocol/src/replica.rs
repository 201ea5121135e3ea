//! One replica: the pure function from inputs to outputs.

use crate::client::Status;
use crate::config::{Recovered, ReplicaConfig};
use crate::ids::Slot;
use crate::input::Input;
use crate::output::Output;
use crate::time::Now;

/// A replica of one shard.
#[derive(Debug)]
pub struct Replica {
    config: ReplicaConfig,
}

impl Replica {
    /// Starts from what the log holds. It asks for the chosen entries itself (`Output::ReadLog`).
    #[must_use]
    pub fn new(config: ReplicaConfig, _recovered: Recovered, _now: Now) -> Self {
        Self { config }
    }

    /// Takes one input; drain [`Self::poll_output`] before the next.
    pub fn step(&mut self, _now: Now, _input: Input) {}

    /// The next effect, if any.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }

    /// When to send the next `Input::Tick`: monotonic nanoseconds.
    #[must_use]
    pub fn deadline_ns(&self) -> u64 {
        u64::MAX
    }

    /// What users see of it.
    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!("{:?}", self.config)
    }

    /// Applied slot and digest of the whole replicated state at it (a scan: for checks).
    #[must_use]
    pub fn digest(&self) -> (Slot, u128) {
        (Slot::ZERO, 0)
    }
}
