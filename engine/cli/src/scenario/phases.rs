//! The order in which a set's rows run: groups that run together, and control rows between them.

use std::collections::BTreeSet;

use quorate_config::scenario::{Row, Set, Step};
use quorate_protocol::ids::NodeId;

/// What comes next in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase<'a> {
    /// Transfers and reads that wait for nothing but the phase before.
    Together(&'a [Row]),
    Fail(NodeId),
    Recover(NodeId),
}

/// Cuts the rows at the control rows. A phase begins when the one before it has ended.
#[must_use]
pub fn phases(rows: &[Row]) -> Vec<Phase<'_>> {
    let mut phases = Vec::new();
    for group in rows.chunk_by(|a, b| !a.step.is_control() && !b.step.is_control()) {
        phases.push(match group[0].step {
            Step::Fail { node } => Phase::Fail(node),
            Step::Recover { node } => Phase::Recover(node),
            Step::Transfer { .. } | Step::Balance { .. } => Phase::Together(group),
        });
    }
    phases
}

/// Nodes that must be up when all rows have run.
#[must_use]
pub fn live_at_end(set: &Set) -> BTreeSet<NodeId> {
    let mut live = set.live.clone();
    for row in &set.rows {
        match row.step {
            Step::Fail { node } => live.remove(&node),
            Step::Recover { node } => live.insert(node),
            Step::Transfer { .. } | Step::Balance { .. } => continue,
        };
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::ids::AccountId;

    fn row(line: u64, step: Step) -> Row {
        Row { line, step }
    }

    #[test]
    fn control_rows_stand_alone_and_keep_their_places() {
        let read = Step::Balance {
            account: AccountId(1),
        };
        let (fail, recover) = (
            Step::Fail { node: NodeId(2) },
            Step::Recover { node: NodeId(3) },
        );
        let steps = [fail, read, read, fail, recover, read];
        let rows: Vec<Row> = (2..)
            .zip(steps)
            .map(|(line, step)| row(line, step))
            .collect();
        let expected = [
            Phase::Fail(NodeId(2)),
            Phase::Together(&rows[1..3]),
            Phase::Fail(NodeId(2)),
            Phase::Recover(NodeId(3)),
            Phase::Together(&rows[5..]),
        ];
        assert_eq!(phases(&rows), expected);
        assert_eq!(phases(&[]), []);
    }

    #[test]
    fn what_fails_or_recovers_twice_does_so_once() {
        let (two, three) = (NodeId(2), NodeId(3));
        let steps = [
            Step::Fail { node: two },
            Step::Fail { node: two },
            Step::Recover { node: three },
            Step::Recover { node: three },
        ];
        let set = Set {
            number: 1,
            live: BTreeSet::from([NodeId(1), two]),
            rows: (2..)
                .zip(steps)
                .map(|(line, step)| row(line, step))
                .collect(),
        };
        assert_eq!(live_at_end(&set), BTreeSet::from([NodeId(1), three]));
    }
}
