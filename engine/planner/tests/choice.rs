//! A backtest is honest only if nothing was chosen by it.

mod common;

use std::collections::BTreeSet;

use quorate_planner::{TraceOptions, plan_from_trace};

/// The method used to be the one that did better on the newer half, and that same figure was then
/// printed as the prediction. Whatever the newer half is, the map of the older one is now the same.
#[test]
fn the_transfers_that_a_plan_is_scored_on_do_not_choose_its_method() {
    let older = common::Communities::planted(2_000, 20, 0.9, 3).transfers(20_000);
    let mut made = BTreeSet::new();
    for seed in 0..12 {
        // A few pairs only: under which map more of them lie together is chance.
        let newer = common::uniform(2_000, 16, seed).repeat(1_250);
        let trace = common::trace(&[&older[..], &newer].concat());
        let plan = plan_from_trace(&trace, &TraceOptions::new(4)).unwrap();
        assert_eq!(plan.transfers_planned_on, older.len() as u64);
        made.insert((
            plan.method,
            plan.cross_shard_ratio.in_sample.to_bits(),
            plan.load_max_over_avg.planned_in_sample.to_bits(),
        ));
    }
    assert_eq!(made.len(), 1, "{made:?}");
}
