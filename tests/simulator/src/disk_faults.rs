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
        Fault::BitRot | Fault::Misdirected | Fault::Stale | Fault::DiskLost => victim(world, fault),
        _ => Some(some_process(world, fault)),
    };
    let Some(process) = process else {
        return;
    };
    let disk = world.processes[process].disk_mut();
    match fault {
        Fault::WriteError => disk.armed.write_error = true,
        Fault::SyncError => disk.armed.sync_error = true,
        Fault::ReadError => disk.armed.read_error = true,
        Fault::DiskFull => {
            disk.armed.full = true;
            let longest_ns = world.parameters.durations.disk_full_ns;
            let at_ns = world.now_ns() + world.fault_stream(fault).below(longest_ns);
            world.queue.push(at_ns, Event::Room { process });
        }
        Fault::Misdirected => disk.armed.misdirect = true,
        Fault::Stale => disk.armed.stale = true,
        Fault::BitRot => {
            let stream = &mut world.fault_streams[fault as usize];
            for _ in 0..stream.between(1, ROTTEN_MAX) {
                world.processes[process].rot(stream);
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

/// A disk has room again.
pub fn make_room(world: &mut World, process: usize) {
    world.processes[process].disk_mut().armed.full = false;
}

/// No disk does anything wrong from now on.
pub fn heal(world: &mut World) {
    for process in &mut world.processes {
        process.disk_mut().armed = Armed::default();
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
