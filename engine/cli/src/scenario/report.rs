//! What became of a set, as the document of the contract.

use serde_json::{Map, Value, json};

use super::set::{Check, Leader, SetOutcome};
use crate::verify;

/// One element of `sets`.
#[must_use]
pub fn document(outcome: &SetOutcome) -> Value {
    let plan = &outcome.plan;
    json!({
        "set": outcome.number,
        "live_nodes": outcome.live.iter().map(|node| name(node.0)).collect::<Vec<_>>(),
        "replies": outcome.replies.iter().map(|reply| json!({
            "line": reply.row.line,
            "result": reply.verdict.name(),
            "balance": reply.verdict.balance(),
        })).collect::<Vec<_>>(),
        "balances": balances(outcome),
        "replicas": replicas(outcome),
        "log": log(outcome),
        "first_leaders": leaders(&outcome.first_leaders),
        "leader_changes": leaders(&outcome.leader_changes),
        "performance": outcome.figures.document(),
        "reshard": plan.moves.iter().map(|planned| json!({
            "account": planned.account.to_string(),
            "source": planned.source.0,
            "target": planned.target.0,
        })).collect::<Vec<_>>(),
        "reshard_decision": if plan.applies { "apply" } else { "refuse" },
        "reshard_reason": plan.reason,
        "verify": check(&outcome.check),
    })
}

/// A node as scenario files write it.
#[must_use]
pub fn name(node: u32) -> String {
    format!("n{node}")
}

fn balances(outcome: &SetOutcome) -> Map<String, Value> {
    let balances = outcome.balances().into_iter();
    balances
        .map(|(account, nodes)| {
            let nodes: Map<String, Value> = nodes
                .into_iter()
                .map(|(node, balance)| (name(node.0), balance.into()))
                .collect();
            (account.to_string(), nodes.into())
        })
        .collect()
}

fn replicas(outcome: &SetOutcome) -> Vec<Value> {
    let states = outcome.states.iter();
    states
        .map(|replica| {
            json!({
                "node": name(replica.node.0),
                "shard": replica.shard.0,
                "applied_upto": replica.state.upto.0,
                "accounts": replica.state.accounts_owned,
                "recorded": replica.state.recorded,
                "digest": format!("{:032x}", replica.state.digest),
            })
        })
        .collect()
}

fn log(outcome: &SetOutcome) -> Vec<Value> {
    let slots = outcome.slots.iter();
    slots
        .map(|row| {
            let nodes: Map<String, Value> = row
                .nodes
                .iter()
                .map(|(node, status)| (name(node.0), status.name().into()))
                .collect();
            json!({
                "shard": row.shard.0,
                "slot": row.slot.0,
                "kind": row.kind,
                "status": row.status.name(),
                "nodes": nodes,
                "lines": row.lines,
            })
        })
        .collect()
}

fn leaders(leaders: &[Leader]) -> Vec<Value> {
    leaders
        .iter()
        .map(|led| {
            json!({
                "shard": led.shard.0,
                "ballot": led.ballot.to_string(),
                "node": name(led.node.0),
            })
        })
        .collect()
}

/// `null` where a shard had no quorum; a check without an answer in time has its reason.
fn check(check: &Check) -> Value {
    match check {
        Check::NoQuorum => Value::Null,
        Check::NoAnswer(reason) => json!({ "ok": null, "no_answer": reason }),
        Check::Report(report) => verify::document(report),
    }
}
