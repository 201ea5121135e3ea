//! The plan document: the keys of the contract, and a file that was tampered with.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic fails the test"
)]

mod common;

use quorate_planner::{Decision, Plan, PlanError, TraceOptions, plan_from_trace};

fn plan() -> Plan {
    let mut planted = common::Communities::planted(2_000, 20, 0.9, 1);
    let trace = common::trace(&planted.transfers(40_000));
    plan_from_trace(&trace, &TraceOptions::new(3)).unwrap()
}

#[test]
fn the_document_has_the_keys_of_the_contract() {
    let plan = plan();
    let json: serde_json::Value = serde_json::from_str(&plan.to_json()).unwrap();
    assert_eq!(json["decision"], "apply");
    for key in ["reason", "input_hash"] {
        assert!(json[key].is_string(), "{key}");
    }
    for key in ["shards", "seed", "accounts_max_over_avg"] {
        assert!(json[key].is_number(), "{key}");
    }
    for key in ["hash", "current", "in_sample", "backtest"] {
        assert!(json["cross_shard_ratio"][key].is_number(), "{key}");
    }
    for key in ["current", "planned"] {
        assert!(json["load_max_over_avg"][key].is_number(), "{key}");
    }
    assert!(json["hubs"].is_array());
    let first = &json["moves"][0];
    assert_eq!(first["account"], plan.moves[0].account.to_string());
    assert_eq!(
        (&first["source"], &first["target"]),
        (
            &plan.moves[0].source.0.into(),
            &plan.moves[0].target.0.into()
        )
    );
    assert_eq!(first.as_object().unwrap().len(), 3);
}

#[test]
fn a_document_is_read_back_as_it_was_written() {
    let mut plan = plan();
    let read = Plan::from_json(&plan.to_json()).unwrap();
    plan.map.clear();
    assert_eq!(read, plan);
}

#[test]
fn a_document_with_an_impossible_move_is_refused() {
    let text = plan().to_json();
    for (from, to, message) in [
        ("\"shards\": 3", "\"shards\": 1", "the plan has 1"),
        (
            "\"decision\": \"apply\"",
            "\"decision\": \"maybe\"",
            "not a plan",
        ),
        (
            "\"moves\": [",
            "\"moves\": [{\"account\": \"-1\", \"source\": 1, \"target\": 2}, ",
            "not a plan",
        ),
        (
            "\"moves\": [",
            "\"moves\": [{\"account\": \"1\", \"source\": 1, \"target\": 4}, ",
            "account 1 moves from shard 1 to 4",
        ),
    ] {
        assert!(text.contains(from));
        let error = Plan::from_json(&text.replacen(from, to, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn options_that_make_no_sense_are_named() {
    let trace = common::trace(&[(1, 2), (2, 3)]);
    let good = TraceOptions::new(3);
    let mut bad = [good; 5];
    bad[0].shards = 0;
    bad[1].shards = 1025;
    bad[2].train = 1.0;
    bad[3].first_touch_cap = Some(0.5);
    bad[4].gate.min_gain = f64::NAN;
    let named = ["shards", "shards", "train", "first-touch-cap", "min-gain"];
    for (options, option) in bad.iter().zip(named) {
        match plan_from_trace(&trace, options) {
            Err(PlanError::Option { name, .. }) => assert_eq!(name, option),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn traces_too_small_to_judge_are_refused_with_a_reason() {
    for (transfers, shards, reason) in [
        (vec![(1, 2)], 3, "too short"),
        (
            vec![(1, 2), (1, 2), (2, 1)],
            3,
            "no more accounts than shards",
        ),
        (
            [(1, 2), (3, 4), (5, 6), (7, 8)].repeat(2),
            3,
            "too few transfers to tell this from chance",
        ),
        (
            [(1, 2), (3, 4), (5, 6), (7, 8)].repeat(2),
            1,
            "below the 5.0 % asked for",
        ),
    ] {
        let plan = plan_from_trace(&common::trace(&transfers), &TraceOptions::new(shards)).unwrap();
        assert_eq!(plan.decision, Decision::Refuse);
        assert!(plan.reason.contains(reason), "{}", plan.reason);
    }
}
