//! The relay: leadership goes on before anybody but the leader knows what it has had chosen.
//!
//! ```text
//! deposed   cut off from its group, not from clients: it accepts entries that nobody else gets
//! chooser   leads next; the vote of the witness reaches it: a slot is chosen, and only it knows
//!           at this moment it is cut off in its turn
//!           swapped:   the deposed leader and the witness elect one of themselves, without it
//!           scattered: nobody reaches anybody until the chooser has stepped down, then all do
//! ```
//!
//! Swapped, the next leader must find the entry in the witness's promise, under the higher ballot than its
//! own. If the witness may be harmed (see [`crate::budget`]), its record of the entry may rot before
//! the promise arrives: then its vote counts for nothing there, and the two have to wait for the third.
//! Scattered, the deposed leader may be elected by the chooser, who names the slot as chosen and does not
//! repeat the entry: it has to be fetched before anything is proposed.

use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::message::PeerBody;
use quorate_protocol::paxos::message::Message as Paxos;
use quorate_protocol::time::{MS, SECOND};

use super::{Arrival, RESTART_NS, cut_from_group, led_group, mend_after};
use crate::faults;
use crate::world::World;

/// The chooser is cut off at one of its first votes: later ones are about slots above those that the
/// deposed leader has entries for.
const VOTES_MAX: u64 = 4;

/// Three replicas and where they are in it.
#[derive(Debug)]
pub(super) struct Relay {
    deposed: ReplicaAddress,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// For so many votes beside the one that matters.
    Waiting {
        votes: u64,
    },
    Swapped {
        witness: ReplicaAddress,
        is_to_be_harmed: bool,
    },
    Scattered {
        witness: ReplicaAddress,
    },
}

pub(super) fn begin(world: &mut World) -> Option<Relay> {
    let [deposed, ..] = led_group(world)?;
    world.network.mend();
    cut_from_group(world, deposed);
    mend_after(world, 3 * SECOND);
    world.plots.unaware.insert(deposed.shard, deposed);
    let votes = world.plots.stream.below(VOTES_MAX);
    let stage = Stage::Waiting { votes };
    Some(Relay { deposed, stage })
}

impl Relay {
    /// Scattered replicas elect one when they meet again.
    pub(super) fn after_mend_ns(&self) -> u64 {
        match self.stage {
            Stage::Waiting { .. } | Stage::Swapped { .. } => 0,
            Stage::Scattered { .. } => 2 * SECOND,
        }
    }

    pub(super) fn see(&mut self, world: &mut World, arrival: Arrival<'_>) -> bool {
        let Arrival { from, to, .. } = arrival;
        let PeerBody::Paxos(message) = &arrival.message.body else {
            return false;
        };
        if to.shard != self.deposed.shard {
            return false;
        }
        match &mut self.stage {
            Stage::Waiting { votes } => {
                let among_others = from != self.deposed && to != self.deposed;
                if among_others && matches!(message, Paxos::Accepted { .. }) {
                    match votes.checked_sub(1) {
                        Some(left) => *votes = left,
                        None => self.strike(world, to, from),
                    }
                }
                false
            }
            Stage::Swapped {
                witness,
                is_to_be_harmed,
            } => {
                let promises = matches!(message, Paxos::Promise { .. } | Paxos::Prepare { .. });
                if !*is_to_be_harmed || !promises || from != *witness {
                    return false;
                }
                *is_to_be_harmed = false;
                harm(world, *witness)
            }
            Stage::Scattered { witness } => {
                let promises = matches!(message, Paxos::Promise { .. });
                promises && from == *witness && to == self.deposed
            }
        }
    }

    fn strike(&mut self, world: &mut World, chooser: ReplicaAddress, witness: ReplicaAddress) {
        world.network.mend();
        cut_from_group(world, chooser);
        world.plots.unaware.insert(chooser.shard, chooser);
        if world.plots.stream.chance(400_000) {
            world.faults.add("group_scattered");
            cut_from_group(world, witness);
            let delay_ns = world.plots.stream.between(1_100, 1_600) * MS;
            mend_after(world, delay_ns);
            self.stage = Stage::Scattered { witness };
            return;
        }
        world.faults.add("leader_relayed");
        let may_be_harmed = world.may_be_harmed(witness);
        let least_ms = if may_be_harmed { 3_000 } else { 1_500 };
        let delay_ns = world.plots.stream.between(least_ms, 4_000) * MS;
        mend_after(world, delay_ns);
        self.stage = Stage::Swapped {
            witness,
            is_to_be_harmed: may_be_harmed,
        };
    }
}

/// A record that the witness is about to report rots, and its process dies. True if so.
fn harm(world: &mut World, witness: ReplicaAddress) -> bool {
    if !world.process_at_mut(witness).rot_unchosen() {
        return false;
    }
    world.faults.add("record_harmed_before_vote");
    let node = world.host_of(witness);
    let down_ns = 1 + world.plots.stream.below(RESTART_NS);
    faults::restart(world, node, down_ns);
    true
}
