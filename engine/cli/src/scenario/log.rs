//! What the logs of a shard's replicas say together: the status of each slot, and who led.
//!
//! | status | of a replica | of the slot |
//! | --- | --- | --- |
//! | `applied` | it ran to the end and had applied the slot | a replica has |
//! | `chosen` | it holds the slot's entry and knew that it is chosen | a replica knows |
//! | `accepted` | it holds an entry for the slot | no replica knows more |
//!
//! A process that was killed has applied nothing any more; what it knew as chosen is what its log tells.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::ids::{Ballot, NodeId, ShardId, Slot};

/// One slot of one replica's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedSlot {
    pub slot: Slot,
    /// Under which the replica accepted it.
    pub accepted: Ballot,
    /// Of the entry's first proposal; zero for what fills a hole.
    pub origin: Ballot,
    /// Kinds of its sections.
    pub kind: String,
    /// Ids of the transfers in it.
    pub transfers: Vec<u128>,
}

/// One replica's log, and how far it was.
#[derive(Clone, Debug)]
pub struct ReplicaLog {
    pub shard: ShardId,
    pub node: NodeId,
    /// `None`: its process did not run to the end.
    pub applied_upto: Option<Slot>,
    pub chosen_upto: Slot,
    pub slots: Vec<LoggedSlot>,
}

/// How far a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlotStatus {
    Accepted,
    Chosen,
    Applied,
}

impl SlotStatus {
    /// The name that users see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Chosen => "chosen",
            Self::Applied => "applied",
        }
    }
}

/// One slot of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    pub shard: ShardId,
    pub slot: Slot,
    pub kind: String,
    /// The furthest that any replica came.
    pub status: SlotStatus,
    /// Replicas that hold it, by node.
    pub nodes: BTreeMap<NodeId, SlotStatus>,
    /// Lines of the rows whose transfers are in it, ascending.
    pub lines: Vec<u64>,
}

/// A leader that proposed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leadership {
    pub shard: ShardId,
    pub ballot: Ballot,
}

/// Leaves out what was proposed under ballots above those that the shards had when the set ended: a shard whose
/// processes end one after the other may elect once more meanwhile.
pub fn cut_at_end(logs: &mut [ReplicaLog], ballots: &BTreeMap<ShardId, Ballot>) {
    for log in logs {
        let Some(&last) = ballots.get(&log.shard) else {
            continue;
        };
        // What fills a hole has no origin.
        let began = |slot: &LoggedSlot| match slot.origin {
            Ballot::ZERO => slot.accepted,
            origin => origin,
        };
        log.slots.retain(|slot| began(slot) <= last);
    }
}

/// Every slot, by shard and slot; `lines` tells the row of a transfer's id.
#[must_use]
pub fn slots(logs: &[ReplicaLog], lines: &BTreeMap<u128, u64>) -> Vec<SlotRow> {
    let mut rows: BTreeMap<(ShardId, Slot), (Ballot, SlotRow)> = BTreeMap::new();
    for log in logs {
        for logged in &log.slots {
            let status = log.status_of(logged.slot);
            let key = (log.shard, logged.slot);
            let (accepted, row) = rows
                .entry(key)
                .or_insert_with(|| (logged.accepted, SlotRow::of(log.shard, logged, lines)));
            // The entry under the highest ballot is the one that is or may be chosen.
            if logged.accepted > *accepted {
                *accepted = logged.accepted;
                let (kind, lines) = (logged.kind.clone(), lines_of(logged, lines));
                (row.kind, row.lines) = (kind, lines);
            }
            row.status = row.status.max(status);
            row.nodes.insert(log.node, status);
        }
    }
    rows.into_values().map(|(_, row)| row).collect()
}

/// Who proposed what the logs hold. A leader's first entry is its own, so each that served is here.
#[must_use]
pub fn leaderships(logs: &[ReplicaLog]) -> BTreeSet<Leadership> {
    let mut found = BTreeSet::new();
    for log in logs {
        let origins = log.slots.iter().map(|slot| slot.origin);
        let origins = origins.filter(|&origin| origin != Ballot::ZERO);
        found.extend(origins.map(|ballot| Leadership {
            shard: log.shard,
            ballot,
        }));
    }
    found
}

impl ReplicaLog {
    fn status_of(&self, slot: Slot) -> SlotStatus {
        if self.applied_upto.is_some_and(|upto| slot <= upto) {
            SlotStatus::Applied
        } else if slot <= self.chosen_upto {
            SlotStatus::Chosen
        } else {
            SlotStatus::Accepted
        }
    }
}

impl SlotRow {
    fn of(shard: ShardId, logged: &LoggedSlot, lines: &BTreeMap<u128, u64>) -> Self {
        Self {
            shard,
            slot: logged.slot,
            kind: logged.kind.clone(),
            status: SlotStatus::Accepted,
            nodes: BTreeMap::new(),
            lines: lines_of(logged, lines),
        }
    }
}

fn lines_of(logged: &LoggedSlot, lines: &BTreeMap<u128, u64>) -> Vec<u64> {
    let found: BTreeSet<u64> = logged
        .transfers
        .iter()
        .filter_map(|id| lines.get(id).copied())
        .collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::ReplicaId;

    fn ballot(round: u64, replica: u8) -> Ballot {
        Ballot::new(round, ReplicaId(replica))
    }

    fn logged(slot: u64, accepted: Ballot, origin: Ballot, kind: &str) -> LoggedSlot {
        LoggedSlot {
            slot: Slot(slot),
            accepted,
            origin,
            kind: kind.to_owned(),
            transfers: vec![100 + u128::from(slot)],
        }
    }

    fn log(node: u32, applied: Option<u64>, chosen: u64, slots: Vec<LoggedSlot>) -> ReplicaLog {
        ReplicaLog {
            shard: ShardId(1),
            node: NodeId(node),
            applied_upto: applied.map(Slot),
            chosen_upto: Slot(chosen),
            slots,
        }
    }

    #[test]
    fn a_slot_is_as_far_as_the_furthest_replica() {
        let b = ballot(1, 1);
        let all: Vec<LoggedSlot> = (1..=3)
            .map(|slot| logged(slot, b, b, "transfers"))
            .collect();
        let logs = [
            log(1, Some(1), 2, all.clone()),
            log(2, None, 1, all[..2].to_vec()),
        ];
        let rows = slots(&logs, &BTreeMap::from([(102, 7)]));
        let statuses: Vec<SlotStatus> = rows.iter().map(|row| row.status).collect();
        use SlotStatus::{Accepted, Applied, Chosen};
        assert_eq!(statuses, [Applied, Chosen, Accepted]);
        assert_eq!(rows[0].nodes[&NodeId(2)], Chosen);
        assert_eq!(rows[1].nodes[&NodeId(2)], Accepted);
        assert_eq!(rows[2].nodes.len(), 1);
        assert_eq!(
            (&rows[0].lines[..], &rows[1].lines[..]),
            (&[][..], &[7][..])
        );
    }

    #[test]
    fn of_two_entries_the_one_under_the_higher_ballot_counts() {
        let (old, new) = (ballot(1, 1), ballot(2, 2));
        let logs = [
            log(1, None, 0, vec![logged(5, old, old, "transfers")]),
            log(2, Some(5), 5, vec![logged(5, new, new, "noop")]),
        ];
        let rows = slots(&logs, &BTreeMap::new());
        assert_eq!((rows.len(), &*rows[0].kind), (1, "noop"));
        let led: Vec<Ballot> = leaderships(&logs).iter().map(|it| it.ballot).collect();
        assert_eq!(led, [old, new]);
    }

    /// An old entry that the last leader proposed again stays; what a leader proposed while the set's processes ended goes.
    #[test]
    fn what_came_behind_the_end_is_left_out() {
        let (old, last, late) = (ballot(1, 1), ballot(2, 2), ballot(3, 3));
        let mut logs = [log(
            1,
            None,
            0,
            vec![
                logged(1, late, old, "transfers"),
                logged(2, last, last, "noop"),
                logged(3, late, Ballot::ZERO, "noop"),
                logged(4, late, late, "noop"),
            ],
        )];
        cut_at_end(&mut logs, &BTreeMap::from([(ShardId(1), last)]));
        let kept: Vec<u64> = logs[0].slots.iter().map(|slot| slot.slot.0).collect();
        assert_eq!(kept, [1, 2]);
    }
}
