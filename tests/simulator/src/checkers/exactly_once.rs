//! Exactly once: a transfer id takes effect at most once, on both sides or on none, and the balances
//! are the sum of the effects.
//!
//! The model is a plain sum over the recorded transfers: a credit posted twice, a debit forgotten or
//! a transfer that ran under two shards shows up either in the records or in the balances.

use std::collections::BTreeMap;

use quorate_protocol::ids::TransferId;
use quorate_protocol::ledger::{ResultCode, Transfer};

use super::durability::same_fields;
use super::records::{IdRecords, Records};
use super::{FinalState, Violation};
use crate::history::History;

/// Compares records with uses, and balances with records.
pub fn check(
    history: &History,
    state: &FinalState,
    records: &Records,
    violations: &mut Vec<Violation>,
) {
    let mut report = |text| {
        violations.push(Violation {
            checker: "exactly_once",
            text,
        });
    };
    let mut sent: BTreeMap<TransferId, Vec<&Transfer>> = BTreeMap::new();
    for transfer_use in &history.transfers {
        if transfer_use.started_ns.is_some() {
            let transfer = &transfer_use.transfer;
            sent.entry(transfer.id).or_default().push(transfer);
        }
    }
    for (&id, of_id) in &records.by_id {
        let sent = sent.get(&id).map_or(&[][..], Vec::as_slice);
        if let Err(text) = check_id(sent, of_id) {
            report(format!("transfer {id}: {text}"));
        }
    }
    for text in check_balances(state, records) {
        report(text);
    }
}

fn check_id(sent: &[&Transfer], of_id: &IdRecords) -> Result<(), String> {
    if of_id.debits.len() > 1 {
        return Err(format!("recorded on the debit side {:?}", of_id.debits));
    }
    let Some((debit_shard, debit)) = of_id.debits.first() else {
        return match of_id.credits.first() {
            Some((shard, _)) => Err(format!("posted as credit at shard {shard}, never debited")),
            None => Ok(()),
        };
    };
    if !sent.iter().any(|one| same_fields(one, &debit.transfer)) {
        return Err(format!("nobody sent {:?}", debit.transfer));
    }
    if ResultCode::from_u16(debit.code) != Some(ResultCode::Ok) {
        return match of_id.credits.first() {
            Some((shard, _)) => Err(format!("refused, but posted as credit at shard {shard}")),
            None => Ok(()),
        };
    }
    let elsewhere: Vec<_> = of_id
        .credits
        .iter()
        .filter(|(shard, _)| shard != debit_shard)
        .collect();
    if elsewhere.len() > 1 {
        return Err(format!("posted as credit at several shards: {elsewhere:?}"));
    }
    if of_id.credit_at().is_none() {
        return Err("debited, never posted as credit".to_owned());
    }
    for (shard, credit) in &of_id.credits {
        if !same_fields(&credit.transfer, &debit.transfer) || credit.commit_ts != debit.commit_ts {
            return Err(format!(
                "credit side at shard {shard} {credit:?} is not the debit side's {debit:?}"
            ));
        }
    }
    Ok(())
}

fn check_balances(state: &FinalState, records: &Records) -> Vec<String> {
    let mut expected = records.sums.clone();
    let mut problems = Vec::new();
    for (shard, account) in &state.accounts {
        let sums = expected.remove(&account.id).unwrap_or_default();
        let found = (account.debits_posted, account.credits_posted);
        if found != sums {
            problems.push(format!(
                "account {} at shard {shard}: debits and credits {found:?}, its transfers sum up \
                 to {sums:?}",
                account.id
            ));
        }
        if account.debits_pending != 0 || account.credits_pending != 0 {
            problems.push(format!("account {} has pending money", account.id));
        }
    }
    for (account, sums) in expected {
        problems.push(format!("account {account} is gone, with {sums:?}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Scene, rejects};
    use super::*;
    use quorate_protocol::ids::{AccountId, ShardId};

    fn found(scene: &Scene) -> Vec<Violation> {
        let mut violations = Vec::new();
        let records = Records::new(&scene.state);
        check(&scene.history, &scene.state, &records, &mut violations);
        violations
    }

    #[test]
    fn a_true_history_passes() {
        assert_eq!(found(&Scene::valid()), []);
    }

    #[test]
    fn a_transfer_that_ran_at_two_shards_is_found() {
        let mut scene = Scene::valid();
        let mut again = scene.record(1).clone();
        again.credits.clear();
        scene.state.records.push((ShardId(2), again));
        rejects(&found(&scene), "recorded on the debit side");
    }

    #[test]
    fn a_credit_without_debit_is_found() {
        let mut scene = Scene::valid();
        scene.record(3).debit = None;
        rejects(&found(&scene), "never debited");
    }

    #[test]
    fn a_debit_without_credit_is_found() {
        let mut scene = Scene::valid();
        scene.record_at(3, ShardId(2)).credits.clear();
        rejects(&found(&scene), "never posted as credit");
    }

    #[test]
    fn a_refused_transfer_with_a_posted_credit_is_found() {
        let mut scene = Scene::valid();
        scene.debit(3).code = ResultCode::ExceedsCredits as u16;
        rejects(&found(&scene), "refused, but posted");
    }

    #[test]
    fn a_credit_posted_twice_shows_in_the_balance() {
        let mut scene = Scene::valid();
        scene.account(3).credits_posted += 7;
        rejects(&found(&scene), "sum up");
    }

    #[test]
    fn a_lost_account_is_found() {
        let mut scene = Scene::valid();
        scene.state.accounts.retain(|(_, a)| a.id != AccountId(3));
        rejects(&found(&scene), "is gone");
    }

    #[test]
    fn a_transfer_that_nobody_sent_is_found() {
        let mut scene = Scene::valid();
        scene.history.transfers.retain(|t| t.transfer.id.0 != 5);
        rejects(&found(&scene), "nobody sent");
    }
}
