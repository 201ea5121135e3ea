//! A log on an ideal disk: records in the order of their appending, the first of them durable.
//!
//! A record is durable or it is not, and may rot afterwards; the caller says when. Torn and misdirected
//! writes, and how recovery names a lost record, are the business of the simulator and of `storage`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::config::{LostRecord, Recovered};
use quorate_protocol::ids::{Ballot, PersistSeq, Slot};
use quorate_protocol::output::Record;
use quorate_protocol::paxos::message::LoggedEntry;

/// What a crash does to records that were appended and not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unflushed {
    /// The power went: they are gone.
    Lost,
    /// Only the process died: the write had reached the kernel and survives.
    Kept,
}

/// The log of one replica, over all its lives.
#[derive(Debug, Default)]
pub struct Disk {
    durable: Vec<Record>,
    /// Of `durable`: accepted records that cannot be read any more.
    rotten: BTreeSet<usize>,
    /// Of the present life.
    unflushed: Vec<(PersistSeq, Record)>,
}

impl Disk {
    /// Takes a record, not durable yet.
    pub fn append(&mut self, seq: PersistSeq, record: Record) {
        self.unflushed.push((seq, record));
    }

    /// Whether something waits for a flush.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.unflushed.is_empty()
    }

    /// The last record that a flush started now would cover.
    #[must_use]
    pub fn last(&self) -> Option<PersistSeq> {
        self.unflushed.last().map(|(seq, _)| *seq)
    }

    /// Everything up to `upto` is durable.
    pub fn flush(&mut self, upto: PersistSeq) {
        let count = self.unflushed.partition_point(|(seq, _)| *seq <= upto);
        let flushed = self.unflushed.drain(..count).map(|(_, record)| record);
        self.durable.extend(flushed);
    }

    /// The process has ended.
    pub fn crash(&mut self, unflushed: Unflushed) {
        let records = std::mem::take(&mut self.unflushed);
        match unflushed {
            Unflushed::Lost => {}
            Unflushed::Kept => self
                .durable
                .extend(records.into_iter().map(|(_, record)| record)),
        }
    }

    /// What a start finds.
    #[must_use]
    pub fn recover(&self) -> Recovered {
        let mut promised = Ballot::ZERO;
        let mut chosen_upto = Slot::ZERO;
        for record in &self.durable {
            match record {
                Record::Promise { ballot } | Record::Accepted { ballot, .. } => {
                    promised = promised.max(*ballot);
                }
                Record::Chosen { upto } => chosen_upto = chosen_upto.max(*upto),
            }
        }
        let (mut tail, mut lost) = (Vec::new(), Vec::new());
        for newest in self.newest().into_values() {
            match newest {
                Newest::Entry(logged) if logged.slot > chosen_upto => tail.push(logged),
                Newest::Entry(_) => {}
                Newest::Lost(record) => lost.push(record),
            }
        }
        Recovered {
            checkpoint: Slot::ZERO,
            log_start: Slot::ZERO,
            promised,
            chosen_upto,
            tail,
            lost,
            rejoins: false,
        }
    }

    /// The newest entries of slots `from..=upto`, up to the first slot that the log does not hold, and
    /// the name of that one's record if it is lost.
    #[must_use]
    pub fn read(&self, from: Slot, upto: Slot) -> (Vec<LoggedEntry>, Option<LostRecord>) {
        let mut newest = self.newest();
        let mut entries = Vec::new();
        for slot in from.0..=upto.0 {
            match newest.remove(&Slot(slot)) {
                Some(Newest::Entry(logged)) => entries.push(logged),
                Some(Newest::Lost(record)) => return (entries, Some(record)),
                None => break,
            }
        }
        (entries, None)
    }

    /// The newest durable record of a slot rots. False if there is none that can.
    pub fn rot(&mut self, slot: Slot) -> bool {
        match self.newest_index(slot) {
            Some(index) => self.rotten.insert(index),
            None => false,
        }
    }

    fn newest(&self) -> BTreeMap<Slot, Newest> {
        let accepted = |record: &Record| match record {
            Record::Accepted { slot, .. } => Some(*slot),
            Record::Promise { .. } | Record::Chosen { .. } => None,
        };
        let slots: BTreeSet<Slot> = self.durable.iter().filter_map(accepted).collect();
        let newest = |slot| Some((slot, self.newest_of(slot)?));
        slots.into_iter().filter_map(newest).collect()
    }

    fn newest_of(&self, slot: Slot) -> Option<Newest> {
        let index = self.newest_index(slot)?;
        let Record::Accepted { ballot, entry, .. } = &self.durable[index] else {
            unreachable!("only accepted records have a slot")
        };
        Some(if self.rotten.contains(&index) {
            Newest::Lost(LostRecord {
                slot,
                accepted: *ballot,
            })
        } else {
            Newest::Entry(LoggedEntry {
                slot,
                accepted: *ballot,
                entry: entry.clone(),
            })
        })
    }

    /// Where the accepted record of the highest ballot is; of two under one ballot, the later.
    fn newest_index(&self, of: Slot) -> Option<usize> {
        let records = self.durable.iter().enumerate();
        let accepted = records.filter_map(|(index, record)| match record {
            Record::Accepted { ballot, slot, .. } if *slot == of => Some((*ballot, index)),
            Record::Accepted { .. } | Record::Promise { .. } | Record::Chosen { .. } => None,
        });
        accepted.max().map(|(_, index)| index)
    }
}

/// The newest record of a slot.
enum Newest {
    Entry(LoggedEntry),
    Lost(LostRecord),
}

#[cfg(test)]
mod tests {
    use quorate_protocol::entry::Entry;
    use quorate_protocol::ids::ReplicaId;
    use quorate_protocol::time::Timestamp;

    use super::*;

    fn ballot(round: u64) -> Ballot {
        Ballot::new(round, ReplicaId(1))
    }

    fn accepted(round: u64, slot: u64) -> Record {
        Record::Accepted {
            ballot: ballot(round),
            slot: Slot(slot),
            entry: Entry::noop(ballot(round), Timestamp(slot)),
        }
    }

    /// Slot 1 chosen, slots 2 and 3 accepted, slot 3 twice.
    fn disk() -> Disk {
        let mut disk = Disk::default();
        let records = [
            accepted(1, 1),
            accepted(1, 2),
            accepted(1, 3),
            Record::Chosen { upto: Slot(1) },
            accepted(2, 3),
        ];
        for (seq, record) in (1..).zip(records) {
            disk.append(PersistSeq(seq), record);
        }
        disk
    }

    fn tail(disk: &Disk) -> Vec<(u64, u64)> {
        let tail = disk.recover().tail;
        tail.iter()
            .map(|logged| (logged.slot.0, logged.accepted.round()))
            .collect()
    }

    #[test]
    fn only_what_was_flushed_survives_a_loss_of_power() {
        let mut disk = disk();
        disk.flush(PersistSeq(3));
        assert_eq!(disk.last(), Some(PersistSeq(5)));
        disk.crash(Unflushed::Lost);
        assert_eq!(disk.recover().chosen_upto, Slot::ZERO);
        assert_eq!(tail(&disk), [(1, 1), (2, 1), (3, 1)]);
        assert!(!disk.is_dirty());
    }

    #[test]
    fn everything_survives_the_death_of_the_process() {
        let mut disk = disk();
        disk.crash(Unflushed::Kept);
        let recovered = disk.recover();
        assert_eq!(
            (recovered.promised, recovered.chosen_upto),
            (ballot(2), Slot(1))
        );
        assert_eq!(tail(&disk), [(2, 1), (3, 2)]);
        assert_eq!(disk.read(Slot(1), Slot(9)).0.len(), 3);
        assert_eq!(disk.read(Slot(4), Slot(9)), (Vec::new(), None));
    }

    #[test]
    fn a_rotten_record_is_lost_by_name_until_a_newer_one_is_durable() {
        let mut disk = disk();
        disk.flush(PersistSeq(5));
        assert!(disk.rot(Slot(3)) && !disk.rot(Slot(4)));
        let lost = LostRecord {
            slot: Slot(3),
            accepted: ballot(2),
        };
        assert_eq!(disk.recover().lost, [lost]);
        assert_eq!(tail(&disk), [(2, 1)], "the older record of slot 3 is none");
        let (entries, found) = disk.read(Slot(1), Slot(3));
        assert_eq!((entries.len(), found), (2, Some(lost)));
        disk.append(PersistSeq(6), accepted(2, 3));
        disk.flush(PersistSeq(6));
        assert!(disk.recover().lost.is_empty());
    }
}
