//! The store of a running replica: its file operations one at a time, and the questions of the core about
//! transfer ids, one at a time as well.
//!
//! An operation begins when it is given out and ends one or two events later. What of it a crash in
//! between keeps is the disk's to decide.

use std::collections::{BTreeMap, VecDeque};

use quorate_durable::keeper::Keeper;
use quorate_durable::listing::Listing;
use quorate_durable::question::{Question, Wanted};
use quorate_durable::serve::{self, Answer, FileRead};
use quorate_protocol::ids::{AccountId, ReplicaId};
use quorate_protocol::input::Input;
use quorate_protocol::snapshot::{Message, Part};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::{BlockRef, BlockRun, Damage, Operation, Read, Unreadable};

use super::mend::Mender;
use super::room::RoomTask;
use super::writes::Writes;
use super::{Started, length};
use crate::disk::SimDisk;
use crate::exit::Exit;

/// What the world has to know of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreEffect {
    /// An operation has started; call [`Process::store_operated`] when it ends. Some are in force, but not
    /// durable, before: call [`Process::store_middle`] then.
    ///
    /// [`Process::store_operated`]: super::Process::store_operated
    /// [`Process::store_middle`]: super::Process::store_middle
    OperationStarted { bytes: usize, has_middle: bool },
    /// It is halfway; call [`super::Process::store_operated`] when it ends.
    OperationNamed,
    /// It found no room; call [`super::Process::store_retried`], at once if the reserve was given back.
    WaitsForRoom { given_back: bool },
    /// Blocks are being read; call [`super::Process::store_loaded`] when they are there.
    LoadStarted(Reader),
    /// A checkpoint is in the store for good; whether the beginning of the history is not. And what a start
    /// would make of it.
    Published {
        drops: bool,
        reopened: Result<(), String>,
    },
    /// What somebody needs is not what was written, and nobody can give it.
    Damaged {
        place: Option<BlockRef>,
        problem: String,
    },
    /// Ask a replica of the group for a block; call [`super::Process::repair_timed_out`] when it does not answer.
    Ask {
        to: ReplicaId,
        message: Message,
        question: u64,
    },
    /// A block is being written over; call [`super::Process::block_written`] when it is synced.
    WritingOver,
    /// It is.
    WrittenOver(BlockRef),
    /// Something that is counted.
    Happened(&'static str),
    /// The core has ended: the log cannot help it any more.
    RebuildStarted,
    /// A chunk was not what was asked for, or not what was written.
    ChunkRefused,
    /// The checkpoint that was being taken is gone at the one that was asked.
    RebuildBegunAgain,
    /// With a new core, or without.
    RebuildEnded(Result<Started, String>),
}

/// The store beside a running core.
#[derive(Debug)]
pub(super) struct StoreTask {
    pub(super) keeper: Keeper,
    pub(super) writes: Writes,
    /// Something happened after which an operation may be due. Whoever writes looks only then, as the runtime's does.
    pub(super) write_wanted: bool,
    questions: VecDeque<Question>,
    /// Runs of blocks that were read, if they are kept: what is published never changes.
    kept: Option<BTreeMap<(BlockRef, u32), Vec<u8>>>,
    /// Reads under way, in the order in which they end: at most one for the core and one for the keeper.
    reading: VecDeque<(Reader, BlockRun)>,
    /// A page of accounts that the core waits for.
    listing: Option<Listing>,
    pub(super) mender: Mender,
}

/// What is wrong with blocks that were read, and with which.
struct Fault {
    place: Option<BlockRef>,
    problem: String,
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        let place = match damage {
            Damage::Block { place, .. } => Some(place),
            _ => None,
        };
        let problem = damage.to_string();
        Self { place, problem }
    }
}

/// Who waits for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reader {
    /// The front question: ids of transfers.
    Question,
    /// The front question: accounts.
    Accounts,
    /// The page.
    Page,
    /// The keeper, which moves rows.
    Keeper,
}

/// What the core gets next.
enum Next {
    Tell(Input),
    Read(Reader, BlockRun),
}

/// A disk as the store reads it.
pub(super) struct Files<'a>(pub(super) &'a SimDisk);

impl Read for Files<'_> {
    fn read(&mut self, name: &str, offset: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        let file = self.0.open(name).ok_or(Unreadable)?;
        let start = length(offset);
        let found = self.0.bytes(file).get(start..start + out.len());
        out.copy_from_slice(found.ok_or(Unreadable)?);
        Ok(())
    }
}

/// Carries out what opening a store asks for.
pub(super) fn repair(operation: &Operation, disk: &mut SimDisk) {
    match operation {
        Operation::SyncDirectory => {
            let mark = disk.mark();
            disk.directory_synced(mark);
        }
        Operation::Remove { file } => {
            disk.remove(&file.file_name());
        }
        Operation::Create { .. }
        | Operation::Write { .. }
        | Operation::Sync { .. }
        | Operation::Publish { .. }
        | Operation::Retract { .. } => unreachable!("no repair: {operation:?}"),
    }
}

impl StoreTask {
    pub(super) fn new(keeper: Keeper, group: Vec<ReplicaId>) -> Self {
        Self {
            keeper,
            writes: Writes::default(),
            write_wanted: false,
            questions: VecDeque::new(),
            reading: VecDeque::new(),
            listing: None,
            kept: None,
            mender: Mender::new(group),
        }
    }

    /// Reads nothing twice from now on.
    pub(super) fn keep_blocks(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The core asks for rows.
    pub(super) fn ask(&mut self, question: Question) {
        self.questions.push_back(question);
    }

    /// The core asks for a page of accounts.
    pub(super) fn list(&mut self, after: AccountId, limit: usize) {
        assert!(self.listing.is_none(), "one page at a time");
        self.listing = Some(Listing::new(self.keeper.store(), after, limit));
    }

    /// Begins what can begin; gives an answer that needed no read.
    pub(super) fn go_on(
        &mut self,
        room: &mut RoomTask,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) -> Option<Input> {
        self.begin_write(room, disk, effects);
        let mut reading = self.reading.iter();
        let is_cores = |reader: Reader| reader != Reader::Keeper;
        if reading.any(|(reader, _)| is_cores(*reader)) || self.mender.holds(is_cores) {
            return None;
        }
        loop {
            let (reader, run) = match self.wanted()? {
                Next::Read(reader, run) => (reader, run),
                Next::Tell(input) => return Some(input),
            };
            let kept = self.kept.as_ref();
            let Some(bytes) = kept.and_then(|kept| kept.get(&(run.first, run.blocks))) else {
                self.reading.push_back((reader, run));
                effects.push(StoreEffect::LoadStarted(reader));
                return None;
            };
            let bytes = bytes.clone();
            match self.feed(reader, run, &bytes) {
                Ok(()) => self.mender.note_taken(reader),
                Err(fault) => {
                    self.mend(reader, fault, disk, effects);
                    if self.mender.holds(is_cores) || !effects.is_empty() {
                        return None;
                    }
                }
            }
        }
    }

    /// The keeper has stepped and goes on. With every other checkpoint what is due is begun at once, so that files are
    /// written in pieces; else when nothing is left to step, so that a write takes all that waits.
    pub(super) fn stepped(
        &mut self,
        room: &mut RoomTask,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) {
        self.write_wanted = true;
        if self.keeper.store().manifest().number.is_multiple_of(2) {
            self.begin_write(room, disk, effects);
        }
    }

    fn begin_write(
        &mut self,
        room: &mut RoomTask,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) {
        if !self.write_wanted || !self.writes.is_idle() {
            return;
        }
        match self.keeper.next_operation() {
            Some(operation) => self.writes.begin(operation, room, disk, effects),
            None => self.write_wanted = false,
        }
    }

    /// What the core waits for.
    fn wanted(&mut self) -> Option<Next> {
        let (store, index) = (self.keeper.store(), self.keeper.index());
        let Some(question) = self.questions.front_mut() else {
            return match self.listing.as_mut()?.wanted(store) {
                Some(run) => Some(Next::Read(Reader::Page, run)),
                None => {
                    let ids = self.listing.take().map(Listing::into_ids)?;
                    Some(Next::Tell(Input::Listed { ids }))
                }
            };
        };
        Some(match question.wanted(store, index) {
            Wanted::Nothing => Next::Tell(self.questions.pop_front()?.answer()),
            Wanted::Blocks(run) => Next::Read(Reader::Question, run),
            Wanted::Accounts => {
                let first = question.account_blocks().next().expect("it wants one");
                Next::Read(Reader::Accounts, BlockRun { first, blocks: 1 })
            }
        })
    }

    fn mend(
        &mut self,
        reader: Reader,
        Fault { place, problem }: Fault,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) {
        let Some(place) = place else {
            return effects.push(StoreEffect::Damaged { place, problem });
        };
        effects.push(StoreEffect::Happened("reader_met_damage"));
        let files = (&mut self.keeper, disk);
        self.mender.mend((place, problem), reader, files, effects);
    }

    /// The keeper's read may begin.
    pub(super) fn read_held(&mut self) -> Option<StoreEffect> {
        if self.mender.holds(|reader| reader == Reader::Keeper) {
            return None;
        }
        let run = self.mender.held.take()?;
        Some(self.read_for_keeper(run))
    }

    /// Gives blocks to whoever waits for them; what is wrong with them if anything is.
    fn feed(&mut self, reader: Reader, run: BlockRun, bytes: &[u8]) -> Result<(), Fault> {
        if reader == Reader::Keeper {
            self.write_wanted = true;
            return self.keeper.feed(bytes).map_err(Fault::from);
        }
        let (store, index) = (self.keeper.store(), self.keeper.index());
        if reader == Reader::Page {
            let listing = self.listing.as_mut().expect("it asked for them");
            let fed = listing.feed(store, index, bytes);
            return fed.map_err(|damage| match Fault::from(damage) {
                Fault {
                    place: None,
                    problem,
                } => Fault {
                    place: Some(run.first),
                    problem,
                },
                fault => fault,
            });
        }
        let question = self.questions.front_mut().expect("it asked for them");
        match reader {
            Reader::Accounts => question
                .feed_account(store, run.first, bytes)
                .map_err(|problem| (run.first, problem)),
            _ => question.feed(store, bytes),
        }
        .map_err(|(place, problem)| Fault {
            place: Some(place),
            problem,
        })
    }

    /// Begins to read what the keeper moves, unless a block of it is being repaired.
    pub(super) fn wants(&mut self, run: BlockRun) -> Option<StoreEffect> {
        self.mender.held = Some(run);
        self.read_held()
    }

    fn read_for_keeper(&mut self, run: BlockRun) -> StoreEffect {
        self.reading.push_back((Reader::Keeper, run));
        StoreEffect::LoadStarted(Reader::Keeper)
    }

    /// The blocks that were being read are there.
    pub(super) fn loaded(
        &mut self,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) -> Result<(), Exit> {
        let (reader, run) = self.reading.pop_front().expect("a read is open");
        if disk.take_read_error() {
            return Err(Exit::ReadFailed);
        }
        let blocks = usize::try_from(run.blocks).expect("a few");
        let mut bytes = vec![0; blocks * length(u64::from(BLOCK_BYTES))];
        let name = run.first.file.file_name();
        let read = Files(disk).read(&name, run.first.offset(), &mut bytes);
        if reader != Reader::Keeper && !self.keeper.store().has(run.first.file) {
            // Dropped since: its rows are elsewhere.
            if reader == Reader::Accounts {
                let question = self.questions.front_mut().expect("it asked for them");
                question.look_again();
            }
            return Ok(());
        }
        read.map_err(|Unreadable| Exit::ReadFailed)?;
        let fed = self.feed(reader, run, &bytes);
        if (fed.is_ok() || planted(Bug::DamagedBlockKept))
            && let Some(kept) = &mut self.kept
        {
            kept.insert((run.first, run.blocks), bytes);
        }
        match fed {
            Ok(()) if reader != Reader::Keeper => self.mender.note_taken(reader),
            Ok(()) => {}
            Err(fault) => self.mend(reader, fault, disk, effects),
        }
        Ok(())
    }

    /// What another replica of the group is told.
    pub(super) fn serve(&self, disk: &SimDisk, part: Part, offset: u64) -> Message {
        match serve::answer(self.keeper.store(), part, offset) {
            Answer::Say(message) => message,
            Answer::Read(read) => read_chunk(disk, &read),
        }
    }
}

/// The bytes of a run, if they can be had.
pub(super) fn read_run(disk: &SimDisk, run: BlockRun) -> Option<Vec<u8>> {
    let blocks = usize::try_from(run.blocks).expect("a few");
    let mut bytes = vec![0; blocks * length(u64::from(BLOCK_BYTES))];
    let name = run.first.file.file_name();
    let read = Files(disk).read(&name, run.first.offset(), &mut bytes);
    read.ok().map(|()| bytes)
}

fn read_chunk(disk: &SimDisk, read: &FileRead) -> Message {
    let mut bytes = vec![0; read.bytes];
    match Files(disk).read(&read.file.file_name(), read.offset, &mut bytes) {
        Ok(()) => read.chunk(&bytes),
        Err(Unreadable) => read.gone(),
    }
}
