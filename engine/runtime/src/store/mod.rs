//! The store's shell: carries out what `quorate_durable` asks for, beside the log.
//!
//! The core's task steps the keeper, for a share of its turn ([`crate::pace`]). Six others share it with that one, and
//! borrow it only between awaits:
//!
//! ```text
//! core       step -> CheckpointRoom, CheckpointDurable; index work and moved rows a piece at a time
//! writer     next_operation -> create, write, sync, publish, remove -> finish_operation
//! mover      blocks whose live rows a checkpoint moves -> read ahead -> feed
//! looker     Load -> reads of blocks, of accounts many at once -> Loaded
//! lister     List -> a walk over the rows of accounts -> Listed
//! server     Ask of a replica that rebuilds or repairs -> one read -> Chunk
//! scrubber   all blocks in turn, slowly; a damaged one -> repaired from a peer
//! ```
//!
//! | queue | bound |
//! | --- | --- |
//! | bytes to be written, and bytes read ahead for rows that are moved | those of the pace, 8 MiB at most: the keeper asks for no part while more wait |
//! | questions of the core | the core's (`LOADS_READS_MAX`, and one that holds apply) |
//! | questions of other replicas | [`ASKED_MAX`]; above it they are dropped, and asked again |
//!
//! An error ends the process, as one of the log does; but a write that finds the disk full is tried again until
//! there is room: a checkpoint can wait. A block that is not what was written is no error of
//! the device: whoever meets it has it repaired from a peer, and goes on; only if no peer can give it the
//! replica is put out of service, and says which block.

mod files;
mod look;
mod mover;
mod open;
mod repair;
mod scrub;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::Task;
use glommio::io::ReadResult;
use glommio::sync::Semaphore;
use quorate_durable::fetch::CHUNKS_MAX;
use quorate_durable::keeper::{Keeper, Step};
use quorate_durable::question::Question;
use quorate_durable::repair::FoundWhole;
use quorate_durable::serve::{Answer, FileRead, answer};
use quorate_net::give_way;
use quorate_protocol::ids::{AccountId, ReplicaAddress};
use quorate_protocol::input::Input;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::output::CheckpointPart;
use quorate_protocol::snapshot::{Message, Part};
use quorate_protocol::time::Timestamp;
use quorate_storage::store::{BlockRun, Counters, Damage, Operation};

use crate::fatal::{Fatal, end_process};
use crate::inbox::Inbox;
use crate::peers::Peers;
use crate::room::Room;
use crate::wakeup::Wakeup;

pub(crate) use files::StoreFiles;
pub(crate) use open::{Files, Indexing, load_checkpoint, open_store};

use mover::Ahead;
use repair::{Asked, Reader};

/// Questions of other replicas that wait: two that rebuild ask for so many chunks at a time.
const ASKED_MAX: usize = 2 * CHUNKS_MAX;

/// The store of a running replica.
pub(crate) struct Store {
    shared: Rc<Shared>,
    _tasks: [Task<()>; 6],
}

/// What a step of the store came to.
#[derive(Debug)]
pub(crate) enum Stepped {
    /// Tell the core, and step again.
    Told(Input),
    /// Step again.
    Worked,
    /// For an operation, for blocks, or for the core.
    Waits,
}

struct Shared {
    keeper: RefCell<Keeper>,
    files: Rc<StoreFiles>,
    inbox: Rc<Inbox>,
    peers: Rc<Peers>,
    room: Rc<Room>,
    /// For the rare read that taking a part needs.
    blocking: RefCell<Files>,
    write_wanted: Wakeup,
    is_writing: Cell<bool>,
    is_closing: Cell<bool>,
    closing: Wakeup,
    written: Wakeup,
    questions: RefCell<VecDeque<Question>>,
    question_asked: Wakeup,
    /// Blocks whose rows a checkpoint moves.
    moving: RefCell<Option<BlockRun>>,
    /// Some were read already.
    ahead: RefCell<Option<Ahead>>,
    ahead_bytes: Cell<usize>,
    /// One of these is not what was written.
    damage_moved: RefCell<Option<Damage>>,
    move_wanted: Wakeup,
    page: Cell<Option<(AccountId, usize)>>,
    page_wanted: Wakeup,
    asked: RefCell<VecDeque<(ReplicaAddress, Part, u64)>>,
    chunk_wanted: Wakeup,
    is_refusal_told: Cell<bool>,
    /// The other members, for repairs of blocks: one at a time.
    group: Vec<ReplicaAddress>,
    repairs: Semaphore,
    asked_for: RefCell<Option<Asked>>,
    answered: Wakeup,
    is_repairing: Cell<bool>,
    /// The last one that each reader said to be damaged and that was not.
    found_whole: RefCell<FoundWhole<Reader>>,
    /// A block that is not what was written, and that nobody can give.
    damage: RefCell<Option<String>>,
}

impl Store {
    /// Goes on with an opened store. What the core is to know is put into `inbox`, what other replicas ask
    /// for is sent through `peers`.
    pub(crate) fn start(
        keeper: Keeper,
        (files, blocking): (StoreFiles, Files),
        (inbox, peers, group): (Rc<Inbox>, Rc<Peers>, Vec<ReplicaAddress>),
        room: Rc<Room>,
    ) -> Self {
        let shared = Rc::new(Shared {
            keeper: RefCell::new(keeper),
            files: Rc::new(files),
            inbox,
            peers,
            room,
            blocking: RefCell::new(blocking),
            write_wanted: Wakeup::default(),
            is_writing: Cell::new(false),
            is_closing: Cell::new(false),
            closing: Wakeup::default(),
            written: Wakeup::default(),
            questions: RefCell::default(),
            question_asked: Wakeup::default(),
            moving: RefCell::default(),
            ahead: RefCell::default(),
            ahead_bytes: Cell::default(),
            damage_moved: RefCell::default(),
            move_wanted: Wakeup::default(),
            page: Cell::default(),
            page_wanted: Wakeup::default(),
            asked: RefCell::default(),
            chunk_wanted: Wakeup::default(),
            is_refusal_told: Cell::new(false),
            group,
            repairs: Semaphore::new(1),
            asked_for: RefCell::default(),
            answered: Wakeup::default(),
            is_repairing: Cell::new(false),
            found_whole: RefCell::default(),
            damage: RefCell::default(),
        });
        let [writer, mover, looker, lister, server, scrubber] =
            [(); 6].map(|()| Rc::clone(&shared));
        let tasks = [
            glommio::spawn_local(async move { writer.write_for_ever().await }),
            glommio::spawn_local(async move { mover.move_for_ever().await }),
            glommio::spawn_local(async move { looker.look_for_ever().await }),
            glommio::spawn_local(async move { lister.list_for_ever().await }),
            glommio::spawn_local(async move { server.serve_for_ever().await }),
            glommio::spawn_local(async move { scrubber.scrub_for_ever().await }),
        ];
        Self {
            shared,
            _tasks: tasks,
        }
    }

    /// Takes the next part of a checkpoint.
    pub(crate) fn take(&self, part: CheckpointPart) {
        let shared = &self.shared;
        let taken = shared
            .keeper
            .borrow_mut()
            .take(part, &mut *shared.blocking.borrow_mut());
        if let Err(problem) = taken {
            shared.report_damage(problem);
        }
        if let Some(refusal) = shared.keeper.borrow().refusal()
            && !shared.is_refusal_told.replace(true)
        {
            tracing::error!("no checkpoint is taken any more, and the log grows: {refusal}");
        }
        shared.write_wanted.set();
    }

    /// Lets so many bytes wait to be written, or be read ahead, from now on.
    pub(crate) fn set_bytes(&self, bytes: usize) {
        let shared = &self.shared;
        shared.keeper.borrow_mut().set_ready_bytes_max(bytes);
        shared.ahead_bytes.set(bytes);
    }

    /// Goes on without the disk, for a bounded time. Whoever finds that it waits is nudged through the inbox when there
    /// is something to step again for, but for parts that it gives itself.
    pub(crate) fn step(&self) -> Stepped {
        let shared = &self.shared;
        let step = shared.keeper.borrow_mut().step();
        let stepped = match step {
            Step::Waits => return Stepped::Waits,
            Step::Worked => Stepped::Worked,
            Step::Read(run) => {
                match shared.feed_moved(run) {
                    Some(Ok(())) => return Stepped::Worked,
                    Some(Err(damage)) => *shared.damage_moved.borrow_mut() = Some(damage),
                    None => *shared.moving.borrow_mut() = Some(run),
                }
                shared.move_wanted.set();
                Stepped::Worked
            }
            Step::Told(input) => {
                if let Input::CheckpointDurable { number } = input {
                    *shared.ahead.borrow_mut() = None;
                    let keeper = shared.keeper.borrow();
                    let slot = keeper.store().manifest().slot;
                    let counters = keeper.store().counters();
                    tracing::info!(number, slot, ?counters, "checkpoint published");
                }
                Stepped::Told(input)
            }
        };
        shared.write_wanted.set();
        stepped
    }

    /// Answers with what the question says.
    pub(crate) fn ask(&self, question: Question) {
        self.shared.questions.borrow_mut().push_back(question);
        self.shared.question_asked.set();
    }

    /// Answers with `Input::Listed`. The core asks one at a time.
    pub(crate) fn list(&self, after: AccountId, limit: usize) {
        let open = self.shared.page.replace(Some((after, limit)));
        assert!(open.is_none(), "one page at a time");
        self.shared.page_wanted.set();
    }

    /// Answers a replica that rebuilds, unless it asks for more at a time than such a one does.
    pub(crate) fn serve(&self, to: ReplicaAddress, part: Part, offset: u64) {
        let mut asked = self.shared.asked.borrow_mut();
        if asked.len() < ASKED_MAX {
            asked.push_back((to, part, offset));
            self.shared.chunk_wanted.set();
        }
    }

    /// Takes what a replica of the group answered to a question for a block.
    pub(crate) fn take_answer(&self, from: ReplicaAddress, message: &Message) {
        self.shared.take_answer(from, message);
    }

    /// What was found not to be what was written; the replica cannot go on without it.
    pub(crate) fn damage(&self) -> Option<String> {
        self.shared.damage.borrow_mut().take()
    }

    /// Waits until no operation is under way, and begins none any more: files may be opened by others then.
    pub(crate) async fn quiesce(&self) {
        self.shared.is_closing.set(true);
        self.shared.closing.set();
        while self.shared.is_writing.get() || self.shared.is_repairing.get() {
            self.shared.written.wait().await;
        }
    }

    /// What was written since the start.
    pub(crate) fn counters(&self) -> Counters {
        self.shared.keeper.borrow().store().counters()
    }
}

impl Shared {
    async fn write_for_ever(&self) {
        loop {
            self.write_wanted.wait().await;
            while !self.is_closing.get() {
                let operation = self.keeper.borrow_mut().next_operation();
                let Some(operation) = operation else { break };
                self.is_writing.set(true);
                if let Operation::Create { .. } = operation {
                    self.room.look();
                }
                let room = (&*self.room, &self.closing);
                let carried_out = self.files.carry_out_with_room(&operation, room).await;
                self.is_writing.set(false);
                match carried_out {
                    Ok(true) => {}
                    Ok(false) => {
                        self.written.set();
                        return;
                    }
                    Err(fault) => end_process(&fault),
                }
                self.keeper.borrow_mut().finish_operation(operation);
                self.written.set();
                self.inbox.nudge();
            }
        }
    }

    async fn serve_for_ever(&self) {
        loop {
            let asked = std::mem::take(&mut *self.asked.borrow_mut());
            if asked.is_empty() {
                self.chunk_wanted.wait().await;
                continue;
            }
            // All reads are under way before the first is waited for: a loaded executor comes back to each only
            // after a turn. The answers leave in the order of the questions.
            let mut begun = Vec::with_capacity(asked.len());
            for (to, part, offset) in asked {
                begun.push((to, self.begin(part, offset).await));
            }
            for (to, begun) in begun {
                let message = match begun {
                    Begun::Said(message) => message,
                    Begun::Reads(wanted, read) => match read.await {
                        Ok(Some(read)) => wanted.chunk(&read),
                        Ok(None) => wanted.gone(),
                        Err(fault) => end_process(&fault),
                    },
                };
                self.peers.send(to, &between_shells(message));
            }
            give_way().await;
        }
    }

    async fn begin(&self, part: Part, offset: u64) -> Begun {
        let found = answer(self.keeper.borrow().store(), part, offset);
        let wanted = match found {
            Answer::Say(message) => return Begun::Said(message),
            Answer::Read(wanted) => wanted,
        };
        // Once, not by each of the reads.
        if let Err(fault) = self.files.open(wanted.file).await {
            end_process(&fault);
        }
        let files = Rc::clone(&self.files);
        let read = async move { files.read(wanted.file, wanted.offset, wanted.bytes).await };
        Begun::Reads(wanted, glommio::spawn_local(read))
    }

    fn report_damage(&self, problem: String) {
        *self.damage.borrow_mut() = Some(problem);
        self.inbox.nudge();
    }
}

/// The answer to another replica's question.
enum Begun {
    Said(Message),
    Reads(FileRead, Task<Result<Option<ReadResult>, Fatal>>),
}

/// A message that no core has stamped.
pub(crate) fn between_shells(message: Message) -> PeerMessage {
    PeerMessage {
        clock: Timestamp::ZERO,
        body: PeerBody::Snapshot(message),
    }
}
