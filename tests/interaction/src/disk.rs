//! A log on an ideal disk: records in the order of their appending, the first of them durable.
//!
//! Torn, rotten or misdirected writes are the simulator's business; here a record is either durable
//! or it is not, and the caller says when.

use std::collections::BTreeMap;

use quorate_protocol::config::Recovered;
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
        let above = |logged: &LoggedEntry| logged.slot > chosen_upto;
        Recovered {
            promised,
            chosen_upto,
            tail: self.newest().into_values().filter(above).collect(),
            lost: Vec::new(),
        }
    }

    /// The newest entries of slots `from..=upto`, up to the first slot that the log does not hold.
    #[must_use]
    pub fn read(&self, from: Slot, upto: Slot) -> Vec<LoggedEntry> {
        let newest = self.newest();
        (from.0..=upto.0)
            .map_while(|slot| newest.get(&Slot(slot)).cloned())
            .collect()
    }

    /// Per slot the accepted entry of the highest ballot; of two under one ballot, the later.
    fn newest(&self) -> BTreeMap<Slot, LoggedEntry> {
        let mut newest: BTreeMap<Slot, LoggedEntry> = BTreeMap::new();
        for record in &self.durable {
            let Record::Accepted {
                ballot,
                slot,
                entry,
            } = record
            else {
                continue;
            };
            let known = newest.get(slot).map(|logged| logged.accepted);
            if known.is_none_or(|known| known <= *ballot) {
                let logged = LoggedEntry {
                    slot: *slot,
                    accepted: *ballot,
                    entry: entry.clone(),
                };
                newest.insert(*slot, logged);
            }
        }
        newest
    }
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
        assert_eq!(disk.read(Slot(1), Slot(9)).len(), 3);
        assert!(disk.read(Slot(4), Slot(9)).is_empty());
    }
}
