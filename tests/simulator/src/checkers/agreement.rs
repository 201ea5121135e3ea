//! Agreement: a slot is chosen once, and equal logs make equal states.
//!
//! The observer sees every entry at the moment a replica has applied it, as that replica's own log
//! holds it, and now and then the digest of the whole state.

use std::collections::BTreeMap;

use quorate_protocol::entry::{Entry, Section};
use quorate_protocol::ids::{Ballot, ReplicaAddress, ShardId, Slot, TransferId};
use quorate_protocol::time::Timestamp;
use quorate_protocol::txn::record::Attempt;

use super::Violation;
use crate::random::mix;

/// What one slot decided, and who said so first.
#[derive(Clone, Copy, Debug)]
struct Chosen {
    hash: u64,
    origin: Ballot,
    timestamp: Timestamp,
    first: ReplicaAddress,
}

/// A prepared attempt at a participant, and the slots that prepared it.
pub type PreparedSlots = BTreeMap<(ShardId, TransferId, Attempt), Vec<Slot>>;

/// The observer of one run.
#[derive(Debug, Default)]
pub struct Agreement {
    chosen: BTreeMap<(ShardId, Slot), Chosen>,
    prepared: PreparedSlots,
    digests: BTreeMap<(ShardId, Slot), (u128, ReplicaAddress)>,
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
                origin: entry.origin(),
                timestamp: entry.timestamp(),
                first: replica,
            };
            self.chosen.insert((replica.shard, slot), chosen);
            self.note_prepared(replica.shard, slot, entry);
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

    /// When the entries of all slots took effect, in an order that slots and moves agree with: the
    /// leader's timestamp, raised above that of the slot before. Entries that the ballot fence holds
    /// back (their origin is below an earlier slot's) have no effect and no time.
    #[must_use]
    pub fn entry_times(&self) -> BTreeMap<(ShardId, Slot), Timestamp> {
        let mut times = BTreeMap::new();
        let (mut shard, mut origin, mut last) = (ShardId(0), Ballot::ZERO, Timestamp::ZERO);
        for (&key, chosen) in &self.chosen {
            if key.0 != shard {
                (shard, origin, last) = (key.0, Ballot::ZERO, Timestamp::ZERO);
            }
            if chosen.origin < origin || chosen.origin == Ballot::ZERO {
                continue;
            }
            origin = chosen.origin;
            last = chosen.timestamp.max(Timestamp(last.0 + 1));
            times.insert(key, last);
        }
        times
    }

    /// Which slots prepared which attempts.
    #[must_use]
    pub fn prepared(&self) -> PreparedSlots {
        self.prepared.clone()
    }

    /// How many chosen entries the fence held back.
    #[must_use]
    pub fn fenced(&self) -> usize {
        let holes = |chosen: &&Chosen| chosen.origin == Ballot::ZERO;
        self.chosen.len() - self.entry_times().len() - self.chosen.values().filter(holes).count()
    }

    fn note_prepared(&mut self, shard: ShardId, slot: Slot, entry: &Entry) {
        for section in entry.sections() {
            if let Section::Prepare(rows) = section {
                for row in rows {
                    let key = (shard, row.transfer.id, row.attempt);
                    self.prepared.entry(key).or_default().push(slot);
                }
            }
        }
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
        assert_eq!(
            agreement.entry_times()[&(ShardId(1), Slot(5))],
            Timestamp(7)
        );
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
    fn fenced_entries_have_no_time_and_times_rise_with_slots() {
        let mut agreement = Agreement::default();
        let noop = |round, ts| Entry::noop(Ballot::new(round, ReplicaId(1)), Timestamp(ts));
        let hole = Entry::noop(Ballot::ZERO, Timestamp::ZERO);
        let entries = [noop(1, 50), noop(2, 40), noop(1, 99), hole, noop(2, 60)];
        for (slot, entry) in (1..).map(Slot).zip(&entries) {
            agreement.applied(replica(1), slot, entry).unwrap();
        }
        let times = agreement.entry_times();
        let of = |slot| times.get(&(ShardId(1), Slot(slot))).map(|time| time.0);
        assert_eq!(
            [1, 2, 3, 4, 5].map(of),
            [Some(50), Some(51), None, None, Some(60)]
        );
        assert_eq!(agreement.fenced(), 1);
    }

    #[test]
    fn two_digests_at_one_slot_are_found() {
        let mut agreement = Agreement::default();
        agreement.digest(replica(1), Slot(5), 1).unwrap();
        agreement.digest(replica(2), Slot(6), 2).unwrap();
        assert!(agreement.digest(replica(2), Slot(5), 2).is_err());
    }
}
