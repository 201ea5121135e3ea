//! The figures of one replica, as its executor last told them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use quorate_protocol::client::Status;
use quorate_protocol::ids::ReplicaAddress;
use quorate_storage::{store, wal};

use crate::connections::Census;
use crate::refusals::Counts;

/// What an executor tells.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// Monotonic time of this.
    pub(crate) at_ns: u64,
    pub(crate) status: Status,
    pub(crate) is_isolated: bool,
    pub(crate) is_disk_full: bool,
    pub(crate) census: Census,
    pub(crate) refused: Counts,
    /// Messages sent by way of another replica.
    pub(crate) relayed: u64,
    pub(crate) log: wal::Counters,
    pub(crate) store: store::Counters,
}

/// Where a replica's figures are put by its executor, and found by whoever asks; neither waits for the other.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) address: ReplicaAddress,
    latest: ArcSwapOption<Figures>,
}

impl Published {
    /// Nothing was told.
    pub(crate) fn new(address: ReplicaAddress) -> Self {
        Self {
            address,
            latest: ArcSwapOption::empty(),
        }
    }

    /// Replaces what was told.
    pub(crate) fn tell(&self, figures: Figures) {
        self.latest.store(Some(Arc::new(figures)));
    }

    /// What was told last; `None` before the replica serves or says why not.
    pub(crate) fn latest(&self) -> Option<Arc<Figures>> {
        self.latest.load_full()
    }
}
