//! Where the accounts of a set would go: the plan of its own committed transfers, from the map that every set begins with.

use std::collections::BTreeMap;

use quorate_config::scenario::Step;
use quorate_planner::plan::Move;
use quorate_planner::{Decision, LiveOptions, Observed, PlanError, WeightedPair, plan_live};
use quorate_protocol::ids::{AccountId, ShardId};

use super::crew::{Reply, Verdict};

/// As `reshard plan` has it.
const SEED: u64 = 1;

/// A plan, or why there is none.
#[derive(Clone, Debug)]
pub struct SetPlan {
    /// Empty if the gate refuses.
    pub moves: Vec<Move>,
    pub applies: bool,
    pub reason: String,
}

/// Makes the plan, under the gate and with the options that `reshard plan` has by default.
pub fn plan(
    replies: &[Reply],
    owners: &BTreeMap<AccountId, ShardId>,
    shards: u32,
) -> Result<SetPlan, PlanError> {
    if shards == 1 {
        return Ok(SetPlan::none("there is one shard only"));
    }
    let pairs = pairs(replies);
    let options = LiveOptions {
        seed: SEED,
        ..LiveOptions::default()
    };
    let plan = plan_live(Observed::OneWindow(&pairs), owners, shards, &options)?;
    let applies = plan.decision == Decision::Apply;
    Ok(SetPlan {
        moves: if applies { plan.moves } else { Vec::new() },
        applies,
        reason: plan.reason,
    })
}

impl SetPlan {
    fn none(reason: &str) -> Self {
        Self {
            moves: Vec::new(),
            applies: false,
            reason: reason.to_owned(),
        }
    }
}

/// Who paid whom, and how often. What did not take effect says nothing.
fn pairs(replies: &[Reply]) -> Vec<WeightedPair> {
    let mut counts: BTreeMap<(AccountId, AccountId), u64> = BTreeMap::new();
    for reply in replies {
        if let (Step::Transfer { debit, credit, .. }, Verdict::Committed(_)) =
            (reply.row.step, &reply.verdict)
        {
            *counts
                .entry((debit.min(credit), debit.max(credit)))
                .or_default() += 1;
        }
    }
    let pair = |((a, b), weight)| WeightedPair { a, b, weight };
    counts.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use quorate_config::scenario::Row;

    fn reply(debit: u128, credit: u128, verdict: Verdict) -> Reply {
        let step = Step::Transfer {
            debit: AccountId(debit),
            credit: AccountId(credit),
            amount: 1,
        };
        Reply {
            row: Row { line: 2, step },
            id: None,
            verdict,
            latency: Duration::ZERO,
        }
    }

    fn owners() -> BTreeMap<AccountId, ShardId> {
        let owner = |id: u32| (AccountId(id.into()), ShardId(1 + (id - 1) / 100));
        (1..=300).map(owner).collect()
    }

    #[test]
    fn only_what_took_effect_is_counted_in_either_direction() {
        let ok = || Verdict::Committed("ok");
        let replies = [
            reply(1, 2, ok()),
            reply(2, 1, ok()),
            reply(1, 3, Verdict::Unknown),
            reply(1, 3, Verdict::Rejected("exceeds_credits".to_owned())),
        ];
        let expected = WeightedPair {
            a: AccountId(1),
            b: AccountId(2),
            weight: 2,
        };
        assert_eq!(pairs(&replies), [expected]);
    }

    #[test]
    fn a_set_of_few_transfers_is_refused_with_a_reason_and_without_moves() {
        let plan = plan(&[reply(1, 150, Verdict::Committed("ok"))], &owners(), 3).unwrap();
        assert!(!plan.applies && plan.moves.is_empty() && !plan.reason.is_empty());
    }

    /// Groups of three accounts, one on each shard, that pay only each other.
    #[test]
    fn groups_that_trade_across_shards_are_brought_together() {
        let mut replies = Vec::new();
        for group in 1..=60 {
            for (debit, credit) in [(0, 100), (100, 200), (200, 0)] {
                for _ in 0..5 {
                    let ok = Verdict::Committed("ok");
                    replies.push(reply(group + debit, group + credit, ok));
                }
            }
        }
        let plan = plan(&replies, &owners(), 3).unwrap();
        assert!(plan.applies, "{}", plan.reason);
        assert!(plan.moves.len() >= 60, "{}", plan.moves.len());
        assert!(plan.moves.iter().all(|it| it.source != it.target));
    }
}
