//! Plots: sequences of faults that wait for what the simulator sees.
//!
//! Some mistakes show only if three or four things happen in one order within a fraction of a second, and
//! faults at drawn times hardly ever make it. A plot watches messages arrive and leaders begin, and
//! strikes at its moment: it cuts links, loses a message, ends a process. Nothing that it does is beyond
//! what single faults do, and it ends by itself.
//!
//! | plot | what it brings about |
//! | --- | --- |
//! | [`usurper`] | a campaign at the only voter that still keeps a leader's lease, perhaps just restarted |
//! | [`relay`] | entries that only a deposed leader knows as chosen, while others hold different ones |
//! | [`astray`] | a look-up that only a replica answers which has not seen the account leave |
//! | [`probe`] | a write through a successor, then a read at a predecessor that does not know of it |
//! | [`rival`] | a leader that does not learn of the campaign against it |
//! | [`late_move`] | a copy of a move's message, when the accounts have left the target again |
//!
//! Draws come from a stream of their own. One plot is under way at a time; another partition ends it.

pub(crate) mod astray;
pub(crate) mod late_move;
pub(crate) mod probe;
mod relay;
pub(crate) mod rival;
mod usurper;

use std::collections::{BTreeMap, VecDeque};

use quorate_protocol::ids::{ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::ledger::Transfer;
use quorate_protocol::message::PeerMessage;
use quorate_protocol::time::MS;

use self::astray::Astray;
use self::relay::Relay;
use self::usurper::Usurper;
use crate::history::TransferUse;
use crate::job::{Job, Want};
use crate::random::Stream;
use crate::world::{Event, World};

/// Names of the counters of plots.
pub const FAULT_NAMES: [&str; 10] = [
    "client_turned_to_successor",
    "group_scattered",
    "leader_cut_from_rival",
    "leader_relayed",
    "look_up_led_astray",
    "move_copied_late",
    "predecessor_read",
    "record_harmed_before_vote",
    "vote_sought_after_restart",
    "vote_sought_under_lease",
];

/// A process that dies in a plot is back within this time.
const RESTART_NS: u64 = 30 * MS;

/// What plots know and wait for.
#[derive(Debug)]
pub(crate) struct Plots {
    pub(crate) stream: Stream,
    current: Option<Plot>,
    /// When the last partition of a plot is mended.
    mend_ns: u64,
    /// Leaders that were cut off from their groups and cannot learn of a successor.
    unaware: BTreeMap<ShardId, ReplicaAddress>,
    late_moves: VecDeque<late_move::Copy>,
    probe: Option<probe::Probe>,
}

impl Plots {
    /// None under way; `stream` decides all draws.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            current: None,
            mend_ns: 0,
            unaware: BTreeMap::new(),
            late_moves: VecDeque::new(),
            probe: None,
        }
    }
}

/// A plot under way.
#[derive(Debug)]
struct Plot {
    kind: Kind,
    /// The partition that it made last: once there is another one, the plot is off.
    number: u64,
}

#[derive(Debug)]
enum Kind {
    Usurper(Usurper),
    Relay(Relay),
    Astray(Astray),
}

impl Kind {
    /// How long it goes on when its cuts are mended.
    fn after_mend_ns(&self) -> u64 {
        match self {
            Self::Relay(relay) => relay.after_mend_ns(),
            Self::Usurper(_) | Self::Astray(_) => 0,
        }
    }
}

/// A message that is about to arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) process: usize,
    pub(crate) from: ReplicaAddress,
    pub(crate) to: ReplicaAddress,
    pub(crate) message: &'a PeerMessage,
    pub(crate) bytes: &'a [u8],
}

/// A follower loses its leader, unless something is under way.
pub(crate) fn begin_usurper(world: &mut World) {
    if !is_busy(world)
        && let Some(usurper) = usurper::begin(world)
    {
        note(world, Kind::Usurper(usurper));
    }
}

/// A leader loses its group, unless something is under way.
pub(crate) fn begin_relay(world: &mut World) {
    if !is_busy(world)
        && let Some(relay) = relay::begin(world)
    {
        note(world, Kind::Relay(relay));
    }
}

/// Whether a plot is under way.
pub(crate) fn is_busy(world: &World) -> bool {
    world.plots.current.as_ref().is_some_and(|plot| {
        let over_ns = world.plots.mend_ns + plot.kind.after_mend_ns();
        plot.number == world.partition_number && world.now_ns() < over_ns
    })
}

fn note(world: &mut World, kind: Kind) {
    let now_ns = world.now_ns();
    world.trace.line(now_ns, || format!("plot {kind:?}"));
    world.plots.current = Some(Plot {
        kind,
        number: world.partition_number,
    });
}

/// A plot sees a message arrive. True if the message is lost.
pub(crate) fn intercept(world: &mut World, arrival: Arrival<'_>) -> bool {
    if world.healed || !is_busy(world) {
        return false;
    }
    let Some(mut plot) = world.plots.current.take() else {
        return false;
    };
    let is_lost = match &mut plot.kind {
        Kind::Usurper(usurper) => usurper.see(world, arrival),
        Kind::Relay(relay) => relay.see(world, arrival),
        Kind::Astray(astray) => astray.see(world, arrival),
    };
    plot.number = world.partition_number;
    if is_lost {
        let Arrival { from, to, .. } = arrival;
        let now_ns = world.now_ns();
        world
            .trace
            .line(now_ns, || format!("{from} -> {to} lost, plot {plot:?}"));
    }
    world.plots.current = Some(plot);
    is_lost
}

/// A replica begins to serve. If its predecessor cannot know, some clients hear of the new one, while
/// the others, the reader among them, go on asking the old one.
pub(crate) fn on_leader(world: &mut World, leader: ReplicaAddress) {
    let Some(unaware) = world.plots.unaware.remove(&leader.shard) else {
        return;
    };
    if unaware == leader || world.healed {
        return;
    }
    let first = usize::from(world.parameters.workload.reader);
    for client in first..world.parameters.clients {
        if world.plots.stream.chance(500_000) {
            world.faults.add("client_turned_to_successor");
            world.actors[client].client.hear_of_leader(leader);
        }
    }
    probe::begin(world, unaware, leader);
}

/// Lets a client send a transfer to a shard; its index in the history.
fn submit(world: &mut World, client: usize, transfer: Transfer, shard: ShardId) -> usize {
    let number = world.history.transfers.len();
    world.history.transfers.push(TransferUse {
        transfer,
        started_ns: None,
        answer: None,
        abandoned: false,
        denied: false,
    });
    let job = Job::new(Want::Transfer(number), shard);
    world.actors[client].client.submit(job);
    world.wake(client);
    number
}

/// What a client's clock says.
fn wall_ns(world: &World, client: usize) -> u64 {
    world.actors[client].clock.now(world.now_ns()).wall_ns
}

/// Cuts a replica's machine off from those of its group, and from no other.
pub(crate) fn cut_from_group(world: &mut World, lonely: ReplicaAddress) {
    let host = world.host_of(lonely);
    for replica in (1..=world.parameters.replicas).map(ReplicaId) {
        let shard = lonely.shard;
        let member = world.host_of(ReplicaAddress { shard, replica });
        world.network.cut_off(host, member);
    }
}

/// The cuts are a partition of their own from now on, and are mended after a while.
pub(crate) fn mend_after(world: &mut World, delay_ns: u64) {
    world.partition_number += 1;
    let number = world.partition_number;
    world.plots.mend_ns = world.now_ns() + delay_ns;
    world
        .queue
        .push(world.plots.mend_ns, Event::Mend { number });
}

/// A group of three whose leader serves: the leader, and the others in a drawn order.
fn led_group(world: &mut World) -> Option<[ReplicaAddress; 3]> {
    if world.parameters.replicas != 3 {
        return None;
    }
    let shard = 1 + world.plots.stream.below(u64::from(world.parameters.shards));
    let shard = ShardId(u32::try_from(shard).expect("a few shards"));
    let leader = serving(world, shard)?;
    let step = world.plots.stream.between(1, 2);
    let member = |step: u64| ReplicaAddress {
        shard,
        replica: ReplicaId(
            u8::try_from((u64::from(leader.replica.0) - 1 + step) % 3 + 1).expect("1 to 3"),
        ),
    };
    Some([leader, member(step), member(3 - step)])
}

/// The leader of a shard, if it serves.
fn serving(world: &World, shard: ShardId) -> Option<ReplicaAddress> {
    let leader = world.leader_of(shard)?;
    let status = world.process_at(leader).status()?;
    status.serving.then_some(leader)
}
