//! Plans for a running cluster, from the pairs that its leaders counted.

mod common;

use quorate_planner::plan::{BacktestMethod, Method};
use quorate_planner::{Decision, LiveOptions, Observed, Payback, Plan, PlanError, plan_live};
use quorate_protocol::ids::{AccountId, ShardId};

const SHARDS: u32 = 3;
const ACCOUNTS: u32 = 9_000;

/// Ratio and load of a plan on transfers that came after it.
fn achieved(plan: &Plan, later: &[(u32, u32)]) -> (f64, f64) {
    let later: Vec<_> = later
        .iter()
        .map(|&(a, b)| (AccountId(a.into()), AccountId(b.into())))
        .collect();
    let mut map = common::hash_map(ACCOUNTS, SHARDS);
    for m in &plan.moves {
        assert_eq!(map.insert(m.account, m.target), Some(m.source));
    }
    common::count(&later, |id| map[&id], SHARDS)
}

/// The load of `quorate demo`: the prediction must hold for the traffic after the moves.
#[test]
fn the_demo_falls_from_two_thirds_to_an_eighth() {
    let mut demo = common::Communities::equal(ACCOUNTS, 90, 0.9, 11);
    let (older, newer, later) = (
        demo.transfers(60_000),
        demo.transfers(60_000),
        demo.transfers(100_000),
    );
    let (older, newer) = (common::pairs(&older), common::pairs(&newer));
    let owners = common::hash_map(ACCOUNTS, SHARDS);
    let both = [older.clone(), newer.clone()].concat();
    let windows = [
        (
            Observed::TwoWindows {
                older: &older,
                newer: &newer,
            },
            BacktestMethod::TimeSplit,
        ),
        (Observed::OneWindow(&both), BacktestMethod::Thinned),
    ];
    for (observed, method) in windows {
        let plan = plan_live(observed, &owners, SHARDS, &LiveOptions::default()).unwrap();
        assert_eq!(
            (plan.decision, plan.backtest_method),
            (Decision::Apply, method),
            "{}",
            plan.reason
        );
        assert!(plan.cross_shard_ratio.current > 0.6);
        let (ratio, load) = achieved(&plan, &later);
        println!(
            "{method:?}: predicted {:.3}, achieved {ratio:.3} at load {load:.3}",
            plan.cross_shard_ratio.backtest
        );
        assert!(ratio <= 0.12 && load <= 1.1, "{ratio} at {load}");
        assert!((ratio - plan.cross_shard_ratio.backtest).abs() <= 0.03);
        assert!(
            plan.accounts_max_over_avg <= 1.1,
            "{}",
            plan.accounts_max_over_avg
        );
        let touched = |m: &quorate_planner::plan::Move| {
            both.iter()
                .filter(|p| p.a == m.account || p.b == m.account)
                .map(|p| p.weight)
                .sum::<u64>()
        };
        let hottest: Vec<u64> = plan.moves.iter().step_by(500).map(touched).collect();
        assert!(hottest.is_sorted_by(|a, b| a >= b), "{hottest:?}");
    }
}

#[test]
fn a_short_observation_is_enough_for_the_demo() {
    let mut demo = common::Communities::equal(ACCOUNTS, 90, 0.9, 12);
    let (seen, later) = (demo.transfers(30_000), demo.transfers(100_000));
    let owners = common::hash_map(ACCOUNTS, SHARDS);
    let seen = common::pairs(&seen);
    let plan = plan_live(
        Observed::OneWindow(&seen),
        &owners,
        SHARDS,
        &LiveOptions::default(),
    )
    .unwrap();
    let (ratio, load) = achieved(&plan, &later);
    println!(
        "predicted {:.3}, achieved {ratio:.3} at load {load:.3}",
        plan.cross_shard_ratio.backtest
    );
    assert!(ratio <= 0.14 && load <= 1.1, "{ratio} at {load}");
}

#[test]
fn uniform_traffic_is_refused_in_one_window_and_in_two() {
    let (older, newer) = (
        common::uniform(ACCOUNTS, 50_000, 1),
        common::uniform(ACCOUNTS, 50_000, 2),
    );
    let (older, newer) = (common::pairs(&older), common::pairs(&newer));
    let owners = common::hash_map(ACCOUNTS, SHARDS);
    for observed in [
        Observed::OneWindow(&older),
        Observed::TwoWindows {
            older: &older,
            newer: &newer,
        },
    ] {
        let plan = plan_live(observed, &owners, SHARDS, &LiveOptions::default()).unwrap();
        assert_eq!(plan.decision, Decision::Refuse, "{}", plan.reason);
        assert!(plan.moves.is_empty());
    }
}

/// After a good map, one per cent more history must not relabel the world.
#[test]
fn a_good_map_is_kept() {
    let mut demo = common::Communities::equal(ACCOUNTS, 90, 0.9, 13);
    let first = common::pairs(&demo.transfers(100_000));
    let mut owners = common::hash_map(ACCOUNTS, SHARDS);
    let plan = plan_live(
        Observed::OneWindow(&first),
        &owners,
        SHARDS,
        &LiveOptions::default(),
    )
    .unwrap();
    owners.extend(plan.map);
    let second = common::pairs(&demo.transfers(100_000));
    let plan = plan_live(
        Observed::OneWindow(&second),
        &owners,
        SHARDS,
        &LiveOptions::default(),
    )
    .unwrap();
    assert_eq!(plan.decision, Decision::Refuse, "{}", plan.reason);
    assert!(plan.cross_shard_ratio.current < 0.12);
}

#[test]
fn the_budget_of_moves_is_kept_and_a_part_of_the_accounts_stays_silent() {
    let mut demo = common::Communities::equal(3_000, 30, 0.9, 14);
    let seen = common::pairs(&demo.transfers(60_000));
    let owners = common::hash_map(ACCOUNTS, SHARDS);
    let options = LiveOptions {
        moves_max: Some(700),
        ..LiveOptions::default()
    };
    let plan = plan_live(Observed::OneWindow(&seen), &owners, SHARDS, &options).unwrap();
    assert_eq!(plan.decision, Decision::Apply, "{}", plan.reason);
    assert!((1..=700).contains(&plan.moves.len()));
    assert!(
        plan.moves.iter().all(|m| m.account.0 <= 3_000),
        "only accounts with transfers move"
    );
}

#[test]
fn moves_that_do_not_pay_back_are_refused() {
    let mut demo = common::Communities::equal(ACCOUNTS, 90, 0.9, 15);
    let seen = common::pairs(&demo.transfers(100_000));
    let owners = common::hash_map(ACCOUNTS, SHARDS);
    let decision = |horizon_transfers| {
        let payback = Payback {
            horizon_transfers,
            move_cost: 8.0,
        };
        let options = LiveOptions {
            payback: Some(payback),
            ..LiveOptions::default()
        };
        plan_live(Observed::OneWindow(&seen), &owners, SHARDS, &options).unwrap()
    };
    let (short, long) = (decision(1_000), decision(10_000_000));
    assert_eq!(
        (short.decision, long.decision),
        (Decision::Refuse, Decision::Apply)
    );
    assert!(short.reason.contains("horizon of 1000 transfers") && short.moves.is_empty());
}

#[test]
fn equal_tables_in_any_order_give_equal_bytes() {
    let mut demo = common::Communities::equal(900, 9, 0.9, 16);
    let mut seen = common::pairs(&demo.transfers(20_000));
    let owners = common::hash_map(900, SHARDS);
    let json = |seen: &[_]| {
        plan_live(
            Observed::OneWindow(seen),
            &owners,
            SHARDS,
            &LiveOptions::default(),
        )
        .unwrap()
        .to_json()
    };
    let first = json(&seen);
    seen.reverse();
    for pair in &mut seen {
        std::mem::swap(&mut pair.a, &mut pair.b);
    }
    assert_eq!(first, json(&seen));
}

#[test]
fn nothing_to_divide_is_a_refusal_and_a_broken_map_an_error() {
    let owners = common::hash_map(4, SHARDS);
    let plan = |seen: &[(u32, u32)], shards| {
        plan_live(
            Observed::OneWindow(&common::pairs(seen)),
            &owners,
            shards,
            &LiveOptions::default(),
        )
    };
    for (seen, shards) in [
        (vec![], SHARDS),
        (vec![(1, 2)], SHARDS),
        (vec![(1, 2); 100], SHARDS),
    ] {
        let plan = plan(&seen, shards).unwrap();
        assert_eq!(
            (plan.decision, plan.method),
            (Decision::Refuse, Method::Stay)
        );
        assert!(plan.reason.contains("transfers"), "{}", plan.reason);
    }
    assert_eq!(
        plan(&vec![(1, 9); 100], SHARDS),
        Err(PlanError::NoOwner(AccountId(9)))
    );
    let beyond = owners.values().max().unwrap().0 - 1;
    assert!(matches!(
        plan(&[(1, 2)], beyond),
        Err(PlanError::OwnerOutOfRange { .. })
    ));
    assert!(matches!(
        plan(&[(1, 2)], 0),
        Err(PlanError::Option { name: "shards", .. })
    ));
    let one = (1..=4).map(|id| (AccountId(id), ShardId(1))).collect();
    let seen = common::pairs(&[(1, 2), (3, 4), (1, 4)].repeat(20));
    let plan = plan_live(Observed::OneWindow(&seen), &one, 1, &LiveOptions::default()).unwrap();
    assert_eq!(
        plan.decision,
        Decision::Refuse,
        "one shard has no cross-shard transfers"
    );
}
