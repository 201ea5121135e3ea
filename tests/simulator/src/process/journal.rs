//! The log of a running replica: flushes, segments, reads, one of each at a time.

use quorate_durable::log::{entry_of, to_wal};
use quorate_protocol::config::LostRecord;
use quorate_protocol::ids::{Ballot, PersistSeq, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::output::Record;
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::time::Now;
use quorate_protocol::words::Words;
use quorate_storage::planted::{Bug, planted};
use quorate_storage::wal::{Flush, Operation};

use super::running::Running;
use super::{Effect, Process, TEMPORARY, length};
use crate::disk::{SimDisk, WriteMark};
use crate::exit::Exit;

/// A read of the log under way. What it finds is what is there when it ends: a checkpoint may have released
/// some of it by then.
#[derive(Clone, Copy, Debug)]
pub struct LogRead {
    pub from: Slot,
    pub(super) upto: Slot,
    pub(super) bytes_max: usize,
}

/// A flush under way.
pub(super) struct OpenFlush {
    pub(super) flush: Flush<Words>,
    pub(super) mark: WriteMark,
    /// All of it goes where it belongs.
    pub(super) whole: bool,
}

impl Process {
    /// The open flush is on stable storage.
    ///
    /// # Errors
    /// If the disk reports an error instead.
    ///
    /// # Panics
    /// If none is open.
    pub fn flush_done(&mut self, now: Now) -> Result<Vec<Effect>, Exit> {
        let running = self.running.as_mut().expect("only running processes flush");
        let OpenFlush { flush, mark, whole } = running.flush.take().expect("a flush is open");
        let file = self.disk.open(&flush.segment().file_name());
        let file = file.expect("segments stay");
        if !whole {
            // It did its harm, whatever is reported now.
            self.health.flushed(flush.segment(), flush.offset(), false);
        }
        // One write with O_DSYNC: an error of either part is an error of the write.
        if self.disk.take_write_error() {
            let offset = length(flush.offset());
            self.disk.fail_write(file, offset, flush.length());
            return Err(Exit::WriteFailed);
        }
        if self.disk.take_sync_error() {
            return Err(Exit::WriteFailed);
        }
        if !planted(Bug::SkipSync) {
            self.disk.synced(file, mark);
        }
        if whole {
            self.health.flushed(flush.segment(), flush.offset(), true);
        }
        let upto = PersistSeq(running.wal.finish_flush(flush));
        running.durable_upto = upto;
        running.holds_back = false;
        Ok(self.step(now, Input::Durable { upto }))
    }

    /// The file of the open operation is complete and gets its name, not yet for good.
    ///
    /// # Errors
    /// If records wait for it and there is no room, or the disk reports an error.
    ///
    /// # Panics
    /// If no operation is open.
    pub fn operation_renamed(&mut self) -> Result<Vec<Effect>, Exit> {
        let running = self.running.as_mut().expect("checked by the world");
        let (from, to) = match running.operation.expect("an operation is open") {
            Operation::Prepare { segment } => {
                let name = segment.file_name();
                let temporary = format!("{name}{TEMPORARY}");
                let segment_bytes = length(self.superblock.identity.segment_bytes);
                if !self.disk.finds_room(segment_bytes) {
                    return self.outlive();
                }
                if self.disk.take_write_error() {
                    self.disk.create(&temporary);
                    return Err(Exit::WriteFailed);
                }
                if self.disk.take_sync_error() {
                    self.disk.create(&temporary);
                    return Err(Exit::SyncFailed);
                }
                self.disk.create_zeroed(&temporary, segment_bytes);
                (temporary, name)
            }
            Operation::Recycle { from, to } => (from.file_name(), to.file_name()),
        };
        assert!(self.disk.rename(&from, &to), "{from} exists");
        running.is_renamed = true;
        Ok(vec![Effect::OperationRenamed])
    }

    /// Goes on without the segment that found no room, unless records wait for it.
    fn outlive(&mut self) -> Result<Vec<Effect>, Exit> {
        let running = self.running.as_mut().expect("checked by the caller");
        let mut effects = vec![Effect::Happened("segment_without_room")];
        if !running.room.outlives(running.is_starved, &mut self.disk) {
            self.disk.faults.add("log_without_room");
            return Err(Exit::WriteFailed);
        }
        let operation = running.operation.take().expect("an operation is open");
        running.wal.give_up_operation(operation);
        running.write(&mut self.disk, &mut effects);
        Ok(effects)
    }

    /// The log may look for room again.
    pub fn retry_segment(&mut self, now: Now) -> Vec<Effect> {
        let running = self.running.as_mut().expect("checked by the world");
        running.holds_back = false;
        self.go_on(now)
    }

    /// The directory of the open operation is synced.
    ///
    /// # Errors
    /// If the disk reports an error instead.
    ///
    /// # Panics
    /// If no operation is open.
    pub fn operation_done(&mut self) -> Result<Vec<Effect>, Exit> {
        if self.disk.take_sync_error() {
            return Err(Exit::SyncFailed);
        }
        let running = self.running.as_mut().expect("checked by the world");
        running.is_renamed = false;
        let operation = running.operation.take().expect("an operation is open");
        if !planted(Bug::SkipDirectorySync) {
            let mark = self.disk.mark();
            self.disk.directory_synced(mark);
        }
        running.wal.finish_operation(operation);
        let mut effects = Vec::new();
        running.write(&mut self.disk, &mut effects);
        Ok(effects)
    }

    /// A read of the log that was started has ended.
    ///
    /// # Errors
    /// If the disk reports an error instead.
    ///
    /// # Panics
    /// If the process does not run.
    pub fn read_done(&mut self, now: Now, read: LogRead) -> Result<Vec<Effect>, Exit> {
        if self.disk.take_read_error() {
            return Err(Exit::ReadFailed);
        }
        let running = self.running.as_ref().expect("only running processes read");
        let answer = running.read_log(&self.disk, read);
        Ok(self.step(now, answer))
    }
}

impl Running {
    pub(super) fn persist(&mut self, seq: PersistSeq, record: Record, effects: &mut Vec<Effect>) {
        self.seq_last = seq;
        if let Record::Accepted {
            ballot,
            slot,
            entry,
        } = &record
        {
            if self.room.is_told_full() && self.leading == Some(entry.origin()) {
                let entry = entry.clone();
                effects.push(Effect::ProposedOnFullDisk { entry });
            }
            let logged = LoggedEntry {
                slot: *slot,
                accepted: *ballot,
                entry: entry.clone(),
            };
            let known = self.log.entry(*slot).or_insert(logged.clone());
            if known.accepted <= *ballot {
                *known = logged;
            }
        }
        self.wal.append(seq.0, to_wal(record));
    }

    pub(super) fn read_log(&self, disk: &SimDisk, read: LogRead) -> Input {
        let LogRead {
            from,
            upto,
            bytes_max,
        } = read;
        let mut entries: Vec<LoggedEntry> = Vec::new();
        let mut lost = None;
        let mut bytes = 0;
        for slot in from.0..=upto.0 {
            let Some(location) = self.wal.locate(slot) else {
                break;
            };
            bytes += usize::try_from(location.length).expect("a u32 fits");
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            let file = disk.open(&location.segment.file_name());
            let content = disk.bytes(file.expect("segments stay"));
            let at = usize::try_from(location.offset).expect("a u32 fits");
            let (slot, accepted) = (Slot(slot), Ballot(location.ballot));
            let Ok(frame) = self.wal.decode(&content[at..], &location) else {
                // Rotten since it was written: the core gets it back from a peer.
                lost = Some(LostRecord { slot, accepted });
                break;
            };
            entries.push(LoggedEntry {
                slot,
                accepted,
                entry: entry_of(frame.payload).expect("what the core wrote is an entry"),
            });
        }
        Input::LogRead {
            from,
            entries,
            lost,
        }
    }

    /// Starts a flush and a file operation, if there is something to do and none is open.
    pub(super) fn write(&mut self, disk: &mut SimDisk, effects: &mut Vec<Effect>) {
        let started = self.wal.start_flush();
        if started.is_none() && self.flush.is_none() {
            // What is left waits for a segment.
            let was_starved =
                std::mem::replace(&mut self.is_starved, self.durable_upto < self.seq_last);
            if self.is_starved && !was_starved {
                self.holds_back = false;
                effects.push(Effect::Happened("log_starved"));
            }
        }
        if let Some(mut flush) = started {
            let mut bytes = vec![0; flush.length()];
            flush.encode(&mut bytes);
            let file = disk.open(&flush.segment().file_name());
            let (file, offset) = (file.expect("prepared ahead"), length(flush.offset()));
            let whole = !disk.take_misdirection(file, offset, &bytes)
                && !disk.take_stale_write(file, offset, &bytes);
            if whole {
                disk.write(file, offset, &bytes);
            }
            effects.push(Effect::FlushStarted { bytes: bytes.len() });
            let mark = disk.mark();
            self.flush = Some(OpenFlush { flush, mark, whole });
        }
        self.prepare(disk, effects);
    }

    /// Begins to prepare a segment, unless the room that is left is for others.
    fn prepare(&mut self, disk: &mut SimDisk, effects: &mut Vec<Effect>) {
        if self.holds_back {
            return;
        }
        let Some(operation) = self.wal.next_operation() else {
            return;
        };
        if let Operation::Prepare { .. } = operation {
            self.room.look(disk);
        }
        if self.room.holds_back(operation, self.is_starved) {
            self.wal.give_up_operation(operation);
            self.holds_back = true;
            return effects.push(Effect::LogHoldsBack);
        }
        self.operation = Some(operation);
        effects.push(Effect::OperationStarted);
    }
}
