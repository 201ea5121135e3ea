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
