//! One replica as a process: the core and the log, wired as the runtime wires them.
//!
//! `Persist` goes to the log, a flush takes what has gathered as soon as the one before is durable,
//! and a durable flush goes back as `Input::Durable`. Reads of the log come from the simulated disk.
//! The store works beside it, and a core that the log cannot help any more makes room for a rebuild.
//! A process ends at any event; its next life starts from what the disk holds, through the recovery
//! of `storage`. The process plans nothing: it answers each input with [`Effect`]s for the world.

mod journal;
mod mend;
mod rebuild;
mod recovery;
mod rejoin;
mod reopened;
mod room;
mod rot;
mod running;
mod store;
mod writes;

use quorate_durable::keeper::Keeper;
use quorate_durable::log;
use quorate_durable::restore::{LoadError, load_index, load_ledger};
use quorate_protocol::config::{Recovered, ReplicaConfig};
use quorate_protocol::entry::Entry;
use quorate_protocol::ids::{Ballot, ConnectionId, PersistSeq, ReplicaAddress, ReplicaId, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::ledger::state::Ledger;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::output::StopReason;
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::replica::Replica;
use quorate_protocol::snapshot;
use quorate_protocol::time::{Now, Timestamp};
use quorate_protocol::{client::Reply, client::Status};
use quorate_storage::superblock::{Genesis, Identity, Superblock};
use quorate_storage::wal;
use quorate_storage::wal::{Options, Wal};

use crate::budget::Health;
use crate::disk::SimDisk;
use crate::exit::Exit;

pub use self::journal::LogRead;
use self::mend::Mender;
use self::rebuild::Rebuild;
use self::recovery::{lost_records, touched};
use self::rejoin::format_disk;
use self::room::RoomTask;
use self::running::Running;
use self::store::{Files, StoreTask};
pub use self::store::{Reader, StoreEffect};
use self::writes::{Ended, Writes};

/// Suffix of a file that is not finished.
const TEMPORARY: &str = ".tmp";

/// What a process wants from the world.
#[derive(Debug)]
pub enum Effect {
    Send {
        to: ReplicaAddress,
        message: PeerMessage,
    },
    Reply {
        connection: ConnectionId,
        reply: Reply,
    },
    /// A write and its sync have started; call [`Process::flush_done`] when they end.
    FlushStarted { bytes: usize },
    /// A file operation has started; call [`Process::operation_renamed`] when its file is complete.
    OperationStarted,
    /// Its file has its name; call [`Process::operation_done`] when the name is durable.
    OperationRenamed,
    /// No segment is prepared for now; call [`Process::retry_segment`] after a while.
    LogHoldsBack,
    /// The core was told whether the disk is full.
    ToldFull(bool),
    /// An entry was proposed though the disk is full.
    ProposedOnFullDisk { entry: Entry },
    /// Something that is counted.
    Happened(&'static str),
    /// A read of the log has started; call [`Process::read_done`] when it ends.
    ReadStarted { read: LogRead },
    /// The replica serves as leader from now on.
    Leads { ballot: Ballot, in_doubt: u64 },
    /// The replica serves no longer, and no higher ballot made it stop.
    SteppedDown,
    /// An entry took effect here.
    Applied { slot: Slot, entry: Entry },
    /// The core that had lost its disk votes again.
    Rejoined,
    /// The core stopped itself.
    Stopped { reason: StopReason },
    /// The core reported a slot as applied whose entry its log never had.
    AppliedUnseen { slot: Slot },
    /// The store began or ended something.
    Store(StoreEffect),
}

/// What a start found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The last flush was incomplete and has been cut.
    pub torn: bool,
    pub chosen_upto: Slot,
    /// Accepted entries above the watermark.
    pub tail: usize,
    /// Records that are lost, but for their names.
    pub lost: usize,
    /// The slot of the checkpoint that it begins with; 0 = none.
    pub checkpoint: Slot,
    /// Files of the store that are not as a manifest says.
    pub damaged_files: usize,
}

/// A replica on its disk, running or not.
pub struct Process {
    config: ReplicaConfig,
    superblock: Superblock,
    disk: SimDisk,
    running: Option<Running>,
    rebuild: Option<Rebuild>,
    /// Cores and rebuilds so far: what one of them began does not end in the next.
    incarnation: u64,
    /// Out of service for as long as its node runs: it was not started, or stopped itself.
    is_parked: bool,
    /// The store reads no block twice.
    keeps_blocks: bool,
    waste_blocks: u64,
    health: Health,
    /// Its disk was replaced, and it does not vote yet.
    rejoins: bool,
    /// Its start refused what is on its disk.
    is_refused: bool,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process({})", self.config.address)
    }
}

impl Process {
    /// A process that is down, with a freshly formatted disk.
    #[must_use]
    pub fn format(config: ReplicaConfig, segment_bytes: u64, mut disk: SimDisk) -> Self {
        let block = Superblock {
            identity: Identity {
                cluster: config.cluster.0,
                shard: config.address.shard.0,
                replica: config.address.replica.0,
                segment_bytes,
                created_ns: 1,
            },
            genesis: Genesis::of(&config.genesis().to_string()),
        };
        format_disk(&mut disk, &block);
        Self {
            config,
            superblock: block,
            disk,
            running: None,
            rebuild: None,
            incarnation: 0,
            is_parked: false,
            keeps_blocks: false,
            waste_blocks: 0,
            health: Health::default(),
            rejoins: false,
            is_refused: false,
        }
    }

    /// Which replica it is.
    #[must_use]
    pub fn address(&self) -> ReplicaAddress {
        self.config.address
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it takes a checkpoint of its group before it runs again.
    #[must_use]
    pub fn is_rebuilding(&self) -> bool {
        self.rebuild.is_some()
    }

    /// Cores and rebuilds so far.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether its node runs without it.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.is_parked
    }

    /// Puts it out of service until its node starts again.
    pub fn park(&mut self) {
        self.stop(false);
        self.is_parked = true;
    }

    /// From its next start on, compaction leaves so many blocks of the store wasted. The same for a whole group.
    pub fn allow_waste(&mut self, blocks: u64) {
        self.waste_blocks = blocks;
    }

    /// From now on the store reads no block twice. The audit asks every shard about every id, which is
    /// millions of reads of a few hundred blocks.
    pub fn keep_blocks(&mut self) {
        self.keeps_blocks = true;
        if let Some(running) = &mut self.running {
            running.store.keep_blocks();
        }
    }

    /// What its storage went through.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether any damage was done, by the flush that is open included: what it wrote lies where it should not.
    #[must_use]
    pub fn is_harmed(&self) -> bool {
        let flush = self
            .running
            .as_ref()
            .and_then(|running| running.flush.as_ref());
        self.health.is_harmed() || flush.is_some_and(|flush| !flush.whole)
    }

    /// Its disk, for counters.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The same, for faults.
    pub fn disk_mut(&mut self) -> &mut SimDisk {
        &mut self.disk
    }

    /// Whether a segment has got its name and the directory is not synced yet.
    #[must_use]
    pub fn is_renamed_unsynced(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.is_renamed)
    }

    /// Whether a file operation of the store is under way.
    #[must_use]
    pub fn is_writing_store(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|r| r.store.writes.is_open())
    }

    /// Whether a flush is on its way to the disk.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        self.running.as_ref().is_some_and(|r| r.flush.is_some())
    }

    /// What users see of it; `None` if it does not run.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.running.as_ref().map(|r| r.replica.status())
    }

    /// Applied slot and digest; `None` if it does not run.
    #[must_use]
    pub fn digest(&self) -> Option<(Slot, u128)> {
        self.running.as_ref().map(|r| r.replica.digest())
    }

    /// Its replicated state; `None` if it does not run.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        self.running.as_ref().map(|r| r.replica.ledger())
    }

    /// The cuts that it has counted, with slot and digest.
    #[must_use]
    pub fn counted_cuts(&self) -> Vec<(Timestamp, Slot, u128)> {
        let running = self.running.iter();
        let cuts = running.flat_map(|running| running.replica.ledger().cuts().counted());
        cuts.collect()
    }

    /// The applied slot, if it has just become a multiple of `every`.
    pub fn take_digest_slot(&mut self, every: u64) -> Option<Slot> {
        let running = self.running.as_mut()?;
        let advanced = std::mem::take(&mut running.advanced);
        (advanced && running.applied_upto.0.is_multiple_of(every)).then_some(running.applied_upto)
    }

    /// When it wants its next tick, on its monotonic clock; `None` if it does not run.
    #[must_use]
    pub fn deadline_ns(&self) -> Option<u64> {
        match (&self.running, &self.rebuild) {
            (Some(running), _) => Some(running.replica.deadline_ns()),
            (None, Some(rebuild)) => Some(rebuild.fetch.deadline_ns()),
            (None, None) => None,
        }
    }

    /// Whether its next tick is there to apply an entry.
    #[must_use]
    pub fn is_apply_put_off(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.replica.is_apply_put_off())
    }

    /// Ends the process. What it wrote stays readable, unless the power goes as well.
    pub fn stop(&mut self, power_loss: bool) {
        if let Some(running) = self.running.take() {
            // A write that went astray did its harm when it landed, not when its flush is reported.
            if let Some(open) = running.flush.filter(|open| !open.whole) {
                let (segment, offset) = (open.flush.segment(), open.flush.offset());
                self.health.flushed(segment, offset, false);
            }
            self.health.stopped();
        }
        self.rebuild = None;
        self.is_parked = false;
        if power_loss {
            self.disk.crash();
        }
    }

    /// Starts the process from its disk.
    ///
    /// # Errors
    /// If recovery refuses the disk or reports damage that cannot be named: crashes alone never do any.
    pub fn start(&mut self, seed: u64, now: Now) -> Result<Started, String> {
        assert!(self.running.is_none(), "started twice");
        let opened = self.open_store()?;
        let config = ReplicaConfig {
            seed,
            ..self.config.clone()
        };
        let checkpoint = Slot(opened.store.manifest().slot);
        let (recovery, log) = self.recover()?;
        let touched = touched(&log, checkpoint, seed);
        let (store, mut files) = (&opened.store, Files(&self.disk));
        let wrong = |error: LoadError| error.to_string();
        let index = load_index(store, &mut files).map_err(wrong)?;
        let loaded = load_ledger(store, &index, &config, &touched, &mut files).map_err(wrong)?;
        let ledger = loaded.ledger;
        let lost = lost_records(&recovery)?;
        let known = checkpoint.0.max(recovery.chosen_upto);
        let tail: Vec<LoggedEntry> = log
            .values()
            .filter(|logged| logged.slot.0 > known)
            .cloned()
            .collect();
        let started = Started {
            torn: recovery.tail == wal::Row::TornTail,
            chosen_upto: Slot(recovery.chosen_upto),
            tail: tail.len(),
            lost: lost.len(),
            checkpoint,
            damaged_files: opened.damage.len(),
        };
        let recovered = Recovered {
            checkpoint,
            log_start: log::log_start(&recovery.index, &lost, checkpoint),
            promised: Ballot(recovery.promised),
            chosen_upto: Slot(recovery.chosen_upto),
            tail,
            lost,
            rejoins: self.rejoins,
        };
        self.repair(&recovery.repairs)?;
        let replica = match ledger {
            Some(ledger) => Replica::restored(config, recovered, ledger, now),
            None => Replica::new(config, recovered, now),
        };
        let mut store = StoreTask::new(
            Keeper::new(opened.store, index.accounts),
            self.config.peers().collect(),
        );
        if self.keeps_blocks {
            store.keep_blocks();
        }
        self.incarnation += 1;
        let marks = self.marks();
        self.running = Some(Running {
            replica,
            wal: Wal::resume(recovery, Options::default()),
            store,
            seed,
            wants_snapshot: None,
            room: RoomTask::begin(marks, &mut self.disk),
            seq_last: PersistSeq(0),
            durable_upto: PersistSeq(0),
            is_starved: false,
            holds_back: false,
            flush: None,
            operation: None,
            is_renamed: false,
            log,
            applied_upto: checkpoint,
            advanced: false,
            leading: None,
        });
        Ok(started)
    }

    /// Takes one input and drains what follows from it.
    ///
    /// # Panics
    /// If the process does not run, and wherever the core asserts.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        if self.rebuild.is_some() {
            return self.rebuild_step(now, input);
        }
        let mut effects = Vec::new();
        let running = self.running.as_mut().expect("only running processes step");
        if let Input::Peer { from, message } = &input
            && let PeerBody::Snapshot(message) = &message.body
        {
            if let snapshot::Message::Ask { part, offset } = message {
                let answer = running.store.serve(&self.disk, *part, *offset);
                effects.push(rebuild::snapshot(*from, answer));
                return effects;
            }
            if from.shard != self.config.address.shard {
                return effects;
            }
            let from = from.replica;
            return self
                .mend(now, |mender, files, effects| {
                    mender.take_answer(from, message, files, effects);
                    Ok(())
                })
                .expect("no disk is asked");
        }
        running.take(now, input, &mut self.disk, &mut effects);
        if let Some(from) = running.wants_snapshot.take() {
            self.begin_rebuild(now, from, &mut effects);
        }
        effects
    }

    /// The open operation of the store is halfway.
    ///
    /// # Errors
    /// If the disk reports an error.
    ///
    /// # Panics
    /// If none is open.
    pub fn store_middle(&mut self) -> Result<Vec<Effect>, Exit> {
        let (writes, room) = writes_of(&mut self.running, &mut self.rebuild);
        let effect = writes.middle(room, &mut self.disk)?;
        Ok(vec![Effect::Store(effect)])
    }

    /// What found no room is tried again.
    ///
    /// # Panics
    /// If nothing waits.
    pub fn store_retried(&mut self) -> Vec<Effect> {
        let (writes, _) = writes_of(&mut self.running, &mut self.rebuild);
        let mut effects = Vec::new();
        writes.begin_again(&mut self.disk, &mut effects);
        effects.into_iter().map(Effect::Store).collect()
    }

    /// The open operation of the store has ended.
    ///
    /// # Errors
    /// If the disk reports an error instead.
    ///
    /// # Panics
    /// If none is open.
    pub fn store_operated(&mut self, now: Now) -> Result<Vec<Effect>, Exit> {
        let Some(running) = &mut self.running else {
            return self.rebuild_operated(now);
        };
        let (writes, room) = (&mut running.store.writes, &mut running.room);
        match writes.end(room, &mut self.disk)? {
            Ended::Done(operation) => {
                running.store.keeper.finish_operation(operation);
                running.store.write_wanted = true;
            }
            Ended::Waits(effect) => {
                let mut effects = vec![Effect::Store(effect)];
                effects.extend(self.go_on(now));
                return Ok(effects);
            }
        }
        Ok(self.go_on(now))
    }

    /// Blocks that the store wanted have been read.
    ///
    /// # Errors
    /// If the disk reports an error instead.
    ///
    /// # Panics
    /// If no read is open.
    pub fn store_loaded(&mut self, now: Now) -> Result<Vec<Effect>, Exit> {
        let running = self.running.as_mut().expect("checked by the world");
        let mut effects = Vec::new();
        running.store.loaded(&mut self.disk, &mut effects)?;
        let mut effects: Vec<Effect> = effects.into_iter().map(Effect::Store).collect();
        effects.extend(self.go_on(now));
        Ok(effects)
    }

    /// A block that was written over a damaged one is synced.
    ///
    /// # Errors
    /// If the disk reports an error instead.
    pub fn block_written(&mut self, now: Now) -> Result<Vec<Effect>, Exit> {
        self.mend(now, |mender, files, effects| mender.written(files, effects))
    }

    /// A question for a block was not answered in time.
    ///
    /// # Errors
    /// None.
    pub fn repair_timed_out(&mut self, now: Now, question: u64) -> Result<Vec<Effect>, Exit> {
        self.mend(now, |mender, files, effects| {
            mender.time_out(question, files, effects);
            Ok(())
        })
    }

    /// The scrubber reads on, and begins a round if it may. Whether it is in the middle of one is said.
    ///
    /// # Errors
    /// None.
    pub fn scrub(&mut self, now: Now, may_begin: bool) -> Result<(Vec<Effect>, bool), Exit> {
        let mut goes_on = false;
        let effects = self.mend(now, |mender, files, effects| {
            goes_on = mender.scrub(may_begin, files, effects);
            Ok(())
        })?;
        Ok((effects, goes_on))
    }

    fn mend(
        &mut self,
        now: Now,
        what: impl FnOnce(
            &mut Mender,
            (&mut Keeper, &mut SimDisk),
            &mut Vec<StoreEffect>,
        ) -> Result<(), Exit>,
    ) -> Result<Vec<Effect>, Exit> {
        let running = self.running.as_mut().expect("checked by the world");
        let StoreTask { mender, keeper, .. } = &mut running.store;
        let mut effects = Vec::new();
        what(mender, (keeper, &mut self.disk), &mut effects)?;
        let mut effects: Vec<Effect> = effects.into_iter().map(Effect::Store).collect();
        effects.extend(self.go_on(now));
        Ok(effects)
    }

    /// Lets the store go on, and the core with what the store has for it.
    fn go_on(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let running = self.running.as_mut().expect("checked by the caller");
        running.go_on(now, &mut self.disk, &mut effects);
        if let Some(from) = running.wants_snapshot.take() {
            self.begin_rebuild(now, from, &mut effects);
        }
        effects
    }
}

/// The operations of whichever store is written.
fn writes_of<'a>(
    running: &'a mut Option<Running>,
    rebuild: &'a mut Option<Rebuild>,
) -> (&'a mut Writes, &'a mut RoomTask) {
    match (running, rebuild) {
        (Some(running), _) => (&mut running.store.writes, &mut running.room),
        (None, Some(rebuild)) => (&mut rebuild.writes, &mut rebuild.room),
        (None, None) => panic!("no store is written"),
    }
}

/// A question of a shell to another one of its group.
#[must_use]
pub fn between_shells(own: ReplicaAddress, to: ReplicaId, message: snapshot::Message) -> Effect {
    rebuild::snapshot(peer_of(own, to), message)
}

/// Another replica of the same group.
fn peer_of(address: ReplicaAddress, replica: ReplicaId) -> ReplicaAddress {
    ReplicaAddress { replica, ..address }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("simulated files are small")
}
