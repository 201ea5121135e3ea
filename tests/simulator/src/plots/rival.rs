//! The rival: a leader that cannot learn of the campaign against it, while clients still reach it.

use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::paxos::message::Message;
use quorate_protocol::time::SECOND;

use super::{cut_from_group, is_busy, mend_after};
use crate::faults::Fault;
use crate::world::World;

/// A candidate asks for votes: perhaps the leader that it is to replace is cut off from its group,
/// and only from that, so that it does not learn of its successor while clients still reach it.
pub(crate) fn meet(world: &mut World, rival: ReplicaAddress, message: &PeerMessage) {
    let PeerBody::Paxos(Message::Prepare { .. }) = &message.body else {
        return;
    };
    let ppm = world.parameters.network.rival_ppm;
    let idle = !world.healed && !is_busy(world);
    if !idle || ppm == 0 || !world.fault_stream(Fault::Partition).chance(ppm) {
        return;
    }
    let leader = world
        .leader_of(rival.shard)
        .filter(|leader| *leader != rival);
    let Some(leader) = leader else { return };
    world.faults.add("leader_cut_from_rival");
    world.plots.unaware.insert(leader.shard, leader);
    cut_from_group(world, leader);
    let longest_ns = world.parameters.durations.partition_ns.min(SECOND);
    let delay_ns = world.fault_stream(Fault::Partition).below(longest_ns);
    mend_after(world, delay_ns);
}
