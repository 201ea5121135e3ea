//! Faults beyond single messages and sectors: machines, links, clocks and disks, at drawn moments.
//!
//! Every fault is undone by itself after a while, and all of them by [`heal`]. What is destroyed for
//! good stays within the [`crate::budget`].
//!
//! Each kind draws from a stream of its own: a kind that is added, or that comes more often, does not
//! move the others.

use crate::disk_faults;
use crate::exit::Exit;
use crate::network::PARTITIONS;
use crate::node::{Aim, Fuse};
use crate::operator;
use crate::plots;
use crate::random::Stream;
use crate::world::{Event, World};
use quorate_protocol::time::SECOND;

/// A fault that comes back at random intervals. The discriminants choose the streams: never
/// renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    PowerLoss = 0,
    Kill = 1,
    Blackout = 2,
    Partition = 3,
    Pause = 4,
    ClockJump = 5,
    WriteError = 6,
    SyncError = 7,
    ReadError = 8,
    DiskFull = 9,
    OperatorDeath = 10,
    BitRot = 11,
    Misdirected = 12,
    Stale = 13,
    DiskLost = 14,
    Usurper = 15,
    Relay = 16,
    LeftBehind = 17,
    StoreRot = 18,
}

const ALL: [Fault; 19] = [
    Fault::PowerLoss,
    Fault::Kill,
    Fault::Blackout,
    Fault::Partition,
    Fault::Pause,
    Fault::ClockJump,
    Fault::WriteError,
    Fault::SyncError,
    Fault::ReadError,
    Fault::DiskFull,
    Fault::OperatorDeath,
    Fault::BitRot,
    Fault::Misdirected,
    Fault::Stale,
    Fault::DiskLost,
    Fault::Usurper,
    Fault::Relay,
    Fault::LeftBehind,
    Fault::StoreRot,
];

/// A fault that follows another one closely comes within this time.
const BURST_NS: u64 = 2 * SECOND;
/// An aimed crash that has not met its moment by then happens anyway.
const AIM_NS: u64 = 2 * SECOND;

/// Names of the counters of this module and of the world.
pub const FAULT_NAMES: [&str; 26] = [
    "blackout",
    "clock_drift",
    "clock_jump_ahead",
    "clock_step_back",
    "corruption_caught",
    "crash_after_send",
    "crash_in_checkpoint",
    "crash_in_doubt",
    "crash_in_flush",
    "crash_in_move",
    "crash_unsynced_name",
    "disk_full_in_rebuild",
    "disk_slow",
    "disk_stalled",
    "left_behind",
    "log_damage_named",
    "operator_died",
    "operator_died_in_move",
    "pause",
    "power_loss",
    "process_ended_itself",
    "process_killed",
    "replica_parked_corrupt",
    "replica_parked_lost",
    "start_refused",
    "store_rot",
];

/// One stream per kind of fault.
pub fn streams(seed: u64) -> Vec<Stream> {
    let member = |fault: Fault| Stream::new(seed, crate::random::Concern::Fault, fault as u64);
    ALL.into_iter().map(member).collect()
}

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
        Fault::WriteError => intervals.write_error_ns,
        Fault::SyncError => intervals.sync_error_ns,
        Fault::ReadError => intervals.read_error_ns,
        Fault::DiskFull => intervals.disk_full_ns,
        Fault::OperatorDeath => intervals.operator_death_ns,
        Fault::BitRot => intervals.bit_rot_ns,
        Fault::Misdirected => intervals.misdirected_ns,
        Fault::Stale => intervals.stale_ns,
        Fault::DiskLost => intervals.disk_lost_ns,
        Fault::Usurper => intervals.usurper_ns,
        Fault::Relay => intervals.relay_ns,
        Fault::LeftBehind => intervals.left_behind_ns,
        Fault::StoreRot => intervals.store_rot_ns,
    };
    if mean_ns > 0 {
        // Beyond its duration a run only goes on to get its transfers done: ever less is in the way.
        let overtime = world.now_ns() / world.parameters.duration_ns;
        let mean_ns = mean_ns << overtime;
        // Troubles come in threes: often the next one does not wait until the cluster has recovered.
        let stream = world.fault_stream(fault);
        let delay_ns = if stream.chance(250_000) {
            stream.below(mean_ns.min(BURST_NS))
        } else {
            stream.exponential(mean_ns)
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
        Fault::PowerLoss | Fault::Kill => crash_one(world, fault),
        Fault::Blackout => {
            world.faults.add("blackout");
            for node in 0..world.nodes.len() {
                crash(world, node, fault);
            }
        }
        Fault::Partition => partition(world),
        Fault::Pause => pause(world),
        Fault::ClockJump => clock_jump(world),
        Fault::WriteError
        | Fault::SyncError
        | Fault::ReadError
        | Fault::DiskFull
        | Fault::BitRot
        | Fault::StoreRot
        | Fault::Misdirected
        | Fault::Stale
        | Fault::DiskLost => disk_faults::strike(world, fault),
        Fault::OperatorDeath => operator::die(world),
        Fault::Usurper => plots::begin_usurper(world),
        Fault::Relay => plots::begin_relay(world),
        Fault::LeftBehind => leave_behind(world),
    }
    plan(world, fault);
}

/// A node is down for so long that its groups take checkpoints without it, if they can.
fn leave_behind(world: &mut World) {
    let node = some_node(world, Fault::LeftBehind);
    // Who is behind alone is left behind: without a majority nothing would go on.
    if world.nodes.iter().all(|node| node.up) {
        world.faults.add("left_behind");
        let down_ns = world
            .fault_stream(Fault::LeftBehind)
            .between(5 * SECOND, 20 * SECOND);
        restart(world, node, down_ns);
    }
}

fn clock_jump(world: &mut World) {
    let machines = world.nodes.len() + world.actors.len();
    let stream = &mut world.fault_streams[Fault::ClockJump as usize];
    let machine = stream.index(machines);
    let clock = match world.nodes.get_mut(machine) {
        Some(node) => &mut node.clock,
        None => &mut world.actors[machine - world.nodes.len()].clock,
    };
    let now_ns = world.queue.now_ns();
    let before = clock.now(now_ns).wall_ns;
    clock.jump(stream);
    world.faults.add(if clock.now(now_ns).wall_ns < before {
        "clock_step_back"
    } else {
        "clock_jump_ahead"
    });
}

fn crash_one(world: &mut World, fault: Fault) {
    let node = some_node(world, fault);
    if !world.nodes[node].up {
        return;
    }
    let until_ns = world.now_ns() + AIM_NS;
    let stream = world.fault_stream(fault);
    let aim = match stream.below(10) {
        0..3 => return crash(world, node, fault),
        3..6 => Aim::Events(stream.below(40)),
        6 => Aim::InFlush,
        7 => Aim::AfterSend,
        8 => Aim::InDoubt,
        _ => stream.pick(&[Aim::InMove, Aim::UnsyncedName, Aim::InCheckpoint]),
    };
    world.nodes[node].fuse = Some(Fuse {
        aim,
        until_ns,
        fault,
    });
}

/// A node; half of the time one that hosts a leader, where faults hurt most.
fn some_node(world: &mut World, fault: Fault) -> usize {
    let leaders = world.leader_nodes();
    let count = world.nodes.len();
    let stream = world.fault_stream(fault);
    if !leaders.is_empty() && stream.chance(500_000) {
        stream.pick(&leaders)
    } else {
        stream.index(count)
    }
}

/// Something is about to happen on a machine: perhaps it dies first.
pub fn burn_fuse(world: &mut World, node: usize) {
    let now_ns = world.now_ns();
    let Some(fuse) = &mut world.nodes[node].fuse else {
        return;
    };
    let fault = fuse.fault;
    let met = match &mut fuse.aim {
        Aim::Events(0) => None,
        Aim::Events(left) => {
            *left -= 1;
            return;
        }
        aim => {
            let aim = *aim;
            let late = now_ns >= fuse.until_ns;
            let met = world.is_met(node, aim);
            if !late && !met {
                return;
            }
            met.then(|| aim.counter()).flatten()
        }
    };
    world.nodes[node].fuse = None;
    if !world.healed {
        if let Some(name) = met {
            world.faults.add(name);
        }
        crash(world, node, fault);
    }
}

/// A machine has just sent something: perhaps it was the last thing it did.
pub fn burn_fuse_after_send(world: &mut World, node: usize) {
    let Some(fuse) = world.nodes[node].fuse else {
        return;
    };
    if fuse.aim == Aim::AfterSend && !world.healed {
        world.faults.add("crash_after_send");
        crash(world, node, fuse.fault);
    }
}

/// A machine breaks down; it is repaired and starts again.
pub fn break_down(world: &mut World, node: usize, fault: Fault) {
    crash(world, node, fault);
}

fn crash(world: &mut World, node: usize, fault: Fault) {
    if !world.nodes[node].up {
        return;
    }
    let power_loss = fault != Fault::Kill;
    world.faults.add(if power_loss {
        "power_loss"
    } else {
        "process_killed"
    });
    world.nodes[node].fuse = None;
    world.stop(node, power_loss);
    plan_restart(world, node, fault);
}

/// The processes of a machine die and start again after so long.
pub(crate) fn restart(world: &mut World, node: usize, down_ns: u64) {
    if !world.nodes[node].up {
        return;
    }
    world.faults.add("process_killed");
    world.nodes[node].fuse = None;
    world.stop(node, false);
    let at_ns = world.now_ns() + down_ns;
    world.queue.push(at_ns, Event::Start { node });
}

/// A process ends by itself: the whole node goes, and is started again.
pub fn exit(world: &mut World, process: usize, exit: Exit) {
    let node = world.node_of(process);
    let (now_ns, address) = (world.now_ns(), world.processes[process].address());
    world.trace.line(now_ns, || {
        format!(
            "{address} ends its process: {exit:?}, exit code {}",
            exit.code()
        )
    });
    world.faults.add("process_ended_itself");
    world.stop(node, false);
    let fault = match exit {
        Exit::WriteFailed => Fault::WriteError,
        Exit::SyncFailed => Fault::SyncError,
        Exit::ReadFailed => Fault::ReadError,
    };
    plan_restart(world, node, fault);
}

/// A replica could not be started: the others of its node serve, until somebody looks after it and
/// starts the node again.
pub fn refuse_start(world: &mut World, process: usize) {
    world.faults.add("start_refused");
    let node = world.node_of(process);
    let life = world.nodes[node].life;
    let at_ns = world.now_ns() + world.fault_stream(Fault::ReadError).below(2 * SECOND);
    world.queue.push(at_ns, Event::Service { node, life });
}

/// Somebody stops a node whose replicas do not all run, to start it again.
pub fn service(world: &mut World, node: usize, life: u64) {
    if world.nodes[node].up && world.nodes[node].life == life {
        world.stop(node, false);
        let at_ns = world.now_ns();
        world.queue.push(at_ns, Event::Start { node });
    }
}

/// A replica begins to rebuild: perhaps that is when its machine dies, or when there is no room for a
/// second store.
pub fn of_rebuild(world: &mut World, process: usize) {
    let ppm = world.parameters.rebuild_trouble_ppm;
    let longest_ns = world.parameters.durations.disk_full_ns;
    let (is_healed, now_ns, node) = (world.healed, world.now_ns(), world.node_of(process));
    let stream = world.fault_stream(Fault::LeftBehind);
    if is_healed || !stream.chance(ppm) {
        return;
    }
    if stream.chance(300_000) {
        let at_ns = now_ns + stream.below(longest_ns);
        world.faults.add("disk_full_in_rebuild");
        world.processes[process].disk_mut().leave_free(0);
        world.queue.push(at_ns, Event::Room { process });
        return;
    }
    let fuse = Fuse {
        aim: Aim::Events(stream.below(60)),
        until_ns: now_ns + AIM_NS,
        fault: stream.pick(&[Fault::PowerLoss, Fault::PowerLoss, Fault::Kill]),
    };
    world.nodes[node].fuse = Some(fuse);
}

fn plan_restart(world: &mut World, node: usize, fault: Fault) {
    let longest_ns = world.parameters.durations.down_ns;
    let down_ns = world.fault_stream(fault).exponential(longest_ns / 3);
    let at_ns = world.now_ns() + down_ns.min(longest_ns);
    world.queue.push(at_ns, Event::Start { node });
}

fn partition(world: &mut World) {
    let kind = world.fault_stream(Fault::Partition).pick(&PARTITIONS);
    let hosts = world.nodes.len() + world.actors.len();
    let now_ns = world.now_ns();
    world.trace.line(now_ns, || format!("partition {kind:?}"));
    let victim = some_node(world, Fault::Partition);
    let groups = world.groups();
    world
        .network
        .cut(kind, victim, world.nodes.len(), hosts, &groups);
    world.partition_number += 1;
    let longest_ns = world.parameters.durations.partition_ns;
    let at_ns = now_ns + world.fault_stream(Fault::Partition).below(longest_ns);
    let number = world.partition_number;
    world.queue.push(at_ns, Event::Mend { number });
}

fn pause(world: &mut World) {
    let node = some_node(world, Fault::Pause);
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
    let at_ns = now_ns + world.fault_stream(Fault::Pause).below(longest_ns);
    world.queue.push(at_ns, Event::Resume { node, life });
}

/// Ends all faults: links work, disks do, machines run.
pub fn heal(world: &mut World) {
    world.healed = true;
    let now_ns = world.now_ns();
    world
        .trace
        .line(now_ns, || "everything is healed".to_owned());
    world.network.calm_down();
    disk_faults::heal(world);
    for process in &mut world.processes {
        process.keep_blocks();
    }
    for node in 0..world.nodes.len() {
        let life = world.nodes[node].life;
        world.queue.push(now_ns, Event::Resume { node, life });
        world.queue.push(now_ns, Event::Start { node });
    }
}
