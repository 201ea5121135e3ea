//! The usurper: a follower that hears its leader no more seeks the vote of the one that still does.
//!
//! ```text
//! leader  ---heartbeats--->  voter        the voter keeps the leader's lease
//! leader    x  cut  x        rival        after its timeout it campaigns:
//! rival   --- PreVote ---->  voter        at this moment the leader is cut off from both, not from clients;
//!                                         perhaps the voter's process dies and is back at once
//! ```
//!
//! If the voter gives its vote, the rival leads while the old leader reads by its lease what the rival's
//! clients have overwritten.

use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::message::PeerBody;
use quorate_protocol::paxos::message::Message as Paxos;
use quorate_protocol::time::{MS, SECOND};

use super::{Arrival, RESTART_NS, cut_from_group, led_group, mend_after, serving};
use crate::faults;
use crate::world::{Event, World};

/// A follower and a voter, and the leader between them.
#[derive(Debug)]
pub(super) struct Usurper {
    leader: ReplicaAddress,
    rival: ReplicaAddress,
    voter: ReplicaAddress,
    restarts: bool,
    /// The rival has asked.
    has_struck: bool,
}

pub(super) fn begin(world: &mut World) -> Option<Usurper> {
    let [leader, rival, voter] = led_group(world)?;
    world.network.mend();
    let (one, other) = (world.host_of(leader), world.host_of(rival));
    world.network.cut_off(one, other);
    let delay_ns = world.plots.stream.between(1_500, 2_500) * MS;
    mend_after(world, delay_ns);
    Some(Usurper {
        leader,
        rival,
        voter,
        restarts: world.plots.stream.chance(600_000),
        has_struck: false,
    })
}

impl Usurper {
    pub(super) fn see(&mut self, world: &mut World, arrival: Arrival<'_>) -> bool {
        let asks = matches!(
            &arrival.message.body,
            PeerBody::Paxos(Paxos::PreVote { .. })
        );
        let meets = arrival.from == self.rival && arrival.to == self.voter;
        let leads = serving(world, self.leader.shard) == Some(self.leader);
        if self.has_struck || !asks || !meets || !leads {
            return false;
        }
        self.has_struck = true;
        world.plots.unaware.insert(self.leader.shard, self.leader);
        cut_from_group(world, self.leader);
        mend_after(world, SECOND);
        if !self.restarts {
            world.faults.add("vote_sought_under_lease");
            return false;
        }
        world.faults.add("vote_sought_after_restart");
        let node = world.host_of(self.voter);
        let down_ns = 1 + world.plots.stream.below(RESTART_NS);
        faults::restart(world, node, down_ns);
        // The question was on its way for a little longer.
        let late_ns = down_ns + world.plots.stream.below(MS);
        let question = Event::Peer {
            process: arrival.process,
            from: arrival.from,
            bytes: arrival.bytes.to_vec(),
            corrupted: false,
        };
        let at_ns = world.now_ns() + late_ns;
        world.queue.push(at_ns, question);
        true
    }
}
