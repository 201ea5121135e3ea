//! The late copy of a move: its message comes once more when the accounts have left the target again.
//!
//! The network doubles a message now and then, and delivers the copy seconds later; that it is the one
//! message of a move, and that the accounts are gone by then, is too rare to wait for. The target must
//! remember the move: the accounts are not there, and what the copy brings is out of date.

use quorate_protocol::entry::MoveSection;
use quorate_protocol::ids::ReplicaAddress;
use quorate_protocol::message::{PeerBody, PeerMessage};
use quorate_protocol::time::SECOND;
use quorate_protocol::txn::message::Message as Txn;

use crate::world::{Event, World};

/// The oldest copy goes first.
const COPIES_MAX: usize = 16;
/// It arrives within this time after the accounts have left.
const LATE_NS: u64 = SECOND;

/// A copy on its way.
#[derive(Debug)]
pub(crate) struct Copy {
    /// Index of the move in the history.
    number: usize,
    process: usize,
    from: ReplicaAddress,
    bytes: Vec<u8>,
}

/// A message is sent to a process: perhaps it is doubled.
pub(crate) fn keep(
    world: &mut World,
    process: usize,
    from: ReplicaAddress,
    message: &PeerMessage,
    bytes: &[u8],
) {
    let PeerBody::Txn(Txn::PrepareMove(words)) = &message.body else {
        return;
    };
    let ppm = world.parameters.network.late_move_ppm;
    if world.healed || ppm == 0 || !world.plots.stream.chance(ppm) {
        return;
    }
    let parts = MoveSection::parse(words.as_bytes());
    let id = parts.map(|parts| parts.head.id);
    let number = world
        .history
        .moves
        .iter()
        .position(|one| Some(one.id) == id);
    let Some(number) = number else { return };
    if world.plots.late_moves.len() == COPIES_MAX {
        world.plots.late_moves.pop_front();
    }
    world.plots.late_moves.push_back(Copy {
        number,
        process,
        from,
        bytes: bytes.to_vec(),
    });
}

/// A move is done: copies of those that had brought its accounts arrive.
pub(crate) fn release(world: &mut World, number: usize) {
    let moves = &world.history.moves;
    let done = &moves[number];
    if world.healed || done.moved != Some(true) {
        return;
    }
    let is_due = |copy: &Copy| {
        let brought = &moves[copy.number];
        let shares = brought
            .accounts
            .iter()
            .any(|one| done.accounts.contains(one));
        copy.number != number && brought.target == done.source && shares
    };
    let (due, kept) = world.plots.late_moves.drain(..).partition(is_due);
    world.plots.late_moves = kept;
    let due: std::collections::VecDeque<Copy> = due;
    for copy in due {
        world.faults.add("move_copied_late");
        let at_ns = world.now_ns() + world.plots.stream.below(LATE_NS);
        let event = Event::Peer {
            process: copy.process,
            from: copy.from,
            bytes: copy.bytes,
            corrupted: false,
        };
        world.queue.push(at_ns, event);
    }
}
