//! The acceptor's entries in memory, and the pointers into the log.
//!
//! ```text
//!   1 ....... wal_start ........ start ........ applied_upto ..... chosen_upto ..... accepted_upto
//!   released   | in the WAL only | kept for catch-up | to be applied | accepted, maybe with holes
//! ```
//!
//! Below `wal_start` only a checkpoint tells what was chosen.
//!
//! Every slot of `start..=chosen_upto` is held here. Applied entries are dropped from the front
//! when they take too much room, but only once they are durable: afterwards the WAL serves them.
//! This file never sends and never persists.

use alloc::collections::{BTreeMap, VecDeque};

use crate::config::Recovered;
use crate::entry::Entry;
use crate::ids::{Ballot, PersistSeq, Slot};
use crate::limits::{ENTRY_BYTES_MAX, LOG_TAIL_BYTES_MAX, WINDOW_MAX};
use crate::planted::{Bug, planted};

// A full window of the largest entries must not look like an apply that lags.
const _: () = assert!(WINDOW_MAX <= (LOG_TAIL_BYTES_MAX / ENTRY_BYTES_MAX) as u64);

/// What an entry costs beside its bytes (tree node, reference counts), so that many small entries
/// are bounded as well.
const HELD_OVERHEAD_BYTES: usize = 160;

/// An accepted entry.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// The ballot under which it was accepted (not its origin).
    pub(super) accepted: Ballot,
    pub(super) entry: Entry,
    /// Its record in the WAL.
    pub(super) seq: PersistSeq,
}

/// How much of what checkpoints cover stays in the WAL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Entries that weigh so much in any case.
    pub(super) weight: u64,
    /// So much for whoever does not have all up to `known_everywhere`.
    pub(super) weight_max: u64,
    pub(super) known_everywhere: Slot,
}

#[derive(Debug)]
pub(super) struct Log {
    held: BTreeMap<Slot, Held>,
    /// No slot below is in the WAL.
    wal_start: Slot,
    /// The newest checkpoint covers all slots up to here.
    covered_upto: Slot,
    /// Checkpoints before it, oldest first, with what the entries from each to the next weigh.
    older: VecDeque<(Slot, u64)>,
    /// No slot below is in memory.
    start: Slot,
    chosen_upto: Slot,
    applied_upto: Slot,
    /// Bytes of all that is held, with overhead.
    kept_bytes: usize,
    /// Above it the oldest that are applied and durable are dropped.
    kept_bytes_max: usize,
    /// Bytes of entries above `applied_upto`, without overhead.
    unapplied_bytes: usize,
    /// Of those, the ones that are chosen: only these can be applied.
    to_apply_bytes: usize,
}

impl Log {
    /// From the watermark and the tail of what was recovered.
    pub(super) fn new(recovered: Recovered, kept_bytes_max: usize) -> Self {
        let checkpoint = recovered.checkpoint;
        let chosen_upto = recovered.chosen_upto.max(checkpoint);
        let wal_start = match recovered.log_start {
            Slot::ZERO => checkpoint.next(),
            first => first,
        };
        assert!(wal_start <= checkpoint.next());
        let mut log = Self {
            held: BTreeMap::new(),
            wal_start,
            covered_upto: checkpoint,
            older: VecDeque::new(),
            start: chosen_upto.next(),
            chosen_upto,
            applied_upto: if planted(Bug::ReplaySkipsSlot) && checkpoint > Slot::ZERO {
                checkpoint.next().min(chosen_upto)
            } else {
                checkpoint
            },
            kept_bytes: 0,
            kept_bytes_max: kept_bytes_max.min(LOG_TAIL_BYTES_MAX),
            unapplied_bytes: 0,
            to_apply_bytes: 0,
        };
        for logged in recovered.tail {
            if logged.slot > chosen_upto && !planted(Bug::TailForgotten) {
                log.put(
                    logged.slot,
                    Held {
                        accepted: logged.accepted,
                        entry: logged.entry,
                        seq: PersistSeq(0),
                    },
                );
            }
        }
        log
    }

    pub(super) fn start(&self) -> Slot {
        self.start
    }

    pub(super) fn wal_start(&self) -> Slot {
        self.wal_start
    }

    pub(super) fn covered_upto(&self) -> Slot {
        self.covered_upto
    }

    /// A newer checkpoint is durable, the first to cover entries that weigh so much. Returns from which slot on the WAL is
    /// needed: a start may have to fall back to the checkpoint before, and a peer that was away for a moment is to find
    /// entries, or it had to take a whole checkpoint.
    pub(super) fn cover(&mut self, upto: Slot, weight: u64, kept: Kept) -> Slot {
        assert!(self.covered_upto <= upto && upto <= self.applied_upto);
        self.older.push_back((self.covered_upto, weight));
        self.covered_upto = upto;
        while let Some(&(next, _)) = self.older.get(1) {
            let weight: u64 = self.older.iter().skip(1).map(|(_, weight)| weight).sum();
            let is_needed = next > kept.known_everywhere && weight < kept.weight_max;
            if weight < kept.weight || is_needed {
                break;
            }
            self.older.pop_front();
        }
        let (oldest, _) = self.older[0];
        self.release_below(oldest.next());
        self.wal_start
    }

    /// The WAL is not read below `slot` any more.
    pub(super) fn release_below(&mut self, slot: Slot) {
        assert!(slot <= self.covered_upto.next());
        self.wal_start = self.wal_start.max(slot);
    }

    pub(super) fn chosen_upto(&self) -> Slot {
        self.chosen_upto
    }

    pub(super) fn applied_upto(&self) -> Slot {
        self.applied_upto
    }

    /// The highest slot with an entry.
    pub(super) fn accepted_upto(&self) -> Slot {
        self.held
            .last_key_value()
            .map_or(self.chosen_upto, |(&slot, _)| slot)
    }

    /// Whether chosen entries still have to be read back from the WAL.
    pub(super) fn is_replaying(&self) -> bool {
        self.applied_upto.next() < self.start
    }

    /// Whether apply lags so far behind that nothing more should be taken in.
    pub(super) fn is_full(&self) -> bool {
        self.unapplied_bytes > LOG_TAIL_BYTES_MAX
    }

    /// Whether apply follows: no more than half of the bound waits for it. What is accepted above a hole does not
    /// count, since nothing but filling the hole lets it be applied.
    pub(super) fn apply_follows(&self) -> bool {
        self.to_apply_bytes <= LOG_TAIL_BYTES_MAX / 2
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Held> {
        self.held.get(&slot)
    }

    /// Entries of slots above `slot`, ascending.
    pub(super) fn above(&self, slot: Slot) -> impl Iterator<Item = (Slot, &Held)> {
        self.held
            .range(slot.next()..)
            .map(|(&slot, held)| (slot, held))
    }

    /// Takes an entry in, in place of what was accepted for the slot before.
    pub(super) fn put(&mut self, slot: Slot, held: Held) {
        assert!(slot > self.chosen_upto, "{slot} is chosen already");
        let bytes = held.entry.bytes();
        let accepted = held.accepted;
        let before = self.held.insert(slot, held);
        if let Some(before) = before {
            assert!(before.accepted <= accepted, "accepted ballots never fall");
            self.kept_bytes -= before.entry.bytes() + HELD_OVERHEAD_BYTES;
            self.unapplied_bytes -= before.entry.bytes();
        }
        self.kept_bytes += bytes + HELD_OVERHEAD_BYTES;
        self.unapplied_bytes += bytes;
    }

    /// Slot `chosen_upto + 1` is chosen, with the entry held here.
    pub(super) fn choose_next(&mut self) {
        let slot = self.chosen_upto.next();
        let held = self.held.get(&slot);
        let held = held.unwrap_or_else(|| panic!("{slot} chosen but not held"));
        self.to_apply_bytes += held.entry.bytes();
        self.chosen_upto = slot;
    }

    /// Counts slot `applied_upto + 1` as applied; `Some` if its entry is held here.
    pub(super) fn apply_next(&mut self) -> Option<Entry> {
        let slot = self.applied_upto.next();
        assert!(slot <= self.chosen_upto, "{slot} applied but not chosen");
        self.applied_upto = slot;
        let entry = self.held.get(&slot)?.entry.clone();
        self.unapplied_bytes -= entry.bytes();
        self.to_apply_bytes -= entry.bytes();
        Some(entry)
    }

    /// Drops the oldest entries that are applied and durable, down to the bound.
    pub(super) fn trim(&mut self, durable: PersistSeq) {
        while self.kept_bytes > self.kept_bytes_max {
            let Some(oldest) = self.held.first_entry() else {
                return;
            };
            if *oldest.key() > self.applied_upto || oldest.get().seq > durable {
                return;
            }
            self.start = oldest.key().next();
            self.kept_bytes -= oldest.remove().entry.bytes() + HELD_OVERHEAD_BYTES;
        }
    }

    /// The order of the pointers.
    pub(super) fn check(&self) {
        assert!(self.wal_start <= self.covered_upto.next());
        assert!(self.covered_upto <= self.applied_upto);
        assert!(self.applied_upto <= self.chosen_upto);
        assert!(self.chosen_upto <= self.accepted_upto());
        assert!(self.start <= self.chosen_upto.next());
        if let Some((&first, _)) = self.held.first_key_value() {
            assert!(self.start <= first);
        }
    }
}
