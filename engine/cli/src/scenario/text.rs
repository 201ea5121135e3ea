//! What became of a set, for people: its replies, and one table under each heading.

use std::fmt::Write;

use super::report::name;
use super::set::{Check, Leader, SetOutcome};
use crate::print::table;

/// The whole of a set's output.
#[must_use]
pub fn people(outcome: &SetOutcome) -> String {
    let live: Vec<String> = outcome.live.iter().map(|node| name(node.0)).collect();
    let mut text = format!("Set {}, live nodes {}\n", outcome.number, live.join(", "));
    let parts = [
        ("", replies(outcome)),
        ("PrintBalance", balances(outcome)),
        ("PrintDB", states(outcome)),
        ("PrintStatus", slots(outcome)),
        ("PrintView", views(outcome)),
        ("Performance", performance(outcome)),
        ("PrintReshard", plan(outcome)),
    ];
    for (heading, body) in parts {
        // Writing to a string cannot fail.
        let _ = match heading {
            "" => writeln!(text, "\n{}", body.trim_end()),
            heading => writeln!(text, "\n{heading}\n{}", body.trim_end()),
        };
    }
    text
}

fn replies(outcome: &SetOutcome) -> String {
    let mut rows = table(&["line", "row", "result", "balance"]);
    for reply in &outcome.replies {
        rows.add_row([
            reply.row.line.to_string(),
            reply.row.step.to_string(),
            reply.verdict.name().to_owned(),
            reply.verdict.balance().unwrap_or("-").to_owned(),
        ]);
    }
    rows.to_string()
}

/// One row per touched account, with every replica that holds it.
fn balances(outcome: &SetOutcome) -> String {
    let mut rows = table(&["account", "balances"]);
    for (account, nodes) in outcome.balances() {
        let nodes: Vec<String> = nodes
            .into_iter()
            .map(|(node, balance)| format!("{}: {balance}", name(node.0)))
            .collect();
        rows.add_row([account.to_string(), nodes.join("  ")]);
    }
    rows.to_string()
}

/// One row per replica, and what it holds of each touched account.
fn states(outcome: &SetOutcome) -> String {
    let mut replicas = table(&["node", "shard", "applied", "accounts", "recorded", "digest"]);
    let mut accounts = table(&["node", "account", "credits", "debits"]);
    for replica in &outcome.states {
        let (node, state) = (name(replica.node.0), &replica.state);
        replicas.add_row([
            node.clone(),
            replica.shard.to_string(),
            state.upto.to_string(),
            state.accounts_owned.to_string(),
            state.recorded.to_string(),
            format!("{:032x}", state.digest),
        ]);
        for (id, account) in &state.accounts {
            accounts.add_row([
                node.clone(),
                id.to_string(),
                account.credits_posted.to_string(),
                account.debits_posted.to_string(),
            ]);
        }
    }
    let checked = match &outcome.check {
        Check::NoQuorum => "verify: not possible, a shard has no quorum".to_owned(),
        Check::NoAnswer(reason) => format!("verify: no answer: {reason}"),
        Check::Report(report) if report.ok => format!("verify: ok, {} transfers", report.transfers),
        Check::Report(report) => format!("verify: FAILED: {}", report.problems.join("; ")),
    };
    format!("{replicas}\n\n{accounts}\n\n{checked}")
}

fn slots(outcome: &SetOutcome) -> String {
    let mut rows = table(&["shard", "slot", "kind", "status", "lines", "replicas"]);
    for row in &outcome.slots {
        let lines: Vec<String> = row.lines.iter().map(u64::to_string).collect();
        let nodes: Vec<String> = row
            .nodes
            .iter()
            .map(|(node, status)| format!("{} {}", name(node.0), status.name()))
            .collect();
        rows.add_row([
            row.shard.to_string(),
            row.slot.to_string(),
            row.kind.clone(),
            row.status.name().to_owned(),
            if lines.is_empty() {
                "-".to_owned()
            } else {
                lines.join(",")
            },
            nodes.join(", "),
        ]);
    }
    rows.to_string()
}

fn views(outcome: &SetOutcome) -> String {
    let mut rows = table(&["shard", "ballot", "leader", ""]);
    let mut add = |leaders: &[Leader], note: &str| {
        for led in leaders {
            rows.add_row([
                led.shard.to_string(),
                led.ballot.to_string(),
                name(led.node.0),
                note.to_owned(),
            ]);
        }
    };
    add(&outcome.first_leaders, "at the start");
    add(&outcome.leader_changes, "");
    rows.to_string()
}

fn performance(outcome: &SetOutcome) -> String {
    let figures = &outcome.figures;
    let rejected: Vec<String> = figures
        .rejected
        .iter()
        .map(|(code, count)| format!("{code} {count}"))
        .collect();
    let mut text = format!(
        "transfers: {} committed, {} unknown, rejected: {}\nreads: {}, {} unknown\n{:.3} s",
        figures.committed,
        figures.unknown,
        if rejected.is_empty() {
            "none".to_owned()
        } else {
            rejected.join(", ")
        },
        figures.reads,
        figures.reads_unknown,
        figures.seconds,
    );
    // Writing to a string cannot fail.
    if let Some(tps) = figures.throughput_tps() {
        let _ = write!(text, ", {tps:.1} committed per second");
    }
    if let Some(latency) = figures.latency {
        let _ = write!(
            text,
            "\nlatency in us: mean {:.0}, p50 {:.0}, p99 {:.0}, max {:.0}",
            latency.mean, latency.p50, latency.p99, latency.max
        );
    }
    text
}

fn plan(outcome: &SetOutcome) -> String {
    let plan = &outcome.plan;
    if !plan.applies {
        return format!("refused: {}", plan.reason);
    }
    let mut rows = table(&["account", "from shard", "to shard"]);
    for planned in &plan.moves {
        rows.add_row([
            planned.account.to_string(),
            planned.source.to_string(),
            planned.target.to_string(),
        ]);
    }
    format!("{}\n{rows}", plan.reason)
}
