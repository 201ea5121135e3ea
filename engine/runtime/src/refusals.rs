//! Counters of what was refused, by cause. Per executor, summed by whoever scrapes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Refused frames and connections of one replica.
#[derive(Default)]
pub(crate) struct Refusals {
    counts: RefCell<BTreeMap<&'static str, u64>>,
    changed: Cell<bool>,
}

impl Refusals {
    /// Counts one; `cause` is a name from a closed list.
    pub(crate) fn count(&self, cause: &'static str) {
        *self.counts.borrow_mut().entry(cause).or_default() += 1;
        self.changed.set(true);
    }

    /// `cause=count` pairs, if any changed since this was last asked.
    pub(crate) fn changes(&self) -> Option<String> {
        self.changed.replace(false).then(|| {
            let counts = self.counts.borrow();
            let pairs: Vec<String> = counts
                .iter()
                .map(|(cause, count)| format!("{cause}={count}"))
                .collect();
            pairs.join(" ")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_once_per_change() {
        let refusals = Refusals::default();
        assert_eq!(refusals.changes(), None);
        refusals.count("magic");
        refusals.count("crc");
        refusals.count("magic");
        assert_eq!(refusals.changes().as_deref(), Some("crc=1 magic=2"));
        assert_eq!(refusals.changes(), None);
    }
}
