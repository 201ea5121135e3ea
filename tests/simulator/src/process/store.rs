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
use quorate_protocol::ids::AccountId;
use quorate_protocol::input::Input;
use quorate_protocol::snapshot::{Message, Part};
use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::{BlockRef, BlockRun, Operation, Read, Unreadable};

use super::{Started, TEMPORARY, length};
use crate::disk::{SimDisk, WriteMark};
use crate::exit::Exit;

/// What the world has to know of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEffect {
    /// An operation has started; call [`Process::store_operated`] when it ends. Some are in force, but not
    /// durable, before: call [`Process::store_middle`] then.
    ///
    /// [`Process::store_operated`]: super::Process::store_operated
    /// [`Process::store_middle`]: super::Process::store_middle
    OperationStarted { bytes: usize, has_middle: bool },
    /// Blocks are being read; call [`super::Process::store_loaded`] when they are there.
    LoadStarted(Reader),
    /// A checkpoint is in the store for good; whether the beginning of the history is not.
    Published { drops: bool },
    /// What a question of the core needs is not what was written.
    Damaged(String),
    /// The core has ended: the log cannot help it any more.
    RebuildStarted,
    /// A chunk was not what was asked for, or not what was written.
    ChunkRefused,
    /// The checkpoint that was being taken is gone at the one that was asked.
    RebuildBegunAgain,
    /// With a new core, or without.
    RebuildEnded(Result<Started, String>),
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct OpenOperation {
    operation: Operation,
    /// Where a sync began.
    mark: WriteMark,
    /// Its file has its name, which is not durable yet.
    pub(super) is_renamed: bool,
}

/// The store beside a running core.
#[derive(Debug)]
pub(super) struct StoreTask {
    pub(super) keeper: Keeper,
    pub(super) open: Option<OpenOperation>,
    questions: VecDeque<Question>,
    /// Runs of blocks that were read, if they are kept: what is published never changes.
    kept: Option<BTreeMap<(BlockRef, u32), Vec<u8>>>,
    /// Reads under way, in the order in which they end: at most one for the core and one for the keeper.
    reading: VecDeque<(Reader, BlockRun)>,
    /// A page of accounts that the core waits for.
    listing: Option<Listing>,
}

/// Who waits for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl OpenOperation {
    /// Begins an operation: what a process does at once is done here.
    pub(super) fn begin(
        operation: Operation,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) -> Self {
        let mut bytes_written = 0;
        match &operation {
            Operation::Create { file } => {
                disk.create(&file.file_name());
            }
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                let file = disk.open(&file.file_name()).expect("created before");
                disk.write(file, length(*offset), bytes);
                bytes_written = bytes.len();
            }
            Operation::Remove { file } => {
                disk.remove(&file.file_name());
            }
            Operation::Retract { generation } => {
                disk.remove(generation.file_name());
            }
            Operation::Publish { bytes, .. } => bytes_written = bytes.len(),
            Operation::Sync { .. } | Operation::SyncDirectory => {}
        }
        effects.push(StoreEffect::OperationStarted {
            bytes: bytes_written,
            has_middle: matches!(operation, Operation::Publish { .. }),
        });
        Self {
            operation,
            mark: disk.mark(),
            is_renamed: false,
        }
    }

    /// The manifest is complete and gets its name, not yet for good.
    pub(super) fn middle(&mut self, disk: &mut SimDisk) -> Result<(), Exit> {
        let Operation::Publish { generation, bytes } = &self.operation else {
            return Ok(());
        };
        let name = generation.file_name();
        let temporary = format!("{name}{TEMPORARY}");
        let file = disk.create(&temporary);
        if disk.is_out_of_room() || disk.take_write_error() {
            return Err(Exit::WriteFailed);
        }
        disk.write(file, 0, bytes);
        if disk.take_sync_error() {
            return Err(Exit::SyncFailed);
        }
        if !planted(Bug::ManifestNotSynced) {
            let mark = disk.mark();
            disk.synced(file, mark);
        }
        assert!(disk.rename(&temporary, name), "made above");
        self.is_renamed = true;
        self.mark = disk.mark();
        Ok(())
    }

    /// The operation has ended.
    pub(super) fn end(self, disk: &mut SimDisk) -> Result<Operation, Exit> {
        match &self.operation {
            Operation::Create { .. } => {
                if disk.is_out_of_room() {
                    return Err(Exit::WriteFailed);
                }
            }
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                if disk.is_out_of_room() {
                    return Err(Exit::WriteFailed);
                }
                if disk.take_write_error() {
                    let file = disk.open(&file.file_name()).expect("created before");
                    disk.fail_write(file, length(*offset), bytes.len());
                    return Err(Exit::WriteFailed);
                }
            }
            Operation::Sync { file } => {
                if disk.take_sync_error() {
                    return Err(Exit::SyncFailed);
                }
                let file = disk.open(&file.file_name()).expect("created before");
                disk.synced(file, self.mark);
            }
            Operation::SyncDirectory | Operation::Publish { .. } | Operation::Retract { .. } => {
                if disk.take_sync_error() {
                    return Err(Exit::SyncFailed);
                }
                if !planted(Bug::SkipDirectorySync) {
                    disk.directory_synced(self.mark);
                }
            }
            Operation::Remove { .. } => {}
        }
        Ok(self.operation)
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
    pub(super) fn new(keeper: Keeper) -> Self {
        Self {
            keeper,
            open: None,
            questions: VecDeque::new(),
            reading: VecDeque::new(),
            listing: None,
            kept: None,
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
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) -> Option<Input> {
        if self.open.is_none()
            && let Some(operation) = self.keeper.next_operation()
        {
            self.open = Some(OpenOperation::begin(operation, disk, effects));
        }
        let mut reading = self.reading.iter();
        if reading.any(|(reader, _)| *reader != Reader::Keeper) {
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
            if let Err(problem) = self.feed(reader, run, &bytes) {
                effects.push(StoreEffect::Damaged(problem));
                return None;
            }
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

    /// Gives blocks to whoever waits for them; what is wrong with them if anything is.
    fn feed(&mut self, reader: Reader, run: BlockRun, bytes: &[u8]) -> Result<(), String> {
        if reader == Reader::Keeper {
            return self.keeper.feed(bytes).map_err(|damage| damage.to_string());
        }
        let (store, index) = (self.keeper.store(), self.keeper.index());
        if reader == Reader::Page {
            let listing = self.listing.as_mut().expect("it asked for them");
            let fed = listing.feed(store, index, bytes);
            return fed.map_err(|damage| damage.to_string());
        }
        let question = self.questions.front_mut().expect("it asked for them");
        match reader {
            Reader::Accounts => question.feed_account(store, run.first, bytes),
            _ => question
                .feed(store, bytes)
                .map_err(|(place, problem)| format!("{place:?}: {problem}")),
        }
    }

    /// Begins to read what the keeper moves.
    pub(super) fn read_for_keeper(&mut self, run: BlockRun) -> StoreEffect {
        self.reading.push_back((Reader::Keeper, run));
        StoreEffect::LoadStarted(Reader::Keeper)
    }

    /// The blocks that were being read are there. Gives what is wrong with them, if anything is.
    pub(super) fn loaded(&mut self, disk: &mut SimDisk) -> Result<Option<String>, Exit> {
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
            return Ok(None);
        }
        read.map_err(|Unreadable| Exit::ReadFailed)?;
        let fed = self.feed(reader, run, &bytes);
        if fed.is_ok()
            && let Some(kept) = &mut self.kept
        {
            kept.insert((run.first, run.blocks), bytes);
        }
        Ok(fed.err())
    }

    /// What another replica of the group is told.
    pub(super) fn serve(&self, disk: &SimDisk, part: Part, offset: u64) -> Message {
        match serve::answer(self.keeper.store(), part, offset) {
            Answer::Say(message) => message,
            Answer::Read(read) => read_chunk(disk, &read),
        }
    }
}

fn read_chunk(disk: &SimDisk, read: &FileRead) -> Message {
    let mut bytes = vec![0; read.bytes];
    match Files(disk).read(&read.file.file_name(), read.offset, &mut bytes) {
        Ok(()) => read.chunk(&bytes),
        Err(Unreadable) => read.gone(),
    }
}
