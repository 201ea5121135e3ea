//! Faults beyond single messages and sectors: machines, links and clocks, at drawn moments.
//!
//! Every fault is undone by itself after a while, and all of them by [`heal`]. Crashes never touch
//! synced bytes, so a majority can always come back: any failure to recover is a bug.

use crate::network::PARTITIONS;
use crate::node::Fuse;
use crate::world::{Event, World};
use quorate_protocol::time::SECOND;

/// A fault that comes back at random intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    PowerLoss,
    Kill,
    Blackout,
    Partition,
    Pause,
    ClockJump,
}

const ALL: [Fault; 6] = [
    Fault::PowerLoss,
    Fault::Kill,
    Fault::Blackout,
    Fault::Partition,
    Fault::Pause,
    Fault::ClockJump,
];

/// A fault that follows another one closely comes within this time.
const BURST_NS: u64 = 2 * SECOND;

/// Names of the counters of this module and of the world.
pub const FAULT_NAMES: [&str; 7] = [
    "blackout",
    "clock_jump",
    "corruption_caught",
    "disk_stalled",
    "pause",
    "power_loss",
    "process_killed",
];

/// Plans the first fault of each kind.
pub fn plan_all(world: &mut World) {
    for fault in ALL {
        plan(world, fault);
    }
}

fn plan(world: &mut World, fault: Fault) {
    let intervals = &world.parameters.intervals;
    let mean_ns = match fault {
        Fault::PowerLoss => intervals.power_loss_ns,
        Fault::Kill => intervals.kill_ns,
        Fault::Blackout => intervals.blackout_ns,
        Fault::Partition => intervals.partition_ns,
        Fault::Pause => intervals.pause_ns,
        Fault::ClockJump => intervals.clock_jump_ns,
    };
    if mean_ns > 0 {
        // Troubles come in threes: often the next one does not wait until the cluster has recovered.
        let delay_ns = if world.crash_stream.chance(250_000) {
            world.crash_stream.below(mean_ns.min(BURST_NS))
        } else {
            world.crash_stream.exponential(mean_ns)
        };
        let at_ns = world.now_ns() + delay_ns;
        world.queue.push(at_ns, Event::Fault(fault));
    }
}

/// Lets a fault happen and plans the next one of its kind.
pub fn strike(world: &mut World, fault: Fault) {
    if world.healed {
        return;
    }
    match fault {
        Fault::PowerLoss => crash_one(world, true),
        Fault::Kill => crash_one(world, false),
        Fault::Blackout => {
            world.faults.add("blackout");
            for node in 0..world.nodes.len() {
                crash(world, node, true);
            }
        }
        Fault::Partition => partition(world),
        Fault::Pause => pause(world),
        Fault::ClockJump => {
            world.faults.add("clock_jump");
            let machines = world.nodes.len() + world.actors.len();
            let machine = world.clock_stream.index(machines);
            let clock = match world.nodes.get_mut(machine) {
                Some(node) => &mut node.clock,
                None => &mut world.actors[machine - world.nodes.len()].clock,
            };
            clock.jump(&mut world.clock_stream);
        }
    }
    plan(world, fault);
}

fn crash_one(world: &mut World, power_loss: bool) {
    let node = some_node(world);
    if !world.nodes[node].up {
        return;
    }
    if world.crash_stream.chance(700_000) {
        let events = world.crash_stream.below(40);
        world.nodes[node].fuse = Some(Fuse { events, power_loss });
    } else {
        crash(world, node, power_loss);
    }
}

/// A node; half of the time one that hosts a leader, where faults hurt most.
fn some_node(world: &mut World) -> usize {
    let leaders = world.leader_nodes();
    if !leaders.is_empty() && world.crash_stream.chance(500_000) {
        world.crash_stream.pick(&leaders)
    } else {
        world.crash_stream.index(world.nodes.len())
    }
}

/// Something is about to happen on a machine: perhaps it dies first.
pub fn burn_fuse(world: &mut World, node: usize) {
    let Some(fuse) = &mut world.nodes[node].fuse else {
        return;
    };
    if fuse.events > 0 {
        fuse.events -= 1;
        return;
    }
    let power_loss = fuse.power_loss;
    world.nodes[node].fuse = None;
    if !world.healed {
        crash(world, node, power_loss);
    }
}

fn crash(world: &mut World, node: usize, power_loss: bool) {
    if !world.nodes[node].up {
        return;
    }
    world.faults.add(if power_loss {
        "power_loss"
    } else {
        "process_killed"
    });
    world.nodes[node].fuse = None;
    world.stop(node, power_loss);
    let longest_ns = world.parameters.durations.down_ns;
    let down_ns = world.crash_stream.exponential(longest_ns / 3);
    let at_ns = world.now_ns() + down_ns.min(longest_ns);
    world.queue.push(at_ns, Event::Start { node });
}

fn partition(world: &mut World) {
    let kind = world.crash_stream.pick(&PARTITIONS);
    let hosts = world.nodes.len() + world.actors.len();
    let now_ns = world.now_ns();
    world.trace.line(now_ns, || format!("partition {kind:?}"));
    let victim = some_node(world);
    world.network.cut(kind, victim, world.nodes.len(), hosts);
    world.partition_number += 1;
    let longest_ns = world.parameters.durations.partition_ns;
    let at_ns = now_ns + world.crash_stream.below(longest_ns);
    let number = world.partition_number;
    world.queue.push(at_ns, Event::Mend { number });
}

fn pause(world: &mut World) {
    let node = some_node(world);
    if !world.nodes[node].up || world.nodes[node].paused {
        return;
    }
    world.faults.add("pause");
    let now_ns = world.now_ns();
    world.trace.line(now_ns, || format!("node {node} pauses"));
    crate::rare::of_pause(world, node);
    let machine = &mut world.nodes[node];
    machine.paused = true;
    let life = machine.life;
    let longest_ns = world.parameters.durations.pause_ns;
    let at_ns = now_ns + world.crash_stream.below(longest_ns);
    world.queue.push(at_ns, Event::Resume { node, life });
}

/// Ends all faults: links work, machines run.
pub fn heal(world: &mut World) {
    world.healed = true;
    let now_ns = world.now_ns();
    world
        .trace
        .line(now_ns, || "everything is healed".to_owned());
    world.network.calm_down();
    for node in 0..world.nodes.len() {
        let life = world.nodes[node].life;
        world.queue.push(now_ns, Event::Resume { node, life });
        world.queue.push(now_ns, Event::Start { node });
    }
}
