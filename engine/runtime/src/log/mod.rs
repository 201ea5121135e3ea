//! The write-ahead log's shell: carries out what `quorate_storage::wal` asks for.
//!
//! Three tasks share the log and borrow it only between awaits:
//!
//! ```text
//! flusher    start_flush -> encode into a DMA buffer -> one O_DSYNC write -> finish_flush -> Durable
//! preparer   next_operation -> zero-fill or rename the segment after next -> finish_operation
//! reader     ReadLog -> locate -> one direct read per run of neighbouring frames -> LogRead
//! ```
//!
//! A segment is filled with zeros as fast as the log grows and a little faster ([`ahead`]): replicas of shards with
//! equal loads fill segments at the same time, and as fast as the disk goes they kept all flushes waiting for seconds.
//!
//! While one flush is in flight the next one fills; as soon as it is done the next is started, before
//! anything else happens. Any error ends the process: a failed write is never tried again. The one
//! exception is a disk that is full when a segment is prepared ahead: nothing is lost by that, and the
//! segments that are there have room. The room that is left, and the reserve ([`crate::room`]), are for the
//! checkpoint then, which frees segments; only a flush that waits for a segment has it prepared all the same,
//! and if that finds no room the process ends.

mod ahead;
mod files;
mod read;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_lite::future;
use glommio::Task;
use glommio::timer::sleep;
use quorate_durable::log::to_wal;
use quorate_protocol::ids::{PersistSeq, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::output::Record;
use quorate_protocol::words::Words;
use quorate_storage::wal::{self, Operation, Wal};

use crate::fatal::{Fatal, end_process};
use crate::inbox::Inbox;
use crate::limits::FULL_DISK_PAUSE;
use crate::room::Room;
use crate::wakeup::Wakeup;

pub(crate) use files::SegmentFiles;

use ahead::Ahead;

/// The log of a running replica.
pub(crate) struct Log {
    shared: Rc<Shared>,
    _tasks: [Task<()>; 3],
}

/// A read that the core asked for.
#[derive(Clone, Copy, Debug)]
struct ReadRequest {
    from: Slot,
    upto: Slot,
    bytes_max: usize,
}

struct Shared {
    wal: RefCell<Wal<Words>>,
    files: SegmentFiles,
    inbox: Rc<Inbox>,
    room: Rc<Room>,
    appended: Wakeup,
    room_wanted: Wakeup,
    read_wanted: Wakeup,
    read_request: Cell<Option<ReadRequest>>,
    /// The last number given to `append`, and the last that is durable.
    seq_last: Cell<u64>,
    durable_upto: Cell<u64>,
    flushed: Wakeup,
    /// A segment is being prepared or recycled.
    is_preparing: Cell<bool>,
    /// None is any more.
    is_closing: Cell<bool>,
    prepared: Wakeup,
    /// What a segment that is being filled waits for may have come.
    grown: Wakeup,
    /// Records wait for a segment, and the moment when that comes to be so.
    is_starved: Cell<bool>,
    starved: Wakeup,
}

impl Log {
    /// Goes on with a recovered log. What becomes durable, and what was read, is put into `inbox`.
    pub(crate) fn start(
        wal: Wal<Words>,
        files: SegmentFiles,
        inbox: Rc<Inbox>,
        room: Rc<Room>,
    ) -> Self {
        let shared = Rc::new(Shared {
            wal: RefCell::new(wal),
            files,
            inbox,
            room,
            appended: Wakeup::default(),
            room_wanted: Wakeup::default(),
            read_wanted: Wakeup::default(),
            read_request: Cell::new(None),
            seq_last: Cell::new(0),
            durable_upto: Cell::new(0),
            flushed: Wakeup::default(),
            is_preparing: Cell::new(false),
            is_closing: Cell::new(false),
            prepared: Wakeup::default(),
            grown: Wakeup::default(),
            is_starved: Cell::new(false),
            starved: Wakeup::default(),
        });
        shared.room_wanted.set();
        let flusher = Rc::clone(&shared);
        let preparer = Rc::clone(&shared);
        let reader = Rc::clone(&shared);
        let tasks = [
            glommio::spawn_local(async move { flusher.flush_for_ever().await }),
            glommio::spawn_local(async move { preparer.prepare_for_ever().await }),
            glommio::spawn_local(async move { reader.read_for_ever().await }),
        ];
        Self {
            shared,
            _tasks: tasks,
        }
    }

    /// Queues a record; the flusher takes it when the present task gives way.
    pub(crate) fn append(&self, seq: PersistSeq, record: Record) {
        self.shared.append(seq.0, to_wal(record));
    }

    /// Answers with `Input::LogRead`. The core asks one at a time.
    pub(crate) fn read(&self, from: Slot, upto: Slot, bytes_max: usize) {
        let request = ReadRequest {
            from,
            upto,
            bytes_max,
        };
        let open = self.shared.read_request.replace(Some(request));
        assert!(
            open.is_none(),
            "one read of the log at a time, {open:?} is open"
        );
        self.shared.read_wanted.set();
    }

    /// Waits until all that was appended is durable.
    pub(crate) async fn flush(&self) {
        while self.shared.durable_upto.get() < self.shared.seq_last.get() {
            self.shared.flushed.wait().await;
        }
    }

    /// The records of all slots below are not needed any more.
    pub(crate) fn release_below(&self, slot: Slot) {
        self.shared.wal.borrow_mut().release_below(slot.0);
        self.shared.room_wanted.set();
    }

    /// Waits until all that was appended is durable and nothing is under way, and begins nothing any more:
    /// a write that is in flight when its file is opened anew could land in what is written then.
    pub(crate) async fn quiesce(&self) {
        self.flush().await;
        self.shared.is_closing.set(true);
        self.shared.starved.set();
        self.shared.grown.set();
        while self.shared.is_preparing.get() {
            self.shared.prepared.wait().await;
        }
    }

    /// Appends the end marker and waits until all is durable. Nothing may be appended behind it.
    pub(crate) async fn close(&self) {
        let end = self.shared.seq_last.get() + 1;
        self.shared.append(end, wal::Record::Clean);
        self.flush().await;
    }

    /// What was written since the start.
    pub(crate) fn counters(&self) -> wal::Counters {
        self.shared.wal.borrow().counters()
    }
}

impl Shared {
    fn append(&self, seq: u64, record: wal::Record<Words>) {
        self.wal.borrow_mut().append(seq, record);
        self.seq_last.set(seq);
        self.appended.set();
    }

    async fn flush_for_ever(&self) {
        loop {
            if let Err(fault) = self.flush_all().await {
                end_process(&fault);
            }
            self.appended.wait().await;
        }
    }

    async fn flush_all(&self) -> Result<(), Fatal> {
        loop {
            let flush = self.wal.borrow_mut().start_flush();
            let Some(mut flush) = flush else {
                self.note_whether_starved();
                return Ok(());
            };
            let file = self.files.get(flush.segment()).await?;
            let mut buffer = file.buffer(flush.length());
            flush.encode(buffer.as_bytes_mut());
            file.write_at(buffer, flush.offset()).await?;
            let upto = self.wal.borrow_mut().finish_flush(flush);
            self.durable_upto.set(upto);
            self.inbox.push_own(Input::Durable {
                upto: PersistSeq(upto),
            });
            self.flushed.set();
            self.grown.set();
            self.room_wanted.set();
        }
    }

    /// Called when nothing can be flushed: if records are left they wait for a segment.
    fn note_whether_starved(&self) {
        let is_starved = self.durable_upto.get() < self.seq_last.get();
        self.is_starved.set(is_starved);
        if is_starved {
            self.starved.set();
            self.grown.set();
        }
    }

    async fn prepare_for_ever(&self) {
        loop {
            self.room_wanted.wait().await;
            while !self.is_closing.get() {
                let operation = self.wal.borrow_mut().next_operation();
                let Some(operation) = operation else { break };
                if self.is_to_wait(operation) {
                    self.wal.borrow_mut().give_up_operation(operation);
                    self.wait_on_full_disk().await;
                    continue;
                }
                self.is_preparing.set(true);
                let carried_out = self.carry_out(operation).await;
                self.is_preparing.set(false);
                self.prepared.set();
                match carried_out {
                    Ok(()) => {
                        self.wal.borrow_mut().finish_operation(operation);
                        // A flush may have waited for the segment.
                        self.appended.set();
                    }
                    Err(fault) => self.outlive(operation, &fault),
                }
            }
        }
    }

    /// Whether the room that is left is for others: the log has segments with room.
    fn is_to_wait(&self, operation: Operation) -> bool {
        if let Operation::Prepare { .. } = operation {
            self.room.look();
        }
        self.room.holds_back(operation, self.is_starved.get())
    }

    /// Goes on without what found no room, unless a flush waits for it.
    fn outlive(&self, operation: Operation, fault: &Fatal) {
        if !fault.is_full_disk() {
            end_process(fault);
        }
        let outlives = self.room.outlives(self.is_starved.get());
        if !outlives && !self.is_closing.get() {
            tracing::error!(
                "the disk is full and the log has no segment left: free some room, then start again"
            );
            end_process(fault);
        }
        self.wal.borrow_mut().give_up_operation(operation);
    }

    /// Until there may be room, a segment has come free, or a record waits for one.
    async fn wait_on_full_disk(&self) {
        let pause = async {
            sleep(FULL_DISK_PAUSE).await;
        };
        let released = future::or(pause, self.room_wanted.wait());
        future::or(released, self.starved.wait()).await;
    }

    async fn carry_out(&self, operation: Operation) -> Result<(), Fatal> {
        match operation {
            Operation::Prepare { segment } => {
                let ahead = Ahead::of(&self.wal.borrow());
                let may_write = async |filled| {
                    let may_write = || {
                        let is_urgent = self.is_starved.get() || self.is_closing.get();
                        is_urgent || ahead.may_fill(filled, &self.wal.borrow())
                    };
                    while !may_write() {
                        self.grown.wait().await;
                    }
                };
                self.files.prepare(segment, may_write).await
            }
            Operation::Recycle { from, to } => self.files.recycle(from, to).await,
        }
    }
}
