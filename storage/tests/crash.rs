//! Any records, any flush boundaries, a crash at any moment with any sectors of the open write kept,
//! lost or garbled, several lives in a row: recovery finds exactly a prefix of what was appended, with
//! everything that was reported durable, and reports no damage.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_storage::wal::{Record, Repair, Row, Wal};

use support::{Disk, Log, OPTIONS, Payload, Sector, accepted, begin, owned, prepare};

#[derive(Clone, Debug)]
enum Step {
    Promise,
    Accept {
        slot_back: u64,
        bytes: usize,
    },
    Chosen,
    /// Begin a flush if none is open, end it if one is.
    Flush,
    Prepare,
    Release {
        keep: u64,
    },
    Crash {
        fates: Vec<Sector>,
        again: bool,
    },
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        4 => Just(Sector::Landed),
        2 => Just(Sector::Lost),
        1 => Just(Sector::Garbled),
    ];
    let bytes = prop_oneof![3 => 0..600_usize, 2 => 600..6_000_usize, 1 => 6_000..40_000_usize];
    let step = prop_oneof![
        2 => Just(Step::Promise),
        12 => (0..3_u64, bytes).prop_map(|(slot_back, bytes)| Step::Accept { slot_back, bytes }),
        2 => Just(Step::Chosen),
        8 => Just(Step::Flush),
        6 => Just(Step::Prepare),
        1 => (0..4_u64).prop_map(|keep| Step::Release { keep }),
        2 => (prop::collection::vec(fate, 1..40), any::<bool>())
            .prop_map(|(fates, again)| Step::Crash { fates, again }),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 1..120)
}

/// What should be there.
#[derive(Default)]
struct Model {
    /// Every record of the log's history, by frame number from 1.
    appended: Vec<Record<Vec<u8>>>,
    durable: usize,
    ballot: u64,
    slot: u64,
    released: u64,
}

struct World {
    disk: Disk,
    log: Log,
    model: Model,
    seq: u64,
    open: Option<(quorate_storage::wal::Flush<Payload>, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        let mut disk = Disk::formatted();
        let (_, log) = disk.open();
        Self {
            disk,
            log,
            model: Model::default(),
            seq: 0,
            open: None,
        }
    }

    fn append(&mut self, record: Record<Payload>) {
        self.seq += 1;
        self.model.appended.push(owned(&record));
        self.log.append(self.seq, record);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Promise => {
                self.model.ballot += 1;
                let ballot = self.model.ballot;
                self.append(Record::Promise { ballot });
            }
            Step::Accept { slot_back, bytes } => {
                self.model.slot += 1;
                let slot =
                    (self.model.slot - slot_back.min(self.model.slot - 1)).max(self.model.released);
                self.append(accepted(self.model.ballot, slot.max(1), bytes));
            }
            Step::Chosen => {
                let upto = self.model.slot;
                self.append(Record::Chosen { upto });
            }
            Step::Flush => self.flush(),
            Step::Prepare => prepare(&mut self.log, &mut self.disk),
            Step::Release { keep } => {
                let slot = self.model.slot.saturating_sub(keep);
                self.model.released = self.model.released.max(slot);
                self.log.release_below(self.model.released);
            }
            Step::Crash { fates, again } => self.crash(&fates, again),
            Step::Stop => self.stop(),
        }
    }

    fn flush(&mut self) {
        match self.open.take() {
            None => self.open = begin(&mut self.log),
            Some((flush, bytes)) => {
                self.disk
                    .write(flush.segment(), flush.offset(), &bytes, |_| Sector::Landed);
                let pending = self.seq - self.log.finish_flush(flush);
                self.model.durable = self.model.appended.len() - usize::try_from(pending).unwrap();
            }
        }
    }

    fn crash(&mut self, fates: &[Sector], again: bool) {
        let fate = |sector: usize| fates[sector % fates.len()];
        if let Some((flush, bytes)) = self.open.take() {
            self.disk
                .write(flush.segment(), flush.offset(), &bytes, fate);
        }
        if again {
            // The next life crashes in the middle of its repair.
            for repair in self.disk.recover().unwrap().repairs {
                if let Repair::Write {
                    segment,
                    offset,
                    bytes,
                } = repair
                {
                    let late = |sector| fate(sector + 3);
                    self.disk.write(segment, offset, &bytes, late);
                }
            }
        }
        self.reopen(false);
    }

    fn stop(&mut self) {
        self.append(Record::Clean);
        while self.log.pending() || self.open.is_some() {
            prepare(&mut self.log, &mut self.disk);
            self.flush();
        }
        self.reopen(true);
    }

    fn reopen(&mut self, stopped: bool) {
        let recovery = self
            .disk
            .recover()
            .expect("no crash makes a log unreadable");
        assert_eq!(recovery.damage, []);
        assert_eq!(recovery.clean, recovery.tail == Row::CleanStop);
        if stopped {
            assert!(recovery.clean);
        }
        if recovery.clean {
            // The marker goes when the log is opened.
            assert_eq!(self.model.appended.pop(), Some(Record::Clean));
            self.model.durable = self.model.durable.min(self.model.appended.len());
        }
        self.disk.repair(&recovery.repairs);
        let found = self.disk.records();
        let count = recovery.end.chain.number;
        let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
        let first = numbers.first().copied().unwrap_or(count + 1);
        assert_eq!(numbers, (first..=count).collect::<Vec<u64>>());
        let count = usize::try_from(count).unwrap();
        assert!((self.model.durable..=self.model.appended.len()).contains(&count));
        for (number, record) in &found {
            let wanted = &self.model.appended[usize::try_from(number - 1).unwrap()];
            assert_eq!(record, wanted);
        }
        self.model.appended.truncate(count);
        self.model.durable = count;
        self.check_sums(&recovery);
        // The repaired log is the same log, without a tear.
        let again = self.disk.recover().unwrap();
        assert_eq!(again.end.chain, recovery.end.chain);
        assert_eq!(
            (again.end.segment, again.end.offset),
            (recovery.end.segment, recovery.end.offset)
        );
        self.log = Wal::resume(recovery, OPTIONS);
        self.log.release_below(self.model.released);
        self.seq = 0;
        self.seq += 1_000;
    }

    /// Promise, watermark and index against a dumb fold over the history.
    fn check_sums(&self, recovery: &quorate_storage::wal::Recovery) {
        let (mut promised, mut chosen) = (0, 0);
        let mut newest: BTreeMap<u64, (u64, Vec<u8>)> = BTreeMap::new();
        for record in &self.model.appended {
            match record {
                Record::Promise { ballot } => promised = promised.max(*ballot),
                Record::Chosen { upto } => chosen = chosen.max(*upto),
                Record::Clean => {}
                Record::Accepted {
                    ballot,
                    slot,
                    payload,
                } => {
                    promised = promised.max(*ballot);
                    newest.insert(*slot, (*ballot, payload.clone()));
                }
            }
        }
        assert_eq!(
            (recovery.promised, recovery.chosen_upto),
            (promised, chosen)
        );
        let log: Log = Wal::resume(self.disk.recover().unwrap(), OPTIONS);
        for (slot, (ballot, payload)) in newest.range(self.model.released..) {
            let location = recovery.index.locate(*slot).expect("the slot was accepted");
            assert_eq!(location.ballot, *ballot);
            let (offset, length) = location.blocks();
            let start = usize::try_from(offset).unwrap();
            let blocks = &self.disk.segments[&location.segment][start..start + length];
            let skip = location.offset as usize - start;
            let frame = log.decode(&blocks[skip..], &location).unwrap();
            assert_eq!(frame.payload, payload);
            assert_eq!(frame.header.name.slot, *slot);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_leaves_a_prefix_with_everything_durable(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.crash(&[Sector::Lost, Sector::Landed], false);
    }
}
