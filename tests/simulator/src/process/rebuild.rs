//! A replica that rebuilds: no core runs, and what arrives is either a part of the snapshot or in vain.

use quorate_durable::fetch::Fetch;
use quorate_protocol::ids::{ReplicaAddress, ReplicaId};
use quorate_protocol::input::Input;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::snapshot::Message;
use quorate_protocol::time::{Now, Timestamp};

use super::room::RoomTask;
use super::store::StoreEffect;
use super::writes::{Ended, Writes};
use super::{Effect, Process, peer_of};
use crate::exit::Exit;

/// A fetch and its open operation.
pub(super) struct Rebuild {
    pub(super) fetch: Fetch,
    pub(super) writes: Writes,
    pub(super) room: RoomTask,
    /// Of the core that comes after it.
    seed: u64,
}

impl Process {
    /// Ends the core; the log stays as it is. The next core starts from the checkpoint of the group.
    pub(super) fn begin_rebuild(&mut self, now: Now, from: ReplicaId, effects: &mut Vec<Effect>) {
        let seed = self.running.as_ref().map_or(0, |running| running.seed);
        // What the core has begun in its last step ends with it, as do its earlier reads and writes: the world would
        // report their ends to what comes after it.
        effects.retain(|effect| matches!(effect, Effect::Send { .. } | Effect::Reply { .. }));
        self.stop(false);
        self.incarnation += 1;
        let opened = match self.open_store() {
            Ok(opened) => opened,
            Err(problem) => {
                return effects.push(Effect::Store(StoreEffect::RebuildEnded(Err(problem))));
            }
        };
        let others = self.config.peers();
        let marks = self.marks();
        self.rebuild = Some(Rebuild {
            fetch: Fetch::new(&opened.store, from, others),
            writes: Writes::default(),
            room: RoomTask::begin(marks, &mut self.disk),
            seed: seed.wrapping_add(1),
        });
        effects.push(Effect::Store(StoreEffect::RebuildStarted));
        self.rebuild_on(now, effects);
    }

    /// Takes what arrives while it rebuilds.
    pub(super) fn rebuild_step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        let rebuild = self.rebuild.as_mut().expect("it rebuilds");
        if let Input::Peer { from, message } = &input
            && let PeerBody::Snapshot(message) = &message.body
            && from.shard == self.config.address.shard
        {
            let before = rebuild.fetch.progress();
            let taken = rebuild.fetch.on_message(now.mono_ns, from.replica, message);
            let after = rebuild.fetch.progress();
            if after.chunks_refused > before.chunks_refused {
                effects.push(Effect::Store(StoreEffect::ChunkRefused));
            }
            if after.begun_again > before.begun_again {
                effects.push(Effect::Store(StoreEffect::RebuildBegunAgain));
            }
            if let Err(error) = taken {
                effects.push(Effect::Store(StoreEffect::RebuildEnded(Err(
                    error.to_string()
                ))));
                return effects;
            }
        }
        self.rebuild_on(now, &mut effects);
        effects
    }

    /// The open operation has ended.
    pub(super) fn rebuild_operated(&mut self, now: Now) -> Result<Vec<Effect>, Exit> {
        let rebuild = self.rebuild.as_mut().expect("it rebuilds");
        let operation = match rebuild.writes.end(&mut rebuild.room, &mut self.disk)? {
            Ended::Done(operation) => operation,
            Ended::Waits(effect) => return Ok(vec![Effect::Store(effect)]),
        };
        rebuild.fetch.finish_operation(&operation);
        let mut effects = Vec::new();
        if rebuild.fetch.is_done() {
            let seed = rebuild.seed;
            self.rebuild = None;
            effects.push(Effect::Store(StoreEffect::RebuildEnded(
                self.start(seed, now),
            )));
        } else {
            self.rebuild_on(now, &mut effects);
        }
        Ok(effects)
    }

    fn rebuild_on(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let rebuild = self.rebuild.as_mut().expect("it rebuilds");
        if rebuild.writes.is_idle()
            && let Some(operation) = rebuild.fetch.next_operation()
        {
            let mut started = Vec::new();
            let (room, disk) = (&mut rebuild.room, &mut self.disk);
            rebuild.writes.begin(operation, room, disk, &mut started);
            effects.extend(started.into_iter().map(Effect::Store));
        }
        while let Some((to, message)) = rebuild.fetch.next_question(now.mono_ns) {
            let to = peer_of(self.config.address, to);
            effects.push(snapshot(to, message));
        }
    }
}

/// A message between shells: no core has a clock to put into it.
pub fn snapshot(to: ReplicaAddress, message: Message) -> Effect {
    Effect::Send {
        to,
        message: PeerMessage {
            clock: Timestamp::ZERO,
            body: PeerBody::Snapshot(message),
        },
    }
}
