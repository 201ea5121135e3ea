//! The probe: one client writes through a successor, another reads what it wrote at the predecessor.
//!
//! While two replicas believe to lead, a stale value can be read only of an account that has changed since,
//! and only after somebody was told so. The ordinary workload seldom does both in the fraction of a
//! second that it lasts. So when a successor begins, a client transfers between two of its accounts, and as
//! soon as that is answered another client, which knows only the predecessor, reads one of them.

use quorate_protocol::ids::{AccountId, ReplicaAddress};

use super::{submit, wall_ns};
use crate::history::ReadUse;
use crate::job::{Job, Want};
use crate::world::World;

/// Probes that one successor is sent at most.
const PROBES_MAX: u32 = 3;

/// A transfer that a read waits for.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Index in the history.
    transfer: usize,
    account: AccountId,
    writer: usize,
    reader: usize,
    predecessor: ReplicaAddress,
    successor: ReplicaAddress,
    left: u32,
}

/// A successor begins to serve, its predecessor does not know it.
pub(super) fn begin(world: &mut World, predecessor: ReplicaAddress, successor: ReplicaAddress) {
    let clients = world.parameters.clients;
    let reader = world.plots.stream.index(clients);
    let step = 1 + world.plots.stream.index(clients - 1);
    let writer = (reader + step) % clients;
    world.actors[reader].client.hear_of_leader(predecessor);
    world.actors[writer].client.hear_of_leader(successor);
    write(
        world,
        (predecessor, successor),
        (writer, reader),
        PROBES_MAX,
    );
}

fn write(
    world: &mut World,
    (predecessor, successor): (ReplicaAddress, ReplicaAddress),
    (writer, reader): (usize, usize),
    left: u32,
) {
    let wall_ns = wall_ns(world, writer);
    let client = &world.actors[writer].client;
    let is_here = |account| client.location(account) == successor.shard;
    let stream = &mut world.plots.stream;
    let Some(transfer) = world.workload.transfer_between(stream, wall_ns, is_here) else {
        return;
    };
    let number = submit(world, writer, transfer, successor.shard);
    world.plots.probe = Some(Probe {
        transfer: number,
        account: transfer.debit_account_id,
        writer,
        reader,
        predecessor,
        successor,
        left: left - 1,
    });
}

/// A client was answered something: perhaps it is what a read waits for.
pub(crate) fn on_answer(world: &mut World) {
    let answer = |probe: &Probe| world.history.transfers[probe.transfer].answer;
    let is_due = world.plots.probe.as_ref().and_then(answer).is_some();
    if world.healed || !is_due {
        return;
    }
    let Some(probe) = world.plots.probe.take() else {
        return;
    };
    world.faults.add("predecessor_read");
    let number = world.history.reads.len();
    world.history.reads.push(ReadUse {
        account: probe.account,
        started_ns: 0,
        answer: None,
    });
    let job = Job::new(Want::Read(number), probe.predecessor.shard);
    world.actors[probe.reader].client.submit(job);
    world.wake(probe.reader);
    if probe.left > 0 {
        let leaders = (probe.predecessor, probe.successor);
        write(world, leaders, (probe.writer, probe.reader), probe.left);
    }
}
