//! Agreement: a slot is chosen once, and equal logs make equal states.
//!
//! The observer sees every entry at the moment a replica has applied it, as that replica's own log
//! holds it, now and then the digest of the whole state, and that of every cut that a replica has counted. It keeps what was chosen: [`Logs`] are what
//! the model replays after the run.
//!
//! It is as strong as its chances to compare: an entry that only one replica ever applied is compared
//! with nothing but itself after a restart, and the whole state only at the slots at which a digest was
//! taken, at the end of the run on every replica.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::entry::Entry;
use quorate_protocol::ids::{Ballot, ReplicaAddress, ShardId, Slot};
use quorate_protocol::time::Timestamp;

use super::Violation;
use super::log::{LogEntry, Logs};
use crate::random::mix;

/// What one slot decided, and who said so first.
#[derive(Clone, Debug)]
struct Chosen {
    hash: u64,
    entry: Entry,
    first: ReplicaAddress,
}

/// Slot and digest of a cut, and the replicas that counted so.
type CountedCut = ((Slot, u128), BTreeSet<ReplicaAddress>);

/// The observer of one run.
#[derive(Debug, Default)]
pub struct Agreement {
    chosen: BTreeMap<(ShardId, Slot), Chosen>,
    digests: BTreeMap<(ShardId, Slot), (u128, ReplicaAddress)>,
    cuts: BTreeMap<(ShardId, Timestamp), CountedCut>,
    /// How often a second replica confirmed a first one.
    pub entries_compared: u64,
    pub digests_compared: u64,
}

impl Agreement {
    /// A replica has applied `entry` for `slot`.
    ///
    /// # Errors
    /// If another replica applied another entry.
    pub fn applied(
        &mut self,
        replica: ReplicaAddress,
        slot: Slot,
        entry: &Entry,
    ) -> Result<(), Violation> {
        let hash = hash_bytes(entry.words().as_bytes());
        let Some(known) = self.chosen.get(&(replica.shard, slot)) else {
            let chosen = Chosen {
                hash,
                entry: entry.clone(),
                first: replica,
            };
            self.chosen.insert((replica.shard, slot), chosen);
            return Ok(());
        };
        self.entries_compared += 1;
        if known.hash == hash {
            return Ok(());
        }
        Err(Violation {
            checker: "agreement",
            text: format!(
                "slot {slot} of shard {}: {replica} applied {entry:?}, {} another entry",
                replica.shard, known.first
            ),
        })
    }

    /// A replica's state digest after it applied `slot`.
    ///
    /// # Errors
    /// If another replica had another digest there.
    pub fn digest(
        &mut self,
        replica: ReplicaAddress,
        slot: Slot,
        digest: u128,
    ) -> Result<(), Violation> {
        let key = (replica.shard, slot);
        let (known, first) = *self.digests.entry(key).or_insert((digest, replica));
        self.digests_compared += u64::from(first != replica);
        if known == digest {
            return Ok(());
        }
        Err(Violation {
            checker: "agreement",
            text: format!(
                "state after slot {slot}: digest {digest:032x} at {replica}, {known:032x} at {first}"
            ),
        })
    }

    /// A replica has counted the state at which a cut was passed. True if it is the first time that another
    /// one had before it.
    ///
    /// # Errors
    /// If another replica found another state, or had passed the cut at another slot.
    pub fn cut(
        &mut self,
        replica: ReplicaAddress,
        (at, slot, digest): (Timestamp, Slot, u128),
    ) -> Result<bool, Violation> {
        let key = (replica.shard, at);
        let (known, by) = self
            .cuts
            .entry(key)
            .or_insert(((slot, digest), BTreeSet::new()));
        if *known == (slot, digest) {
            return Ok(by.insert(replica) && by.len() == 2);
        }
        let (known_slot, known) = known;
        Err(Violation {
            checker: "agreement",
            text: format!(
                "cut at {}: digest {digest:032x} at slot {slot} by {replica}, {known:032x} at slot \
                 {known_slot} by {by:?}",
                at.0
            ),
        })
    }

    /// Everything that was chosen.
    #[must_use]
    pub fn logs(&self) -> Logs {
        let mut logs = Logs::new();
        for (&(shard, slot), chosen) in &self.chosen {
            let log = logs.entry(shard).or_default();
            log.insert(slot, LogEntry::of(&chosen.entry));
        }
        logs
    }

    /// The first slot of each shard that nobody was seen to apply, below one that somebody was.
    pub fn holes(&self) -> impl Iterator<Item = (ShardId, Slot)> {
        let mut before = (ShardId(0), Slot::ZERO);
        self.chosen.keys().filter_map(move |&(shard, slot)| {
            let last = if before.0 == shard {
                before.1
            } else {
                Slot::ZERO
            };
            before = (shard, slot);
            (slot != last.next()).then_some((shard, last.next()))
        })
    }

    /// How many chosen entries the ballot fence held back: their origin is below an earlier slot's.
    #[must_use]
    pub fn fenced(&self) -> usize {
        let (mut shard, mut highest, mut fenced) = (ShardId(0), Ballot::ZERO, 0);
        for (&(of, _), chosen) in &self.chosen {
            if of != shard {
                (shard, highest) = (of, Ballot::ZERO);
            }
            let origin = chosen.entry.origin();
            fenced += usize::from(origin < highest && origin != Ballot::ZERO);
            highest = highest.max(origin);
        }
        fenced
    }
}

/// A 64-bit hash of bytes, the same everywhere.
#[must_use]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    let length = u64::try_from(bytes.len()).expect("lengths fit 64 bits");
    bytes.chunks(8).fold(mix(length), |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(hash ^ u64::from_le_bytes(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::ReplicaId;
    use quorate_protocol::time::Timestamp;

    fn replica(replica: u8) -> ReplicaAddress {
        ReplicaAddress {
            shard: ShardId(1),
            replica: ReplicaId(replica),
        }
    }

    fn entry(timestamp: u64) -> Entry {
        Entry::noop(Ballot::new(1, ReplicaId(1)), Timestamp(timestamp))
    }

    #[test]
    fn the_same_entry_everywhere_is_fine() {
        let mut agreement = Agreement::default();
        for r in 1..=3 {
            agreement.applied(replica(r), Slot(5), &entry(7)).unwrap();
            agreement.digest(replica(r), Slot(5), 99).unwrap();
        }
        assert_eq!(agreement.entries_compared, 2);
        assert_eq!(agreement.digests_compared, 2);
        assert_eq!(agreement.logs()[&ShardId(1)][&Slot(5)].timestamp.0, 7);
    }

    #[test]
    fn a_slot_with_two_entries_is_found() {
        let mut agreement = Agreement::default();
        agreement.applied(replica(1), Slot(5), &entry(7)).unwrap();
        assert!(agreement.applied(replica(2), Slot(5), &entry(8)).is_err());
    }

    #[test]
    fn a_replica_that_changes_its_mind_after_a_restart_is_found() {
        let mut agreement = Agreement::default();
        agreement.applied(replica(1), Slot(5), &entry(7)).unwrap();
        assert!(agreement.applied(replica(1), Slot(5), &entry(8)).is_err());
    }

    #[test]
    fn entries_behind_a_later_leaders_are_counted_as_fenced() {
        let mut agreement = Agreement::default();
        let noop = |round, ts| Entry::noop(Ballot::new(round, ReplicaId(1)), Timestamp(ts));
        let hole = Entry::noop(Ballot::ZERO, Timestamp::ZERO);
        let entries = [noop(1, 50), noop(2, 40), noop(1, 99), hole, noop(2, 60)];
        for (slot, entry) in (1..).map(Slot).zip(&entries) {
            agreement.applied(replica(1), slot, entry).unwrap();
        }
        assert_eq!(agreement.fenced(), 1);
        assert_eq!(agreement.logs()[&ShardId(1)].len(), 5);
    }

    #[test]
    fn a_slot_that_nobody_was_seen_to_apply_is_found() {
        let mut agreement = Agreement::default();
        let other = ReplicaAddress {
            shard: ShardId(2),
            replica: ReplicaId(1),
        };
        for (who, slot) in [(replica(1), 1), (replica(2), 2), (other, 1), (other, 3)] {
            agreement.applied(who, Slot(slot), &entry(7)).unwrap();
        }
        let holes: Vec<_> = agreement.holes().collect();
        assert_eq!(holes, [(ShardId(2), Slot(2))]);
    }

    #[test]
    fn two_states_at_one_cut_are_found() {
        let mut agreement = Agreement::default();
        let cut = (Timestamp(7), Slot(3), 99);
        assert_eq!(agreement.cut(replica(1), cut).ok(), Some(false));
        assert_eq!(agreement.cut(replica(2), cut).ok(), Some(true));
        assert_eq!(agreement.cut(replica(2), cut).ok(), Some(false));
        assert!(
            agreement
                .cut(replica(3), (Timestamp(7), Slot(3), 98))
                .is_err()
        );
        assert!(
            agreement
                .cut(replica(3), (Timestamp(7), Slot(4), 99))
                .is_err()
        );
    }

    #[test]
    fn two_digests_at_one_slot_are_found() {
        let mut agreement = Agreement::default();
        agreement.digest(replica(1), Slot(5), 1).unwrap();
        agreement.digest(replica(2), Slot(6), 2).unwrap();
        assert!(agreement.digest(replica(2), Slot(5), 2).is_err());
    }
}
