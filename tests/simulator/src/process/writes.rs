//! File operations of a store, one at a time.
//!
//! An operation begins when it is given out and ends one or two events later. What of it a crash in
//! between keeps is the disk's to decide. One that finds no room is tried again until it does, as
//! `carry_out_with_room` of the runtime has it: nothing that was written counts before it is published, so
//! a write may be repeated.

use quorate_storage::BLOCK_BYTES;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::store::Operation;

use super::room::RoomTask;
use super::store::StoreEffect;
use super::{TEMPORARY, length};
use crate::disk::{SimDisk, WriteMark};
use crate::exit::Exit;

/// The operation under way, or the one that waits for room.
#[derive(Debug, Default)]
pub(super) struct Writes {
    open: Option<OpenOperation>,
    waiting: Option<Operation>,
}

/// How an operation ended.
pub(super) enum Ended {
    Done(Operation),
    /// Not yet.
    Waits(StoreEffect),
}

/// An operation under way.
#[derive(Debug)]
struct OpenOperation {
    operation: Operation,
    /// Where a sync began.
    mark: WriteMark,
    /// It was not carried out, or not all of it.
    lacks_room: bool,
}

impl Writes {
    /// Whether the next operation may begin.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_none() && self.waiting.is_none()
    }

    /// Whether one is on its way to the disk.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Begins an operation.
    pub(super) fn begin(
        &mut self,
        operation: Operation,
        room: &mut RoomTask,
        disk: &mut SimDisk,
        effects: &mut Vec<StoreEffect>,
    ) {
        assert!(self.is_idle(), "one at a time");
        if let Operation::Create { .. } = operation {
            room.look(disk);
        }
        self.open = Some(OpenOperation::begin(operation, disk, effects));
    }

    /// Begins anew what found no room.
    pub(super) fn begin_again(&mut self, disk: &mut SimDisk, effects: &mut Vec<StoreEffect>) {
        let operation = self.waiting.take().expect("one waits");
        self.open = Some(OpenOperation::begin(operation, disk, effects));
    }

    /// The open operation is halfway.
    pub(super) fn middle(
        &mut self,
        room: &mut RoomTask,
        disk: &mut SimDisk,
    ) -> Result<StoreEffect, Exit> {
        let open = self.open.as_mut().expect("an operation is open");
        open.middle(disk)?;
        if !open.lacks_room {
            return Ok(StoreEffect::OperationNamed);
        }
        let open = self.open.take().expect("looked at above");
        Ok(self.wait(open.operation, room, disk))
    }

    /// The open operation has ended.
    pub(super) fn end(&mut self, room: &mut RoomTask, disk: &mut SimDisk) -> Result<Ended, Exit> {
        let open = self.open.take().expect("an operation is open");
        if open.lacks_room {
            return Ok(Ended::Waits(self.wait(open.operation, room, disk)));
        }
        Ok(Ended::Done(open.end(disk)?))
    }

    fn wait(
        &mut self,
        operation: Operation,
        room: &mut RoomTask,
        disk: &mut SimDisk,
    ) -> StoreEffect {
        let given_back = room.note_full(disk);
        self.waiting = Some(operation);
        StoreEffect::WaitsForRoom { given_back }
    }
}

impl OpenOperation {
    /// Begins an operation: what a process does at once is done here.
    fn begin(operation: Operation, disk: &mut SimDisk, effects: &mut Vec<StoreEffect>) -> Self {
        let mut bytes_written = 0;
        let mut lacks_room = false;
        match &operation {
            Operation::Create { file } => {
                lacks_room = !disk.finds_room(1);
                disk.create(&file.file_name());
            }
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
                lacks_room = !disk.finds_room(bytes.len());
                let whole = bytes.len();
                // What there is room for lands.
                let landed = match lacks_room {
                    true => length(disk.free()).min(whole) / BLOCK * BLOCK,
                    false => whole,
                };
                let file = disk.open(&file.file_name()).expect("created before");
                disk.write(file, length(*offset), &bytes[..landed]);
                bytes_written = landed;
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
            lacks_room,
        }
    }

    /// The manifest is complete and gets its name, not yet for good.
    fn middle(&mut self, disk: &mut SimDisk) -> Result<(), Exit> {
        let Operation::Publish { generation, bytes } = &self.operation else {
            return Ok(());
        };
        let name = generation.file_name();
        let temporary = format!("{name}{TEMPORARY}");
        let file = disk.create(&temporary);
        if !disk.finds_room(bytes.len()) {
            self.lacks_room = true;
            return Ok(());
        }
        if disk.take_write_error() {
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
        self.mark = disk.mark();
        Ok(())
    }

    /// The operation has ended.
    fn end(self, disk: &mut SimDisk) -> Result<Operation, Exit> {
        match &self.operation {
            Operation::Write {
                file,
                offset,
                bytes,
            } => {
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
            Operation::Create { .. } | Operation::Remove { .. } => {}
        }
        Ok(self.operation)
    }
}

const BLOCK: usize = BLOCK_BYTES as usize;
