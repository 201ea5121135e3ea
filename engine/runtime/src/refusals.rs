//! Counters of what was refused or dropped, by cause. Per executor, summed by whoever scrapes.

use std::cell::{Cell, RefCell};

/// Every cause: refusals and errors of frames (`quorate_wire`), and what a connection or a queue has no room for.
pub(crate) const CAUSES: &[&str] = &[
    "wrong_replica",
    "wrong_cluster",
    "wire_version",
    "malformed",
    "unknown_peer",
    "connections_max",
    "isolated",
    "shutting_down",
    "wrong_genesis",
    "unauthenticated",
    "magic",
    "version",
    "cluster",
    "kind",
    "length",
    "reserved",
    "padding",
    "crc",
    "structure",
    "entry",
    "rows",
    "number",
    "accept_failed",
    "handshake_displaced",
    "peer_displaced",
    "peer_unknown",
    "peer_queue_full",
    "peer_unreachable",
];

/// A count for each of [`CAUSES`].
pub(crate) type Counts = [u64; CAUSES.len()];

/// Refused frames and connections of one replica.
pub(crate) struct Refusals {
    counts: RefCell<Counts>,
    changed: Cell<bool>,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            counts: RefCell::new([0; CAUSES.len()]),
            changed: Cell::new(false),
        }
    }
}

impl Refusals {
    /// Counts one.
    ///
    /// # Panics
    /// If `cause` is none of [`CAUSES`].
    pub(crate) fn count(&self, cause: &'static str) {
        let place = CAUSES.iter().position(|&it| it == cause);
        let place = place.expect("the list of causes is closed");
        self.counts.borrow_mut()[place] += 1;
        self.changed.set(true);
    }

    /// All of them.
    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// `cause=count` pairs, if any changed since this was last asked.
    pub(crate) fn changes(&self) -> Option<String> {
        self.changed.replace(false).then(|| {
            let counts = self.counts.borrow();
            let pairs: Vec<String> = CAUSES
                .iter()
                .zip(*counts)
                .filter(|(_, count)| *count > 0)
                .map(|(cause, count)| format!("{cause}={count}"))
                .collect();
            pairs.join(" ")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quorate_wire::{FrameError, Refusal};

    use super::*;

    #[test]
    fn counts_are_told_once_per_change() {
        let refusals = Refusals::default();
        assert_eq!(refusals.changes(), None);
        refusals.count("magic");
        refusals.count("crc");
        refusals.count("magic");
        assert_eq!(refusals.changes().as_deref(), Some("magic=2 crc=1"));
        assert_eq!(refusals.changes(), None);
    }

    #[test]
    fn every_refusal_and_every_error_of_a_frame_has_a_place() {
        let causes: BTreeSet<&str> = CAUSES.iter().copied().collect();
        assert_eq!(causes.len(), CAUSES.len());
        let refusals = Refusal::ALL.iter().map(|refusal| refusal.name());
        for cause in refusals.chain(FrameError::KINDS.iter().copied()) {
            assert!(causes.contains(cause), "{cause}");
        }
    }
}
