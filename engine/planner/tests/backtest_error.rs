//! Does the prediction hold? Planned and backtested on the first three quarters of a history, compared
//! with what the last quarter then brought.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic fails the test"
)]

mod common;

use std::collections::BTreeMap;

use quorate_planner::{LiveOptions, Observed, Plan, Trace, best_candidate};
use quorate_protocol::client::{PairRow, WINDOWS};
use quorate_protocol::ids::{AccountId, ShardId};

fn numbers(trace: &Trace) -> Vec<(u32, u32)> {
    let number = |id: AccountId| u32::try_from(id.0).unwrap();
    trace
        .transfers()
        .iter()
        .map(|t| (number(t.debit), number(t.credit)))
        .collect()
}

/// How what was seen before is told to the planner.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// Two windows, the newer one a third.
    Windows,
    /// Rows as leaders count them: three windows of time as long as what is to come, of which the newest is held out.
    Rows,
}

/// The best candidate, whether the gate allows it or not: the gate's refusals would hide the errors of hopeless loads.
fn candidate(
    seen: &[(u32, u32)],
    told: Told,
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
) -> Plan {
    let options = LiveOptions::default();
    let plan = match told {
        Told::Windows => {
            let (older, newer) = seen.split_at(seen.len() / 3 * 2);
            let (older, newer) = (common::pairs(older), common::pairs(newer));
            let observed = Observed::TwoWindows {
                older: &older,
                newer: &newer,
            };
            best_candidate(observed, owners, shards, &options)
        }
        Told::Rows => best_candidate(Observed::Counted(&rows(seen)), owners, shards, &options),
    };
    plan.unwrap()
}

fn rows(seen: &[(u32, u32)]) -> Vec<PairRow> {
    let mut counts: BTreeMap<(u32, u32), [u32; WINDOWS]> = BTreeMap::new();
    for (age, window) in seen.rchunks(seen.len().div_ceil(3)).enumerate() {
        for &(a, b) in window {
            counts.entry((a.min(b), a.max(b))).or_default()[age] += 1;
        }
    }
    let row = |((a, b), counts): ((u32, u32), _)| PairRow {
        a: AccountId(a.into()),
        b: AccountId(b.into()),
        counts,
        reserved: 0,
    };
    counts.into_iter().map(row).collect()
}

/// Predicted minus achieved ratio.
fn error(transfers: &[(u32, u32)], shards: u32, told: Told) -> f64 {
    let accounts = transfers.iter().map(|&(a, b)| a.max(b)).max().unwrap();
    let (seen, later) = transfers.split_at(transfers.len() / 4 * 3);
    let mut owners = common::hash_map(accounts, shards);
    let plan = candidate(seen, told, &owners, shards);
    let map: BTreeMap<AccountId, ShardId> = plan.map.into_iter().collect();
    assert!(!map.is_empty(), "nothing was tried: {}", plan.reason);
    owners.extend(map);
    let later: Vec<_> = later
        .iter()
        .map(|&(a, b)| (AccountId(a.into()), AccountId(b.into())))
        .collect();
    let (achieved, _) = common::count(&later, |id| owners[&id], shards);
    plan.cross_shard_ratio.backtest - achieved
}

/// Four quarters of planted traffic with accounts changing community between them.
fn planted(drift: f64) -> Vec<(u32, u32)> {
    let mut planted = common::Communities::planted(4_000, 40, 0.9, 5);
    let quarters = (0..4).map(|i| {
        if i > 0 {
            planted.drift(drift);
        }
        planted.transfers(25_000)
    });
    quarters.collect::<Vec<_>>().concat()
}

#[test]
fn predictions_miss_the_later_truth_by_a_few_points() {
    let mut histories = vec![
        ("planted", planted(0.0)),
        ("planted, 5 % drift", planted(0.05)),
        ("planted, 20 % drift", planted(0.20)),
        ("uniform", common::uniform(4_000, 100_000, 5)),
        ("zipf", common::zipf(4_000, 100_000, 5)),
        ("hot-set", common::hot_set(4_000, 100_000, 5)),
    ];
    for name in ["eth_tx_2017.csv", "amlsim_20k.csv"] {
        histories.extend(common::recorded(name).map(|trace| (name, numbers(&trace))));
    }
    // Without the recorded files there are six; the reason was said.
    let recorded = histories.len() - 6;
    assert!([0, 2].contains(&recorded), "{recorded} of the two files");
    for (shards, told) in [
        (3, Told::Windows),
        (8, Told::Windows),
        (3, Told::Rows),
        (8, Told::Rows),
    ] {
        let errors = histories.iter().map(|(name, transfers)| {
            let error = error(transfers, shards, told);
            println!(
                "{shards} shards, {told:?}, {name}: {:+.1} points",
                error * 100.0
            );
            error.abs()
        });
        let errors: Vec<f64> = errors.collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        assert!(mean <= 0.04, "{mean} on average");
        assert!(errors.iter().all(|&error| error <= 0.10), "{errors:?}");
    }
}
