//! The lives of processes: they start, step, write, sleep, and end.

use quorate_protocol::input::Input;
use quorate_protocol::message::PeerBody;
use quorate_protocol::output::StopReason;
use quorate_protocol::snapshot::Message as Snapshot;
use quorate_protocol::time::{MS, Now, SECOND};
use quorate_storage::planted::{Bug, planted};

use crate::checkers::room;
use crate::exit::Exit;
use crate::plots::{self, late_move};
use crate::process::{Effect, Started, StoreEffect};
use crate::world::event::{Event, OwnEvent};
use crate::world::{World, wide};
use crate::{faults, rare};

/// How often the room on a disk is looked at, and how long who finds none waits: as
/// `engine/runtime/src/limits.rs` has it.
const ROOM_INTERVAL_NS: u64 = SECOND;
const FULL_DISK_PAUSE_NS: u64 = 2 * SECOND;
/// How long a peer is waited for that was asked for a block.
const ANSWER_NS_MAX: u64 = SECOND;
/// Of the scrubber behind each read.
const SCRUB_PAUSE_NS: u64 = 2 * MS;
/// How long a shell has other things to do before it applies an entry that its core has put off.
const PUT_OFF_NS: u64 = 20 * MS;

impl World {
    pub(super) fn own(&mut self, process: usize, life: u64, what: OwnEvent) {
        if life != self.life_of(process) || !self.is_alive(process) {
            return;
        }
        let now = self.clocks(process);
        match what {
            OwnEvent::Tick { at_ns } => {
                if self.ticks[process] == Some(at_ns) {
                    self.ticks[process] = None;
                    self.step(process, Input::Tick);
                }
            }
            OwnEvent::Flushed => {
                let effects = self.processes[process].flush_done(now);
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::Renamed => {
                let effects = self.processes[process].operation_renamed();
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::Operated => {
                let effects = self.processes[process].operation_done();
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::StoreMiddle => {
                let effects = self.processes[process].store_middle();
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::StoreOperated => {
                let effects = self.processes[process].store_operated(now);
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::StoreRetried => {
                let effects = self.processes[process].store_retried();
                self.carry_out(process, effects);
            }
            OwnEvent::BlockWritten => {
                let effects = self.processes[process].block_written(now);
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::RepairTimedOut { question } => {
                let effects = self.processes[process].repair_timed_out(now, question);
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::Scrub => self.scrub(process, now),
            OwnEvent::RetrySegment => {
                let effects = self.processes[process].retry_segment(now);
                self.carry_out(process, effects);
            }
            OwnEvent::WatchRoom => {
                self.plan_own(process, ROOM_INTERVAL_NS, OwnEvent::WatchRoom);
                let effects = self.processes[process].watch_room(now);
                self.carry_out(process, effects);
            }
            OwnEvent::StoreLoaded => {
                let effects = self.processes[process].store_loaded(now);
                self.carry_out_or_exit(process, effects);
            }
            OwnEvent::LogRead { read } => {
                let effects = self.processes[process].read_done(now, read);
                self.carry_out_or_exit(process, effects);
            }
        }
    }

    pub(super) fn carry_out_or_exit(&mut self, process: usize, effects: Result<Vec<Effect>, Exit>) {
        match effects {
            Ok(effects) => self.carry_out(process, effects),
            Err(exit) => faults::exit(self, process, exit),
        }
    }

    pub(super) fn step(&mut self, process: usize, input: Input) {
        let now = self.clocks(process);
        if self.processes[process].is_apply_put_off() && !matches!(input, Input::Tick) {
            self.rare.add("input_before_apply");
        }
        let effects = self.processes[process].step(now, input);
        self.carry_out(process, effects);
    }

    pub(super) fn carry_out(&mut self, process: usize, effects: Vec<Effect>) {
        let from = self.processes[process].address();
        let mut sent = false;
        for effect in effects {
            match effect {
                Effect::Send { to, mut message } => {
                    sent = true;
                    if let PeerBody::Snapshot(Snapshot::Chunk { bytes, .. }) = &mut message.body
                        && let Some(altered) = self.network.alter_chunk(bytes)
                    {
                        *bytes = altered;
                    }
                    let bytes = self.codec.encode_peer(&message);
                    late_move::keep(self, self.process_of(to), from, &message, &bytes);
                    self.send_peer(process, to, bytes);
                }
                Effect::Reply { connection, reply } => {
                    let bytes = self.codec.encode_reply(&reply);
                    self.send_reply(process, connection, bytes);
                }
                Effect::FlushStarted { bytes } => {
                    let delay_ns = self.flush_ns(process, bytes);
                    self.plan_own(process, delay_ns, OwnEvent::Flushed);
                }
                Effect::OperationStarted => {
                    self.rare.add("segment_made");
                    let delay_ns = self.flush_ns(process, 1 << 16);
                    self.plan_own(process, delay_ns, OwnEvent::Renamed);
                }
                Effect::OperationRenamed => {
                    // A sync of a directory takes a journal transaction: longer than one of data.
                    let delay_ns = 10 * self.flush_ns(process, 0);
                    self.plan_own(process, delay_ns, OwnEvent::Operated);
                }
                Effect::LogHoldsBack => {
                    self.rare.add("log_holds_back");
                    self.plan_own(process, FULL_DISK_PAUSE_NS, OwnEvent::RetrySegment);
                }
                Effect::ToldFull(is_full) => room::told(self, process, is_full),
                Effect::ProposedOnFullDisk { entry } => room::proposed(self, process, &entry),
                Effect::Happened(name) => self.rare.add(name),
                Effect::SteppedDown => self.rare.add("leader_stepped_down_unchallenged"),
                Effect::ReadStarted { read } => {
                    rare::of_log_read(&mut self.rare, &self.processes[process], read.from);
                    let delay_ns = self.flush_ns(process, 0) / 2;
                    self.plan_own(process, delay_ns, OwnEvent::LogRead { read });
                }
                Effect::Leads { ballot, in_doubt } => {
                    let at_ns = self.now_ns();
                    self.trace
                        .line(at_ns, || format!("{from} leads under {ballot:?}"));
                    let earlier = self.leaders.insert(from.shard, from);
                    rare::of_leader(&mut self.rare, earlier, from, in_doubt);
                    plots::on_leader(self, from);
                }
                Effect::Applied { slot, entry } => {
                    rare::of_entry(&mut self.rare, &entry);
                    if let Err(violation) = self.agreement.applied(from, slot, &entry) {
                        self.violate(violation.checker, violation.text);
                    }
                }
                Effect::AppliedUnseen { slot } => {
                    self.violate("agreement", format!("{from} applied unlogged slot {slot}"));
                }
                Effect::Rejoined => {
                    let at_ns = self.now_ns();
                    self.trace.line(at_ns, || format!("{from} votes again"));
                    self.rare.add("replica_rejoined");
                    self.processes[process].note_rejoined();
                }
                Effect::Stopped { reason } => self.stopped_itself(process, &reason),
                Effect::Store(effect) => self.carry_out_store(process, effect),
            }
        }
        self.compare_digest(process);
        self.compare_cuts(process);
        self.plan_tick(process);
        if sent {
            faults::burn_fuse_after_send(self, self.node_of[process]);
        }
    }

    fn carry_out_store(&mut self, process: usize, effect: StoreEffect) {
        let (at_ns, from) = (self.now_ns(), self.processes[process].address());
        match effect {
            StoreEffect::OperationStarted { bytes, has_middle } => {
                let delay_ns = self.flush_ns(process, bytes);
                self.plan_own(
                    process,
                    delay_ns,
                    match has_middle {
                        true => OwnEvent::StoreMiddle,
                        false => OwnEvent::StoreOperated,
                    },
                );
            }
            StoreEffect::OperationNamed => {
                let delay_ns = 10 * self.flush_ns(process, 0);
                self.plan_own(process, delay_ns, OwnEvent::StoreOperated);
            }
            StoreEffect::WaitsForRoom { given_back } => {
                let is_rebuilding = self.processes[process].is_rebuilding();
                self.rare.add(match is_rebuilding {
                    true => "rebuild_without_room",
                    false => "checkpoint_without_room",
                });
                if planted(Bug::CheckpointNotRetried) && !is_rebuilding {
                    return;
                }
                let delay_ns = if given_back { 0 } else { FULL_DISK_PAUSE_NS };
                self.plan_own(process, delay_ns, OwnEvent::StoreRetried);
            }
            StoreEffect::LoadStarted(reader) => {
                self.rare.add(rare::of_read(reader));
                let delay_ns = self.read_ns();
                self.plan_own(process, delay_ns, OwnEvent::StoreLoaded);
            }
            StoreEffect::Published { drops, reopened } => {
                self.rare.add("checkpoint_published");
                if let Err(problem) = reopened
                    && !self.processes[process].is_harmed()
                {
                    self.violate("recovery", format!("{from} {problem}"));
                }
                if drops {
                    self.rare.add("history_dropped");
                }
            }
            StoreEffect::Damaged { place, problem } => {
                if place.is_some_and(|place| !self.processes[process].is_rotten(place)) {
                    let text =
                        format!("{from} cannot use a block that is as it was written: {problem}");
                    return self.violate("repair", text);
                }
                self.rare.add("store_damage_stays");
                self.refuse_damage(process, &problem);
            }
            StoreEffect::Ask {
                to,
                message,
                question,
            } => {
                self.rare.add("block_asked_for");
                self.plan_own(
                    process,
                    ANSWER_NS_MAX,
                    OwnEvent::RepairTimedOut { question },
                );
                let ask = crate::process::between_shells(from, to, message);
                self.carry_out(process, vec![ask]);
            }
            StoreEffect::WritingOver => {
                let delay_ns = self.flush_ns(process, 1 << 12);
                self.plan_own(process, delay_ns, OwnEvent::BlockWritten);
            }
            StoreEffect::WrittenOver(place) => {
                if self.processes[process].is_rotten(place) {
                    let text = format!("{from} repaired {place:?}: it is not what was written");
                    self.violate("repair", text);
                }
            }
            StoreEffect::Happened(name) => self.rare.add(name),
            StoreEffect::ChunkRefused => self.rare.add("chunk_refused"),
            StoreEffect::RebuildBegunAgain => self.rare.add("rebuild_begun_again"),
            StoreEffect::RebuildStarted => {
                self.trace.line(at_ns, || format!("{from} rebuilds"));
                self.rare.add("replica_rebuilds");
                self.ticks[process] = None;
                self.plan_own(process, ROOM_INTERVAL_NS, OwnEvent::WatchRoom);
                faults::of_rebuild(self, process);
            }
            StoreEffect::RebuildEnded(Ok(started)) => {
                self.trace
                    .line(at_ns, || format!("{from} is rebuilt: {started:?}"));
                self.rare.add("replica_rebuilt");
                self.look_at_start(process, &started);
                self.ticks[process] = None;
                self.plan_watches(process);
                self.step(process, Input::Tick);
            }
            StoreEffect::RebuildEnded(Err(problem)) => self.refuse_damage(process, &problem),
        }
    }

    /// The scrubber looks whether it is to read.
    fn scrub(&mut self, process: usize, now: Now) {
        if !self.processes[process].is_running() {
            return;
        }
        let every_ns = match self.healed {
            true => SECOND,
            false => self.parameters.scrub_ns,
        };
        let may_begin = self.now_ns() >= self.scrubbed_ns[process] + every_ns;
        let (effects, goes_on) = self.processes[process]
            .scrub(now, may_begin)
            .expect("it meets no error of the disk");
        if may_begin && !goes_on {
            self.scrubbed_ns[process] = self.now_ns();
        }
        let pause_ns = if goes_on { SCRUB_PAUSE_NS } else { SECOND };
        self.plan_own(process, pause_ns, OwnEvent::Scrub);
        self.carry_out(process, effects);
    }

    /// What is looked after beside a core, every now and then.
    fn plan_watches(&mut self, process: usize) {
        self.plan_own(process, ROOM_INTERVAL_NS, OwnEvent::WatchRoom);
        self.plan_own(process, SECOND, OwnEvent::Scrub);
    }

    /// A core that cannot go on is put out of service. It may be missing a slot of its log only if its
    /// disk was harmed.
    pub(super) fn stopped_itself(&mut self, process: usize, reason: &StopReason) {
        let (now_ns, from) = (self.now_ns(), self.processes[process].address());
        let text = format!("{from} stopped itself: {reason:?}");
        let harmed = self.processes[process].health().is_harmed();
        if !harmed || !matches!(reason, StopReason::LogLost { .. }) {
            return self.violate("stopped", text);
        }
        self.trace.line(now_ns, || text);
        self.faults.add("replica_stopped_itself");
        self.processes[process].park();
    }

    /// At some slots, and only if the replica is exactly there.
    pub(super) fn compare_digest(&mut self, process: usize) {
        let Some(slot) = self.processes[process].take_digest_slot(self.parameters.digest_every)
        else {
            return;
        };
        let address = self.processes[process].address();
        let Some((at, digest)) = self.processes[process].digest() else {
            return;
        };
        assert_eq!(at, slot, "digest of another slot");
        if let Err(violation) = self.agreement.digest(address, slot, digest) {
            self.violate(violation.checker, violation.text);
        }
    }

    fn compare_cuts(&mut self, process: usize) {
        let address = self.processes[process].address();
        for cut in self.processes[process].counted_cuts() {
            match self.agreement.cut(address, cut) {
                Ok(true) => self.rare.add("cut_counted_by_two"),
                Ok(false) => {}
                Err(violation) => self.violate(violation.checker, violation.text),
            }
        }
    }

    pub(super) fn plan_tick(&mut self, process: usize) {
        let Some(deadline_ns) = self.processes[process].deadline_ns() else {
            return;
        };
        let clock = &self.nodes[self.node_of[process]].clock;
        let Some(at_ns) = clock.true_ns(deadline_ns) else {
            return;
        };
        let mut at_ns = at_ns.max(self.now_ns());
        if self.processes[process].is_apply_put_off() {
            at_ns += self.disk_stream.below(PUT_OFF_NS);
        }
        if self.ticks[process].is_none_or(|planned| at_ns < planned) {
            self.ticks[process] = Some(at_ns);
            let delay_ns = at_ns - self.now_ns();
            self.plan_own(process, delay_ns, OwnEvent::Tick { at_ns });
        }
    }

    pub(super) fn plan_own(&mut self, process: usize, delay_ns: u64, what: OwnEvent) {
        let event = Event::Own {
            process,
            life: self.life_of(process),
            what,
        };
        self.queue.push(self.now_ns() + delay_ns, event);
    }

    /// A read of some blocks flushes nothing.
    fn read_ns(&mut self) -> u64 {
        let disk = &self.parameters.disk;
        let mut delay_ns = MS / 20 + self.disk_stream.exponential(MS / 20);
        if !self.healed && self.disk_stream.chance(disk.stall_ppm) {
            self.faults.add("disk_stalled");
            delay_ns += self.disk_stream.below(disk.stall_ns);
        }
        delay_ns
    }

    pub(super) fn flush_ns(&mut self, process: usize, bytes: usize) -> u64 {
        let disk = &self.parameters.disk;
        // About 1 GB/s beside the fixed part.
        let mut delay_ns = disk.flush_min_ns
            + self.disk_stream.exponential(disk.flush_mean_ns)
            + u64::try_from(bytes).expect("small");
        if !self.healed && disk.slow_replica == self.processes[process].address().replica.0 {
            self.faults.add("disk_slow");
            delay_ns *= 30;
        }
        if !self.healed && self.disk_stream.chance(disk.stall_ppm) {
            self.faults.add("disk_stalled");
            delay_ns += self.disk_stream.below(disk.stall_ns);
        }
        delay_ns
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].up {
            return;
        }
        let now_ns = self.now_ns();
        self.trace.line(now_ns, || format!("node {node} starts"));
        self.trace.event(now_ns, 4, wide(node), 0);
        let down_ns = now_ns - self.nodes[node].changed_ns;
        let restart = self.nodes[node].life > 0;
        if restart && down_ns < self.parameters.timing.lease_ns {
            self.rare.add("restart_within_lease");
        }
        let machine = &mut self.nodes[node];
        machine.life += 1;
        machine.up = true;
        machine.paused = false;
        machine.changed_ns = now_ns;
        for process in machine.processes.clone() {
            if !self.nodes[node].up {
                // What the process before did was the last thing that the machine did.
                return;
            }
            let now = self.clocks(process);
            let seed = self.process_stream.bits();
            self.ticks[process] = None;
            if self.replaces_disks() && self.processes[process].needs_another_disk() {
                self.faults.add("disk_replaced");
                self.processes[process].lose_disk();
            }
            if self.processes[process].is_out_of_service() {
                self.faults.add("replica_parked_lost");
                self.processes[process].park();
                continue;
            }
            if self.processes[process].disk_mut().take_read_error() {
                self.processes[process].park();
                faults::refuse_start(self, process);
                continue;
            }
            match self.processes[process].start(seed, now) {
                Ok(started) => {
                    if started.lost > 0 {
                        self.faults.add("log_damage_named");
                    }
                    self.look_at_start(process, &started);
                    rare::rejoin::of_start(&mut self.rare, &self.processes[process]);
                    self.plan_watches(process);
                    self.step(process, Input::Tick);
                }
                Err(problem) => self.refuse_damage(process, &problem),
            }
        }
    }

    /// Two checkpoints are there, so one of them may be damaged: where a fault has struck, and nowhere else.
    fn look_at_start(&mut self, process: usize, started: &Started) {
        rare::of_start(&mut self.rare, started);
        let is_harmed = self.processes[process].health().is_harmed();
        if started.damaged_files > 0 && !is_harmed {
            let (address, files) = (self.processes[process].address(), started.damaged_files);
            let text = format!("{address} starts with {files} damaged files of its store");
            self.violate("recovery", text);
        }
    }

    /// A replica does not start from its disk, or cannot go on: within its rights if the disk was harmed.
    pub(super) fn refuse_damage(&mut self, process: usize, problem: &str) {
        let (now_ns, address) = (self.now_ns(), self.processes[process].address());
        let text = format!("{address} cannot use its disk: {problem}");
        if !self.processes[process].health().is_harmed() {
            return self.violate("recovery", text);
        }
        self.trace.line(now_ns, || text);
        self.faults.add("replica_parked_corrupt");
        self.processes[process].note_refused();
        self.processes[process].park();
    }

    /// Whether whoever looks after the machines gives up what a start refused, and lets the replica begin
    /// empty at the next one. Half of the seeds, without a draw.
    fn replaces_disks(&self) -> bool {
        self.parameters.seed.is_multiple_of(2)
    }

    /// Ends all processes of a machine.
    pub(crate) fn stop(&mut self, node: usize, power_loss: bool) {
        let now_ns = self.now_ns();
        self.trace.line(now_ns, || {
            format!("node {node} stops, power loss {power_loss}")
        });
        self.trace
            .event(now_ns, 5, wide(node), u64::from(power_loss));
        for &process in &self.nodes[node].processes {
            rare::of_crash(&mut self.rare, &self.processes[process], power_loss);
            rare::rejoin::of_crash(&mut self.rare, &self.processes[process]);
        }
        let machine = &mut self.nodes[node];
        machine.up = false;
        machine.paused = false;
        machine.changed_ns = now_ns;
        machine.backlog.clear();
        for process in machine.processes.clone() {
            self.processes[process].stop(power_loss);
        }
    }

    pub(super) fn resume(&mut self, node: usize, life: u64) {
        let machine = &mut self.nodes[node];
        if !machine.paused || machine.life != life {
            return;
        }
        machine.paused = false;
        let mut backlog = std::mem::take(&mut machine.backlog);
        // What came in first and what the clock says: a process that wakes up may look at either.
        if self.crash_stream.chance(500_000) {
            backlog.sort_by_key(|event| matches!(event, Event::Own { .. }));
        }
        let now_ns = self.now_ns();
        self.trace.line(now_ns, || format!("node {node} resumes"));
        for event in backlog {
            self.queue.push(now_ns, event);
        }
    }
}
