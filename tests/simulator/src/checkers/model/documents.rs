//! The catalog by the book: what is there, and every write that took effect.

use std::collections::BTreeMap;

use quorate_protocol::ids::DocumentKey;

use crate::checkers::log::DocumentWrite;

/// A write that took effect; the first one is version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub key: DocumentKey,
    /// None: it was removed.
    pub bytes: Vec<u8>,
}

/// The documents of one shard. A run comes nowhere near the bounds of a catalog.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// Versions of those that are there.
    versions: BTreeMap<DocumentKey, u64>,
    /// Of those that are not: the last write that removed one.
    removed: u64,
    writes: Vec<Written>,
}

impl Documents {
    /// Carries a write out, if it names the version that is there.
    pub(super) fn write(&mut self, write: &DocumentWrite) {
        let version = self
            .versions
            .get(&write.key)
            .copied()
            .unwrap_or(self.removed);
        if write.expected != version {
            return;
        }
        self.writes.push(Written {
            key: write.key,
            bytes: write.bytes.clone(),
        });
        let version = u64::try_from(self.writes.len()).expect("few");
        if write.bytes.is_empty() {
            self.versions.remove(&write.key);
            self.removed = version;
        } else {
            self.versions.insert(write.key, version);
        }
    }

    /// Every write that took effect, with its version.
    pub fn writes(&self) -> impl Iterator<Item = (u64, &Written)> {
        (1..).zip(&self.writes)
    }
}
