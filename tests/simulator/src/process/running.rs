//! A running core with its log and its store, and what follows from one input.

use std::collections::BTreeMap;

use quorate_durable::keeper::Step;
use quorate_durable::question::Question;
use quorate_protocol::ids::{Ballot, PersistSeq, ReplicaId, Slot};
use quorate_protocol::input::Input;
use quorate_protocol::output::Output;
use quorate_protocol::paxos::message::LoggedEntry;
use quorate_protocol::replica::Replica;
use quorate_protocol::time::Now;
use quorate_protocol::words::Words;
use quorate_storage::wal::{Operation, Wal};

use super::journal::{LogRead, OpenFlush};
use super::reopened;
use super::room::RoomTask;
use super::store::{Files, StoreTask};
use super::{Effect, StoreEffect};
use crate::disk::SimDisk;

/// A running core with its log.
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) wal: Wal<Words>,
    pub(super) store: StoreTask,
    pub(super) seed: u64,
    /// Whose checkpoint the core asks for.
    pub(super) wants_snapshot: Option<ReplicaId>,
    pub(super) flush: Option<OpenFlush>,
    pub(super) operation: Option<Operation>,
    /// The file of the open operation has its name, which is not durable yet.
    pub(super) is_renamed: bool,
    /// The newest accepted entry of each slot that this life has accepted or found on disk.
    pub(super) log: BTreeMap<Slot, LoggedEntry>,
    pub(super) applied_upto: Slot,
    /// It has advanced since it was last asked for.
    pub(super) advanced: bool,
    pub(super) leading: Option<Ballot>,
    pub(super) room: RoomTask,
    /// The last number that was appended, and the last that is durable.
    pub(super) seq_last: PersistSeq,
    pub(super) durable_upto: PersistSeq,
    /// Records wait for a segment.
    pub(super) is_starved: bool,
    /// No segment is prepared for now.
    pub(super) holds_back: bool,
}

impl Running {
    /// Takes one input, and all that follows from it at once.
    pub(super) fn take(
        &mut self,
        now: Now,
        input: Input,
        disk: &mut SimDisk,
        effects: &mut Vec<Effect>,
    ) {
        self.replica.step(now, input);
        self.go_on(now, disk, effects);
    }

    /// Lets core, store and log go on as far as they can.
    pub(super) fn go_on(&mut self, now: Now, disk: &mut SimDisk, effects: &mut Vec<Effect>) {
        loop {
            if let Some(is_full) = self.room.take_news() {
                effects.push(Effect::ToldFull(is_full));
                self.replica.step(now, Input::DiskFull { is_full });
                let is_ample = !is_full;
                self.replica.step(now, Input::RoomForLog { is_ample });
            }
            self.settle(now, disk, effects);
            self.write(disk, effects);
            if !self.room.has_news() {
                return;
            }
        }
    }

    /// Drains the core, and lets the store tell it what there is to tell.
    fn settle(&mut self, now: Now, disk: &mut SimDisk, effects: &mut Vec<Effect>) {
        loop {
            self.drain(disk, effects);
            self.watch(effects);
            effects.extend(self.store.read_held().map(Effect::Store));
            let step = self.store.keeper.step();
            let waits = matches!(step, Step::Waits);
            let mut started = Vec::new();
            let told = match step {
                Step::Told(input) => Some(input),
                Step::Worked => None,
                Step::Read(run) => {
                    started.extend(self.store.wants(run));
                    None
                }
                Step::Waits => self.store.go_on(&mut self.room, disk, &mut started),
            };
            if !waits {
                self.store.stepped(&mut self.room, disk, &mut started);
            }
            effects.extend(started.into_iter().map(Effect::Store));
            let Some(input) = told else {
                if waits {
                    return;
                }
                continue;
            };
            if let Input::CheckpointDurable { .. } = input {
                let (first, _) = self.store.keeper.store().history_positions();
                let published = StoreEffect::Published {
                    drops: first > 1,
                    reopened: reopened::compare(&self.store.keeper, disk),
                };
                effects.push(Effect::Store(published));
            }
            self.replica.step(now, input);
        }
    }

    fn drain(&mut self, disk: &mut SimDisk, effects: &mut Vec<Effect>) {
        while let Some(output) = self.replica.poll_output() {
            match output {
                Output::Persist { seq, record } => self.persist(seq, record, effects),
                Output::Send { to, message } => effects.push(Effect::Send { to, message }),
                Output::Reply { connection, reply } => {
                    effects.push(Effect::Reply { connection, reply });
                }
                Output::ReadLog {
                    from,
                    upto,
                    bytes_max,
                } => {
                    let read = LogRead {
                        from,
                        upto,
                        bytes_max,
                    };
                    effects.push(Effect::ReadStarted { read });
                }
                Output::Checkpoint(part) => {
                    self.store.write_wanted = true;
                    if let Err(problem) = self.store.keeper.take(part, &mut Files(disk)) {
                        let damaged = StoreEffect::Damaged {
                            place: None,
                            problem,
                        };
                        effects.push(Effect::Store(damaged));
                    }
                }
                Output::ReleaseLog { below } => {
                    self.wal.release_below(below.0);
                    self.holds_back = false;
                }
                Output::Load {
                    question,
                    names,
                    accounts,
                } => self.store.ask(Question::new(question, names, accounts)),
                Output::LoadChain { question, chain } => {
                    effects.push(Effect::Happened("history_walk_in_store"));
                    self.store.ask(Question::chain(question, chain));
                }
                Output::List { after, limit } => self.store.list(after, limit),
                Output::FetchSnapshot { from } => self.wants_snapshot = Some(from.replica),
                // Nobody asks, and any of it may be lost.
                Output::Count(_) => {}
                Output::Rejoined => effects.push(Effect::Rejoined),
                Output::Stop { reason } => effects.push(Effect::Stopped { reason }),
            }
        }
    }

    /// Tells the observers what was applied in this step, from the log's point of view, and who leads.
    fn watch(&mut self, effects: &mut Vec<Effect>) {
        let status = self.replica.status();
        let leading = status.serving.then_some(status.ballot);
        if let Some(ballot) = leading
            && self.leading != leading
        {
            let in_doubt = status.in_doubt;
            effects.push(Effect::Leads { ballot, in_doubt });
        }
        if self.leading == Some(status.ballot) && leading.is_none() {
            effects.push(Effect::SteppedDown);
        }
        self.leading = leading;
        while self.applied_upto < status.applied_upto {
            let slot = self.applied_upto.next();
            self.applied_upto = slot;
            self.advanced = true;
            effects.push(match self.log.get(&slot) {
                Some(logged) => Effect::Applied {
                    slot,
                    entry: logged.entry.clone(),
                },
                None => Effect::AppliedUnseen { slot },
            });
        }
    }
}
