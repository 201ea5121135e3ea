//! What disks do wrong beside crashes, and when.
//!
//! An error waits on the disk (see [`crate::disk::Armed`]) for the next operation of its kind, so
//! that it meets whatever the process is doing then: a flush, the preparation of a segment, a read
//! for a peer, a start. Damage to what was synced is done to the victims of the [`crate::budget`]
//! alone.

use crate::disk::Armed;
use crate::faults::{self, Fault};
use crate::world::{Event, World};

/// Places that rot at once.
const ROTTEN_MAX: u64 = 4;

/// Lets a fault of a disk happen.
pub fn strike(world: &mut World, fault: Fault) {
    let process = match fault {
        Fault::BitRot | Fault::StoreRot | Fault::Misdirected | Fault::Stale | Fault::DiskLost => {
            victim(world, fault)
        }
        _ => Some(some_process(world, fault)),
    };
    let Some(process) = process else {
        return;
    };
    let armed = &mut world.processes[process].disk_mut().armed;
    match fault {
        Fault::WriteError => armed.write_error = true,
        Fault::SyncError => armed.sync_error = true,
        Fault::ReadError => armed.read_error = true,
        Fault::DiskFull => {
            fill_up(world, process);
            let longest_ns = world.parameters.durations.disk_full_ns;
            let at_ns = world.now_ns() + world.fault_stream(fault).below(longest_ns);
            world.queue.push(at_ns, Event::Room { process });
        }
        Fault::Misdirected => armed.misdirect = true,
        Fault::Stale => armed.stale = true,
        Fault::BitRot => {
            let stream = &mut world.fault_streams[fault as usize];
            for _ in 0..stream.between(1, ROTTEN_MAX) {
                world.processes[process].rot(stream);
            }
        }
        Fault::StoreRot => {
            let stream = &mut world.fault_streams[fault as usize];
            // What is read at a start ends it; what runs is repaired.
            if !world.processes[process].is_running() && !stream.chance(200_000) {
                return;
            }
            for _ in 0..stream.between(1, ROTTEN_MAX) {
                if world.processes[process].rot_store(stream) {
                    world.faults.add("store_rot");
                }
            }
        }
        Fault::DiskLost => {
            faults::break_down(world, world.node_of(process), fault);
            world.processes[process].lose_disk();
        }
        Fault::PowerLoss
        | Fault::Kill
        | Fault::Blackout
        | Fault::Partition
        | Fault::Pause
        | Fault::ClockJump
        | Fault::OperatorDeath
        | Fault::Usurper
        | Fault::Relay
        | Fault::LeftBehind => unreachable!("{fault:?} is no fault of a disk"),
    }
    let (now_ns, address) = (world.now_ns(), world.processes[process].address());
    world
        .trace
        .line(now_ns, || format!("disk of {address}: {fault:?}"));
}

/// Others take most of the room: from nothing that is left up to hardly too little.
fn fill_up(world: &mut World, process: usize) {
    let marks = world.processes[process].marks();
    let stream = world.fault_stream(Fault::DiskFull);
    let left = match stream.below(3) {
        0 => 0,
        1 => stream.below(marks.low),
        _ => stream.below(marks.high),
    };
    let goes_on = stream.chance(500_000);
    let disk = world.processes[process].disk_mut();
    match goes_on {
        true => disk.leave_only(left),
        false => disk.leave_free(left),
    }
}

/// A disk has room again.
pub fn make_room(world: &mut World, process: usize) {
    world.processes[process].disk_mut().empty_out();
}

/// No disk does anything wrong from now on.
pub fn heal(world: &mut World) {
    for process in &mut world.processes {
        process.disk_mut().armed = Armed::default();
        process.disk_mut().empty_out();
    }
}

/// One of the replicas that may be harmed and are not lost yet.
fn victim(world: &mut World, fault: Fault) -> Option<usize> {
    let replicas = usize::from(world.parameters.replicas);
    let victims = world.parameters.victims.iter().enumerate();
    let victims: Vec<usize> = victims
        .filter(|(_, replica)| **replica > 0)
        .map(|(shard, replica)| shard * replicas + usize::from(*replica) - 1)
        .filter(|&process| !world.processes[process].health().is_lost())
        .collect();
    (!victims.is_empty()).then(|| world.fault_stream(fault).pick(&victims))
}

/// A replica; half of the time one that leads.
fn some_process(world: &mut World, fault: Fault) -> usize {
    let leaders = world.leader_processes();
    let count = world.processes.len();
    let stream = world.fault_stream(fault);
    if !leaders.is_empty() && stream.chance(500_000) {
        stream.pick(&leaders)
    } else {
        stream.index(count)
    }
}
