//! Conservation: per ledger, posted debits equal posted credits, at the end, at every consistent cut
//! that was taken while money moved, and at every timestamp at which one could have been taken.
//!
//! The last is judged from the logs: all legs that any shard posted, in the order of their commit
//! timestamps. What one moment debits it credits, or some cut between would miss half of a transfer.

use std::collections::BTreeMap;

use quorate_protocol::ledger::{AccountFlags, Total};
use quorate_protocol::time::Timestamp;

use super::replays::Replays;
use super::{FinalState, Violation};
use crate::history::{CutUse, History};

/// Sums up the final accounts, every cut and every moment.
pub fn check(
    history: &History,
    state: &FinalState,
    replays: &Replays,
    violations: &mut Vec<Violation>,
) {
    let mut report = |text| {
        violations.push(Violation {
            checker: "conservation",
            text,
        });
    };
    let mut sums: BTreeMap<u32, (u128, u128)> = BTreeMap::new();
    for (_, account) in &state.accounts {
        let sum = sums.entry(account.ledger).or_default();
        sum.0 += account.debits_posted;
        sum.1 += account.credits_posted;
        let flags = account.flags;
        let (debits, credits) = (account.debits_posted, account.credits_posted);
        if flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS) && debits > credits {
            report(format!("account {} is overdrawn at the end", account.id));
        }
        if flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS) && credits > debits {
            report(format!("account {} is overpaid at the end", account.id));
        }
    }
    for (ledger, (debits, credits)) in sums {
        if debits != credits {
            report(format!(
                "ledger {ledger}: {debits} debited, {credits} credited at the end"
            ));
        }
    }
    for cut in &history.cuts {
        for text in check_cut(cut) {
            report(format!("cut at {}: {text}", cut.at.0));
        }
    }
    check_moments(replays, &mut report);
}

fn check_moments(replays: &Replays, report: &mut impl FnMut(String)) {
    let mut legs: Vec<(Timestamp, u32, u128, u128)> = replays
        .shards
        .values()
        .flat_map(|replay| &replay.posted)
        .filter(|posted| !posted.moved)
        .map(|posted| (posted.at, posted.ledger, posted.debit, posted.credit))
        .collect();
    legs.sort_unstable();
    for moment in legs.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let debits: u128 = moment.iter().map(|leg| leg.2).sum();
        let credits: u128 = moment.iter().map(|leg| leg.3).sum();
        if debits != credits {
            let (at, ledger, ..) = moment[0];
            report(format!(
                "ledger {ledger}: {debits} debited, {credits} credited at the timestamp {}",
                at.0
            ));
        }
    }
}

fn check_cut(cut: &CutUse) -> Vec<String> {
    let mut problems = Vec::new();
    let mut ledgers: BTreeMap<u32, (u128, u128, u128)> = BTreeMap::new();
    let (mut owned, mut created) = ((0, 0_u128), (0, 0_u128));
    for (shard, sums) in &cut.sums {
        if sums.at != cut.at {
            problems.push(format!("shard {shard} answered for {}", sums.at.0));
        }
        for row in &sums.ledgers {
            let told = [row.debits_posted, row.credits_posted, row.transferred];
            // Seeds move little money: more than 128 bits is a difference below zero.
            let [Some(debits), Some(credits), Some(transferred)] = told.map(Total::to_u128) else {
                problems.push(format!("shard {shard} answered {row:?}"));
                continue;
            };
            let sum = ledgers.entry(row.ledger).or_default();
            sum.0 += debits;
            sum.1 += credits;
            sum.2 += transferred;
        }
        owned.0 += sums.owned;
        owned.1 = owned.1.wrapping_add(sums.owned_hash);
        created.0 += sums.created;
        created.1 = created.1.wrapping_add(sums.created_hash);
    }
    for (ledger, (debits, credits, transferred)) in ledgers {
        if debits != credits || debits != transferred {
            problems.push(format!(
                "ledger {ledger}: {debits} debited, {credits} credited, {transferred} transferred"
            ));
        }
    }
    if owned != created {
        problems.push(format!(
            "{} accounts owned, {} created, or others than these",
            owned.0, created.0
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;
    use quorate_protocol::client::{CutSums, LedgerSums};
    use quorate_protocol::ids::ShardId;

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        check(
            &scene.history,
            &scene.state,
            &scene.replays(),
            &mut violations,
        );
        violations
    }

    fn with_cut() -> Scene {
        let mut scene = Scene::valid();
        let sums = |debits_posted: u128, credits_posted: u128, owned, created| CutSums {
            at: Timestamp(9),
            ledgers: vec![LedgerSums {
                ledger: 1,
                debits_posted: Total::from(debits_posted),
                credits_posted: Total::from(credits_posted),
                transferred: Total::from(debits_posted),
            }],
            owned,
            owned_hash: u128::from(owned),
            created,
            created_hash: u128::from(created),
            transfers: 1,
            in_doubt: 0,
        };
        scene.history.cuts.push(CutUse {
            at: Timestamp(9),
            started_ns: 1,
            answered_ns: None,
            sums: vec![
                (ShardId(1), sums(10, 4, 2, 3)),
                (ShardId(2), sums(0, 6, 2, 1)),
            ],
        });
        scene
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
        assert_eq!(found(&with_cut()), []);
    }

    #[test]
    fn money_made_at_the_end_is_found() {
        let mut scene = Scene::valid();
        scene.account(1).credits_posted += 1;
        rejects(&found(&scene), "at the end");
    }

    #[test]
    fn an_overdrawn_account_is_found() {
        let mut scene = Scene::valid();
        scene.account(2).flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        scene.account(2).debits_posted += 1_000;
        rejects(&found(&scene), "overdrawn");
    }

    #[test]
    fn money_lost_in_a_cut_is_found() {
        let mut scene = with_cut();
        scene.history.cuts[0].sums[1].1.ledgers[0].credits_posted = 5.into();
        rejects(&found(&scene), "debited");
    }

    #[test]
    fn an_account_with_two_owners_in_a_cut_is_found() {
        let mut scene = with_cut();
        scene.history.cuts[0].sums[1].1.owned += 1;
        rejects(&found(&scene), "owned");
    }
}
