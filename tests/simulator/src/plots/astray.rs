//! A look-up led astray: the replica that is asked next has not seen the account leave.
//!
//! ```text
//! straggler  a replica of the source, cut off from its group before the accounts leave
//! source     runs a transfer on one of them, then moves them; the straggler knows of neither
//! target     is sent the transfer again and asks the source's leader:
//!            at this moment the link between the two is cut, and it turns to the straggler
//! ```
//!
//! The straggler must not answer: it would deny what has happened. It is the replica that follows the
//! leader in number, since that is where a question goes next.

use quorate_protocol::ids::{AccountId, ReplicaAddress, ReplicaId, ShardId};
use quorate_protocol::message::PeerBody;
use quorate_protocol::time::{MS, SECOND};
use quorate_protocol::txn::message::Message as Txn;

use super::{Arrival, Kind, cut_from_group, is_busy, mend_after, note, serving, submit, wall_ns};
use crate::world::World;

/// The straggler is away for as long as the plot may last.
const AWAY_NS: u64 = 5 * SECOND;

/// A replica that is left behind, and the transfer that it does not know.
#[derive(Debug)]
pub(super) struct Astray {
    straggler: ReplicaAddress,
    account: AccountId,
    /// Index in the history.
    recorded: usize,
    is_sent_again: bool,
}

/// Leaves a replica of this shard behind, before this account of it moves; for how long the move tool
/// is to wait. `None` where a machine hosts a replica of every shard: it could not be cut off from one
/// group alone.
pub(crate) fn begin(world: &mut World, source: ShardId, account: AccountId) -> Option<u64> {
    let parameters = &world.parameters;
    let (ppm, replicas) = (parameters.workload.astray_ppm, parameters.replicas);
    if ppm == 0 || parameters.colocated || replicas < 3 || is_busy(world) {
        return None;
    }
    if !world.plots.stream.chance(ppm) {
        return None;
    }
    let leader = serving(world, source)?;
    let straggler = ReplicaAddress {
        shard: source,
        replica: ReplicaId(leader.replica.0 % replicas + 1),
    };
    world.network.mend();
    cut_from_group(world, straggler);
    mend_after(world, AWAY_NS);
    let client = world.plots.stream.index(world.parameters.clients);
    let wall_ns = wall_ns(world, client);
    let stream = &mut world.plots.stream;
    let transfer = world.workload.transfer_of(stream, wall_ns, account)?;
    let recorded = submit(world, client, transfer, source);
    let astray = Astray {
        straggler,
        account,
        recorded,
        is_sent_again: false,
    };
    note(world, Kind::Astray(astray));
    Some(world.plots.stream.between(200, 800) * MS)
}

/// A move is done: its target gets the transfer again.
pub(crate) fn on_moved(world: &mut World, number: usize) {
    if world.healed || !is_busy(world) {
        return;
    }
    let done = &world.history.moves[number];
    let Some(Kind::Astray(astray)) = world.plots.current.as_mut().map(|plot| &mut plot.kind) else {
        return;
    };
    let is_gone = done.moved == Some(true)
        && done.source == astray.straggler.shard
        && done.accounts.contains(&astray.account);
    if !is_gone || astray.is_sent_again {
        return;
    }
    astray.is_sent_again = true;
    let transfer = world.history.transfers[astray.recorded].transfer;
    let target = done.target;
    let client = world.plots.stream.index(world.parameters.clients);
    submit(world, client, transfer, target);
}

impl Astray {
    pub(super) fn see(&mut self, world: &mut World, arrival: Arrival<'_>) -> bool {
        let asks = matches!(&arrival.message.body, PeerBody::Txn(Txn::LookUps(_)));
        let (from, to) = (arrival.from, arrival.to);
        if !asks || to.shard != self.straggler.shard || to == self.straggler {
            return false;
        }
        world.faults.add("look_up_led_astray");
        let (one, other) = (world.host_of(from), world.host_of(to));
        world.network.cut_off(one, other);
        true
    }
}
