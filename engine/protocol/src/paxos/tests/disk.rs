//! The log of a replica in a random world: records that are flushed late, may rot, and are recycled
//! below a checkpoint.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::config::{LostRecord, Recovered};
use crate::entry::Entry;
use crate::ids::{Ballot, ReplicaId, Slot};
use crate::output::Record;
use crate::paxos::message::LoggedEntry;
use crate::prng::Prng;

/// A write-ahead log that can forget.
#[derive(Debug, Default)]
pub struct Disk {
    pub records: Vec<Record>,
    /// Records on stable storage.
    pub synced: usize,
    /// The flush under way: when it ends, and what it covers.
    pub flush: Option<(u64, usize)>,
    /// Records of earlier runs of the replica.
    pub before: usize,
    /// Synced records before the newest flush that cannot be read any more.
    pub rotten: BTreeSet<usize>,
    /// Where the newest flush began.
    pub flush_began: usize,
    /// Slots of the newest checkpoint and of the one before.
    pub checkpoint: Slot,
    pub checkpoint_before: Slot,
    /// Records of slots below are recycled.
    pub released: Slot,
}

/// The newest record of a slot: the ballot, and the entry unless the record is rotten.
type Newest = BTreeMap<Slot, (Ballot, Option<Entry>)>;

impl Disk {
    /// From the newest checkpoint, or from the one before if that is damaged.
    pub fn recover(&self, falls_back: bool) -> Recovered {
        let mut recovered = Recovered::default();
        let mut newest = Newest::new();
        for (at, record) in self.records.iter().enumerate() {
            match record {
                Record::Promise { ballot } => {
                    assert!(
                        *ballot > recovered.promised,
                        "a promise is written once and never falls"
                    );
                    recovered.promised = *ballot;
                }
                Record::Accepted {
                    ballot,
                    slot,
                    entry,
                } => {
                    assert!(*ballot >= recovered.promised, "accepted below a promise");
                    recovered.promised = *ballot;
                    let entry = (!self.rotten.contains(&at)).then(|| entry.clone());
                    if *slot >= self.released {
                        newest.insert(*slot, (*ballot, entry));
                    }
                }
                Record::Chosen { upto } => {
                    assert!(*upto > recovered.chosen_upto);
                    let known = recovered.chosen_upto.next().max(self.released);
                    for slot in known.0..=upto.0 {
                        assert!(newest.contains_key(&Slot(slot)), "watermark before entry");
                    }
                    recovered.chosen_upto = *upto;
                }
            }
        }
        recovered.checkpoint = match falls_back {
            true => self.checkpoint_before,
            false => self.checkpoint,
        };
        recovered.chosen_upto = recovered.chosen_upto.max(recovered.checkpoint);
        if newest.contains_key(&recovered.checkpoint) {
            let held = (1..=recovered.checkpoint.0).rev();
            let held = held.take_while(|slot| newest.contains_key(&Slot(*slot)));
            recovered.log_start = Slot(held.last().unwrap_or(0));
        }
        for (slot, (accepted, entry)) in newest {
            match entry {
                Some(entry) if slot > recovered.chosen_upto => recovered.tail.push(LoggedEntry {
                    slot,
                    accepted,
                    entry,
                }),
                Some(_) => {}
                None => recovered.lost.push(LostRecord { slot, accepted }),
            }
        }
        assert!(recovered.tail.len() <= 64, "the window bounds the tail");
        recovered
    }

    pub fn read(
        &self,
        from: Slot,
        upto: Slot,
        bytes_max: usize,
    ) -> (Vec<LoggedEntry>, Option<LostRecord>) {
        if from < self.released {
            // Recycled while the read was on its way: whatever is there now is not the record.
            let accepted = Ballot::new(1, ReplicaId(1));
            return (
                Vec::new(),
                Some(LostRecord {
                    slot: from,
                    accepted,
                }),
            );
        }
        let mut newest = BTreeMap::new();
        for (at, record) in self.records.iter().enumerate() {
            if let Record::Accepted {
                ballot,
                slot,
                entry,
            } = record
                && *slot <= upto.min(Slot(from.0 + 200))
                && *slot >= from
            {
                newest.insert(
                    *slot,
                    (*ballot, (!self.rotten.contains(&at)).then_some(entry)),
                );
            }
        }
        let mut bytes = 0;
        let mut entries = Vec::new();
        for slot in (from.0..=upto.0).map(Slot) {
            let Some((accepted, entry)) = newest.get(&slot).copied() else {
                break;
            };
            let Some(entry) = entry else {
                return (entries, Some(LostRecord { slot, accepted }));
            };
            bytes += if entries.is_empty() { 0 } else { entry.bytes() };
            if bytes > bytes_max {
                break;
            }
            entries.push(LoggedEntry {
                slot,
                accepted,
                entry: entry.clone(),
            });
        }
        (entries, None)
    }

    /// Makes the newest record of some slot unreadable, if it is not of the newest flush. False if
    /// the record drawn is not such a one.
    pub fn rot(&mut self, random: &mut Prng, youngest: usize) -> bool {
        if self.flush_began == 0 {
            return false;
        }
        // Young records are the interesting ones.
        let oldest = match random.range(0, 3) {
            0 => 0,
            _ => self.flush_began.saturating_sub(youngest),
        };
        let drawn = random.range(oldest as u64, self.flush_began as u64);
        let drawn = usize::try_from(drawn).expect("few");
        let Record::Accepted { slot: own, .. } = self.records[drawn] else {
            return false;
        };
        let is_newest = self.records[drawn + 1..self.synced]
            .iter()
            .all(|record| !matches!(record, Record::Accepted { slot, .. } if *slot == own));
        is_newest && self.rotten.insert(drawn)
    }

    /// Whether the newest durable record of some slot is rotten.
    pub fn is_harmed(&self) -> bool {
        let slot_of = |record: &Record| match record {
            Record::Accepted { slot, .. } => Some(*slot),
            Record::Promise { .. } | Record::Chosen { .. } => None,
        };
        self.rotten.iter().any(|&at| {
            let own = slot_of(&self.records[at]);
            if own <= Some(self.checkpoint_before) {
                return false;
            }
            let mut later = self.records[at + 1..self.synced].iter();
            !later.any(|record| slot_of(record) == own)
        })
    }
}
