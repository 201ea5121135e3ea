//! Strict serializability: one order of all operations that agrees with what they saw and with real
//! time, across shards (Papadimitriou, 1979; Herlihy and Wing, 1990).
//!
//! The model has shown that every result follows from the order of effects on each account. What is
//! left is whether these orders and real time can be one order. Nodes are account creations, transfers
//! that were decided (refusals too: they looked at accounts), moves, and reads. An edge means "before":
//!
//! | edge | reason |
//! | --- | --- |
//! | effect -> effect | the first had ended on the account before the second began there |
//! | effect -> read | the read saw it |
//! | read -> effect | the read did not see it |
//! | any -> any | the first was answered before the second was first sent |
//!
//! A cycle is a violation, and is printed as a chain. A credit across shards begins at the slot that
//! prepared it and ends at the slot that posted it; what overlaps on an account commutes (rule 7 of page
//! 3: nothing is decided that the open reservation could change), so it is not ordered there. Reads are
//! not so lenient: they must have waited, so they come before or after.
//!
//! A refusal by a participant is ordered on the credit account alone. It takes two looks at two times, the
//! participant's at the credit leg and then the coordinator's at the debit leg, and nothing is reserved
//! for a transfer that will not happen: both were true, but perhaps never at once.
//!
//! Weak on purpose: a transfer that was never answered (its client gave up or died) may take effect at
//! any time after it was first sent with those fields; an operation without effect on record (malformed,
//! contended) is no node. Consistent cuts are no nodes either: they promise to be consistent at their
//! timestamp, and the clocks of shards differ; [`super::cuts`] holds them against real time by themselves.
//!
//! All edges of a kind run through chains of helper nodes (one per answer in time, one per slot of an
//! account), so their number is linear in the number of operations.

pub mod build;
pub mod graph;

use super::Violation;
use super::reads::Placed;
use super::replays::Replays;
use crate::history::History;
use build::{Built, Kind};
use graph::Node;

/// Cycles that are told at most: one broken rule makes many.
const TOLD_MAX: usize = 3;
/// Nodes of a component from which a shortest cycle is sought.
const STARTS_MAX: usize = 64;

/// Looks for cycles.
pub fn check(
    history: &History,
    replays: &Replays,
    reads: &[Placed],
    violations: &mut Vec<Violation>,
) {
    let built = build::build(history, replays, reads);
    for component in built.graph.cyclic_components().iter().take(TOLD_MAX) {
        violations.push(Violation {
            checker: "order",
            text: tell(&built, component),
        });
    }
}

/// The shortest cycle of a component in words.
fn tell(built: &Built, component: &[Node]) -> String {
    let operations = component.iter().filter(|&&node| !built.is_helper(node));
    let cycles = operations
        .take(STARTS_MAX)
        .filter_map(|&start| built.graph.shortest_cycle(start));
    let Some(cycle) = cycles.min_by_key(Vec::len) else {
        return format!("a cycle of {} helper nodes", component.len());
    };
    let mut text = String::from("a cycle: ");
    for (position, &node) in cycle.iter().enumerate() {
        let before = &cycle[..position];
        match &built.kinds[built.index(node)] {
            Kind::Operation(operation) => {
                if position > 0 {
                    text.push_str(&reason(built, before));
                }
                text.push_str(&operation.to_string());
            }
            Kind::Answered(_) | Kind::Ended { .. } | Kind::Seen { .. } | Kind::Unseen { .. } => {}
        }
    }
    text.push_str(&reason(built, &cycle));
    text.push_str("the first");
    text
}

/// Why the last operation of a part of the way comes before the next one: the helpers between say so.
fn reason(built: &Built, way: &[Node]) -> String {
    let kinds = way
        .iter()
        .rev()
        .map(|&node| &built.kinds[built.index(node)]);
    let mut helpers: Vec<&Kind> = kinds
        .take_while(|kind| !matches!(kind, Kind::Operation(_)))
        .collect();
    helpers.reverse();
    let Some(first) = helpers.first() else {
        return " -> ".to_owned();
    };
    match first {
        Kind::Answered(at_ns) => format!(" -[answered at {at_ns} ns, before the next was sent]-> "),
        Kind::Ended { account, moment } => format!(
            " -[on account {account} it ended in slot {} of epoch {}, before the next began]-> ",
            moment.1, moment.0
        ),
        Kind::Seen { account, moment } => format!(
            " -[on account {account} it took effect in slot {} of epoch {}, the next saw it]-> ",
            moment.1, moment.0
        ),
        Kind::Unseen { account, moment } => format!(
            " -[on account {account} it did not see slot {} of epoch {}]-> ",
            moment.1, moment.0
        ),
        Kind::Operation(_) => " -> ".to_owned(),
    }
}
