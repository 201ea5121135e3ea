//! The log's dumb twin: a list of records, and what of it was acknowledged.

use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_storage::wal::frame::HEADER_BYTES;
use quorate_storage::wal::{Record, payload_bytes_max};

use crate::log_world::SEGMENT_BYTES;

/// A record as the twin keeps it.
pub type Kept = Record<Rc<[u8]>>;

/// One operation of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A promise of the next ballot.
    Promise,
    /// A short entry for the next slot.
    Small,
    /// An entry for the next slot whose frame fills a block to its last byte, every sector of it.
    Fill,
    /// An entry for the next slot that fills a segment: it begins the next one, unless none is begun.
    Cross,
    /// Another entry for the last slot, under the ballot promised last.
    Again,
    /// The watermark, up to the last slot.
    Watermark,
    /// An orderly stop, and a start.
    Stop,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Promise,
        Self::Small,
        Self::Fill,
        Self::Cross,
        Self::Again,
        Self::Watermark,
        Self::Stop,
    ];
}

/// Everything appended, by frame number from 1.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    pub records: Vec<Kept>,
    /// The first so many were reported durable.
    pub acknowledged: usize,
    /// Slots below are not needed any more.
    pub released: u64,
}

impl Twin {
    /// The record that an operation appends. An entry's bytes tell its number.
    #[must_use]
    pub fn record(&self, op: Op) -> Kept {
        let number = self.records.len() + 1;
        let (ballot, slot) = (self.promised().max(1), self.slot_max());
        let accepted = |slot, payload: Vec<u8>| Record::Accepted {
            ballot,
            slot,
            payload: payload.into(),
        };
        let byte = |at: usize| (number * 37 + at * 13).to_le_bytes()[0] | 1;
        match op {
            Op::Promise => Record::Promise {
                ballot: self.promised() + 1,
            },
            Op::Small => accepted(slot + 1, (0..48).map(byte).collect()),
            Op::Again => accepted(slot.max(1), (0..64).map(byte).collect()),
            Op::Fill => accepted(slot + 1, (0..4096 - HEADER_BYTES).map(byte).collect()),
            Op::Cross => accepted(slot + 1, sparse(byte)),
            Op::Watermark => Record::Chosen { upto: slot },
            Op::Stop => Record::Clean,
        }
    }

    /// The highest slot of an entry, 0 if there is none.
    #[must_use]
    pub fn slot_max(&self) -> u64 {
        let slots = self.records.iter().map(|record| record.name());
        let entries = slots.filter(|name| name.kind == quorate_storage::wal::Kind::Accepted);
        entries.map(|name| name.slot).max().unwrap_or(0)
    }

    /// The highest promise of all records.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.sums(self.records.len()).promised
    }

    /// What the first `count` records add up to.
    #[must_use]
    pub fn sums(&self, count: usize) -> Sums {
        let mut sums = Sums::default();
        for record in &self.records[..count] {
            match record {
                Record::Promise { ballot } => sums.promised = sums.promised.max(*ballot),
                Record::Chosen { upto } => sums.chosen_upto = sums.chosen_upto.max(*upto),
                Record::Clean => {}
                Record::Accepted {
                    ballot,
                    slot,
                    payload,
                } => {
                    sums.promised = sums.promised.max(*ballot);
                    let newest = sums
                        .newest
                        .entry(*slot)
                        .or_insert((*ballot, payload.clone()));
                    if newest.0 <= *ballot {
                        *newest = (*ballot, payload.clone());
                    }
                }
            }
        }
        sums
    }
}

/// What a prefix of the log means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub promised: u64,
    pub chosen_upto: u64,
    /// Ballot and bytes of the newest entry of each slot.
    pub newest: BTreeMap<u64, (u64, Rc<[u8]>)>,
}

/// A payload of a whole segment with something only in its first, a middle and its last sector: few
/// enough sectors that each has a fate of its own.
fn sparse(byte: impl Fn(usize) -> u8) -> Vec<u8> {
    let mut payload = vec![0; payload_bytes_max(SEGMENT_BYTES as u64)];
    let end = payload.len();
    for at in [0, end / 2, end - 16] {
        for (place, to) in payload[at..at + 16].iter_mut().enumerate() {
            *to = byte(at + place);
        }
    }
    payload
}
