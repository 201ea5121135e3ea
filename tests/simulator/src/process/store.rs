//! The store of a running replica: its file operations one at a time, and the questions of the core about
//! transfer ids, one at a time as well.
//!
//! An operation begins when it is given out and ends one or two events later. What of it a crash in
//! between keeps is the disk's to decide.

use std::collections::{BTreeMap, VecDeque};

use quorate_durable::keeper::Keeper;
use quorate_durable::question::{Question, Wanted};
use quorate_durable::serve::{self, Answer, FileRead};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::history::RecordName;
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
    LoadStarted,
    /// A checkpoint is in the store for good.
    Published,
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
    /// What the front question waits for.
    reading: Option<BlockRun>,
    /// Runs of blocks that were read, if they are kept: what is published never changes.
    kept: Option<BTreeMap<(BlockRef, u32), Vec<u8>>>,
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
            reading: None,
            kept: None,
        }
    }

    /// Reads nothing twice from now on.
    pub(super) fn keep_blocks(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// The core asks for rows.
    pub(super) fn ask(&mut self, question: u64, names: Vec<RecordName>) {
        self.questions.push_back(Question::new(question, names));
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
        if self.reading.is_some() {
            return None;
        }
        loop {
            let question = self.questions.front_mut()?;
            let Wanted::Blocks(run) = question.wanted(self.keeper.store()) else {
                return self.questions.pop_front().map(Question::answer);
            };
            let kept = self.kept.as_ref();
            let Some(bytes) = kept.and_then(|kept| kept.get(&(run.first, run.blocks))) else {
                self.reading = Some(run);
                effects.push(StoreEffect::LoadStarted);
                return None;
            };
            if let Err((place, problem)) = question.feed(self.keeper.store(), bytes) {
                effects.push(StoreEffect::Damaged(format!("{place:?}: {problem}")));
                return None;
            }
        }
    }

    /// The blocks that were being read are there. Gives what is wrong with them, if anything is.
    pub(super) fn loaded(&mut self, disk: &mut SimDisk) -> Result<Option<String>, Exit> {
        let run = self.reading.take().expect("a read is open");
        if disk.take_read_error() {
            return Err(Exit::ReadFailed);
        }
        let blocks = usize::try_from(run.blocks).expect("a few");
        let mut bytes = vec![0; blocks * length(u64::from(BLOCK_BYTES))];
        let name = run.first.file.file_name();
        let read = Files(disk).read(&name, run.first.offset(), &mut bytes);
        read.map_err(|Unreadable| Exit::ReadFailed)?;
        let question = self.questions.front_mut().expect("it asked for them");
        let fed = question.feed(self.keeper.store(), &bytes);
        if fed.is_ok()
            && let Some(kept) = &mut self.kept
        {
            kept.insert((run.first, run.blocks), bytes);
        }
        Ok(fed
            .err()
            .map(|(place, problem)| format!("{place:?}: {problem}")))
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
