//! `verify`: the money at a consistent cut, while the cluster serves.

use std::time::Duration;

use clap::Args;
use quorate_client::verify::VerifyReport;
use quorate_client::{BlockingClient, ClientOptions};
use serde_json::{Value, json};

use crate::Context;
use crate::failure::{Failure, Outcome};
use crate::target::ClusterFile;

/// Options of `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub cluster: ClusterFile,
    /// How long the shards and replicas may take to answer
    #[arg(long, default_value = "30s", value_parser = parse_wait)]
    pub wait: Duration,
}

/// Prints what was found; exit code 4 if something is wrong.
pub fn run(args: &VerifyArgs, context: Context) -> Outcome {
    let config = args.cluster.load()?;
    let mut client = BlockingClient::connect(&config, ClientOptions::default());
    let report = client.verify(args.wait).map_err(anyhow::Error::from)?;
    context
        .output
        .print(&document(&report), || people(&report))?;
    match report.ok {
        true => Ok(()),
        false => Err(Failure::CheckFailed(report.problems.join("; "))),
    }
}

/// The document of the contract.
#[must_use]
pub fn document(report: &VerifyReport) -> Value {
    let ledgers: Vec<Value> = report
        .ledgers
        .iter()
        .map(|sums| {
            json!({
                "ledger": sums.ledger,
                "debits_posted": sums.debits_posted.to_string(),
                "credits_posted": sums.credits_posted.to_string(),
                "transferred": sums.transferred.to_string(),
            })
        })
        .collect();
    json!({
        "ok": report.ok,
        "at": report.at.0.to_string(),
        "ledgers": ledgers,
        "in_doubt": report.in_doubt,
        "digests_equal": report.digests_equal,
        "owners_unique": report.owners_unique,
        "accounts": report.accounts,
        "transfers": report.transfers,
        "problems": report.problems,
        "unchecked": report.unchecked,
    })
}

fn people(report: &VerifyReport) -> String {
    let mut lines = vec![format!(
        "{}: {} accounts, {} transfers, {} in doubt, digests {}, owners {}",
        if report.ok { "ok" } else { "FAILED" },
        report.accounts,
        report.transfers,
        report.in_doubt,
        if report.digests_equal {
            "equal"
        } else {
            "DIFFER"
        },
        if report.owners_unique {
            "unique"
        } else {
            "NOT UNIQUE"
        },
    )];
    for sums in &report.ledgers {
        lines.push(format!(
            "ledger {}: debits {} = credits {} = transferred {}",
            sums.ledger, sums.debits_posted, sums.credits_posted, sums.transferred
        ));
    }
    lines.extend(
        report
            .problems
            .iter()
            .map(|problem| format!("problem: {problem}")),
    );
    lines.extend(
        report
            .unchecked
            .iter()
            .map(|reason| format!("not compared: {reason}")),
    );
    lines.join("\n")
}

/// Nothing can be asked in no time.
fn parse_wait(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than 0s".to_owned()),
        Ok(wait) => Ok(wait),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_duration_above_zero() {
        assert_eq!(parse_wait("2s"), Ok(Duration::from_secs(2)));
        for wrong in ["0s", "0ms", "5", ""] {
            assert!(parse_wait(wrong).is_err(), "{wrong}");
        }
    }
}
