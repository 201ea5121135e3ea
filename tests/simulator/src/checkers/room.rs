//! A full disk: whoever was told of it begins nothing new. Watches while a run goes on.
//!
//! What was begun goes on, so an entry that is proposed then may hold transfers. But none whose client sent it
//! for the first time after its leader had been told, and nothing changed since: room that new work takes
//! is not there for the decisions of what is under way.

use quorate_protocol::entry::{Entry, Section};
use quorate_protocol::ids::TransferId;

use crate::history::History;
use crate::world::World;

/// A core is told whether its disk is full.
pub fn told(world: &mut World, process: usize, is_full: bool) {
    let (now_ns, address) = (world.now_ns(), world.processes[process].address());
    let text = if is_full { "is full" } else { "has room" };
    world
        .trace
        .line(now_ns, || format!("the disk of {address} {text}"));
    let since = &mut world.full_since_ns[process];
    if is_full == since.is_some() {
        // A start says how it stands.
        if is_full {
            *since = Some(now_ns);
        }
        return;
    }
    *since = is_full.then_some(now_ns);
    world.rare.add(if is_full {
        "disk_found_full"
    } else {
        "disk_found_with_room"
    });
}

/// An entry of its own was proposed by whoever was told that its disk is full.
pub fn proposed(world: &mut World, process: usize, entry: &Entry) {
    world.rare.add("proposed_on_full_disk");
    let Some(since_ns) = world.full_since_ns[process] else {
        return;
    };
    let begun = entry.sections().flat_map(|section| match section {
        Section::Transfers(rows) => rows.iter().map(|row| row.id).collect(),
        Section::Commit(rows) => rows.iter().map(|row| row.transfer.id).collect(),
        _ => Vec::new(),
    });
    if let Some(id) = first_new(&world.history, begun, since_ns) {
        let address = world.processes[process].address();
        let text = format!(
            "{address} knows its disk to be full since {since_ns} ns and begins transfer {id}, sent later"
        );
        world.violate("room", text);
    }
}

/// The first of these transfers that nobody had sent by then.
fn first_new(
    history: &History,
    begun: impl Iterator<Item = TransferId>,
    since_ns: u64,
) -> Option<TransferId> {
    let sent_by = |id: TransferId| {
        let uses = history.transfers.iter();
        let sent = uses.filter(|made| made.transfer.id == id);
        sent.filter_map(|made| made.started_ns).min()
    };
    begun
        .into_iter()
        .find(|id| sent_by(*id).is_some_and(|first_ns| first_ns > since_ns))
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ids::AccountId;
    use quorate_protocol::ledger::Transfer;

    use super::*;
    use crate::history::TransferUse;

    fn sent(id: u128, started_ns: Option<u64>) -> TransferUse {
        TransferUse {
            transfer: Transfer::new(TransferId(id), AccountId(1), AccountId(2), 1, 1, 1),
            started_ns,
            answer: None,
            abandoned: false,
            denied: false,
        }
    }

    #[test]
    fn only_what_was_never_sent_before_is_new() {
        // The second use of an id does not make it new.
        let history = History {
            transfers: vec![sent(1, Some(50)), sent(1, Some(200)), sent(2, Some(150))],
            ..History::default()
        };
        let first = |ids: &[u128]| {
            let ids: Vec<TransferId> = ids.iter().map(|id| TransferId(*id)).collect();
            first_new(&history, ids.into_iter(), 100)
        };
        assert_eq!(first(&[1]), None);
        assert_eq!(first(&[1, 2]), Some(TransferId(2)));
        // Those of a plot are in no history.
        assert_eq!(first(&[3]), None);
    }
}
