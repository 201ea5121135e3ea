//! Damaged blocks of the store, repaired one at a time, whoever needs them, as
//! `engine/runtime/src/store/{repair,scrub}.rs` do it: whom is asked, and what is a repair, is in
//! `quorate_durable::{repair,scrub}`.
//!
//! | who met it | if nobody can give it |
//! | --- | --- |
//! | a reader | the replica is put out of service |
//! | the scrubber | it is left for the next round |

use std::collections::VecDeque;

use quorate_durable::keeper::Keeper;
use quorate_durable::repair::{Answer, FoundWhole, Repair, Repaired, is_the_block};
use quorate_durable::scrub::{Round, damaged};
use quorate_protocol::ids::ReplicaId;
use quorate_protocol::snapshot::Message;
use quorate_storage::BLOCK_BYTES;
use quorate_storage::store::{BlockRef, BlockRun, Read};

use super::store::{Files, Reader, StoreEffect};
use super::{length, store};
use crate::disk::{SimDisk, WriteMark};
use crate::exit::Exit;

/// Who waits for a block.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waiter {
    /// With what it found wrong.
    Reader(Reader, String),
    Scrubber,
}

/// A repair under way.
#[derive(Debug)]
struct Open {
    repair: Repair,
    waiter: Waiter,
    /// Of the question that is open.
    question: u64,
    /// What is being written over the block, and where that began.
    writing: Option<(Vec<u8>, WriteMark)>,
}

/// Repairs of a running replica.
#[derive(Debug)]
pub(super) struct Mender {
    group: Vec<ReplicaId>,
    waiting: VecDeque<(BlockRef, Waiter)>,
    open: Option<Open>,
    /// Questions so far.
    questions: u64,
    /// The last one that each reader said to be damaged and that was not.
    found_whole: FoundWhole<Reader>,
    round: Option<Round>,
    /// Blocks that the keeper wants while one of them is repaired.
    pub(super) held: Option<BlockRun>,
}

impl Mender {
    pub(super) fn new(group: Vec<ReplicaId>) -> Self {
        Self {
            group,
            waiting: VecDeque::new(),
            open: None,
            questions: 0,
            found_whole: FoundWhole::default(),
            round: None,
            held: None,
        }
    }

    /// Whether a reader waits for a block.
    pub(super) fn holds(&self, is_held: impl Fn(Reader) -> bool) -> bool {
        let open = self.open.iter().map(|open| &open.waiter);
        let waiting = self.waiting.iter().map(|(_, waiter)| waiter);
        open.chain(waiting).any(|waiter| match waiter {
            Waiter::Reader(reader, _) => is_held(*reader),
            Waiter::Scrubber => false,
        })
    }

    /// A reader got what it wanted.
    pub(super) fn note_taken(&mut self, reader: Reader) {
        self.found_whole.note_taken(&reader);
    }

    /// A reader met a block that is not what was written.
    pub(super) fn mend(
        &mut self,
        (place, problem): (BlockRef, String),
        reader: Reader,
        (keeper, disk): (&mut Keeper, &mut SimDisk),
        effects: &mut Vec<StoreEffect>,
    ) {
        self.waiting
            .push_back((place, Waiter::Reader(reader, problem)));
        self.go_on(keeper, disk, effects);
    }

    /// Reads on, if it has nothing to repair.
    pub(super) fn scrub(
        &mut self,
        may_begin: bool,
        (keeper, disk): (&mut Keeper, &mut SimDisk),
        effects: &mut Vec<StoreEffect>,
    ) -> bool {
        let is_scrubbers = |waiter: &Waiter| *waiter == Waiter::Scrubber;
        let mut waiting = self.waiting.iter();
        if waiting.any(|(_, waiter)| is_scrubbers(waiter))
            || self.open.iter().any(|open| is_scrubbers(&open.waiter))
        {
            return true;
        }
        if self.round.is_none() && may_begin {
            self.round = Some(Round::new(keeper.store()));
        }
        let Some(round) = &mut self.round else {
            return false;
        };
        let Some(run) = round.next_run(keeper.store()) else {
            self.round = None;
            effects.push(StoreEffect::Happened("store_scrubbed"));
            return false;
        };
        let bytes = store::read_run(disk, run);
        for place in damaged(keeper.store(), run, bytes.as_deref()) {
            self.waiting.push_back((place, Waiter::Scrubber));
        }
        self.go_on(keeper, disk, effects);
        true
    }

    /// A replica of the group has answered.
    pub(super) fn take_answer(
        &mut self,
        from: ReplicaId,
        message: &Message,
        (keeper, disk): (&mut Keeper, &mut SimDisk),
        effects: &mut Vec<StoreEffect>,
    ) {
        let Some(open) = self.open.as_mut().filter(|open| open.writing.is_none()) else {
            return;
        };
        let place = open.repair.place();
        match open.repair.answer(from, message) {
            Answer::Other => return,
            Answer::Nothing => self.ask(effects),
            Answer::Block(_) if !keeper.store().has(place.file) => {
                self.end(Repaired::Dropped, effects);
            }
            Answer::Block(bytes) if is_the_block(keeper.store(), place, &bytes) => {
                let file = disk.open(&place.file.file_name());
                let file = file.expect("a file of the store stays");
                disk.write(file, length(place.offset()), &bytes);
                open.writing = Some((bytes, disk.mark()));
                effects.push(StoreEffect::WritingOver);
            }
            Answer::Block(_) => {
                effects.push(StoreEffect::Happened("repair_refused"));
                self.ask(effects);
            }
        }
        self.go_on(keeper, disk, effects);
    }

    /// Nobody has answered this question.
    pub(super) fn time_out(
        &mut self,
        question: u64,
        (keeper, disk): (&mut Keeper, &mut SimDisk),
        effects: &mut Vec<StoreEffect>,
    ) {
        let is_open = |open: &Open| open.question == question && open.writing.is_none();
        if self.open.as_ref().is_some_and(is_open) {
            self.ask(effects);
            self.go_on(keeper, disk, effects);
        }
    }

    /// The block is written and synced.
    pub(super) fn written(
        &mut self,
        (keeper, disk): (&mut Keeper, &mut SimDisk),
        effects: &mut Vec<StoreEffect>,
    ) -> Result<(), Exit> {
        let open = self.open.as_mut().expect("a repair is open");
        let (bytes, mark) = open.writing.take().expect("its block is written");
        let place = open.repair.place();
        // A file that was dropped meanwhile is open still.
        let Some(file) = disk.open(&place.file.file_name()) else {
            self.end(Repaired::Dropped, effects);
            self.go_on(keeper, disk, effects);
            return Ok(());
        };
        if disk.take_write_error() {
            disk.fail_write(file, length(place.offset()), bytes.len());
            return Err(Exit::WriteFailed);
        }
        if disk.take_sync_error() {
            return Err(Exit::SyncFailed);
        }
        disk.synced(file, mark);
        let repaired = match keeper.adopt_repaired(place, &bytes) {
            Ok(()) => Repaired::Written,
            // It was held against its place before it was written: its file is gone.
            Err(_) => Repaired::Dropped,
        };
        effects.push(StoreEffect::WrittenOver(place));
        self.end(repaired, effects);
        self.go_on(keeper, disk, effects);
        Ok(())
    }

    /// Begins the next repair.
    fn go_on(&mut self, keeper: &mut Keeper, disk: &mut SimDisk, effects: &mut Vec<StoreEffect>) {
        while self.open.is_none()
            && let Some((place, waiter)) = self.waiting.pop_front()
        {
            self.open = Some(Open {
                repair: Repair::new(place, self.group.clone()),
                waiter,
                question: self.questions,
                writing: None,
            });
            match look_again(place, keeper, disk) {
                Some(found) => self.end(found, effects),
                None => self.ask(effects),
            }
        }
    }

    fn ask(&mut self, effects: &mut Vec<StoreEffect>) {
        let open = self.open.as_mut().expect("a repair is open");
        let Some((to, message)) = open.repair.next_question() else {
            return self.end(Repaired::Not, effects);
        };
        self.questions += 1;
        open.question = self.questions;
        effects.push(StoreEffect::Ask {
            to,
            message,
            question: self.questions,
        });
    }

    fn end(&mut self, repaired: Repaired, effects: &mut Vec<StoreEffect>) {
        let Open { repair, waiter, .. } = self.open.take().expect("a repair is open");
        let place = repair.place();
        if repaired == Repaired::Written {
            effects.push(StoreEffect::Happened(match waiter {
                Waiter::Reader(..) => "block_repaired_for_reader",
                Waiter::Scrubber => "block_repaired_by_scrubber",
            }));
        }
        let Waiter::Reader(reader, problem) = waiter else {
            if repaired == Repaired::Not {
                effects.push(StoreEffect::Happened("block_left_damaged"));
            }
            return;
        };
        if !self.found_whole.may_read_again(reader, place, repaired) {
            let (place, problem) = (Some(place), format!("{place:?}: {problem}"));
            effects.push(StoreEffect::Damaged { place, problem });
        }
    }
}

/// What there is to say without a peer.
fn look_again(place: BlockRef, keeper: &mut Keeper, disk: &SimDisk) -> Option<Repaired> {
    if !keeper.store().has(place.file) {
        return Some(Repaired::Dropped);
    }
    let name = place.file.file_name();
    if disk.open(&name).is_none() {
        return Some(Repaired::Not);
    }
    let mut bytes = vec![0; length(u64::from(BLOCK_BYTES))];
    Files(disk).read(&name, place.offset(), &mut bytes).ok()?;
    let adopted = keeper.adopt_repaired(place, &bytes);
    adopted.is_ok().then_some(Repaired::Whole)
}
